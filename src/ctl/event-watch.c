/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/event-watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "ctl/say.h"
#include "io/loop.h"

#define HEARTBEATS_MISSED_USEC (45 * USEC_PER_SEC) /* three, a comment being sent every 15 s */
#define EVENT_BYTES_MAX        (1024 * 1024)
#define EVENT_ID_BYTES_MAX     128

struct EventWatch {
        Session *session;
        EventWatchHandlers handlers;
        EventParser parser;
        char last_id[EVENT_ID_BYTES_MAX];
        HttpCall *call;
        sd_event_source *retry_timer;
        bool answered;    /* by this connection */
        bool decided;     /* it was answered once, or has ended */
        usec_t last_usec; /* when there was an answer; 0: never yet */
        unsigned n_failures;
        bool ended;
        int status;
};

void event_watch_end(EventWatch *watch, int status) {
        if (!watch->ended)
                watch->status = status;
        watch->ended = watch->decided = true;
}

const bool *event_watch_ended(const EventWatch *watch) {
        return &watch->ended;
}

int event_watch_status(const EventWatch *watch) {
        return watch->status;
}

int event_watch_await_connection(EventWatch *watch) {
        int r = session_run_until(watch->session, &watch->decided);
        if (r < 0)
                return r == -EINTR ? SHELL_STATUS_SIGNAL + SIGINT : SHELL_STATUS_REFUSED;
        return watch->status;
}

static int on_event(const ParsedEvent *event, void *userdata) {
        EventWatch *watch = userdata;
        (void) snprintf(watch->last_id, sizeof(watch->last_id), "%s", event->id);
        return watch->handlers.on_event(event, watch->handlers.userdata);
}

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        EventWatch *watch = userdata;
        if (!watch->answered) {
                watch->answered = watch->decided = watch->session->connected = true;
                if (watch->handlers.on_connected)
                        watch->handlers.on_connected(watch->handlers.userdata);
        }
        watch->n_failures = 0;
        return event_parser_feed(&watch->parser, bytes, size, on_event, watch);
}

static int watch_connect(EventWatch *watch);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        EventWatch *watch = userdata;
        if (watch_connect(watch) < 0)
                event_watch_end(watch, SHELL_STATUS_REFUSED);
        return 0;
}

/* A daemon that has answered may be away for some time. */
static void watch_broke(EventWatch *watch, const HttpOutcome *outcome) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (watch->answered)
                watch->last_usec = now;
        if (watch->answered && watch->handlers.on_lost)
                watch->handlers.on_lost(watch->handlers.userdata);
        if (watch->last_usec == 0 || now - watch->last_usec > PATIENCE_USEC) {
                say("%s does not answer: %s", watch->session->target.name, outcome->error_text);
                event_watch_end(watch, SHELL_STATUS_UNREACHABLE);
                return;
        }
        usec_t when = usec_add(now, session_retry_delay(watch->n_failures++));
        if (loop_set_timer(watch->session->event, &watch->retry_timer, when, on_retry, watch, "retry") < 0)
                event_watch_end(watch, SHELL_STATUS_REFUSED);
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        EventWatch *watch = userdata;
        watch->call = http_call_free(call);
        watch->answered |= outcome->status == 200;
        if (watch->ended)
                return;
        if (outcome->error == 0 && outcome->status != 200) {
                session_say_problem(watch->session, outcome->status, outcome->body, outcome->body_size);
                event_watch_end(watch, SHELL_STATUS_REFUSED);
        } else
                watch_broke(watch, outcome);
}

static int watch_connect(EventWatch *watch) {
        _cleanup_(freep) char *url = NULL;
        char header[sizeof("Last-Event-ID: ") + EVENT_ID_BYTES_MAX];
        const char *const headers[] = { *watch->last_id ? header : NULL, NULL };
        HttpCallOptions options;
        int r = session_prepare(watch->session, "GET", "/api/v1/events", &options, &url);
        if (r < 0)
                return r;
        (void) snprintf(header, sizeof(header), "Last-Event-ID: %s", watch->last_id);
        event_parser_done(&watch->parser);
        watch->parser = (EventParser) { .line_bytes_max = EVENT_BYTES_MAX,
                                        .event_bytes_max = EVENT_BYTES_MAX };
        watch->answered = false;
        options.headers = headers;
        options.idle_usec = HEARTBEATS_MISSED_USEC;
        options.on_data = on_data;
        options.on_done = on_done;
        options.userdata = watch;
        return http_call_new(watch->session->client, &options, &watch->call);
}

EventWatch *event_watch_free(EventWatch *watch) {
        if (!watch)
                return NULL;
        http_call_free(watch->call);
        event_source_dropp(&watch->retry_timer);
        event_parser_done(&watch->parser);
        free(watch);
        return NULL;
}

int event_watch_new(Session *session, const EventWatchHandlers *handlers, EventWatch **ret) {
        _cleanup_(event_watch_freep) EventWatch *watch = calloc(1, sizeof(*watch));
        if (!watch)
                return -ENOMEM;
        watch->session = session;
        watch->handlers = *handlers;
        int r = watch_connect(watch);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}
