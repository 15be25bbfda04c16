/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What workers tell: when they are asked for leases and capacity, by their events, and, where something may
 * have been missed, by the list of what they have. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "delivery/delivery-internal.h"

#define LIST_PAUSE_USEC (1 * USEC_PER_SEC) /* between two listings, however much goes wrong */

/* ── the scheduler's calls ── */

static void probe_answered(DeliveryWorker *worker, const CallAnswer *answer, const Moment *now) {
        Scheduler *scheduler = worker->delivery->scheduler;
        const Worker *state = &worker->scheduled->worker;
        bool was_out_of_reach = worker_is_out_of_reach(state);
        scheduler_call_answered(scheduler, worker->scheduled, now->boottime_usec);
        scheduler_worker_reported(scheduler, worker->scheduled, &answer->report, now->boottime_usec);
        if (!was_out_of_reach)
                return;
        delivery_log(worker->delivery, PRIORITY_INFO, 0, "Worker \"%s\" answers", delivery_worker_id(worker));
        worker_list(worker, now);
}

static void on_call_done(const CallAnswer *answer, const Moment *now, void *userdata) {
        DeliveryWorker *worker = userdata;
        Scheduler *scheduler = worker->delivery->scheduler;
        usec_t now_usec = now->boottime_usec;
        worker->call = NULL;
        switch (answer->outcome) {
        case CALL_FAILED:
                scheduler_call_failed(scheduler, worker->scheduled, now_usec);
                break;
        case CALL_ANSWERED:
                if (worker->call_kind == WORKER_CALL_PROBE)
                        probe_answered(worker, answer, now);
                else
                        scheduler_call_answered(scheduler, worker->scheduled, now_usec);
                break;
        case CALL_GRANTED:
                scheduler_call_granted(
                                scheduler, worker->scheduled, answer->lease_id, answer->ttl_usec, now_usec);
                break;
        case CALL_REFUSED:
                scheduler_call_refused(scheduler, worker->scheduled, answer->holder, now_usec);
                break;
        }
        worker_touch(worker);
        delivery_wake(worker->delivery);
}

static void arm(DeliveryWorker *worker, usec_t when_usec) {
        deadline_set(&worker->delivery->worker_deadlines, &worker->deadline, when_usec);
        delivery_wake(worker->delivery);
}

void worker_call(DeliveryWorker *worker, WorkerCall call, const Moment *now) {
        int r = -ENODEV;
        worker->call_kind = call;
        if (worker->port)
                r = worker->delivery->worker_port->call(
                                worker->port,
                                call,
                                worker->scheduled->worker.lease_id,
                                on_call_done,
                                worker,
                                &worker->call);
        worker->call_unmade = r < 0;
        if (r < 0)
                arm(worker, now->boottime_usec);
}

/* ── an attempt that the worker has ── */

/* Workers have changed places: what was asked where the attempt was before is asked here. As long as it is
 * being submitted there, that is to be waited for. */
static bool take_over(DeliveryWorker *worker, Task *task, const Moment *now) {
        if (!scheduler_take_over(worker->delivery->scheduler, task->scheduled, worker->scheduled)) {
                worker_list(worker, now);
                return false;
        }
        worker_touch(task->worker);
        task_set_worker(task, worker);
        task->work.fetch = task_fetch_free(task->work.fetch);
        task->work.again = NULL; /* which was about the fetch */
        deadline_clear(&task->delivery->task_deadlines, &task->work.deadline);
        return true;
}

static void attempt_seen(
                DeliveryWorker *worker,
                const RunnerTask *seen,
                json_object *attempt,
                bool listed,
                const Moment *now) {
        Delivery *delivery = worker->delivery;
        Task *task = task_table_find_attempt(&delivery->tasks, seen->task_id);
        if (task && task->scheduled->state == SCHEDULED_ENDED)
                return; /* its result is on the way to the disk */
        if (task && task->worker != worker && !(listed && take_over(worker, task, now)))
                return;
        if (!task || task->scheduled->worker != worker->scheduled) {
                /* It has our label: one that was given up, or whose end is on disk, or about to be. */
                if (listed && !delivery_has_ended(delivery, seen->task_id))
                        scheduler_listing_stray(
                                        delivery->scheduler,
                                        worker->scheduled,
                                        seen->task_id,
                                        seen->finished,
                                        now->boottime_usec);
                return;
        }
        bool was_uncertain = task->scheduled->state == SCHEDULED_UNCERTAIN;
        if (listed)
                scheduler_listing_has(delivery->scheduler, task->scheduled, now->boottime_usec);
        task_note_unit(task, seen->unit);
        task->work.finish_seen |= seen->finished;
        if (seen->finished && attempt && !task->work.seen)
                task->work.seen = json_object_get(attempt);
        if (task->scheduled->state != SCHEDULED_RUNNING)
                return;
        if (was_uncertain)
                task_accepted(task, now);
        else if (seen->finished)
                task_fetch_start(task, task->work.seen, now);
        if (!seen->finished && listed && task->scheduled->stop_requested)
                task_stop_attempt(task);
}

/* ── listing ── */

/* One that is silent is listed when it answers again, whatever it is that it answers. */
static void listing_failed(DeliveryWorker *worker, const Moment *now) {
        scheduler_worker_suspect(worker->scheduled, now->boottime_usec);
        worker->list_missed = worker->scheduled->worker.silent;
        if (!worker->list_missed)
                worker_list(worker, now);
        delivery_wake(worker->delivery);
}

static void list_page(DeliveryWorker *worker, const char *after, const Moment *now);

static void on_list_done(const ListAnswer *answer, const Moment *now, void *userdata) {
        DeliveryWorker *worker = userdata;
        worker->list_call = NULL;
        if (answer->r < 0) {
                listing_failed(worker, now);
                return;
        }
        for (size_t i = 0; i < answer->n_tasks; i++)
                attempt_seen(worker, &answer->tasks[i], NULL, true, now);
        if (answer->next) {
                list_page(worker, answer->next, now);
                return;
        }
        scheduler_listing_finish(
                        worker->delivery->scheduler,
                        worker->scheduled,
                        worker->listed_usec,
                        now->boottime_usec);
        if (worker->list_again)
                worker_list(worker, now);
        delivery_wake(worker->delivery);
}

static void list_page(DeliveryWorker *worker, const char *after, const Moment *now) {
        if (worker->delivery->worker_port->list(
                            worker->port, after, on_list_done, worker, &worker->list_call) < 0)
                listing_failed(worker, now);
}

/* First who it is, then what it has: attempts of an earlier start of the worker are lost by then. */
static void on_list_probed(const CallAnswer *answer, const Moment *now, void *userdata) {
        DeliveryWorker *worker = userdata;
        worker->probe_call = NULL;
        if (answer->outcome != CALL_ANSWERED) {
                listing_failed(worker, now);
                return;
        }
        scheduler_worker_reported(
                        worker->delivery->scheduler, worker->scheduled, &answer->report, now->boottime_usec);
        worker->listed_usec = now->boottime_usec;
        scheduler_listing_begin(worker->scheduled);
        list_page(worker, NULL, now);
        delivery_wake(worker->delivery);
}

void worker_list(DeliveryWorker *worker, const Moment *now) {
        usec_t due_usec = usec_add(worker->asked_usec, LIST_PAUSE_USEC);
        worker->list_again = worker->probe_call || worker->list_call;
        if (worker->list_again || !worker->port)
                return;
        if (worker->asked_usec > 0 && now->boottime_usec < due_usec) {
                worker->list_due = true;
                if (!worker->call_unmade)
                        arm(worker, due_usec);
                return;
        }
        worker->asked_usec = now->boottime_usec;
        if (worker->delivery->worker_port->call(
                            worker->port,
                            WORKER_CALL_PROBE,
                            NULL,
                            on_list_probed,
                            worker,
                            &worker->probe_call) < 0)
                listing_failed(worker, now);
}

void worker_list_missed(DeliveryWorker *worker, const Moment *now) {
        if (!worker->list_missed || worker->scheduled->worker.silent)
                return;
        worker->list_missed = false;
        worker_list(worker, now);
}

void worker_deadline(DeliveryWorker *worker, const Moment *now) {
        if (worker->call_unmade) {
                worker->call_unmade = false;
                scheduler_call_failed(worker->delivery->scheduler, worker->scheduled, now->boottime_usec);
        }
        if (worker->list_due) {
                worker->list_due = false;
                worker_list(worker, now);
        }
}

/* ── events ── */

void delivery_worker_connected(DeliveryWorker *worker, const Moment *now) {
        worker_list(worker, now); /* whatever happened before the events began */
}

void delivery_worker_disconnected(DeliveryWorker *worker, const Moment *now) {
        scheduler_worker_suspect(worker->scheduled, now->boottime_usec);
        worker_touch(worker);
        delivery_wake(worker->delivery);
}

void delivery_worker_reported(DeliveryWorker *worker, const WorkerReport *report, const Moment *now) {
        scheduler_worker_reported(worker->delivery->scheduler, worker->scheduled, report, now->boottime_usec);
        worker_touch(worker);
        delivery_wake(worker->delivery);
}

void delivery_worker_seen(
                DeliveryWorker *worker,
                const RunnerTask *seen,
                json_object *attempt,
                const Moment *now) {
        attempt_seen(worker, seen, attempt, false, now);
        delivery_wake(worker->delivery);
}
