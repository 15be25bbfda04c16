/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A runner as a queue sees it: what it last said, the lease on it, when to call it next. The scheduler
 * changes it; nothing in here knows tasks. Times are CLOCK_BOOTTIME. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/scheduling/lease.h"
#include "core/scheduling/worker-id.h"
#include "core/task/resources.h"

#define WORKER_INSTANCE_SIZE 33 /* 32 hexadecimal digits and a NUL */

/* What a runner says of itself (GET /api/v1/capacity). */
typedef struct WorkerReport {
        char instance[WORKER_INSTANCE_SIZE]; /* another after each start of the runner; "" unknown */
        Resources total, free_amounts;
        bool draining;
} WorkerReport;

/* The call that a worker is due for. At most one is under way at a time. */
typedef enum WorkerCall {
        WORKER_CALL_PROBE,   /* only ask how it is */
        WORKER_CALL_ACQUIRE, /* a lease */
        WORKER_CALL_RENEW,
        WORKER_CALL_RELEASE,
} WorkerCall;

/* Whether what is known of the runner is of the process that answers there now. The report of a probe settles
 * it, if the call was made after the doubt arose; the answer to an earlier one may be older than the doubt.
 *
 *               settled             doubt
 *   UNKNOWN ────────────▶ KNOWN ────────────▶ DOUBTED
 *      │                  ▲ ▲ │               │ │  ▲
 *      │          settled │ │ │ lease granted │ │  │
 *      │                  │ │ └──▶ NEW_LEASE ◀┘ │  │
 *      │                  │ └─────────┘ settled │  │
 *      │                  └─────────────────────┘  │
 *      └───────────────────────────────────────────┘
 *                        too early
 *
 * Whether the last call failed (silent) is independent of it: a worker that falls silent and answers again is
 * known as before, and one whose identity is doubted answers. */
typedef enum WorkerIdentity {
        WORKER_UNKNOWN,   /* it never reported its capacity */
        WORKER_KNOWN,     /* the report is of the instance that granted the lease, if there is one */
        WORKER_DOUBTED,   /* it may have been started again since its report */
        WORKER_NEW_LEASE, /* it granted a lease, perhaps as another instance than the one that had reported */
        _WORKER_IDENTITY_MAX,
} WorkerIdentity;

typedef enum WorkerIdentityEvent {
        WORKER_IDENTITY_DOUBT,
        WORKER_IDENTITY_LEASE_GRANTED, /* one that the queue did not have */
        WORKER_IDENTITY_SETTLED,       /* the report of a probe that was made after the doubt */
        WORKER_IDENTITY_TOO_EARLY,     /* the report of one that was made before */
        _WORKER_IDENTITY_EVENT_MAX,
} WorkerIdentityEvent;

/* Where the one call is that the scheduler makes to a worker at a time. */
typedef enum WorkerCallPhase {
        WORKER_CALL_IDLE,
        WORKER_CALL_UNDER_WAY,
        WORKER_CALL_REPORT_DUE, /* a probe was answered: the next report is its answer */
        _WORKER_CALL_PHASE_MAX,
} WorkerCallPhase;

typedef enum WorkerCallEvent {
        WORKER_CALL_EVENT_MADE,
        WORKER_CALL_EVENT_PROBE_ANSWERED,
        WORKER_CALL_EVENT_ENDED,    /* with any other answer, or none */
        WORKER_CALL_EVENT_REPORTED, /* by that probe, or by anything else */
        _WORKER_CALL_EVENT_MAX,
} WorkerCallEvent;

/* What follows EVENT, or -EPROTO when it cannot happen then (a bug of the caller). */
int worker_identity_next(WorkerIdentity identity, WorkerIdentityEvent event);
int worker_call_phase_next(WorkerCallPhase phase, WorkerCallEvent event);

typedef struct Worker {
        char id[WORKER_ID_MAX + 1];
        uint64_t id_hash;
        uint64_t n_calls; /* made; spreads the next ones */

        bool permitted;   /* the queue's share has it */
        bool share_known; /* it has been said whether; until then it is not permitted */
        bool disabled;    /* by an administrator */
        bool leaving;     /* the queue is to do without it, once what it has there is over */

        bool silent; /* the last call failed */
        WorkerIdentity identity;
        uint64_t doubt_call;     /* n_calls when the identity was last doubted */
        usec_t last_answer_usec; /* to whatever it was */
        WorkerReport report;     /* free_amounts follows what was sent and ended since */
        Resources reported_free; /* as it said, and what has ended since */
        Resources sent;          /* what was sent there and is not in reported_free yet */
        uint64_t n_reports;

        char lease_id[LEASE_ID_SIZE];           /* "" while this queue holds none */
        char lease_holder[LEASE_QUEUE_MAX + 1]; /* the other queue that has it, or "" */
        usec_t lease_certain_usec;              /* until then the runner takes our tasks for certain */
        usec_t lease_maybe_usec; /* until then the lease may be live there: the latest renewal may have
                                    arrived although no answer did */
        usec_t late_call_usec;   /* until then calls that were given up may still arrive */
        unsigned n_late_calls;
        usec_t elsewhere_usec;     /* it has moved: until then what another instance than the present one
                                      was sent may still run there, under a lease that is live; 0: it has not */
        usec_t renew_usec;         /* when the lease is to be renewed */
        bool probe_before_renewal; /* what is free is to be asked for first; a matter of time alone, and
                                      so independent of identity and call */

        WorkerCallPhase call_phase;
        WorkerCall call; /* the latest */
        usec_t call_sent_usec;
        usec_t next_call_usec;
        usec_t paused_usec; /* no new tasks until then: it asked for time */
        usec_t full_usec;   /* no new tasks until then either, unless it reports before: it had no room */

        size_t n_attempts; /* that run there, or may */
        size_t n_sending;  /* of these on their way */

        size_t place; /* in the WorkerIndex, and what it is open for there */
        bool open_for_tasks, open_for_reservation;
} Worker;

typedef enum WorkerState {
        WORKER_ALIVE,
        WORKER_SILENT,
        WORKER_DRAINING,
        WORKER_LEASED, /* to another queue */
        WORKER_DISABLED,
        _WORKER_STATE_MAX,
} WorkerState;

/* WANT is on its way there: less is free. False when it cannot be kept account of. */
bool worker_take(Worker *worker, const Resources *want);

/* What was taken did not get there, or its next report counts it. */
void worker_untake(Worker *worker, const Resources *want);

/* What it counted as used has ended there. */
void worker_give_back(Worker *worker, const Resources *want);

/* Nothing is known of how the worker is: the last call failed, or it never reported. */
bool worker_is_out_of_reach(const Worker *worker);

/* How it is shown. Disabled, silent, draining, leased win in this order. */
WorkerState worker_state(const Worker *worker);
const char *worker_state_to_string(WorkerState state);

/* Whether this queue is to have a lease on it. */
bool worker_is_wanted(const Worker *worker);

/* Whether new tasks may go there: wanted, answering, not draining, under a lease that is live and not just
 * being given back, and known to be the instance that granted it. */
bool worker_is_usable(const Worker *worker, usec_t now_usec);

/* Whether a lease on it is to be had, if this queue has none: it is wanted, or something of ours runs there,
 * as after a restart. Nobody else's tasks are to run beside that; but before it is known whether the worker
 * is wanted, the lease would be given back in between. */
bool worker_is_to_be_leased(const Worker *worker);

/* The call to make when next_call_usec has come. A worker that is not wanted any more is given back once no
 * attempt is left there; until then the lease is renewed. A silent one is only probed: a renewal without an
 * answer would keep the lease alive for all we know, and its tasks could never be given up. */
WorkerCall worker_due_call(const Worker *worker);

/* When what runs there must be given up unless the worker is heard before: LOST_AFTER_USEC after it last
 * was, but not while a lease of ours may still be live, because its tasks may be, too; be it where the worker
 * was before it moved. */
usec_t worker_lost_usec(const Worker *worker, usec_t lost_after_usec);
