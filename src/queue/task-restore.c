/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taking up a task that an earlier run of the queue left behind. */

#include <string.h>

#include "base/text.h"
#include "queue/queue.h"

/* What stood on the wall clock, as far as it is still ahead. */
static usec_t boottime_of(usec_t realtime_usec) {
        return usec_add(usec_now(CLOCK_BOOTTIME), usec_subtract(realtime_usec, usec_now(CLOCK_REALTIME)));
}

static int add_to_scheduler(Queue *queue, Task *task, const StoredTask *row) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        int r = task_parse_spec(queue, row->spec, row->task_id, &spec);
        if (r >= 0)
                r = task_schedule(task, spec);
        if (r < 0)
                return r;
        task->scheduled->n_retries = row->retries;
        return 0;
}

static bool may_be_running(const StoredAttempt *attempt) {
        return attempt &&
                        (attempt->state == STORED_ATTEMPT_PLACED || attempt->state == STORED_ATTEMPT_SENT ||
                         attempt->state == STORED_ATTEMPT_RUNNING);
}

/* A worker that is not configured any more cannot be asked: what it had is given up after a while, as with
 * one that does not answer. */
static int find_worker(Queue *queue, const char *worker_id, ScheduledWorker **ret) {
        for (size_t i = 0; i < scheduler_n_workers(queue->scheduler); i++) {
                ScheduledWorker *worker = scheduler_worker(queue->scheduler, i);
                if (streq(worker->worker.id, worker_id)) {
                        *ret = worker;
                        return 0;
                }
        }
        return scheduler_add_worker(queue->scheduler, worker_id, usec_now(CLOCK_BOOTTIME), ret);
}

static int restore_attempt(Queue *queue, Task *task, const StoredAttempt *attempt) {
        ScheduledWorker *worker;
        int r = find_worker(queue, attempt->worker_id, &worker);
        if (r >= 0)
                r = task_table_set_attempt(&queue->tasks, task, attempt->runner_task_id);
        if (r < 0)
                return r;
        task->worker_id = worker->worker.id;
        scheduler_restore_attempt(
                        queue->scheduler,
                        task->scheduled,
                        worker,
                        attempt->runner_instance ?: "",
                        attempt->state != STORED_ATTEMPT_SENT && attempt->state != STORED_ATTEMPT_PLACED,
                        usec_now(CLOCK_BOOTTIME));
        return 0;
}

int task_restore(Queue *queue, const StoredTask *row, const StoredAttempt *attempt) {
        _cleanup_(task_freep) Task *owned = NULL;
        int r = task_new(queue, row->task_id, row->seq, &owned);
        if (r >= 0)
                r = task_table_add(&queue->tasks, owned);
        if (r < 0)
                return r;
        Task *task = TAKE_PTR(owned);
        task->submit_usec = row->submit_usec;
        task->queue_usec = row->queue_usec;
        task->attempt_number = attempt ? attempt->number : 0;
        r = add_to_scheduler(queue, task, row);
        if (r < 0)
                return r;
        if (row->state == STORED_RUNNING || (attempt && attempt->state == STORED_ATTEMPT_SENT))
                r = may_be_running(attempt) ? restore_attempt(queue, task, attempt) : 0;
        else if (row->not_before_usec > usec_now(CLOCK_REALTIME))
                scheduler_restore_backoff(
                                queue->scheduler, task->scheduled, boottime_of(row->not_before_usec));
        if (r >= 0 && row->stop_reason)
                scheduler_stop_task(queue->scheduler, task->scheduled);
        return r;
}
