/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/task/queue-spec.h"
#include "fail-alloc.h"
#include "test.h"

static const TaskDefaults defaults = { .resources = { .cores_micro = 1000000, .memory_mb = 512 } };

static int parse(const char *text, QueueSpec **ret, Problem *problem) {
        _cleanup_(json_putp) json_object *body = json_of(text);
        return queue_spec_parse(body, "id", &defaults, ret, problem);
}

static QueueSpec *spec_of(const char *text) {
        QueueSpec *spec = NULL;
        Problem problem = {};
        if (parse(text, &spec, &problem) < 0)
                fail_msg("%s: %s: %s", text, problem.field, problem.detail);
        return spec;
}

static void what_is_not_given_has_defaults(void **state) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = spec_of("{\"command\":[\"true\"]}");
        assert_int_equal(spec->retry_max, 0);
        assert_int_equal(spec->retry_backoff_usec, 2 * USEC_PER_SEC);
        assert_int_equal(spec->priority, 0);
        assert_true(spec->retry_on_lost);
        assert_int_equal(spec->task->resources.memory_mb, 512);
        assert_null(queue_spec_free(NULL));
}

static void what_is_given_is_taken(void **state) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = spec_of(
                        "{\"command\":[\"true\"],\"retry\":{\"max\":3,\"backoff\":0.5},"
                        "\"priority\":-7,\"retry_on_lost\":false}");
        assert_int_equal(spec->retry_max, 3);
        assert_int_equal(spec->retry_backoff_usec, USEC_PER_SEC / 2);
        assert_int_equal(spec->priority, -7);
        assert_false(spec->retry_on_lost);
}

static void what_cannot_be_is_refused(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "[]", "" },
                { "7", "" },
                { "{\"command\":[\"true\"],\"retry\":3}", "/retry" },
                { "{\"command\":[\"true\"],\"retry\":{\"max\":-1}}", "/retry/max" },
                { "{\"command\":[\"true\"],\"retry\":{\"max\":1001}}", "/retry/max" },
                { "{\"command\":[\"true\"],\"retry\":{\"backoff\":-0.1}}", "/retry/backoff" },
                { "{\"command\":[\"true\"],\"retry\":{\"backoff\":3601}}", "/retry/backoff" },
                { "{\"command\":[\"true\"],\"retry\":{\"often\":1}}", "/retry/often" },
                { "{\"command\":[\"true\"],\"priority\":1.5}", "/priority" },
                { "{\"command\":[\"true\"],\"priority\":1000001}", "/priority" },
                { "{\"command\":[\"true\"],\"priority\":\"1\"}", "/priority" },
                { "{\"command\":[\"true\"],\"retry_on_lost\":1}", "/retry_on_lost" },
                { "{\"command\":[\"true\"],\"labels\":{\"daggyd.queue\":\"x\"}}", "/labels" },
                { "{\"command\":[\"true\"],\"nonsense\":1}", "/nonsense" },
                { "{\"retry\":{\"max\":1}}", "/command" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
                Problem problem = {};
                check_true(row->text, parse(row->text, &spec, &problem) < 0);
                check_true(row->text, !spec);
                check_problem(row->text, &problem, 400, row->field);
        }
}

static void every_field_counts_in_a_comparison(void **state) {
        static const char *const others[] = {
                "{\"command\":[\"true\"],\"retry\":{\"max\":1}}",
                "{\"command\":[\"true\"],\"retry\":{\"backoff\":1}}",
                "{\"command\":[\"true\"],\"priority\":1}",
                "{\"command\":[\"true\"],\"retry_on_lost\":false}",
                "{\"command\":[\"false\"]}",
                "{\"command\":[\"true\"],\"resources\":{\"memory_mb\":1}}",
                "{\"command\":[\"true\"],\"after\":[\"a\"]}",
        };
        _cleanup_(queue_spec_freep) QueueSpec *plain = spec_of("{\"command\":[\"true\"]}");
        _cleanup_(queue_spec_freep) QueueSpec *same = spec_of(
                        "{\"command\":[\"true\"],\"when_full\":\"reject\",\"priority\":0}");
        assert_true(queue_spec_equal(plain, same));
        for (FOREACH_ROW(row, others)) {
                _cleanup_(queue_spec_freep) QueueSpec *other = spec_of(*row);
                check_true(*row, !queue_spec_equal(plain, other));
        }
}

#define FULL                                                                                    \
        "{\"command\":[\"true\"],\"task_id\":\"id\",\"when_full\":\"reject\",\"stdin\":\"in\"," \
        "\"retry\":{\"max\":2},\"priority\":5,\"after\":[\"x\",\"y\"],\"labels\":{\"a\":\"b\"}}"

static char *stored_of(const char *text) {
        _cleanup_(json_putp) json_object *body = json_of(text), *whole = json_object_get(body);
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        Problem problem = {};
        char *stored = NULL;
        assert_true(queue_spec_parse(body, "id", &defaults, &spec, &problem) >= 0);
        assert_true(queue_spec_to_stored(spec, whole, &stored) >= 0);
        return stored;
}

static QueueSpec *stored_spec_of(const char *stored) {
        QueueSpec *spec = NULL;
        check_int(stored, queue_spec_parse_stored(stored, "id", &defaults, NULL, &spec, NULL), 0);
        return spec;
}

static void what_was_left_open_is_remembered(void **state) {
        static const char open[] = "{\"command\":[\"true\"]}";
        _cleanup_(freep) char *stored = stored_of(open);
        _cleanup_(queue_spec_freep) QueueSpec *before = stored_spec_of(stored), *again = spec_of(open);
        again->task->resources.cores_micro++; /* the default has changed */
        assert_true(queue_spec_equal(before, again));
        again->task->cores_by_default = false;
        assert_false(queue_spec_equal(before, again));
        Problem problem = {};
        QueueSpec *forged;
        assert_true(parse("{\"command\":[\"true\"],\"cores_by_default\":true}", &forged, &problem) < 0);
}

static void what_is_stored_is_read_back(void **state) {
        _cleanup_(freep) char *stored = stored_of(FULL);
        _cleanup_(queue_spec_freep) QueueSpec *before = spec_of(FULL), *after = stored_spec_of(stored);
        assert_true(queue_spec_equal(before, after));
        assert_null(strstr(stored, "when_full"));
        assert_non_null(strstr(stored, "512")); /* defaults may change until it is read back */
}

static void a_runner_gets_what_is_its(void **state) {
        static const char *const rows[] = { FULL, "{\"command\":[\"true\"]}" };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *stored = stored_of(*row), *text = NULL;
                _cleanup_(queue_spec_freep) QueueSpec *read_back = NULL;
                check_true(*row,
                           queue_spec_parse_stored(stored, "id", &defaults, "q1", &read_back, &text) >= 0);
                _cleanup_(json_putp) json_object *body = json_of(text);
                TaskSpec *spec = NULL;
                Problem problem = {};
                check_int(*row, task_spec_parse(body, "id", &defaults, &spec, &problem), 0);
                check_int(*row, spec->when_full, WHEN_FULL_REJECT);
                check_true(*row, strstr(text, "\"daggyd.queue\":\"q1\""));
                task_spec_free(spec);
        }
        char *text;
        QueueSpec *spec;
        assert_true(queue_spec_parse_stored("[]", "id", &defaults, "q1", &spec, &text) < 0);
        assert_true(queue_spec_parse_stored("{", "id", &defaults, "q1", &spec, &text) < 0);
}

static int try_all(void *userdata) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(freep) char *text = NULL;
        return queue_spec_parse_stored(
                        "{\"command\":[\"true\"],\"retry\":{\"max\":1}}", "id", &defaults, "q", &spec, &text);
}

static void memory_may_run_out(void **state) {
        fail_alloc_loop(try_all, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_not_given_has_defaults),
                cmocka_unit_test(what_is_given_is_taken),
                cmocka_unit_test(what_cannot_be_is_refused),
                cmocka_unit_test(every_field_counts_in_a_comparison),
                cmocka_unit_test(what_is_stored_is_read_back),
                cmocka_unit_test(what_was_left_open_is_remembered),
                cmocka_unit_test(a_runner_gets_what_is_its),
                cmocka_unit_test(memory_may_run_out),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
