/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/task/queue-attempt.h"
#include "fail-alloc.h"
#include "test.h"

#define NOON_USEC UINT64_C(1795262400000000) /* 2026-11-21T12:00:00Z */

static TaskSpec task = {
        .task_id = (char *) "7",
        .command = (char *[]) { (char *) "true", NULL },
        .resources = { .cores_micro = 1000000, .memory_mb = 512 },
        .labels = (char *[]) { (char *) "a=b", NULL },
};
static const QueueSpec spec = { .task = &task, .priority = -3 };
static const QueueAttempt frame = {
        .task_id = "7",
        .spec = &spec,
        .worker = "w",
        .submit_usec = NOON_USEC,
        .queue_usec = NOON_USEC + 1,
};

static const char *member(json_object *object, const char *key) {
        json_object *value;
        if (!json_object_object_get_ex(object, key, &value))
                return "none";
        return value ? json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN) : "null";
}

static void a_runners_attempt_becomes_the_queues(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"task_id\":\"7.abc\",\"labels\":{\"daggyd.queue\":\"x\"},\"output\":\"o\",\"error\":\"e\","
                        "\"state\":\"completed\",\"submit_time\":\"later\",\"output_bytes\":1}");
        assert_int_equal(queue_attempt_adopt(object, &frame), 0);
        assert_string_equal(member(object, "task_id"), "\"7\"");
        assert_string_equal(member(object, "labels"), "{\"a\":\"b\"}");
        assert_string_equal(member(object, "output"), "none");
        assert_string_equal(member(object, "error"), "none");
        assert_string_equal(member(object, "output_bytes"), "1");
        assert_string_equal(member(object, "submit_time"), "\"2026-11-21T12:00:00.000000Z\"");
        assert_string_equal(member(object, "queue_time"), "\"2026-11-21T12:00:00.000001Z\"");
        assert_string_equal(member(object, "worker"), "\"w\"");
        assert_string_equal(member(object, "priority"), "-3");
}

static void ends_without_a_runner_have_names(void **state) {
        static const struct {
                const char *worker;
                QueueEnd end;
                const char *state, *result;
        } rows[] = {
                { NULL, QUEUE_END_LIVE, "\"queued\"", "null" },
                { "w", QUEUE_END_LIVE, "\"running\"", "null" },
                { NULL, QUEUE_END_CANCELED, "\"killed\"", "\"canceled\"" },
                { "w", QUEUE_END_LOST, "\"errored\"", "\"worker-lost\"" },
                { NULL, QUEUE_END_INVALID, "\"errored\"", "\"start-failed\"" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = NULL;
                QueueAttempt attempt = frame;
                attempt.worker = row->worker;
                check_int(row->state,
                          queue_attempt_new(&attempt, row->end, NULL, "note", NOON_USEC, &object),
                          0);
                check_text(row->state, member(object, "state"), row->state);
                check_text(row->state, member(object, "result"), row->result);
                check_text(row->state, member(object, "executor"), "[\"note\"]");
                check_text(row->state, member(object, "unit"), "null");
        }
}

static void earlier_attempts_do_not_repeat_what_the_task_shows(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"task_id\":\"t\",\"command\":[\"x\"],\"labels\":{\"a\":\"b\"},\"state\":\"errored\"}");
        queue_attempt_make_earlier(object);
        check_json("earlier", object, "{\"task_id\":\"t\",\"state\":\"errored\"}");
}

static void outputs_are_shown_as_text(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{}");
        assert_int_equal(queue_attempt_add_output(object, "output", "a\xff", 2, false), 0);
        assert_int_equal(queue_attempt_add_output(object, "error", "", 0, true), 0);
        assert_string_equal(member(object, "output"), "\"a\xEF\xBF\xBD\"");
        assert_string_equal(member(object, "output_truncated"), "none");
        assert_string_equal(member(object, "error"), "\"\"");
        assert_string_equal(member(object, "error_truncated"), "true");
}

static int try_new(void *userdata) {
        json_object *object = NULL;
        int r = queue_attempt_new(&frame, QUEUE_END_LOST, "u", "n", NOON_USEC, &object);
        if (r >= 0)
                r = queue_attempt_add_output(object, "output", "x", 1, true);
        json_object_put(object);
        return r;
}

static void memory_may_run_out(void **state) {
        fail_alloc_loop(try_new, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_runners_attempt_becomes_the_queues),
                cmocka_unit_test(ends_without_a_runner_have_names),
                cmocka_unit_test(earlier_attempts_do_not_repeat_what_the_task_shows),
                cmocka_unit_test(outputs_are_shown_as_text),
                cmocka_unit_test(memory_may_run_out),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
