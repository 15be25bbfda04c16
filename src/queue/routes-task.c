/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "queue/live-output.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/submit.h"

/* A submission that waits for the disk, and maybe its client. */
typedef struct PendingSubmit {
        Queue *queue;
        HttpRequest *request; /* NULL: the client is gone */
        Submission submission;
} PendingSubmit;

static void pending_submit_free(PendingSubmit *pending) {
        submission_done(&pending->submission);
        free(pending);
}

static void answer_submission(PendingSubmit *pending) {
        HttpRequest *request = pending->request;
        const char *task_id = pending->submission.task_id;
        _cleanup_(freep) char *location = NULL;
        if (task_path_format(task_id, &location) >= 0)
                (void) http_request_add_header(request, "Location", location);
        json_object *attempt = NULL;
        (void) task_describe_any(pending->queue, task_id, OUTPUT_FULL, &attempt);
        http_request_answer_json(request, pending->submission.is_new ? 202 : 200, attempt);
}

static void on_submit_committed(int r, void *userdata) {
        PendingSubmit *pending = userdata;
        if (pending->request) {
                http_request_on_hangup(pending->request, NULL, NULL);
                if (r >= 0)
                        answer_submission(pending);
                else {
                        Problem problem = {};
                        (void) problem_from_errno(&problem, r);
                        http_request_answer_problem(pending->request, &problem, NULL);
                }
        }
        pending_submit_free(pending);
}

static void on_submit_hangup(HttpRequest *request, void *userdata) {
        PendingSubmit *pending = userdata;
        pending->request = NULL;
}

void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        PendingSubmit *pending = calloc(1, sizeof(*pending));
        const char *task_id = context->match.n_parameters > 0 ? context->match.parameters[0] : NULL;
        int r = pending ? store_batch_new(&batch) : -ENOMEM;
        if (r < 0)
                (void) problem_from_errno(&problem, r);
        if (r >= 0)
                r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = submit_task(queue, body, task_id, batch, &pending->submission, &problem);
        if (r < 0) {
                bool is_full = pending && pending->submission.is_full;
                http_request_answer_problem(request, &problem, is_full ? queue_capacity_json(queue) : NULL);
                if (pending)
                        pending_submit_free(pending);
                return;
        }
        pending->queue = queue;
        pending->request = request;
        http_request_on_hangup(request, on_submit_hangup, pending);
        /* One that was there already may still be on its way to the disk; this comes after it. */
        submit_commit(queue, TAKE_PTR(batch), &pending->submission, 1, on_submit_committed, pending);
}

static void answer_not_found(HttpRequest *request, int r) {
        Problem problem = {};
        if (r == -ENOENT)
                (void) problem_set(&problem, 404, NULL, "there is no task of this id");
        else
                (void) problem_from_errno(&problem, r);
        http_request_answer_problem(request, &problem, NULL);
}

static void answer_stored(Queue *queue, HttpRequest *request, const char *task_id, OutputMode mode) {
        json_object *attempt = NULL;
        int r = task_describe_stored(queue, task_id, mode, &attempt);
        if (r < 0)
                answer_not_found(request, r);
        else
                http_request_answer_json(request, 200, attempt);
}

void route_task_get(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        const char *task_id = context->match.parameters[0];
        Problem problem = {};
        usec_t wait_usec = 0;
        OutputMode mode = OUTPUT_FULL;
        if (task_wait_parse(&context->query, &wait_usec, &problem) < 0 ||
            output_mode_parse(&context->query, &mode, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        Task *task = task_table_find(&queue->tasks, task_id);
        if (task) {
                waiters_add(&task->waiters, request, 200, mode, wait_usec);
                return;
        }
        answer_stored(queue, request, task_id, mode);
}

static int on_seq_row(const StoredTask *row, void *userdata) {
        *(uint64_t *) userdata = row->seq;
        return 0;
}

/* A request that waits for the disk before it is told that a task is forgotten. */
typedef struct PendingDelete {
        HttpRequest *request; /* NULL: the client is gone */
} PendingDelete;

static void on_delete_hangup(HttpRequest *request, void *userdata) {
        PendingDelete *pending = userdata;
        pending->request = NULL;
}

static void on_deleted(int r, void *userdata) {
        PendingDelete *pending = userdata;
        if (pending->request) {
                http_request_on_hangup(pending->request, NULL, NULL);
                if (r < 0 && r != -ENOENT)
                        answer_not_found(pending->request, r);
                else
                        http_request_answer(pending->request, 204, NULL, NULL, 0);
        }
        free(pending);
}

static void delete_finished(Queue *queue, HttpRequest *request, const char *task_id) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        uint64_t seq;
        PendingDelete *pending = NULL;
        int r = task_store_get(queue->store, task_id, on_seq_row, &seq);
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r >= 0)
                r = store_batch_delete_task(batch, seq);
        if (r >= 0) {
                pending = malloc(sizeof(*pending));
                r = pending ? 0 : -ENOMEM;
        }
        if (r >= 0) {
                pending->request = request;
                http_request_on_hangup(request, on_delete_hangup, pending);
                r = task_store_commit(queue->store, TAKE_PTR(batch), on_deleted, pending);
        }
        if (r >= 0)
                return;
        http_request_on_hangup(request, NULL, NULL);
        free(pending);
        answer_not_found(request, r);
}

/* So that a restart does not start what a client wants stopped. */
static void store_stop(const Task *task) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        if (store_batch_new(&batch) < 0)
                return;
        StoredTask row = {
                .seq = task->seq,
                .state = task_is_running(task) ? STORED_RUNNING : STORED_QUEUED,
                .priority = task->scheduled->priority,
                .retries = task->scheduled->n_retries,
                .stop_reason = true,
                .queue_usec = task->queue_usec,
        };
        if (store_batch_update_task(batch, &row) >= 0)
                (void) task_store_commit(task->queue->store, TAKE_PTR(batch), NULL, NULL);
}

void route_task_delete(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        const char *task_id = context->match.parameters[0];
        usec_t wait_usec;
        bool keep;
        if (task_wait_parse(&context->query, &wait_usec, &problem) < 0 ||
            task_keep_parse(&context->query, &keep, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        Task *task = task_table_find(&queue->tasks, task_id);
        if (!task && keep) {
                answer_stored(queue, request, task_id, OUTPUT_FULL);
                return;
        }
        if (!task) {
                delete_finished(queue, request, task_id);
                return;
        }
        if (task->scheduled && !task->scheduled->stop_requested) {
                store_stop(task);
                scheduler_stop_task(queue->scheduler, task->scheduled);
                queue_run_soon(queue);
        } else if (!task->scheduled)
                task->stop_early = true;
        waiters_add(&task->waiters, request, 202, OUTPUT_FULL, wait_usec);
}

/* Where the output of a finished task is. */
typedef struct OutputPlace {
        uint64_t seq, number;
} OutputPlace;

static int on_output_row(const StoredTask *row, void *userdata) {
        OutputPlace *place = userdata;
        _cleanup_(json_putp) json_object *result = NULL;
        json_object *number;
        Problem problem = {};
        if (!row->result)
                return -ENOENT;
        int r = json_parse(row->result, strlen(row->result), &result, &problem);
        if (r < 0)
                return r;
        place->seq = row->seq;
        place->number = 0;
        if (json_object_object_get_ex(result, "attempt_number", &number))
                (void) json_get_u64(number, 0, UINT64_MAX - 1, &place->number);
        return 0;
}

void route_task_output(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        OutputRequest wanted;
        if (output_request_parse(&context->query, &wanted, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        StoredStream stream = wanted.is_error ? STORED_STDERR : STORED_STDOUT;
        Task *task = task_table_find(&queue->tasks, context->match.parameters[0]);
        if (task) {
                live_output_answer(task, request, stream, wanted.offset, wanted.follow);
                return;
        }
        OutputPlace place;
        int r = task_store_get(queue->store, context->match.parameters[0], on_output_row, &place);
        if (r < 0)
                answer_not_found(request, r);
        else
                stored_output_answer(queue, request, place.seq, place.number, stream, wanted.offset);
}
