/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/worker.h"

#include <assert.h>
#include <errno.h>

static const struct {
        WorkerIdentity identity;
        WorkerIdentityEvent event;
        WorkerIdentity next;
} identity_transitions[] = {
        { WORKER_UNKNOWN, WORKER_IDENTITY_DOUBT, WORKER_UNKNOWN },
        { WORKER_UNKNOWN, WORKER_IDENTITY_SETTLED, WORKER_KNOWN },
        { WORKER_UNKNOWN, WORKER_IDENTITY_TOO_EARLY, WORKER_DOUBTED },
        { WORKER_KNOWN, WORKER_IDENTITY_DOUBT, WORKER_DOUBTED },
        { WORKER_KNOWN, WORKER_IDENTITY_LEASE_GRANTED, WORKER_NEW_LEASE },
        { WORKER_KNOWN, WORKER_IDENTITY_SETTLED, WORKER_KNOWN },
        { WORKER_DOUBTED, WORKER_IDENTITY_DOUBT, WORKER_DOUBTED },
        { WORKER_DOUBTED, WORKER_IDENTITY_LEASE_GRANTED, WORKER_NEW_LEASE },
        { WORKER_DOUBTED, WORKER_IDENTITY_SETTLED, WORKER_KNOWN },
        { WORKER_DOUBTED, WORKER_IDENTITY_TOO_EARLY, WORKER_DOUBTED },
        { WORKER_NEW_LEASE, WORKER_IDENTITY_DOUBT, WORKER_NEW_LEASE },
        { WORKER_NEW_LEASE, WORKER_IDENTITY_LEASE_GRANTED, WORKER_NEW_LEASE },
        { WORKER_NEW_LEASE, WORKER_IDENTITY_SETTLED, WORKER_KNOWN },
        { WORKER_NEW_LEASE, WORKER_IDENTITY_TOO_EARLY, WORKER_NEW_LEASE },
};

static const struct {
        WorkerCallPhase phase;
        WorkerCallEvent event;
        WorkerCallPhase next;
} call_transitions[] = {
        { WORKER_CALL_IDLE, WORKER_CALL_EVENT_MADE, WORKER_CALL_UNDER_WAY },
        { WORKER_CALL_IDLE, WORKER_CALL_EVENT_REPORTED, WORKER_CALL_IDLE },
        { WORKER_CALL_UNDER_WAY, WORKER_CALL_EVENT_PROBE_ANSWERED, WORKER_CALL_REPORT_DUE },
        { WORKER_CALL_UNDER_WAY, WORKER_CALL_EVENT_ENDED, WORKER_CALL_IDLE },
        { WORKER_CALL_UNDER_WAY, WORKER_CALL_EVENT_REPORTED, WORKER_CALL_UNDER_WAY },
        { WORKER_CALL_REPORT_DUE, WORKER_CALL_EVENT_MADE, WORKER_CALL_UNDER_WAY },
        { WORKER_CALL_REPORT_DUE, WORKER_CALL_EVENT_REPORTED, WORKER_CALL_IDLE },
};

int worker_identity_next(WorkerIdentity identity, WorkerIdentityEvent event) {
        for (size_t i = 0; i < sizeof(identity_transitions) / sizeof(*identity_transitions); i++)
                if (identity_transitions[i].identity == identity && identity_transitions[i].event == event)
                        return (int) identity_transitions[i].next;
        return -EPROTO;
}

int worker_call_phase_next(WorkerCallPhase phase, WorkerCallEvent event) {
        for (size_t i = 0; i < sizeof(call_transitions) / sizeof(*call_transitions); i++)
                if (call_transitions[i].phase == phase && call_transitions[i].event == event)
                        return (int) call_transitions[i].next;
        return -EPROTO;
}

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

/* The worker may have said so already, hence the limit. */
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

bool worker_is_out_of_reach(const Worker *worker) {
        return worker->silent || worker->identity == WORKER_UNKNOWN;
}

WorkerState worker_state(const Worker *worker) {
        if (worker->disabled)
                return WORKER_DISABLED;
        if (worker_is_out_of_reach(worker))
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
        return worker->permitted && !worker->disabled && !worker->leaving;
}

bool worker_is_usable(const Worker *worker, usec_t now_usec) {
        bool giving_back = worker->call_phase == WORKER_CALL_UNDER_WAY && worker->call == WORKER_CALL_RELEASE;
        return worker_is_wanted(worker) && worker->identity == WORKER_KNOWN && !worker->silent &&
                        !worker->report.draining && *worker->lease_id && !giving_back &&
                        now_usec < worker->lease_certain_usec && now_usec >= worker->paused_usec &&
                        now_usec >= worker->full_usec;
}

static bool is_kept(const Worker *worker) {
        return worker_is_wanted(worker) || worker->n_attempts > 0;
}

bool worker_is_to_be_leased(const Worker *worker) {
        return is_kept(worker) && worker->share_known && !worker->report.draining;
}

WorkerCall worker_due_call(const Worker *worker) {
        if (worker->silent || worker->identity != WORKER_KNOWN)
                return WORKER_CALL_PROBE;
        if (*worker->lease_id && worker->probe_before_renewal && worker_is_wanted(worker))
                return WORKER_CALL_PROBE;
        if (*worker->lease_id)
                return is_kept(worker) ? WORKER_CALL_RENEW : WORKER_CALL_RELEASE;
        return worker_is_to_be_leased(worker) ? WORKER_CALL_ACQUIRE : WORKER_CALL_PROBE;
}

usec_t worker_lost_usec(const Worker *worker, usec_t lost_after_usec) {
        usec_t patience_usec = usec_add(worker->last_answer_usec, lost_after_usec);
        usec_t usec = patience_usec > worker->lease_maybe_usec ? patience_usec : worker->lease_maybe_usec;
        return usec > worker->elsewhere_usec ? usec : worker->elsewhere_usec;
}
