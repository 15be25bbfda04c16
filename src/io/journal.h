/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Entries of our own in the journal, with fields. */
#pragma once

#include "base/text.h"

/* Hands a finished ENTRY (core/task/journal-entry.h) to journald, without waiting. -EAGAIN when it has no
 * room, -ENOENT when there is none; the entry is lost then. */
int journal_send(const Text *entry);
