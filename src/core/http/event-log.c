/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/event-log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void event_log_init(EventLog *log, uint64_t first_id) {
        *log = (EventLog) { .first_id = first_id, .next_id = first_id };
}

void event_log_done(EventLog *log) {
        for (size_t i = 0; i < EVENT_LOG_MAX; i++)
                free(log->events[i]);
        *log = (EventLog) {};
}

/* Gives the next id to TEXT, which it takes over; NULL leaves the event out. */
static void take_place(EventLog *log, char *text) {
        char **place = &log->events[log->next_id % EVENT_LOG_MAX];
        free(*place);
        *place = text;
        log->next_id++;
        if (log->next_id - log->first_id > EVENT_LOG_MAX)
                log->first_id = log->next_id - EVENT_LOG_MAX;
}

int event_log_add(EventLog *log, const char *type, const char *data) {
        char *text;
        int r = text_format(&text, "event: %s\nid: %" PRIu64 "\ndata: %s\n\n", type, log->next_id, data);
        take_place(log, text);
        return r;
}

int event_log_put(EventLog *log, const char *text) {
        char *copy = text ? strdup(text) : NULL;
        take_place(log, copy);
        return text && !copy ? -ENOMEM : 0;
}

uint64_t event_log_after(const EventLog *log, uint64_t last_id) {
        bool is_kept = last_id >= log->first_id && last_id < log->next_id;

        return is_kept ? last_id + 1 : log->first_id;
}

const char *event_log_get(const EventLog *log, uint64_t id) {
        return log->events[id % EVENT_LOG_MAX];
}
