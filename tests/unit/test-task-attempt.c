/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/task/task-attempt.h"
#include "fail-alloc.h"
#include "test.h"

#define NOON_USEC UINT64_C(1795262400000000) /* 2026-11-21T12:00:00Z */

static const TaskSpec spec = {
        .task_id = (char *) "7",
        .command = (char *[]) { (char *) "echo", (char *) "hi", NULL },
        .resources = { .cores_micro = 1000000, .memory_mb = 512 },
};

static const TaskEnd exited_0 = { .admitted = true, .main_exited = true };

static const TaskUsage usage = {
        .cpu_usec = 1100,
        .memory_peak_bytes = 2113536,
        .tasks_peak = 1,
};

static const TaskAttempt completed = {
        .spec = &spec,
        .unit = "daggyr-task-7.scope",
        .state = TASK_FINISHED,
        .result = TASK_RESULT_SUCCESS,
        .end = &exited_0,
        .submit_usec = NOON_USEC,
        .start_usec = NOON_USEC + 1,
        .stop_usec = NOON_USEC + 1135,
        .run_usec = 1134,
        .usage = &usage,
        .notes = (char *[]) { (char *) "started", (char *) "exited with status 0", NULL },
        .output = { "hi\n", 3, 3, false },
        .with_output = true,
};

static const TaskAttempt queued = {
        .spec = &spec,
        .unit = "daggyr-task-7.scope",
        .state = TASK_QUEUED,
        .submit_usec = NOON_USEC,
};

static json_object *format(const TaskAttempt *attempt) {
        json_object *object = NULL;

        check_int("format", task_attempt_to_json(attempt, &object), 0);
        return object;
}

/* Checks that member KEY of ATTEMPT is written as TEXT; NULL: that there is none. */
static void check_member(const char *label, const TaskAttempt *attempt, const char *key, const char *text) {
        _cleanup_(json_putp) json_object *object = format(attempt);
        json_object *value = NULL;
        bool found = json_object_object_get_ex(object, key, &value);

        check_int(label, found, text != NULL);
        if (!found)
                return;
        if (!value)
                check_text(label, "null", text);
        else
                check_json(label, value, text);
}

static void a_completed_task_has_every_member(void **state) {
        _cleanup_(json_putp) json_object *object = format(&completed);

        check_json("completed",
                   object,
                   "{\"task_id\":\"7\",\"state\":\"completed\",\"result\":\"success\","
                   "\"unit\":\"daggyr-task-7.scope\",\"command\":[\"echo\",\"hi\"],"
                   "\"resources\":{\"cores\":1,\"memory_mb\":512},\"labels\":{},"
                   "\"submit_time\":\"2026-11-21T12:00:00.000000Z\","
                   "\"start_time\":\"2026-11-21T12:00:00.000001Z\","
                   "\"stop_time\":\"2026-11-21T12:00:00.001135Z\","
                   "\"succeeded\":true,\"killed\":false,\"exit_code\":0,\"signal\":null,"
                   "\"output\":\"hi\\n\",\"error\":\"\",\"output_bytes\":3,\"error_bytes\":0,"
                   "\"output_truncated\":false,\"error_truncated\":false,"
                   "\"executor\":[\"started\",\"exited with status 0\"],\"max_cpu\":97,\"max_rss\":2113536,"
                   "\"usage\":{\"cpu_time\":0.0011,\"memory_peak\":2113536,\"io_read_bytes\":0,"
                   "\"io_write_bytes\":0,\"tasks_peak\":1}}");
}

static void a_waiting_task_has_nulls_where_nothing_is_known(void **state) {
        _cleanup_(json_putp) json_object *object = format(&queued);

        check_json("queued",
                   object,
                   "{\"task_id\":\"7\",\"state\":\"queued\",\"result\":null,"
                   "\"unit\":\"daggyr-task-7.scope\",\"command\":[\"echo\",\"hi\"],"
                   "\"resources\":{\"cores\":1,\"memory_mb\":512},\"labels\":{},"
                   "\"submit_time\":\"2026-11-21T12:00:00.000000Z\",\"start_time\":null,\"stop_time\":null,"
                   "\"succeeded\":false,\"killed\":false,\"exit_code\":null,\"signal\":null,"
                   "\"output_bytes\":0,\"error_bytes\":0,"
                   "\"output_truncated\":false,\"error_truncated\":false,"
                   "\"executor\":[],\"max_cpu\":0,\"max_rss\":0,"
                   "\"usage\":{\"cpu_time\":0,\"memory_peak\":0,\"io_read_bytes\":0,"
                   "\"io_write_bytes\":0,\"tasks_peak\":0}}");
}

static void ends_are_told_by_code_and_signal(void **state) {
        static const struct {
                const char *label;
                TaskResult result;
                TaskEnd end;
                const char *state, *succeeded, *killed, *exit_code, *signal;
        } rows[] = {
                { "exit 3",
                  TASK_RESULT_EXIT_CODE,
                  { .admitted = true, .main_exited = true, .exit_code = 3 },
                  "\"errored\"",
                  "false",
                  "false",
                  "3",
                  "null" },
                { "signal",
                  TASK_RESULT_SIGNAL,
                  { .admitted = true, .main_exited = true, .exit_code = -1, .signal = SIGSEGV },
                  "\"errored\"",
                  "false",
                  "false",
                  "-1",
                  "\"SIGSEGV\"" },
                { "exit not seen",
                  TASK_RESULT_SIGNAL,
                  { .admitted = true },
                  "\"errored\"",
                  "false",
                  "false",
                  "null",
                  "null" },
                { "timeout",
                  TASK_RESULT_TIMEOUT,
                  { .admitted = true, .stop = STOP_TIMEOUT, .main_exited = true, .signal = SIGKILL },
                  "\"killed\"",
                  "false",
                  "true",
                  "-1",
                  "\"SIGKILL\"" },
                { "stopped, exited 0",
                  TASK_RESULT_STOPPED,
                  { .admitted = true, .stop = STOP_REQUESTED, .main_exited = true },
                  "\"killed\"",
                  "false",
                  "true",
                  "0",
                  "null" },
                { "canceled", TASK_RESULT_CANCELED, { 0 }, "\"killed\"", "false", "true", "null", "null" },
                { "exec failed",
                  TASK_RESULT_EXEC_FAILED,
                  { .admitted = true, .exec_error = ENOENT },
                  "\"errored\"",
                  "false",
                  "false",
                  "null",
                  "null" },
        };

        for (FOREACH_ROW(row, rows)) {
                TaskAttempt attempt = completed;

                attempt.result = row->result;
                attempt.end = &row->end;
                check_member(row->label, &attempt, "state", row->state);
                check_member(row->label, &attempt, "succeeded", row->succeeded);
                check_member(row->label, &attempt, "killed", row->killed);
                check_member(row->label, &attempt, "exit_code", row->exit_code);
                check_member(row->label, &attempt, "signal", row->signal);
        }
}

static void a_live_task_tells_nothing_of_its_end(void **state) {
        static const TaskState states[] = { TASK_QUEUED, TASK_PARKED, TASK_RUNNING, TASK_ENDING };
        static const TaskEnd end = { .admitted = true, .main_exited = true, .signal = SIGTERM };

        for (FOREACH_ROW(live, states)) {
                TaskAttempt attempt = completed;

                attempt.state = *live;
                attempt.result = TASK_RESULT_NONE;
                attempt.end = &end;
                check_member("live", &attempt, "result", "null");
                check_member("live", &attempt, "stop_time", "null");
                check_member("live", &attempt, "succeeded", "false");
                check_member("live", &attempt, "killed", "false");
                check_member("live", &attempt, "exit_code", "null");
                check_member("live", &attempt, "signal", "null");
        }
}

static void signals_have_their_names(void **state) {
        static const struct {
                int number;
                const char *name;
        } rows[] = {
                { SIGTERM, "\"SIGTERM\"" }, { SIGABRT, "\"SIGABRT\"" },
                { SIGPOLL, "\"SIGPOLL\"" }, { SIGSTKFLT, "\"SIGSTKFLT\"" },
                { SIGSYS, "\"SIGSYS\"" },   { 32, "\"SIG32\"" },
                { 34, "\"SIGRTMIN+0\"" },   { 35, "\"SIGRTMIN+1\"" },
                { 64, "\"SIGRTMIN+30\"" },  { 65, "\"SIG65\"" },
        };

        for (FOREACH_ROW(row, rows)) {
                TaskEnd end = { .admitted = true, .main_exited = true, .signal = row->number };
                TaskAttempt attempt = completed;

                attempt.result = TASK_RESULT_SIGNAL;
                attempt.end = &end;
                check_member(row->name, &attempt, "signal", row->name);
        }
}

static void average_cpu_is_a_rounded_percentage_of_one_core(void **state) {
        static const struct {
                usec_t cpu_usec, run_usec;
                const char *max_cpu;
        } rows[] = {
                { 0, 0, "0" },
                { 1000, 0, "0" },
                { 0, 1000, "0" },
                { 1000, 1000, "100" },
                { 4000, 1000, "400" },
                { 4, 1000, "0" },
                { 5, 1000, "1" },
                { 14, 1000, "1" },
                { 15, 1000, "2" },
                { UINT64_MAX, 1, "4294967295" },
                { UINT64_MAX, UINT64_MAX, "100" },
        };

        for (FOREACH_ROW(row, rows)) {
                TaskUsage used = { .cpu_usec = row->cpu_usec };
                TaskAttempt attempt = completed;

                attempt.usage = &used;
                attempt.run_usec = row->run_usec;
                check_member(row->max_cpu, &attempt, "max_cpu", row->max_cpu);
        }
}

static void output_is_shown_as_utf8(void **state) {
        static const struct {
                TaskOutputView view;
                const char *text;
        } rows[] = {
                { { NULL, 0, 0, false }, "\"\"" },
                { { "", 0, 0, false }, "\"\"" },
                { { "a\"\\/\n", 5, 5, false }, "\"a\\\"\\\\/\\n\"" },
                { { "\xc3\xbc", 2, 2, false }, "\"\xc3\xbc\"" },
                { { "a\xff", 2, 2, false }, "\"a\xef\xbf\xbd\"" },
                { { "a\0b", 3, 3, false }, "\"a\xef\xbf\xbd\x62\"" },
                { { "tail", 4, 4000, true }, "\"tail\"" },
        };

        for (FOREACH_ROW(row, rows)) {
                TaskAttempt attempt = completed;

                attempt.error = row->view;
                check_member(row->text, &attempt, "error", row->text);
                check_member(row->text, &attempt, "error_truncated", row->view.truncated ? "true" : "false");
        }
}

static void without_output_its_sizes_remain(void **state) {
        TaskAttempt attempt = completed;

        attempt.with_output = false;
        attempt.output.truncated = true;
        check_member("output", &attempt, "output", NULL);
        check_member("error", &attempt, "error", NULL);
        check_member("bytes", &attempt, "output_bytes", "3");
        check_member("truncated", &attempt, "output_truncated", "true");
}

static void labels_and_resources_come_from_the_specification(void **state) {
        TaskSpec labelled = spec;
        TaskAttempt attempt = completed;

        labelled.labels = (char *[]) { (char *) "a=", (char *) "team/x==y", NULL };
        labelled.resources.cores_micro = 500000;
        check_int("gpu", resources_named_set(&labelled.resources, "gpu", 2), 0);
        attempt.spec = &labelled;
        check_member("labels", &attempt, "labels", "{\"a\":\"\",\"team/x\":\"=y\"}");
        check_member("resources", &attempt, "resources", "{\"cores\":0.5,\"memory_mb\":512,\"gpu\":2}");
}

static void large_numbers_are_written_whole(void **state) {
        static const TaskUsage large = {
                .memory_peak_bytes = UINT64_MAX,
                .io_read_bytes = UINT64_C(1) << 63,
        };
        TaskAttempt attempt = completed;

        attempt.usage = &large;
        attempt.output.total_bytes = UINT64_MAX;
        check_member("max_rss", &attempt, "max_rss", "18446744073709551615");
        check_member("output_bytes", &attempt, "output_bytes", "18446744073709551615");
        check_member("usage",
                     &attempt,
                     "usage",
                     "{\"cpu_time\":0,\"memory_peak\":18446744073709551615,"
                     "\"io_read_bytes\":9223372036854775808,\"io_write_bytes\":0,\"tasks_peak\":0}");
}

static void daggyr_never_sees_null_in_what_it_knows(void **state) {
        static const char *const keys[] = { "start_time", "stop_time", "succeeded", "killed",  "output",
                                            "error",      "executor",  "exit_code", "max_cpu", "max_rss" };
        static const TaskEnd canceled = {};
        TaskAttempt attempt = queued;

        attempt.state = TASK_FINISHED;
        attempt.result = TASK_RESULT_CANCELED;
        attempt.end = &canceled;
        attempt.with_output = true;

        _cleanup_(json_putp) json_object *object = NULL;
        check_int("format", task_attempt_to_json_daggyr(&attempt, &object), 0);
        for (FOREACH_ROW(key, keys))
                check_true(*key, json_object_object_get(object, *key) != NULL);

        check_json("exit_code", json_object_object_get(object, "exit_code"), "-1");
        check_json("start_time",
                   json_object_object_get(object, "start_time"),
                   "\"2026-11-21T12:00:00.000000Z\"");
        check_json("stop_time",
                   json_object_object_get(object, "stop_time"),
                   "\"2026-11-21T12:00:00.000000Z\"");
}

static void daggyr_sees_a_completed_task_as_everybody_does(void **state) {
        _cleanup_(json_putp) json_object *object = NULL, *same = format(&completed);

        check_int("format", task_attempt_to_json_daggyr(&completed, &object), 0);
        assert_true(json_object_equal(object, same));
}

static int try_format(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;

        return task_attempt_to_json(userdata, &object);
}

static int try_format_daggyr(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;

        return task_attempt_to_json_daggyr(userdata, &object);
}

static void without_memory_there_is_no_object(void **state) {
        static const TaskEnd killed = { .admitted = true, .main_exited = true, .signal = SIGKILL };
        static const TaskEnd unknown = { .admitted = true };
        TaskSpec labelled = spec;
        TaskAttempt attempt = completed;

        labelled.labels = (char *[]) { (char *) "a=b", NULL };
        attempt.spec = &labelled;
        attempt.result = TASK_RESULT_SIGNAL;
        attempt.end = &killed;
        fail_alloc_loop(try_format, &attempt);

        attempt.end = &unknown;
        fail_alloc_loop(try_format_daggyr, &attempt);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_completed_task_has_every_member),
                cmocka_unit_test(a_waiting_task_has_nulls_where_nothing_is_known),
                cmocka_unit_test(ends_are_told_by_code_and_signal),
                cmocka_unit_test(a_live_task_tells_nothing_of_its_end),
                cmocka_unit_test(signals_have_their_names),
                cmocka_unit_test(average_cpu_is_a_rounded_percentage_of_one_core),
                cmocka_unit_test(output_is_shown_as_utf8),
                cmocka_unit_test(without_output_its_sizes_remain),
                cmocka_unit_test(labels_and_resources_come_from_the_specification),
                cmocka_unit_test(large_numbers_are_written_whole),
                cmocka_unit_test(daggyr_never_sees_null_in_what_it_knows),
                cmocka_unit_test(daggyr_sees_a_completed_task_as_everybody_does),
                cmocka_unit_test(without_memory_there_is_no_object),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
