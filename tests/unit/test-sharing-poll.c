/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing-poll.h"
#include "fail-alloc.h"
#include "test.h"

#define SEC USEC_PER_SEC

static WorkerSet *set_of(const char *a, const char *b) {
        const char *ids[] = { a, b };
        WorkerSet *set = NULL;
        assert_int_equal(worker_set_new(ids, (a != NULL) + (b != NULL), &set), 0);
        return set;
}

typedef struct Bed {
        SharingPoll poll;
        WorkerSet *configured, *one, *other;
} Bed;

static Bed bed_new(bool enabled) {
        Bed bed = { .configured = set_of("w1", "w2"),
                    .one = set_of("w1", NULL),
                    .other = set_of("w2", "w3") };
        assert_int_equal(sharing_poll_init(&bed.poll, bed.configured, enabled, 10 * SEC, 100 * SEC), 0);
        return bed;
}

static void bed_done(Bed *bed) {
        sharing_poll_done(&bed->poll);
        worker_set_unref(bed->configured);
        worker_set_unref(bed->one);
        worker_set_unref(bed->other);
}

static void it_starts_with_none_and_asks_at_once(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        assert_int_equal(bed.poll.permitted->n_ids, 0);
        assert_int_equal(sharing_poll_start(&bed.poll, 100 * SEC), 1);
        assert_int_equal(sharing_poll_start(&bed.poll, 200 * SEC), 0); /* one question at a time */
        assert_int_equal(sharing_poll_finish(&bed.poll, 1, bed.one, 101 * SEC), 1);
        assert_true(worker_set_equal(bed.poll.permitted, bed.one));
        assert_int_equal(bed.poll.next_usec, 110 * SEC);
        assert_int_equal(sharing_poll_start(&bed.poll, 110 * SEC - 1), 0);
        assert_int_equal(sharing_poll_start(&bed.poll, 110 * SEC), 2);
        assert_int_equal(sharing_poll_finish(&bed.poll, 2, bed.one, 125 * SEC), 0);
        assert_int_equal(bed.poll.next_usec, 125 * SEC); /* it took longer than the interval */
}

static void the_first_answer_counts_also_if_it_permits_nothing(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        _cleanup_(worker_set_unrefp) WorkerSet *none = set_of(NULL, NULL);
        unsigned question = sharing_poll_start(&bed.poll, 100 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, NULL, 100 * SEC), 0);
        assert_false(bed.poll.is_told);
        question = sharing_poll_start(&bed.poll, 110 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, none, 110 * SEC), 1);
        assert_true(bed.poll.is_told);
        question = sharing_poll_start(&bed.poll, 120 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, none, 120 * SEC), 0);
}

static void no_answer_changes_nothing(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        assert_int_equal(
                        sharing_poll_finish(
                                        &bed.poll,
                                        sharing_poll_start(&bed.poll, 100 * SEC),
                                        bed.one,
                                        100 * SEC),
                        1);
        assert_int_equal(
                        sharing_poll_finish(
                                        &bed.poll, sharing_poll_start(&bed.poll, 110 * SEC), NULL, 111 * SEC),
                        0);
        assert_true(worker_set_equal(bed.poll.permitted, bed.one));
        assert_int_equal(bed.poll.next_usec, 120 * SEC);
}

static void only_what_is_configured_is_permitted(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        assert_int_equal(
                        sharing_poll_finish(
                                        &bed.poll,
                                        sharing_poll_start(&bed.poll, 100 * SEC),
                                        bed.other,
                                        100 * SEC),
                        1);
        assert_int_equal(bed.poll.permitted->n_ids, 1);
        assert_true(worker_set_has(bed.poll.permitted, "w2"));
}

static void with_other_workers_it_drops_what_it_lost_and_asks_at_once(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        unsigned question = sharing_poll_start(&bed.poll, 100 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.configured, 100 * SEC), 1);
        assert_int_equal(sharing_poll_configure(&bed.poll, bed.other, 101 * SEC), 1); /* w2, w3 */
        assert_int_equal(bed.poll.permitted->n_ids, 1);
        assert_string_equal(bed.poll.permitted->ids[0], "w2");
        question = sharing_poll_start(&bed.poll, 101 * SEC);
        assert_int_not_equal(question, 0);
        assert_int_equal(sharing_poll_configure(&bed.poll, bed.configured, 102 * SEC), 0);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.other, 103 * SEC), 0);
        assert_int_equal(bed.poll.next_usec, 103 * SEC); /* that was asked with the others */
        question = sharing_poll_start(&bed.poll, 103 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.configured, 103 * SEC), 1);
        assert_int_equal(bed.poll.next_usec, 113 * SEC);
}

static void without_sharing_it_may_use_new_workers_at_once(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(false);
        assert_int_equal(sharing_poll_configure(&bed.poll, bed.other, 101 * SEC), 1);
        assert_true(worker_set_equal(bed.poll.permitted, bed.other));
        assert_int_equal(bed.poll.next_usec, USEC_INFINITY);
}

static void switched_off_it_may_use_all_and_asks_nobody(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(false);
        assert_true(bed.poll.is_told);
        assert_true(worker_set_equal(bed.poll.permitted, bed.configured));
        assert_int_equal(sharing_poll_start(&bed.poll, 1000 * SEC), 0);
        assert_int_equal(bed.poll.next_usec, USEC_INFINITY);
        assert_int_equal(sharing_poll_toggle(&bed.poll, false, 1000 * SEC), 0);
        assert_int_equal(sharing_poll_toggle(&bed.poll, true, 1000 * SEC), 0);
        assert_true(worker_set_equal(bed.poll.permitted, bed.configured)); /* until it hears more */
        unsigned question = sharing_poll_start(&bed.poll, 1000 * SEC);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.one, 1000 * SEC), 1);
}

static void an_answer_from_before_it_was_switched_off_counts_for_nothing(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        unsigned question = sharing_poll_start(&bed.poll, 100 * SEC);
        assert_int_equal(sharing_poll_toggle(&bed.poll, false, 101 * SEC), 1);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.one, 102 * SEC), 0);
        assert_true(worker_set_equal(bed.poll.permitted, bed.configured));

        assert_int_equal(sharing_poll_toggle(&bed.poll, true, 103 * SEC), 0);
        unsigned second = sharing_poll_start(&bed.poll, 103 * SEC);
        assert_true(second > question);
        assert_int_equal(sharing_poll_finish(&bed.poll, question, bed.other, 104 * SEC), 0);
        assert_int_equal(sharing_poll_finish(&bed.poll, second, bed.one, 105 * SEC), 1);
        assert_true(worker_set_equal(bed.poll.permitted, bed.one));
}

static int try_poll(void *userdata) {
        Bed *bed = userdata;
        _cleanup_(sharing_poll_done) SharingPoll poll = {};
        int r = sharing_poll_init(&poll, bed->configured, true, 10 * SEC, 0);
        if (r < 0)
                return r;
        r = sharing_poll_finish(&poll, sharing_poll_start(&poll, 0), bed->one, 1);
        if (r < 0)
                assert_int_equal(poll.permitted->n_ids, 0);
        return r;
}

static void running_out_of_memory_leaves_what_was_there(void **state) {
        _cleanup_(bed_done) Bed bed = bed_new(true);
        fail_alloc_loop(try_poll, &bed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_starts_with_none_and_asks_at_once),
                cmocka_unit_test(the_first_answer_counts_also_if_it_permits_nothing),
                cmocka_unit_test(no_answer_changes_nothing),
                cmocka_unit_test(only_what_is_configured_is_permitted),
                cmocka_unit_test(with_other_workers_it_drops_what_it_lost_and_asks_at_once),
                cmocka_unit_test(without_sharing_it_may_use_new_workers_at_once),
                cmocka_unit_test(switched_off_it_may_use_all_and_asks_nobody),
                cmocka_unit_test(an_answer_from_before_it_was_switched_off_counts_for_nothing),
                cmocka_unit_test(running_out_of_memory_leaves_what_was_there),
        };
        return cmocka_run_group_tests_name("sharing-poll", tests, NULL, NULL);
}
