/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "queue/queue.h"
#include "queue/routes.h"

static int add_amounts(json_object *object, const char *key, const Resources *amounts) {
        json_object *value;
        int r = resources_to_json(amounts, &value);
        return r < 0 ? r : json_add(object, key, value);
}

static int add_capacity(json_object *object, const Worker *worker) {
        if (worker->identity == WORKER_UNKNOWN)
                return json_add_null(object, "capacity");
        json_object *capacity = json_object_new_object();
        int r = json_add(object, "capacity", capacity);
        if (r >= 0)
                r = add_amounts(capacity, "total", &worker->report.total);
        return r < 0 ? r : add_amounts(capacity, "free", &worker->report.free_amounts);
}

/* Whose it is; ours without its id, which is a secret of the holder's. */
static int add_lease(json_object *object, const Queue *queue, const Worker *worker) {
        const char *holder = *worker->lease_id ? queue->address : worker->lease_holder;
        if (!*holder)
                return json_add_null(object, "lease");
        json_object *lease = json_object_new_object();
        int r = json_add(object, "lease", lease);
        if (r >= 0)
                r = json_add_string(lease, "queue", holder);
        return r < 0 ? r : json_add_bool(lease, "own", *worker->lease_id != 0);
}

static json_object *worker_json(const Queue *queue, const QueueWorker *link) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        const Worker *worker = queue_worker_state(link);
        int r = object ? json_add_string(object, "id", worker->id) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "url", queue_worker_config(link)->url);
        if (r >= 0)
                r = json_add_string(object, "source", worker_origin_to_string(link->origin));
        if (r >= 0)
                r = json_add_bool(object, "leaving", link->leaving);
        if (r >= 0)
                r = json_add_string(object, "state", worker_state_to_string(worker_state(worker)));
        if (r >= 0)
                r = json_add_bool(object, "permitted", worker->permitted);
        if (r >= 0)
                r = add_lease(object, queue, worker);
        if (r >= 0)
                r = add_capacity(object, worker);
        if (r >= 0)
                r = json_add_u64(object, "running", worker->n_attempts);
        return r < 0 ? NULL : TAKE_PTR(object);
}

void route_workers(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *workers = json_object_new_array();
        for (size_t i = 0; workers && i < queue->workers.n_workers; i++)
                if (json_append(workers, worker_json(queue, queue->workers.workers[i])) < 0) {
                        http_request_answer_json(request, 200, NULL);
                        return;
                }
        http_request_answer_json(request, 200, TAKE_PTR(workers));
}

/* A change that waits for the store. */
typedef struct PendingChange {
        Queue *queue;         /* weak */
        HttpRequest *request; /* NULL: the client is gone */
        int status;           /* of the answer when all is well */
        char worker_id[WORKER_ID_MAX + 1];
} PendingChange;

static void on_change_hangup(HttpRequest *request, void *userdata) {
        PendingChange *pending = userdata;
        pending->request = NULL;
}

/* A worker may be gone by the time that a change of it is on disk. */
static void answer_change(PendingChange *pending, const Problem *problem, const QueueWorker *worker) {
        Problem gone = {};
        if (!problem && !worker) {
                (void) problem_set(&gone, 404, NULL, "there is no worker of this id any more");
                problem = &gone;
        }
        if (problem)
                queue_leave_to_next(pending->queue, &pending->request, problem);
        HttpRequest *request = pending->request;
        if (request)
                http_request_on_hangup(request, NULL, NULL);
        if (request && problem)
                http_request_answer_problem(request, problem, NULL);
        else if (request)
                http_request_answer_json(request, pending->status, worker_json(pending->queue, worker));
        free(pending);
}

static PendingChange *pending_new(Queue *queue, HttpRequest *request, const char *worker_id, int status) {
        PendingChange *pending = calloc(1, sizeof(*pending));
        if (!pending)
                return NULL;
        *pending = (PendingChange) { .queue = queue, .request = request, .status = status };
        (void) strncpy(pending->worker_id, worker_id, WORKER_ID_MAX);
        http_request_on_hangup(request, on_change_hangup, pending);
        return pending;
}

/* It was not begun. */
static void pending_refuse(PendingChange *pending, HttpRequest *request, const Problem *problem) {
        free(pending);
        http_request_on_hangup(request, NULL, NULL);
        http_request_answer_problem(request, problem, NULL);
}

/* ── disabled, or not ── */

static void on_disabled_stored(int r, const Moment *now, void *userdata) {
        PendingChange *pending = userdata;
        Problem problem = {};
        if (r < 0)
                (void) problem_from_errno(&problem, r);
        answer_change(pending,
                      r < 0 ? &problem : NULL,
                      workers_find(&pending->queue->workers, pending->worker_id));
}

static int store_disabled(Queue *queue, const QueueWorker *worker, PendingChange *pending) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        StoredWorker row = queue_worker_row(worker);
        (void) store_batch_put_worker(batch, &row);
        return queue->store_port->commit(queue->store, batch, on_disabled_stored, pending);
}

void route_worker_set(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        bool disabled = false;
        const char *worker_id = context->match.parameters[0];
        QueueWorker *worker = workers_find(&queue->workers, worker_id);
        int r = worker ? 0 : problem_set(&problem, 404, NULL, "there is no worker of this id");
        if (r >= 0)
                r = request_parse_switch(request, "disabled", &disabled, &problem);
        if (r >= 0 && workers_is_changing(&queue->workers, worker_id))
                r = problem_set_for_now(&problem, 503, 1, "another request is changing this worker");
        if (r < 0 || !worker) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        scheduler_set_disabled(http_worker_scheduled(worker->http), disabled, usec_now(CLOCK_BOOTTIME));
        queue_run_soon(queue);
        PendingChange *pending = pending_new(queue, request, worker_id, 200);
        r = pending ? store_disabled(queue, worker, pending) : -ENOMEM;
        if (r >= 0)
                return;
        (void) problem_from_errno(&problem, r);
        pending_refuse(pending, request, &problem);
}

/* ── those that come and go by themselves ── */

static void on_changed(const Problem *problem, const QueueWorker *worker, bool created, void *userdata) {
        PendingChange *pending = userdata;
        if (created)
                pending->status = 201;
        answer_change(pending, problem, worker);
}

static int join(Queue *queue, HttpRequest *request, WorkerConfig *config, Problem *problem) {
        PendingChange *pending = pending_new(queue, request, config->id, 200);
        if (!pending)
                return problem_from_errno(problem, -ENOMEM);
        int r = workers_join(&queue->workers, config, on_changed, pending, problem);
        if (r < 0)
                free(pending);
        return r;
}

void route_worker_join(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        _cleanup_(worker_config_done) WorkerConfig config = {};
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = worker_config_read_joining(body, &config, &problem);
        if (r >= 0)
                r = join(queue, request, &config, &problem);
        if (r >= 0)
                return;
        http_request_on_hangup(request, NULL, NULL);
        http_request_answer_problem(request, &problem, NULL);
}

void route_worker_leave(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        const char *worker_id = context->match.parameters[0];
        PendingChange *pending = pending_new(queue, request, worker_id, 202);
        int r = pending ? workers_leave(&queue->workers, worker_id, on_changed, pending, &problem) :
                          problem_from_errno(&problem, -ENOMEM);
        if (r < 0)
                pending_refuse(pending, request, &problem);
}
