/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What /metrics tells: counters, and what is read off the queue at the time. */
#pragma once

#include <stdint.h>

#include "base/text.h"
#include "core/scheduling/scheduler.h"
#include "delivery/delivery.h"
#include "queue/forward.h"
#include "queue/members.h"
#include "queue/workers.h"

typedef enum FinishedKind {
        FINISHED_COMPLETED,
        FINISHED_ERRORED,
        FINISHED_LOST,
        FINISHED_KILLED,
        _FINISHED_KIND_MAX,
} FinishedKind;

typedef struct Metrics {
        uint64_t submitted;
        uint64_t submissions[SUBMIT_UNKNOWN + 1]; /* to workers, by outcome */
        uint64_t requeued_lost, requeued_retry;
        uint64_t finished[_FINISHED_KIND_MAX];
} Metrics;

void metrics_count_submitted(Metrics *metrics);
void metrics_count_submission(Metrics *metrics, SubmitOutcome outcome);
void metrics_count_requeue(Metrics *metrics, ScheduledReason reason);

/* STATE and RESULT as clients read them. */
void metrics_count_finished(Metrics *metrics, const char *state, const char *result);

/* Appends, as Prometheus text, what each member of a queue tells, whether it leads or not. MEMBERS and
 * FORWARDER are NULL where there is one only. -ENOMEM. */
int metrics_format_members(const Members *members, const Forwarder *forwarder, bool leading, Text *text);

/* Appends, as Prometheus text, what only the one that leads knows. PENDING_BYTES: what the store is still to
 * write. -ENOMEM. */
int metrics_format(
                const Metrics *metrics,
                const Delivery *delivery,
                const Workers *workers,
                size_t pending_bytes,
                Text *text);
