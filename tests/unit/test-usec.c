/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <math.h>

#include "base/usec.h"
#include "test.h"

static void clocks_advance(void **state) {
        usec_t before = usec_now(CLOCK_BOOTTIME);

        assert_true(before > 0);
        assert_true(usec_now(CLOCK_BOOTTIME) >= before);
        /* After 2020, in microseconds. */
        assert_true(usec_now(CLOCK_REALTIME) > UINT64_C(1577836800000000));
}

static void sums_saturate(void **state) {
        assert_true(usec_add(1, 2) == 3);
        assert_true(usec_add(USEC_INFINITY, 0) == USEC_INFINITY);
        assert_true(usec_add(0, USEC_INFINITY) == USEC_INFINITY);
        assert_true(usec_add(USEC_INFINITY, USEC_INFINITY) == USEC_INFINITY);
        assert_true(usec_add(USEC_INFINITY - 1, 1) == USEC_INFINITY);
        assert_true(usec_add(USEC_INFINITY - 1, 2) == USEC_INFINITY);
}

static void differences_stop_at_zero(void **state) {
        assert_true(usec_subtract(3, 2) == 1);
        assert_true(usec_subtract(2, 2) == 0);
        assert_true(usec_subtract(2, 3) == 0);
        assert_true(usec_subtract(USEC_INFINITY, 3) == USEC_INFINITY);
        assert_true(usec_subtract(3, USEC_INFINITY) == 0);
        assert_true(usec_subtract(USEC_INFINITY, USEC_INFINITY) == 0);
}

static void seconds_become_microseconds(void **state) {
        static const struct {
                const char *label;
                double seconds, max;
                int r;
                usec_t usec;
        } rows[] = {
                { "zero", 0, 10, 0, 0 },
                { "minus zero", -0.0, 10, 0, 0 },
                { "one and a half", 1.5, 10, 0, 1500000 },
                { "a tenth", 0.1, 10, 0, 100000 },
                { "smallest", 0.000001, 10, 0, 1 },
                { "rounded down", 0.0000004, 10, 0, 0 },
                { "rounded up", 0.0000016, 10, 0, 2 },
                { "rounded up to the next second", 1.9999999, 10, 0, 2000000 },
                { "max", 10, 10, 0, 10000000 },
                { "above max", 10.000001, 10, -ERANGE, 0 },
                { "a year", 31536000, 31536000, 0, UINT64_C(31536000000000) },
                { "negative", -0.000001, 10, -ERANGE, 0 },
                { "not a number", NAN, 10, -ERANGE, 0 },
                { "infinite", INFINITY, INFINITY, -ERANGE, 0 },
                { "too much for 64 bits", 1e300, INFINITY, -ERANGE, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                usec_t usec = 4711;

                check_int(row->label, usec_from_seconds(row->seconds, row->max, &usec), row->r);
                check_u64(row->label, usec, row->r < 0 ? 4711 : row->usec);
        }
}

static void times_are_written_as_rfc3339(void **state) {
        static const struct {
                usec_t usec;
                const char *text;
        } rows[] = {
                { 0, "1970-01-01T00:00:00.000000Z" },
                { 1, "1970-01-01T00:00:00.000001Z" },
                { UINT64_C(951782399999999), "2000-02-28T23:59:59.999999Z" },
                { UINT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
                { UINT64_C(1795299120000001), "2026-11-21T22:12:00.000001Z" },
                { UINT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z" },
                { UINT64_C(253402300800000000), "9999-12-31T23:59:59.999999Z" },
                { USEC_INFINITY, "9999-12-31T23:59:59.999999Z" },
        };

        for (FOREACH_ROW(row, rows)) {
                char buffer[USEC_RFC3339_SIZE];

                usec_format_rfc3339(row->usec, buffer);
                check_text(row->text, buffer, row->text);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(clocks_advance),
                cmocka_unit_test(sums_saturate),
                cmocka_unit_test(differences_stop_at_zero),
                cmocka_unit_test(seconds_become_microseconds),
                cmocka_unit_test(times_are_written_as_rfc3339),
        };

        return cmocka_run_group_tests_name("usec", tests, NULL, NULL);
}
