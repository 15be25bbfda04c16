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
        assert(action->task);
        return action->task->userdata;
}

static DeliveryWorker *action_worker(const SchedulerAction *action) {
        assert(action->worker);
        return action->worker->userdata;
}

/* ── an attempt that was not the last ── */

/* Also what is in an earlier write: that may fail, and this one not. */
void task_put_ended(Task *task, StoreBatch *batch) {
        for (EndedAttempt *ended = task->work.ended; ended; ended = ended->next) {
                ended->write = task->work.n_writes_begun + 1;
                (void) store_batch_put_attempt(
                                batch,
                                task->seq,
                                &(StoredAttempt) {
                                                .number = ended->number,
                                                .state = ended->state,
                                                .worker_id = delivery_worker_id(ended->worker),
                                                .runner_task_id = ended->attempt_id,
                                                .finish_usec = ended->finish_usec,
                                                .attempt = ended->attempt_json,
                                });
        }
}

static void ended_free(Delivery *delivery, EndedAttempt *ended) {
        *(ended->previous_all ? &ended->previous_all->next_all : &delivery->first_ended) = ended->next_all;
        if (ended->next_all)
                ended->next_all->previous_all = ended->previous_all;
        ended->worker->n_uses--;
        free(ended->attempt_json);
        free(ended);
}

void task_ended_free(Task *task) {
        EndedAttempt *ended;
        while ((ended = task->work.ended)) {
                task->work.ended = ended->next;
                ended_free(task->delivery, ended);
        }
}

bool delivery_has_ended(const Delivery *delivery, const char *attempt_id) {
        for (const EndedAttempt *ended = delivery->first_ended; ended; ended = ended->next_all)
                if (streq(ended->attempt_id, attempt_id))
                        return true;
        return false;
}

/* One that was refused is not at its worker. One that is lost may be, and is found by listing. */
static void ended_stored(const Task *task, const EndedAttempt *ended, const Moment *now) {
        if (ended->state == STORED_ATTEMPT_FINISHED && !ended->keep)
                scheduler_end_stored(
                                task->delivery->scheduler,
                                task->scheduled,
                                ended->worker->scheduled,
                                ended->attempt_id,
                                now->boottime_usec);
        delivery_wake(task->delivery);
}

void task_ended_written(Task *task, uint64_t write, int r, const Moment *now) {
        for (EndedAttempt **place = &task->work.ended, *ended; (ended = *place);) {
                if (ended->write == write && r >= 0) {
                        ended_stored(task, ended, now);
                        *place = ended->next;
                        ended_free(task->delivery, ended);
                        continue;
                }
                if (ended->write == write)
                        ended->write = 0;
                place = &ended->next;
        }
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

/* What keeps it from being sent is ours, and says nothing of what was sent before. */
static void report_unsubmitted(Task *task, int r, const Moment *now) {
        if (task->scheduled->state == SCHEDULED_SENDING && !task->work.submit_call)
                scheduler_submit_done(
                                task->delivery->scheduler,
                                task->scheduled,
                                SUBMIT_UNSENT,
                                now->boottime_usec);
}

static void report_no_worker(Task *task, int r, const Moment *now) {
        if (task->scheduled->state == SCHEDULED_SENDING)
                scheduler_submit_done(
                                task->delivery->scheduler,
                                task->scheduled,
                                SUBMIT_UNKNOWN,
                                now->boottime_usec);
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
        task_written(task, r, now);
        task->work.n_placing--;
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
        if (task->attempt_number > 1) { /* in case that could not be stored before */
                StoredTask task_state = task_row(task, STORED_QUEUED);
                (void) store_batch_update_task(batch, &task_state);
        }
        (void) store_batch_put_attempt(batch, task->seq, &row);
        r = task_commit(task, TAKE_PTR(batch), on_placed);
        if (r >= 0)
                task->work.n_placing++;
        return r;
}

/* A refused attempt never was one: its number is given again, and what was to be said of it is not. */
static void drop_refused(Task *task) {
        for (EndedAttempt **place = &task->work.ended, *ended; (ended = *place);) {
                if (ended->state != STORED_ATTEMPT_REFUSED || ended->number != task->attempt_number) {
                        place = &ended->next;
                        continue;
                }
                *place = ended->next;
                ended_free(task->delivery, ended);
        }
}

static void take_place(const SchedulerAction *action, const Moment *now) {
        Task *task = action_task(action);
        task_set_worker(task, action_worker(action));
        task->work.finish_seen = false;
        if (task->scheduled->reason != REASON_REFUSED || task->attempt_number == 0)
                task->attempt_number++;
        drop_refused(task);
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
        worker->n_uses--;
        for (EndedAttempt *ended = task ? task->work.ended : NULL; ended; ended = ended->next)
                if (streq(ended->attempt_id, attempt_id)) {
                        ended->keep = false;
                        return;
                }
        scheduler_listing_stray(delivery->scheduler, worker->scheduled, attempt_id, true, now->boottime_usec);
        delivery_wake(delivery);
}

static void log_requeue_failed(const Task *task, int r) {
        delivery_log(task->delivery,
                     PRIORITY_ERROR,
                     r,
                     "Cannot store yet that task \"%s\" waits again",
                     task->task_id);
}

static void store_again(Task *task, int r, const Moment *now);

static void requeue_failed(Task *task, int r, const Moment *now) {
        log_requeue_failed(task, r);
        if (!task->worker)
                task_again(task, store_again, usec_add(now->boottime_usec, AGAIN_USEC));
}

static void on_requeued(int r, const Moment *now, void *userdata) {
        Task *task = userdata;
        task_written(task, r, now);
        if (r < 0)
                requeue_failed(task, r, now);
}

static int commit_waiting(Task *task, const Moment *now) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        StoredTask row = task_row(task, STORED_QUEUED);
        if (task->scheduled->state == SCHEDULED_BACKOFF)
                row.not_before_usec = now->realtime_usec +
                                usec_subtract(task->scheduled->deadline.when_usec, now->boottime_usec);
        (void) store_batch_update_task(batch, &row);
        return task_commit(task, batch, on_requeued);
}

/* Unless it is at a worker again: then it went along with that. */
static void store_again(Task *task, int r, const Moment *now) {
        bool waits = task->scheduled->state == SCHEDULED_WAITING ||
                        task->scheduled->state == SCHEDULED_BACKOFF;
        r = waits && task->work.ended ? commit_waiting(task, now) : 0;
        if (r < 0)
                requeue_failed(task, r, now);
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
        if (r < 0)
                return NULL;
        queue_attempt_make_earlier(object);
        return json_format(object, &text, NULL) >= 0 ? text : NULL;
}

static int note_ended(Task *task, const Moment *now) {
        ScheduledReason reason = task->scheduled->reason;
        size_t size = strlen(task->attempt_id) + 1;
        EndedAttempt *ended = calloc(1, sizeof(*ended) + size);
        if (!ended)
                return -ENOMEM;
        *ended = (EndedAttempt) {
                .next = task->work.ended,
                .next_all = task->delivery->first_ended,
                .number = task->attempt_number,
                .state = reason == REASON_REFUSED      ? STORED_ATTEMPT_REFUSED :
                                reason == REASON_RETRY ? STORED_ATTEMPT_FINISHED :
                                                         STORED_ATTEMPT_LOST,
                .worker = task->worker,
                .finish_usec = now->realtime_usec,
                .attempt_json = reason == REASON_REFUSED ? NULL : describe_ended(task, now),
        };
        memcpy(ended->attempt_id, task->attempt_id, size);
        task->work.ended = ended;
        ended->worker->n_uses++;
        if (ended->next_all)
                ended->next_all->previous_all = ended;
        task->delivery->first_ended = ended;
        return 0;
}

static int store_requeue(Task *task, const Moment *now) {
        int r = note_ended(task, now);
        return r < 0 ? r : commit_waiting(task, now);
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

/* Somebody may still read its output. */
static void keep_attempt(Task *task) {
        const Delivery *delivery = task->delivery;
        EndedAttempt *ended = task->work.ended;
        ended->keep = delivery->listener->attempt_ended(task, delivery->listener_userdata);
        if (ended->keep)
                ended->worker->n_uses++;
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
        int r = task->attempt_id ? store_requeue(task, now) : 0;
        if (reason == REASON_RETRY && task->work.ended)
                keep_attempt(task);
        else if (reason != REASON_REFUSED)
                listener->attempt_gone(task, delivery->listener_userdata);
        worker_touch(task->worker);
        task_leave_worker(task);
        if (r < 0)
                requeue_failed(task, r, now);
        if (reason != REASON_REFUSED)
                listener->queued(task, reason, delivery->listener_userdata);
}

/* ── at the worker ── */

static void take_forget(const SchedulerAction *action) {
        DeliveryWorker *worker = action_worker(action);
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
                worker_call(action_worker(action), action->call, now);
                break;
        case ACTION_FORGET:
                take_forget(action);
                break;
        case ACTION_STOP_STRAY:
                stop_attempt(action_worker(action), action->attempt_id);
                break;
        }
}

void delivery_take_actions(Delivery *delivery, const Moment *now) {
        SchedulerAction action;
        while (scheduler_next_action(delivery->scheduler, &action))
                take_action(&action, now);
}
