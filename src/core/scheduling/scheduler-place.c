/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which waiting task goes to which worker now. */

#include <assert.h>

#include "core/scheduling/impact.h"
#include "core/scheduling/scheduler-internal.h"
#include "core/text/stable-hash.h"

/* Lines looked at in one run: tasks of more shapes than that which all do not fit hold up those behind them,
 * but never the loop. */
#define LINES_MAX 256

/* Submissions to one worker under way at a time; more would only wait in its backlog, bound to it. */
#define SENDING_MAX 32

/* Tasks placed in one run, so that a long queue does not keep the loop from its other work. */
#define PLACED_MAX 512

static bool takes_more(const ScheduledWorker *worker, usec_t now_usec) {
        return !worker->reserved && worker->worker.n_sending < SENDING_MAX &&
                        worker_is_usable(&worker->worker, now_usec);
}

/* Between equals each task has an order of its own, so that they spread. */
static bool wins_tie(const ScheduledWorker *a, const ScheduledWorker *b, uint64_t id_hash) {
        return stable_hash_u64(a->worker.id_hash ^ id_hash) < stable_hash_u64(b->worker.id_hash ^ id_hash);
}

static ScheduledWorker *find_least_impact(
                const Scheduler *scheduler,
                const Resources *want,
                uint64_t id_hash,
                usec_t now_usec) {
        ScheduledWorker *best = NULL;
        Impact best_impact = {};
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                ScheduledWorker *worker = scheduler->workers[i];
                if (!takes_more(worker, now_usec))
                        continue;
                Impact impact = impact_compute(want, &worker->worker.report.free_amounts);
                if (!impact.satisfiable)
                        continue;
                if (!best || impact.max_impact < best_impact.max_impact ||
                    (!(impact.max_impact > best_impact.max_impact) && wins_tie(worker, best, id_hash))) {
                        best = worker;
                        best_impact = impact;
                }
        }
        return best;
}

static double share_missing(uint64_t want, uint64_t free_amount, uint64_t total) {
        return want > free_amount ? (double) (want - free_amount) / (double) total : 0;
}

/* How much of the worker has to come free before it fits, the largest of all kinds. */
static double distance(const Resources *want, const WorkerReport *report) {
        double most = share_missing(
                        want->cores_micro, report->free_amounts.cores_micro, report->total.cores_micro);
        double memory = share_missing(
                        want->memory_mb, report->free_amounts.memory_mb, report->total.memory_mb);
        if (memory > most)
                most = memory;
        for (size_t i = 0; i < want->n_named; i++) {
                const char *name = want->named[i].name;
                double named = share_missing(
                                want->named[i].amount,
                                resources_named_get(&report->free_amounts, name),
                                resources_named_get(&report->total, name));
                if (named > most)
                        most = named;
        }
        return most;
}

/* Keeps others away from the worker that comes nearest to having room. Nothing new goes there, so it comes
 * nearer with each end of a task, and the next run chooses the same one or one that is nearer still. */
static void reserve_nearest(Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        ScheduledWorker *nearest = NULL;
        double nearest_distance = 0;
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                ScheduledWorker *worker = scheduler->workers[i];
                const WorkerReport *report = &worker->worker.report;
                if (worker->reserved || !worker_is_usable(&worker->worker, now_usec) ||
                    !resources_fit(want, &report->total))
                        continue;
                double d = distance(want, report);
                if (!nearest || d < nearest_distance) {
                        nearest = worker;
                        nearest_distance = d;
                }
        }
        if (nearest)
                nearest->reserved = true;
}

static ScheduledTask *task_of_entry(WaitingEntry *entry) {
        return (ScheduledTask *) ((char *) entry - offsetof(ScheduledTask, waiting));
}

static bool is_impatient(const WaitingEntry *entry, usec_t now_usec) {
        return usec_subtract(now_usec, entry->since_usec) >= SCHEDULER_PATIENCE_USEC;
}

void scheduler_place(Scheduler *scheduler, usec_t now_usec) {
        WaitingList *waiting = &scheduler->waiting;
        size_t n_placed = 0;
        for (size_t i = 0; i < scheduler->n_workers; i++)
                scheduler->workers[i]->reserved = false;
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

bool scheduler_could_fit(const Scheduler *scheduler, const Resources *want) {
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                const Worker *worker = &scheduler->workers[i]->worker;
                if (!worker->heard || resources_fit(want, &worker->report.total))
                        return true;
        }
        return false;
}

const Worker *scheduler_least_impact(const Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        const ScheduledWorker *worker = find_least_impact(scheduler, want, 0, now_usec);
        return worker ? &worker->worker : NULL;
}

bool scheduler_fits_now(const Scheduler *scheduler, const Resources *want, usec_t now_usec) {
        return scheduler->waiting.n_entries == 0 && scheduler_least_impact(scheduler, want, now_usec);
}
