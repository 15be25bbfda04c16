/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An attempt goes to its worker, and what the answer means. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "delivery/delivery-internal.h"

static void note_refusal(Task *task, const char *detail) {
        free(TAKE_PTR(task->note));
        (void) text_format(
                        &task->note,
                        "worker %s refused it: %s",
                        delivery_worker_id(task->worker),
                        detail ?: "");
}

static void on_acceptance_stored(int r, const Moment *now, void *userdata) {
        task_written(userdata, r, now);
}

/* Only a hint for the next start, so nobody waits for it. */
static void store_acceptance(Task *task, const Moment *now) {
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        StoredTask row = task_row(task, STORED_RUNNING);
        StoredAttempt attempt = task_attempt_row(task, STORED_ATTEMPT_RUNNING);
        attempt.place_usec = now->realtime_usec;
        (void) store_batch_update_task(batch, &row);
        (void) store_batch_put_attempt(batch, task->seq, &attempt);
        (void) task_commit(task, batch, on_acceptance_stored);
}

void task_note_unit(Task *task, const char *unit) {
        if (!unit || streq_null(task->unit, unit))
                return;
        free(task->unit);
        task->unit = strdup(unit);
}

void task_accepted(Task *task, const Moment *now) {
        Delivery *delivery = task->delivery;
        store_acceptance(task, now);
        delivery->listener->running(task, delivery->listener_userdata);
        if (task->work.finish_seen)
                task_fetch_start(task, task->work.seen, now);
}

static void on_submit_done(const SubmitAnswer *answer, const Moment *now, void *userdata) {
        Task *task = userdata;
        Delivery *delivery = task->delivery;
        DeliveryWorker *worker = task->worker;
        task->work.submit_call = NULL;
        assert(task->scheduled->state == SCHEDULED_SENDING);
        if (answer->report)
                scheduler_worker_reported(
                                delivery->scheduler, worker->scheduled, answer->report, now->boottime_usec);
        if (answer->outcome == SUBMIT_INVALID)
                note_refusal(task, answer->detail);
        delivery->listener->submitted(task, answer->outcome, delivery->listener_userdata);
        scheduler_submit_done(delivery->scheduler, task->scheduled, answer->outcome, now->boottime_usec);
        if (answer->outcome == SUBMIT_STRANGE)
                worker_list(worker, now);
        worker_touch(worker);
        if (task->scheduled->state == SCHEDULED_RUNNING) {
                if (answer->task) { /* it may be over already */
                        task_note_unit(task, answer->task->unit);
                        task->work.finish_seen |= answer->task->finished;
                }
                task_accepted(task, now);
        }
        delivery_wake(delivery);
}

int task_submit(Task *task, const Moment *now) {
        assert(!task->work.submit_call);
        return task->delivery->worker_port->submit(
                        task->worker->port,
                        &(Submission) {
                                        .attempt_id = task->attempt_id,
                                        .lease_id = task->scheduled->lease_id,
                                        .body = task->work.body,
                                        .body_size = strlen(task->work.body),
                        },
                        on_submit_done,
                        task,
                        &task->work.submit_call);
}
