/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/cleanup.h"
#include "core/scheduling/deadline-heap.h"
#include "core/text/stable-hash.h"
#include "fail-alloc.h"
#include "test.h"

#define N 500

static void the_earliest_comes_first(void **state) {
        _cleanup_(deadline_heap_done) DeadlineHeap heap = {};
        Deadline deadlines[N] = {};
        assert_int_equal(deadline_heap_reserve(&heap, N), 0);
        assert_null(deadline_first(&heap));
        for (size_t i = 0; i < N; i++)
                deadline_set(&heap, &deadlines[i], stable_hash_u64(i) % 100);
        usec_t last_usec = 0;
        for (size_t i = 0; i < N; i++) {
                Deadline *first = deadline_first(&heap);
                assert_true(first->when_usec >= last_usec);
                last_usec = first->when_usec;
                deadline_clear(&heap, first);
                assert_int_equal(first->place, 0);
        }
        assert_null(deadline_first(&heap));
}

static void check_order(const DeadlineHeap *heap) {
        for (size_t i = 1; i <= heap->n_deadlines; i++) {
                assert_int_equal(heap->deadlines[i]->place, i);
                if (i > 1)
                        assert_true(heap->deadlines[i / 2]->when_usec <= heap->deadlines[i]->when_usec);
        }
}

/* Against the plain minimum of all that are set. */
static void any_may_be_moved_and_cleared(void **state) {
        _cleanup_(deadline_heap_done) DeadlineHeap heap = {};
        Deadline deadlines[N] = {};
        assert_int_equal(deadline_heap_reserve(&heap, N), 0);
        for (uint64_t step = 0; step < 5000; step++) {
                uint64_t random = stable_hash_u64(step + 1);
                Deadline *deadline = &deadlines[random % N];
                if (random >> 32 & 1)
                        deadline_set(&heap, deadline, (random >> 40) % 1000);
                else
                        deadline_clear(&heap, deadline);
                check_order(&heap);
                usec_t earliest_usec = USEC_INFINITY;
                for (size_t i = 0; i < N; i++)
                        if (deadlines[i].place > 0 && deadlines[i].when_usec < earliest_usec)
                                earliest_usec = deadlines[i].when_usec;
                const Deadline *first = deadline_first(&heap);
                assert_true((first ? first->when_usec : USEC_INFINITY) == earliest_usec);
                if (step % 500 == 0)
                        assert_int_equal(deadline_heap_reserve(&heap, N + step), 0);
        }
}

static void clearing_what_is_not_in_does_nothing(void **state) {
        _cleanup_(deadline_heap_done) DeadlineHeap heap = {};
        Deadline a = {}, b = {};
        assert_int_equal(deadline_heap_reserve(&heap, 2), 0);
        deadline_set(&heap, &a, 5);
        deadline_clear(&heap, &b);
        assert_ptr_equal(deadline_first(&heap), &a);
        deadline_clear(&heap, &a);
        deadline_clear(&heap, &a);
        assert_null(deadline_first(&heap));
}

static int try_reserve(void *userdata) {
        _cleanup_(deadline_heap_done) DeadlineHeap heap = {};
        int r = deadline_heap_reserve(&heap, 10);
        return r < 0 ? r : deadline_heap_reserve(&heap, 1000);
}

static void memory_may_run_short(void **state) {
        fail_alloc_loop(try_reserve, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_earliest_comes_first),
                cmocka_unit_test(any_may_be_moved_and_cleared),
                cmocka_unit_test(clearing_what_is_not_in_does_nothing),
                cmocka_unit_test(memory_may_run_short),
        };
        return cmocka_run_group_tests_name("deadline-heap", tests, NULL, NULL);
}
