/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "queue/describe.h"
#include "queue/live-output.h"
#include "queue/moment.h"
#include "queue/queue.h"
#include "queue/retry.h"
#include "queue/routes.h"
#include "queue/submit.h"
#include "queue/watched-task.h"

void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        if (request_parse_submission(request, &body, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        submit_one(userdata,
                   request,
                   body,
                   context->match.n_parameters > 0 ? context->match.parameters[0] : NULL);
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
        Task *task = delivery_find_task(queue->delivery, task_id);
        if (task && wait_usec > 0)
                watched_task_wait(&queue->sources, task, request, 200, mode, wait_usec);
        else
                describe_answer(&queue->sources, request, 200, task_id, mode);
}

/* A request that waits for the store before it is told that a task is forgotten. */
typedef struct PendingDelete {
        Queue *queue;         /* weak */
        HttpRequest *request; /* NULL: the client is gone */
} PendingDelete;

static void on_delete_hangup(HttpRequest *request, void *userdata) {
        PendingDelete *pending = userdata;
        pending->request = NULL;
}

static void deleted(PendingDelete *pending, int r) {
        HttpRequest *request = pending->request;
        free(pending);
        if (!request)
                return;
        http_request_on_hangup(request, NULL, NULL);
        if (r < 0)
                describe_answer_error(request, r);
        else
                http_request_answer(request, 204, NULL, NULL, 0);
}

/* Nothing was done. */
static void delete_refuse(PendingDelete *pending, int r) {
        Problem problem = {};
        (void) problem_from_errno(&problem, r);
        if (r != -ENOENT)
                queue_leave_to_next(pending->queue, &pending->request, &problem);
        deleted(pending, r);
}

static void on_deleted(int r, const Moment *now, void *userdata) {
        deleted(userdata, r == -ENOENT ? 0 : r);
}

/* One that is finished, as the store has it. */
static void on_found(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        PendingDelete *pending = userdata;
        const Queue *queue = pending->queue;
        StoreBatch *batch = NULL;
        if (r >= 0 && !entry->task.result)
                r = -ENOENT;
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r >= 0) {
                (void) store_batch_delete_task(batch, entry->task.seq);
                r = queue->store_port->commit(queue->store, batch, on_deleted, pending);
        }
        if (r < 0)
                delete_refuse(pending, r);
}

static void delete_finished(Queue *queue, HttpRequest *request, const char *task_id) {
        PendingDelete *pending = malloc(sizeof(*pending));
        if (!pending) {
                describe_answer_error(request, -ENOMEM);
                return;
        }
        *pending = (PendingDelete) { .queue = queue, .request = request };
        http_request_on_hangup(request, on_delete_hangup, pending);
        int r = queue->store_port->get(queue->store, task_id, &(StoreWanted) {}, on_found, pending);
        if (r < 0)
                deleted(pending, r);
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
        Task *task = delivery_find_task(queue->delivery, task_id);
        if (!task && keep) {
                describe_answer(&queue->sources, request, 200, task_id, OUTPUT_FULL);
                return;
        }
        if (!task) {
                delete_finished(queue, request, task_id);
                return;
        }
        Moment now = moment_now();
        delivery_stop_task(queue->delivery, task, &now);
        watched_task_wait(&queue->sources, task, request, 202, OUTPUT_FULL, wait_usec);
}

/* A request that waits until its task is tried again. */
typedef struct PendingRetry {
        Queue *queue;         /* weak */
        HttpRequest *request; /* NULL: the client is gone */
        char *task_id;
} PendingRetry;

static void on_retry_hangup(HttpRequest *request, void *userdata) {
        PendingRetry *pending = userdata;
        pending->request = NULL;
}

static void retry_end(PendingRetry *pending, const Problem *problem) {
        HttpRequest *request = pending->request;
        if (request) {
                http_request_on_hangup(request, NULL, NULL);
                if (problem)
                        http_request_answer_problem(request, problem, NULL);
                else
                        describe_answer(&pending->queue->sources,
                                        request,
                                        202,
                                        pending->task_id,
                                        OUTPUT_FULL);
        }
        free(pending->task_id);
        free(pending);
}

static void on_retry_decided(const Problem *problem, void *userdata) {
        PendingRetry *pending = userdata;
        if (!problem)
                return;
        queue_leave_to_next(pending->queue, &pending->request, problem);
        retry_end(pending, problem);
}

static void on_retry_stored(int r, void *userdata) {
        Problem problem = {};
        if (r == -ENOENT)
                (void) problem_set(&problem, 404, NULL, "there is no task of this id");
        else if (r < 0)
                (void) problem_from_errno(&problem, r);
        retry_end(userdata, r < 0 ? &problem : NULL);
}

void route_task_retry(void *userdata, HttpRequest *request, const RequestContext *context) {
        static const RetryCallbacks callbacks = { .decided = on_retry_decided, .stored = on_retry_stored };
        PendingRetry *pending = calloc(1, sizeof(*pending));
        if (!pending) {
                describe_answer_error(request, -ENOMEM);
                return;
        }
        *pending = (PendingRetry) { .queue = userdata, .request = request };
        pending->task_id = strdup(context->match.parameters[0]);
        http_request_on_hangup(request, on_retry_hangup, pending);
        int r = pending->task_id ? retry_task(userdata, pending->task_id, &callbacks, pending) : -ENOMEM;
        if (r >= 0)
                return;
        Problem problem = {};
        (void) problem_from_errno(&problem, r);
        retry_end(pending, &problem);
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
        const char *task_id = context->match.parameters[0];
        Task *task = delivery_find_task(queue->delivery, task_id);
        if (task)
                live_output_answer(&queue->sources, task, request, stream, wanted.offset, wanted.follow);
        else
                stored_output_answer(&queue->sources, request, task_id, stream, wanted.offset);
}
