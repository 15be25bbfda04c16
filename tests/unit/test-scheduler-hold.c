/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tasks that wait for others, and why a task does not run. */

#include "base/text.h"
#include "core/scheduling/scheduler.h"
#include "scheduler-bed.h"
#include "test.h"

static ScheduledTask *held_task(Bed *bed) {
        ScheduledTask *task = bed_task(bed, 2, 100);
        scheduler_hold_task(bed->scheduler, task);
        return task;
}

static void one_ready(Bed *bed) {
        bed_init(bed, 1, 4);
        bed_settle(bed);
}

static void a_held_task_starts_when_it_is_released(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *task = held_task(&bed);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 1);
        bed_expect_none(&bed);
        scheduler_release_task(bed.scheduler, task, bed.now_usec);
        assert_int_equal(task->state, SCHEDULED_WAITING);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 1);
        bed_expect(&bed, ACTION_PLACE, task);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 0);
        bed_done(&bed);
}

static void a_held_task_ends_with_whom_it_waits_for_or_when_it_is_stopped(void **state) {
        Bed bed;
        one_ready(&bed);
        ScheduledTask *failed = held_task(&bed), *stopped = held_task(&bed);
        scheduler_fail_task(bed.scheduler, failed);
        scheduler_stop_task(bed.scheduler, stopped);
        bed_expect(&bed, ACTION_FINISH, failed);
        bed_expect(&bed, ACTION_FINISH, stopped);
        bed_expect_none(&bed);
        assert_int_equal(failed->reason, REASON_DEPENDENCY);
        assert_int_equal(stopped->reason, REASON_CANCELED);
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 0);
        scheduler_remove_task(bed.scheduler, failed);
        scheduler_remove_task(bed.scheduler, stopped);
        bed_done(&bed);
}

static void check_refusal(const char *label, const Bed *bed, unsigned cores, const char *wanted) {
        Resources want = { .cores_micro = cores * CORES_MICRO_PER_CORE, .memory_mb = 100 };
        check_text(label, scheduler_worker_refusal(bed->workers[0], &want, bed->now_usec), wanted);
}

static void a_worker_says_why_it_takes_nothing(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        Worker *worker = &bed.workers[0]->worker;
        check_refusal("new", &bed, 1, "was never heard of");
        bed_settle(&bed);
        check_refusal("ready", &bed, 4, NULL);
        check_refusal("small", &bed, 5, "is too small");
        (void) bed_task(&bed, 4, 100);
        (void) bed_next(&bed);
        check_refusal("full", &bed, 4, "has no room now");
        worker->silent = true;
        check_refusal("silent", &bed, 1, "does not answer");
        worker->silent = false;
        scheduler_set_permitted(bed.workers[0], false, bed.now_usec);
        check_refusal("not permitted", &bed, 1, "is not in the share of this queue");
        scheduler_set_disabled(bed.workers[0], true, bed.now_usec);
        check_refusal("disabled", &bed, 1, "is disabled");
        bed_done(&bed);
}

static void check_reason(
                const char *label,
                const Bed *bed,
                const ScheduledTask *task,
                const char *wanted,
                bool workers) {
        bool of_workers;
        check_text(label, scheduler_wait_reason(bed->scheduler, task, bed->now_usec, &of_workers), wanted);
        check_int(label, of_workers, workers);
}

static void a_task_says_why_it_waits(void **state) {
        Bed bed;
        bed_init(&bed, 1, 4);
        ScheduledTask *task = bed_task(&bed, 8, 100);
        check_reason("no worker yet", &bed, task, "no worker can be used now", true);
        check_reason("held", &bed, held_task(&bed), "waits for other tasks to complete", false);
        bed_settle(&bed);
        ScheduledTask *second = bed_task(&bed, 8, 100);
        (void) bed_next(&bed);
        check_reason("placed", &bed, task, "is on its way to a worker", false);
        check_reason("full", &bed, second, "no worker has room now", true);
        bed_done(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_held_task_starts_when_it_is_released),
                cmocka_unit_test(a_held_task_ends_with_whom_it_waits_for_or_when_it_is_stopped),
                cmocka_unit_test(a_worker_says_why_it_takes_nothing),
                cmocka_unit_test(a_task_says_why_it_waits),
        };
        return cmocka_run_group_tests_name("scheduler-hold", tests, NULL, NULL);
}
