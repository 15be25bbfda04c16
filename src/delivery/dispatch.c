/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Carries out what the scheduler decides. What changes a task is on disk before anybody else hears of it. */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

/* What of a task's own id is kept in the ids of its attempts, so that people recognise it at the worker. */
#define ID_KEPT_MAX 100

static Task *action_task(const SchedulerAction *action) {
        return action->task->userdata;
}

/* ── an attempt that was not the last ── */

static int put_ended(const Task *task, StoreBatch *batch) {
        const EndedAttempt *ended = task->work.ended;
        StoredTask row = task_row(task, STORED_QUEUED);
        int r = store_batch_put_attempt(
                        batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = ended->number,
                                        .state = ended->state,
                                        .worker_id = delivery_worker_id(ended->worker),
                                        .runner_task_id = ended->attempt_id,
                                        .finish_usec = ended->finish_usec,
                                        .attempt = ended->attempt_json,
                        });
        row.not_before_usec = ended->not_before_usec;
        return r < 0 ? r : store_batch_update_task(batch, &row);
}

void task_ended_free(Task *task) {
        EndedAttempt *ended = TAKE_PTR(task->work.ended);
        if (ended)
                free(ended->attempt_json);
        free(ended);
}

/* One that was refused is not there. One that is lost may be, and is found by listing. */
static void ended_stored(Task *task, const Moment *now) {
        const EndedAttempt *ended = task->work.ended;
        if (ended->state == STORED_ATTEMPT_FINISHED && !ended->keep)
                scheduler_end_stored(
                                task->delivery->scheduler,
                                task->scheduled,
                                ended->worker->scheduled,
                                ended->attempt_id,
                                now->boottime_usec);
        task_ended_free(task);
        delivery_wake(task->delivery);
}

void task_resend_ended(const Task *task, StoreBatch *batch) {
        EndedAttempt *ended = task->work.ended;
        if (ended && ended->failed)
                ended->resent = put_ended(task, batch) >= 0;
}

void task_ended_resent(Task *task, int r, const Moment *now) {
        EndedAttempt *ended = task->work.ended;
        if (!ended || !ended->resent)
                return;
        ended->resent = false;
        if (r >= 0)
                ended_stored(task, now);
}

/* ── a worker for it ── */

static int new_attempt_id(const Task *task, char ret[static ATTEMPT_ID_MAX + 1]) {
        const Delivery *delivery = task->delivery;
        char random[DELIVERY_ID_SIZE];
        int r = delivery->listener->random(random, delivery->listener_userdata);
        if (r < 0)
                return r;
        (void) snprintf(ret, ATTEMPT_ID_MAX + 1, "%.*s.%s", ID_KEPT_MAX, task->task_id, random);
        return 0;
}

/* What keeps it from being sent is ours, and no fault of the worker's: it waits again, and that a little. */
static void report_unsubmitted(Task *task, int r, const Moment *now) {
        if (task->scheduled->state == SCHEDULED_SENDING && !task->work.submit_call)
                scheduler_submit_done(
                                task->delivery->scheduler, task->scheduled, SUBMIT_BUSY, now->boottime_usec);
}

static void report_no_worker(Task *task, int r, const Moment *now) {
        if (task->scheduled->state == SCHEDULED_SENDING)
                scheduler_submit_done(
                                task->delivery->scheduler, task->scheduled, SUBMIT_UNKNOWN, now->boottime_usec);
}

static void submit_step(Task *task, int r, const Moment *now) {
        if (task->scheduled->state != SCHEDULED_SENDING || task->work.submit_call || task->work.n_placing > 0)
                return;
        if (r >= 0)
                r = task_submit(task, now);
        if (r >= 0)
                return;
        delivery_log(task->delivery, PRIORITY_WARNING, r, "Cannot submit task \"%s\"", task->task_id);
        task_again(task, report_unsubmitted, now->boottime_usec);
}

/* If it was given up while the disk was slow, this is no more about its present attempt. */
static void on_placed(int r, const Moment *now, void *userdata) {
        Task *task = userdata;
        task_written(task, now);
        task->work.n_placing--;
        task_ended_resent(task, r, now);
        if (task->work.n_placing > 0 || task->scheduled->state != SCHEDULED_SENDING)
                return;
        if (r >= 0) {
                task_with_spec(task, false, submit_step, now);
                return;
        }
        delivery_log(task->delivery, PRIORITY_ERROR, r, "Cannot store where task \"%s\" goes", task->task_id);
        task_again(task, report_unsubmitted, now->boottime_usec);
}

static int place(Task *task, const Moment *now) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        char attempt_id[ATTEMPT_ID_MAX + 1];
        int r = new_attempt_id(task, attempt_id);
        if (r >= 0)
                r = task_table_set_attempt(&task->delivery->tasks, task, attempt_id);
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r < 0)
                return r;
        StoredAttempt row = task_attempt_row(task, STORED_ATTEMPT_SENT);
        row.place_usec = now->realtime_usec;
        task_resend_ended(task, batch);
        (void) store_batch_put_attempt(batch, task->seq, &row);
        r = task_commit(task, TAKE_PTR(batch), on_placed);
        if (r >= 0)
                task->work.n_placing++;
        return r;
}

static void take_place(const SchedulerAction *action, const Moment *now) {
        Task *task = action_task(action);
        task->worker = action->worker->userdata;
        task->work.finish_seen = false;
        /* A refused attempt never was one: its number is given again. */
        if (task->scheduled->reason != REASON_REFUSED || task->attempt_number == 0)
                task->attempt_number++;
        int r = place(task, now);
        if (r >= 0)
                return;
        delivery_log(task->delivery, PRIORITY_ERROR, r, "Cannot store where task \"%s\" goes", task->task_id);
        task_again(task, report_unsubmitted, now->boottime_usec);
}

static void take_resubmit(const SchedulerAction *action, const Moment *now) {
        Task *task = action_task(action);
        if (task->worker->port)
                task_with_spec(task, false, submit_step, now);
        else /* it is not configured any more, and only in the books for what it had */
                task_again(task, report_no_worker, now->boottime_usec);
}

static void on_ended(bool reached, const Moment *now, void *userdata) {
        if (!reached) /* what is still there is found by listing */
                worker_list(userdata, now);
}

static void stop_attempt(DeliveryWorker *worker, const char *attempt_id) {
        if (worker->port && attempt_id)
                (void) worker->delivery->worker_port->stop(worker->port, attempt_id, on_ended, worker);
}

void task_stop_attempt(const Task *task) {
        stop_attempt(task->worker, task->attempt_id);
}

/* ── the attempt is over ── */

void delivery_release_attempt(
                DeliveryWorker *worker,
                const char *task_id,
                const char *attempt_id,
                const Moment *now) {
        Delivery *delivery = worker->delivery;
        const Task *task = delivery_find_task(delivery, task_id);
        EndedAttempt *ended = task ? task->work.ended : NULL;
        if (ended && streq(ended->attempt_id, attempt_id))
                ended->keep = false;
        else
                scheduler_listing_stray(
                                delivery->scheduler, worker->scheduled, attempt_id, true, now->boottime_usec);
        delivery_wake(delivery);
}

static void on_requeued(int r, const Moment *now, void *userdata) {
        Task *task = userdata;
        task_written(task, now);
        if (--task->work.n_requeuing > 0 || !task->work.ended)
                return;
        if (r >= 0) {
                ended_stored(task, now);
                return;
        }
        task->work.ended->failed = true;
        delivery_log(task->delivery,
                     PRIORITY_ERROR,
                     r,
                     "Cannot store yet that task \"%s\" waits again",
                     task->task_id);
}

/* What is kept of an attempt that did not become the result, as text; NULL where that cannot be told. */
static char *describe_ended(const Task *task, const Moment *now) {
        _cleanup_(json_putp) json_object *object = NULL;
        char *text = NULL;
        if (!task->work.spec)
                return NULL;
        QueueAttempt frame = task_frame(task, task->work.spec);
        json_object *told = task->work.fetch ? task_fetch_attempt(task->work.fetch) : NULL;
        int r;
        if (told && task->scheduled->reason == REASON_RETRY) {
                object = json_object_get(told);
                r = queue_attempt_adopt(object, &frame);
        } else
                r = queue_attempt_new(&frame, QUEUE_END_LOST, task->unit, NULL, now->realtime_usec, &object);
        return r >= 0 && json_format(object, &text, NULL) >= 0 ? text : NULL;
}

static int note_ended(Task *task, const Moment *now) {
        ScheduledReason reason = task->scheduled->reason;
        size_t size = strlen(task->attempt_id) + 1;
        EndedAttempt *ended = calloc(1, sizeof(*ended) + size);
        if (!ended)
                return -ENOMEM;
        *ended = (EndedAttempt){
                .number = task->attempt_number,
                .state = reason == REASON_REFUSED ? STORED_ATTEMPT_REFUSED :
                                reason == REASON_RETRY ? STORED_ATTEMPT_FINISHED :
                                                         STORED_ATTEMPT_LOST,
                .worker = task->worker,
                .finish_usec = now->realtime_usec,
                .attempt_json = reason == REASON_REFUSED ? NULL : describe_ended(task, now),
        };
        memcpy(ended->attempt_id, task->attempt_id, size);
        if (task->scheduled->state == SCHEDULED_BACKOFF)
                ended->not_before_usec = now->realtime_usec +
                                usec_subtract(task->scheduled->deadline.when_usec, now->boottime_usec);
        task_ended_free(task);
        task->work.ended = ended;
        return 0;
}

static void store_requeue(Task *task, const Moment *now) {
        StoreBatch *batch = NULL;
        int r = task->attempt_id ? note_ended(task, now) : -ENOENT;
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r >= 0) {
                (void) put_ended(task, batch);
                r = task_commit(task, batch, on_requeued);
        }
        if (r >= 0)
                task->work.n_requeuing++;
        else if (task->work.ended)
                task->work.ended->failed = true;
        if (r < 0 && r != -ENOENT) /* after a restart it is found out again at the worker */
                delivery_log(task->delivery,
                             PRIORITY_ERROR,
                             r,
                             "Cannot store that task \"%s\" waits again",
                             task->task_id);
}

static void log_requeue(const Task *task) {
        delivery_log(task->delivery,
                     PRIORITY_NOTICE,
                     0,
                     task->scheduled->reason == REASON_RETRY ?
                                     "Task \"%s\" failed at worker \"%s\" and is tried again" :
                                     "Task \"%s\" was lost with worker \"%s\" and waits again",
                     task->task_id,
                     delivery_worker_id(task->worker));
}

static void take_requeue(const SchedulerAction *action, const Moment *now) {
        Task *task = action_task(action);
        Delivery *delivery = task->delivery;
        const DeliveryListener *listener = delivery->listener;
        ScheduledReason reason = task->scheduled->reason;
        if (reason != REASON_REFUSED) {
                task->queue_usec = now->realtime_usec;
                log_requeue(task);
        }
        store_requeue(task, now);
        if (reason == REASON_RETRY && task->work.ended)
                task->work.ended->keep = listener->attempt_ended(task, delivery->listener_userdata);
        else if (reason != REASON_REFUSED)
                listener->attempt_gone(task, delivery->listener_userdata);
        worker_touch(task->worker);
        task_leave_worker(task);
        if (reason != REASON_REFUSED)
                listener->queued(task, reason, delivery->listener_userdata);
}

/* ── at the worker ── */

static void take_forget(const SchedulerAction *action) {
        DeliveryWorker *worker = action->worker->userdata;
        if (worker->port)
                (void) worker->delivery->worker_port->forget(
                                worker->port, action->attempt_id, on_ended, worker);
}

static void take_action(const SchedulerAction *action, const Moment *now) {
        if (action->worker)
                worker_touch(action->worker->userdata);
        switch (action->type) {
        case ACTION_REQUEUE:
                take_requeue(action, now);
                break;
        case ACTION_PLACE:
                take_place(action, now);
                break;
        case ACTION_RESUBMIT:
                take_resubmit(action, now);
                break;
        case ACTION_STOP:
                task_stop_attempt(action_task(action));
                break;
        case ACTION_FINISH:
                task_finish_begin(action_task(action), 0, now);
                break;
        case ACTION_CALL:
                worker_call(action->worker->userdata, action->call, now);
                break;
        case ACTION_FORGET:
                take_forget(action);
                break;
        case ACTION_STOP_STRAY:
                stop_attempt(action->worker->userdata, action->attempt_id);
                break;
        }
}

void delivery_take_actions(Delivery *delivery, const Moment *now) {
        SchedulerAction action;
        while (scheduler_next_action(delivery->scheduler, &action))
                take_action(&action, now);
}
