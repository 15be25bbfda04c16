/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* output and events: what comes as a stream. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/event-watch.h"
#include "ctl/follow.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

#define STREAMS_MAX 2

/* The streams of a live task end when its runner is upgraded, which a queue hides. What comes later is had by
 * asking again; but another attempt of a queue's has another output. */
static int follow_to_the_end(Session *session, const char *task_id, FollowedStream *streams, unsigned n) {
        for (;;) {
                _cleanup_(answer_done) Answer answer = {};
                int status = follow_streams(session, task_id, streams, n, true);
                if (status == 0)
                        status = attempt_get_submitted(session, task_id, &answer);
                if (status != 0 || attempt_n_earlier(answer.json) > 0)
                        return status;
                if (!attempt_is_live(answer.json)) /* but it may have been when the streams ended */
                        return follow_streams(session, task_id, streams, n, false);
                if (session_pause(session, session_retry_delay(0)) < 0)
                        return SHELL_STATUS_SIGNAL + SIGINT;
        }
}

/* Which of them, and where they go: with --all each to our own of that name. */
static unsigned choose_streams(const Options *options, FollowedStream streams[static STREAMS_MAX]) {
        bool all = options_has(options, OPTION_ALL), errors = options_has(options, OPTION_STDERR);
        streams[0] = (FollowedStream) { .name = errors && !all ? "stderr" : "stdout", .fd = STDOUT_FILENO };
        streams[1] = (FollowedStream) { .name = "stderr", .fd = STDERR_FILENO };
        return all ? 2 : 1;
}

/* Nobody keeps the order between the two streams. While they are followed it is that of their arrival; later
 * one comes behind the other, which does not look like an order that there was. */
static int print_streams(Session *session, const char *task_id, FollowedStream *streams, unsigned n) {
        if (options_has(&session->options, OPTION_FOLLOW))
                return follow_to_the_end(session, task_id, streams, n);
        int status = 0;
        for (unsigned i = 0; status == 0 && i < n; i++)
                status = follow_streams(session, task_id, &streams[i], 1, false);
        return status;
}

int verb_output(Session *session, char **arguments) {
        for (char **id = arguments; *id; id++) {
                FollowedStream streams[STREAMS_MAX];
                unsigned n = choose_streams(&session->options, streams);
                int status = print_streams(session, *id, streams, n);
                if (status != 0)
                        return status;
        }
        return 0;
}

/* Events are read for ever. */
typedef struct Events {
        Session *session;
        EventWatch *watch;
} Events;

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
static int print_event(Events *events, const char *line, size_t size) {
        int r = print_line(line, size);
        if (r < 0)
                event_watch_end(events->watch,
                                r == -EPIPE ? SHELL_STATUS_SIGNAL + SIGPIPE : SHELL_STATUS_REFUSED);
        return r;
}

static int on_event(const ParsedEvent *event, void *userdata) {
        Events *events = userdata;
        _cleanup_(json_putp) json_object *json = NULL;
        _cleanup_(text_done) Text line = {}, printable = {};
        Problem problem = {};
        if (events->session->json)
                return print_event(events, event->data, event->data_size);
        int r = json_parse(event->data, event->data_size, &json, &problem);
        if (r == -ENOMEM)
                return r;
        r = text_appendf(&line, "%-8s ", event->type);
        if (r >= 0)
                r = streq(event->type, "task") ? print_task_event(&line, json) :
                                                 print_other_event(&line, event);
        if (r >= 0)
                r = text_append_printable(&printable, line.data, line.size, "");
        return r < 0 ? r : print_event(events, printable.data, printable.size);
}

static void events_done(Events *events) {
        event_watch_free(events->watch);
}

int verb_events(Session *session, char **arguments) {
        _cleanup_(events_done) Events events = { .session = session };
        int r = event_watch_new(
                        session,
                        &(EventWatchHandlers) { .on_event = on_event, .userdata = &events },
                        &events.watch);
        if (r >= 0)
                r = session_run_until(session, event_watch_ended(events.watch));
        return r < 0 ? SHELL_STATUS_REFUSED : event_watch_status(events.watch);
}
