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

typedef struct Worker {
        char id[WORKER_ID_MAX + 1];
        uint64_t id_hash;
        uint64_t n_calls; /* made; spreads the next ones */

        bool permitted; /* the queue's share has it */
        bool disabled;  /* by an administrator */

        bool heard;     /* ever reported its capacity */
        bool silent;    /* the last call failed */
        bool verify;    /* is to be probed by a call after number verify_call before it is used */
        bool lease_new; /* not probed since it was granted */
        bool probed;    /* a probe was answered, and its report comes next */
        uint64_t verify_call;
        usec_t heard_usec;       /* of the last answer, whatever it was */
        WorkerReport report;     /* free_amounts follows what was sent and ended since */
        Resources reported_free; /* as it said, and what has ended since */
        Resources sent;          /* what is not in that yet */
        uint64_t n_reports;

        char lease_id[LEASE_ID_SIZE];           /* "" while this queue holds none */
        char lease_holder[LEASE_QUEUE_MAX + 1]; /* the other queue that has it, or "" */
        usec_t lease_sure_usec;                 /* until then the runner takes our tasks for certain */
        usec_t lease_maybe_usec; /* until then the lease may be live there: the latest renewal may have
                                    arrived although no answer did */
        usec_t late_call_usec;   /* until then calls that were given up may still arrive */
        unsigned n_late_calls;
        usec_t renew_usec; /* when it is to be renewed */
        bool look;         /* before that it is asked what it has free */

        bool calling;
        WorkerCall call; /* the one under way */
        usec_t call_sent_usec;
        usec_t next_call_usec;
        usec_t paused_usec; /* no new tasks until then: it asked for time */
        usec_t full_usec;   /* nor until then, unless it reports before: it had no room */

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

/* How it is shown. Disabled, silent, draining, leased win in this order. */
WorkerState worker_state(const Worker *worker);
const char *worker_state_to_string(WorkerState state);

/* Whether this queue is to have a lease on it. */
bool worker_is_wanted(const Worker *worker);

/* Whether new tasks may go there: wanted, answering, not draining, under a lease that is live and not just
 * being given back, and known to be the instance that granted it. */
bool worker_is_usable(const Worker *worker, usec_t now_usec);

/* The call to make when next_call_usec has come. A worker that is not wanted any more is given back once no
 * attempt is left there; until then the lease is renewed. A silent one is only probed: a renewal without an
 * answer would keep the lease alive for all we know, and its tasks could never be given up. */
WorkerCall worker_due_call(const Worker *worker);

/* When what runs there must be given up unless the worker is heard before: LOST_AFTER_USEC after it last
 * was, but not while a lease of ours may still be live, because its tasks may be, too. */
usec_t worker_lost_usec(const Worker *worker, usec_t lost_after_usec);
