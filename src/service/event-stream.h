/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GET /api/v1/events: what happens, to everybody who listens. */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/upgrade/runner-state.h"
#include "io/http-server.h"

typedef struct EventStream EventStream;

int event_stream_new(sd_event *event, EventStream **ret);

/* The server must be gone before: its requests read from here. */
EventStream *event_stream_free(EventStream *stream);
DEFINE_POINTER_CLEANUP(EventStream, event_stream_free)

/* Every answer ends, in order, with the last event sent so far: for the moment before the server goes. */
void event_stream_end(EventStream *stream);

/* Tells everybody; takes over DATA. NULL (out of memory) leaves the event out. */
void event_stream_send(EventStream *stream, const char *type, json_object *data);

/* Answers REQUEST with events for as long as its client stays: those after its Last-Event-ID (if it has
 * that header) and all to come. */
void event_stream_answer(EventStream *stream, HttpRequest *request);

/* For another process that goes on in this one's place: the events that are kept, with their ids. RET, whose
 * texts stay STREAM's, is to be freed in every case. -ENOMEM. */
int event_stream_save(const EventStream *stream, SavedEvents *ret);

/* Goes on from SAVED; nothing may have been sent yet. -ENOMEM. */
int event_stream_restore(EventStream *stream, const SavedEvents *saved);

/* Undoes event_stream_end(), for those who come again. */
void event_stream_go_on(EventStream *stream);
