/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What must be true whatever happens. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"
#include "sim.h"

/* After the last fault: two losses of a worker, what a submission may take to be refused, leases of others,
 * and all tasks one after the other. */
#define CALM_ENOUGH_USEC (1800 * USEC_PER_SEC)

void sim_violation(Sim *sim, const char *format, ...) {
        if (*sim->violation)
                return;
        va_list arguments;
        va_start(arguments, format);
        (void) vsnprintf(sim->violation, sizeof(sim->violation), format, arguments);
        va_end(arguments);
        sim_log(sim, "VIOLATION: %s", sim->violation);
}

static bool runs_under_live_lease(const Sim *sim, const Attempt *attempt) {
        const Runner *runner = &sim->runners[attempt->runner];
        return attempt->state == ATTEMPT_LIVE &&
                        lease_is_live(&runner->lease, host_clock(sim, &runner->host)) &&
                        runner->lease.epoch == attempt->epoch;
}

static void check_nowhere_else(Sim *sim, uint32_t id) {
        const Attempt *attempt = &sim->attempts[id];
        for (size_t i = 0; i < sim->n_attempts; i++)
                if (i != id && sim->attempts[i].task == attempt->task &&
                    runs_under_live_lease(sim, &sim->attempts[i]))
                        sim_violation(sim,
                                      "%s starts as attempt %" PRIu32 " while attempt %zu runs under a lease",
                                      sim->tasks[attempt->task].id,
                                      id,
                                      i);
}

static void check_after(Sim *sim, const SimTask *task) {
        for (size_t i = 0; i < task->n_after; i++)
                if (!task->after[i].completed)
                        sim_violation(sim,
                                      "%s starts, but %s has not completed",
                                      task->id,
                                      sim->tasks[task->after[i].task].id);
}

static bool has_failed_after(const SimTask *task) {
        for (size_t i = 0; i < task->n_after; i++)
                if (task->after[i].failed)
                        return true;
        return false;
}

static void check_number_of_starts(Sim *sim, const SimTask *task) {
        if (task->n_starts > 1 + task->n_retries + task->n_requeues_lost + task->n_requeues_retry)
                sim_violation(sim, "%s was started %zu times without a reason", task->id, task->n_starts);
        if (!task->retry_on_lost && task->n_starts > 1 + task->n_retries + task->n_requeues_retry)
                sim_violation(sim, "%s was started again after a loss", task->id);
}

/* Called by the runner right before it starts the attempt. */
void check_start(Sim *sim, uint32_t id) {
        const Attempt *attempt = &sim->attempts[id];
        Runner *runner = &sim->runners[attempt->runner];
        SimTask *task = &sim->tasks[attempt->task];
        sim->n_starts++;
        task->n_starts++;
        if (!lease_is_live(&runner->lease, host_clock(sim, &runner->host)) ||
            !streq(runner->lease.queue, queue_name(sim, attempt->queue)))
                sim_violation(sim, "%s starts for a queue without a lease", task->id);
        if (attempt->state != ATTEMPT_UNKNOWN)
                sim_violation(sim, "%s: attempt %" PRIu32 " starts twice", task->id, id);
        if (attempt->closed)
                sim_violation(sim, "%s: attempt %" PRIu32 " starts after it was given up", task->id, id);
        if (task->disk.finished)
                sim_violation(sim, "%s starts after its end", task->id);
        if (!resources_fit(&runner->pool.used, &runner->pool.total))
                sim_violation(sim, "%s is over its capacity", runner->host.name);
        check_after(sim, task);
        check_nowhere_else(sim, id);
        check_number_of_starts(sim, task);
}

static void check_closing(Sim *sim, const SimTask *task, uint32_t id, ScheduledReason reason) {
        const Attempt *attempt = &sim->attempts[id];
        switch (reason) {
        case REASON_REFUSED:
        case REASON_INVALID:
        case REASON_CANCELED:
        case REASON_DEPENDENCY:
                if (attempt->state != ATTEMPT_UNKNOWN)
                        sim_violation(sim,
                                      "%s: attempt %" PRIu32 " counts as never run (%d), but was",
                                      task->id,
                                      id,
                                      (int) reason);
                break;
        case REASON_RETRY:
        case REASON_RESULT:
                if (attempt->state != ATTEMPT_DONE && attempt->state != ATTEMPT_DEAD)
                        sim_violation(sim, "%s: attempt %" PRIu32 " has not ended", task->id, id);
                break;
        case REASON_LOST:
                if (runs_under_live_lease(sim, attempt))
                        sim_violation(sim,
                                      "%s: attempt %" PRIu32 " counts as lost, but runs under a lease",
                                      task->id,
                                      id);
                break;
        case REASON_NONE:
                sim_violation(sim, "%s: attempt %" PRIu32 " is over for no reason", task->id, id);
                break;
        }
}

static void check_finish(Sim *sim, const SimTask *task, const Record *record, uint32_t id) {
        if (record->reason == REASON_CANCELED && !task->stop_wanted)
                sim_violation(sim, "%s counts as canceled by nobody", task->id);
        if (record->reason == REASON_DEPENDENCY && !has_failed_after(task))
                sim_violation(sim, "%s failed for another task, but none has", task->id);
        if (record->reason == REASON_INVALID)
                sim_violation(sim, "%s counts as impossible", task->id);
        if (record->reason == REASON_RESULT && id == NO_ATTEMPT)
                sim_violation(sim, "%s has a result from nowhere", task->id);
        if (record->reason == REASON_LOST && task->retry_on_lost && !task->stop_wanted &&
            record->n_losses <= SCHEDULER_LOSSES_MAX && !(id != NO_ATTEMPT && sim->attempts[id].evicted))
                sim_violation(sim, "%s was given up for no reason", task->id);
}

/* A record of TASK has reached the disk. */
void check_commit(Sim *sim, const SimTask *task, const Record *record) {
        uint32_t before = task->disk.attempt;
        SimTask *counted = &sim->tasks[task - sim->tasks];
        if (task->disk.finished)
                sim_violation(sim, "%s changes after its end", task->id);
        if (record->finished) {
                counted->n_finishes++;
                check_finish(sim, task, record, before);
        }
        if (before == NO_ATTEMPT || before == record->attempt)
                return;
        check_closing(sim, task, before, record->reason);
        sim->attempts[before].closed = true;
        if (!record->finished && record->reason == REASON_LOST) {
                sim->n_losses++;
                counted->n_requeues_lost++;
        }
        if (!record->finished && record->reason == REASON_RETRY)
                counted->n_requeues_retry++;
}

void check_forget(Sim *sim, uint32_t id) {
        const Attempt *attempt = &sim->attempts[id];
        sim->n_forgotten++;
        if (!attempt->closed)
                sim_violation(sim,
                              "%s: attempt %" PRIu32 " is forgotten before its end is on disk",
                              sim->tasks[attempt->task].id,
                              id);
}

/* WORKER has left. */
void check_gone(Sim *sim, const Queue *queue, size_t worker) {
        for (size_t i = 0; i < sim->n_tasks; i++) {
                const Task *task = delivery_find_task(queue->delivery, sim->tasks[i].id);
                if (task && task->worker == queue->views[worker].worker)
                        sim_violation(sim, "%s is at a worker that is gone", task->task_id);
        }
}

void check_told(Sim *sim, SimTask *task) {
        task->n_told++;
        if (!task->disk.finished)
                sim_violation(sim, "the end of %s is told before it is on disk", task->id);
        if (task->n_told > 1 + task->n_retries)
                sim_violation(sim, "the end of %s is told twice", task->id);
}

void check_step(Sim *sim) {
        for (size_t i = 0; i < sim->n_queues; i++)
                if (queue_is_serving(&sim->queues[i]))
                        scheduler_check(delivery_scheduler(sim->queues[i].delivery), N_RUNNERS_MAX);
        if (sim->cluster)
                cluster_check(sim);
        if (sim->now_usec > sim->calm_usec + CALM_ENOUGH_USEC)
                for (size_t i = 0; i < sim->n_tasks; i++)
                        if (!sim->tasks[i].disk.finished)
                                sim_violation(sim,
                                              "%s is not over, long after the last fault",
                                              sim->tasks[i].id);
}

bool sim_is_over(const Sim *sim) {
        for (size_t i = 0; i < sim->n_tasks; i++)
                if (!sim->tasks[i].disk.finished)
                        return false;
        return sim->now_usec > sim->calm_usec + LATE_MAX_USEC;
}

void check_end(Sim *sim) {
        for (size_t i = 0; i < sim->n_tasks; i++) {
                const SimTask *task = &sim->tasks[i];
                if (task->n_finishes != 1 + task->n_retries)
                        sim_violation(sim, "%s was finished %zu times", task->id, task->n_finishes);
        }
        for (size_t i = 0; i < sim->n_attempts; i++)
                if (sim->attempts[i].state == ATTEMPT_LIVE && !sim->attempts[i].closed)
                        sim_violation(sim, "attempt %zu runs on although everything is over", i);
}
