/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tasks and attempts: every edge of the diagram in scheduler.h. */

#include <string.h>

#include "base/text.h"
#include "core/scheduling/scheduler.h"
#include "fail-alloc.h"
#include "scheduler-bed.h"
#include "test.h"

#define LEASE_OF_NOBODY "00000000000000000000000000000000"

typedef enum Next {
        NEXT_NONE,
        NEXT_REQUEUE,
        NEXT_FINISH,
        NEXT_STOP,
} Next;

static void check_next(const char *label, Bed *bed, Next next, const ScheduledTask *task) {
        static const SchedulerActionType types[] = {
                [NEXT_NONE] = ACTION_CALL,
                [NEXT_REQUEUE] = ACTION_REQUEUE,
                [NEXT_FINISH] = ACTION_FINISH,
                [NEXT_STOP] = ACTION_STOP,
        };
        SchedulerAction action = bed_next(bed);
        check_int(label, action.type, types[next]);
        check_true(label, action.task == (next == NEXT_NONE ? NULL : task));
}

static void one_ready(Bed *bed) {
        bed_init(bed, 1, 4);
        bed_settle(bed);
}

static void a_task_goes_from_waiting_to_its_end(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        assert_int_equal(task->state, SCHEDULED_WAITING);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 1);
        bed_expect(&bed, ACTION_PLACE, task);
        assert_int_equal(task->state, SCHEDULED_SENDING);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 0);
        assert_string_equal(task->lease_id, bed.workers[0]->worker.lease_id);
        assert_string_equal(task->instance, bed.reports[0].instance);
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        bed_expect_none(&bed);
        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SUCCEEDED, bed.now_usec);
        bed_expect(&bed, ACTION_FINISH, task);
        assert_int_equal(task->state, SCHEDULED_ENDED);
        assert_int_equal(task->reason, REASON_RESULT);
        scheduler_remove_task(bed.scheduler, task);
        assert_int_equal(scheduler_n_tasks(bed.scheduler), 0);
        bed_done(&bed);
}

/* What a submission leads to, at first and after one that got no answer. */
static void each_outcome_of_a_submission(void **state) {
        static const struct {
                const char *label;
                SubmitOutcome outcome;
                bool stop;          /* requested meanwhile */
                usec_t unknown_sec; /* 0: no earlier one; else so long ago one got no answer */
                ScheduledState state;
                Next next;
                ScheduledReason reason;
        } rows[] = {
                { "accepted", SUBMIT_ACCEPTED, false, 0, SCHEDULED_RUNNING, NEXT_NONE, REASON_NONE },
                { "full", SUBMIT_FULL, false, 0, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "busy", SUBMIT_BUSY, false, 0, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "no lease", SUBMIT_NO_LEASE, false, 0, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "unsent", SUBMIT_UNSENT, false, 0, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "invalid", SUBMIT_INVALID, false, 0, SCHEDULED_ENDED, NEXT_FINISH, REASON_INVALID },
                { "unknown", SUBMIT_UNKNOWN, false, 0, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "strange", SUBMIT_STRANGE, false, 0, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "accepted, stop", SUBMIT_ACCEPTED, true, 0, SCHEDULED_RUNNING, NEXT_STOP, REASON_NONE },
                { "full, stop", SUBMIT_FULL, true, 0, SCHEDULED_ENDED, NEXT_FINISH, REASON_CANCELED },
                { "busy, stop", SUBMIT_BUSY, true, 0, SCHEDULED_ENDED, NEXT_FINISH, REASON_CANCELED },
                { "no lease, stop", SUBMIT_NO_LEASE, true, 0, SCHEDULED_ENDED, NEXT_FINISH, REASON_CANCELED },
                { "unsent, stop", SUBMIT_UNSENT, true, 0, SCHEDULED_ENDED, NEXT_FINISH, REASON_CANCELED },
                { "unknown, stop", SUBMIT_UNKNOWN, true, 0, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "accepted again", SUBMIT_ACCEPTED, false, 1, SCHEDULED_RUNNING, NEXT_NONE, REASON_NONE },
                { "full, in flight", SUBMIT_FULL, false, 59, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "busy, in flight", SUBMIT_BUSY, false, 59, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "unsent, in flight",
                  SUBMIT_UNSENT,
                  false,
                  59,
                  SCHEDULED_UNCERTAIN,
                  NEXT_NONE,
                  REASON_NONE },
                { "invalid, in flight",
                  SUBMIT_INVALID,
                  false,
                  59,
                  SCHEDULED_UNCERTAIN,
                  NEXT_NONE,
                  REASON_NONE },
                { "unknown again", SUBMIT_UNKNOWN, false, 59, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "full, late", SUBMIT_FULL, false, 61, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "unsent, late", SUBMIT_UNSENT, false, 61, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "no lease, at once",
                  SUBMIT_NO_LEASE,
                  false,
                  1,
                  SCHEDULED_WAITING,
                  NEXT_REQUEUE,
                  REASON_REFUSED },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                ScheduledTask *task = bed_task(&bed, 2, 100);
                bed_expect(&bed, ACTION_PLACE, task);
                if (row->unknown_sec > 0) {
                        bed_submit_done(&bed, task, SUBMIT_UNKNOWN);
                        check_int(row->label, task->state, SCHEDULED_UNCERTAIN);
                        bed_settle(&bed);
                        task->uncertain_usec = bed.now_usec + SEC - row->unknown_sec * SEC;
                        bed_wait(&bed, SEC);
                        bed_expect(&bed, ACTION_RESUBMIT, task);
                }
                if (row->stop)
                        scheduler_stop_task(bed.scheduler, task);
                bed_submit_done(&bed, task, row->outcome);
                if (task->missing) { /* it is asked whether it is still the same */
                        bed.reports[0].free_amounts = (Resources) {};
                        bed_expect_none(&bed);
                        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
                        bed_answer(&bed, 0);
                }
                check_int(row->label, task->state, row->state);
                check_next(row->label, &bed, row->next, task);
                check_int(row->label, task->reason, row->reason);
                check_int(row->label, bed.workers[0]->worker.n_sending, 0);
                check_int(row->label,
                          bed.workers[0]->worker.n_attempts,
                          row->state == SCHEDULED_RUNNING || row->state == SCHEDULED_UNCERTAIN);
                bed_done(&bed);
        }
}

static void what_is_uncertain_is_sent_again_under_the_same_lease(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_UNKNOWN);
        char lease_id[LEASE_ID_SIZE];
        memcpy(lease_id, task->lease_id, sizeof(lease_id));
        bed_expect_none(&bed);
        bed_settle(&bed);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        assert_string_equal(task->lease_id, lease_id);

        /* Also when the worker has got another meanwhile. */
        bed_submit_done(&bed, task, SUBMIT_UNKNOWN);
        strcpy(bed.workers[0]->worker.lease_id, "another");
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        assert_string_equal(task->lease_id, lease_id);
        bed_done(&bed);
}

/* What the worker has is listed; asked for after the last answer, or before. */
static void worker_lists(Bed *bed, ScheduledTask *task, bool has_it, bool after_answer) {
        usec_t listed_usec = after_answer ? bed->now_usec : bed->now_usec - 2 * SEC;
        scheduler_listing_begin(bed->workers[0]);
        if (has_it)
                scheduler_listing_has(bed->scheduler, task, bed->now_usec);
        scheduler_listing_finish(bed->scheduler, bed->workers[0], listed_usec, bed->now_usec);
}

static void a_list_tells_what_a_strange_answer_meant(void **state) {
        static const struct {
                const char *label;
                bool unanswered; /* one before, which may still be on its way */
                bool has_it, after_answer, restarted;
                ScheduledState state;
                Next next;
                ScheduledReason reason;
        } rows[] = {
                { "taken", false, true, true, false, SCHEDULED_RUNNING, NEXT_NONE, REASON_NONE },
                { "not taken", false, false, true, false, SCHEDULED_WAITING, NEXT_REQUEUE, REASON_REFUSED },
                { "by one that is gone",
                  false,
                  false,
                  true,
                  true,
                  SCHEDULED_WAITING,
                  NEXT_REQUEUE,
                  REASON_LOST },
                { "an old list", false, false, false, false, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
                { "one in flight", true, false, true, false, SCHEDULED_UNCERTAIN, NEXT_NONE, REASON_NONE },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                ScheduledTask *task = bed_sent(&bed, row->unanswered ? SUBMIT_UNKNOWN : SUBMIT_STRANGE);
                bed_settle(&bed);
                if (row->unanswered) {
                        bed_wait(&bed, SEC);
                        bed_expect(&bed, ACTION_RESUBMIT, task);
                        bed_submit_done(&bed, task, SUBMIT_STRANGE);
                }
                bed_wait(&bed, SEC / 2);
                worker_lists(&bed, task, row->has_it, row->after_answer);
                if (row->restarted)
                        bed_restart(&bed, 0);
                if (task->missing) { /* it is asked whether it is still the same */
                        bed_expect_none(&bed);
                        check_int(row->label, bed.calls[0], WORKER_CALL_PROBE);
                        bed_answer(&bed, 0);
                }
                check_int(row->label, task->state, row->state);
                check_next(row->label, &bed, row->next, task);
                check_int(row->label, task->reason, row->reason);
                bed_done(&bed);
        }
}

static void a_worker_that_answers_strangely_is_left_alone_for_a_while(void **state) {
        Bed bed;
        one_ready(&bed);
        (void) bed_sent(&bed, SUBMIT_STRANGE);
        ScheduledTask *next = bed_task(&bed, 2, 100);
        bed_settle(&bed);
        bed_expect_none(&bed);
        assert_int_equal(next->state, SCHEDULED_WAITING);
        bed_done(&bed);
}

static void what_is_to_be_stopped_is_asked_for_but_not_started(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_UNKNOWN);
        bed_settle(&bed);
        scheduler_stop_task(bed.scheduler, task);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        assert_string_equal(task->lease_id, LEASE_OF_NOBODY);
        bed_submit_done(&bed, task, SUBMIT_NO_LEASE);
        assert_int_equal(task->state, SCHEDULED_UNCERTAIN); /* the first may still arrive */
        bed_wait(&bed, 60 * SEC);
        bed_settle(&bed);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        bed_submit_done(&bed, task, SUBMIT_NO_LEASE);
        bed_settle(&bed);
        bed_expect(&bed, ACTION_FINISH, task);
        assert_int_equal(task->reason, REASON_CANCELED);
        bed_done(&bed);
}

static void a_silent_worker_is_not_sent_to_again(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_UNKNOWN);
        bed_expect_none(&bed);
        assert_int_not_equal(bed.calls[0], NO_CALL);
        scheduler_call_failed(bed.scheduler, bed.workers[0], bed.now_usec);
        for (unsigned i = 0; i < 5; i++) {
                bed_wait(&bed, SEC);
                bed_expect_none(&bed);
        }
        bed_answer(&bed, 0);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        bed_done(&bed);
}

static void stopping_depends_on_where_the_task_is(void **state) {
        Bed bed;
        one_ready(&bed);

        ScheduledTask *waiting = bed_task(&bed, 99, 100); /* fits nowhere */
        scheduler_stop_task(bed.scheduler, waiting);
        bed_expect(&bed, ACTION_FINISH, waiting);
        assert_int_equal(waiting->reason, REASON_CANCELED);
        scheduler_stop_task(bed.scheduler, waiting); /* once more: nothing */
        bed_expect_none(&bed);

        ScheduledTask *running = bed_sent(&bed, SUBMIT_ACCEPTED);
        scheduler_stop_task(bed.scheduler, running);
        bed_expect(&bed, ACTION_STOP, running);
        scheduler_stop_task(bed.scheduler, running);
        bed_expect_none(&bed);
        scheduler_attempt_ended(bed.scheduler, running, ATTEMPT_KILLED, bed.now_usec);
        bed_expect(&bed, ACTION_FINISH, running);
        assert_int_equal(running->reason, REASON_RESULT);

        ScheduledTask *backoff = bed_task(&bed, 2, 100);
        scheduler_restore_backoff(bed.scheduler, backoff, SEC, bed.now_usec);
        scheduler_stop_task(bed.scheduler, backoff);
        bed_expect(&bed, ACTION_FINISH, backoff);
        assert_int_equal(backoff->reason, REASON_CANCELED);
        bed_wait(&bed, 10 * SEC);
        assert_int_equal(backoff->state, SCHEDULED_ENDED);
        bed_done(&bed);
}

static ScheduledTaskOptions with_retries(uint64_t n, usec_t backoff_usec) {
        return (ScheduledTaskOptions) {
                .resources = { .cores_micro = 1, .memory_mb = 1 },
                .retries_max = n,
                .retry_backoff_usec = backoff_usec,
                .retry_on_lost = true,
        };
}

static void errors_are_retried_after_longer_and_longer_times(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task_with(&bed, with_retries(3, 2 * SEC));
        for (usec_t backoff_usec = 2 * SEC; backoff_usec <= 8 * SEC; backoff_usec *= 2) {
                bed_expect(&bed, ACTION_PLACE, task);
                bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_ERRORED, bed.now_usec);
                bed_expect(&bed, ACTION_REQUEUE, task);
                assert_int_equal(task->state, SCHEDULED_BACKOFF);
                assert_int_equal(task->reason, REASON_RETRY);
                usec_t left_usec = task->deadline.when_usec - bed.now_usec;
                assert_in_range(left_usec, backoff_usec * 9 / 10, backoff_usec * 11 / 10);
                bed_wait(&bed, left_usec - 1);
                bed_settle(&bed);
                bed_expect_none(&bed);
                bed_wait(&bed, 1);
        }
        bed_settle(&bed);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_ERRORED, bed.now_usec);
        bed_expect(&bed, ACTION_FINISH, task);
        assert_int_equal(task->reason, REASON_RESULT);
        bed_done(&bed);
}

static void backoff_is_bounded_and_differs_between_tasks(void **state) {
        Bed bed;
        one_ready(&bed);
        static const struct {
                const char *label;
                uint64_t n_retries;
                usec_t backoff_usec, low_usec, high_usec;
        } rows[] = {
                { "none", 5, 0, 0, 0 },
                { "an hour at most", 50, 2 * SEC, 3240 * SEC, 3960 * SEC },
                { "longer if asked for", 3, 7200 * SEC, 6480 * SEC, 7920 * SEC },
        };
        for (FOREACH_ROW(row, rows)) {
                usec_t first_usec = 0;
                bool differs = false;
                for (unsigned i = 0; i < 10; i++) {
                        ScheduledTask *task = bed_task_with(&bed, with_retries(100, row->backoff_usec));
                        task->n_retries = row->n_retries - 1;
                        bed_expect(&bed, ACTION_PLACE, task);
                        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_ERRORED, bed.now_usec);
                        usec_t usec = task->deadline.when_usec - bed.now_usec;
                        check_true(row->label, usec >= row->low_usec && usec <= row->high_usec);
                        differs = differs || (i > 0 && usec != first_usec);
                        first_usec = i == 0 ? usec : first_usec;
                        scheduler_stop_task(bed.scheduler, task);
                        while (bed_next(&bed).type != ACTION_CALL) {
                        }
                }
                check_int(row->label, differs, row->high_usec > 0);
        }
        bed_done(&bed);
}

static void each_end_leads_where_it_should(void **state) {
        static const struct {
                const char *label;
                AttemptEnd end;
                bool stop, retry_on_lost;
                uint64_t retries_max;
                Next next;
                ScheduledReason reason;
        } rows[] = {
                { "success", ATTEMPT_SUCCEEDED, false, true, 5, NEXT_FINISH, REASON_RESULT },
                { "error", ATTEMPT_ERRORED, false, true, 0, NEXT_FINISH, REASON_RESULT },
                { "error, retries", ATTEMPT_ERRORED, false, true, 1, NEXT_REQUEUE, REASON_RETRY },
                { "error, stopped", ATTEMPT_ERRORED, true, true, 1, NEXT_FINISH, REASON_RESULT },
                { "killed", ATTEMPT_KILLED, false, true, 5, NEXT_FINISH, REASON_RESULT },
                { "shut down", ATTEMPT_SHUTDOWN, false, true, 0, NEXT_REQUEUE, REASON_LOST },
                { "shut down, once only", ATTEMPT_SHUTDOWN, false, false, 5, NEXT_FINISH, REASON_LOST },
                { "shut down, stopped", ATTEMPT_SHUTDOWN, true, true, 5, NEXT_FINISH, REASON_RESULT },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                ScheduledTaskOptions options = with_retries(row->retries_max, SEC);
                options.retry_on_lost = row->retry_on_lost;
                ScheduledTask *task = bed_task_with(&bed, options);
                bed_expect(&bed, ACTION_PLACE, task);
                bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                if (row->stop) {
                        scheduler_stop_task(bed.scheduler, task);
                        bed_expect(&bed, ACTION_STOP, task);
                }
                scheduler_attempt_ended(bed.scheduler, task, row->end, bed.now_usec);
                check_next(row->label, &bed, row->next, task);
                check_int(row->label, task->reason, row->reason);
                bed_done(&bed);
        }
}

/* A new instance: in each state, and with each outcome of what is under way. */
static void a_restart_of_the_worker_ends_its_attempts(void **state) {
        static const struct {
                const char *label;
                SubmitOutcome outcome; /* before the restart */
                bool resubmit;         /* and is sent again, then the restart, then */
                SubmitOutcome later;
                bool retry_on_lost;
                Next next;
                ScheduledReason reason;
        } rows[] = {
                { "running", SUBMIT_ACCEPTED, false, SUBMIT_UNKNOWN, true, NEXT_REQUEUE, REASON_LOST },
                { "running, once", SUBMIT_ACCEPTED, false, SUBMIT_UNKNOWN, false, NEXT_FINISH, REASON_LOST },
                { "uncertain", SUBMIT_UNKNOWN, false, SUBMIT_UNKNOWN, true, NEXT_REQUEUE, REASON_LOST },
                { "uncertain, once", SUBMIT_UNKNOWN, false, SUBMIT_UNKNOWN, false, NEXT_FINISH, REASON_LOST },
                { "sending, accepted",
                  SUBMIT_UNKNOWN,
                  true,
                  SUBMIT_ACCEPTED,
                  true,
                  NEXT_REQUEUE,
                  REASON_LOST },
                { "sending, unknown", SUBMIT_UNKNOWN, true, SUBMIT_UNKNOWN, true, NEXT_REQUEUE, REASON_LOST },
                { "sending, refused",
                  SUBMIT_UNKNOWN,
                  true,
                  SUBMIT_NO_LEASE,
                  false,
                  NEXT_FINISH,
                  REASON_LOST },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                ScheduledTaskOptions options = with_retries(0, SEC);
                options.retry_on_lost = row->retry_on_lost;
                ScheduledTask *task = bed_task_with(&bed, options);
                bed_expect(&bed, ACTION_PLACE, task);
                bed_submit_done(&bed, task, row->outcome);
                bed_settle(&bed);
                if (row->resubmit) {
                        bed_wait(&bed, SEC);
                        bed_expect(&bed, ACTION_RESUBMIT, task);
                }
                bed_restart(&bed, 0);
                scheduler_worker_suspect(bed.workers[0], bed.now_usec);
                bed.workers[0]->worker.identity = WORKER_DOUBTED;
                bed_settle(&bed);
                if (row->resubmit) {
                        check_int(row->label, task->state, SCHEDULED_SENDING);
                        bed_submit_done(&bed, task, row->later);
                }
                check_next(row->label, &bed, row->next, task);
                check_int(row->label, task->reason, row->reason);
                bed_done(&bed);
        }
}

static void what_was_never_answered_and_not_taken_by_a_dead_instance_was_not_run(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_restart(&bed, 0);
        bed.workers[0]->worker.identity = WORKER_DOUBTED;
        scheduler_worker_suspect(bed.workers[0], bed.now_usec);
        bed_settle(&bed);
        bed_submit_done(&bed, task, SUBMIT_NO_LEASE);
        bed_expect(&bed, ACTION_REQUEUE, task);
        assert_int_equal(task->reason, REASON_REFUSED);
        bed_expect(&bed, ACTION_PLACE, task);
        assert_string_equal(task->instance, bed.reports[0].instance);
        bed_done(&bed);
}

/* Lost: a task, once more for nothing, where the port of a runner is closed before it says that it drains. */
static void a_worker_that_is_shut_down_gets_nothing_before_it_was_asked(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SHUTDOWN, bed.now_usec);
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        bed_restart(&bed, 0);
        bed_settle(&bed);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

static void losses_are_bounded(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        for (unsigned i = 0; i <= SCHEDULER_LOSSES_MAX; i++) {
                bed_expect(&bed, ACTION_PLACE, task);
                bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SHUTDOWN, bed.now_usec);
                bed_settle(&bed);
                bed_expect(&bed, i < SCHEDULER_LOSSES_MAX ? ACTION_REQUEUE : ACTION_FINISH, task);
        }
        assert_int_equal(task->reason, REASON_LOST);
        bed_done(&bed);
}

static void list(Bed *bed, ScheduledTask *has, usec_t listed_usec) {
        scheduler_listing_begin(bed->workers[0]);
        if (has)
                scheduler_listing_has(bed->scheduler, has, bed->now_usec);
        scheduler_listing_finish(bed->scheduler, bed->workers[0], listed_usec, bed->now_usec);
}

static void a_listing_tells_what_is_there_and_what_is_not(void **state) {
        static const struct {
                const char *label;
                SubmitOutcome outcome;
                bool has, restarted, early; /* …: asked for before the submission was accepted */
                ScheduledState state;
                Next next;
                ScheduledReason reason;
        } rows[] = {
                { "running, there",
                  SUBMIT_ACCEPTED,
                  true,
                  false,
                  false,
                  SCHEDULED_RUNNING,
                  NEXT_NONE,
                  REASON_NONE },
                { "running, gone",
                  SUBMIT_ACCEPTED,
                  false,
                  false,
                  false,
                  SCHEDULED_ENDED,
                  NEXT_FINISH,
                  REASON_LOST },
                { "running, too early",
                  SUBMIT_ACCEPTED,
                  false,
                  false,
                  true,
                  SCHEDULED_RUNNING,
                  NEXT_NONE,
                  REASON_NONE },
                { "running, restarted",
                  SUBMIT_ACCEPTED,
                  false,
                  true,
                  false,
                  SCHEDULED_WAITING,
                  NEXT_REQUEUE,
                  REASON_LOST },
                { "uncertain, there",
                  SUBMIT_UNKNOWN,
                  true,
                  false,
                  false,
                  SCHEDULED_RUNNING,
                  NEXT_NONE,
                  REASON_NONE },
                { "uncertain, not there",
                  SUBMIT_UNKNOWN,
                  false,
                  false,
                  false,
                  SCHEDULED_UNCERTAIN,
                  NEXT_NONE,
                  REASON_NONE },
                { "uncertain, restarted",
                  SUBMIT_UNKNOWN,
                  false,
                  true,
                  false,
                  SCHEDULED_WAITING,
                  NEXT_NONE,
                  REASON_LOST },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                usec_t before_usec = bed.now_usec;
                bed_wait(&bed, 1);
                ScheduledTask *task = bed_sent(&bed, row->outcome);
                bed_wait(&bed, 1);
                if (row->restarted) { /* noticed by nobody yet */
                        bed_restart(&bed, 0);
                        if (row->outcome == SUBMIT_UNKNOWN)
                                bed.workers[0]->worker.identity = WORKER_DOUBTED;
                }
                list(&bed, row->has ? task : NULL, row->early ? before_usec : bed.now_usec);
                bed_settle(&bed);
                if (row->restarted) /* and it may have been placed again */
                        bed_expect(&bed, ACTION_REQUEUE, task);
                else {
                        check_int(row->label, task->state, row->state);
                        check_next(row->label, &bed, row->next, task);
                }
                check_int(row->label, task->reason, row->reason);
                bed_done(&bed);
        }
}

/* The queue was started anew: what it had noted of the attempt. */
static void an_attempt_is_found_again_after_a_restart_of_the_queue(void **state) {
        static const struct {
                const char *label;
                bool accepted, has, other_instance;
                Next next;
                ScheduledState state;
                ScheduledReason reason;
        } rows[] = {
                { "ran, still there", true, true, false, NEXT_NONE, SCHEDULED_RUNNING, REASON_NONE },
                { "ran, forgotten", true, false, false, NEXT_FINISH, SCHEDULED_ENDED, REASON_LOST },
                { "ran, restarted", true, false, true, NEXT_REQUEUE, SCHEDULED_WAITING, REASON_LOST },
                { "sent, is there", false, true, false, NEXT_NONE, SCHEDULED_RUNNING, REASON_NONE },
                { "sent, restarted", false, false, true, NEXT_REQUEUE, SCHEDULED_WAITING, REASON_LOST },
        };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                bed_init(&bed, 1, 4);
                ScheduledTask *task = bed_task(&bed, 2, 100);
                scheduler_restore_attempt(
                                bed.scheduler,
                                task,
                                bed.workers[0],
                                row->other_instance ? "an earlier one" : bed.reports[0].instance,
                                row->accepted,
                                false,
                                bed.now_usec);
                bed_expect_none(&bed);
                bed_answer(&bed, 0); /* the first probe */
                if (!row->other_instance) {
                        list(&bed, row->has ? task : NULL, bed.now_usec);
                        bed_settle(&bed);
                }
                check_next(row->label, &bed, row->next, task);
                check_int(row->label, task->state, row->state);
                check_int(row->label, task->reason, row->reason);
                bed_done(&bed);
        }
}

static void a_restored_submission_is_repeated_under_the_present_lease_if_there_is_one(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        scheduler_restore_attempt(
                        bed.scheduler,
                        task,
                        bed.workers[0],
                        bed.reports[0].instance,
                        false,
                        false,
                        bed.now_usec);
        bed_expect_none(&bed);
        bed_answer(&bed, 0);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task); /* no lease yet: it only asks */
        assert_string_equal(task->lease_id, LEASE_OF_NOBODY);
        bed_submit_done(&bed, task, SUBMIT_NO_LEASE);
        assert_int_equal(task->state, SCHEDULED_UNCERTAIN);
        bed_settle(&bed);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_RESUBMIT, task);
        assert_string_equal(task->lease_id, bed.workers[0]->worker.lease_id);
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        bed_done(&bed);
}

static void a_restored_backoff_is_waited_for(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task_with(&bed, with_retries(1, 10 * SEC));
        scheduler_restore_backoff(bed.scheduler, task, 3 * SEC, bed.now_usec);
        assert_true(scheduler_deadline(bed.scheduler, bed.now_usec) <= bed.now_usec + 3 * SEC);
        bed_wait(&bed, 3 * SEC - 1);
        bed_expect_none(&bed);
        bed_wait(&bed, 1);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

/* What is left is told by a clock that may have been set back by a month. */
static void a_restored_backoff_is_no_longer_than_it_was(void **state) {
        static const struct {
                uint64_t n_retries;
                usec_t least_usec, most_usec;
        } rows[] = { { 1, 9 * SEC, 11 * SEC }, { 3, 36 * SEC, 44 * SEC }, { 20, 3240 * SEC, 3960 * SEC } };
        for (FOREACH_ROW(row, rows)) {
                Bed bed;
                one_ready(&bed);
                ScheduledTask *task = bed_task_with(&bed, with_retries(20, 10 * SEC));
                task->n_retries = row->n_retries;
                usec_t now_usec = bed.now_usec;
                scheduler_restore_backoff(bed.scheduler, task, (usec_t) 30 * 86400 * SEC, now_usec);
                assert_in_range(task->deadline.when_usec - now_usec, row->least_usec, row->most_usec);
                bed_done(&bed);
        }
}

static int try_everything(void *userdata) {
        SchedulerConfig config = { .lease_ttl_usec = 1, .lost_after_usec = 1 };
        ScheduledTaskOptions options = { .task_id = "t", .sequence = 1 };
        Scheduler *scheduler;
        int r = scheduler_new(&config, &scheduler);
        if (r < 0)
                return r;
        ScheduledWorker *worker;
        ScheduledTask *task;
        r = scheduler_add_worker(scheduler, "w", 0, &worker);
        if (r >= 0)
                r = scheduler_add_task(scheduler, &options, 0, &task);
        scheduler_free(scheduler);
        return r;
}

static void memory_may_run_short(void **state) {
        fail_alloc_loop(try_everything, NULL);
}

static void a_long_worker_id_is_refused(void **state) {
        Bed bed;
        char id[WORKER_ID_MAX + 2];
        memset(id, 'x', sizeof(id));
        id[sizeof(id) - 1] = '\0';
        ScheduledWorker *worker;
        bed_init(&bed, 0, 1);
        assert_int_equal(scheduler_add_worker(bed.scheduler, id, 0, &worker), -ENAMETOOLONG);
        id[WORKER_ID_MAX] = '\0';
        assert_int_equal(scheduler_add_worker(bed.scheduler, id, 0, &worker), 0);
        assert_string_equal(worker->worker.id, id);
        bed_done(&bed);
}

/* The first thing that a worker is to forget or to stop, and when that is, within two minutes. */
static SchedulerAction next_of_worker(Bed *bed, usec_t *ret_after_usec) {
        for (*ret_after_usec = 0; *ret_after_usec < 120 * SEC; *ret_after_usec += SEC) {
                SchedulerAction action = bed_next(bed);
                if (action.type == ACTION_FORGET || action.type == ACTION_STOP_STRAY)
                        return action;
                bed_wait(bed, SEC);
                bed_settle(bed);
        }
        return (SchedulerAction) { .type = ACTION_CALL };
}

static void a_worker_forgets_a_result_when_nothing_of_it_can_arrive_any_more(void **state) {
        for (int unanswered = 0; unanswered < 2; unanswered++) {
                Bed bed;
                usec_t after_usec;
                one_ready(&bed);
                ScheduledTask *task = bed_sent(&bed, unanswered ? SUBMIT_UNKNOWN : SUBMIT_ACCEPTED);
                if (unanswered) {
                        bed_wait(&bed, SEC);
                        bed_settle(&bed);
                        bed_expect(&bed, ACTION_RESUBMIT, task);
                        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                }
                scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SUCCEEDED, bed.now_usec);
                bed_expect(&bed, ACTION_FINISH, task);
                bed_expect_none(&bed); /* its end is not on disk yet */
                scheduler_end_stored(bed.scheduler, task, bed.workers[0], "t1.a", bed.now_usec);
                scheduler_remove_task(bed.scheduler, task);
                assert_int_equal(next_of_worker(&bed, &after_usec).type, ACTION_FORGET);
                /* A second after the submission that was not answered, less than a minute later. */
                assert_true(unanswered ? after_usec >= 58 * SEC && after_usec <= 60 * SEC : after_usec == 0);
                bed_done(&bed);
        }
}

static void what_only_a_listing_shows_is_stopped_and_forgotten_later(void **state) {
        Bed bed;
        usec_t after_usec;
        one_ready(&bed);
        scheduler_listing_stray(bed.scheduler, bed.workers[0], "live.1", false, bed.now_usec);
        scheduler_listing_stray(bed.scheduler, bed.workers[0], "over.1", true, bed.now_usec);
        SchedulerAction action = next_of_worker(&bed, &after_usec);
        assert_int_equal(action.type, ACTION_STOP_STRAY);
        assert_int_equal(after_usec, 0);
        scheduler_listing_stray(bed.scheduler, bed.workers[0], "over.1", true, bed.now_usec); /* as before */
        assert_int_equal(next_of_worker(&bed, &after_usec).type, ACTION_FORGET);
        assert_true(after_usec >= 59 * SEC && after_usec <= 61 * SEC);
        bed_done(&bed);
}

static void a_worker_without_room_is_asked_again_as_soon_as_it_reports(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_FULL);
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_expect_none(&bed);
        WorkerReport report = bed.reports[0];
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &report, bed.now_usec);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_task_goes_from_waiting_to_its_end),
                cmocka_unit_test(each_outcome_of_a_submission),
                cmocka_unit_test(what_is_uncertain_is_sent_again_under_the_same_lease),
                cmocka_unit_test(a_list_tells_what_a_strange_answer_meant),
                cmocka_unit_test(a_worker_that_answers_strangely_is_left_alone_for_a_while),
                cmocka_unit_test(what_is_to_be_stopped_is_asked_for_but_not_started),
                cmocka_unit_test(a_silent_worker_is_not_sent_to_again),
                cmocka_unit_test(stopping_depends_on_where_the_task_is),
                cmocka_unit_test(errors_are_retried_after_longer_and_longer_times),
                cmocka_unit_test(backoff_is_bounded_and_differs_between_tasks),
                cmocka_unit_test(each_end_leads_where_it_should),
                cmocka_unit_test(a_restart_of_the_worker_ends_its_attempts),
                cmocka_unit_test(what_was_never_answered_and_not_taken_by_a_dead_instance_was_not_run),
                cmocka_unit_test(a_worker_that_is_shut_down_gets_nothing_before_it_was_asked),
                cmocka_unit_test(losses_are_bounded),
                cmocka_unit_test(a_listing_tells_what_is_there_and_what_is_not),
                cmocka_unit_test(an_attempt_is_found_again_after_a_restart_of_the_queue),
                cmocka_unit_test(a_restored_submission_is_repeated_under_the_present_lease_if_there_is_one),
                cmocka_unit_test(a_restored_backoff_is_waited_for),
                cmocka_unit_test(a_restored_backoff_is_no_longer_than_it_was),
                cmocka_unit_test(memory_may_run_short),
                cmocka_unit_test(a_long_worker_id_is_refused),
                cmocka_unit_test(a_worker_forgets_a_result_when_nothing_of_it_can_arrive_any_more),
                cmocka_unit_test(what_only_a_listing_shows_is_stopped_and_forgotten_later),
                cmocka_unit_test(a_worker_without_room_is_asked_again_as_soon_as_it_reports),
        };
        return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
