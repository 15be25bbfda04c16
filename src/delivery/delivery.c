/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The whole: what there is, and what a turn consists of. */

#include "delivery/delivery.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/container.h"
#include "base/text.h"
#include "delivery/delivery-internal.h"

#define CHECKED_WORKERS 8 /* in each turn */

int delivery_new(const DeliveryOptions *options, Delivery **ret) {
        _cleanup_(delivery_freep) Delivery *delivery = calloc(1, sizeof(*delivery));
        if (!delivery)
                return -ENOMEM;
        delivery->default_resources = options->default_resources;
        delivery->body_bytes_max = options->body_bytes_max;
        delivery->worker_port = options->worker_port;
        delivery->store_port = options->store_port;
        delivery->store = options->store;
        delivery->result_clock = options->result_clock;
        delivery->listener = options->listener;
        delivery->listener_userdata = options->listener_userdata;
        delivery->output_patience_usec = options->scheduler.lost_after_usec;
        delivery->queue_id = strdup(options->queue_id);
        if (!delivery->queue_id)
                return -ENOMEM;
        int r = scheduler_new(&options->scheduler, &delivery->scheduler);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(delivery);
        return 0;
}

Delivery *delivery_free(Delivery *delivery) {
        if (!delivery)
                return NULL;
        task_table_done(&delivery->tasks);
        for (size_t i = 0; i < delivery->n_workers; i++)
                free(delivery->workers[i]);
        free(delivery->workers);
        dependency_graph_done(&delivery->dependencies);
        deadline_heap_done(&delivery->task_deadlines);
        deadline_heap_done(&delivery->worker_deadlines);
        scheduler_free(delivery->scheduler);
        free(delivery->queue_id);
        free(delivery);
        return NULL;
}

Scheduler *delivery_scheduler(const Delivery *delivery) {
        return delivery->scheduler;
}

void task_set_worker(Task *task, DeliveryWorker *worker) {
        if (task->worker)
                task->worker->n_uses--;
        task->worker = worker;
        if (worker)
                worker->n_uses++;
}

void delivery_wake(const Delivery *delivery) {
        delivery->listener->wake(delivery->listener_userdata);
}

void delivery_log(const Delivery *delivery, int priority, int r, const char *format, ...) {
        char text[512];
        va_list arguments;
        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        delivery->listener->log(priority, r, text, delivery->listener_userdata);
}

void task_again(Task *task, TaskStep step, usec_t when_usec) {
        task->work.again = step;
        deadline_set(&task->delivery->task_deadlines, &task->work.deadline, when_usec);
        delivery_wake(task->delivery);
}

void worker_touch(DeliveryWorker *worker) {
        if (worker->touched)
                return;
        worker->touched = true;
        worker->next_touched = worker->delivery->first_touched;
        worker->delivery->first_touched = worker;
}

static Task *task_of_deadline(Deadline *deadline) {
        return container_of(deadline, Task, work.deadline);
}

static DeliveryWorker *worker_of_deadline(Deadline *deadline) {
        return container_of(deadline, DeliveryWorker, deadline);
}

static Deadline *take_deadline(DeadlineHeap *heap, const Moment *now) {
        Deadline *first = deadline_first(heap);
        if (!first || first->when_usec > now->boottime_usec)
                return NULL;
        deadline_clear(heap, first);
        return first;
}

static void take_deadlines(Delivery *delivery, const Moment *now) {
        Deadline *due;
        while ((due = take_deadline(&delivery->worker_deadlines, now)))
                worker_deadline(worker_of_deadline(due), now);
        while ((due = take_deadline(&delivery->task_deadlines, now))) {
                Task *task = task_of_deadline(due);
                TaskStep step = TAKE_PTR(task->work.again);
                step(task, 0, now);
        }
}

/* A worker is heard for as long as something may happen there that is ours. */
static void listen_to_workers(Delivery *delivery, const Moment *now) {
        DeliveryWorker *worker;
        while ((worker = delivery->first_touched)) {
                const Worker *state = &worker->scheduled->worker;
                delivery->first_touched = worker->next_touched;
                worker->touched = false;
                bool wanted = state->identity != WORKER_UNKNOWN &&
                                (*state->lease_id || state->n_attempts > 0);
                if (worker->port)
                        delivery->worker_port->listen(worker->port, wanted);
                worker_list_missed(worker, now);
        }
}

void delivery_run(Delivery *delivery, const Moment *now) {
        take_deadlines(delivery, now);
        delivery_take_settled(delivery, now);
        scheduler_run(delivery->scheduler, now->boottime_usec);
        delivery_take_actions(delivery, now);
        scheduler_check(delivery->scheduler, CHECKED_WORKERS);
        listen_to_workers(delivery, now);
}

static usec_t first_of(const DeadlineHeap *heap) {
        const Deadline *first = deadline_first(heap);
        return first ? first->when_usec : USEC_INFINITY;
}

usec_t delivery_deadline(const Delivery *delivery, const Moment *now) {
        if (delivery_settling_is_due(delivery))
                return now->boottime_usec;
        usec_t usec = scheduler_deadline(delivery->scheduler, now->boottime_usec),
               task_usec = first_of(&delivery->task_deadlines),
               worker_usec = first_of(&delivery->worker_deadlines);
        if (task_usec < usec)
                usec = task_usec;
        return worker_usec < usec ? worker_usec : usec;
}
