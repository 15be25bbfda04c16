/* SPDX-License-Identifier: LGPL-2.1-or-later */

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

static json_object *worker_json(const Queue *queue, const HttpWorker *link) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        const Worker *worker = &http_worker_scheduled(link)->worker;
        int r = object ? json_add_string(object, "id", worker->id) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "url", http_worker_config(link)->url);
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
        HttpWorker *worker;   /* weak */
} PendingChange;

static void on_change_hangup(HttpRequest *request, void *userdata) {
        PendingChange *pending = userdata;
        pending->request = NULL;
}

static void on_changed(int r, const Moment *now, void *userdata) {
        PendingChange *pending = userdata;
        if (pending->request) {
                http_request_on_hangup(pending->request, NULL, NULL);
                if (r < 0) {
                        Problem problem = {};
                        (void) problem_from_errno(&problem, r);
                        http_request_answer_problem(pending->request, &problem, NULL);
                } else
                        http_request_answer_json(
                                        pending->request, 200, worker_json(pending->queue, pending->worker));
        }
        free(pending);
}

static int store_disabled(Queue *queue, const Worker *worker, PendingChange *pending) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        (void) store_batch_put_worker(
                        batch, &(StoredWorker){ .worker_id = worker->id, .disabled = worker->disabled });
        return queue->store_port->commit(queue->store, batch, on_changed, pending);
}

void route_worker_set(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        bool disabled = false;
        HttpWorker *link = workers_find(&queue->workers, context->match.parameters[0]);
        int r = link ? 0 : problem_set(&problem, 404, NULL, "there is no worker of this id");
        if (r >= 0)
                r = request_parse_switch(request, "disabled", &disabled, &problem);
        if (r < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        ScheduledWorker *worker = http_worker_scheduled(link);
        scheduler_set_disabled(worker, disabled, usec_now(CLOCK_BOOTTIME));
        queue_run_soon(queue);
        PendingChange *pending = malloc(sizeof(*pending));
        r = -ENOMEM;
        if (pending) {
                *pending = (PendingChange){ .queue = queue, .request = request, .worker = link };
                http_request_on_hangup(request, on_change_hangup, pending);
                r = store_disabled(queue, &worker->worker, pending);
        }
        if (r >= 0)
                return;
        free(pending);
        http_request_on_hangup(request, NULL, NULL);
        (void) problem_from_errno(&problem, r);
        http_request_answer_problem(request, &problem, NULL);
}
