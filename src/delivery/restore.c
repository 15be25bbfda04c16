/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task that an earlier run of the queue left behind is taken up where it was. */

#include <string.h>

#include "base/text.h"
#include "delivery/delivery-internal.h"

static int add_task(Delivery *delivery, const StoredTask *row, const Moment *now, Task **ret) {
        _cleanup_(task_freep) Task *owned = NULL;
        int r = task_new(delivery, row->task_id, row->seq, &owned);
        if (r >= 0)
                r = task_keep_spec(owned, row->spec);
        if (r >= 0)
                r = task_table_add(&delivery->tasks, owned);
        if (r < 0)
                return r;
        Task *task = *ret = TAKE_PTR(owned);
        task->submit_usec = row->submit_usec;
        task->queue_usec = row->queue_usec;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        r = delivery_parse_spec(delivery, row->spec, row->task_id, &spec);
        if (r >= 0)
                r = task_schedule(task, spec, now);
        if (r < 0)
                return r;
        task->scheduled->n_retries = row->retries;
        task->scheduled->n_losses = row->losses;
        return 0;
}

static bool may_be_running(const StoredAttempt *attempt) {
        return attempt && (attempt->state == STORED_ATTEMPT_SENT || attempt->state == STORED_ATTEMPT_RUNNING);
}

/* A worker that is not configured any more cannot be asked: what it had is given up after a while, as with
 * one that does not answer. */
static int find_worker(Delivery *delivery, const char *id, const Moment *now, DeliveryWorker **ret) {
        *ret = delivery_find_worker(delivery, id);
        return *ret ? 0 : delivery_add_worker(delivery, id, NULL, now, ret);
}

static int restore_attempt(
                Task *task,
                const StoredTask *row,
                const StoredAttempt *attempt,
                const Moment *now) {
        Delivery *delivery = task->delivery;
        DeliveryWorker *worker;
        int r = find_worker(delivery, attempt->worker_id, now, &worker);
        if (r < 0)
                return r;
        task_set_worker(task, worker);
        r = task_table_set_attempt(&delivery->tasks, task, attempt->runner_task_id);
        if (r >= 0)
                r = task_take_spec(task, row->spec); /* while it is at hand */
        if (r < 0)
                return r;
        scheduler_restore_attempt(
                        delivery->scheduler,
                        task->scheduled,
                        task->worker->scheduled,
                        attempt->runner_instance ?: "",
                        attempt->state != STORED_ATTEMPT_SENT,
                        attempt->unanswered,
                        now->boottime_usec);
        worker_touch(task->worker);
        return 0;
}

int delivery_restore_dependency(Delivery *delivery, const StoredDependency *dependency, const Moment *now) {
        Task *task = delivery_find_task(delivery, dependency->task_id);
        ScheduledState state = task ? task->scheduled->state : SCHEDULED_ENDED;
        if (!task || (state != SCHEDULED_WAITING && state != SCHEDULED_HELD)) /* stopped, perhaps */
                return 0;
        return task_restore_after(task, dependency->on_id, dependency->failed);
}

int delivery_restore(
                Delivery *delivery,
                const StoredTask *row,
                const StoredAttempt *attempt,
                const Moment *now) {
        Task *task;
        int r = add_task(delivery, row, now, &task);
        if (r < 0)
                return r;
        task->attempt_number = attempt ? attempt->number : 0;
        if (may_be_running(attempt))
                r = restore_attempt(task, row, attempt, now);
        else if (row->not_before_usec > now->realtime_usec)
                scheduler_restore_backoff(
                                delivery->scheduler,
                                task->scheduled,
                                usec_subtract(row->not_before_usec, now->realtime_usec),
                                now->boottime_usec);
        if (r >= 0 && row->stop_requested)
                scheduler_stop_task(delivery->scheduler, task->scheduled);
        return r;
}
