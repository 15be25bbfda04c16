/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How far something with many parts has come, on stderr: a line in place on a terminal, elsewhere a line
 * every now and then. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/usec.h"

/* Zero-initialise it but for the loop. */
typedef struct Progress {
        sd_event *event;        /* weak */
        usec_t told_usec;       /* CLOCK_BOOTTIME; 0: never */
        bool shown;             /* there is a line on the terminal */
        char *text;             /* to be shown there in a moment, or NULL */
        sd_event_source *timer; /* for that */
} Progress;

/* Shows the text: on a terminal at once, or in a moment if there was another just now. */
void progress_tell(Progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Removes it, before something else is written or at the end; nothing is left to be freed. */
void progress_clear(Progress *progress);
