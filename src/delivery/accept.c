/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A new task, or one that is tried again: stored first, then told that it is accepted, and waiting in the
 * scheduler. */

#include <string.h>

#include "delivery/delivery-internal.h"

size_t delivery_n_uncommitted(const Delivery *delivery) {
        return delivery->n_uncommitted;
}

/* What the queue puts into the body for a worker, at most: the name of its label, and "when_full". */
#define ADDED_BYTES_MAX 256

/* The body for the worker is made only for a task that is near the limit. */
static int check_size(const Delivery *delivery, const Task *task) {
        if (strlen(task->spec_text) + strlen(delivery->queue_id) + ADDED_BYTES_MAX <=
            delivery->body_bytes_max)
                return 0;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(freep) char *body = NULL;
        int r = delivery_parse_submission(delivery, task->spec_text, task->task_id, &spec, &body);
        if (r < 0)
                return r;
        return strlen(body) > delivery->body_bytes_max ? -EMSGSIZE : 0;
}

static int new_task(Delivery *delivery, const NewTask *wanted, const Moment *now, Task **ret) {
        _cleanup_(task_freep) Task *task = NULL;
        uint64_t seq = delivery->store_port->next_seq(delivery->store);
        if (seq == 0)
                return -EAGAIN;
        int r = task_new(delivery, wanted->task_id, seq, &task);
        if (r >= 0)
                r = queue_spec_to_stored(wanted->spec, wanted->body, &task->spec_text);
        if (r >= 0)
                r = check_size(delivery, task);
        if (r < 0)
                return r;
        task->submit_usec = task->queue_usec = now->realtime_usec;
        *ret = TAKE_PTR(task);
        return 0;
}

int delivery_add_task(Delivery *delivery, Task *new_task) {
        int r = task_table_add(&delivery->tasks, new_task);
        if (r >= 0)
                delivery->n_uncommitted++;
        return r;
}

int delivery_put_task(
                Delivery *delivery,
                const NewTask *wanted,
                StoreBatch *batch,
                const Moment *now,
                Task **ret) {
        _cleanup_(task_freep) Task *task = NULL;
        int r = new_task(delivery, wanted, now, &task);
        if (r < 0)
                return r;
        r = task_set_after(task, wanted->spec->after, wanted->after, batch);
        if (r < 0)
                return r;
        r = store_batch_put_task(
                        batch,
                        &(StoredTask) {
                                        .seq = task->seq,
                                        .task_id = task->task_id,
                                        .state = STORED_QUEUED,
                                        .priority = wanted->spec->priority,
                                        .submit_usec = task->submit_usec,
                                        .queue_usec = task->queue_usec,
                                        .spec = task->spec_text,
                        },
                        wanted->spec->task->labels);
        if (r >= 0)
                r = delivery_add_task(delivery, task);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(task);
        return 0;
}

static int schedule(Task *task, const Moment *now) {
        Delivery *delivery = task->delivery;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        int r = delivery_parse_spec(delivery, task->spec_text, task->task_id, &spec);
        if (r >= 0)
                r = task_schedule(task, spec, now);
        if (r < 0)
                return r;
        if (strlen(task->spec_text) > SPEC_KEPT_MAX)
                free(TAKE_PTR(task->spec_text));
        delivery->n_uncommitted--;
        task_hold_if_after(task);
        delivery->listener->queued(
                        task,
                        task->work.is_retried ? REASON_RETRY : REASON_NONE,
                        delivery->listener_userdata);
        task->work.is_retried = false;
        if (task->work.stop_early)
                scheduler_stop_task(delivery->scheduler, task->scheduled);
        delivery_wake(delivery);
        return 0;
}

/* On disk but not schedulable for want of memory: it is answered as accepted, which it is, and tried again
 * until there is room for it. */
static void schedule_or_again(Task *task, int r, const Moment *now) {
        if (schedule(task, now) < 0)
                task_again(task, schedule_or_again, usec_add(now->boottime_usec, AGAIN_USEC));
}

static void refuse(Task *task) {
        task->delivery->n_uncommitted--;
        task_table_remove(&task->delivery->tasks, task);
}

/* The new tasks that wait for their batch. */
typedef struct Acceptance {
        StoreDone done;
        void *userdata;
        size_t n_tasks;
        Task *tasks[];
} Acceptance;

static void on_committed(int r, const Moment *now, void *userdata) {
        Acceptance *acceptance = userdata;
        for (size_t i = 0; i < acceptance->n_tasks; i++) {
                if (r >= 0)
                        schedule_or_again(acceptance->tasks[i], 0, now);
                else
                        refuse(acceptance->tasks[i]);
        }
        acceptance->done(r, now, acceptance->userdata);
        free(acceptance);
}

void delivery_accept(
                Delivery *delivery,
                StoreBatch *batch,
                Task *const *tasks,
                size_t n,
                StoreDone done,
                void *userdata,
                const Moment *now) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        Acceptance *acceptance = calloc(1, sizeof(*acceptance) + n * sizeof(Task *));
        int r = acceptance ? 0 : -ENOMEM;
        if (r >= 0) {
                acceptance->done = done;
                acceptance->userdata = userdata;
                acceptance->n_tasks = n;
                if (n > 0)
                        memcpy(acceptance->tasks, tasks, n * sizeof(Task *));
                r = delivery->store_port->commit(delivery->store, TAKE_PTR(owned), on_committed, acceptance);
        }
        if (r >= 0)
                return;
        free(acceptance);
        for (size_t i = 0; i < n; i++)
                refuse(tasks[i]);
        done(r, now, userdata);
}

static void on_stop_stored(int r, const Moment *now, void *userdata) {
        task_written(userdata, r, now);
}

/* So that a restart does not start what a client wants stopped. */
static void store_stop(Task *task) {
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        StoredTask row = task_row(task, task_is_running(task) ? STORED_RUNNING : STORED_QUEUED);
        row.stop_requested = true;
        (void) store_batch_update_task(batch, &row);
        (void) task_commit(task, batch, on_stop_stored);
}

bool task_is_to_stop(const Task *task) {
        const ScheduledTask *scheduled = task->scheduled;
        return scheduled ? scheduled->stop_requested || scheduled->state == SCHEDULED_ENDED :
                           task->work.stop_early;
}

void delivery_stop_task(Delivery *delivery, Task *task, const Moment *now) {
        if (task_is_to_stop(task))
                return;
        if (!task->scheduled) {
                task->work.stop_early = true;
                return;
        }
        store_stop(task);
        scheduler_stop_task(delivery->scheduler, task->scheduled);
        delivery_wake(delivery);
}
