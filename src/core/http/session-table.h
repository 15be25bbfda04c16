/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may read from a browser, which can show no token of its own: somebody who may read asks for a code, and
 * the browser trades it, once and soon, for a session. Both are secrets that the caller makes, and both end
 * by themselves; there are so many of each, and a further one takes the place of the one that would end
 * first. Nothing is allocated. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/usec.h"

#define SESSION_SECRET_SIZE sizeof("0123456789abcdef0123456789abcdef")
#define SESSION_CODES_MAX   16
#define SESSIONS_MAX        64
#define SESSION_CODE_USEC   (60 * USEC_PER_SEC)
#define SESSION_USEC        (12 * 3600 * USEC_PER_SEC)

typedef struct SessionSecret {
        char text[SESSION_SECRET_SIZE];
        usec_t end_usec; /* up to which it is good; 0: never was */
} SessionSecret;

/* All zeros to begin with, and to end everything with. */
typedef struct SessionTable {
        SessionSecret codes[SESSION_CODES_MAX];
        SessionSecret sessions[SESSIONS_MAX];
} SessionTable;

/* CODE is good for SESSION_CODE_USEC. */
void session_add_code(SessionTable *table, const char *code, usec_t now_usec);

/* Uses up CODE, and begins a session by the name of SECRET, good for SESSION_USEC. False when CODE is not
 * good, or not any more: then nothing has begun. */
bool session_begin(SessionTable *table, const char *code, const char *secret, usec_t now_usec);

/* Whether the SIZE bytes at SECRET name a session. The time it takes does not depend on how many of them are
 * right. */
bool session_is_live(const SessionTable *table, const char *secret, size_t size, usec_t now_usec);
