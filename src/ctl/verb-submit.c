/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* submit and run: the id is always the client's, so a submission whose answer got lost is sent again and
 * still runs once. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/each.h"
#include "ctl/follow.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "ctl/task-body.h"
#include "ctl/verbs.h"

#define AGAIN_USEC (100 * USEC_PER_MSEC)

/* What the command line asks for: by options and a command, or by a file. */
static int read_body(const Session *session, char **arguments, json_object **ret) {
        const Options *options = &session->options;
        const char *file = options_get(options, OPTION_FILE);
        if (file && (*arguments || options->given & OPTIONS_TASK)) {
                say("--file says it all: neither a command nor options of the task go with it");
                return -EINVAL;
        }
        if (!file && !*arguments) {
                say("there is no command");
                return -EINVAL;
        }
        int r = file ? task_body_from_file(file, ret) : task_body_from_options(options, arguments, ret);
        return r < 0 ? r : task_body_add_trace(*ret);
}

/* By --id, by the body, or a new one; the body of a single submission then need not name it. */
static int settle_id(const Session *session, json_object *body, char **ret) {
        char chosen[TASK_ID_SIZE];
        const char *id = options_get(&session->options, OPTION_ID) ?: member_text(body, "task_id");
        if (!*id) {
                task_id_choose(chosen);
                id = chosen;
        }
        *ret = strdup(id);
        return *ret ? 0 : -ENOMEM;
}

static int submit_one(Session *session, const char *id, json_object *body, Answer *ret) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        if (path_format(&path, id, "%s", "") < 0 || json_format(body, &text, NULL) < 0)
                return SHELL_STATUS_REFUSED;
        return session_ask(session, &(Ask) { .method = "POST", .path = path, .body = text }, ret);
}

static int status_when_finished(Session *session, const char *id) {
        _cleanup_(answer_done) Answer answer = {};
        int status = attempt_await(session, id, "none", USEC_INFINITY, &answer);
        if (status != 0)
                return status;
        attempt_say_end(answer.json);
        return shell_status_of_attempt(answer.json);
}

/* Each element by itself: some may be taken and others refused. */
static int report_batch(Session *session, json_object *rows) {
        int status = 0;
        for (size_t i = 0; i < element_count(rows); i++) {
                json_object *row = element(rows, i), *problem = member(row, "problem");
                const char *id = member_text(row, "task_id");
                if (problem) {
                        say("%s: %s %s", id, member_text(problem, "field"), member_text(problem, "detail"));
                        status = status ?: SHELL_STATUS_REFUSED;
                } else if (!session->json && print_line(id, strlen(id)) < 0) {
                        say("%s is submitted", id);
                        status = status ?: SHELL_STATUS_REFUSED;
                }
        }
        for (size_t i = 0; options_has(&session->options, OPTION_WAIT) && i < element_count(rows); i++)
                if (!member(element(rows, i), "problem")) {
                        int r = status_when_finished(session, member_text(element(rows, i), "task_id"));
                        status = status ?: r;
                }
        return status;
}

static int submit_batch(Session *session, json_object *body) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(answer_done) Answer answer = {};
        if (options_has(&session->options, OPTION_ID)) {
                say("--id is for one task, and the file has a list of them");
                return SHELL_STATUS_USAGE;
        }
        for (size_t i = 0; i < element_count(body); i++) {
                char id[TASK_ID_SIZE];
                json_object *row = element(body, i);
                task_id_choose(id);
                if (json_object_is_type(row, json_type_object) && !member(row, "task_id") &&
                    json_add_string(row, "task_id", id) < 0)
                        return SHELL_STATUS_REFUSED;
        }
        if (json_format(body, &text, NULL) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(
                        session, &(Ask) { .method = "POST", .path = "/api/v1/tasks", .body = text }, &answer);
        if (status != 0)
                return status;
        bool is_told = !session->json || session_print_json(session, &answer) == 0;
        for (size_t i = 0; !is_told && i < element_count(answer.json); i++)
                if (!member(element(answer.json, i), "problem"))
                        say("%s is submitted", member_text(element(answer.json, i), "task_id"));
        status = report_batch(session, answer.json);
        return is_told ? status : status ?: SHELL_STATUS_REFUSED;
}

static int submit_each(Session *session, json_object *body) {
        const char *input = options_get(&session->options, OPTION_STDIN);
        if (input && streq(input, "-") && streq(options_get(&session->options, OPTION_EACH), "-")) {
                say("stdin is either the lines of --each or what the tasks read");
                return SHELL_STATUS_USAGE;
        }
        if (session->json || !json_object_is_type(body, json_type_object)) {
                say("--each takes one task, and prints ids");
                return SHELL_STATUS_USAGE;
        }
        return each_submit(session, body);
}

int verb_submit(Session *session, char **arguments) {
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(freep) char *id = NULL;
        _cleanup_(answer_done) Answer answer = {};
        int r = read_body(session, arguments, &body);
        if (r < 0)
                return SHELL_STATUS_USAGE;
        if (options_has(&session->options, OPTION_EACH))
                return submit_each(session, body);
        if (json_object_is_type(body, json_type_array))
                return submit_batch(session, body);
        r = settle_id(session, body, &id);
        if (r < 0)
                return SHELL_STATUS_REFUSED;
        int status = submit_one(session, id, body, &answer);
        if (status != 0)
                return status;
        r = session->json ? session_print_json(session, &answer) : print_line(id, strlen(id));
        if (r != 0) {
                say("%s is submitted", id);
                return SHELL_STATUS_REFUSED;
        }
        return options_has(&session->options, OPTION_WAIT) ? status_when_finished(session, id) : 0;
}

/* A task that this process stands for. */
typedef struct Run {
        Session *session;
        char *id;
        bool submitted, stop_sent;
        size_t n_earlier; /* the attempt whose output is being shown */
        FollowedStream streams[2];
} Run;

static void on_stop_answered(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        const Run *run = userdata;
        if (outcome->error < 0)
                say("%s could not be stopped: %s", run->id, outcome->error_text);
        else if (outcome->status >= 300)
                session_say_problem(run->session, outcome->status, outcome->body, outcome->body_size);
}

static void run_send_stop(Run *run) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        run->stop_sent = true;
        if (path_format(&path, run->id, "%s", ATTEMPT_STOP_QUERY) < 0 ||
            session_prepare(run->session, "DELETE", path, &options, &url) < 0)
                return;
        options.total_usec = PATIENCE_USEC;
        options.on_done = on_stop_answered;
        options.userdata = run;
        int r = http_call_new(run->session->client, &options, NULL);
        if (r < 0)
                say("%s could not be stopped: %s", run->id, strerror(-r));
}

static void on_interrupt(void *userdata) {
        Run *run = userdata;
        say("stopping %s; once more to leave it alone", run->id);
        if (run->submitted)
                run_send_stop(run);
}

/* Whoever read our output is gone, as from "run … | head": a local command would have been ended by that. */
static int run_stop_unread(Run *run) {
        _cleanup_(answer_done) Answer ignored = {};
        (void) attempt_stop(run->session, run->id, &ignored);
        return SHELL_STATUS_SIGNAL + SIGPIPE;
}

/* What the streams did not bring: a queue ends them when it loses a runner for a moment. */
static int run_fetch_rest(Run *run, json_object *attempt) {
        static const char *const keys[] = { "output_bytes", "error_bytes" };
        for (size_t i = 0; i < 2; i++) {
                if (run->n_earlier < attempt_n_earlier(attempt))
                        run->streams[i].offset = 0;
                if (member_number(attempt, keys[i]) <= (double) run->streams[i].offset)
                        continue;
                int status = follow_streams(run->session, run->id, &run->streams[i], 1, false);
                if (status != 0)
                        return status;
        }
        return 0;
}

static int run_end(Run *run, json_object *attempt) {
        int status = run_fetch_rest(run, attempt);
        if (status != 0)
                return status;
        if (member_bool(attempt, "output_truncated") || member_bool(attempt, "error_truncated"))
                say("%s wrote more than is kept: its output is cut", run->id);
        attempt_say_end(attempt);
        return shell_status_of_attempt(attempt);
}

/* The streams came to their end, and the task goes on: a queue runs it again, or lost its runner for a
 * moment. What is followed is the attempt that is there when the request arrives, so no time must pass in
 * between. */
static void run_note_attempt(Run *run, json_object *attempt, bool *ret_same) {
        size_t n_earlier = attempt_n_earlier(attempt);
        *ret_same = n_earlier == run->n_earlier;
        if (*ret_same)
                return;
        say("%s failed and is run again", run->id);
        run->n_earlier = n_earlier;
        run->streams[0].offset = run->streams[1].offset = 0;
}

static int run_follow(Run *run) {
        bool same = false; /* attempt, whose streams nevertheless ended */
        for (;;) {
                _cleanup_(answer_done) Answer answer = {};
                int status = same ? 0 : follow_streams(run->session, run->id, run->streams, 2, true);
                bool waited = same;
                if (status == 0)
                        status = attempt_get_submitted(run->session, run->id, &answer);
                if (status == 0 && !attempt_is_live(answer.json))
                        status = run_end(run, answer.json);
                else if (status == 0) {
                        run_note_attempt(run, answer.json, &same);
                        same &= !waited;
                        if (same && session_pause(run->session, AGAIN_USEC) < 0)
                                return SHELL_STATUS_SIGNAL + SIGINT;
                        continue;
                }
                return status == SHELL_STATUS_SIGNAL + SIGPIPE ? run_stop_unread(run) : status;
        }
}

static int run_submitted(Run *run, json_object *body) {
        _cleanup_(answer_done) Answer answer = {};
        int status = submit_one(run->session, run->id, body, &answer);
        if (status != 0)
                return status;
        run->submitted = true;
        run->n_earlier = attempt_n_earlier(answer.json);
        if (run->session->n_interrupts > 0 && !run->stop_sent)
                run_send_stop(run);
        return run_follow(run);
}

int verb_run(Session *session, char **arguments) {
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(freep) char *id = NULL;
        Run run = {
                .session = session,
                .streams = { { .name = "stdout", .fd = STDOUT_FILENO },
                             { .name = "stderr", .fd = STDERR_FILENO } },
        };
        int r = read_body(session, arguments, &body);
        if (r >= 0 && !options_has(&session->options, OPTION_FILE))
                r = task_body_add_piped_input(&session->options, body);
        if (r >= 0 && !json_object_is_type(body, json_type_object)) {
                say("run takes one task; submit takes a list");
                r = -EINVAL;
        }
        if (r < 0)
                return SHELL_STATUS_USAGE;
        r = settle_id(session, body, &id);
        if (r >= 0) {
                run.id = id;
                r = session_catch_signals(session, on_interrupt, &run);
        }
        if (r < 0) {
                say("cannot run it: %s", strerror(-r));
                return SHELL_STATUS_REFUSED;
        }
        int status = run_submitted(&run, body);
        /* Calls that nobody waits for any more must not find RUN gone. */
        session->client = http_client_free(session->client);
        return status;
}
