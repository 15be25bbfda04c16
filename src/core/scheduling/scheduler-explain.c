/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Why a task does not run, as far as the scheduler knows. */

#include <assert.h>

#include "core/scheduling/scheduler-internal.h"

/* It gets no task at all, whatever that asks for. */
static const char *refusal_of_all(const Worker *worker) {
        if (worker->disabled)
                return "is disabled";
        if (worker->leaving)
                return "is leaving";
        if (worker->identity == WORKER_UNKNOWN)
                return "was never heard of";
        if (worker->silent)
                return "does not answer";
        if (worker->report.draining)
                return "is draining";
        if (!worker->permitted)
                return "is not in the share of this queue";
        if (*worker->lease_holder)
                return "is leased to another queue";
        return NULL;
}

const char *scheduler_worker_refusal(
                const ScheduledWorker *scheduled,
                const Resources *want,
                usec_t now_usec) {
        const Worker *worker = &scheduled->worker;
        const char *refusal = refusal_of_all(worker);
        if (refusal)
                return refusal;
        if (!resources_fit(want, &worker->report.total))
                return "is too small";
        if (!*worker->lease_id || worker->identity != WORKER_KNOWN || now_usec >= worker->lease_certain_usec)
                return "is not leased yet";
        if (now_usec < worker->paused_usec)
                return "asked for time";
        if (!resources_fit(want, &worker->report.free_amounts) || now_usec < worker->full_usec)
                return "has no room now";
        if (scheduled->reserved)
                return "is kept for a task that has waited longer";
        return worker_takes_more(scheduled, now_usec) ? NULL : "is being sent other tasks";
}

static const char *reason_of_workers(const Scheduler *scheduler, const ScheduledTask *task, usec_t now_usec) {
        bool is_usable = false;
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                const ScheduledWorker *worker = scheduler->workers[i];
                if (!scheduler_worker_refusal(worker, task->want, now_usec))
                        return "others come first";
                is_usable |= worker_is_usable(&worker->worker, now_usec);
        }
        if (scheduler->n_workers == 0)
                return "there is no worker";
        return is_usable ? "no worker has room now" : "no worker can be used now";
}

const char *scheduler_wait_reason(
                const Scheduler *scheduler,
                const ScheduledTask *task,
                usec_t now_usec,
                bool *ret_of_workers) {
        *ret_of_workers = false;
        if (task->state == SCHEDULED_HELD)
                return "waits for other tasks to complete";
        if (task->state == SCHEDULED_BACKOFF)
                return "waits before it is tried again";
        if (task->state != SCHEDULED_WAITING)
                return "is on its way to a worker";
        *ret_of_workers = true;
        return reason_of_workers(scheduler, task, now_usec);
}
