/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How workers come, move and go. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "delivery/delivery-internal.h"

static int worker_new(Delivery *delivery, const char *id, const Moment *now, DeliveryWorker **ret) {
        int r = deadline_heap_reserve(&delivery->worker_deadlines, delivery->n_workers + 1);
        if (r < 0)
                return r;
        DeliveryWorker **workers = reallocarray(
                        delivery->workers, delivery->n_workers + 1, sizeof(DeliveryWorker *));
        if (!workers)
                return -ENOMEM;
        delivery->workers = workers;
        _cleanup_(freep) DeliveryWorker *worker = calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;
        r = scheduler_add_worker(delivery->scheduler, id, now->boottime_usec, &worker->scheduled);
        if (r < 0)
                return r;
        worker->delivery = delivery;
        worker->scheduled->userdata = worker;
        workers[delivery->n_workers++] = worker;
        delivery->n_unconfigured++;
        *ret = TAKE_PTR(worker);
        return 0;
}

int delivery_add_worker(
                Delivery *delivery,
                const char *id,
                void *port,
                const Moment *now,
                DeliveryWorker **ret) {
        DeliveryWorker *worker = delivery->n_unconfigured > 0 ? delivery_find_worker(delivery, id) : NULL;
        if (worker && !worker->port) {
                delivery_move_worker(worker, now);
                delivery_set_leaving(worker, false, now);
        } else {
                int r = worker_new(delivery, id, now, &worker);
                if (r < 0)
                        return r;
        }
        if (port)
                delivery->n_unconfigured--;
        worker->port = port;
        *ret = worker;
        delivery_wake(delivery);
        return 0;
}

/* The scheduler's call may have arrived where the worker was. */
static void give_up_call(DeliveryWorker *worker, const Moment *now) {
        const WorkerPort *port = worker->delivery->worker_port;
        bool under_way = worker->call || worker->call_unmade;
        if (worker->call)
                port->cancel(TAKE_PTR(worker->call));
        worker->call_unmade = false;
        if (under_way)
                scheduler_call_failed(worker->delivery->scheduler, worker->scheduled, now->boottime_usec);
}

static void give_up_listing(DeliveryWorker *worker) {
        const WorkerPort *port = worker->delivery->worker_port;
        if (worker->probe_call)
                port->cancel(TAKE_PTR(worker->probe_call));
        if (worker->list_call)
                port->cancel(TAKE_PTR(worker->list_call));
        worker->list_again = worker->list_due = false;
}

void delivery_move_worker(DeliveryWorker *worker, const Moment *now) {
        give_up_call(worker, now);
        give_up_listing(worker);
        scheduler_move_worker(worker->delivery->scheduler, worker->scheduled, now->boottime_usec);
        worker_touch(worker);
        delivery_wake(worker->delivery);
}

void delivery_set_leaving(DeliveryWorker *worker, bool leaving, const Moment *now) {
        scheduler_set_leaving(worker->scheduled, leaving, now->boottime_usec);
        worker_touch(worker);
        delivery_wake(worker->delivery);
}

bool delivery_worker_has_left(const DeliveryWorker *worker) {
        return scheduler_worker_has_left(worker->scheduled) && worker->n_uses == 0 && !worker->call_unmade;
}

static void untouch(DeliveryWorker *worker) {
        for (DeliveryWorker **place = &worker->delivery->first_touched; *place;
             place = &(*place)->next_touched)
                if (*place == worker) {
                        *place = worker->next_touched;
                        return;
                }
}

void delivery_remove_worker(DeliveryWorker *worker) {
        Delivery *delivery = worker->delivery;
        assert(delivery_worker_has_left(worker));
        assert(worker->port);

        give_up_listing(worker);
        deadline_clear(&delivery->worker_deadlines, &worker->deadline);
        untouch(worker);
        size_t i = 0;
        while (delivery->workers[i] != worker)
                i++;
        delivery->workers[i] = delivery->workers[--delivery->n_workers];
        scheduler_remove_worker(delivery->scheduler, worker->scheduled);
        free(worker);
}

ScheduledWorker *delivery_worker_scheduled(const DeliveryWorker *worker) {
        return worker->scheduled;
}

void *delivery_worker_port(const DeliveryWorker *worker) {
        return worker->port;
}

const char *delivery_worker_id(const DeliveryWorker *worker) {
        return worker->scheduled->worker.id;
}

DeliveryWorker *delivery_find_worker(const Delivery *delivery, const char *id) {
        for (size_t i = 0; i < delivery->n_workers; i++)
                if (streq(delivery_worker_id(delivery->workers[i]), id))
                        return delivery->workers[i];
        return NULL;
}
