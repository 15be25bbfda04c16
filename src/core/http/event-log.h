/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The last events of a server, as text/event-stream (WHATWG HTML, section 9.2), for clients that read at
 * their own pace. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define EVENT_LOG_MAX 1024

typedef struct EventLog {
        char *events[EVENT_LOG_MAX]; /* formatted; that of id N stands at N modulo the size */
        uint64_t first_id, next_id;  /* ids in between are there */
} EventLog;

/* FIRST_ID > 0: what a later process starts with should be higher than what an earlier one ended with. */
void event_log_init(EventLog *log, uint64_t first_id);
void event_log_done(EventLog *log);

/* Adds an event of TYPE ("task") with DATA (JSON in one line). -ENOMEM: it is left out, its id is skipped. */
int event_log_add(EventLog *log, const char *type, const char *data);

/* Adds an event that an earlier process had under this id, as event_log_get() has it. -ENOMEM, as before. */
int event_log_put(EventLog *log, const char *text);

/* The id to go on with for a client that has seen LAST_ID: the one after it, or the oldest there is for an id
 * that is no longer kept, or was never given: by an earlier process whose clock was ahead, by another server.
 * To hear something twice does less harm than not to hear it. */
uint64_t event_log_after(const EventLog *log, uint64_t last_id);

/* The text of event ID, NULL when it came to nothing. ID must be one of first_id … next_id - 1. */
const char *event_log_get(const EventLog *log, uint64_t id);
