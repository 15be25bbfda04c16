/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which workers something has happened to, so that a turn costs nothing for all the others. Whatever reports
 * about a worker, or changes its attempts, touches it. Before anything is decided, what was touched is worked
 * out anew: where it stands in the index that tasks are placed by, and when time alone will change it. */

#include "core/scheduling/scheduler-internal.h"

int touch_add_worker(Scheduler *scheduler, ScheduledWorker *worker) {
        int r = deadline_heap_reserve(&scheduler->dues, scheduler->n_workers + 1);
        if (r >= 0)
                r = worker_index_add(&scheduler->index, &worker->worker);
        if (r < 0)
                return r;
        worker->scheduler = scheduler;
        touch_worker(worker);
        return 0;
}

void touch_worker(ScheduledWorker *worker) {
        if (worker->in_touched)
                return;
        worker->in_touched = true;
        worker->next_touched = worker->scheduler->touched;
        worker->scheduler->touched = worker;
}

/* It is in no list and no heap afterwards. */
void touch_remove_worker(ScheduledWorker *worker) {
        Scheduler *scheduler = worker->scheduler;
        for (ScheduledWorker **place = &scheduler->touched; *place; place = &(*place)->next_touched)
                if (*place == worker) {
                        *place = worker->next_touched;
                        break;
                }
        deadline_clear(&scheduler->dues, &worker->due);
        worker_index_remove(&scheduler->index, &worker->worker);
}

static usec_t earlier(usec_t a, usec_t b) {
        return a < b ? a : b;
}

/* When workers_tick() has something to do for it. */
static usec_t next_tick_usec(const ScheduledWorker *worker) {
        const Worker *state = &worker->worker;
        usec_t usec = USEC_INFINITY;
        if (state->call_phase != WORKER_CALL_UNDER_WAY)
                usec = worker_is_to_be_released(state) ? 0 : state->next_call_usec;
        /* What is on its way has its own deadline. */
        if (state->n_attempts > state->n_sending && worker_is_out_of_reach(state))
                usec = earlier(usec, worker_lost_usec(state, worker->scheduler->config.lost_after_usec));
        return state->elsewhere_usec > 0 ? earlier(usec, state->elsewhere_usec) : usec;
}

/* When it begins, or ceases, to be usable by itself. */
static usec_t next_use_usec(const Worker *worker, usec_t now_usec) {
        if (worker_is_usable(worker, now_usec))
                return worker->lease_certain_usec;
        usec_t until_usec = worker->paused_usec > worker->full_usec ? worker->paused_usec : worker->full_usec;
        return until_usec > now_usec ? until_usec : USEC_INFINITY;
}

void touch_refresh_worker(ScheduledWorker *worker, usec_t now_usec) {
        worker_index_update(
                        &worker->scheduler->index,
                        &worker->worker,
                        (WorkerOpenness) {
                                        .takes_tasks = worker_takes_more(worker, now_usec),
                                        .may_be_reserved = worker_is_reservable(worker, now_usec),
                        });
        usec_t due_usec = earlier(next_tick_usec(worker), next_use_usec(&worker->worker, now_usec));
        if (due_usec == USEC_INFINITY)
                deadline_clear(&worker->scheduler->dues, &worker->due);
        else
                deadline_set(&worker->scheduler->dues, &worker->due, due_usec);
}

void touch_refresh(Scheduler *scheduler, usec_t now_usec) {
        scheduler->refreshed_usec = now_usec;
        for (ScheduledWorker *worker; (worker = scheduler->touched);) {
                scheduler->touched = worker->next_touched;
                worker->in_touched = false;
                touch_refresh_worker(worker, now_usec);
        }
}
