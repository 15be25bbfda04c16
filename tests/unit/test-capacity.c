/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>

#include "core/scheduling/capacity.h"
#include "fail-alloc.h"
#include "test.h"

static void the_host_keeps_two_cores_and_a_quarter_of_memory(void **state) {
        static const struct {
                const char *label;
                uint64_t host_cores_micro, host_memory_mb;
                uint64_t cores, memory_mb;
        } rows[] = {
                { "eight", 8000000, 16000, 6, 12000 },
                { "three", 3000000, 1001, 1, 750 },
                { "two", 2000000, 1002, 1, 751 },
                { "one", 1000000, 1003, 1, 752 },
                { "nothing known", 0, 0, 1, 100 },
                { "small memory", 4000000, 133, 2, 100 },
                { "least memory that counts", 4000000, 136, 2, 102 },
                { "quota of half a core", 500000, 1000, 1, 750 },
                { "quota of three and a half", 3500000, 1000, 1, 750 },
                { "quota just below five", 4999999, 1000, 2, 750 },
                { "memory near the end of 64 bits", 8000000, UINT64_MAX, 6, UINT64_MAX / 4 * 3 + 2 },
        };

        for (FOREACH_ROW(row, rows)) {
                const HostCapacity host = { row->host_cores_micro, row->host_memory_mb };
                const CapacityOverrides none = {};
                Resources total;

                capacity_effective(&host, &none, &total);
                check_u64(row->label, total.cores_micro, row->cores * CORES_MICRO_PER_CORE);
                check_u64(row->label, total.memory_mb, row->memory_mb);
                check_u64(row->label, total.n_named, 0);
        }
}

static void overrides_replace_what_was_found(void **state) {
        static const struct {
                const char *label;
                uint64_t host_cores_micro;
                bool cores_set, memory_set;
                uint64_t cores_micro, memory_mb;
                uint64_t expected_cores_micro, expected_memory_mb;
        } rows[] = {
                { "cores", 8000000, true, false, 10000000, 0, 10000000, 12000 },
                { "part of a core", 8000000, true, false, 2500000, 0, 2500000, 12000 },
                { "memory", 8000000, false, true, 0, 1, 6000000, 1 },
                { "both", 8000000, true, true, 20000000, 99, 20000000, 99 },
                { "all cores", 8000000, true, false, 0, 0, 8000000, 12000 },
                { "all cores of a quota", 3500000, true, false, 0, 0, 3000000, 12000 },
                { "all cores of a small quota", 500000, true, false, 0, 0, 1000000, 12000 },
        };

        for (FOREACH_ROW(row, rows)) {
                const HostCapacity host = { row->host_cores_micro, 16000 };
                CapacityOverrides overrides = {
                        .cores_set = row->cores_set,
                        .memory_set = row->memory_set,
                        .amounts = { .cores_micro = row->cores_micro, .memory_mb = row->memory_mb },
                };
                Resources total;

                check_int(row->label, resources_named_set(&overrides.amounts, "gpu", 2), 0);
                capacity_effective(&host, &overrides, &total);
                check_u64(row->label, total.cores_micro, row->expected_cores_micro);
                check_u64(row->label, total.memory_mb, row->expected_memory_mb);
                check_u64(row->label, resources_named_get(&total, "gpu"), 2);
        }
}

static CapacityPool pool_of(uint64_t cores, uint64_t memory_mb, uint64_t gpus) {
        Resources total = { .cores_micro = cores * CORES_MICRO_PER_CORE, .memory_mb = memory_mb };
        CapacityPool pool = {};

        assert_int_equal(resources_named_set(&total, "gpu", gpus), 0);
        capacity_pool_set_total(&pool, &total);
        return pool;
}

static Resources want_of(uint64_t cores, uint64_t memory_mb, uint64_t gpus) {
        Resources want = { .cores_micro = cores * CORES_MICRO_PER_CORE, .memory_mb = memory_mb };

        if (gpus > 0)
                assert_int_equal(resources_named_set(&want, "gpu", gpus), 0);
        return want;
}

static void check_free(const CapacityPool *pool, uint64_t cores, uint64_t memory_mb, uint64_t gpus) {
        Resources free_amounts;

        capacity_pool_free_amounts(pool, &free_amounts);
        assert_int_equal(free_amounts.cores_micro, cores * CORES_MICRO_PER_CORE);
        assert_int_equal(free_amounts.memory_mb, memory_mb);
        assert_int_equal(resources_named_get(&free_amounts, "gpu"), gpus);
}

static void charges_take_and_give_back(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2);
        CapacityCharge first = {}, second = {};
        Resources want = want_of(3, 400, 1), rest = want_of(1, 600, 1);
        uint64_t revision = pool.revision;

        assert_int_equal(capacity_charge(&pool, &want, &first), 0);
        check_free(&pool, 1, 600, 1);
        assert_true(pool.revision > revision);
        assert_int_equal(capacity_charge(&pool, &rest, &second), 0);
        check_free(&pool, 0, 0, 0);

        revision = pool.revision;
        capacity_charge_release(&first);
        check_free(&pool, 3, 400, 1);
        assert_true(pool.revision > revision);
        capacity_charge_release(&second);
        check_free(&pool, 4, 1000, 2);
}

static void over_quota_leaves_pool_and_charge_untouched(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2), before = pool;
        CapacityCharge charge = {};
        const Resources wants[] = { want_of(5, 1, 0), want_of(1, 1001, 0), want_of(1, 1, 3) };

        for (FOREACH_ROW(want, wants)) {
                assert_int_equal(capacity_charge(&pool, want, &charge), -EDQUOT);
                assert_memory_equal(&pool, &before, sizeof(pool));
                assert_null(charge.pool);
        }
}

static void releasing_twice_gives_back_once(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2);
        CapacityCharge first = {}, second = {};
        Resources want = want_of(2, 500, 1);
        uint64_t revision;

        assert_int_equal(capacity_charge(&pool, &want, &first), 0);
        assert_int_equal(capacity_charge(&pool, &want, &second), 0);
        capacity_charge_release(&first);
        revision = pool.revision;
        capacity_charge_release(&first);
        check_free(&pool, 2, 500, 1);
        assert_int_equal(pool.revision, revision);
}

static void a_total_that_stays_is_no_change(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2);
        Resources same = pool.total;
        uint64_t revision = pool.revision;

        assert_int_equal(revision, 1);
        capacity_pool_set_total(&pool, &same);
        assert_int_equal(pool.revision, revision);
        same.memory_mb++;
        capacity_pool_set_total(&pool, &same);
        assert_int_equal(pool.revision, revision + 1);
}

static void nothing_is_free_while_more_is_taken_than_there_is(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2);
        CapacityCharge charge = {}, another = {};
        Resources want = want_of(3, 800, 2), small = want_of(1, 1, 0), total = want_of(2, 500, 1);

        assert_int_equal(capacity_charge(&pool, &want, &charge), 0);
        capacity_pool_set_total(&pool, &total);
        check_free(&pool, 0, 0, 0);
        assert_int_equal(capacity_charge(&pool, &small, &another), -EDQUOT);
        capacity_charge_release(&charge);
        check_free(&pool, 2, 500, 1);
}

static void names_that_are_merely_mentioned_do_not_pile_up(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2);
        char name[16];

        for (int i = 0; i < 3 * RESOURCES_NAMED_MAX; i++) {
                CapacityCharge charge = {};
                Resources want = want_of(1, 1, 1);

                (void) snprintf(name, sizeof(name), "unheard_of_%d", i);
                assert_int_equal(resources_named_set(&want, name, 0), 0);
                assert_int_equal(capacity_charge(&pool, &want, &charge), 0);
                assert_int_equal(pool.used.n_named, 1);
                capacity_charge_release(&charge);
                assert_int_equal(pool.used.n_named, 0);
        }
        check_free(&pool, 4, 1000, 2);
}

static void several_names_are_charged_and_given_back(void **state) {
        static const char *const names[] = { "a", "b", "c" };
        CapacityPool pool = pool_of(4, 1000, 2);
        CapacityCharge charge = {};
        Resources total = pool.total, want = want_of(1, 1, 0), free_amounts;

        for (FOREACH_ROW(name, names)) {
                assert_int_equal(resources_named_set(&total, *name, 5), 0);
                assert_int_equal(resources_named_set(&want, *name, 2), 0);
        }
        capacity_pool_set_total(&pool, &total);
        assert_int_equal(capacity_charge(&pool, &want, &charge), 0);
        capacity_pool_free_amounts(&pool, &free_amounts);
        for (FOREACH_ROW(name, names))
                check_u64(*name, resources_named_get(&free_amounts, *name), 3);
        capacity_charge_release(&charge);
        capacity_pool_free_amounts(&pool, &free_amounts);
        assert_true(resources_equal(&free_amounts, &total));
}

/* The union of what is used and what is asked for may have too many names only after the total changed. */
static void names_that_the_total_lost_may_leave_no_room(void **state) {
        CapacityPool pool = pool_of(4, 1000, 2), before;
        CapacityCharge old = {}, new = {};
        Resources first = pool.total, second = pool.total, want = want_of(1, 1, 1), other = want;
        char name[16];

        for (int i = 1; i < RESOURCES_NAMED_MAX; i++) {
                (void) snprintf(name, sizeof(name), "first_%d", i);
                assert_int_equal(resources_named_set(&first, name, 1), 0);
                assert_int_equal(resources_named_set(&want, name, 1), 0);
        }
        assert_int_equal(resources_named_set(&second, "second", 1), 0);
        assert_int_equal(resources_named_set(&other, "second", 1), 0);

        capacity_pool_set_total(&pool, &first);
        assert_int_equal(capacity_charge(&pool, &want, &old), 0);
        capacity_pool_set_total(&pool, &second);
        before = pool;
        assert_int_equal(capacity_charge(&pool, &other, &new), -EDQUOT);
        assert_memory_equal(&pool, &before, sizeof(pool));
        capacity_charge_release(&old);
        assert_int_equal(capacity_charge(&pool, &other, &new), 0);
}

static void the_slice_limits_the_host_kind_by_kind(void **state) {
        static const struct {
                const char *label;
                SliceLimits slice;
                uint64_t cores_micro, memory_mb;
        } rows[] = {
                { "no limits", { 0, UINT64_MAX, UINT64_MAX }, 8000000, 16000 },
                { "a cpuset", { 3, UINT64_MAX, UINT64_MAX }, 3000000, 16000 },
                { "one CPU", { 1, UINT64_MAX, UINT64_MAX }, 1000000, 16000 },
                { "a larger cpuset", { 9, UINT64_MAX, UINT64_MAX }, 8000000, 16000 },
                { "an absurd cpuset", { UINT64_MAX / 1000, UINT64_MAX, UINT64_MAX }, 8000000, 16000 },
                { "a quota", { 0, 2500000, UINT64_MAX }, 2500000, 16000 },
                { "a quota below a cpuset", { 3, 2500000, UINT64_MAX }, 2500000, 16000 },
                { "a cpuset below a quota", { 2, 2500000, UINT64_MAX }, 2000000, 16000 },
                { "memory", { 0, UINT64_MAX, UINT64_C(1024) * 1048576 }, 8000000, 1024 },
                { "part of a megabyte", { 0, UINT64_MAX, UINT64_C(1025) * 1048576 - 1 }, 8000000, 1024 },
                { "more memory than there is", { 0, UINT64_MAX, UINT64_C(16001) * 1048576 }, 8000000, 16000 },
        };

        for (FOREACH_ROW(row, rows)) {
                HostCapacity host = { 8000000, 16000 };

                host_capacity_limit(&host, &row->slice);
                check_u64(row->label, host.cores_micro, row->cores_micro);
                check_u64(row->label, host.memory_mb, row->memory_mb);
        }
}

static int try_view(void *userdata) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        return object ? capacity_view_add(object, userdata) : -ENOMEM;
}

static void views_are_written(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{}");
        CapacityView view = {
                .total = { .cores_micro = 2 * CORES_MICRO_PER_CORE, .memory_mb = 100 },
                .free_amounts = { .cores_micro = CORES_MICRO_PER_CORE / 2, .memory_mb = 7 },
                .n_queued = 3,
                .n_running = 4,
                .draining = true,
        };
        assert_int_equal(capacity_view_add(object, &view), 0);
        check_json("view",
                   object,
                   "{\"total\":{\"cores\":2,\"memory_mb\":100},\"free\":{\"cores\":0.5,\"memory_mb\":7},"
                   "\"tasks\":{\"queued\":3,\"running\":4},\"draining\":true}");
        fail_alloc_loop(try_view, &view);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_host_keeps_two_cores_and_a_quarter_of_memory),
                cmocka_unit_test(overrides_replace_what_was_found),
                cmocka_unit_test(charges_take_and_give_back),
                cmocka_unit_test(over_quota_leaves_pool_and_charge_untouched),
                cmocka_unit_test(releasing_twice_gives_back_once),
                cmocka_unit_test(a_total_that_stays_is_no_change),
                cmocka_unit_test(nothing_is_free_while_more_is_taken_than_there_is),
                cmocka_unit_test(names_that_are_merely_mentioned_do_not_pile_up),
                cmocka_unit_test(several_names_are_charged_and_given_back),
                cmocka_unit_test(names_that_the_total_lost_may_leave_no_room),
                cmocka_unit_test(the_slice_limits_the_host_kind_by_kind),
                cmocka_unit_test(views_are_written),
        };

        return cmocka_run_group_tests_name("capacity", tests, NULL, NULL);
}
