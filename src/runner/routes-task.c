/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>

#include "base/text.h"
#include "core/json.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/task-output.h"
#include "runner/task-run.h"
#include "runner/task-submit.h"
#include "runner/task.h"

#define WAIT_SEC_MAX 300.0

static int parse_wait(const Query *query, usec_t *ret, Problem *problem) {
        const char *text = query_get(query, "wait");
        double seconds = 0;
        *ret = 0;
        if (text &&
            (text_parse_double(text, &seconds) < 0 || usec_from_seconds(seconds, WAIT_SEC_MAX, ret) < 0))
                return problem_set(problem, 400, "/wait", "must be a number of seconds between 0 and 300");
        return 0;
}

static int parse_output_mode(const Query *query, OutputMode *ret, Problem *problem) {
        int mode = output_mode_from_string(query_get(query, "output"));
        if (mode < 0)
                return problem_set(problem, 400, "/output", "must be none, tail or full");
        *ret = (OutputMode) mode;
        return 0;
}

static void answer_submission(HttpRequest *request, const TaskSubmission *submission) {
        _cleanup_(freep) char *id = NULL, *location = NULL;
        if (text_percent_encode(submission->task->spec->task_id, "-._~:", &id) >= 0 &&
            asprintf(&location, "/api/v1/task/%s", id) >= 0)
                (void) http_request_add_header(request, "Location", location);
        http_request_answer_json(
                        request, submission->is_new ? 202 : 200, task_to_json(submission->task, OUTPUT_FULL));
}

void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        TaskSubmission submission = {};
        _cleanup_(json_putp) json_object *body = NULL;
        const char *task_id = context->match.n_parameters > 0 ? context->match.parameters[0] : NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = task_submit_json(
                                runner,
                                body,
                                task_id,
                                http_request_header(request, "Daggyr-Lease"),
                                &submission,
                                &problem);
        if (r < 0)
                http_request_answer_problem(
                                request, &problem, submission.is_full ? capacity_brief(runner) : NULL);
        else
                answer_submission(request, &submission);
}

/* Whoever wants a task stopped may come a moment too late, and has not seen its result yet. */
static int parse_keep(const Query *query, bool *ret, Problem *problem) {
        const char *text = query_get(query, "keep") ?: "false";
        if (!streq(text, "true") && !streq(text, "false"))
                return problem_set(problem, 400, "/keep", "must be true or false");
        *ret = streq(text, "true");
        return 0;
}

static Task *find_task(Runner *runner, const RequestContext *context, Problem *problem) {
        Task *task = task_table_find(&runner->tasks, context->match.parameters[0]);
        if (!task)
                (void) problem_set(problem, 404, NULL, "there is no task of this id");
        return task;
}

void route_task_get(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        usec_t wait_usec = 0;
        OutputMode mode = OUTPUT_FULL;
        Task *task = find_task(runner, context, &problem);
        if (!task || parse_wait(&context->query, &wait_usec, &problem) < 0 ||
            parse_output_mode(&context->query, &mode, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                task_wait_add(task, request, 200, mode, wait_usec);
}

void route_task_delete(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        usec_t wait_usec;
        bool keep;
        Task *task = find_task(runner, context, &problem);
        if (!task || parse_wait(&context->query, &wait_usec, &problem) < 0 ||
            parse_keep(&context->query, &keep, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        if (!task_is_live(task) && keep) {
                http_request_answer_json(request, 200, task_to_json(task, OUTPUT_FULL));
                return;
        }
        if (!task_is_live(task)) {
                task_table_remove(&runner->tasks, task);
                http_request_answer(request, 204, NULL, NULL, 0);
                return;
        }
        task_stop(task, STOP_REQUESTED, task->spec->grace_usec);
        task_wait_add(task, request, 202, OUTPUT_FULL, wait_usec);
}

void route_task_output(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        const char *stream = query_get(&context->query, "stream") ?: "stdout";
        const char *offset_text = query_get(&context->query, "offset");
        const char *follow = query_get(&context->query, "follow") ?: "false";
        uint64_t offset = 0;
        Task *task = find_task(runner, context, &problem);
        int r = task ? 0 : -ENOENT;
        if (r >= 0 && !streq(stream, "stdout") && !streq(stream, "stderr"))
                r = problem_set(&problem, 400, "/stream", "must be stdout or stderr");
        if (r >= 0 && offset_text && text_parse_u64(offset_text, 0, UINT64_MAX, &offset) < 0)
                r = problem_set(&problem, 400, "/offset", "must be a number of bytes");
        if (r >= 0 && !streq(follow, "true") && !streq(follow, "false"))
                r = problem_set(&problem, 400, "/follow", "must be true or false");
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                task_output_answer(
                                task,
                                request,
                                streq(stream, "stderr") ? TASK_STREAM_ERROR : TASK_STREAM_OUTPUT,
                                offset,
                                streq(follow, "true"));
}
