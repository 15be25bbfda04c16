/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The requests to a runner: docs/openapi.yaml. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/queue-spec.h"
#include "queue/http-worker-internal.h"
#include "queue/moment.h"

#define ATTEMPT_BYTES_MAX (32 * 1024 * 1024)
#define ATTEMPT_USEC      (60 * USEC_PER_SEC)
#define OUTPUT_IDLE_USEC  (30 * USEC_PER_SEC)
#define ERROR_BYTES_MAX   4096
#define LIST_BYTES_MAX    (64 * 1024 * 1024)
#define LIST_LIMIT        "200"
#define LIST_LIMIT_MAX    1000

static PortCall *call_new(HttpWorker *worker, void *userdata) {
        PortCall *call = calloc(1, sizeof(*call));
        if (!call)
                return NULL;
        call->worker = worker;
        call->userdata = userdata;
        DL_PREPEND2(worker->calls, call, previous, next);
        return call;
}

/* Starts CALL, or frees it. OPTIONS are complete but for the call itself. */
static int call_start(PortCall *call, HttpClient *client, HttpCallOptions *options, PortCall **ret) {
        options->userdata = call;
        int r = http_call_new(client, options, &call->http);
        if (r < 0) {
                port_call_free(call);
                return r;
        }
        if (ret)
                *ret = call;
        return 0;
}

/* ── calls of the scheduler: capacity and leases ── */

static void probe_answer(HttpWorker *worker, const HttpOutcome *outcome, CallAnswer *ret) {
        if (is_success(outcome) &&
            runner_capacity_parse(outcome->body, outcome->body_size, &ret->report) >= 0) {
                worker->mute = false;
                ret->outcome = CALL_ANSWERED;
        } else
                http_worker_log_strange(worker, "when asked for its capacity", outcome);
}

static void grant_answer(HttpWorker *worker, const HttpOutcome *outcome, CallAnswer *ret) {
        bool refused = outcome->error == 0 &&
                        (outcome->status == 409 || outcome->status == 404 || outcome->status == 503);
        if (is_success(outcome) &&
            runner_lease_parse(outcome->body, outcome->body_size, ret->lease_id, &ret->ttl_usec) >= 0)
                ret->outcome = CALL_GRANTED;
        else if (refused) {
                runner_holder_parse(outcome->body, outcome->body_size, ret->holder);
                ret->outcome = CALL_REFUSED;
        } else
                http_worker_log_strange(worker, "when asked for a lease", outcome);
}

static void on_call_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        CallAnswer answer = { .outcome = CALL_FAILED };
        switch (call->kind) {
        case WORKER_CALL_PROBE:
                probe_answer(call->worker, outcome, &answer);
                break;
        case WORKER_CALL_ACQUIRE:
        case WORKER_CALL_RENEW:
                grant_answer(call->worker, outcome, &answer);
                break;
        case WORKER_CALL_RELEASE:
                if (is_success(outcome) || (outcome->error == 0 && outcome->status == 404))
                        answer.outcome = CALL_ANSWERED;
                break;
        }
        Moment now = moment_now();
        call->done.call(&answer, &now, call->userdata);
        port_call_free(call);
}

static int lease_body(const HttpWorkers *shared, char **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "queue", *shared->address) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "version", shared->version);
        if (r >= 0)
                r = json_add_double(object, "ttl", (double) shared->lease_ttl_usec / (double) USEC_PER_SEC);
        return r < 0 ? r : json_format(object, ret, NULL);
}

static int call_path(WorkerCall call, const char *lease_id, char **ret) {
        switch (call) {
        case WORKER_CALL_PROBE:
                *ret = strdup("/api/v1/capacity");
                break;
        case WORKER_CALL_ACQUIRE:
                *ret = strdup("/api/v1/lease");
                break;
        case WORKER_CALL_RENEW:
        case WORKER_CALL_RELEASE:
                (void) text_format(ret, "/api/v1/lease/%s", lease_id);
                break;
        }
        return *ret ? 0 : -ENOMEM;
}

static int port_call(
                void *userdata_worker,
                WorkerCall kind,
                const char *lease_id,
                WorkerCallDone done,
                void *userdata,
                PortCall **ret) {
        static const char *const methods[] = {
                [WORKER_CALL_PROBE] = "GET",
                [WORKER_CALL_ACQUIRE] = "POST",
                [WORKER_CALL_RENEW] = "PUT",
                [WORKER_CALL_RELEASE] = "DELETE",
        };
        HttpWorker *worker = userdata_worker;
        _cleanup_(freep) char *path = NULL, *url = NULL, *body = NULL;
        HttpCallOptions options;
        int r = call_path(kind, lease_id, &path);
        if (r >= 0)
                r = http_worker_prepare(worker, methods[kind], path, &options, &url);
        if (r >= 0 && kind == WORKER_CALL_ACQUIRE)
                r = lease_body(worker->shared, &body);
        if (r < 0)
                return r;
        if (body) {
                options.content_type = "application/json";
                options.body = body;
                options.body_size = strlen(body);
        }
        options.on_done = on_call_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->kind = kind;
        call->done.call = done;
        return call_start(call, worker->shared->client, &options, ret);
}

/* ── submissions ── */

static SubmitOutcome submit_outcome(HttpWorker *worker, const HttpOutcome *outcome, WorkerReport *report) {
        if (outcome->error < 0)
                return outcome->not_sent ? SUBMIT_UNSENT : SUBMIT_UNKNOWN;
        SubmitOutcome result = runner_submit_outcome(
                        outcome->status, outcome->body, outcome->body_size, report);
        bool strange = result == SUBMIT_STRANGE || outcome->status == 401 || outcome->status == 421 ||
                        (outcome->status == 403 && result == SUBMIT_BUSY);
        if (strange)
                http_worker_log_strange(worker, "a submission", outcome);
        return result;
}

static void on_submit_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        _cleanup_(json_putp) json_object *object = NULL;
        char detail[PROBLEM_DETAIL_SIZE] = "";
        WorkerReport report = {};
        RunnerTask task;
        SubmitAnswer answer = {
                .outcome = submit_outcome(call->worker, outcome, &report),
                .detail = detail,
        };
        if (answer.outcome == SUBMIT_FULL)
                answer.report = &report;
        if (answer.outcome == SUBMIT_INVALID)
                runner_problem_parse(outcome->body, outcome->body_size, detail, sizeof(detail));
        if (answer.outcome == SUBMIT_ACCEPTED &&
            runner_object_parse(outcome->body, outcome->body_size, &object) >= 0 &&
            runner_task_read(object, &task) >= 0)
                answer.task = &task;
        Moment now = moment_now();
        call->done.submit(&answer, &now, call->userdata);
        port_call_free(call);
}

static int port_submit(
                void *userdata_worker,
                const Submission *submission,
                WorkerSubmitDone done,
                void *userdata,
                PortCall **ret) {
        HttpWorker *worker = userdata_worker;
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        int r = http_worker_attempt_path(submission->attempt_id, "", &path);
        if (r >= 0)
                r = http_worker_prepare(worker, "POST", path, &options, &url);
        if (r < 0)
                return r;
        options.lease_id = submission->lease_id;
        options.answer_bytes_max = ATTEMPT_BYTES_MAX; /* it shows the command that was sent */
        options.content_type = "application/json";
        options.body = submission->body;
        options.body_size = submission->body_size;
        options.on_done = on_submit_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->done.submit = done;
        return call_start(call, worker->shared->client, &options, ret);
}

/* ── the end of attempts ── */

static void on_end_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        Moment now = moment_now();
        call->done.end(outcome->error == 0 && outcome->status < 500, &now, call->userdata);
        port_call_free(call);
}

static int delete_attempt(
                HttpWorker *worker,
                const char *attempt_id,
                const char *query,
                WorkerEndDone done,
                void *userdata) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        int r = http_worker_attempt_path(attempt_id, query, &path);
        if (r >= 0)
                r = http_worker_prepare(worker, "DELETE", path, &options, &url);
        if (r < 0)
                return r;
        options.on_done = on_end_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->done.end = done;
        return call_start(call, worker->shared->client, &options, NULL);
}

static int port_stop(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata) {
        return delete_attempt(worker, attempt_id, "?keep=true", done, userdata);
}

static int port_forget(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata) {
        return delete_attempt(worker, attempt_id, "", done, userdata);
}

/* ── what it has ── */

static int read_page(json_object *object, RunnerTask *ret_tasks, ListAnswer *ret) {
        json_object *tasks, *next;
        if (!json_object_object_get_ex(object, "tasks", &tasks) ||
            !json_object_is_type(tasks, json_type_array) || json_object_array_length(tasks) > LIST_LIMIT_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(tasks); i++)
                if (runner_task_read(json_object_array_get_idx(tasks, i), &ret_tasks[ret->n_tasks]) >= 0)
                        ret->n_tasks++;
        ret->tasks = ret_tasks;
        if (json_object_object_get_ex(object, "next", &next) && json_object_is_type(next, json_type_string))
                ret->next = json_object_get_string(next);
        return 0;
}

static void on_list_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        _cleanup_(json_putp) json_object *object = NULL;
        _cleanup_(freep) RunnerTask *tasks = calloc(LIST_LIMIT_MAX, sizeof(RunnerTask));
        ListAnswer answer = { .r = !is_success(outcome) ? -EIO : tasks ? 0 : -ENOMEM };
        if (answer.r >= 0)
                answer.r = runner_object_parse(outcome->body, outcome->body_size, &object);
        if (answer.r >= 0)
                answer.r = read_page(object, tasks, &answer);
        Moment now = moment_now();
        call->done.list(&answer, &now, call->userdata);
        port_call_free(call);
}

static int port_list(
                void *userdata_worker,
                const char *after,
                WorkerListDone done,
                void *userdata,
                PortCall **ret) {
        HttpWorker *worker = userdata_worker;
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        if (text_format(&path,
                        "/api/v1/tasks?limit=" LIST_LIMIT "&label=" QUEUE_LABEL "%%3D%s%s%s",
                        worker->shared->queue_id,
                        after ? "&after=" : "",
                        after ?: "") < 0)
                return -ENOMEM;
        int r = http_worker_prepare(worker, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.answer_bytes_max = LIST_BYTES_MAX;
        options.on_done = on_list_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->done.list = done;
        return call_start(call, worker->shared->client, &options, ret);
}

/* ── results ── */

static void on_fetch_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        _cleanup_(json_putp) json_object *attempt = NULL;
        FetchAnswer answer = { .outcome = FETCH_FAILED };
        if (outcome->error == -EMSGSIZE)
                answer.outcome = FETCH_TOO_LARGE;
        else if (outcome->error == 0 && outcome->status == 404)
                answer.outcome = FETCH_GONE;
        else if (outcome->error == 0 && outcome->status == 200 &&
                 runner_object_parse(outcome->body, outcome->body_size, &attempt) >= 0)
                answer = (FetchAnswer) { .outcome = FETCH_GOT, .attempt = attempt };
        Moment now = moment_now();
        call->done.fetch(&answer, &now, call->userdata);
        port_call_free(call);
}

static int port_fetch(
                void *userdata_worker,
                const char *attempt_id,
                bool with_output,
                WorkerFetchDone done,
                void *userdata,
                PortCall **ret) {
        HttpWorker *worker = userdata_worker;
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        int r = http_worker_attempt_path(attempt_id, with_output ? "?output=full" : "?output=none", &path);
        if (r >= 0)
                r = http_worker_prepare(worker, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.total_usec = ATTEMPT_USEC;
        options.answer_bytes_max = ATTEMPT_BYTES_MAX;
        options.on_done = on_fetch_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->done.fetch = done;
        return call_start(call, worker->shared->client, &options, ret);
}

/* ── output ── */

static int on_output_data(HttpCall *http, const void *bytes, size_t size, void *userdata) {
        const PortCall *call = userdata;
        Moment now = moment_now();
        return call->data(bytes, size, &now, call->userdata);
}

static void on_output_done(HttpCall *http, const HttpOutcome *outcome, void *userdata) {
        PortCall *call = userdata;
        bool answered = outcome->error == 0;
        OutputEnd end = answered && outcome->status == 200 ? OUTPUT_END :
                        answered && outcome->status == 404 ? OUTPUT_GONE :
                                                             OUTPUT_BROKEN;
        Moment now = moment_now();
        call->done.output(end, &now, call->userdata);
        port_call_free(call);
}

static int port_output(
                void *userdata_worker,
                const OutputWanted *wanted,
                WorkerOutputData data,
                WorkerOutputDone done,
                void *userdata,
                PortCall **ret) {
        HttpWorker *worker = userdata_worker;
        _cleanup_(freep) char *path = NULL, *url = NULL;
        char suffix[sizeof("/output?stream=stdout&follow=false&offset=18446744073709551615")];
        HttpCallOptions options;
        (void) snprintf(suffix,
                        sizeof(suffix),
                        "/output?stream=%s&follow=%s&offset=%" PRIu64,
                        wanted->stream == STORED_STDOUT ? "stdout" : "stderr",
                        wanted->follow ? "true" : "false",
                        wanted->offset);
        int r = http_worker_attempt_path(wanted->attempt_id, suffix, &path);
        if (r >= 0)
                r = http_worker_prepare(worker, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.total_usec = 0; /* for as long as it takes, or the task says nothing */
        options.idle_usec = wanted->for_clients ? 0 : OUTPUT_IDLE_USEC;
        options.answer_bytes_max = ERROR_BYTES_MAX;
        options.on_data = on_output_data;
        options.on_done = on_output_done;
        PortCall *call = call_new(worker, userdata);
        if (!call)
                return -ENOMEM;
        call->data = data;
        call->done.output = done;
        return call_start(
                        call,
                        wanted->for_clients ? worker->shared->followers : worker->shared->streams,
                        &options,
                        ret);
}

static void port_pause(PortCall *call) {
        http_call_pause(call->http);
}

static void port_resume(PortCall *call) {
        http_call_resume(call->http);
}

static void port_cancel(PortCall *call) {
        if (call)
                port_call_free(call);
}

const WorkerPort http_worker_port = {
        .call = port_call,
        .submit = port_submit,
        .stop = port_stop,
        .forget = port_forget,
        .list = port_list,
        .fetch = port_fetch,
        .output = port_output,
        .pause = port_pause,
        .resume = port_resume,
        .cancel = port_cancel,
        .listen = http_worker_listen,
};
