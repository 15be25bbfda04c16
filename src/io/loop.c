/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/loop.h"

#include "base/usec.h"

int loop_new(sd_event **ret) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        int r = sd_event_new(&event);
        if (r < 0)
                return r;
        r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(event);
        return 0;
}

int loop_set_timer(
                sd_event *event,
                sd_event_source **source,
                uint64_t when_usec,
                sd_event_time_handler_t handler,
                void *userdata,
                const char *description) {
        int r;
        if (when_usec == USEC_INFINITY)
                return *source ? sd_event_source_set_enabled(*source, SD_EVENT_OFF) : 0;
        if (*source) {
                r = sd_event_source_set_time(*source, when_usec);
                return r < 0 ? r : sd_event_source_set_enabled(*source, SD_EVENT_ONESHOT);
        }
        r = sd_event_add_time(event, source, CLOCK_BOOTTIME, when_usec, USEC_PER_MSEC, handler, userdata);
        if (r < 0)
                return r;
        return sd_event_source_set_description(*source, description);
}

uint64_t loop_timer_usec(sd_event_source *source) {
        int enabled = SD_EVENT_OFF;
        uint64_t when_usec;
        if (!source || sd_event_source_get_enabled(source, &enabled) < 0 || enabled == SD_EVENT_OFF ||
            sd_event_source_get_time(source, &when_usec) < 0)
                return USEC_INFINITY;
        return when_usec;
}
