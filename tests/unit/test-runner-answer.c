/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/scheduling/runner-answer.h"
#include "test.h"

#define INSTANCE "0d3c1b2a4f5e4d6c8b7a9f8e7d6c5b4a"
#define GOOD                                                                                             \
        "{\"total\":{\"cores\":6,\"memory_mb\":100,\"gpu\":2},\"free\":{\"cores\":0.5,\"memory_mb\":7}," \
        "\"draining\":true,\"facts\":{\"instance_id\":\"" INSTANCE "\"},\"new\":1}"

static void a_capacity_is_read(void **state) {
        WorkerReport report = {};
        assert_int_equal(runner_capacity_parse(GOOD, strlen(GOOD), &report), 0);
        assert_int_equal(report.total.cores_micro, 6000000);
        assert_int_equal(resources_named_get(&report.total, "gpu"), 2);
        assert_int_equal(report.free_amounts.cores_micro, 500000);
        assert_int_equal(report.free_amounts.memory_mb, 7);
        assert_true(report.draining);
        assert_string_equal(report.instance, INSTANCE);
        /* An event has no facts: the instance stays. */
        const char *event = "{\"total\":{},\"free\":{}}";
        assert_int_equal(runner_capacity_parse(event, strlen(event), &report), 0);
        assert_string_equal(report.instance, INSTANCE);
        assert_false(report.draining);
}

static void a_runner_that_holds_starts_has_nothing_free(void **state) {
        static const struct {
                const char *text;
                uint64_t free_mb;
        } rows[] = {
                { "{\"total\":{\"memory_mb\":9},\"free\":{\"memory_mb\":7},\"pressure\":{\"holding\":true}}",
                  0 },
                { "{\"total\":{\"memory_mb\":9},\"free\":{\"memory_mb\":7},\"pressure\":{\"holding\":false}}",
                  7 },
                { "{\"total\":{\"memory_mb\":9},\"free\":{\"memory_mb\":7},\"pressure\":null}", 7 },
        };

        for (FOREACH_ROW(row, rows)) {
                WorkerReport report = {};
                check_int(row->text, runner_capacity_parse(row->text, strlen(row->text), &report), 0);
                check_true(row->text, report.free_amounts.memory_mb == row->free_mb);
                check_true(row->text, report.total.memory_mb == 9);
        }
}

static void a_strange_capacity_changes_nothing(void **state) {
        static const char *const rows[] = {
                "",
                "[]",
                "{}",
                "{\"total\":{}}",
                "{\"total\":[],\"free\":{}}",
                "{\"total\":{\"cores\":-1},\"free\":{}}",
                "{\"total\":{\"cores\":\"6\"},\"free\":{}}",
                "{\"total\":{\"memory_mb\":1.5},\"free\":{}}",
                "{\"total\":{\"Bad Name\":1},\"free\":{}}",
                "{\"total\":{},\"free\":{\"cores\":1e300}}",
                "{\"total\":{},\"free\":{}} x",
        };
        for (FOREACH_ROW(row, rows)) {
                WorkerReport report = { .instance = "before" };
                check_int(*row, runner_capacity_parse(*row, strlen(*row), &report), -EBADMSG);
                check_text(*row, report.instance, "before");
        }
}

static void a_lease_is_read(void **state) {
        static const struct {
                const char *text;
                int r;
        } rows[] = {
                { "{\"lease_id\":\"" INSTANCE "\",\"ttl\":30}", 0 },
                { "{\"lease_id\":\"" INSTANCE "\",\"ttl\":-1}", -EBADMSG },
                { "{\"lease_id\":\"" INSTANCE "\"}", -EBADMSG },
                { "{\"lease_id\":\"short\",\"ttl\":30}", -EBADMSG },
                { "{\"lease_id\":7,\"ttl\":30}", -EBADMSG },
                { "{\"ttl\":30}", -EBADMSG },
                { "null", -EBADMSG },
        };
        for (FOREACH_ROW(row, rows)) {
                char id[LEASE_ID_SIZE];
                usec_t ttl_usec = 0;
                check_int(row->text, runner_lease_parse(row->text, strlen(row->text), id, &ttl_usec), row->r);
                if (row->r == 0) {
                        check_text(row->text, id, INSTANCE);
                        check_u64(row->text, ttl_usec, 30 * USEC_PER_SEC);
                }
        }
}

static void problems_are_read(void **state) {
        static const struct {
                const char *text, *detail;
                bool blames_task;
        } rows[] = {
                { "{\"detail\":\"no such user\",\"field\":\"/user\"}", "no such u", true },
                { "{\"detail\":\"too much\",\"field\":\"/resources/cores\"}", "too much", false },
                { "{\"detail\":\"a page\"}", "a page", false },
                { "{\"detail\":7,\"field\":7}", "", false },
                { "{\"detail\":\"\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\"}",
                  "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4",
                  false },
                { "<html>", "", false },
        };
        for (FOREACH_ROW(row, rows)) {
                char detail[10];
                runner_problem_parse(row->text, strlen(row->text), detail, sizeof(detail));
                check_text(row->text, detail, row->detail);
                check_true(row->text,
                           runner_problem_blames_task(row->text, strlen(row->text)) == row->blames_task);
        }
        char holder[LEASE_QUEUE_MAX + 1];
        const char *held = "{\"holder\":\"10.0.0.1:2503\"}";
        runner_holder_parse(held, strlen(held), holder);
        assert_string_equal(holder, "10.0.0.1:2503");
        runner_holder_parse("{}", 2, holder);
        assert_string_equal(holder, "");
}

static void results_are_read(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"task_id\":\"t\",\"state\":\"errored\",\"result\":\"exit-code\",\"unit\":null,"
                        "\"output\":\"a\\u0001b\",\"output_bytes\":3,\"error_bytes\":9,\"error_truncated\":true}");
        RunnerResult result;
        assert_int_equal(runner_result_read(object, &result), 0);
        assert_true(result.task.finished);
        assert_null(result.task.unit);
        assert_int_equal(result.output_size, 3);
        assert_memory_equal(result.output, "a\1b", 3);
        assert_null(result.error);
        assert_int_equal(result.error_bytes, 9);
        assert_true(result.error_truncated && !result.output_truncated);
        static const char *const bad[] = {
                "{}",
                "{\"task_id\":\"t\",\"state\":\"running\"}",
                "{\"task_id\":\"t\",\"state\":\"running\",\"output_bytes\":-1,\"error_bytes\":0}",
                "{\"task_id\":7,\"state\":\"running\",\"output_bytes\":0,\"error_bytes\":0}",
        };
        for (FOREACH_ROW(row, bad)) {
                _cleanup_(json_putp) json_object *other = json_of(*row);
                check_int(*row, runner_result_read(other, &result), -EBADMSG);
        }
        RunnerTask task;
        _cleanup_(json_putp) json_object *number = json_of("[7]");
        assert_int_equal(runner_task_read(number, &task), -EBADMSG);
        assert_int_equal(runner_task_read(NULL, &task), -EBADMSG);
}

static void only_what_is_exactly_there_is_raw(void **state) {
        assert_true(runner_output_is_raw("ab", 2, 2, false));
        assert_false(runner_output_is_raw("ab", 2, 3, false));
        assert_false(runner_output_is_raw("ab", 2, 2, true));
        assert_false(runner_output_is_raw(NULL, 0, 0, false));
        assert_false(runner_output_is_raw("a\xEF\xBF\xBD", 4, 4, false));
        assert_true(runner_output_is_raw("", 0, 0, false));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_capacity_is_read),
                cmocka_unit_test(a_runner_that_holds_starts_has_nothing_free),
                cmocka_unit_test(a_strange_capacity_changes_nothing),
                cmocka_unit_test(a_lease_is_read),
                cmocka_unit_test(problems_are_read),
                cmocka_unit_test(results_are_read),
                cmocka_unit_test(only_what_is_exactly_there_is_raw),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
