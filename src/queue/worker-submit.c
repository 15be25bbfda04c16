/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Attempts on their way to a worker, and their end there. */

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/runner-answer.h"
#include "io/task-store.h"
#include "queue/live-output.h"
#include "queue/queue.h"
#include "queue/task-fetch.h"
#include "queue/worker-link-internal.h"

/* A refusal whose reason is the worker's capacity shows it. */
static SubmitOutcome conflict_outcome(WorkerLink *link, const HttpOutcome *outcome) {
        return worker_link_take_report(link, outcome) >= 0 ? SUBMIT_FULL : SUBMIT_INVALID;
}

static SubmitOutcome submit_outcome(WorkerLink *link, const HttpOutcome *outcome) {
        if (outcome->error < 0)
                return outcome->not_sent ? SUBMIT_UNSENT : SUBMIT_UNKNOWN;
        switch (outcome->status) {
        case 200:
        case 202:
                return SUBMIT_ACCEPTED;
        case 409:
                return conflict_outcome(link, outcome);
        case 423:
                return SUBMIT_NO_LEASE;
        case 400:
        case 413:
        case 415:
                return SUBMIT_INVALID;
        case 429:
        case 503:
                return SUBMIT_BUSY;
        case 422: /* its capacity has shrunk below what was reported, or it knows no such user */
                return runner_problem_blames_task(outcome->body, outcome->body_size) ? SUBMIT_INVALID :
                                                                                       SUBMIT_BUSY;
        case 403: /* it runs no tasks as that user, or we may not submit there at all */
                if (runner_problem_blames_task(outcome->body, outcome->body_size))
                        return SUBMIT_INVALID;
                worker_link_log_strange(link, "a submission", outcome);
                return SUBMIT_BUSY;
        case 401:
        case 421:
                worker_link_log_strange(link, "a submission", outcome);
                return SUBMIT_BUSY;
        default:
                worker_link_log_strange(link, "a submission", outcome);
                return SUBMIT_STRANGE;
        }
}

static void note_refusal(WorkerLink *link, Task *task, const HttpOutcome *outcome) {
        char detail[PROBLEM_DETAIL_SIZE];
        runner_problem_parse(outcome->body, outcome->body_size, detail, sizeof(detail));
        free(TAKE_PTR(task->note));
        if (asprintf(&task->note, "worker %s refused it: %s", link->config->id, detail) < 0)
                task->note = NULL;
}

/* The attempt that came with an acceptance may be over already. */
static void look_at_accepted(Task *task, const HttpOutcome *outcome) {
        _cleanup_(json_putp) json_object *object = NULL;
        RunnerTask accepted;
        if (runner_object_parse(outcome->body, outcome->body_size, &object) < 0 ||
            runner_task_read(object, &accepted) < 0)
                return;
        free(TAKE_PTR(task->unit));
        task->unit = accepted.unit ? strdup(accepted.unit) : NULL;
        task->finish_seen |= accepted.finished;
}

/* Only a hint for the next start, so nobody waits for it. */
static void store_acceptance(const WorkerLink *link, const Task *task) {
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        (void) store_batch_update_task(
                        batch,
                        &(StoredTask){
                                        .seq = task->seq,
                                        .state = STORED_RUNNING,
                                        .priority = task->scheduled->priority,
                                        .retries = task->scheduled->n_retries,
                                        .stop_reason = task->scheduled->stop_requested,
                                        .queue_usec = task->queue_usec,
                        });
        (void) store_batch_put_attempt(
                        batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = task->attempt_number,
                                        .state = STORED_ATTEMPT_RUNNING,
                                        .worker_id = link->config->id,
                                        .runner_task_id = task->attempt_id,
                                        .runner_instance = task->scheduled->instance,
                                        .place_usec = usec_now(CLOCK_REALTIME),
                        });
        (void) task_store_commit(link->queue->store, batch, NULL, NULL);
}

static void on_submit_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Task *task = userdata;
        Queue *queue = task->queue;
        task->submit_call = NULL;
        if (task->scheduled->state != SCHEDULED_SENDING) { /* given up in this very turn of the loop */
                http_call_free(call);
                return;
        }
        WorkerLink *link = task->scheduled->worker->userdata;
        SubmitOutcome result = submit_outcome(link, outcome);
        if (result == SUBMIT_INVALID)
                note_refusal(link, task, outcome);
        metrics_count_submission(&queue->metrics, result);
        scheduler_submit_done(queue->scheduler, task->scheduled, result, now_boottime());
        if (result == SUBMIT_STRANGE)
                worker_link_resync(link);
        if (task->scheduled->state == SCHEDULED_RUNNING) {
                store_acceptance(link, task);
                task_send_event(task, "running", NULL);
                look_at_accepted(task, outcome);
                live_output_task_started(task);
                if (task->finish_seen)
                        task_fetch_start(task, link);
        }
        http_call_free(call);
        queue_run_soon(queue);
}

/* What is read of the store for a submission. */
typedef struct SubmissionBody {
        const char *queue_id;
        char *text;
        size_t size;
} SubmissionBody;

static int on_submission_row(const StoredTask *row, void *userdata) {
        SubmissionBody *body = userdata;
        return queue_spec_to_runner(row->spec, body->queue_id, &body->text, &body->size);
}

static int submit(WorkerLink *link, Task *task) {
        Queue *queue = link->queue;
        SubmissionBody body = { .queue_id = task_store_queue_id(queue->store) };
        _cleanup_(freep) char *path = NULL, *url = NULL;
        int r = task_store_get(queue->store, task->task_id, on_submission_row, &body);
        _cleanup_(freep) char *text = body.text;
        if (r >= 0)
                r = worker_link_attempt_path(task->attempt_id, "", &path);
        HttpCallOptions options;
        if (r >= 0)
                r = worker_link_prepare(link, "POST", path, &options, &url);
        if (r < 0)
                return r;
        options.lease_id = task->scheduled->lease_id;
        options.content_type = "application/json";
        options.body = text;
        options.body_size = body.size;
        options.on_done = on_submit_done;
        options.userdata = task;
        return http_call_new(queue->client, &options, &task->submit_call);
}

void worker_link_submit(WorkerLink *link, Task *task) {
        assert(!task->submit_call);

        int r = submit(link, task);
        if (r < 0) {
                log_errno(LOG_WARNING, r, "Cannot submit task \"%s\"", task->task_id);
                scheduler_submit_done(link->queue->scheduler, task->scheduled, SUBMIT_BUSY, now_boottime());
                queue_run_soon(link->queue);
        }
}

static void on_delete_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        if (outcome->error < 0 || outcome->status >= 500) /* what is still there is found by listing */
                worker_link_resync(link);
}

static void delete_attempt(WorkerLink *link, const char *attempt_id, const char *query) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        if (worker_link_attempt_path(attempt_id, query, &path) < 0 ||
            worker_link_prepare(link, "DELETE", path, &options, &url) < 0)
                return;
        options.on_done = on_delete_done;
        (void) http_call_new(link->queue->client, &options, NULL);
}

void worker_link_stop(WorkerLink *link, const char *attempt_id) {
        delete_attempt(link, attempt_id, "?keep=true");
}

void worker_link_forget(WorkerLink *link, const char *attempt_id) {
        delete_attempt(link, attempt_id, "");
}
