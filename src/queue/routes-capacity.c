/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/capacity.h"
#include "core/scheduling/impact.h"
#include "queue/queue.h"
#include "queue/routes.h"

/* What this queue may use now; kinds of which there are too many names are left out. */
static void sum_workers(const Queue *queue, Resources *ret_total, Resources *ret_free, size_t *ret_n) {
        Resources total = {}, free_amounts = {}, sum;
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        *ret_n = 0;
        for (size_t i = 0; i < queue->workers.n_workers; i++) {
                const Worker *worker = queue_worker_state(queue->workers.workers[i]);
                if (!worker_is_usable(worker, now_usec))
                        continue;
                (*ret_n)++;
                if (resources_add(&total, &worker->report.total, &sum) >= 0)
                        total = sum;
                if (resources_add(&free_amounts, &worker->report.free_amounts, &sum) >= 0)
                        free_amounts = sum;
        }
        *ret_total = total;
        *ret_free = free_amounts;
}

static int capacity_members(const Queue *queue, json_object *object) {
        size_t n_workers, n_waiting = scheduler_n_waiting(delivery_scheduler(queue->delivery));
        CapacityView view = {
                .n_queued = n_waiting,
                .n_running = scheduler_n_tasks(delivery_scheduler(queue->delivery)) - n_waiting,
                .draining = queue_is_draining(queue),
        };
        sum_workers(queue, &view.total, &view.free_amounts, &n_workers);
        int r = capacity_view_add(object, &view);
        return r < 0 ? r : json_add_u64(object, "workers", n_workers);
}

json_object *queue_capacity_json(const Queue *queue) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        return object && capacity_members(queue, object) >= 0 ? TAKE_PTR(object) : NULL;
}

void route_capacity(void *userdata, HttpRequest *request, const RequestContext *context) {
        http_request_answer_json(request, 200, queue_capacity_json(userdata));
}

void route_resources(void *userdata, HttpRequest *request, const RequestContext *context) {
        Resources total, free_amounts;
        size_t n_workers;
        json_object *object = NULL;
        sum_workers(userdata, &total, &free_amounts, &n_workers);
        (void) resources_to_json(&total, &object);
        http_request_answer_json(request, 200, object);
}

void route_impact(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        Problem problem = {};
        Resources want;
        json_object *object = NULL;
        if (impact_request_parse(&context->query, &want, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        const Worker *best = scheduler_least_impact(
                        delivery_scheduler(queue->delivery), &want, usec_now(CLOCK_BOOTTIME));
        int r = impact_to_json(&want, best ? &best->report.free_amounts : &(Resources) {}, &object);
        if (r >= 0)
                r = json_add_string(object, "worker", best ? best->id : NULL);
        http_request_answer_json(request, 200, r < 0 ? (json_object_put(object), NULL) : object);
}
