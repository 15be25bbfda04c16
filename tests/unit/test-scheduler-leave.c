/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Workers that leave, come back, are forgotten, and move. */

#include <string.h>

#include "base/text.h"
#include "scheduler-bed.h"
#include "test.h"

static void ready(Bed *bed, size_t n_workers) {
        bed_init(bed, n_workers, 4);
        for (size_t i = 0; i < n_workers; i++)
                bed->workers[i]->worker.late_call_usec = bed->workers[i]->worker.lease_maybe_usec = 0;
        bed_settle(bed);
}

/* The only worker has taken it. */
static ScheduledTask *running(Bed *bed) {
        return bed_sent(bed, SUBMIT_ACCEPTED);
}

static void remove_worker(Bed *bed, size_t i) {
        scheduler_remove_worker(bed->scheduler, bed->workers[i]);
        bed->workers[i] = bed->workers[--bed->n_workers];
}

static void one_that_leaves_keeps_what_it_has_and_gets_nothing_new(void **state) {
        Bed bed;
        ready(&bed, 1);
        ScheduledTask *task = running(&bed), *waiting;
        scheduler_set_leaving(bed.workers[0], true, bed.now_usec);
        waiting = bed_task(&bed, 1, 10);
        for (unsigned i = 0; i < 10; i++) { /* the lease is kept for what runs */
                bed_wait(&bed, 10 * SEC);
                bed_settle(&bed);
        }
        bed_expect_none(&bed);
        assert_true(*bed.workers[0]->worker.lease_id);
        assert_false(scheduler_worker_has_left(bed.workers[0]));

        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SUCCEEDED, bed.now_usec);
        bed_expect(&bed, ACTION_FINISH, task);
        assert_int_equal(bed.calls[0], WORKER_CALL_RELEASE);
        assert_false(scheduler_worker_has_left(bed.workers[0])); /* it is being asked */
        bed_answer(&bed, 0);
        assert_true(scheduler_worker_has_left(bed.workers[0]));
        scheduler_remove_task(bed.scheduler, task);
        remove_worker(&bed, 0);
        assert_int_equal(scheduler_n_workers(bed.scheduler), 0);
        bed_expect_none(&bed);
        assert_int_equal(waiting->state, SCHEDULED_WAITING);
        assert_null(scheduler_least_impact(bed.scheduler, waiting->want, bed.now_usec));
        bed_done(&bed);
}

static void one_that_is_wanted_again_stays(void **state) {
        Bed bed;
        ready(&bed, 1);
        scheduler_set_leaving(bed.workers[0], true, bed.now_usec);
        bed_settle(&bed);
        assert_true(scheduler_worker_has_left(bed.workers[0]));
        scheduler_set_leaving(bed.workers[0], false, bed.now_usec);
        assert_false(scheduler_worker_has_left(bed.workers[0]));
        bed_settle(&bed);
        bed_expect(&bed, ACTION_PLACE, bed_task(&bed, 1, 10));
        bed_done(&bed);
}

static void one_that_does_not_answer_has_left_when_nothing_is_there(void **state) {
        Bed bed;
        ready(&bed, 1);
        bed_wait(&bed, 12 * SEC);
        bed_expect_none(&bed);
        assert_int_not_equal(bed.calls[0], NO_CALL);
        scheduler_set_leaving(bed.workers[0], true, bed.now_usec);
        assert_false(scheduler_worker_has_left(bed.workers[0]));
        scheduler_call_failed(bed.scheduler, bed.workers[0], bed.now_usec);
        assert_true(scheduler_worker_has_left(bed.workers[0]));
        remove_worker(&bed, 0);
        bed_done(&bed);
}

static void the_others_go_on_when_one_is_forgotten(void **state) {
        Bed bed;
        ready(&bed, 3);
        scheduler_listing_stray(bed.scheduler, bed.workers[1], "stray.1", true, bed.now_usec);
        scheduler_listing_stray(bed.scheduler, bed.workers[0], "stray.0", true, bed.now_usec);
        scheduler_set_leaving(bed.workers[1], true, bed.now_usec);
        bed_settle(&bed);
        remove_worker(&bed, 1);
        bed_wait(&bed, 2 * SCHEDULER_IN_FLIGHT_USEC);
        SchedulerAction action = bed_next(&bed); /* nobody asks the one that is gone */
        assert_int_equal(action.type, ACTION_FORGET);
        assert_ptr_equal(action.worker, bed.workers[0]);
        bed_expect_none(&bed);
        bed_settle(&bed);
        for (unsigned i = 0; i < 8; i++) {
                ScheduledTask *task = bed_task(&bed, 2, 100);
                bed_expect(&bed, ACTION_PLACE, task);
                assert_true(task->worker == bed.workers[0] || task->worker == bed.workers[1]);
        }
        ScheduledWorker *added;
        assert_int_equal(scheduler_add_worker(bed.scheduler, "w9", bed.now_usec, &added), 0);
        assert_int_equal(scheduler_n_workers(bed.scheduler), 3);
        bed_done(&bed);
}

static void the_same_instance_at_another_address_keeps_its_attempts(void **state) {
        Bed bed;
        ready(&bed, 1);
        ScheduledTask *task = running(&bed);
        scheduler_move_worker(bed.scheduler, bed.workers[0], bed.now_usec);
        ScheduledTask *waiting = bed_task(&bed, 1, 10);
        bed_expect_none(&bed); /* it has not said who it is */
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        bed_answer(&bed, 0);
        bed_expect(&bed, ACTION_PLACE, waiting);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        for (unsigned i = 0; i < 20; i++) {
                bed_wait(&bed, 10 * SEC);
                bed_settle(&bed);
        }
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        assert_int_equal(bed.workers[0]->worker.elsewhere_usec, 0);
        bed_done(&bed);
}

static void another_instance_there_costs_its_attempts_when_the_lease_has_ended(void **state) {
        Bed bed;
        ready(&bed, 1);
        ScheduledTask *task = running(&bed);
        usec_t lease_usec = bed.workers[0]->worker.lease_maybe_usec;
        assert_true(lease_usec > bed.now_usec + 10 * SEC);
        bed_restart(&bed, 0);
        scheduler_move_worker(bed.scheduler, bed.workers[0], bed.now_usec);
        bed_settle(&bed);
        ScheduledTask *other = bed_task(&bed, 1, 10); /* which the one that is there now takes */
        bed_expect(&bed, ACTION_PLACE, other);
        bed_submit_done(&bed, other, SUBMIT_ACCEPTED);
        while (bed.now_usec + SEC < lease_usec) {
                bed_wait(&bed, SEC);
                bed_settle(&bed);
                assert_int_equal(task->state, SCHEDULED_RUNNING);
        }
        bed_wait(&bed, 31 * SEC);
        bed_expect(&bed, ACTION_REQUEUE, task);
        assert_int_equal(task->reason, REASON_LOST);
        assert_int_equal(other->state, SCHEDULED_RUNNING);
        bed_done(&bed);
}

static void what_may_have_arrived_before_is_not_sent_to_another_instance(void **state) {
        Bed bed;
        ready(&bed, 1);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_UNKNOWN);
        bed_restart(&bed, 0);
        scheduler_move_worker(bed.scheduler, bed.workers[0], bed.now_usec);
        bed_settle(&bed);
        for (unsigned i = 0; i < 5; i++) {
                bed_wait(&bed, 2 * SEC);
                bed_settle(&bed);
                bed_expect_none(&bed);
                assert_int_equal(task->state, SCHEDULED_UNCERTAIN);
        }
        bed_done(&bed);
}

static void an_attempt_is_taken_over_by_whom_has_its_instance_now(void **state) {
        Bed bed;
        ready(&bed, 2);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, task);
        ScheduledWorker *has = task->worker, *other = bed.workers[has == bed.workers[0]];
        assert_false(scheduler_take_over(bed.scheduler, task, other)); /* it is being sent */
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        assert_false(scheduler_take_over(bed.scheduler, task, other)); /* that is another instance */
        has->worker.elsewhere_usec = bed.now_usec + 77 * SEC;
        memcpy(other->worker.report.instance, task->instance, sizeof(task->instance));
        assert_true(scheduler_take_over(bed.scheduler, task, other));
        assert_ptr_equal(task->worker, other);
        assert_int_equal(has->worker.n_attempts, 0);
        assert_int_equal(other->worker.elsewhere_usec, bed.now_usec + 77 * SEC);
        scheduler_check(bed.scheduler, 2);
        bed_done(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_that_leaves_keeps_what_it_has_and_gets_nothing_new),
                cmocka_unit_test(one_that_is_wanted_again_stays),
                cmocka_unit_test(one_that_does_not_answer_has_left_when_nothing_is_there),
                cmocka_unit_test(the_others_go_on_when_one_is_forgotten),
                cmocka_unit_test(the_same_instance_at_another_address_keeps_its_attempts),
                cmocka_unit_test(another_instance_there_costs_its_attempts_when_the_lease_has_ended),
                cmocka_unit_test(what_may_have_arrived_before_is_not_sent_to_another_instance),
                cmocka_unit_test(an_attempt_is_taken_over_by_whom_has_its_instance_now),
        };
        return cmocka_run_group_tests_name("scheduler-leave", tests, NULL, NULL);
}
