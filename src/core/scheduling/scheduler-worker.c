/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is heard of workers, and when they are called. */

#include <assert.h>
#include <string.h>

#include "base/container.h"
#include "base/text.h"
#include "core/scheduling/scheduler-internal.h"
#include "core/text/stable-hash.h"

#define PROBE_USEC   (10 * USEC_PER_SEC)
#define SUSPECT_USEC (1 * USEC_PER_SEC) /* until a silent worker is asked again */
#define LEASED_USEC  (2 * USEC_PER_SEC) /* until another queue's lease is asked for again */

/* Up to a tenth earlier, differently each time, so that calls to many workers spread. */
static usec_t spread(const Worker *worker, usec_t usec) {
        return usec - stable_hash_u64(worker->id_hash + worker->n_calls) % (usec / 10 + 1);
}

static void identity_event(Worker *worker, WorkerIdentityEvent event) {
        int next = worker_identity_next(worker->identity, event);
        assert(next >= 0);
        worker->identity = (WorkerIdentity) next;
}

static void call_event(Worker *worker, WorkerCallEvent event) {
        int next = worker_call_phase_next(worker->call_phase, event);
        assert(next >= 0);
        worker->call_phase = (WorkerCallPhase) next;
}

static void call_again(Worker *worker, usec_t now_usec, usec_t after_usec) {
        worker->next_call_usec = usec_add(now_usec, spread(worker, after_usec));
}

static void call_at_once(Worker *worker, usec_t now_usec) {
        if (worker->next_call_usec > now_usec)
                worker->next_call_usec = now_usec;
}

/* Whether the latest call was made after the identity was last doubted. */
static bool call_is_after_doubt(const Worker *worker) {
        return worker->n_calls > worker->doubt_call;
}

/* The call that just ended came too early to settle who the worker is. */
static void call_about_doubt(Worker *worker, usec_t now_usec) {
        if (worker->identity != WORKER_KNOWN && !call_is_after_doubt(worker))
                call_at_once(worker, now_usec);
}

static void note_answer(Worker *worker, usec_t now_usec) {
        worker->silent = false;
        worker->last_answer_usec = now_usec;
}

/* Has it asked which instance it is by a call that is still to be made: the answer to one under way may be
 * older than what raised the question. */
static void ask_who_it_is(Worker *worker, WorkerIdentityEvent event, usec_t now_usec) {
        identity_event(worker, event);
        worker->doubt_call = worker->n_calls;
        call_at_once(worker, now_usec);
}

void worker_doubt(Worker *worker, usec_t now_usec) {
        ask_who_it_is(worker, WORKER_IDENTITY_DOUBT, now_usec);
}

/* What was sent to an earlier start of the worker died with it, unless the worker has moved: then the other
 * instance may go on elsewhere. What this one was found not to have, it had once. */
static void settle_attempts(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        bool is_known = worker->worker.identity == WORKER_KNOWN;
        for (ScheduledTask *task = worker->attempts, *next; task; task = next) {
                next = task->next_at_worker;
                if (task->state == SCHEDULED_SENDING)
                        continue;
                if (attempt_is_outlived(task, now_usec))
                        attempt_lost(scheduler, task, now_usec);
                else if (attempt_is_of_other_instance(task))
                        continue;
                else if (task->missing && is_known && task->state == SCHEDULED_RUNNING)
                        attempt_forgotten(scheduler, task);
                else if (task->missing && is_known)
                        attempt_refused(scheduler, task, now_usec);
        }
}

/* A report counts what the worker has accepted. What is still under way is taken off. */
static void count_unanswered(ScheduledWorker *worker) {
        worker->worker.sent = (Resources) {};
        for (ScheduledTask *task = worker->attempts; task; task = task->next_at_worker)
                task->is_deducted = task->is_deducted && task->state != SCHEDULED_RUNNING &&
                                worker_take(&worker->worker, task->want);
}

/* One that does not say which it is, is taken for the same. */
static bool is_other_instance(const Worker *worker, const WorkerReport *report) {
        return *report->instance && !streq(worker->report.instance, report->instance);
}

static void take_report(Worker *worker, const WorkerReport *report, usec_t now_usec) {
        char instance[WORKER_INSTANCE_SIZE];
        memcpy(instance, *report->instance ? report->instance : worker->report.instance, sizeof(instance));
        worker->report = *report;
        worker->reported_free = report->free_amounts;
        memcpy(worker->report.instance, instance, sizeof(instance));
        worker->n_reports++;
        worker->full_usec = 0;
        if (worker->call_phase == WORKER_CALL_REPORT_DUE)
                identity_event(worker,
                               call_is_after_doubt(worker) ? WORKER_IDENTITY_SETTLED :
                                                             WORKER_IDENTITY_TOO_EARLY);
        call_event(worker, WORKER_CALL_EVENT_REPORTED);
        note_answer(worker, now_usec);
}

/* Answers to different requests overtake each other, so that a report may be of an earlier instance than the
 * last one was. Probes are made one after the other: only their answers can say that there is a new one. */
void scheduler_worker_reported(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const WorkerReport *report,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        touch_worker(worker);
        Worker *state = &worker->worker;
        bool was_unknown = state->identity == WORKER_UNKNOWN, is_other = is_other_instance(state, report);
        if (state->call_phase != WORKER_CALL_REPORT_DUE && (was_unknown || is_other)) {
                worker_doubt(state, now_usec);
                return;
        }
        bool news = worker_is_out_of_reach(state) || state->report.draining != report->draining;
        bool restarted = !was_unknown && is_other;
        if (restarted && state->identity != WORKER_NEW_LEASE) /* no lease survives a restart */
                *state->lease_id = 0;
        take_report(state, report, now_usec);
        if (news || restarted)
                call_at_once(state, now_usec);
        settle_attempts(scheduler, worker, now_usec);
        count_unanswered(worker);
}

/* Until when a lease may be live that would otherwise end at END_USEC: each renewal that we gave up may still
 * arrive, as long as requests travel and the lease is live. */
static usec_t lease_may_end_usec(const Worker *worker, usec_t end_usec, usec_t ttl_usec, usec_t now_usec) {
        if (worker->late_call_usec <= now_usec)
                return end_usec;
        usec_t chain_usec = usec_add(end_usec, worker->n_late_calls * ttl_usec);
        usec_t last_usec = usec_add(worker->late_call_usec, ttl_usec);
        usec_t usec = chain_usec < last_usec ? chain_usec : last_usec;
        return usec > end_usec ? usec : end_usec;
}

/* Others may use the worker, or have used it before us: what it has free is asked for once between renewals
 * at least, since nobody may tell us. */
static void probe_before_renewal(Worker *worker, usec_t now_usec) {
        usec_t half_usec = usec_subtract(worker->renew_usec, now_usec) / 2;
        worker->probe_before_renewal = true;
        worker->next_call_usec = usec_add(now_usec, half_usec < PROBE_USEC ? half_usec : PROBE_USEC);
}

static void schedule_renewal(Worker *worker, usec_t now_usec) {
        worker->probe_before_renewal = false;
        call_again(worker, now_usec, 0);
        usec_t left_usec = usec_subtract(worker->renew_usec, now_usec);
        if (left_usec > 2 * PROBE_USEC)
                probe_before_renewal(worker, now_usec);
        else
                worker->next_call_usec = usec_add(now_usec, left_usec);
}

/* A lease that is new to us may come from an instance that is, too: it is asked before anything goes there,
 * so that each attempt knows the instance that it dies with. */
void scheduler_call_granted(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *lease_id,
                usec_t ttl_usec,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        assert(strlen(lease_id) < LEASE_ID_SIZE);

        touch_worker(worker);
        Worker *state = &worker->worker;
        call_event(state, WORKER_CALL_EVENT_ENDED);
        note_answer(state, now_usec);
        bool fresh = !streq(state->lease_id, lease_id);
        (void) strncpy(state->lease_id, lease_id, LEASE_ID_SIZE - 1);
        *state->lease_holder = 0;
        state->lease_certain_usec = usec_add(state->call_sent_usec, ttl_usec);
        state->lease_maybe_usec = lease_may_end_usec(state, usec_add(now_usec, ttl_usec), ttl_usec, now_usec);
        call_again(state, now_usec, ttl_usec / 3);
        state->renew_usec = state->next_call_usec;
        probe_before_renewal(state, now_usec);
        if (fresh)
                ask_who_it_is(state, WORKER_IDENTITY_LEASE_GRANTED, now_usec);
        call_about_doubt(state, now_usec);
}

void scheduler_call_refused(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *holder,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        touch_worker(worker);
        Worker *state = &worker->worker;
        call_event(state, WORKER_CALL_EVENT_ENDED);
        note_answer(state, now_usec);
        *state->lease_id = 0;
        (void) strncpy(state->lease_holder, holder, LEASE_QUEUE_MAX);
        call_again(state, now_usec, state->call == WORKER_CALL_RENEW ? 0 : LEASED_USEC);
        call_about_doubt(state, now_usec);
}

void scheduler_call_answered(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        touch_worker(worker);
        Worker *state = &worker->worker;
        note_answer(state, now_usec);
        bool probed = state->call == WORKER_CALL_PROBE;
        call_event(state, probed ? WORKER_CALL_EVENT_PROBE_ANSWERED : WORKER_CALL_EVENT_ENDED);
        if (state->call == WORKER_CALL_RELEASE)
                *state->lease_id = 0;
        if (probed && *state->lease_id)
                schedule_renewal(state, now_usec);
        else
                call_again(state, now_usec, worker_is_to_be_leased(state) ? 0 : PROBE_USEC);
        call_about_doubt(state, now_usec);
}

static void renewal_unanswered(Worker *worker, usec_t ttl_usec, usec_t now_usec) {
        if (worker->late_call_usec <= worker->call_sent_usec)
                worker->n_late_calls = 0;
        worker->n_late_calls++;
        worker->late_call_usec = usec_add(now_usec, SCHEDULER_IN_FLIGHT_USEC + ttl_usec);
        if (worker->lease_maybe_usec <= worker->call_sent_usec)
                return;
        usec_t chain_usec = usec_add(worker->lease_maybe_usec, ttl_usec);
        usec_t last_usec = usec_add(worker->late_call_usec, ttl_usec);
        worker->lease_maybe_usec = chain_usec < last_usec ? chain_usec : last_usec;
}

void scheduler_call_failed(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        touch_worker(worker);
        Worker *state = &worker->worker;
        call_event(state, WORKER_CALL_EVENT_ENDED);
        if (state->call == WORKER_CALL_RENEW || state->call == WORKER_CALL_ACQUIRE)
                renewal_unanswered(state, scheduler->config.lease_ttl_usec, now_usec);
        state->silent = true;
        call_again(state, now_usec, SUSPECT_USEC);
}

void scheduler_worker_suspect(ScheduledWorker *worker, usec_t now_usec) {
        touch_worker(worker);
        call_at_once(&worker->worker, now_usec);
}

void scheduler_set_permitted(ScheduledWorker *worker, bool permitted, usec_t now_usec) {
        Worker *state = &worker->worker;
        if (state->share_known && state->permitted == permitted)
                return;
        touch_worker(worker);
        state->permitted = permitted;
        state->share_known = true;
        call_at_once(state, now_usec);
}

void scheduler_set_disabled(ScheduledWorker *worker, bool disabled, usec_t now_usec) {
        if (worker->worker.disabled == disabled)
                return;
        touch_worker(worker);
        worker->worker.disabled = disabled;
        call_at_once(&worker->worker, now_usec);
}

void scheduler_set_leaving(ScheduledWorker *worker, bool leaving, usec_t now_usec) {
        if (worker->worker.leaving == leaving)
                return;
        touch_worker(worker);
        worker->worker.leaving = leaving;
        call_at_once(&worker->worker, now_usec);
}

/* Silent until the other address answers, so that nothing is sent there before it has said who it is. */
void scheduler_move_worker(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        Worker *state = &worker->worker;
        assert(state->call_phase != WORKER_CALL_UNDER_WAY);

        touch_worker(worker);
        for (ScheduledTask *task = worker->attempts; task; task = task->next_at_worker)
                attempt_unmiss(scheduler, task, now_usec);
        state->elsewhere_usec = worker_lost_usec(state, scheduler->config.lost_after_usec);
        state->silent = true;
        worker_doubt(state, now_usec);
}

/* A lease of one that does not answer ends by itself. */
bool scheduler_worker_has_left(const ScheduledWorker *worker) {
        const Worker *state = &worker->worker;
        return state->leaving && state->n_attempts == 0 && state->call_phase != WORKER_CALL_UNDER_WAY &&
                        (!*state->lease_id || state->silent);
}

/* Nothing is left there that would have to be finished first. */
bool worker_is_to_be_released(const Worker *worker) {
        return *worker->lease_id && !worker->silent && !worker_is_wanted(worker) && worker->n_attempts == 0;
}

static void begin_call(ScheduledWorker *worker, usec_t now_usec) {
        Scheduler *scheduler = worker->scheduler;
        Worker *state = &worker->worker;
        call_event(state, WORKER_CALL_EVENT_MADE);
        state->call = worker_due_call(state);
        state->call_sent_usec = now_usec;
        state->n_calls++;
        worker->call_due = true;
        if (worker->in_calls)
                return;
        worker->in_calls = true;
        worker->next_call = NULL;
        *(scheduler->last_call ? &scheduler->last_call->next_call : &scheduler->first_call) = worker;
        scheduler->last_call = worker;
}

void workers_forget_call(Scheduler *scheduler, ScheduledWorker *worker) {
        ScheduledWorker *last = NULL;
        for (ScheduledWorker **place = &scheduler->first_call; *place; place = &(*place)->next_call) {
                if (*place == worker) {
                        *place = worker->next_call;
                        if (scheduler->last_call == worker)
                                scheduler->last_call = last;
                        return;
                }
                last = *place;
        }
}

bool workers_next_call(Scheduler *scheduler, SchedulerAction *ret) {
        for (ScheduledWorker *worker; (worker = scheduler->first_call);) {
                scheduler->first_call = worker->next_call;
                if (!scheduler->first_call)
                        scheduler->last_call = NULL;
                worker->in_calls = false;
                if (!worker->call_due)
                        continue;
                worker->call_due = false;
                *ret = (SchedulerAction) {
                        .type = ACTION_CALL,
                        .worker = worker,
                        .call = worker->worker.call,
                };
                return true;
        }
        return false;
}

static bool is_given_up(const Scheduler *scheduler, const Worker *worker, usec_t now_usec) {
        return worker->n_attempts > 0 && worker_is_out_of_reach(worker) &&
                        now_usec >= worker_lost_usec(worker, scheduler->config.lost_after_usec);
}

/* What is on its way has its own deadline, and comes back here after it. */
static void lose_attempts(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        for (ScheduledTask *task = worker->attempts, *next; task; task = next) {
                next = task->next_at_worker;
                if (task->state != SCHEDULED_SENDING)
                        attempt_lost(scheduler, task, now_usec);
        }
}

/* From now on what another instance was sent counts as with any worker that was started again. */
static void end_move(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        worker->worker.elsewhere_usec = 0;
        if (!worker_is_out_of_reach(&worker->worker))
                settle_attempts(scheduler, worker, now_usec);
}

static void worker_tick(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        Worker *state = &worker->worker;
        if (state->elsewhere_usec > 0 && now_usec >= state->elsewhere_usec)
                end_move(scheduler, worker, now_usec);
        if (is_given_up(scheduler, state, now_usec))
                lose_attempts(scheduler, worker, now_usec);
        if (state->call_phase != WORKER_CALL_UNDER_WAY &&
            (state->next_call_usec <= now_usec || worker_is_to_be_released(state)))
                begin_call(worker, now_usec);
}

/* Each time a worker is looked at, the time to do so next moves on. */
void workers_tick(Scheduler *scheduler, usec_t now_usec) {
        touch_refresh(scheduler, now_usec);
        for (const Deadline *due; (due = deadline_first(&scheduler->dues)) && due->when_usec <= now_usec;) {
                ScheduledWorker *worker = container_of(due, ScheduledWorker, due);
                worker_tick(scheduler, worker, now_usec);
                touch_refresh_worker(worker, now_usec);
                assert(worker->due.place == 0 || worker->due.when_usec > now_usec);
        }
}
