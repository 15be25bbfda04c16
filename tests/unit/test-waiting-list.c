/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "core/scheduling/waiting-list.h"
#include "core/text/stable-hash.h"
#include "fail-alloc.h"
#include "figures.h"
#include "test.h"

#define N 200

static Resources shape(uint64_t i) {
        return (Resources) { .cores_micro = i + 1, .memory_mb = 100 };
}

static void add(WaitingList *list, WaitingEntry *entry, uint64_t kind, int64_t priority, uint64_t sequence) {
        Resources want = shape(kind);
        assert_int_equal(waiting_list_add(list, entry, &want, priority, sequence, 7), 0);
}

static void lines_stand_by_priority_and_then_by_their_heads(void **state) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry entries[6] = {};
        add(&list, &entries[1], 0, 0, 1);
        add(&list, &entries[2], 1, 0, 2);
        add(&list, &entries[3], 0, 0, 3);
        add(&list, &entries[4], 0, 5, 4); /* the same amounts, but more important */
        add(&list, &entries[5], 1, -5, 5);
        assert_int_equal(list.n_lines, 4);
        assert_int_equal(list.n_entries, 5);
        static const unsigned heads[] = { 4, 1, 2, 5 };
        for (size_t i = 0; i < N_ELEMENTS(heads); i++)
                assert_ptr_equal(waiting_list_line(&list, i)->first, &entries[heads[i]]);

        waiting_list_remove(&list, &entries[1]); /* its line's next came after entry 2 */
        assert_ptr_equal(waiting_list_line(&list, 1)->first, &entries[2]);
        assert_ptr_equal(waiting_list_line(&list, 2)->first, &entries[3]);
        add(&list, &entries[1], 0, 0, 1); /* and it comes back to where it stood */
        assert_ptr_equal(waiting_list_line(&list, 1)->first, &entries[1]);
        assert_ptr_equal(entries[1].next, &entries[3]);
}

static void amounts_are_told_apart_by_name(void **state) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry entries[4] = {};
        Resources none = shape(0), zero = shape(0), gpu = shape(0), tape = shape(0);
        assert_int_equal(resources_named_set(&zero, "gpu", 0), 0);
        assert_int_equal(resources_named_set(&gpu, "gpu", 1), 0);
        assert_int_equal(resources_named_set(&tape, "tape", 1), 0);
        const Resources *wants[] = { &none, &zero, &gpu, &tape };
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(waiting_list_add(&list, &entries[i], wants[i], 0, i, 0), 0);
        assert_int_equal(list.n_lines, 4);
}

static void removing_what_does_not_wait_does_nothing(void **state) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry a = {}, b = {};
        add(&list, &a, 0, 0, 1);
        waiting_list_remove(&list, &b);
        waiting_list_remove(&list, &a);
        waiting_list_remove(&list, &a);
        assert_int_equal(list.n_entries, 0);
        assert_int_equal(list.n_lines, 0);
}

static void check_list(const WaitingList *list) {
        size_t n = 0;
        for (size_t i = 0; i < list->n_lines; i++) {
                const WaitingLine *line = waiting_list_line(list, i);
                assert_non_null(line->first);
                for (const WaitingEntry *entry = line->first; entry; entry = entry->next, n++) {
                        assert_ptr_equal(entry->line, line);
                        assert_true(!entry->next || entry->next->sequence > entry->sequence);
                        assert_ptr_equal(entry->next ? entry->next->previous : line->first->previous, entry);
                }
                if (i == 0)
                        continue;
                const WaitingLine *before = waiting_list_line(list, i - 1);
                assert_true(before->priority > line->priority ||
                            (before->priority == line->priority &&
                             before->first->sequence < line->first->sequence));
        }
        assert_int_equal(n, list->n_entries);
}

static void the_order_holds_whatever_comes_and_goes(void **state) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry entries[N] = {};
        for (uint64_t step = 0; step < 5000; step++) {
                uint64_t random = stable_hash_u64(step + 99);
                WaitingEntry *entry = &entries[random % N];
                if (entry->line)
                        waiting_list_remove(&list, entry);
                else
                        add(&list, entry, (random >> 20) % 40, (int64_t) (random >> 40) % 3, random % N);
                check_list(&list);
        }
}

static int try_add(void *userdata) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry entries[40] = {};
        int r = 0;
        for (size_t i = 0; i < 40 && r >= 0; i++) {
                Resources want = shape(i);
                r = waiting_list_add(&list, &entries[i], &want, 0, i, 0);
                if (r < 0)
                        assert_null(entries[i].line);
        }
        check_list(&list);
        return r;
}

static void memory_may_run_short(void **state) {
        fail_alloc_loop(try_add, NULL);
}

/* Adds N of so many shapes, then takes them from the front. Seconds for all. */
static double serve(size_t n, size_t n_shapes) {
        _cleanup_(waiting_list_done) WaitingList list = {};
        WaitingEntry *entries = test_calloc(n, sizeof(*entries));
        double since = figures_seconds();
        for (size_t i = 0; i < n; i++)
                add(&list, &entries[i], i % n_shapes, 0, i);
        for (size_t i = 0; i < n; i++) {
                assert_ptr_equal(waiting_list_line(&list, 0)->first, &entries[i]);
                waiting_list_remove(&list, &entries[i]);
        }
        double seconds = figures_seconds() - since;
        test_free(entries);
        return seconds;
}

/* Ten times as many may take a little more than ten times as long, but not a hundred times. */
static void the_cost_of_each_is_the_same_among_many(void **state) {
        size_t n = figures_scale(100000);
        static const size_t shapes[] = { 1, 5, 0 };
        for (FOREACH_ROW(row, shapes)) {
                double few = serve(n / 10, *row ?: n / 10), many = serve(n, *row ?: n);
                print_message("# %zu waiting in %zu lines: %.0f ns each; %zu: %.0f ns each\n",
                              n / 10,
                              *row ?: n / 10,
                              few / (double) n * 1e10,
                              n,
                              many / (double) n * 1e9);
                assert_true(many < 50 * few + 0.05);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines_stand_by_priority_and_then_by_their_heads),
                cmocka_unit_test(amounts_are_told_apart_by_name),
                cmocka_unit_test(removing_what_does_not_wait_does_nothing),
                cmocka_unit_test(the_order_holds_whatever_comes_and_goes),
                cmocka_unit_test(memory_may_run_short),
                cmocka_unit_test(the_cost_of_each_is_the_same_among_many),
        };
        return cmocka_run_group_tests_name("waiting-list", tests, NULL, NULL);
}
