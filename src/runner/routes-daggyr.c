/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The two endpoints of Daggy's own agent, so that a DaggyR server's "agent" executor works unchanged: POST
 * blocks until the task has ended and answers 200 whatever became of it, DELETE acknowledges anything, errors
 * are {"error": "…"}.
 *
 * It differs from that agent where it fails its users: a second POST of a task that runs joins it instead of
 * killing it, DELETE is served however busy the host is, and kills reach every process. */

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "core/http/request-guard.h"
#include "core/json/json.h"
#include "core/text/unit-name.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/submit-wait.h"
#include "runner/task-run.h"
#include "runner/task-submit.h"

/* "run_id:task_id", as the task API shows it; what an id cannot hold is percent-encoded. */
static int daggyr_task_id(const RequestContext *context, char **ret) {
        uint64_t run_id;
        _cleanup_(freep) char *task = NULL;
        int r = text_parse_u64(context->match.parameters[0], 0, UINT64_MAX, &run_id);
        if (r < 0)
                return -ENOENT;
        r = text_percent_encode(context->match.parameters[1], "._:-", &task);
        if (r < 0)
                return r;
        return text_format(ret, "%" PRIu64 ":%s", run_id, task);
}

static void answer_error(HttpRequest *request, int status, unsigned retry_after_sec, const char *message) {
        char seconds[16];
        (void) snprintf(seconds, sizeof(seconds), "%u", retry_after_sec);
        if (retry_after_sec > 0)
                (void) http_request_add_header(request, "Retry-After", seconds);
        json_object *object = json_object_new_object();
        if (object && json_add_string(object, "error", message) < 0)
                object = (json_object_put(object), NULL);
        http_request_answer_json(request, status, object);
}

void daggyr_answer_later(HttpRequest *request) {
        answer_error(request, 503, 1, "this runner is being upgraded: the task goes on, ask again");
}

static int check_header(
                void *userdata,
                const HttpRequest *request,
                const RequestContext *context,
                Problem *problem) {
        const Runner *runner = userdata;
        uint64_t number;
        if (text_parse_u64(context->match.parameters[0], 0, UINT64_MAX, &number) < 0)
                return problem_set(problem, 404, NULL, "the run id must be a decimal number");
        if (streq(http_request_method(request), "DELETE"))
                return 0;
        if (guard_check_content_type(http_request_header(request, "Content-Type"), problem) < 0)
                return problem_set(problem, 409, NULL, "Unsupported Content-Type");
        const char *length = http_request_header(request, "Content-Length");
        uint64_t body_max = runner->daemon.config.body_max_bytes;
        if (length && text_parse_u64(length, 0, UINT64_MAX, &number) >= 0 && number > body_max)
                return problem_set(
                                problem,
                                409,
                                NULL,
                                "Payload too big (%" PRIu64 " > %" PRIu64 ")",
                                number,
                                body_max);
        return 0;
}

static void answer_refused(void *userdata, HttpRequest *request, const Problem *problem) {
        const Runner *runner = userdata;
        _cleanup_(freep) char *message = NULL;
        if (problem->status == 413) {
                (void) text_format(
                                &message,
                                "Payload too big (> %" PRIu64 ")",
                                runner->daemon.config.body_max_bytes);
                answer_error(request, 409, 0, message ?: problem->detail);
                return;
        }
        answer_error(request, problem->status, problem->retry_after_sec, problem->detail);
}

const EndpointStyle daggyr_style = {
        .check_header = check_header,
        .refuse = answer_refused,
};

static int submit_details(
                Runner *runner,
                HttpRequest *request,
                json_object *body,
                const char *task_id,
                TaskSubmission *ret,
                Problem *problem) {
        TaskDefaults defaults = { .resources = runner->config->default_resources };
        TaskSpec *spec = NULL;
        int r = task_spec_parse_daggyr(body, task_id, &defaults, &spec, problem);
        if (r < 0)
                return r;
        /* A DaggyR server retries under the same name: what has ended runs anew. */
        return task_submit(runner, spec, http_request_header(request, "Daggyr-Lease"), true, ret, problem);
}

static void answer_refused_details(HttpRequest *request, const Problem *problem) {
        if (problem->status != 400) {
                int status = problem->status == 422 ? 409 : problem->status;
                answer_error(request, status, problem->retry_after_sec, problem->detail);
                return;
        }
        _cleanup_(freep) char *message = NULL;
        (void) text_format(&message, "Parsing error: %s %s", problem->field, problem->detail);
        answer_error(request, 409, 0, message ?: problem->detail);
}

static void run_parsed(Runner *runner, HttpRequest *request, json_object *body) {
        Problem problem = {};
        TaskSubmission submission = {};
        _cleanup_(freep) char *task_id = NULL;
        int r = daggyr_task_id(http_request_context(request), &task_id);
        if (r < 0)
                (void) problem_from_errno(&problem, r);
        else
                r = submit_details(runner, request, body, task_id, &submission, &problem);
        if (r < 0)
                answer_refused_details(request, &problem);
        else
                task_wait_add(submission.task, request, 200, OUTPUT_DAGGYR, USEC_INFINITY);
}

void route_daggyr_run(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        json_object *body = NULL;
        if (request_parse_submission(request, &body, &problem) < 0)
                answer_refused_details(request, &problem);
        else
                submit_when_accounts_are_known(userdata, request, body, NULL, run_parsed);
}

void route_daggyr_stop(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        _cleanup_(freep) char *task_id = NULL;
        Task *task = daggyr_task_id(context, &task_id) < 0 ? NULL : task_table_find(&runner->tasks, task_id);
        if (task)
                task_stop(task, STOP_REQUESTED, task->spec->grace_usec);
        http_request_answer(request, 200, NULL, NULL, 0);
}
