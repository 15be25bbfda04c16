/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which waiting task goes to which worker now. */

#include <stddef.h>

#include "base/container.h"
#include "core/scheduling/scheduler-internal.h"

/* Lines looked at in one run: tasks of more shapes than that which all do not fit hold up those behind them,
 * but never the loop. */
#define LINES_MAX 256

/* Submissions to one worker under way at a time; more would only wait in its backlog, bound to it. */
#define SENDING_MAX 32

/* Tasks placed in one run, so that a long queue does not keep the loop from its other work. */
#define PLACED_MAX 512

bool worker_is_reservable(const ScheduledWorker *worker, usec_t now_usec) {
        return !worker->reserved && worker_is_usable(&worker->worker, now_usec);
}

bool worker_takes_more(const ScheduledWorker *worker, usec_t now_usec) {
        return worker_is_reservable(worker, now_usec) && worker->worker.n_sending < SENDING_MAX;
}

static ScheduledWorker *scheduled(Worker *worker) {
        return container_of(worker, ScheduledWorker, worker);
}

/* Between two runs the index may still have workers whose time was over meanwhile. */
static ScheduledWorker *find_least_impact(
                Scheduler *scheduler,
                const Resources *want,
                uint64_t id_hash,
                usec_t now_usec) {
        touch_refresh(scheduler, now_usec);
        for (Worker *found; (found = worker_index_least_impact(&scheduler->index, want, id_hash));) {
                ScheduledWorker *worker = scheduled(found);
                if (worker_takes_more(worker, now_usec))
                        return worker;
                touch_refresh_worker(worker, now_usec);
        }
        return NULL;
}

/* Keeps others away from the worker that comes nearest to having room. Nothing new goes there, so it comes
 * nearer with each end of a task, and the next run chooses the same one or one that is nearer still. */
static void reserve_nearest(Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        touch_refresh(scheduler, now_usec);
        Worker *nearest = worker_index_nearest(&scheduler->index, want);
        if (!nearest)
                return;
        ScheduledWorker *worker = scheduled(nearest);
        worker->reserved = true;
        worker->next_reserved = scheduler->reserved;
        scheduler->reserved = worker;
        touch_worker(worker);
}

static void end_reservations(Scheduler *scheduler) {
        for (ScheduledWorker *worker; (worker = scheduler->reserved);) {
                scheduler->reserved = worker->next_reserved;
                worker->reserved = false;
                touch_worker(worker);
        }
}

static ScheduledTask *task_of_entry(WaitingEntry *entry) {
        return container_of(entry, ScheduledTask, waiting);
}

static bool is_impatient(const WaitingEntry *entry, usec_t now_usec) {
        return usec_subtract(now_usec, entry->since_usec) >= SCHEDULER_PATIENCE_USEC;
}

void scheduler_place(Scheduler *scheduler, usec_t now_usec) {
        WaitingList *waiting = &scheduler->waiting;
        size_t n_placed = 0;
        end_reservations(scheduler);
        /* A line whose head was placed makes way for the next in order; those before it did not fit, and
         * nothing has come free for them. */
        for (size_t i = 0; i < waiting->n_lines && i < LINES_MAX && n_placed < PLACED_MAX;) {
                const WaitingLine *line = waiting_list_line(waiting, i);
                ScheduledTask *task = task_of_entry(line->first);
                ScheduledWorker *worker = find_least_impact(scheduler, &line->want, task->id_hash, now_usec);
                if (worker) {
                        attempt_begin(scheduler, task, worker, now_usec);
                        n_placed++;
                        continue;
                }
                if (is_impatient(line->first, now_usec))
                        reserve_nearest(scheduler, &line->want, now_usec);
                i++;
        }
        scheduler->more_to_place = n_placed == PLACED_MAX;
}

bool scheduler_could_fit(Scheduler *scheduler, const Resources *want) {
        touch_refresh(scheduler,
                      scheduler->refreshed_usec); /* what workers have in all is no matter of time */
        return worker_index_could_fit(&scheduler->index, want);
}

const Worker *scheduler_least_impact(Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        const ScheduledWorker *worker = find_least_impact(scheduler, want, 0, now_usec);
        return worker ? &worker->worker : NULL;
}

bool scheduler_fits_now(Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        return scheduler->waiting.n_entries == 0 && scheduler_least_impact(scheduler, want, now_usec);
}
