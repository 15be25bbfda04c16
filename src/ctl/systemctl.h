/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What systemctl does and knows, for verbs that set up this host. */
#pragma once

#include <stdbool.h>

#include "base/text.h"

/* Runs "systemctl ARGUMENTS…" (NULL-terminated), with its messages on stderr. 0, or -EIO when it fails. */
int systemctl_run(const char *const *arguments);

/* The same, with what it prints, up to 1 MiB, in RET, and no messages. */
int systemctl_read(const char *const *arguments, Text *ret);

bool systemctl_is_active(const char *unit);
