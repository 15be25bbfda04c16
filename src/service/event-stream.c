/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/event-stream.h"

#include <utlist.h>

#include "base/usec.h"
#include "core/http/event-log.h"
#include "core/json/json.h"
#include "io/loop.h"

/* Keeps proxies from giving up on a quiet connection, and finds clients that are gone. */
#define HEARTBEAT_USEC (15 * USEC_PER_SEC)
#define HEARTBEAT      ": still here\n\n"

typedef struct Listener {
        EventStream *stream; /* weak */
        struct Listener *previous, *next;
        HttpRequest *request;
        uint64_t next_id;
        size_t offset; /* within that event: how much has gone out */
        bool heartbeat_due;
} Listener;

struct EventStream {
        sd_event *event;
        sd_event_source *heartbeat_source;
        EventLog log;
        Listener *listeners;
        bool ended;
};

int event_stream_new(sd_event *event, EventStream **ret) {
        EventStream *stream = calloc(1, sizeof(*stream));
        if (!stream)
                return -ENOMEM;
        stream->event = sd_event_ref(event);
        event_log_init(&stream->log, usec_now(CLOCK_REALTIME));
        *ret = stream;
        return 0;
}

EventStream *event_stream_free(EventStream *stream) {
        if (!stream)
                return NULL;
        event_source_dropp(&stream->heartbeat_source);
        event_log_done(&stream->log);
        sd_event_unref(stream->event);
        free(stream);
        return NULL;
}

static void wake_all(EventStream *stream) {
        for (Listener *listener = stream->listeners; listener; listener = listener->next)
                http_request_stream_wake(listener->request);
}

void event_stream_end(EventStream *stream) {
        if (!stream)
                return;
        stream->ended = true;
        wake_all(stream);
}

void event_stream_send(EventStream *stream, const char *type, json_object *data) {
        _cleanup_(json_putp) json_object *owned = data;
        _cleanup_(freep) char *text = NULL;
        if (owned && json_format(owned, &text, NULL) >= 0)
                (void) event_log_add(&stream->log, type, text);
        wake_all(stream);
}

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *userdata);

static void arm_heartbeat(EventStream *stream) {
        (void) loop_set_timer(
                        stream->event,
                        &stream->heartbeat_source,
                        stream->listeners ? usec_add(usec_now(CLOCK_BOOTTIME), HEARTBEAT_USEC) :
                                            USEC_INFINITY,
                        on_heartbeat,
                        stream,
                        "event-heartbeat");
}

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *userdata) {
        EventStream *stream = userdata;
        for (Listener *listener = stream->listeners; listener; listener = listener->next)
                listener->heartbeat_due = true;
        wake_all(stream);
        arm_heartbeat(stream);
        return 0;
}

static size_t copy(char *buffer, size_t size, const char *text, size_t *offset) {
        size_t n = strlen(text + *offset);
        if (n > size)
                n = size;
        memcpy(buffer, text + *offset, n);
        *offset += n;
        return n;
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        Listener *listener = userdata;
        const EventLog *log = &listener->stream->log;
        if (listener->next_id < log->first_id) {
                if (listener->offset > 0)
                        return -EOVERFLOW; /* too slow: half of an event is gone. The client resumes by id */
                listener->next_id = log->first_id;
        }
        size_t n = 0;
        while (n < size && listener->next_id < log->next_id) {
                const char *text = event_log_get(log, listener->next_id);
                if (text)
                        n += copy(buffer + n, size - n, text, &listener->offset);
                if (text && text[listener->offset])
                        break;
                listener->next_id++;
                listener->offset = 0;
        }
        if (n == 0 && listener->stream->ended)
                return -ENODATA;
        if (n == 0 && listener->heartbeat_due) {
                size_t offset = 0;
                n = copy(buffer, size, HEARTBEAT, &offset);
                listener->heartbeat_due = false;
        }
        return (ssize_t) n;
}

static void on_release(void *userdata) {
        Listener *listener = userdata;
        DL_DELETE2(listener->stream->listeners, listener, previous, next);
        free(listener);
}

void event_stream_answer(EventStream *stream, HttpRequest *request) {
        const char *last_event_id = http_request_header(request, "Last-Event-ID");
        Listener *listener = calloc(1, sizeof(*listener));
        if (!listener) {
                http_request_answer_json(request, 200, NULL);
                return;
        }
        uint64_t last_id;
        *listener = (Listener) {
                .stream = stream,
                .request = request,
                .next_id = stream->log.next_id,
                .heartbeat_due = true, /* so that the client sees that it is connected, and has heard all */
        };
        /* An empty one is what a client has that has heard nothing yet. */
        if (last_event_id && *last_event_id)
                listener->next_id = text_parse_u64(last_event_id, 0, UINT64_MAX, &last_id) >= 0 ?
                                event_log_after(&stream->log, last_id) :
                                stream->log.first_id;
        DL_PREPEND2(stream->listeners, listener, previous, next);
        if (!stream->heartbeat_source || !listener->next)
                arm_heartbeat(stream);
        http_request_answer_stream(request, 200, "text/event-stream", on_read, on_release, listener);
}

int event_stream_save(const EventStream *stream, SavedEvents *ret) {
        const EventLog *log = &stream->log;
        *ret = (SavedEvents) { .first_id = log->first_id, .next_id = log->next_id };
        int r = record_list_new(&ret->log, log->next_id - log->first_id, sizeof(SavedEvent));
        SavedEvent *events = ret->log.items;
        for (size_t i = 0; r >= 0 && i < ret->log.n; i++)
                events[i].text = event_log_get(log, log->first_id + i);
        return r;
}

int event_stream_restore(EventStream *stream, const SavedEvents *saved) {
        const SavedEvent *events = saved->log.items;
        event_log_done(&stream->log);
        event_log_init(&stream->log, saved->first_id);
        for (size_t i = 0; i < saved->log.n; i++) {
                int r = event_log_put(&stream->log, events[i].text);
                if (r < 0)
                        return r;
        }
        return 0;
}

void event_stream_go_on(EventStream *stream) {
        stream->ended = false;
}
