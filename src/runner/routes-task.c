/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/submit-wait.h"
#include "runner/task-output.h"
#include "runner/task-run.h"
#include "runner/task-submit.h"
#include "runner/task.h"

static void answer_submission(HttpRequest *request, const TaskSubmission *submission) {
        _cleanup_(freep) char *location = NULL;
        if (task_path_format(submission->task->spec->task_id, &location) >= 0)
                (void) http_request_add_header(request, "Location", location);
        http_request_answer_json(
                        request, submission->is_new ? 202 : 200, task_to_json(submission->task, OUTPUT_FULL));
}

static void submit_parsed(Runner *runner, HttpRequest *request, json_object *body) {
        const RequestContext *context = http_request_context(request);
        Problem problem = {};
        TaskSubmission submission = {};
        int r = task_submit_json(
                        runner,
                        body,
                        context->match.n_parameters > 0 ? context->match.parameters[0] : NULL,
                        http_request_header(request, "Daggyr-Lease"),
                        &submission,
                        &problem);
        if (r < 0)
                http_request_answer_problem(
                                request, &problem, submission.is_full ? capacity_brief(runner) : NULL);
        else
                answer_submission(request, &submission);
}

void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        json_object *body = NULL;
        if (request_parse_submission(request, &body, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                submit_when_accounts_are_known(userdata, request, body, "user", submit_parsed);
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
        if (!task || task_wait_parse(&context->query, &wait_usec, &problem) < 0 ||
            output_mode_parse(&context->query, &mode, &problem) < 0)
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
        if (!task || task_wait_parse(&context->query, &wait_usec, &problem) < 0 ||
            task_keep_parse(&context->query, &keep, &problem) < 0) {
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
        OutputRequest wanted;
        Task *task = find_task(runner, context, &problem);
        if (!task || output_request_parse(&context->query, &wanted, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                task_output_answer(
                                task,
                                request,
                                wanted.is_error ? TASK_STREAM_ERROR : TASK_STREAM_OUTPUT,
                                wanted.offset,
                                wanted.follow);
}
