/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/store/result-clock.h"
#include "test.h"

#define SEC  USEC_PER_SEC
#define YEAR ((usec_t) 365 * 86400 * SEC)
#define NOW  (55 * YEAR) /* the wall clock */
#define UP   (3 * YEAR)  /* since the boot of a host that stays up */

static void it_begins_where_it_must(void **state) {
        static const struct {
                const char *label;
                usec_t stored_usec, newest_usec, realtime_usec, start_usec;
        } rows[] = {
                { "a new store", 0, 0, NOW, NOW },
                { "a store of an earlier version", 0, NOW - YEAR, NOW, NOW - YEAR },
                { "one that saw a clock that was ahead", 0, NOW + YEAR, NOW, NOW },
                { "nothing since the last reading", NOW, NOW - YEAR, NOW, NOW },
                { "a result since", NOW, NOW + SEC, NOW, NOW + SEC },
                { "a result of a wall clock that was ahead",
                  NOW,
                  NOW + YEAR,
                  NOW,
                  NOW + RESULT_CLOCK_STORE_USEC },
                { "the wall clock is ahead", NOW, NOW, NOW + YEAR, NOW },
                { "the wall clock is behind", NOW, NOW, SEC, NOW },
                { "no results", NOW, 0, SEC, NOW },
        };
        for (FOREACH_ROW(row, rows)) {
                ResultClock clock;
                result_clock_start(&clock, row->stored_usec, row->newest_usec, row->realtime_usec, UP);
                check_int(row->label, result_clock_now(&clock, UP), row->start_usec);
                check_int(row->label, result_clock_now(&clock, UP + SEC), row->start_usec + SEC);
        }
}

static void it_is_stored_now_and_then(void **state) {
        ResultClock clock;
        result_clock_start(&clock, 0, 0, NOW, UP);
        assert_true(result_clock_is_due(&clock, UP)); /* so that a restart goes on from here */
        clock.stored_usec = NOW;
        assert_false(result_clock_is_due(&clock, UP + RESULT_CLOCK_STORE_USEC - 1));
        assert_true(result_clock_is_due(&clock, UP + RESULT_CLOCK_STORE_USEC));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_begins_where_it_must),
                cmocka_unit_test(it_is_stored_now_and_then),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
