/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/metrics.h"

#include <assert.h>
#include <inttypes.h>

#include "core/text/metrics-text.h"

static const char *const submit_outcome_names[] = {
        [SUBMIT_ACCEPTED] = "accepted", [SUBMIT_FULL] = "full",       [SUBMIT_BUSY] = "busy",
        [SUBMIT_NO_LEASE] = "no-lease", [SUBMIT_INVALID] = "invalid", [SUBMIT_STRANGE] = "strange",
        [SUBMIT_UNSENT] = "unsent",     [SUBMIT_UNKNOWN] = "unknown",
};
static_assert(sizeof(submit_outcome_names) / sizeof(*submit_outcome_names) == SUBMIT_UNKNOWN + 1,
              "each outcome has a name");

static const char *const finished_names[] = {
        [FINISHED_COMPLETED] = "completed",
        [FINISHED_ERRORED] = "errored",
        [FINISHED_LOST] = "worker-lost",
        [FINISHED_KILLED] = "killed",
};
static_assert(sizeof(finished_names) / sizeof(*finished_names) == _FINISHED_KIND_MAX, "each kind has a name");

void metrics_count_submitted(Metrics *metrics) {
        metrics->submitted++;
}

void metrics_count_submission(Metrics *metrics, SubmitOutcome outcome) {
        metrics->submissions[outcome]++;
}

void metrics_count_requeue(Metrics *metrics, ScheduledReason reason) {
        if (reason == REASON_LOST)
                metrics->requeued_lost++;
        else
                metrics->requeued_retry++;
}

void metrics_count_finished(Metrics *metrics, const char *state, const char *result) {
        FinishedKind kind = streq_null(state, "completed") ? FINISHED_COMPLETED :
                        streq_null(result, "worker-lost")  ? FINISHED_LOST :
                        streq_null(state, "errored")       ? FINISHED_ERRORED :
                                                             FINISHED_KILLED;
        metrics->finished[kind]++;
}

static int format_tasks(const Metrics *metrics, const Scheduler *scheduler, Text *text) {
        size_t n_waiting = scheduler_n_waiting(scheduler), n_live = scheduler_n_tasks(scheduler);
        int r = metrics_text_head(text, "daggyd_tasks", "gauge", "Tasks that are not finished, by state.");
        if (r >= 0)
                r = text_appendf(
                                text,
                                "daggyd_tasks{state=\"waiting\"} %zu\ndaggyd_tasks{state=\"placed\"} %zu\n",
                                n_waiting,
                                n_live - n_waiting);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_tasks_submitted_total",
                                "counter",
                                "Tasks accepted.",
                                (double) metrics->submitted);
        if (r >= 0)
                r = metrics_text_head(
                                text, "daggyd_tasks_finished_total", "counter", "Tasks finished, by kind.");
        for (int kind = 0; r >= 0 && kind < _FINISHED_KIND_MAX; kind++)
                r = text_appendf(
                                text,
                                "daggyd_tasks_finished_total{kind=\"%s\"} %" PRIu64 "\n",
                                finished_names[kind],
                                metrics->finished[kind]);
        if (r >= 0)
                r = metrics_text_head(
                                text,
                                "daggyd_tasks_requeued_total",
                                "counter",
                                "Tasks that were put back into the queue, by reason.");
        if (r >= 0)
                r = text_appendf(
                                text,
                                "daggyd_tasks_requeued_total{reason=\"worker-lost\"} %" PRIu64
                                "\ndaggyd_tasks_requeued_total{reason=\"retry\"} %" PRIu64 "\n",
                                metrics->requeued_lost,
                                metrics->requeued_retry);
        return r;
}

static int format_workers(const Metrics *metrics, const Workers *workers, Text *text) {
        size_t n_states[_WORKER_STATE_MAX] = {}, n_leased = 0;
        for (size_t i = 0; i < workers->n_workers; i++) {
                const Worker *worker = queue_worker_state(workers->workers[i]);
                n_states[worker_state(worker)]++;
                n_leased += *worker->lease_id != 0;
        }
        int r = metrics_text_head(text, "daggyd_workers", "gauge", "Workers, by state.");
        for (int state = 0; r >= 0 && state < _WORKER_STATE_MAX; state++)
                r = text_appendf(
                                text,
                                "daggyd_workers{state=\"%s\"} %zu\n",
                                worker_state_to_string((WorkerState) state),
                                n_states[state]);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_leases",
                                "gauge",
                                "Workers that this queue holds the lease of.",
                                (double) n_leased);
        if (r >= 0)
                r = metrics_text_head(
                                text,
                                "daggyd_submissions_total",
                                "counter",
                                "Submissions to workers, by outcome.");
        for (int outcome = 0; r >= 0 && outcome <= SUBMIT_UNKNOWN; outcome++)
                r = text_appendf(
                                text,
                                "daggyd_submissions_total{outcome=\"%s\"} %" PRIu64 "\n",
                                submit_outcome_names[outcome],
                                metrics->submissions[outcome]);
        return r;
}

int metrics_format(
                const Metrics *metrics,
                const Delivery *delivery,
                const Workers *workers,
                size_t pending_bytes,
                Text *text) {
        int r = format_tasks(metrics, delivery_scheduler(delivery), text);
        if (r >= 0)
                r = format_workers(metrics, workers, text);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_store_pending_bytes",
                                "gauge",
                                "Bytes that are to be written to disk.",
                                (double) pending_bytes);
        return r;
}

static int format_member_states(const Members *members, Text *text) {
        size_t n_alive = 1, n_draining = 0, n_gone = 0;
        if (members) {
                const Member *list;
                size_t n = members_list(members, &list);
                for (size_t i = 0; i < n; i++) {
                        n_gone += !list[i].alive;
                        n_draining += list[i].alive && list[i].draining;
                }
                n_alive = n - n_gone - n_draining;
        }
        return text_appendf(
                        text,
                        "daggyd_members{state=\"alive\"} %zu\n"
                        "daggyd_members{state=\"draining\"} %zu\n"
                        "daggyd_members{state=\"gone\"} %zu\n",
                        n_alive,
                        n_draining,
                        n_gone);
}

int metrics_format_members(const Members *members, const Forwarder *forwarder, bool leading, Text *text) {
        int r = metrics_text_head(
                        text,
                        "daggyd_members",
                        "gauge",
                        "Members of this queue, by state, as this one knows them.");
        if (r >= 0)
                r = format_member_states(members, text);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_leading",
                                "gauge",
                                "Whether this member leads, and sends tasks to workers.",
                                leading ? 1 : 0);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_forwarded_requests_total",
                                "counter",
                                "Requests passed on to the member that leads, each time that they were.",
                                forwarder ? (double) forwarder_n_forwarded(forwarder) : 0);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyd_requests_held",
                                "gauge",
                                "Requests that wait for a member to lead.",
                                forwarder ? (double) forwarder_n_held(forwarder) : 0);
        return r;
}
