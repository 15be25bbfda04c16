/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one cookie of ours: what it is called, how it is set, and how it comes back (RFC 6265). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/usec.h"

#define COOKIE_NAME_SIZE 64

/* What PROGRAM calls its cookie where it is known as HOST ("127.0.0.1:2504"; NULL: unknown). Browsers tell
 * hosts apart and not ports, so the port is part of the name, or each daemon of a host would take the others'
 * away. */
void cookie_name(const char *program, const char *host, char ret[static COOKIE_NAME_SIZE]);

/* The value of the first cookie NAME in HEADER, that of "Cookie" or NULL. *RET points into HEADER. */
bool cookie_find(const char *header, const char *name, const char **ret, size_t *ret_size);

/* What "Set-Cookie" has to say for scripts not to see the cookie, other sites' pages not to send it, and with
 * SECURE for it never to leave over plain HTTP. -ENOMEM; the caller frees *ret. */
int cookie_format(const char *name, const char *value, usec_t span_usec, bool secure, char **ret);
