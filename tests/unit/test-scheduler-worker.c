/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls to workers: probes, leases, silence, and when what runs there is given up. */

#include <string.h>

#include "base/text.h"
#include "core/scheduling/scheduler.h"
#include "scheduler-bed.h"
#include "test.h"

static void one_ready(Bed *bed) {
        bed_init(bed, 1, 4);
        bed->workers[0]->worker.late_call_usec = 0; /* of an earlier run of the queue */
        bed_settle(bed);
        assert_int_equal(bed->calls[0], NO_CALL);
}

static const Worker *worker_of(const Bed *bed) {
        return &bed->workers[0]->worker;
}

/* Time goes on to when something is due, which must be a call. */
static int wait_for_call(Bed *bed) {
        usec_t deadline_usec = scheduler_deadline(bed->scheduler, bed->now_usec);
        if (deadline_usec > bed->now_usec)
                bed->now_usec = deadline_usec;
        bed_expect_none(bed);
        return bed->calls[0];
}

static void fail_call(Bed *bed) {
        assert_int_not_equal(bed->calls[0], NO_CALL);
        bed->calls[0] = NO_CALL;
        scheduler_call_failed(bed->scheduler, bed->workers[0], bed->now_usec);
}

static void refuse_call(Bed *bed, const char *holder) {
        assert_int_not_equal(bed->calls[0], NO_CALL);
        bed->calls[0] = NO_CALL;
        scheduler_call_refused(bed->scheduler, bed->workers[0], holder, bed->now_usec);
}

static void a_worker_is_probed_leased_and_probed_before_it_is_used(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        static const WorkerCall calls[] = { WORKER_CALL_PROBE, WORKER_CALL_ACQUIRE, WORKER_CALL_PROBE };
        for (FOREACH_ROW(row, calls)) {
                bed_expect_none(&bed);
                assert_int_equal(bed.calls[0], *row);
                bed_expect_none(&bed); /* one at a time */
                bed_answer(&bed, 0);
        }
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

static void a_lease_is_renewed_at_a_third_and_capacity_asked_for_in_between(void **state) {
        Bed bed;
        one_ready(&bed);
        for (unsigned i = 0; i < 5; i++) {
                usec_t since_usec = bed.now_usec;
                int call = wait_for_call(&bed);
                if (call == WORKER_CALL_PROBE) {
                        bed_answer(&bed, 0);
                        call = wait_for_call(&bed);
                }
                assert_int_equal(call, WORKER_CALL_RENEW);
                assert_in_range(bed.now_usec - since_usec, i == 0 ? 0 : 9 * SEC, 10 * SEC);
                bed_answer(&bed, 0);
                assert_true(worker_of(&bed)->lease_certain_usec == bed.now_usec + 30 * SEC);
        }
        bed_done(&bed);
}

static void a_lease_counts_from_when_it_was_asked_for(void **state) {
        Bed bed;
        one_ready(&bed);
        while (wait_for_call(&bed) != WORKER_CALL_RENEW)
                bed_answer(&bed, 0);
        usec_t asked_usec = bed.now_usec;
        bed_wait(&bed, 4 * SEC);
        bed_answer(&bed, 0);
        assert_true(worker_of(&bed)->lease_certain_usec == asked_usec + 30 * SEC);
        assert_true(worker_of(&bed)->lease_maybe_usec == bed.now_usec + 30 * SEC);
        bed_done(&bed);
}

static void what_another_queue_holds_is_asked_for_every_two_seconds(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        bed_expect_none(&bed);
        bed_answer(&bed, 0);
        for (unsigned i = 0; i < 3; i++) {
                usec_t since_usec = bed.now_usec;
                assert_int_equal(wait_for_call(&bed), WORKER_CALL_ACQUIRE);
                assert_in_range(bed.now_usec - since_usec, i == 0 ? 0 : 18 * SEC / 10, 2 * SEC);
                refuse_call(&bed, "other:1");
                assert_int_equal(worker_state(worker_of(&bed)), WORKER_LEASED);
                assert_string_equal(worker_of(&bed)->lease_holder, "other:1");
        }
        assert_int_equal(wait_for_call(&bed), WORKER_CALL_ACQUIRE);
        bed_answer(&bed, 0);
        assert_int_equal(worker_state(worker_of(&bed)), WORKER_ALIVE);
        bed_done(&bed);
}

static void a_lease_that_is_gone_is_acquired_anew_at_once(void **state) {
        Bed bed;
        one_ready(&bed);
        while (wait_for_call(&bed) != WORKER_CALL_RENEW)
                bed_answer(&bed, 0);
        refuse_call(&bed, "");
        assert_string_equal(worker_of(&bed)->lease_id, "");
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        bed_done(&bed);
}

static void a_lease_is_given_back_when_nothing_runs_there(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        scheduler_set_permitted(bed.workers[0], false, bed.now_usec);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(wait_for_call(&bed), WORKER_CALL_RENEW); /* as long as something does */
                bed_answer(&bed, 0);
        }
        ScheduledTask *other = bed_task(&bed, 2, 100);
        bed_expect_none(&bed); /* nothing new goes there */
        scheduler_attempt_ended(bed.scheduler, task, ATTEMPT_SUCCEEDED, bed.now_usec);
        bed_expect(&bed, ACTION_FINISH, task);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_RELEASE);
        assert_string_not_equal(worker_of(&bed)->lease_id, ""); /* the call needs it */

        /* Wanted again meanwhile: not until it has answered, then at once. */
        scheduler_set_permitted(bed.workers[0], true, bed.now_usec);
        bed_expect_none(&bed);
        bed_answer(&bed, 0);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        bed_answer(&bed, 0);
        bed_settle(&bed);
        bed_expect(&bed, ACTION_PLACE, other);
        bed_done(&bed);
}

static void disabling_gives_back_as_well(void **state) {
        Bed bed;
        one_ready(&bed);
        scheduler_set_disabled(bed.workers[0], true, bed.now_usec);
        assert_int_equal(worker_state(worker_of(&bed)), WORKER_DISABLED);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_RELEASE);
        bed_answer(&bed, 0);
        usec_t since_usec = bed.now_usec;
        assert_int_equal(wait_for_call(&bed), WORKER_CALL_PROBE); /* it is still looked after */
        assert_in_range(bed.now_usec - since_usec, 9 * SEC, 10 * SEC);
        bed_answer(&bed, 0);
        scheduler_set_disabled(bed.workers[0], false, bed.now_usec);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        bed_done(&bed);
}

static void what_is_permitted_during_a_probe_is_acquired_right_after(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        scheduler_set_permitted(bed.workers[0], false, bed.now_usec);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        scheduler_set_permitted(bed.workers[0], true, bed.now_usec);
        bed_answer(&bed, 0);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        bed_done(&bed);
}

static void what_is_no_longer_permitted_when_it_is_granted_is_given_back(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        bed_expect_none(&bed);
        bed_answer(&bed, 0);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        scheduler_set_permitted(bed.workers[0], false, bed.now_usec);
        bed_answer(&bed, 0);
        for (unsigned i = 0; i < 2 && bed.calls[0] != WORKER_CALL_RELEASE; i++) {
                bed_expect_none(&bed);
                if (bed.calls[0] == WORKER_CALL_PROBE)
                        bed_answer(&bed, 0);
        }
        assert_int_equal(bed.calls[0], WORKER_CALL_RELEASE);
        bed_done(&bed);
}

static void a_draining_worker_gets_nothing_new(void **state) {
        Bed bed;
        one_ready(&bed);
        bed.reports[0].draining = true;
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &bed.reports[0], bed.now_usec);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_settle(&bed);
        bed_expect_none(&bed);
        assert_int_equal(worker_state(worker_of(&bed)), WORKER_DRAINING);
        bed.reports[0].draining = false;
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &bed.reports[0], bed.now_usec);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

static void a_silent_worker_is_only_probed_and_given_up_exactly_then(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        ScheduledTask *waits = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, waits);
        bed_submit_done(&bed, waits, SUBMIT_UNSENT);
        bed_expect(&bed, ACTION_REQUEUE, waits);
        bed_expect_none(&bed);
        fail_call(&bed);
        usec_t lost_usec = worker_lost_usec(worker_of(&bed), 30 * SEC);
        assert_true(lost_usec >= bed.now_usec + 30 * SEC);
        assert_int_equal(worker_state(worker_of(&bed)), WORKER_SILENT);
        while (bed.now_usec < lost_usec) {
                usec_t since_usec = bed.now_usec;
                int call = wait_for_call(&bed);
                if (call == NO_CALL)
                        break;
                assert_int_equal(call, WORKER_CALL_PROBE);
                assert_in_range(bed.now_usec - since_usec, 9 * SEC / 10, SEC);
                fail_call(&bed);
                assert_true(worker_lost_usec(worker_of(&bed), 30 * SEC) == lost_usec);
                if (bed.now_usec + SEC >= lost_usec)
                        break;
        }
        bed.now_usec = lost_usec - 1;
        bed_expect_none(&bed);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        bed.now_usec = lost_usec;
        bed_expect(&bed, ACTION_REQUEUE, task);
        assert_int_equal(task->reason, REASON_LOST);
        assert_int_equal(task->n_losses, 1);
        assert_int_equal(worker_of(&bed)->n_attempts, 0);
        bed_done(&bed);
}

static void a_renewal_without_an_answer_keeps_the_lease_for_all_we_know(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        (void) task;
        while (wait_for_call(&bed) != WORKER_CALL_RENEW)
                bed_answer(&bed, 0);
        usec_t maybe_usec = worker_of(&bed)->lease_maybe_usec;
        bed_wait(&bed, 5 * SEC);
        fail_call(&bed);
        /* It may arrive at the last moment of the lease. */
        assert_true(worker_of(&bed)->lease_maybe_usec == maybe_usec + 30 * SEC);
        /* Only probes from then on: these change nothing. */
        assert_int_equal(wait_for_call(&bed), WORKER_CALL_PROBE);
        fail_call(&bed);
        assert_true(worker_of(&bed)->lease_maybe_usec == maybe_usec + 30 * SEC);

        /* It answers again, and is renewed; the earlier one may still arrive after that. */
        assert_int_equal(wait_for_call(&bed), WORKER_CALL_PROBE);
        bed_answer(&bed, 0);
        assert_int_equal(wait_for_call(&bed), WORKER_CALL_RENEW);
        bed_answer(&bed, 0);
        assert_true(worker_of(&bed)->lease_maybe_usec == bed.now_usec + 60 * SEC);
        bed_wait(&bed, 91 * SEC);
        bed_settle(&bed);
        bed_wait(&bed, 20 * SEC);
        bed_settle(&bed);
        assert_true(worker_of(&bed)->lease_maybe_usec <= bed.now_usec + 30 * SEC);
        bed_done(&bed);
}

static void calls_of_an_earlier_run_may_still_arrive(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        bed_settle(&bed);
        assert_true(worker_of(&bed)->lease_maybe_usec == bed.now_usec + 60 * SEC);
        bed_wait(&bed, 91 * SEC);
        bed_settle(&bed);
        assert_true(worker_of(&bed)->lease_maybe_usec == bed.now_usec + 30 * SEC);
        bed_done(&bed);
}

/* Otherwise that would end meanwhile, and the next queue's tasks would run beside. */
static void what_ran_before_a_restart_keeps_its_lease_where_nothing_new_may_go(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        scheduler_set_permitted(bed.workers[0], false, bed.now_usec);
        scheduler_restore_attempt(
                        bed.scheduler,
                        bed_task(&bed, 2, 100),
                        bed.workers[0],
                        bed.reports[0].instance,
                        true,
                        false,
                        bed.now_usec);
        bed_expect_none(&bed);
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        bed_answer(&bed, 0);
        bed_expect_none(&bed); /* at once */
        assert_int_equal(bed.calls[0], WORKER_CALL_ACQUIRE);
        bed_done(&bed);
}

static void a_worker_never_heard_of_is_given_up_after_a_restart_too(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        scheduler_restore_attempt(
                        bed.scheduler,
                        task,
                        bed.workers[0],
                        bed.reports[0].instance,
                        true,
                        false,
                        bed.now_usec);
        usec_t lost_usec = worker_lost_usec(worker_of(&bed), 30 * SEC);
        assert_true(lost_usec == bed.now_usec + 60 * SEC); /* the old lease, and a renewal of it */
        bed.now_usec = lost_usec - 1;
        bed_expect_none(&bed);
        fail_call(&bed);
        bed.now_usec = lost_usec;
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_done(&bed);
}

static void an_answer_to_a_submission_is_a_sign_of_life(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_wait(&bed, 3 * SEC);
        bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
        assert_true(worker_of(&bed)->last_answer_usec == bed.now_usec);
        bed_done(&bed);
}

/* Answers overtake each other: only a probe's tells that there is another instance. */
static void a_report_of_another_instance_leads_to_a_probe(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        WorkerReport stale = bed.reports[0];
        strcpy(stale.instance, "an earlier one");
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &stale, bed.now_usec);
        bed_expect_none(&bed);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        bed_answer(&bed, 0); /* the same as before */
        bed_expect_none(&bed);
        assert_int_equal(task->state, SCHEDULED_RUNNING);

        bed_restart(&bed, 0);
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &bed.reports[0], bed.now_usec);
        bed_expect_none(&bed);
        bed_answer(&bed, 0);
        assert_string_equal(worker_of(&bed)->lease_id, ""); /* died with the other */
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_done(&bed);
}

static void a_probe_under_way_does_not_answer_a_later_question(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        while (wait_for_call(&bed) != WORKER_CALL_PROBE)
                bed_answer(&bed, 0);
        /* The worker answers the probe, is started anew, and lists nothing; the list is here first. */
        scheduler_listing_begin(bed.workers[0]);
        scheduler_listing_finish(bed.scheduler, bed.workers[0], bed.now_usec, bed.now_usec);
        bed_answer(&bed, 0);
        bed_expect_none(&bed);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        assert_int_equal(bed.calls[0], WORKER_CALL_PROBE);
        bed_restart(&bed, 0);
        bed_answer(&bed, 0);
        bed_expect(&bed, ACTION_REQUEUE, task); /* not: ended and forgotten */
        assert_int_equal(task->reason, REASON_LOST);
        bed_done(&bed);
}

static void a_report_that_does_not_say_whose_it_is_counts_for_the_same(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_sent(&bed, SUBMIT_ACCEPTED);
        WorkerReport report = bed.reports[0];
        *report.instance = '\0';
        report.free_amounts.memory_mb = 5;
        scheduler_worker_reported(bed.scheduler, bed.workers[0], &report, bed.now_usec);
        bed_expect_none(&bed);
        assert_int_equal(task->state, SCHEDULED_RUNNING);
        assert_int_equal(worker_of(&bed)->report.free_amounts.memory_mb, 5);
        assert_string_equal(worker_of(&bed)->report.instance, bed.reports[0].instance);
        bed_done(&bed);
}

static void an_old_lease_refused_does_not_take_the_new_one(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 100);
        bed_expect(&bed, ACTION_PLACE, task);
        while (wait_for_call(&bed) != WORKER_CALL_RENEW)
                bed_answer(&bed, 0);
        refuse_call(&bed, "");
        bed_settle(&bed);
        char lease_id[LEASE_ID_SIZE];
        memcpy(lease_id, worker_of(&bed)->lease_id, sizeof(lease_id));
        assert_string_not_equal(lease_id, task->lease_id);
        bed_submit_done(&bed, task, SUBMIT_NO_LEASE);
        assert_string_equal(worker_of(&bed)->lease_id, lease_id);
        bed_done(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_worker_is_probed_leased_and_probed_before_it_is_used),
                cmocka_unit_test(a_lease_is_renewed_at_a_third_and_capacity_asked_for_in_between),
                cmocka_unit_test(a_lease_counts_from_when_it_was_asked_for),
                cmocka_unit_test(what_another_queue_holds_is_asked_for_every_two_seconds),
                cmocka_unit_test(a_lease_that_is_gone_is_acquired_anew_at_once),
                cmocka_unit_test(a_lease_is_given_back_when_nothing_runs_there),
                cmocka_unit_test(disabling_gives_back_as_well),
                cmocka_unit_test(what_is_permitted_during_a_probe_is_acquired_right_after),
                cmocka_unit_test(what_is_no_longer_permitted_when_it_is_granted_is_given_back),
                cmocka_unit_test(a_draining_worker_gets_nothing_new),
                cmocka_unit_test(a_silent_worker_is_only_probed_and_given_up_exactly_then),
                cmocka_unit_test(a_renewal_without_an_answer_keeps_the_lease_for_all_we_know),
                cmocka_unit_test(calls_of_an_earlier_run_may_still_arrive),
                cmocka_unit_test(what_ran_before_a_restart_keeps_its_lease_where_nothing_new_may_go),
                cmocka_unit_test(a_worker_never_heard_of_is_given_up_after_a_restart_too),
                cmocka_unit_test(an_answer_to_a_submission_is_a_sign_of_life),
                cmocka_unit_test(a_report_of_another_instance_leads_to_a_probe),
                cmocka_unit_test(a_probe_under_way_does_not_answer_a_later_question),
                cmocka_unit_test(a_report_that_does_not_say_whose_it_is_counts_for_the_same),
                cmocka_unit_test(an_old_lease_refused_does_not_take_the_new_one),
        };
        return cmocka_run_group_tests_name("scheduler-worker", tests, NULL, NULL);
}
