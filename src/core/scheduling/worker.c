/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/worker.h"

#include <assert.h>

static void count_free(Worker *worker) {
        resources_subtract(&worker->reported_free, &worker->sent, &worker->report.free_amounts);
}

bool worker_take(Worker *worker, const Resources *want) {
        Resources sum;
        if (resources_add(&worker->sent, want, &sum) < 0)
                return false;
        worker->sent = sum;
        count_free(worker);
        return true;
}

void worker_untake(Worker *worker, const Resources *want) {
        resources_subtract(&worker->sent, want, &worker->sent);
        count_free(worker);
}

static void limit_to(uint64_t *amount, uint64_t limit) {
        if (*amount > limit)
                *amount = limit;
}

/* It may have said so already, hence the limit. */
void worker_give_back(Worker *worker, const Resources *want) {
        const Resources *total = &worker->report.total;
        Resources sum;
        if (resources_add(&worker->reported_free, want, &sum) < 0)
                return;
        limit_to(&sum.cores_micro, total->cores_micro);
        limit_to(&sum.memory_mb, total->memory_mb);
        for (size_t i = 0; i < sum.n_named; i++)
                limit_to(&sum.named[i].amount, resources_named_get(total, sum.named[i].name));
        worker->reported_free = sum;
        count_free(worker);
}

WorkerState worker_state(const Worker *worker) {
        if (worker->disabled)
                return WORKER_DISABLED;
        if (worker->silent || !worker->heard)
                return WORKER_SILENT;
        if (worker->report.draining)
                return WORKER_DRAINING;
        return *worker->lease_holder ? WORKER_LEASED : WORKER_ALIVE;
}

const char *worker_state_to_string(WorkerState state) {
        static const char *const names[] = {
                [WORKER_ALIVE] = "alive",   [WORKER_SILENT] = "silent",     [WORKER_DRAINING] = "draining",
                [WORKER_LEASED] = "leased", [WORKER_DISABLED] = "disabled",
        };
        static_assert(sizeof(names) / sizeof(*names) == _WORKER_STATE_MAX, "each state has a name");
        return names[state];
}

bool worker_is_wanted(const Worker *worker) {
        return worker->permitted && !worker->disabled;
}

bool worker_is_usable(const Worker *worker, usec_t now_usec) {
        bool giving_back = worker->calling && worker->call == WORKER_CALL_RELEASE;
        return worker_is_wanted(worker) && worker->heard && !worker->silent && !worker->verify &&
                        !worker->report.draining && *worker->lease_id && !giving_back &&
                        now_usec < worker->lease_sure_usec && now_usec >= worker->paused_usec &&
                        now_usec >= worker->full_usec;
}

WorkerCall worker_due_call(const Worker *worker) {
        if (worker->silent || !worker->heard || worker->verify)
                return WORKER_CALL_PROBE;
        if (*worker->lease_id && worker->look && worker_is_wanted(worker))
                return WORKER_CALL_PROBE;
        if (*worker->lease_id)
                return worker_is_wanted(worker) || worker->n_attempts > 0 ? WORKER_CALL_RENEW :
                                                                            WORKER_CALL_RELEASE;
        return worker_is_wanted(worker) && !worker->report.draining ? WORKER_CALL_ACQUIRE : WORKER_CALL_PROBE;
}

usec_t worker_lost_usec(const Worker *worker, usec_t lost_after_usec) {
        usec_t patience_usec = usec_add(worker->heard_usec, lost_after_usec);
        return patience_usec > worker->lease_maybe_usec ? patience_usec : worker->lease_maybe_usec;
}
