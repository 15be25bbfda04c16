/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* output and events: what comes as a stream. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/http/event-parse.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/follow.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

#define HEARTBEATS_MISSED_USEC (45 * USEC_PER_SEC) /* three, a comment being sent every 15 s */
#define EVENT_BYTES_MAX        (1024 * 1024)
#define EVENT_ID_BYTES_MAX     128

/* The stream of a live task ends when its runner is upgraded, which a queue hides. What comes later is had by
 * asking again; but another attempt of a queue's has another output. */
static int follow_to_the_end(Session *session, const char *task_id, FollowedStream *stream) {
        for (;;) {
                _cleanup_(answer_done) Answer answer = {};
                int status = follow_streams(session, task_id, stream, 1, true);
                if (status == 0)
                        status = attempt_get_submitted(session, task_id, &answer);
                if (status != 0 || attempt_n_earlier(answer.json) > 0)
                        return status;
                if (!attempt_is_live(answer.json)) /* but it may have been when the stream ended */
                        return follow_streams(session, task_id, stream, 1, false);
                if (session_pause(session, session_retry_delay(0)) < 0)
                        return SHELL_STATUS_SIGNAL + SIGINT;
        }
}

int verb_output(Session *session, char **arguments) {
        bool follow = options_has(&session->options, OPTION_FOLLOW);
        for (char **id = arguments; *id; id++) {
                FollowedStream stream = {
                        .name = options_has(&session->options, OPTION_STDERR) ? "stderr" : "stdout",
                        .fd = STDOUT_FILENO,
                };
                int status = follow ? follow_to_the_end(session, *id, &stream) :
                                      follow_streams(session, *id, &stream, 1, false);
                if (status != 0)
                        return status;
        }
        return 0;
}

/* Events are read for ever. */
typedef struct Watch {
        Session *session;
        EventParser parser;
        char last_id[EVENT_ID_BYTES_MAX];
        bool done;
        int status;
        bool answered; /* by this connection */
        int error;
        char *error_text;
} Watch;

static int print_task_event(Text *line, json_object *task) {
        const char *result = member_text(task, "result"), *worker = member_text(task, "worker");
        int r = text_appendf(line, "%s %s", member_text(task, "task_id"), member_text(task, "state"));
        if (r >= 0 && *result)
                r = text_appendf(line, " (%s)", result);
        if (r >= 0 && *worker)
                r = text_appendf(line, " at %s", worker);
        return r;
}

/* Any other: its members as they are, names and values. */
static int print_other_event(Text *line, const ParsedEvent *event) {
        return text_append_bytes(line, event->data, event->data_size);
}

/* There is no use in going on when nothing can be told. */
static int print_event(Watch *watch, const char *line, size_t size) {
        int r = print_line(line, size);
        if (r < 0)
                watch->status = r == -EPIPE ? SHELL_STATUS_SIGNAL + SIGPIPE : SHELL_STATUS_REFUSED;
        return r;
}

static int on_event(const ParsedEvent *event, void *userdata) {
        Watch *watch = userdata;
        _cleanup_(json_putp) json_object *json = NULL;
        _cleanup_(text_done) Text line = {}, printable = {};
        Problem problem = {};
        (void) snprintf(watch->last_id, sizeof(watch->last_id), "%s", event->id);
        if (watch->session->json)
                return print_event(watch, event->data, event->data_size);
        int r = json_parse(event->data, event->data_size, &json, &problem);
        if (r == -ENOMEM)
                return r;
        r = text_appendf(&line, "%-8s ", event->type);
        if (r >= 0)
                r = streq(event->type, "task") ? print_task_event(&line, json) :
                                                 print_other_event(&line, event);
        if (r >= 0)
                r = text_append_printable(&printable, line.data, line.size, "");
        return r < 0 ? r : print_event(watch, printable.data, printable.size);
}

static int on_event_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Watch *watch = userdata;
        watch->answered = true;
        return event_parser_feed(&watch->parser, bytes, size, on_event, watch);
}

static void on_events_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Watch *watch = userdata;
        watch->done = true;
        watch->error = outcome->error;
        watch->answered |= outcome->status == 200;
        free(watch->error_text);
        watch->error_text = strdup(outcome->error_text);
        if (watch->status == 0 && outcome->error == 0 && outcome->status != 200) {
                session_say_problem(watch->session, outcome->status, outcome->body, outcome->body_size);
                watch->status = SHELL_STATUS_REFUSED;
        }
}

static int watch_once(Watch *watch) {
        _cleanup_(http_call_freep) HttpCall *call = NULL;
        _cleanup_(freep) char *url = NULL;
        char header[sizeof("Last-Event-ID: ") + EVENT_ID_BYTES_MAX];
        const char *const headers[] = { *watch->last_id ? header : NULL, NULL };
        HttpCallOptions options;
        int r = session_prepare(watch->session, "GET", "/api/v1/events", &options, &url);
        if (r < 0)
                return r;
        (void) snprintf(header, sizeof(header), "Last-Event-ID: %s", watch->last_id);
        event_parser_done(&watch->parser);
        watch->parser = (EventParser){ .line_bytes_max = EVENT_BYTES_MAX,
                                       .event_bytes_max = EVENT_BYTES_MAX };
        watch->done = watch->answered = false;
        options.headers = headers;
        options.idle_usec = HEARTBEATS_MISSED_USEC;
        options.on_data = on_event_data;
        options.on_done = on_events_done;
        options.userdata = watch;
        r = http_call_new(watch->session->client, &options, &call);
        return r < 0 ? r : session_run_until(watch->session, &watch->done);
}

static void watch_done(Watch *watch) {
        event_parser_done(&watch->parser);
        free(watch->error_text);
}

int verb_events(Session *session, char **arguments) {
        _cleanup_(watch_done) Watch watch = { .session = session };
        usec_t last_usec = 0; /* when there was an answer: never yet */
        for (unsigned n_failures = 0;; n_failures++) {
                int r = watch_once(&watch);
                if (r < 0 || watch.status != 0)
                        return watch.status ?: SHELL_STATUS_REFUSED;
                if (watch.answered) {
                        last_usec = usec_now(CLOCK_BOOTTIME);
                        n_failures = 0;
                }
                if (last_usec == 0 || usec_now(CLOCK_BOOTTIME) - last_usec > PATIENCE_USEC) {
                        say("%s does not answer: %s", session->target.name, watch.error_text ?: "");
                        return SHELL_STATUS_UNREACHABLE;
                }
                if (session_pause(session, session_retry_delay(n_failures)) < 0)
                        return SHELL_STATUS_REFUSED;
        }
}
