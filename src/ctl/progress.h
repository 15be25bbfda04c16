/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How far something with many parts has come, on stderr: a line in place on a terminal, elsewhere a line
 * every now and then. */
#pragma once

#include <stdbool.h>

#include "base/usec.h"

/* Zero-initialise it. */
typedef struct Progress {
        usec_t told_usec; /* CLOCK_BOOTTIME; 0: never */
        bool shown;       /* there is a line on the terminal */
} Progress;

/* Shows the text, unless the last one was shown a moment ago; FORCED: nevertheless, on a terminal. */
void progress_tell(Progress *progress, bool forced, const char *format, ...)
                __attribute__((format(printf, 3, 4)));

/* Removes it, before something else is written or at the end. */
void progress_clear(Progress *progress);
