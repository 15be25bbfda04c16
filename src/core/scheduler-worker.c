/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is heard of workers, and when they are called. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "core/scheduler-internal.h"
#include "core/stable-hash.h"

#define PROBE_USEC   (10 * USEC_PER_SEC)
#define SUSPECT_USEC (1 * USEC_PER_SEC) /* until a silent worker is asked again */
#define LEASED_USEC  (2 * USEC_PER_SEC) /* until another queue's lease is asked for again */

/* Up to a tenth earlier, differently each time, so that calls to many workers spread. */
static usec_t spread(const Worker *worker, usec_t usec) {
        return usec - stable_hash_u64(worker->id_hash + worker->n_calls) % (usec / 10 + 1);
}

static void call_again(Worker *worker, usec_t now_usec, usec_t after_usec) {
        worker->calling = false;
        worker->next_call_usec = usec_add(now_usec, spread(worker, after_usec));
}

static void call_at_once(Worker *worker, usec_t now_usec) {
        if (worker->next_call_usec > now_usec)
                worker->next_call_usec = now_usec;
}

static void heard(Worker *worker, usec_t now_usec) {
        worker->silent = false;
        worker->heard_usec = now_usec;
}

/* What was sent to an earlier start of the worker died with it. */
static void lose_attempts_of_other_instances(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        for (ScheduledTask *task = worker->attempts, *next; task; task = next) {
                next = task->next_at_worker;
                if (task->state != SCHEDULED_SENDING &&
                    !streq(task->instance, worker->worker.report.instance))
                        attempt_lost(scheduler, task, now_usec);
        }
}

/* A report counts what the worker has accepted. What is still under way is taken off once more. */
static void count_unanswered(ScheduledWorker *worker) {
        Resources *free_amounts = &worker->worker.report.free_amounts;
        for (ScheduledTask *task = worker->attempts; task; task = task->next_at_worker) {
                task->counted = task->counted && task->state != SCHEDULED_RUNNING;
                if (task->counted)
                        resources_subtract(free_amounts, task->want, free_amounts);
        }
}

void scheduler_worker_reported(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const WorkerReport *report,
                usec_t now_usec) {
        Worker *state = &worker->worker;
        bool restarted = state->heard && !streq(state->report.instance, report->instance);
        bool news = !state->heard || state->silent || restarted || state->report.draining != report->draining;
        heard(state, now_usec);
        state->report = *report;
        state->heard = true;
        state->n_reports++;
        if (restarted) /* leases never survive a restart */
                *state->lease_id = 0;
        if (news)
                call_at_once(state, now_usec);
        lose_attempts_of_other_instances(scheduler, worker, now_usec);
        count_unanswered(worker);
}

void scheduler_call_granted(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *lease_id,
                usec_t ttl_usec,
                usec_t now_usec) {
        assert(worker->worker.calling);
        assert(strlen(lease_id) < LEASE_ID_SIZE);

        Worker *state = &worker->worker;
        heard(state, now_usec);
        (void) strncpy(state->lease_id, lease_id, LEASE_ID_SIZE - 1);
        *state->lease_holder = 0;
        state->lease_sure_usec = usec_add(state->call_sent_usec, ttl_usec);
        state->lease_maybe_usec = usec_add(now_usec, ttl_usec);
        call_again(state, now_usec, ttl_usec / 3);
}

void scheduler_call_refused(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *holder,
                usec_t now_usec) {
        assert(worker->worker.calling);

        Worker *state = &worker->worker;
        heard(state, now_usec);
        *state->lease_id = 0;
        (void) strncpy(state->lease_holder, holder, LEASE_QUEUE_MAX);
        call_again(state, now_usec, LEASED_USEC);
}

void scheduler_call_answered(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        assert(worker->worker.calling);

        Worker *state = &worker->worker;
        heard(state, now_usec);
        if (state->call == WORKER_CALL_RELEASE)
                *state->lease_id = 0;
        call_again(state, now_usec, worker_due_call(state) == WORKER_CALL_PROBE ? PROBE_USEC : 0);
}

void scheduler_call_failed(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec) {
        assert(worker->worker.calling);

        Worker *state = &worker->worker;
        if (state->call != WORKER_CALL_PROBE) /* it may have arrived */
                state->lease_maybe_usec = usec_add(now_usec, scheduler->config.lease_ttl_usec);
        state->silent = true;
        call_again(state, now_usec, SUSPECT_USEC);
}

void scheduler_worker_suspect(ScheduledWorker *worker, usec_t now_usec) {
        call_at_once(&worker->worker, now_usec);
}

void scheduler_set_permitted(ScheduledWorker *worker, bool permitted, usec_t now_usec) {
        if (worker->worker.permitted == permitted)
                return;
        worker->worker.permitted = permitted;
        call_at_once(&worker->worker, now_usec);
}

void scheduler_set_disabled(ScheduledWorker *worker, bool disabled, usec_t now_usec) {
        worker->worker.disabled = disabled;
        call_at_once(&worker->worker, now_usec);
}

/* Nothing is left there that would have to be finished first. */
static bool is_to_be_released(const Worker *worker) {
        return *worker->lease_id && !worker->silent && !worker_is_wanted(worker) && worker->n_attempts == 0;
}

static void begin_call(ScheduledWorker *worker, usec_t now_usec) {
        Worker *state = &worker->worker;
        state->calling = true;
        state->call = worker_due_call(state);
        state->call_sent_usec = now_usec;
        state->n_calls++;
        worker->call_due = true;
}

static bool is_given_up(const Scheduler *scheduler, const Worker *worker, usec_t now_usec) {
        return worker->n_attempts > 0 && (worker->silent || !worker->heard) &&
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

void workers_tick(Scheduler *scheduler, usec_t now_usec) {
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                ScheduledWorker *worker = scheduler->workers[i];
                if (is_given_up(scheduler, &worker->worker, now_usec))
                        lose_attempts(scheduler, worker, now_usec);
                if (!worker->worker.calling &&
                    (worker->worker.next_call_usec <= now_usec || is_to_be_released(&worker->worker)))
                        begin_call(worker, now_usec);
        }
}

static usec_t earlier(usec_t a, usec_t b) {
        return a < b ? a : b;
}

usec_t workers_deadline(const Scheduler *scheduler, usec_t now_usec) {
        usec_t usec = USEC_INFINITY;
        for (size_t i = 0; i < scheduler->n_workers; i++) {
                const Worker *worker = &scheduler->workers[i]->worker;
                if (!worker->calling)
                        usec = earlier(usec, worker->next_call_usec);
                if (worker->paused_usec > now_usec && scheduler->waiting.n_entries > 0)
                        usec = earlier(usec, worker->paused_usec);
                usec_t lost_usec = worker_lost_usec(worker, scheduler->config.lost_after_usec);
                if (worker->n_attempts > 0 && (worker->silent || !worker->heard) && lost_usec > now_usec)
                        usec = earlier(usec, lost_usec);
        }
        return usec;
}
