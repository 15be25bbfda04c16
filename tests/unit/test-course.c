/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>

#include "core/text/course.h"
#include "test.h"

#define NOW (100000 * USEC_PER_SEC) /* where a step begins */

static void what_stays_the_same_is_told_once(void **state) {
        Course course = {};
        check_int("first", course_note(&course, "a", NOW), 0);
        check_int("same", course_note(&course, "a", NOW + COURSE_STEP_USEC), 0);
        check_u64("n", course_count(&course, NOW + COURSE_STEP_USEC), 1);
        check_u64("its time", course_get(&course, 0)->time_usec, NOW);
        course_done(&course);
}

static void a_step_comes_down_to_its_last_text(void **state) {
        Course course = {};
        check_int("a", course_note(&course, "a", NOW), 0);
        check_int("b", course_note(&course, "b", NOW + 1), 0);
        check_int("c", course_note(&course, "c", NOW + COURSE_STEP_USEC - 1), 0);
        check_int("d", course_note(&course, "d", NOW + COURSE_STEP_USEC), 0);
        check_u64("n", course_count(&course, NOW + COURSE_STEP_USEC), 2);
        check_text("first", course_get(&course, 0)->text, "c");
        check_text("second", course_get(&course, 1)->text, "d");
        course_done(&course);
}

static void how_it_was_at_the_beginning_is_kept(void **state) {
        Course course = {};
        check_int("a", course_note(&course, "a", NOW), 0);
        check_int("b", course_note(&course, "b", NOW + COURSE_STEP_USEC), 0);
        check_int("c", course_note(&course, "c", NOW + 2 * COURSE_STEP_USEC), 0);
        check_u64("all", course_count(&course, NOW + COURSE_SPAN_USEC), 3);
        check_u64("without a", course_count(&course, NOW + COURSE_STEP_USEC + COURSE_SPAN_USEC), 2);
        check_text("b", course_get(&course, 0)->text, "b");
        check_u64("the last one stays", course_count(&course, NOW + 10 * COURSE_SPAN_USEC), 1);
        check_text("c", course_get(&course, 0)->text, "c");
        course_done(&course);
}

static void it_does_not_grow_beyond_its_span(void **state) {
        Course course = {};
        usec_t now_usec = NOW;
        for (unsigned i = 0; i < 3 * COURSE_MAX; i++, now_usec += COURSE_STEP_USEC / 2) {
                char text[16];
                (void) snprintf(text, sizeof(text), "%u", i);
                check_int("note", course_note(&course, text, now_usec), 0);
        }
        size_t n = course_count(&course, now_usec);
        check_true("about an hour", n >= COURSE_SPAN_USEC / COURSE_STEP_USEC && n <= COURSE_MAX);
        check_true("its beginning", course_get(&course, 1)->time_usec > now_usec - COURSE_SPAN_USEC);
        for (size_t i = 1; i < n; i++)
                check_true("order",
                           course_get(&course, i - 1)->time_usec < course_get(&course, i)->time_usec);
        course_done(&course);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_stays_the_same_is_told_once),
                cmocka_unit_test(a_step_comes_down_to_its_last_text),
                cmocka_unit_test(how_it_was_at_the_beginning_is_kept),
                cmocka_unit_test(it_does_not_grow_beyond_its_span),
        };
        return cmocka_run_group_tests_name("course", tests, NULL, NULL);
}
