/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which task goes where, and what it costs to find out. */

#include <malloc.h>
#include <stdio.h>

#include "core/scheduling/impact.h"
#include "core/scheduling/scheduler.h"
#include "core/scheduling/worker-index.h"
#include "core/text/stable-hash.h"
#include "fail-alloc.h"
#include "figures.h"
#include "scheduler-bed.h"
#include "test.h"

static void set_free(Bed *bed, size_t i, uint64_t half_cores, uint64_t memory_mb) {
        bed->reports[i].free_amounts = (Resources) {
                .cores_micro = half_cores * CORES_MICRO_PER_CORE / 2,
                .memory_mb = memory_mb,
        };
        if (bed->workers[i]->worker.identity != WORKER_UNKNOWN)
                scheduler_worker_reported(bed->scheduler, bed->workers[i], &bed->reports[i], bed->now_usec);
}

static ScheduledWorker *place(Bed *bed, ScheduledTask *task) {
        SchedulerAction action = bed_next(bed);
        assert_int_equal(action.type, ACTION_PLACE);
        assert_ptr_equal(action.task, task);
        return action.worker;
}

/* Of three workers the task takes 25 %, 50 % and 20 % of what is free. */
static void the_worker_with_the_least_impact_is_chosen(void **state) {
        Bed bed;
        bed_init(&bed, 3, 10);
        set_free(&bed, 0, 8, 1000);
        set_free(&bed, 1, 4, 1000);
        set_free(&bed, 2, 10, 1000);
        bed_settle(&bed);
        assert_ptr_equal(place(&bed, bed_task(&bed, 2, 10)), bed.workers[2]);
        bed_done(&bed);
}

static void the_largest_share_of_any_kind_counts(void **state) {
        Bed bed;
        bed_init(&bed, 2, 10);
        set_free(&bed, 0, 20, 110); /* 10 % of the cores, 91 % of the memory */
        set_free(&bed, 1, 4, 1000); /* 50 %, 10 % */
        bed_settle(&bed);
        assert_ptr_equal(place(&bed, bed_task(&bed, 2, 100)), bed.workers[1]);
        bed_done(&bed);
}

static void what_was_sent_is_taken_off_at_once(void **state) {
        Bed bed;
        bed_init(&bed, 4, 8);
        bed_settle(&bed);
        size_t n_placed[4] = {};
        for (unsigned i = 0; i < 32; i++) {
                ScheduledWorker *worker = place(&bed, bed_task(&bed, 2, 10));
                for (size_t k = 0; k < 4; k++)
                        n_placed[k] += worker == bed.workers[k];
        }
        for (size_t k = 0; k < 4; k++)
                assert_int_equal(n_placed[k], 8);
        (void) bed_task(&bed, 2, 10);
        bed_expect_none(&bed); /* all is taken */
        bed_done(&bed);
}

static void equals_are_chosen_by_the_task(void **state) {
        size_t n_chosen[4] = {};
        for (unsigned i = 0; i < 200; i++) {
                Bed bed;
                bed_init(&bed, 4, 8);
                bed.n_tasks = i;
                bed_settle(&bed);
                ScheduledWorker *worker = place(&bed, bed_task(&bed, 2, 10));
                for (size_t k = 0; k < 4; k++)
                        n_chosen[k] += worker == bed.workers[k];
                bed_done(&bed);
        }
        print_message("# 200 tasks, four equal workers: %zu %zu %zu %zu\n",
                      n_chosen[0],
                      n_chosen[1],
                      n_chosen[2],
                      n_chosen[3]);
        for (size_t k = 0; k < 4; k++)
                assert_in_range(n_chosen[k], 30, 70);
}

static void unusable_workers_get_nothing(void **state) {
        Bed bed;
        bed_init(&bed, 2, 8);
        set_free(&bed, 1, 4, 1000); /* the other would be better */
        bed_settle(&bed);
        scheduler_set_disabled(bed.workers[0], true, bed.now_usec);
        assert_ptr_equal(place(&bed, bed_task(&bed, 2, 10)), bed.workers[1]);
        bed_done(&bed);
}

static void a_full_worker_is_left_alone_for_a_moment(void **state) {
        Bed bed;
        bed_init(&bed, 1, 8);
        bed_settle(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 10);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_submit_done(&bed, task, SUBMIT_FULL);
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_expect_none(&bed);
        usec_t deadline_usec = scheduler_deadline(bed.scheduler, bed.now_usec);
        assert_true(deadline_usec > bed.now_usec && deadline_usec <= bed.now_usec + SEC / 10);
        bed.now_usec = deadline_usec;
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

static void the_important_and_then_the_early_come_first(void **state) {
        Bed bed;
        bed_init(&bed, 1, 8);
        ScheduledTask *tasks[4];
        static const int64_t priorities[] = { 0, 5, 0, -1 };
        static const unsigned order[] = { 1, 0, 2, 3 };
        for (size_t i = 0; i < 4; i++)
                tasks[i] = bed_task_with(
                                &bed,
                                (ScheduledTaskOptions) {
                                                .resources = { .cores_micro = 1 + i, .memory_mb = 1 },
                                                .priority = priorities[i],
                                });
        bed_settle(&bed);
        for (size_t i = 0; i < 4; i++)
                bed_expect(&bed, ACTION_PLACE, tasks[order[i]]);
        bed_done(&bed);
}

static void small_ones_pass_a_big_one_for_a_while_only(void **state) {
        Bed bed;
        bed_init(&bed, 2, 8);
        bed_settle(&bed);
        ScheduledTask *running[2][2];
        for (size_t i = 0; i < 4; i++) { /* four cores each: both are full */
                ScheduledTask *task = bed_task(&bed, 8, 10);
                size_t k = place(&bed, task) == bed.workers[1];
                bed_submit_done(&bed, task, SUBMIT_ACCEPTED);
                running[k][task->next_at_worker ? 1 : 0] = task;
        }
        ScheduledTask *big = bed_task(&bed, 16, 10);
        usec_t since_usec = bed.now_usec;
        size_t n_passed = 0;
        bool placed = false;
        /* Every second one ends, and there is always another small one. */
        for (unsigned i = 0; i < 120 && !placed; i++) {
                bed_wait(&bed, SEC);
                bed_settle(&bed);
                ScheduledTask **slot = &running[i % 2][i / 2 % 2];
                if (*slot) {
                        scheduler_attempt_ended(bed.scheduler, *slot, ATTEMPT_SUCCEEDED, bed.now_usec);
                        bed_expect(&bed, ACTION_FINISH, *slot);
                        scheduler_remove_task(bed.scheduler, *slot);
                        *slot = NULL;
                }
                (void) bed_task(&bed, 8, 10);
                for (SchedulerAction action; (action = bed_next(&bed)).type == ACTION_PLACE;) {
                        bed_submit_done(&bed, action.task, SUBMIT_ACCEPTED);
                        size_t k = action.worker == bed.workers[1];
                        running[k][running[k][0] ? 1 : 0] = action.task;
                        n_passed += action.task != big;
                        placed = placed || action.task == big;
                }
                /* The workers say what is so. */
                for (size_t k = 0; k < 2; k++) {
                        size_t n = (running[k][0] != NULL) + (running[k][1] != NULL);
                        set_free(&bed, k, placed ? 0 : 16 - 8 * n, 1000 - 10 * n);
                }
        }
        assert_true(placed);
        usec_t waited_usec = bed.now_usec - since_usec;
        print_message("# the big one waited %u s, and %zu passed it\n",
                      (unsigned) (waited_usec / SEC),
                      n_passed);
        assert_in_range(waited_usec, SCHEDULER_PATIENCE_USEC, SCHEDULER_PATIENCE_USEC + 5 * SEC);
        assert_true(n_passed > 20);
        bed_done(&bed);
}

static void a_refusal_does_not_cost_its_patience(void **state) {
        Bed bed;
        bed_init(&bed, 1, 8);
        bed_settle(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 10);
        usec_t since_usec = bed.now_usec;
        bed_wait(&bed, 5 * SEC);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_submit_done(&bed, task, SUBMIT_FULL);
        assert_true(task->waiting.since_usec == since_usec);
        bed_done(&bed);
}

static void what_could_fit_and_what_fits_now(void **state) {
        Bed bed;
        bed_init(&bed, 2, 4);
        Resources small = { .cores_micro = 1, .memory_mb = 1 };
        Resources big = { .cores_micro = 5 * CORES_MICRO_PER_CORE, .memory_mb = 1 };
        assert_true(scheduler_could_fit(bed.scheduler, &big)); /* nobody knows yet */
        assert_false(scheduler_fits_now(bed.scheduler, &small, bed.now_usec));
        bed_settle(&bed);
        assert_false(scheduler_could_fit(bed.scheduler, &big));
        assert_true(scheduler_could_fit(bed.scheduler, &small));
        assert_true(scheduler_fits_now(bed.scheduler, &small, bed.now_usec));
        assert_false(scheduler_fits_now(bed.scheduler, &big, bed.now_usec));
        (void) bed_task(&bed, 20, 10);
        assert_false(scheduler_fits_now(bed.scheduler, &small, bed.now_usec)); /* others wait */
        bed_done(&bed);
}

static void a_long_queue_is_placed_in_parts(void **state) {
        Bed bed;
        bed_init(&bed, BED_WORKERS_MAX, 1000);
        bed_settle(&bed);
        for (unsigned i = 0; i < 1000; i++)
                (void) bed_task_with(&bed, (ScheduledTaskOptions) { .resources = { .cores_micro = 1 } });
        size_t n_placed = 0;
        scheduler_run(bed.scheduler, bed.now_usec);
        for (SchedulerAction action; scheduler_next_action(bed.scheduler, &action);)
                n_placed += action.type == ACTION_PLACE;
        assert_int_equal(n_placed, 32 * BED_WORKERS_MAX); /* no more than so many on their way to each */
        assert_int_equal(scheduler_n_waiting(bed.scheduler), 1000 - n_placed);
        bed_done(&bed);
}

static void a_failed_allocation_only_delays(void **state) {
        Bed bed;
        bed_init(&bed, 1, 8);
        bed_settle(&bed);
        ScheduledTask *task = bed_task(&bed, 2, 10);
        bed_expect(&bed, ACTION_PLACE, task);
        fail_alloc_next();
        bed_submit_done(&bed, task, SUBMIT_FULL);
        assert_int_equal(task->state, SCHEDULED_BACKOFF);
        bed_expect(&bed, ACTION_REQUEUE, task);
        bed_wait(&bed, SEC);
        bed_expect(&bed, ACTION_PLACE, task);
        bed_done(&bed);
}

/* The n tasks of n_shapes, through all of their lives at eight workers. */
static double serve(size_t n, size_t n_shapes, size_t *ret_bytes) {
        Bed bed;
        bed_init(&bed, BED_WORKERS_MAX, 100);
        bed_settle(&bed);
        size_t before = mallinfo2().uordblks;
        double since = figures_seconds();
        for (size_t i = 0; i < n; i++)
                (void) bed_task_with(
                                &bed,
                                (ScheduledTaskOptions) {
                                                .resources = { .cores_micro = 1000000, .memory_mb = 1 },
                                                .priority = (int64_t) (i % n_shapes),
                                });
        *ret_bytes = mallinfo2().uordblks - before;
        while (scheduler_n_tasks(bed.scheduler) > 0) {
                SchedulerAction action = bed_next(&bed);
                if (action.type == ACTION_PLACE) {
                        bed_submit_done(&bed, action.task, SUBMIT_ACCEPTED);
                        scheduler_attempt_ended(bed.scheduler, action.task, ATTEMPT_SUCCEEDED, bed.now_usec);
                } else if (action.type == ACTION_FINISH)
                        scheduler_remove_task(bed.scheduler, action.task);
        }
        double seconds = figures_seconds() - since;
        bed_done(&bed);
        return seconds;
}

static void the_cost_of_a_task_is_the_same_among_many(void **state) {
        size_t n = figures_scale(100000), bytes, bytes_few;
        static const size_t shapes[] = { 1, 5, 0 };
        for (FOREACH_ROW(row, shapes)) {
                double few = serve(n / 10, *row ?: n / 10, &bytes_few);
                double many = serve(n, *row ?: n, &bytes);
                print_message("# %zu tasks of %zu shapes: %.1f us and %zu bytes each; %zu: %.1f us, %zu bytes\n",
                              n / 10,
                              *row ?: n / 10,
                              few / (double) n * 1e7,
                              bytes_few / (n / 10),
                              n,
                              many / (double) n * 1e6,
                              bytes / n);
                assert_true(many < 40 * few + 0.1);
                assert_true(bytes <= 12 * bytes_few);
        }
}

/* What each of many clients would do that knows the same old figures: all go to the one that looks best. */
static void many_at_once_spread_where_old_figures_would_herd_them(void **state) {
        static const uint64_t half_cores[BED_WORKERS_MAX] = { 16, 17, 16, 15, 16, 16, 15, 16 };
        Bed bed;
        bed_init(&bed, BED_WORKERS_MAX, 100);
        for (size_t i = 0; i < BED_WORKERS_MAX; i++)
                set_free(&bed, i, half_cores[i], 1000);
        bed_settle(&bed);
        Resources want = { .cores_micro = CORES_MICRO_PER_CORE, .memory_mb = 10 };
        size_t ours[BED_WORKERS_MAX] = {}, naive[BED_WORKERS_MAX] = {};
        for (unsigned i = 0; i < 48; i++) {
                size_t best = 0;
                double impacts[BED_WORKERS_MAX];
                for (size_t k = 0; k < BED_WORKERS_MAX; k++) {
                        impacts[k] = impact_compute(&want, &bed.reports[k].free_amounts).max_impact;
                        best = impacts[k] < impacts[best] ? k : best;
                }
                naive[best]++;
                ScheduledWorker *worker = place(&bed, bed_task(&bed, 2, 10));
                for (size_t k = 0; k < BED_WORKERS_MAX; k++)
                        ours[k] += worker == bed.workers[k];
        }
        for (size_t k = 0; k < BED_WORKERS_MAX; k++) {
                print_message("# worker %zu, room for %2u: %2zu of 48 tasks; by old figures %2zu\n",
                              k,
                              (unsigned) half_cores[k] / 2,
                              ours[k],
                              naive[k]);
                assert_in_range(ours[k], 5, 7);
        }
        assert_int_equal(naive[1], 48);
        bed_done(&bed);
}

static size_t random_below(uint64_t *random, size_t n) {
        *random = stable_hash_u64(*random + 1);
        return *random % n;
}

/* Something happens to a worker, or time goes on. */
static void happen(Bed *bed, uint64_t *random) {
        size_t i = random_below(random, bed->n_workers);
        ScheduledWorker *worker = bed->workers[i];
        switch (random_below(random, 24)) {
        case 0:
                scheduler_set_disabled(worker, random_below(random, 4) == 0, bed->now_usec);
                break;
        case 1:
                scheduler_set_permitted(worker, random_below(random, 4) > 0, bed->now_usec);
                break;
        case 2:
                bed->reports[i].draining = random_below(random, 3) == 0;
                set_free(bed, i, random_below(random, 20), random_below(random, 1000));
                break;
        case 3:
                bed_restart(bed, i);
                set_free(bed, i, 20, 1000);
                break;
        case 4:
                if (bed->calls[i] != NO_CALL) {
                        bed->calls[i] = NO_CALL;
                        scheduler_call_failed(bed->scheduler, worker, bed->now_usec);
                }
                break;
        case 5:
                bed_wait(bed, random_below(random, 12 * SEC));
                break;
        default:
                if (bed->calls[i] != NO_CALL)
                        bed_answer(bed, i);
        }
}

/* What became of a task that was placed. */
static void answer_submission(Bed *bed, ScheduledTask *task, uint64_t *random) {
        static const SubmitOutcome outcomes[] = { SUBMIT_ACCEPTED, SUBMIT_ACCEPTED, SUBMIT_ACCEPTED,
                                                  SUBMIT_FULL,     SUBMIT_BUSY,     SUBMIT_NO_LEASE,
                                                  SUBMIT_UNSENT };
        bed_submit_done(bed, task, outcomes[random_below(random, N_ELEMENTS(outcomes))]);
        if (task->state == SCHEDULED_RUNNING && random_below(random, 2) == 0)
                scheduler_attempt_ended(bed->scheduler, task, ATTEMPT_SUCCEEDED, bed->now_usec);
}

static void run_all(Bed *bed, uint64_t *random) {
        ScheduledTask *placed[64];
        for (size_t n_placed = 1; n_placed > 0;) {
                n_placed = 0;
                for (SchedulerAction action; (action = bed_next(bed)).type != ACTION_CALL;) {
                        if (action.type == ACTION_PLACE)
                                placed[n_placed++] = action.task;
                        else if (action.type == ACTION_FINISH)
                                scheduler_remove_task(bed->scheduler, action.task);
                        assert_true(n_placed < N_ELEMENTS(placed));
                }
                for (size_t i = 0; i < n_placed; i++)
                        answer_submission(bed, placed[i], random);
        }
}

static const Worker *look_at_all(const Bed *bed, const Resources *want) {
        const Worker *best = NULL;
        double least = 0;
        for (size_t i = 0; i < bed->n_workers; i++) {
                const Worker *worker = &bed->workers[i]->worker;
                Impact impact = impact_compute(want, &worker->report.free_amounts);
                if (bed->workers[i]->reserved || !worker_is_usable(worker, bed->now_usec) ||
                    !impact.satisfiable)
                        continue;
                bool is_less = !best || impact.max_impact < least;
                if (is_less ||
                    (!(impact.max_impact > least) &&
                     worker_tie_wins(worker_tie(worker, 0), worker_tie(best, 0)))) {
                        best = worker;
                        least = impact.max_impact;
                }
        }
        return best;
}

/* Lost, where this fails: a worker that came back gets nothing, or one that is away gets tasks. */
static void whatever_happens_every_usable_worker_is_known(void **state) {
        size_t n_seeds = figures_scale(300), n_found = 0, n_compared = 0;
        for (uint64_t seed = 1; seed <= n_seeds; seed++) {
                Bed bed;
                uint64_t random = seed;
                bed_init(&bed, BED_WORKERS_MAX, 10);
                bed_settle(&bed);
                for (size_t step = 0; step < 300; step++) {
                        happen(&bed, &random);
                        if (random_below(&random, 3) == 0)
                                (void) bed_task(&bed,
                                                (unsigned) random_below(&random, 20) + 1,
                                                (unsigned) random_below(&random, 900) + 1);
                        run_all(&bed, &random);
                        Resources want = { .cores_micro = random_below(&random, 4 * CORES_MICRO_PER_CORE) };
                        const Worker *found = scheduler_least_impact(bed.scheduler, &want, bed.now_usec);
                        assert_ptr_equal(found, look_at_all(&bed, &want));
                        n_found += found != NULL;
                        n_compared++;
                }
                bed_done(&bed);
        }
        print_message("# %zu histories: a worker was found in %zu of %zu states\n",
                      n_seeds,
                      n_found,
                      n_compared);
        assert_in_range(n_found, n_compared / 10, n_compared - 1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_worker_with_the_least_impact_is_chosen),
                cmocka_unit_test(the_largest_share_of_any_kind_counts),
                cmocka_unit_test(what_was_sent_is_taken_off_at_once),
                cmocka_unit_test(equals_are_chosen_by_the_task),
                cmocka_unit_test(unusable_workers_get_nothing),
                cmocka_unit_test(a_full_worker_is_left_alone_for_a_moment),
                cmocka_unit_test(the_important_and_then_the_early_come_first),
                cmocka_unit_test(small_ones_pass_a_big_one_for_a_while_only),
                cmocka_unit_test(a_refusal_does_not_cost_its_patience),
                cmocka_unit_test(what_could_fit_and_what_fits_now),
                cmocka_unit_test(a_long_queue_is_placed_in_parts),
                cmocka_unit_test(a_failed_allocation_only_delays),
                cmocka_unit_test(the_cost_of_a_task_is_the_same_among_many),
                cmocka_unit_test(many_at_once_spread_where_old_figures_would_herd_them),
                cmocka_unit_test(whatever_happens_every_usable_worker_is_known),
        };
        return cmocka_run_group_tests_name("scheduler-place", tests, NULL, NULL);
}
