/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/cleanup.h"
#include "base/text.h"
#include "core/scheduling/dependencies.h"
#include "fail-alloc.h"
#include "test.h"

typedef struct Bed {
        DependencyGraph graph;
        Dependent waiting[3];
        Awaited *awaited[3];
} Bed;

static void wait_for(Bed *bed, size_t waiting, size_t awaited) {
        static const char *const ids[] = { "a", "b", "c" };
        assert_int_equal(
                        dependency_add(&bed->graph,
                                       &bed->waiting[waiting],
                                       &bed->awaited[awaited],
                                       ids[awaited]),
                        0);
}

static void bed_done(Bed *bed) {
        for (size_t i = 0; i < N_ELEMENTS(bed->waiting); i++)
                dependency_drop(&bed->graph, &bed->waiting[i]);
        for (size_t i = 0; i < N_ELEMENTS(bed->awaited); i++)
                dependency_settle(&bed->graph, &bed->awaited[i], false);
        dependency_graph_done(&bed->graph);
}

/* One edge is taken; it ends the waiting of WAITING (-1: of nobody), which fails for FAILED (NULL: for
 * nobody).
 */
static void expect(Bed *bed, int waiting, const char *failed) {
        Dependent *dependent;
        const char *failed_id;
        assert_true(dependency_take(&bed->graph, &dependent, &failed_id));
        assert_ptr_equal(dependent, waiting < 0 ? NULL : &bed->waiting[waiting]);
        assert_true(streq_null(failed_id, failed));
}

static void expect_nothing(Bed *bed) {
        Dependent *dependent;
        const char *failed_id;
        assert_false(dependency_take(&bed->graph, &dependent, &failed_id));
        assert_false(dependency_is_due(&bed->graph));
}

static void all_must_have_completed(void **state) {
        _cleanup_(bed_done) Bed bed = {};
        wait_for(&bed, 0, 0);
        wait_for(&bed, 0, 1);
        assert_string_equal(dependency_first_id(&bed.waiting[0]), "a");
        expect_nothing(&bed);
        dependency_settle(&bed.graph, &bed.awaited[1], true);
        assert_null(bed.awaited[1]);
        assert_true(dependency_is_due(&bed.graph));
        expect(&bed, -1, NULL);
        expect_nothing(&bed);
        dependency_settle(&bed.graph, &bed.awaited[0], true);
        expect(&bed, 0, NULL);
        expect_nothing(&bed);
        assert_int_equal(bed.graph.n_edges, 0);
}

static void one_that_has_not_ends_the_waiting_for_all(void **state) {
        _cleanup_(bed_done) Bed bed = {};
        for (size_t i = 0; i < 3; i++)
                wait_for(&bed, 0, i);
        wait_for(&bed, 1, 1);
        dependency_settle(&bed.graph, &bed.awaited[1], false);
        expect(&bed, 0, "b");
        assert_int_equal(bed.waiting[0].n_edges, 0);
        expect(&bed, 1, "b");
        expect_nothing(&bed);
        dependency_settle(&bed.graph, &bed.awaited[0], true); /* nobody waits for it any more */
        expect_nothing(&bed);
}

static void whoever_is_dropped_is_not_told(void **state) {
        _cleanup_(bed_done) Bed bed = {};
        for (size_t i = 0; i < 3; i++)
                wait_for(&bed, i, 0);
        dependency_drop(&bed.graph, &bed.waiting[0]);
        dependency_settle(&bed.graph, &bed.awaited[0], true);
        dependency_drop(&bed.graph, &bed.waiting[1]); /* when its turn is near, too */
        expect(&bed, 2, NULL);
        expect_nothing(&bed);
        dependency_settle(&bed.graph, &bed.awaited[0], true); /* which is NULL */
        expect_nothing(&bed);
}

static void who_ended_first_is_taken_first(void **state) {
        _cleanup_(bed_done) Bed bed = {};
        wait_for(&bed, 0, 0);
        wait_for(&bed, 1, 1);
        dependency_settle(&bed.graph, &bed.awaited[1], true);
        dependency_settle(&bed.graph, &bed.awaited[0], false);
        expect(&bed, 1, NULL);
        expect(&bed, 0, "a");
        wait_for(&bed, 0, 0); /* another one of that id */
        expect_nothing(&bed);
        dependency_settle(&bed.graph, &bed.awaited[0], true);
        expect(&bed, 0, NULL);
}

static int try_add(void *userdata) {
        _cleanup_(bed_done) Bed bed = {};
        return dependency_add(&bed.graph, &bed.waiting[0], &bed.awaited[0], "a");
}

static void memory_may_run_out(void **state) {
        fail_alloc_loop(try_add, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_must_have_completed),
                cmocka_unit_test(one_that_has_not_ends_the_waiting_for_all),
                cmocka_unit_test(whoever_is_dropped_is_not_told),
                cmocka_unit_test(who_ended_first_is_taken_first),
                cmocka_unit_test(memory_may_run_out),
        };
        return cmocka_run_group_tests_name("dependencies", tests, NULL, NULL);
}
