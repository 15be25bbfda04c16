/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one sd-event loop of a daemon: its signals, and the order in which what is ready at once is served. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

/* What leaders and systemd say comes first, because capacity and clients wait for it. Output and HTTP share a
 * priority on purpose: sd-event then serves them in order of arrival, so that neither a flood of requests nor
 * a flood of output can starve the other. */
enum {
        LOOP_PRIORITY_PROCESS = SD_EVENT_PRIORITY_IMPORTANT,
        LOOP_PRIORITY_BUS = SD_EVENT_PRIORITY_IMPORTANT + 10,
        LOOP_PRIORITY_TRAFFIC = SD_EVENT_PRIORITY_NORMAL,
        LOOP_PRIORITY_HOUSEKEEPING = SD_EVENT_PRIORITY_IDLE,
};

static inline void event_source_dropp(sd_event_source **source) {
        *source = sd_event_source_disable_unref(*source);
}

/* Makes a loop whose watchdog is served when systemd asks for it. Negative errno. */
int loop_new(sd_event **ret);

/* Sets or creates the one-shot timer *SOURCE (CLOCK_BOOTTIME) for WHEN_USEC; USEC_INFINITY turns it off.
 * Timers may fire up to 1 ms late, so that those of many tasks share a wake-up. Negative errno. */
int loop_set_timer(
                sd_event *event,
                sd_event_source **source,
                uint64_t when_usec,
                sd_event_time_handler_t handler,
                void *userdata,
                const char *description);

/* When SOURCE, which loop_set_timer() made, will fire; USEC_INFINITY when it is off, or NULL. */
uint64_t loop_timer_usec(sd_event_source *source);
