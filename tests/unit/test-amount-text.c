/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>

#include "core/text/amount-text.h"
#include "test.h"

static void memory_is_read_in_every_unit(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t mb;
        } rows[] = {
                { "512", 0, 512 },          { "512M", 0, 512 },
                { "512MB", 0, 512 },        { "512MiB", 0, 512 },
                { "2G", 0, 2048 },          { "1.5G", 0, 1536 },
                { "1T", 0, 1048576 },       { "1024K", 0, 1 },
                { "1025K", 0, 2 },          { "0.1", 0, 1 },
                { "0", -ERANGE, 0 },        { "0G", -ERANGE, 0 },
                { "9999999T", -ERANGE, 0 }, { "", -EINVAL, 0 },
                { "G", -EINVAL, 0 },        { "2g", -EINVAL, 0 },
                { "2GG", -EINVAL, 0 },      { "2 G", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },       { "1e3", -EINVAL, 0 },
                { "1.2.3", -EINVAL, 0 },    { "11111111111111111111111111111111111111111111", -EINVAL, 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                uint64_t mb = 0;
                check_int(row->text, amount_parse_memory_mb(row->text, &mb), row->r);
                check_u64(row->text, mb, row->mb);
        }
}

static void spans_are_read_as_systemd_writes_them(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t ms;
        } rows[] = {
                { "90", 0, 90000 },         { "0", 0, 0 },
                { "0.5", 0, 500 },          { "90s", 0, 90000 },
                { "5sec", 0, 5000 },        { "250ms", 0, 250 },
                { "5000us", 0, 5 },         { "5min", 0, 300000 },
                { "5m", 0, 300000 },        { "1h30min", 0, 5400000 },
                { "1h 30min", 0, 5400000 }, { "1d", 0, 86400000 },
                { "2d", -ERANGE, 0 },       { "", -EINVAL, 0 },
                { "s", -EINVAL, 0 },        { "5x", -EINVAL, 0 },
                { "-5", -EINVAL, 0 },       { "1h x", -EINVAL, 0 },
                { " 5", -EINVAL, 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                double seconds = 0;
                check_int(row->text, amount_parse_seconds(row->text, 100000, &seconds), row->r);
                check_u64(row->text, (uint64_t) (seconds * 1000 + 0.5), row->ms);
        }
}

static void bytes_are_short(void **state) {
        static const struct {
                uint64_t bytes;
                const char *text;
        } rows[] = {
                { 0, "0B" },
                { 1023, "1023B" },
                { 1024, "1K" },
                { 1536, "1.5K" },
                { UINT64_C(512) << 20, "512M" },
                { UINT64_C(3) << 29, "1.5G" },
                { (UINT64_C(1) << 30) - 1, "1G" },
                { UINT64_MAX, "16E" },
        };
        for (FOREACH_ROW(row, rows)) {
                char text[AMOUNT_TEXT_SIZE];
                amount_format_bytes(row->bytes, text);
                check_text(row->text, text, row->text);
        }
}

static void spans_are_short(void **state) {
        static const struct {
                usec_t usec;
                const char *text;
        } rows[] = {
                { 0, "0ms" },
                { 999999, "999ms" },
                { 3299999, "3.2s" },
                { 59999999, "59.9s" },
                { 65 * USEC_PER_SEC, "1min 5s" },
                { 7380 * USEC_PER_SEC, "2h 3min" },
                { 90000 * USEC_PER_SEC, "1d 1h" },
                { USEC_INFINITY - 1, "213503982d 8h" },
                { USEC_INFINITY, "-" },
        };
        for (FOREACH_ROW(row, rows)) {
                char text[AMOUNT_TEXT_SIZE];
                amount_format_span(row->usec, text);
                check_text(row->text, text, row->text);
        }
}

static void times_are_read_back_as_they_are_written(void **state) {
        static const usec_t times[] = {
                0,
                1,
                951782399 * USEC_PER_SEC, /* 2000-02-28T23:59:59 */
                951782400 * USEC_PER_SEC, /* 2000-02-29 */
                951868800 * USEC_PER_SEC, /* 2000-03-01 */
                1795305120 * USEC_PER_SEC + 123456,
                UINT64_C(4107542400) * USEC_PER_SEC, /* 2100-03-01, no leap year */
                UINT64_C(253402300799) * USEC_PER_SEC + 999999,
        };
        for (FOREACH_ROW(time, times)) {
                char text[USEC_RFC3339_SIZE];
                usec_t again = 7;
                usec_format_rfc3339(*time, text);
                check_int(text, amount_parse_rfc3339(text, &again), 0);
                check_u64(text, again, *time);
        }
        static const char *const bad[] = {
                "",
                "2026-11-21",
                "2026-11-21T22:12:00Z",
                "2026-11-21T22:12:00.000001+",
                "2026-13-21T22:12:00.000001Z",
                "2026-11-00T22:12:00.000001Z",
                "2026-11-21T24:12:00.000001Z",
                "2026-11-21 22:12:00.000001Z",
                "x026-11-21T22:12:00.000001Z",
                "1969-11-21T22:12:00.000001Z",
        };
        for (FOREACH_ROW(text, bad)) {
                usec_t none = 7;
                check_int(*text, amount_parse_rfc3339(*text, &none), -EINVAL);
                check_u64(*text, none, 7);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(memory_is_read_in_every_unit),
                cmocka_unit_test(spans_are_read_as_systemd_writes_them),
                cmocka_unit_test(bytes_are_short),
                cmocka_unit_test(spans_are_short),
                cmocka_unit_test(times_are_read_back_as_they_are_written),
        };
        return cmocka_run_group_tests_name("amount-text", tests, NULL, NULL);
}
