/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/admission.h"
#include "test.h"

static Resources cores(uint64_t n) {
        return (Resources){ .cores_micro = n * CORES_MICRO_PER_CORE };
}

static void append(AdmissionQueue *queue, AdmissionEntry *entry, uint64_t n_cores, usec_t now_usec) {
        Resources want = cores(n_cores);

        admission_queue_append(queue, entry, &want, now_usec);
}

static AdmissionEntry *next(const AdmissionQueue *queue, uint64_t free_cores, usec_t now_usec) {
        Resources free_amounts = cores(free_cores);

        return admission_queue_next(queue, &free_amounts, now_usec);
}

static void an_empty_queue_has_no_next(void **state) {
        AdmissionQueue queue = {};

        assert_null(next(&queue, 100, 0));
}

static void tasks_start_in_order_of_arrival(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry entries[3] = {};

        for (size_t i = 0; i < 3; i++)
                append(&queue, entries + i, 1, i);
        assert_int_equal(queue.n_entries, 3);

        for (size_t i = 0; i < 3; i++) {
                assert_ptr_equal(next(&queue, 1, 10), entries + i);
                assert_ptr_equal(next(&queue, 1, 10), entries + i);
                admission_queue_remove(entries + i);
        }
        assert_null(next(&queue, 1, 10));
        assert_int_equal(queue.n_entries, 0);
}

static void a_smaller_task_passes_one_that_does_not_fit(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry large = {}, small = {};

        append(&queue, &large, 4, 0);
        append(&queue, &small, 1, 1);
        assert_ptr_equal(next(&queue, 3, 2), &small);
        assert_ptr_equal(next(&queue, 4, 2), &large);
        assert_null(next(&queue, 0, 2));
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
                AdmissionQueue queue = {};
                AdmissionEntry large = {}, small = {};

                append(&queue, &large, 4, 1000);
                append(&queue, &small, 1, 1000);
                check_true(row->label, next(&queue, 3, row->now_usec) == (row->small_passes ? &small : NULL));
                check_true(row->label, next(&queue, 4, row->now_usec) == &large);
        }
}

static void patience_counts_for_every_task_that_is_passed(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry first = {}, second = {}, small = {};
        usec_t now_usec = ADMISSION_PATIENCE_USEC;

        /* The first is impatient, but once it starts, what has not waited as long may be passed. */
        append(&queue, &first, 4, 0);
        append(&queue, &second, 3, 1);
        append(&queue, &small, 1, 2);
        assert_null(next(&queue, 2, now_usec));
        admission_queue_remove(&first);
        assert_ptr_equal(next(&queue, 2, now_usec), &small);
        assert_null(next(&queue, 2, now_usec + 1));
}

static void entries_leave_from_anywhere(void **state) {
        for (size_t leaving = 0; leaving < 3; leaving++) {
                AdmissionQueue queue = {};
                AdmissionEntry entries[3] = {};
                size_t n = 0;

                for (size_t i = 0; i < 3; i++)
                        append(&queue, entries + i, 1, i);
                admission_queue_remove(entries + leaving);
                assert_null(entries[leaving].queue);
                assert_null(entries[leaving].next);
                assert_null(entries[leaving].previous);
                assert_int_equal(queue.n_entries, 2);

                for (AdmissionEntry *entry = queue.first; entry; entry = entry->next, n++) {
                        assert_ptr_not_equal(entry, entries + leaving);
                        assert_ptr_equal(entry->next ? entry->next->previous : queue.first->previous, entry);
                }
                assert_int_equal(n, 2);
        }
}

static void removing_twice_or_what_never_waited_does_nothing(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry waiting = {}, never = {};

        append(&queue, &waiting, 1, 0);
        admission_queue_remove(&never);
        assert_int_equal(queue.n_entries, 1);
        admission_queue_remove(&waiting);
        admission_queue_remove(&waiting);
        assert_int_equal(queue.n_entries, 0);
        assert_null(queue.first);

        append(&queue, &waiting, 1, 5);
        assert_ptr_equal(next(&queue, 1, 5), &waiting);
}

static bool leaves(const AdmissionQueue *queue, uint64_t free_cores, uint64_t wanted_cores) {
        Resources free_amounts = cores(free_cores), want = cores(wanted_cores);

        return admission_queue_leaves(queue, &free_amounts, &want);
}

static void what_waits_is_taken_off_what_is_free(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry entries[3] = {};

        assert_true(leaves(&queue, 2, 2));
        assert_false(leaves(&queue, 2, 3));

        for (size_t i = 0; i < 3; i++)
                append(&queue, entries + i, 2, i);
        assert_true(leaves(&queue, 8, 2));
        assert_false(leaves(&queue, 8, 3));
        assert_false(leaves(&queue, 6, 1));

        /* One that does not fit itself leaves nothing: it came first. */
        assert_false(leaves(&queue, 5, 1));

        admission_queue_remove(entries + 1);
        assert_true(leaves(&queue, 6, 2));
}

static void one_that_comes_back_has_its_old_place(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry entries[4] = {};

        for (size_t i = 0; i < 4; i++)
                append(&queue, entries + i, 1, i / 2); /* two at a time */
        for (size_t i = 0; i < 4; i++)
                admission_queue_remove(entries + i);

        /* Those of one moment come back in their order. */
        admission_queue_return(&queue, entries + 2);
        admission_queue_return(&queue, entries + 0);
        admission_queue_return(&queue, entries + 1);
        admission_queue_return(&queue, entries + 3);
        assert_int_equal(queue.n_entries, 4);
        for (size_t i = 0; i < 4; i++) {
                assert_ptr_equal(next(&queue, 1, 10), entries + i);
                admission_queue_remove(entries + i);
        }
        assert_null(queue.first);
}

static void nobody_waits_for_one_that_is_held(void **state) {
        AdmissionQueue queue = {};
        AdmissionEntry entries[2] = {};

        append(&queue, &entries[0], 9, 0);
        append(&queue, &entries[1], 1, 0);
        entries[0].held = true;
        assert_ptr_equal(next(&queue, 9, 0), &entries[1]);
        assert_ptr_equal(next(&queue, 1, ADMISSION_PATIENCE_USEC), &entries[1]);
        entries[0].held = false;
        assert_ptr_equal(next(&queue, 9, 0), &entries[0]);
        assert_null(next(&queue, 1, ADMISSION_PATIENCE_USEC));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_queue_has_no_next),
                cmocka_unit_test(tasks_start_in_order_of_arrival),
                cmocka_unit_test(a_smaller_task_passes_one_that_does_not_fit),
                cmocka_unit_test(nothing_passes_a_task_that_has_waited_long_enough),
                cmocka_unit_test(patience_counts_for_every_task_that_is_passed),
                cmocka_unit_test(entries_leave_from_anywhere),
                cmocka_unit_test(removing_twice_or_what_never_waited_does_nothing),
                cmocka_unit_test(what_waits_is_taken_off_what_is_free),
                cmocka_unit_test(one_that_comes_back_has_its_old_place),
                cmocka_unit_test(nobody_waits_for_one_that_is_held),
        };

        return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
