/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One attempt, from placement to its end. */

#include <assert.h>
#include <string.h>
#include <utlist.h>

#include "base/text.h"
#include "core/scheduling/scheduler-internal.h"
#include "core/text/stable-hash.h"

#define RESUBMIT_USEC    (1 * USEC_PER_SEC)
#define LISTING_USEC     (5 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC (3600 * USEC_PER_SEC)
#define FULL_PAUSE_USEC  (100 * USEC_PER_MSEC)
#define BUSY_PAUSE_USEC  (1 * USEC_PER_SEC)
#define NO_MEMORY_USEC   (1 * USEC_PER_SEC)

/* Well-formed, and never granted. */
#define LEASE_OF_NOBODY "00000000000000000000000000000000"

static void worker_link(ScheduledWorker *worker, ScheduledTask *task) {
        touch_worker(worker);
        task->worker = worker;
        DL_PREPEND2(worker->attempts, task, previous_at_worker, next_at_worker);
        worker->worker.n_attempts++;
}

static void worker_unlink(ScheduledTask *task) {
        ScheduledWorker *worker = task->worker;
        touch_worker(worker);
        DL_DELETE2(worker->attempts, task, previous_at_worker, next_at_worker);
        worker->worker.n_attempts--;
        if (task->state == SCHEDULED_SENDING)
                worker->worker.n_sending--;
        if (task->is_deducted)
                worker_untake(&worker->worker, task->want);
        task->worker = NULL;
        task->is_deducted = false;
}

void task_wait(Scheduler *scheduler, ScheduledTask *task, usec_t since_usec, usec_t now_usec) {
        int r = waiting_list_add(
                        &scheduler->waiting,
                        &task->waiting,
                        task->want,
                        task->priority,
                        task->sequence,
                        since_usec);
        if (r >= 0) {
                task->state = SCHEDULED_WAITING;
                return;
        }
        task->state = SCHEDULED_BACKOFF;
        deadline_set(&scheduler->deadlines, &task->deadline, usec_add(now_usec, NO_MEMORY_USEC));
}

/* Every attempt leaves its worker here. */
static void attempt_over(Scheduler *scheduler, ScheduledTask *task) {
        deadline_clear(&scheduler->deadlines, &task->deadline);
        worker_unlink(task);
        if (task->uncertain_usec > 0)
                task->forget_after_usec = usec_add(task->uncertain_usec, SCHEDULER_IN_FLIGHT_USEC);
        task->actions &= ~(1U << ACTION_PLACE | 1U << ACTION_RESUBMIT | 1U << ACTION_STOP);
        task->missing = false;
}

static void task_finish(Scheduler *scheduler, ScheduledTask *task, ScheduledReason reason) {
        attempt_over(scheduler, task);
        task->state = SCHEDULED_ENDED;
        task->reason = reason;
        scheduler_act(scheduler, task, ACTION_FINISH);
}

static void task_requeue(Scheduler *scheduler, ScheduledTask *task, ScheduledReason reason, usec_t now_usec) {
        attempt_over(scheduler, task);
        task->reason = reason;
        scheduler_act(scheduler, task, ACTION_REQUEUE);
        /* Patience is not lost by a worker's no: it would never come to an end where small ones are quicker.
         */
        task_wait(scheduler, task, reason == REASON_REFUSED ? task->waiting_since_usec : now_usec, now_usec);
}

static void attempt_bind(ScheduledTask *task) {
        const Worker *worker = &task->worker->worker;
        memcpy(task->instance, worker->report.instance, sizeof(task->instance));
        memcpy(task->lease_id, worker->lease_id, sizeof(task->lease_id));
        task->names_own_lease = true;
}

bool attempt_is_of_other_instance(const ScheduledTask *task) {
        const char *present = task->worker->worker.report.instance;
        return *present && *task->instance && !streq(task->instance, present);
}

/* The instance that it was sent to is not there any more, nor can it be elsewhere under a live lease. */
bool attempt_is_outlived(const ScheduledTask *task, usec_t now_usec) {
        return attempt_is_of_other_instance(task) && now_usec >= task->worker->worker.elsewhere_usec;
}

void attempt_begin(Scheduler *scheduler, ScheduledTask *task, ScheduledWorker *worker, usec_t now_usec) {
        assert(task->state == SCHEDULED_WAITING);

        task->waiting_since_usec = task->waiting.since_usec;
        waiting_list_remove(&scheduler->waiting, &task->waiting);
        worker_link(worker, task);
        worker->worker.n_sending++;
        attempt_bind(task);
        task->sent_usec = now_usec;
        task->accepted_usec = 0;
        task->reports_when_sent = worker->worker.n_reports;
        task->maybe_taken = false;
        task->uncertain_usec = task->settled_usec = 0;
        task->is_deducted = worker_take(&worker->worker, task->want);
        task->state = SCHEDULED_SENDING;
        scheduler_act(scheduler, task, ACTION_PLACE);
}

void scheduler_restore_attempt(
                Scheduler *scheduler,
                ScheduledTask *task,
                ScheduledWorker *worker,
                const char *instance,
                bool accepted,
                bool unanswered,
                usec_t now_usec) {
        assert(task->state == SCHEDULED_WAITING);
        assert(strlen(instance) < WORKER_INSTANCE_SIZE);

        waiting_list_remove(&scheduler->waiting, &task->waiting);
        worker_link(worker, task);
        (void) strncpy(task->instance, instance, sizeof(task->instance) - 1);
        task->waiting_since_usec = now_usec;
        task->state = accepted ? SCHEDULED_RUNNING : SCHEDULED_UNCERTAIN;
        if (!accepted || unanswered) /* of what the earlier run sent, something may still be on its way */
                task->uncertain_usec = now_usec;
        if (accepted)
                return;
        task->maybe_taken = true;
        deadline_set(&scheduler->deadlines, &task->deadline, now_usec);
}

/* An attempt from before a restart of the queue has forgotten its lease. The present one, if there is one,
 * was either the same or granted when that had ended. */
static bool can_bind(const ScheduledTask *task) {
        const Worker *worker = &task->worker->worker;
        return *worker->lease_id && worker->identity == WORKER_KNOWN;
}

/* One that is to be stopped is not to be started by our asking. */
static void attempt_choose_lease(ScheduledTask *task) {
        if (!task->names_own_lease && !task->stop_requested && can_bind(task))
                attempt_bind(task);
        if (task->names_own_lease && !task->stop_requested)
                return;
        task->names_own_lease = false;
        memcpy(task->lease_id, LEASE_OF_NOBODY, sizeof(task->lease_id));
}

/* A silent worker is asked again when it answers, and another instance than the one that may have it is not
 * asked at all; until then there is nothing to gain. */
void attempt_resubmit(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        assert(task->state == SCHEDULED_UNCERTAIN);

        touch_worker(task->worker);
        Worker *worker = &task->worker->worker;
        if (worker_is_out_of_reach(worker) || attempt_is_of_other_instance(task)) {
                deadline_set(&scheduler->deadlines, &task->deadline, usec_add(now_usec, RESUBMIT_USEC));
                return;
        }
        attempt_choose_lease(task);
        task->sent_usec = now_usec;
        task->settled_usec = 0;
        task->state = SCHEDULED_SENDING;
        worker->n_sending++;
        scheduler_act(scheduler, task, ACTION_RESUBMIT);
}

static void attempt_not_sending(ScheduledTask *task) {
        assert(task->state == SCHEDULED_SENDING);

        task->worker->worker.n_sending--;
        task->state = SCHEDULED_UNCERTAIN;
}

static void attempt_uncertain(Scheduler *scheduler, ScheduledTask *task, usec_t again_usec) {
        attempt_not_sending(task);
        deadline_set(&scheduler->deadlines, &task->deadline, again_usec);
}

static void attempt_accepted(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        Worker *worker = &task->worker->worker;
        if (task->state == SCHEDULED_SENDING)
                worker->n_sending--;
        deadline_clear(&scheduler->deadlines, &task->deadline);
        task->state = SCHEDULED_RUNNING;
        task->accepted_usec = now_usec;
        /* A report since then has most likely counted it. If not, the worker will say no to one too many. */
        if (task->is_deducted && worker->n_reports > task->reports_when_sent) {
                worker_untake(worker, task->want);
                task->is_deducted = false;
        }
        if (task->stop_requested)
                scheduler_act(scheduler, task, ACTION_STOP);
}

/* The worker never ran it and never will. */
void attempt_refused(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        if (task->stop_requested)
                task_finish(scheduler, task, REASON_CANCELED);
        else
                task_requeue(scheduler, task, REASON_REFUSED, now_usec);
}

/* What was not found says nothing any more: it was looked for elsewhere. */
void attempt_unmiss(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        if (!task->missing)
                return;
        task->missing = false;
        if (task->state == SCHEDULED_UNCERTAIN)
                deadline_set(&scheduler->deadlines, &task->deadline, now_usec);
}

/* The worker says no, and means every submission of this attempt. But an earlier one may have been taken by
 * an instance that is gone: it never ran if this is still the same. */
static void attempt_not_there(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        if (!task->maybe_taken) {
                attempt_refused(scheduler, task, now_usec);
                return;
        }
        attempt_not_sending(task);
        task->missing = true;
        worker_doubt(&task->worker->worker, now_usec);
}

/* Whether an earlier submission may be read after the one that was just answered. */
static bool may_be_in_flight(const ScheduledTask *task) {
        return task->uncertain_usec > 0 &&
                        task->sent_usec < usec_add(task->uncertain_usec, SCHEDULER_IN_FLIGHT_USEC);
}

/* It says no to this submission; an earlier one may still be on its way. */
static void submission_refused(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        if (may_be_in_flight(task))
                attempt_uncertain(scheduler, task, usec_add(now_usec, RESUBMIT_USEC));
        else
                attempt_not_there(scheduler, task, now_usec);
}

/* That says nothing about an earlier one. */
static void submission_unsent(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        if (task->maybe_taken)
                attempt_uncertain(scheduler, task, usec_add(now_usec, RESUBMIT_USEC));
        else
                attempt_refused(scheduler, task, now_usec);
}

/* It may have taken it nevertheless. A list tells, for which there is to be time before it is sent again. */
static void submission_strange(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        task->maybe_taken = true;
        task->settled_usec = may_be_in_flight(task) ? 0 : now_usec;
        attempt_uncertain(scheduler, task, usec_add(now_usec, LISTING_USEC));
}

static void pause_worker(Worker *worker, usec_t until_usec) {
        if (worker->paused_usec < until_usec)
                worker->paused_usec = until_usec;
}

/* The lease is over, and so is whatever still travels under it. */
static void lease_refused(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        Worker *worker = &task->worker->worker;
        if (!task->names_own_lease) {
                submission_refused(scheduler, task, now_usec);
                return;
        }
        if (streq(worker->lease_id, task->lease_id))
                *worker->lease_id = 0;
        scheduler_worker_suspect(task->worker, now_usec);
        attempt_not_there(scheduler, task, now_usec);
}

/* It was started anew meanwhile: what the earlier instance took is gone, what it did not take nobody will. */
static void submission_outlived(
                Scheduler *scheduler,
                ScheduledTask *task,
                SubmitOutcome outcome,
                usec_t now_usec) {
        if (outcome == SUBMIT_ACCEPTED || outcome == SUBMIT_STRANGE || outcome == SUBMIT_UNKNOWN ||
            task->maybe_taken)
                attempt_lost(scheduler, task, now_usec);
        else
                attempt_refused(scheduler, task, now_usec);
}

void scheduler_submit_done(
                Scheduler *scheduler,
                ScheduledTask *task,
                SubmitOutcome outcome,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        assert(task->state == SCHEDULED_SENDING);

        touch_worker(task->worker);
        Worker *worker = &task->worker->worker;
        if (outcome != SUBMIT_UNSENT && outcome != SUBMIT_UNKNOWN)
                worker->last_answer_usec = now_usec;
        if (attempt_is_outlived(task, now_usec)) {
                submission_outlived(scheduler, task, outcome, now_usec);
                return;
        }
        switch (outcome) {
        case SUBMIT_ACCEPTED:
                attempt_accepted(scheduler, task, now_usec);
                break;
        case SUBMIT_FULL:
                worker->full_usec = usec_add(now_usec, FULL_PAUSE_USEC);
                submission_refused(scheduler, task, now_usec);
                break;
        case SUBMIT_BUSY:
                pause_worker(worker, usec_add(now_usec, BUSY_PAUSE_USEC));
                submission_refused(scheduler, task, now_usec);
                break;
        case SUBMIT_NO_LEASE:
                lease_refused(scheduler, task, now_usec);
                break;
        case SUBMIT_INVALID:
                if (may_be_in_flight(task))
                        attempt_uncertain(scheduler, task, usec_add(now_usec, RESUBMIT_USEC));
                else
                        task_finish(scheduler, task, REASON_INVALID);
                break;
        case SUBMIT_STRANGE:
                pause_worker(worker, usec_add(now_usec, BUSY_PAUSE_USEC));
                submission_strange(scheduler, task, now_usec);
                break;
        case SUBMIT_UNSENT:
                pause_worker(worker, usec_add(now_usec, BUSY_PAUSE_USEC));
                scheduler_worker_suspect(task->worker, now_usec);
                submission_unsent(scheduler, task, now_usec);
                break;
        case SUBMIT_UNKNOWN:
                task->maybe_taken = true;
                task->uncertain_usec = now_usec;
                scheduler_worker_suspect(task->worker, now_usec);
                attempt_uncertain(scheduler, task, usec_add(now_usec, RESUBMIT_USEC));
                break;
        }
}

/* Doubles with each try; a tenth more or less, so that what failed together does not come back together. */
usec_t scheduler_backoff_usec(const ScheduledTask *task) {
        usec_t usec = task->retry_backoff_usec;
        for (uint64_t i = 1; i < task->n_retries && usec < BACKOFF_MAX_USEC; i++)
                usec = 2 * usec < BACKOFF_MAX_USEC ? 2 * usec : BACKOFF_MAX_USEC;
        return usec * 9 / 10 + stable_hash_u64(task->id_hash + task->n_retries) % (usec / 5 + 1);
}

static void task_retry(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        attempt_over(scheduler, task);
        task->n_retries++;
        task->reason = REASON_RETRY;
        task->state = SCHEDULED_BACKOFF;
        deadline_set(&scheduler->deadlines,
                     &task->deadline,
                     usec_add(now_usec, scheduler_backoff_usec(task)));
        scheduler_act(scheduler, task, ACTION_REQUEUE);
}

void attempt_lost(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        task->n_losses++;
        if (task->retry_on_lost && !task->stop_requested && task->n_losses <= SCHEDULER_LOSSES_MAX)
                task_requeue(scheduler, task, REASON_LOST, now_usec);
        else
                task_finish(scheduler, task, REASON_LOST);
}

void scheduler_attempt_ended(Scheduler *scheduler, ScheduledTask *task, AttemptEnd end, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        assert(task->state == SCHEDULED_RUNNING || task->state == SCHEDULED_UNCERTAIN);

        if (!task->is_deducted)
                worker_give_back(&task->worker->worker, task->want);
        /* Its runner stops: what is sent there before it has told so itself would be lost once more. */
        if (end == ATTEMPT_SHUTDOWN)
                worker_doubt(&task->worker->worker, now_usec);
        if (end == ATTEMPT_SHUTDOWN && !task->stop_requested)
                attempt_lost(scheduler, task, now_usec);
        else if (end == ATTEMPT_ERRORED && task->n_retries < task->retries_max && !task->stop_requested)
                task_retry(scheduler, task, now_usec);
        else
                task_finish(scheduler, task, REASON_RESULT);
}

void scheduler_end_stored(
                Scheduler *scheduler,
                const ScheduledTask *task,
                ScheduledWorker *worker,
                const char *attempt_id,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        usec_t usec = task->forget_after_usec;
        (void) forget_list_add(&scheduler->forget, attempt_id, worker, usec > now_usec ? usec : now_usec);
}

bool scheduler_take_over(Scheduler *scheduler, ScheduledTask *task, ScheduledWorker *worker) {
        const Worker *state = &worker->worker;
        scheduler_assert_idle(scheduler);
        if ((task->state != SCHEDULED_RUNNING && task->state != SCHEDULED_UNCERTAIN) ||
            state->identity == WORKER_UNKNOWN || !*task->instance ||
            !streq(task->instance, state->report.instance))
                return false;
        usec_t elsewhere_usec = task->worker->worker.elsewhere_usec;
        if (worker->worker.elsewhere_usec < elsewhere_usec) /* its lease is not of ours, or not only */
                worker->worker.elsewhere_usec = elsewhere_usec;
        worker_unlink(task);
        worker_link(worker, task);
        return true;
}

void scheduler_listing_stray(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *attempt_id,
                bool finished,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        if (!finished)
                (void) forget_list_add(&scheduler->strays, attempt_id, worker, now_usec);
        (void) forget_list_add(
                        &scheduler->forget, attempt_id, worker, usec_add(now_usec, SCHEDULER_IN_FLIGHT_USEC));
}

void scheduler_listing_begin(ScheduledWorker *worker) {
        worker->list_round++;
}

void scheduler_listing_has(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        assert(task->worker);

        touch_worker(task->worker);
        task->seen_round = task->worker->list_round;
        task->missing = false;
        if (task->state == SCHEDULED_UNCERTAIN)
                attempt_accepted(scheduler, task, now_usec);
}

/* The worker has been the same all the time, so the task has run and its result is gone. */
void attempt_forgotten(Scheduler *scheduler, ScheduledTask *task) {
        task_finish(scheduler, task, REASON_LOST);
}

/* Whether a list that was asked for at LISTED_USEC would have it, if the worker had. */
static bool attempt_is_listed(const ScheduledTask *task, usec_t listed_usec) {
        if (task->state == SCHEDULED_UNCERTAIN)
                return task->settled_usec > 0 && task->settled_usec < listed_usec;
        return task->state == SCHEDULED_RUNNING && task->accepted_usec < listed_usec;
}

void scheduler_listing_finish(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                usec_t listed_usec,
                usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        touch_worker(worker);
        for (ScheduledTask *task = worker->attempts; task; task = task->next_at_worker) {
                if (task->seen_round == worker->list_round || !attempt_is_listed(task, listed_usec))
                        continue;
                deadline_clear(&scheduler->deadlines, &task->deadline); /* not sent again meanwhile */
                task->missing = true;
                worker_doubt(&worker->worker, now_usec);
        }
}
