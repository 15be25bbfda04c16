/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/admission.h"
#include "test.h"

static Resources cores(uint64_t n) {
        return (Resources) { .cores_micro = n * CORES_MICRO_PER_CORE };
}

static void append(AdmissionList *list, AdmissionEntry *entry, uint64_t n_cores, usec_t now_usec) {
        Resources want = cores(n_cores);

        admission_list_append(list, entry, &want, now_usec);
}

/* So many of 100 cores are free. */
static CapacityPool pool_with(uint64_t free_cores) {
        return (CapacityPool) { .total = cores(100), .used = cores(100 - free_cores) };
}

static AdmissionEntry *next(const AdmissionList *list, uint64_t free_cores, usec_t now_usec) {
        CapacityPool pool = pool_with(free_cores);

        return admission_list_next(list, &pool, now_usec);
}

static void an_empty_queue_has_no_next(void **state) {
        AdmissionList list = {};

        assert_null(next(&list, 100, 0));
}

static void tasks_start_in_order_of_arrival(void **state) {
        AdmissionList list = {};
        AdmissionEntry entries[3] = {};

        for (size_t i = 0; i < 3; i++)
                append(&list, entries + i, 1, i);
        assert_int_equal(list.n_entries, 3);

        for (size_t i = 0; i < 3; i++) {
                assert_ptr_equal(next(&list, 1, 10), entries + i);
                assert_ptr_equal(next(&list, 1, 10), entries + i);
                admission_list_remove(entries + i);
        }
        assert_null(next(&list, 1, 10));
        assert_int_equal(list.n_entries, 0);
}

static void a_smaller_task_passes_one_that_does_not_fit(void **state) {
        AdmissionList list = {};
        AdmissionEntry large = {}, small = {};

        append(&list, &large, 4, 0);
        append(&list, &small, 1, 1);
        assert_ptr_equal(next(&list, 3, 2), &small);
        assert_ptr_equal(next(&list, 4, 2), &large);
        assert_null(next(&list, 0, 2));
}

static void nothing_passes_a_task_that_has_waited_long_enough(void **state) {
        static const struct {
                const char *label;
                usec_t now_usec;
                bool small_passes;
        } rows[] = {
                { "at once", 1000, true },
                { "just before", 1000 + ADMISSION_PATIENCE_USEC - 1, true },
                { "just then", 1000 + ADMISSION_PATIENCE_USEC, false },
                { "long after", 1000 + 10 * ADMISSION_PATIENCE_USEC, false },
                { "clock behind", 0, true },
        };

        for (FOREACH_ROW(row, rows)) {
                AdmissionList list = {};
                AdmissionEntry large = {}, small = {};

                append(&list, &large, 4, 1000);
                append(&list, &small, 1, 1000);
                check_true(row->label, next(&list, 3, row->now_usec) == (row->small_passes ? &small : NULL));
                check_true(row->label, next(&list, 4, row->now_usec) == &large);
        }
}

static void patience_counts_for_every_task_that_is_passed(void **state) {
        AdmissionList list = {};
        AdmissionEntry first = {}, second = {}, small = {};
        usec_t now_usec = ADMISSION_PATIENCE_USEC;

        /* The first is impatient, but once it starts, what has not waited as long may be passed. */
        append(&list, &first, 4, 0);
        append(&list, &second, 3, 1);
        append(&list, &small, 1, 2);
        assert_null(next(&list, 2, now_usec));
        admission_list_remove(&first);
        assert_ptr_equal(next(&list, 2, now_usec), &small);
        assert_null(next(&list, 2, now_usec + 1));
}

static void nobody_waits_for_what_can_never_start(void **state) {
        AdmissionList list = {};
        AdmissionEntry large = {}, small = {};
        CapacityPool pool = { .total = cores(4) };
        Resources want = cores(4);
        usec_t now_usec = 10 * ADMISSION_PATIENCE_USEC;

        append(&list, &large, 5, 0);
        assert_true(admission_list_leaves(&list, &pool, &want));
        append(&list, &small, 1, 0);
        assert_ptr_equal(admission_list_next(&list, &pool, now_usec), &small);
        pool.total = cores(5);
        assert_ptr_equal(admission_list_next(&list, &pool, now_usec), &large);
        assert_false(admission_list_leaves(&list, &pool, &want));
}

static void entries_leave_from_anywhere(void **state) {
        for (size_t leaving = 0; leaving < 3; leaving++) {
                AdmissionList list = {};
                AdmissionEntry entries[3] = {};
                size_t n = 0;

                for (size_t i = 0; i < 3; i++)
                        append(&list, entries + i, 1, i);
                admission_list_remove(entries + leaving);
                assert_null(entries[leaving].list);
                assert_null(entries[leaving].next);
                assert_null(entries[leaving].previous);
                assert_int_equal(list.n_entries, 2);

                for (AdmissionEntry *entry = list.first; entry; entry = entry->next, n++) {
                        assert_ptr_not_equal(entry, entries + leaving);
                        assert_ptr_equal(entry->next ? entry->next->previous : list.first->previous, entry);
                }
                assert_int_equal(n, 2);
        }
}

static void removing_twice_or_what_never_waited_does_nothing(void **state) {
        AdmissionList list = {};
        AdmissionEntry waiting = {}, never = {};

        append(&list, &waiting, 1, 0);
        admission_list_remove(&never);
        assert_int_equal(list.n_entries, 1);
        admission_list_remove(&waiting);
        admission_list_remove(&waiting);
        assert_int_equal(list.n_entries, 0);
        assert_null(list.first);

        append(&list, &waiting, 1, 5);
        assert_ptr_equal(next(&list, 1, 5), &waiting);
}

static bool leaves(const AdmissionList *list, uint64_t free_cores, uint64_t wanted_cores) {
        CapacityPool pool = pool_with(free_cores);
        Resources want = cores(wanted_cores);

        return admission_list_leaves(list, &pool, &want);
}

static void what_waits_is_taken_off_what_is_free(void **state) {
        AdmissionList list = {};
        AdmissionEntry entries[3] = {};

        assert_true(leaves(&list, 2, 2));
        assert_false(leaves(&list, 2, 3));

        for (size_t i = 0; i < 3; i++)
                append(&list, entries + i, 2, i);
        assert_true(leaves(&list, 8, 2));
        assert_false(leaves(&list, 8, 3));
        assert_false(leaves(&list, 6, 1));

        /* One that does not fit itself leaves nothing: it came first. */
        assert_false(leaves(&list, 5, 1));

        admission_list_remove(entries + 1);
        assert_true(leaves(&list, 6, 2));
}

static void one_that_comes_back_has_its_old_place(void **state) {
        AdmissionList list = {};
        AdmissionEntry entries[4] = {};

        for (size_t i = 0; i < 4; i++)
                append(&list, entries + i, 1, i / 2); /* two at a time */
        for (size_t i = 0; i < 4; i++)
                admission_list_remove(entries + i);

        /* Those of one moment come back in their order. */
        admission_list_return(&list, entries + 2);
        admission_list_return(&list, entries + 0);
        admission_list_return(&list, entries + 1);
        admission_list_return(&list, entries + 3);
        assert_int_equal(list.n_entries, 4);
        for (size_t i = 0; i < 4; i++) {
                assert_ptr_equal(next(&list, 1, 10), entries + i);
                admission_list_remove(entries + i);
        }
        assert_null(list.first);
}

static void nobody_waits_for_one_that_is_held(void **state) {
        AdmissionList list = {};
        AdmissionEntry entries[2] = {};

        append(&list, &entries[0], 9, 0);
        append(&list, &entries[1], 1, 0);
        entries[0].held = true;
        assert_ptr_equal(next(&list, 9, 0), &entries[1]);
        assert_ptr_equal(next(&list, 1, ADMISSION_PATIENCE_USEC), &entries[1]);
        entries[0].held = false;
        assert_ptr_equal(next(&list, 9, 0), &entries[0]);
        assert_null(next(&list, 1, ADMISSION_PATIENCE_USEC));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_queue_has_no_next),
                cmocka_unit_test(tasks_start_in_order_of_arrival),
                cmocka_unit_test(a_smaller_task_passes_one_that_does_not_fit),
                cmocka_unit_test(nothing_passes_a_task_that_has_waited_long_enough),
                cmocka_unit_test(patience_counts_for_every_task_that_is_passed),
                cmocka_unit_test(nobody_waits_for_what_can_never_start),
                cmocka_unit_test(entries_leave_from_anywhere),
                cmocka_unit_test(removing_twice_or_what_never_waited_does_nothing),
                cmocka_unit_test(what_waits_is_taken_off_what_is_free),
                cmocka_unit_test(one_that_comes_back_has_its_old_place),
                cmocka_unit_test(nobody_waits_for_one_that_is_held),
        };

        return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
