/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"
#include "core/sharing/worker-set.h"
#include "fail-alloc.h"
#include "test.h"

static const char *const mixed[] = { "mac2", "mac10", "mac2", "", "Mac1", "mac10" };

static void ids_are_sorted_by_bytes_and_each_there_once(void **state) {
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL;
        assert_int_equal(worker_set_new(mixed, N_ELEMENTS(mixed), &set), 0);
        assert_int_equal(set->n_ids, 4);
        assert_string_equal(set->ids[0], "");
        assert_string_equal(set->ids[1], "Mac1");
        assert_string_equal(set->ids[2], "mac10");
        assert_string_equal(set->ids[3], "mac2");
        assert_null(set->ids[4]);
}

static void members_are_found(void **state) {
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL, *empty = NULL;
        assert_int_equal(worker_set_new(mixed, N_ELEMENTS(mixed), &set), 0);
        assert_int_equal(worker_set_new(NULL, 0, &empty), 0);
        assert_true(worker_set_has(set, "mac10"));
        assert_true(worker_set_has(set, ""));
        assert_false(worker_set_has(set, "mac1"));
        assert_false(worker_set_has(empty, ""));
}

static void sets_are_compared_and_intersected(void **state) {
        static const struct {
                const char *a[4], *b[4];
                size_t n_both;
                bool equal;
        } rows[] = {
                { { "1", "2" }, { "2", "1" }, 2, true }, { { "1", "2" }, { "1", "3" }, 1, false },
                { { "1", "2" }, { "1" }, 1, false },     { { "1", "1" }, { "1" }, 1, true },
                { { "12" }, { "1", "2" }, 0, false },    { {}, {}, 0, true },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(worker_set_unrefp) WorkerSet *a = NULL, *b = NULL, *both = NULL;
                const char *label = row->a[0] ?: "empty";
                check_int(label, worker_set_new(row->a, text_list_count((char **) row->a), &a), 0);
                check_int(label, worker_set_new(row->b, text_list_count((char **) row->b), &b), 0);
                check_int(label, worker_set_intersect(a, b, &both), 0);
                check_int(label, (intmax_t) both->n_ids, (intmax_t) row->n_both);
                check_true(label, worker_set_equal(a, b) == row->equal);
                check_true(label, worker_set_equal(a, a));
        }
}

static int try_new(void *userdata) {
        (void) userdata;
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL, *again = NULL;
        int r = worker_set_new(mixed, N_ELEMENTS(mixed), &set);
        return r < 0 ? r : worker_set_intersect(set, set, &again);
}

static void running_out_of_memory_leaves_nothing_behind(void **state) {
        fail_alloc_loop(try_new, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ids_are_sorted_by_bytes_and_each_there_once),
                cmocka_unit_test(members_are_found),
                cmocka_unit_test(sets_are_compared_and_intersected),
                cmocka_unit_test(running_out_of_memory_leaves_nothing_behind),
        };
        return cmocka_run_group_tests_name("worker-set", tests, NULL, NULL);
}
