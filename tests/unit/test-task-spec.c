/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/task/task-spec.h"
#include "fail-alloc.h"
#include "test.h"

static const TaskDefaults defaults = {
        .resources = { .cores_micro = 1000000, .memory_mb = 512 },
};

static TaskSpec *parse(const char *text, const char *task_id, Problem *ret_problem) {
        _cleanup_(json_putp) json_object *body = json_of(text);
        TaskSpec *spec = NULL;
        int r;

        *ret_problem = (Problem) {};
        r = task_spec_parse(body, task_id, &defaults, &spec, ret_problem);
        check_int(text, r < 0, !spec);
        return spec;
}

static TaskSpec *parse_good(const char *text, const char *task_id) {
        Problem problem;
        TaskSpec *spec = parse(text, task_id, &problem);

        if (!spec)
                fail_msg("%s: %s: %s", text, problem.field, problem.detail);
        return spec;
}

static TaskSpec *parse_daggyr(const char *text, Problem *ret_problem) {
        _cleanup_(json_putp) json_object *body = json_of(text);
        TaskSpec *spec = NULL;
        int r;

        *ret_problem = (Problem) {};
        r = task_spec_parse_daggyr(body, "12:a%20b", &defaults, &spec, ret_problem);
        check_int(text, r < 0, !spec);
        return spec;
}

/* {"command":["true"],REST} */
static char *body_with(const char *rest) {
        Text text = {};

        check_int(rest, text_appendf(&text, "{\"command\":[\"true\"],%s}", rest), 0);
        return text.data;
}

static void check_list(const char *label, char *const *got, const char *const *want) {
        size_t n = 0;

        for (; want[n]; n++) {
                check_true(label, n < text_list_count(got));
                check_text(label, got[n], want[n]);
        }
        check_u64(label, text_list_count(got), n);
}

static void a_command_alone_gets_the_defaults(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *spec = parse_good("{\"command\":[\"echo\",\"hi\",\"\"]}", NULL);

        check_text("task_id", spec->task_id, NULL);
        check_list("command", spec->command, (const char *[]) { "echo", "hi", "", NULL });
        assert_null(spec->environment);
        assert_true(resources_equal(&spec->resources, &defaults.resources));
        check_u64("timeout", spec->timeout_usec, USEC_INFINITY);
        check_u64("grace", spec->grace_usec, 10 * USEC_PER_SEC);
        check_text("working_directory", spec->working_directory, NULL);
        check_text("user", spec->user, NULL);
        check_u64("umask", spec->umask, 0022);
        check_u64("stdin", spec->standard_input.size, 0);
        check_u64("tasks_max", spec->tasks_max, 4096);
        assert_null(spec->properties);
        assert_null(spec->parsed_properties);
        assert_null(spec->labels);
        check_int("when_full", spec->when_full, WHEN_FULL_QUEUE);
}

static void every_field_is_read(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(
                        "{\"task_id\":\"build-7\",\"command\":[\"make\",\"-j2\"],"
                        "\"environment\":{\"B\":\"2\",\"A\":\"=1\"},"
                        "\"resources\":{\"cores\":0.5,\"memory_mb\":64,\"gpu\":1},"
                        "\"timeout\":1.5,\"grace\":0,\"working_directory\":\"/var/tmp\",\"user\":\"ci\","
                        "\"umask\":\"0077\",\"stdin\":\"line\\n\",\"tasks_max\":16,"
                        "\"properties\":{\"IOWeight\":7},\"labels\":{\"team/x\":\"y\",\"a\":\"\"},"
                        "\"when_full\":\"reject\"}",
                        "build-7");

        check_text("task_id", spec->task_id, "build-7");
        check_list("command", spec->command, (const char *[]) { "make", "-j2", NULL });
        check_list("environment", spec->environment, (const char *[]) { "A==1", "B=2", NULL });
        check_u64("cores", spec->resources.cores_micro, 500000);
        check_u64("memory_mb", spec->resources.memory_mb, 64);
        check_u64("gpu", resources_named_get(&spec->resources, "gpu"), 1);
        check_u64("timeout", spec->timeout_usec, 1500000);
        check_u64("grace", spec->grace_usec, 0);
        check_text("working_directory", spec->working_directory, "/var/tmp");
        check_text("user", spec->user, "ci");
        check_u64("umask", spec->umask, 0077);
        check_text("stdin", spec->standard_input.data, "line\n");
        check_u64("tasks_max", spec->tasks_max, 16);
        check_json("properties", spec->properties, "{\"IOWeight\":7}");
        check_u64("parsed properties", spec->parsed_properties->n_items, 1);
        check_list("labels", spec->labels, (const char *[]) { "a=", "team/x=y", NULL });
        check_int("when_full", spec->when_full, WHEN_FULL_REJECT);
}

static void the_id_of_the_path_counts_before_that_of_the_body(void **state) {
        static const struct {
                const char *body, *path, *task_id;
        } rows[] = {
                { "{\"command\":[\"a\"]}", NULL, NULL },
                { "{\"command\":[\"a\"]}", "7", "7" },
                { "{\"command\":[\"a\"],\"task_id\":\"7\"}", NULL, "7" },
                { "{\"command\":[\"a\"],\"task_id\":\"7\"}", "7", "7" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(row->body, row->path);

                check_text(row->body, spec->task_id, row->task_id);
        }
}

static void ids_that_are_not_valid_or_differ_are_refused(void **state) {
        static const struct {
                const char *body, *path, *field;
        } rows[] = {
                { "{\"command\":[\"a\"],\"task_id\":\"7\"}", "8", "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":\"\"}", NULL, "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":\".a\"}", NULL, "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":\"a/b\"}", NULL, "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":\"a/b\"}", "a/b", "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":7}", NULL, "/task_id" },
                { "{\"command\":[\"a\"],\"task_id\":null}", "7", "/task_id" },
                { "{\"command\":[\"a\"]}", "a/b", "" },
                { "{\"command\":[\"a\"]}", "", "" },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;

                check_true(row->body, !parse(row->body, row->path, &problem));
                check_problem(row->body, &problem, 400, row->field);
        }
}

static void bodies_that_are_no_tasks_are_refused(void **state) {
        static const struct {
                const char *body, *field;
        } rows[] = {
                { "[]", "" },
                { "null", "" },
                { "7", "" },
                { "\"echo\"", "" },
                { "{}", "/command" },
                { "{\"command\":[]}", "/command" },
                { "{\"command\":null}", "/command" },
                { "{\"command\":\"echo\"}", "/command" },
                { "{\"command\":{}}", "/command" },
                { "{\"command\":[\"a\",7]}", "/command/1" },
                { "{\"command\":[null]}", "/command/0" },
                { "{\"commands\":[\"a\"]}", "/commands" },
                { "{\"command\":[\"a\"],\"Timeout\":1}", "/Timeout" },
                { "{\"command\":[\"a\"],\"\":1}", "/" },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;

                check_true(row->body, !parse(row->body, "7", &problem));
                check_problem(row->body, &problem, 400, row->field);
        }
}

static void values_that_are_out_of_place_are_refused_with_it(void **state) {
        static const struct {
                const char *rest, *field;
        } rows[] = {
                { "\"environment\":[]", "/environment" },
                { "\"environment\":{\"A\":1}", "/environment/A" },
                { "\"environment\":{\"\":\"1\"}", "/environment/" },
                { "\"environment\":{\"A=B\":\"1\"}", "/environment/A=B" },
                { "\"environment\":null", "/environment" },
                { "\"resources\":[]", "/resources" },
                { "\"resources\":{\"cores\":0}", "/resources/cores" },
                { "\"resources\":{\"cores\":-1}", "/resources/cores" },
                { "\"resources\":{\"memory_mb\":0}", "/resources/memory_mb" },
                { "\"resources\":{\"memory_mb\":1.5}", "/resources/memory_mb" },
                { "\"resources\":{\"GPU\":1}", "/resources/GPU" },
                { "\"timeout\":-1", "/timeout" },
                { "\"timeout\":\"1\"", "/timeout" },
                { "\"timeout\":31536001", "/timeout" },
                { "\"timeout\":1e999", "/timeout" },
                { "\"timeout\":null", "/timeout" },
                { "\"grace\":-0.1", "/grace" },
                { "\"grace\":3601", "/grace" },
                { "\"working_directory\":\"\"", "/working_directory" },
                { "\"working_directory\":\"tmp\"", "/working_directory" },
                { "\"working_directory\":\"~\"", "/working_directory" },
                { "\"working_directory\":7", "/working_directory" },
                { "\"user\":\"\"", "/user" },
                { "\"user\":\"0\"", "/user" },
                { "\"user\":\"1000\"", "/user" },
                { "\"user\":\"-a\"", "/user" },
                { "\"user\":\".a\"", "/user" },
                { "\"user\":\"a b\"", "/user" },
                { "\"user\":\"a:b\"", "/user" },
                { "\"user\":\"a/b\"", "/user" },
                { "\"user\":\"$\"", "/user" },
                { "\"user\":\"a$b\"", "/user" },
                { "\"user\":\"a$$\"", "/user" },
                { "\"user\":\"\xc3\xa4\"", "/user" },
                { "\"user\":\"a23456789012345678901234567890123\"", "/user" },
                { "\"user\":\"a2345678901234567890123456789012$\"", "/user" },
                { "\"user\":0", "/user" },
                { "\"umask\":\"\"", "/umask" },
                { "\"umask\":\"8\"", "/umask" },
                { "\"umask\":\"1000\"", "/umask" },
                { "\"umask\":\"00022\"", "/umask" },
                { "\"umask\":\"0x12\"", "/umask" },
                { "\"umask\":\"-1\"", "/umask" },
                { "\"umask\":\"u=rwx\"", "/umask" },
                { "\"umask\":512", "/umask" },
                { "\"umask\":-1", "/umask" },
                { "\"umask\":22.5", "/umask" },
                { "\"umask\":null", "/umask" },
                { "\"stdin\":7", "/stdin" },
                { "\"stdin\":null", "/stdin" },
                { "\"stdin_base64\":7", "/stdin_base64" },
                { "\"stdin_base64\":\"eA=\"", "/stdin_base64" },
                { "\"stdin_base64\":\"eA==\\n\"", "/stdin_base64" },
                { "\"stdin\":\"\",\"stdin_base64\":\"\"", "/stdin_base64" },
                { "\"tasks_max\":0", "/tasks_max" },
                { "\"tasks_max\":4194305", "/tasks_max" },
                { "\"tasks_max\":1.5", "/tasks_max" },
                { "\"tasks_max\":\"1\"", "/tasks_max" },
                { "\"properties\":[]", "/properties" },
                { "\"properties\":{\"MemoryMax\":1}", "/properties/MemoryMax" },
                { "\"properties\":{\"IOWeight\":0}", "/properties/IOWeight" },
                { "\"labels\":{\"\":\"1\"}", "/labels/" },
                { "\"labels\":{\"a b\":\"1\"}", "/labels/a b" },
                { "\"labels\":{\"a=b\":\"1\"}", "/labels/a=b" },
                { "\"labels\":{\"a\":1}", "/labels/a" },
                { "\"labels\":{\"a12345678901234567890123456789012345678901234567890123456789012x\":\"1\"}",
                  "/labels/a12345678901234567890123456789012345678901234567890123456789012x" },
                { "\"when_full\":\"wait\"", "/when_full" },
                { "\"when_full\":\"\"", "/when_full" },
                { "\"when_full\":true", "/when_full" },
                { "\"when_full\":null", "/when_full" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *body = body_with(row->rest);
                Problem problem;

                check_true(row->rest, !parse(body, "7", &problem));
                check_problem(row->rest, &problem, 400, row->field);
        }
}

static void values_at_their_bounds_are_read(void **state) {
        static const char *const rests[] = {
                "\"timeout\":31536000",
                "\"timeout\":0.000001",
                "\"grace\":3600",
                "\"grace\":0",
                "\"working_directory\":\"/\"",
                "\"user\":\"a2345678901234567890123456789012\"",
                "\"user\":\"a234567890123456789012345678901$\"",
                "\"user\":\"_a.b-C\"",
                "\"umask\":511",
                "\"umask\":\"777\"",
                "\"umask\":\"0\"",
                "\"umask\":0",
                "\"tasks_max\":1",
                "\"tasks_max\":4194304",
                "\"resources\":{}",
                "\"resources\":{\"cores\":0.01,\"memory_mb\":1,\"gpu\":0}",
                "\"environment\":{}",
                "\"labels\":{}",
                "\"properties\":{}",
                "\"labels\":{\"a12345678901234567890123456789012345678901234567890123456789012\":\"1\"}",
                "\"labels\":{\"-./_\":\"any \xc3\xbc\\n\"}",
        };

        for (FOREACH_ROW(rest, rests)) {
                _cleanup_(freep) char *body = body_with(*rest);
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(body, "7");

                check_true(*rest, spec != NULL);
        }
}

static void a_timeout_of_zero_means_never(void **state) {
        static const struct {
                const char *rest;
                usec_t timeout_usec;
        } rows[] = {
                { "\"timeout\":0", USEC_INFINITY },
                { "\"timeout\":0.0", USEC_INFINITY },
                { "\"timeout\":-0.0", USEC_INFINITY },
                { "\"timeout\":1e-9", 1 },
                { "\"timeout\":1e-6", 1 },
                { "\"timeout\":0.25", 250000 },
                { "\"timeout\":60", 60000000 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *body = body_with(row->rest);
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(body, "7");

                check_u64(row->rest, spec->timeout_usec, row->timeout_usec);
        }
}

static void a_umask_is_octal_in_a_string_and_a_number_as_it_is(void **state) {
        static const struct {
                const char *rest;
                mode_t umask;
        } rows[] = {
                { "\"umask\":\"0022\"", 0022 }, { "\"umask\":\"22\"", 0022 }, { "\"umask\":\"7\"", 07 },
                { "\"umask\":\"0777\"", 0777 }, { "\"umask\":18", 0022 },     { "\"umask\":22", 026 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *body = body_with(row->rest);
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(body, "7");

                check_u64(row->rest, spec->umask, row->umask);
        }
}

/* {"command":["true"],"KEY":{"a0":"","a1":"",…}} */
static TaskSpec *parse_with_members(const char *key, size_t n, Problem *ret_problem) {
        _cleanup_(text_done) Text rest = {};

        check_int(key, text_appendf(&rest, "\"%s\":{", key), 0);
        for (size_t i = 0; i < n; i++)
                check_int(key, text_appendf(&rest, "%s\"a%zu\":\"\"", i > 0 ? "," : "", i), 0);
        check_int(key, text_append(&rest, "}"), 0);

        _cleanup_(freep) char *body = body_with(rest.data);
        return parse(body, "7", ret_problem);
}

static void what_may_grow_has_a_limit(void **state) {
        static const struct {
                const char *key;
                size_t max;
        } rows[] = {
                { "environment", TASK_ENVIRONMENT_MAX },
                { "labels", TASK_LABELS_MAX },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;
                char field[64];
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_with_members(row->key, row->max, &problem);

                check_true(row->key, spec != NULL);
                check_true(row->key, !parse_with_members(row->key, row->max + 1, &problem));
                (void) snprintf(field, sizeof(field), "/%s", row->key);
                check_problem(row->key, &problem, 400, field);
        }
}

/* A quoted string of N letters. */
static char *quoted(size_t n) {
        char *s = malloc(n + 3);

        assert_non_null(s);
        memset(s, 'x', n + 2);
        s[0] = s[n + 1] = '"';
        s[n + 2] = 0;
        return s;
}

static void long_strings_have_a_limit(void **state) {
        static const struct {
                const char *format; /* with the string for %s */
                size_t max;
                const char *field;
        } rows[] = {
                { "{\"command\":[\"a\"],\"task_id\":%s}", 128, "/task_id" },
                { "{\"command\":[\"a\"],\"user\":%s}", 32, "/user" },
                { "{\"command\":[\"a\"],\"labels\":{\"k\":%s}}", 255, "/labels/k" },
        };

        for (FOREACH_ROW(row, rows))
                for (size_t beyond = 0; beyond < 2; beyond++) {
                        _cleanup_(freep) char *string = quoted(row->max + beyond);
                        const char *hole = strstr(row->format, "%s");
                        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
                        _cleanup_(text_done) Text body = {};
                        Problem problem;

                        check_int(row->field,
                                  text_append_bytes(&body, row->format, (size_t) (hole - row->format)),
                                  0);
                        check_int(row->field, text_append(&body, string), 0);
                        check_int(row->field, text_append(&body, hole + 2), 0);

                        spec = parse(body.data, NULL, &problem);
                        check_int(row->field, spec != NULL, beyond == 0);
                        if (beyond > 0)
                                check_problem(row->field, &problem, 400, row->field);
                }
}

static void a_command_has_up_to_4096_strings(void **state) {
        for (size_t beyond = 0; beyond < 2; beyond++) {
                _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
                _cleanup_(text_done) Text body = {};
                Problem problem;

                check_int("append", text_append(&body, "{\"command\":[\"a\""), 0);
                for (size_t i = 1; i < TASK_COMMAND_MAX + beyond; i++)
                        check_int("append", text_append(&body, ",\"\""), 0);
                check_int("append", text_append(&body, "]}"), 0);

                spec = parse(body.data, NULL, &problem);
                check_int("strings", spec != NULL, beyond == 0);
                if (beyond > 0)
                        check_problem("strings", &problem, 400, "/command");
        }
}

static void specifications_are_equal_when_they_ask_for_the_same(void **state) {
        static const struct {
                const char *a, *b;
                bool equal;
        } rows[] = {
                { "\"timeout\":0", "\"grace\":10", true }, /* both are the defaults */
                { "\"when_full\":\"queue\"", "\"when_full\":\"reject\"", true },
                { "\"task_id\":\"a\"", "\"task_id\":\"b\"", true },
                { "\"environment\":{\"A\":\"1\",\"B\":\"2\"}",
                  "\"environment\":{\"B\":\"2\",\"A\":\"1\"}",
                  true },
                { "\"environment\":{}", "\"labels\":{}", true },
                { "\"environment\":{\"TRACEPARENT\":\"1\",\"TRACESTATE\":\"a\"}", "\"labels\":{}", true },
                { "\"environment\":{\"A\":\"1\",\"TRACEPARENT\":\"1\",\"Z\":\"2\"}",
                  "\"environment\":{\"A\":\"1\",\"TRACEPARENT\":\"2\",\"Z\":\"2\"}",
                  true },
                { "\"labels\":{\"A\":\"1\",\"B\":\"2\"}", "\"labels\":{\"B\":\"2\",\"A\":\"1\"}", true },
                { "\"properties\":{\"IOWeight\":7,\"CPUWeight\":8}",
                  "\"properties\":{\"CPUWeight\":8,\"IOWeight\":7}",
                  true },
                { "\"properties\":{}", "\"umask\":\"0022\"", true },
                { "\"umask\":\"0022\"", "\"umask\":18", true },
                { "\"resources\":{\"cores\":1}", "\"resources\":{\"memory_mb\":512}", true },
                { "\"timeout\":1.0", "\"timeout\":1", true },
                { "\"stdin\":\"\"", "\"tasks_max\":4096", true },
                { "\"stdin_base64\":\"\"", "\"tasks_max\":4096", true },
                { "\"stdin\":\"x\"", "\"stdin_base64\":\"eA==\"", true },
                { "\"tasks_max\":16", "\"tasks_max\":16.0", true },
                { "\"resources\":{\"gpu\":0}", "\"resources\":{}", true },
                { "\"properties\":{\"MemoryHigh\":\"1G\"}",
                  "\"properties\":{\"MemoryHigh\":1073741824}",
                  true },
                { "\"properties\":{\"AllowedCPUs\":\"0-1\"}",
                  "\"properties\":{\"AllowedCPUs\":\"1,0\"}",
                  true },
                { "\"properties\":{\"IPAddressDeny\":[\"any\"]}",
                  "\"properties\":{\"IPAddressDeny\":[\"::/0\",\"0.0.0.0/0\"]}",
                  true },
                { "\"properties\":{\"IPAddressDeny\":[\"10.0.0.0/8\"]}",
                  "\"properties\":{\"IPAddressDeny\":[\"10.0.0.0/8\",\"10.1.2.3/8\"]}",
                  true },
                { "\"properties\":{\"IOReadBandwidthMax\":{\"/dev/a\":\"1M\",\"/dev/b\":1}}",
                  "\"properties\":{\"IOReadBandwidthMax\":{\"/dev/b\":1,\"/dev/a\":1000000}}",
                  true },

                { "\"timeout\":1", "\"timeout\":2", false },
                { "\"timeout\":0", "\"timeout\":1", false },
                { "\"grace\":1", "\"grace\":2", false },
                { "\"environment\":{\"A\":\"1\"}", "\"environment\":{\"A\":\"2\"}", false },
                { "\"environment\":{\"A\":\"1\"}", "\"environment\":{}", false },
                { "\"environment\":{\"TRACEPARENT\":\"1\",\"Z\":\"1\"}",
                  "\"environment\":{\"TRACEPARENT\":\"1\",\"Z\":\"2\"}",
                  false },
                { "\"environment\":{\"A\":\"1\"}", "\"environment\":{\"A\":\"1\",\"B\":\"1\"}", false },
                { "\"resources\":{\"cores\":1}", "\"resources\":{\"cores\":2}", false },
                { "\"resources\":{\"gpu\":1}", "\"resources\":{}", false },
                { "\"working_directory\":\"/\"", "\"working_directory\":\"/tmp\"", false },
                { "\"working_directory\":\"/\"", "\"grace\":10", false },
                { "\"user\":\"a\"", "\"user\":\"b\"", false },
                { "\"user\":\"a\"", "\"grace\":10", false },
                { "\"umask\":0", "\"umask\":1", false },
                { "\"stdin\":\"\"", "\"stdin\":\"x\"", false },
                { "\"stdin_base64\":\"AAE=\"", "\"stdin_base64\":\"AAI=\"", false },
                { "\"tasks_max\":1", "\"tasks_max\":2", false },
                { "\"properties\":{\"IOWeight\":7}", "\"properties\":{\"IOWeight\":8}", false },
                { "\"properties\":{\"IOWeight\":7}", "\"properties\":{\"CPUWeight\":7}", false },
                { "\"properties\":{\"IOWeight\":7}", "\"properties\":{}", false },
                { "\"properties\":{\"IOWeight\":7}", "\"grace\":10", false },
                { "\"labels\":{\"a\":\"1\"}", "\"labels\":{\"a\":\"2\"}", false },
                { "\"properties\":{\"IPAddressDeny\":[\"any\"]}",
                  "\"properties\":{\"IPAddressDeny\":[\"::/0\"]}",
                  false },
                { "\"properties\":{\"AllowedCPUs\":\"0\"}",
                  "\"properties\":{\"AllowedCPUs\":\"0,9\"}",
                  false },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *body_a = body_with(row->a), *body_b = body_with(row->b);
                _cleanup_(task_spec_freep) TaskSpec *a = parse_good(body_a, NULL);
                _cleanup_(task_spec_freep) TaskSpec *b = parse_good(body_b, NULL);

                check_int(row->a, task_spec_equal(a, b), row->equal);
                check_int(row->b, task_spec_equal(b, a), row->equal);
                check_true(row->a, task_spec_equal(a, a));
        }
}

static void what_is_left_open_twice_is_the_same(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *open = parse_good("{\"command\":[\"a\"]}", NULL);
        _cleanup_(task_spec_freep) TaskSpec *again = parse_good("{\"command\":[\"a\"]}", NULL);
        _cleanup_(task_spec_freep) TaskSpec *said = parse_good(
                        "{\"command\":[\"a\"],\"resources\":{\"memory_mb\":512}}", NULL);

        assert_true(task_spec_equal(open, said));
        again->resources.memory_mb = 1024; /* as after a reload */
        assert_true(task_spec_equal(open, again));
        assert_false(task_spec_equal(said, again));
}

static void commands_that_differ_are_different_tasks(void **state) {
        static const char *const commands[] = {
                "{\"command\":[\"a\"]}",      "{\"command\":[\"a\",\"b\"]}", "{\"command\":[\"ab\"]}",
                "{\"command\":[\"a\",\"\"]}", "{\"command\":[\"\",\"a\"]}",
        };

        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                for (size_t j = 0; j < N_ELEMENTS(commands); j++) {
                        _cleanup_(task_spec_freep) TaskSpec *a = parse_good(commands[i], NULL);
                        _cleanup_(task_spec_freep) TaskSpec *b = parse_good(commands[j], NULL);

                        check_int(commands[i], task_spec_equal(a, b), i == j);
                }
}

static void the_size_grows_with_what_is_kept(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *bare = parse_good("{\"command\":[\"a\"]}", NULL);
        static const char *const rests[] = {
                "\"task_id\":\"7\"",
                "\"environment\":{\"A\":\"1\"}",
                "\"working_directory\":\"/tmp\"",
                "\"user\":\"a\"",
                "\"stdin\":\"x\"",
                "\"properties\":{\"IOWeight\":7}",
                "\"labels\":{\"a\":\"\"}",
        };

        for (FOREACH_ROW(rest, rests)) {
                _cleanup_(freep) char *body = body_with(*rest);
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_good(body, NULL);

                check_true(*rest, task_spec_size(spec) > task_spec_size(bare));
        }
}

static void a_specification_outlives_its_body(void **state) {
        json_object *body = json_of("{\"command\":[\"a\"],\"properties\":{\"IOWeight\":7}}");
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
        Problem problem = {};

        check_int("parse", task_spec_parse(body, "7", &defaults, &spec, &problem), 0);
        json_object_put(body);
        check_json("properties", spec->properties, "{\"IOWeight\":7}");
}

static void daggyr_details_are_read(void **state) {
        Problem problem;
        _cleanup_(task_spec_freep) TaskSpec *spec = parse_daggyr(
                        "{\"command\":[\"echo\",\"hi\"],\"environment\":{\"B\":\"2\",\"A\":\"1\"},"
                        "\"timeout\":60,\"resources\":{\"cores\":2,\"memory_mb\":100,\"gpu\":1}}",
                        &problem);

        assert_non_null(spec);
        check_text("task_id", spec->task_id, "12:a%20b");
        check_list("command", spec->command, (const char *[]) { "echo", "hi", NULL });
        check_list("environment", spec->environment, (const char *[]) { "A=1", "B=2", NULL });
        check_u64("timeout", spec->timeout_usec, 60 * USEC_PER_SEC);
        check_u64("cores", spec->resources.cores_micro, 2000000);
        check_u64("memory_mb", spec->resources.memory_mb, 100);
        check_u64("gpu", resources_named_get(&spec->resources, "gpu"), 1);
        check_u64("grace", spec->grace_usec, 10 * USEC_PER_SEC);
        check_u64("stdin", spec->standard_input.size, 0);
}

static void daggyr_details_may_lack_everything(void **state) {
        static const char *const bodies[] = {
                "{}",
                "{\"command\":[]}",
                "{\"timeout\":0}",
                "{\"environment\":{}}",
                "{\"resources\":{}}",
                "{\"resources\":{\"cores\":0,\"memory_mb\":0}}",
                "{\"resources\":{\"GPU\":-7,\"a b\":\"x\",\"\":null}}",
                "{\"Command\":7,\"unknown\":null,\"user\":\"root\",\"when_full\":{},\"task_id\":\"x\"}",
        };

        for (FOREACH_ROW(body, bodies)) {
                Problem problem;
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_daggyr(*body, &problem);

                check_true(*body, spec != NULL);
                check_text(*body, spec->task_id, "12:a%20b");
                check_true(*body, spec->command != NULL);
                check_text(*body, spec->command[0], NULL);
                check_true(*body, resources_equal(&spec->resources, &defaults.resources));
                check_u64(*body, spec->timeout_usec, USEC_INFINITY);
                check_text(*body, spec->user, NULL);
        }
}

static void daggyr_timeouts_beyond_all_bounds_mean_never(void **state) {
        static const struct {
                const char *body;
                usec_t timeout_usec;
        } rows[] = {
                { "{\"timeout\":1}", 1000000 },
                { "{\"timeout\":18446744073709}", UINT64_C(18446744073709000000) },
                { "{\"timeout\":18446744073710}", USEC_INFINITY },
                { "{\"timeout\":18446744073709551614}", USEC_INFINITY },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;
                _cleanup_(task_spec_freep) TaskSpec *spec = parse_daggyr(row->body, &problem);

                check_true(row->body, spec != NULL);
                check_u64(row->body, spec->timeout_usec, row->timeout_usec);
        }
}

static void daggyr_details_of_wrong_types_are_refused(void **state) {
        static const struct {
                const char *body, *field;
        } rows[] = {
                { "[]", "" },
                { "7", "" },
                { "null", "" },
                { "{\"command\":\"echo\"}", "/command" },
                { "{\"command\":[7]}", "/command/0" },
                { "{\"command\":null}", "/command" },
                { "{\"environment\":{\"A\":1}}", "/environment/A" },
                { "{\"environment\":{\"A=\":\"1\"}}", "/environment/A=" },
                { "{\"timeout\":-1}", "/timeout" },
                { "{\"timeout\":1.5}", "/timeout" },
                { "{\"timeout\":\"1\"}", "/timeout" },
                { "{\"resources\":[]}", "/resources" },
                { "{\"resources\":null}", "/resources" },
                { "{\"resources\":{\"cores\":-1}}", "/resources/cores" },
                { "{\"resources\":{\"cores\":0.5}}", "/resources/cores" },
                { "{\"resources\":{\"cores\":1000001}}", "/resources/cores" },
                { "{\"resources\":{\"memory_mb\":-100}}", "/resources/memory_mb" },
                { "{\"resources\":{\"memory_mb\":\"1\"}}", "/resources/memory_mb" },
                { "{\"resources\":{\"memory_mb\":1000000000001}}", "/resources/memory_mb" },
                { "{\"resources\":{\"cores\":null}}", "/resources/cores" },
                { "{\"resources\":{\"gpu\":-1}}", "/resources/gpu" },
                { "{\"resources\":{\"gpu\":true}}", "/resources/gpu" },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;

                check_true(row->body, !parse_daggyr(row->body, &problem));
                check_problem(row->body, &problem, 400, row->field);
        }
}

static void daggyr_resources_have_up_to_16_names(void **state) {
        for (size_t beyond = 0; beyond < 2; beyond++) {
                _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
                _cleanup_(text_done) Text body = {};
                Problem problem;

                check_int("append", text_append(&body, "{\"resources\":{\"cores\":1"), 0);
                for (size_t i = 0; i < RESOURCES_NAMED_MAX + beyond; i++)
                        check_int("append", text_appendf(&body, ",\"a%zu\":1", i), 0);
                check_int("append", text_append(&body, "}}"), 0);

                spec = parse_daggyr(body.data, &problem);
                check_int("names", spec != NULL, beyond == 0);
                if (beyond > 0)
                        check_problem("names", &problem, 400, "/resources/a16");
        }
}

static int try_parse(void *userdata) {
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
        Problem problem = {};
        int r = task_spec_parse(userdata, "7", &defaults, &spec, &problem);

        if (r < 0)
                check_problem("no memory", &problem, 503, "");
        return r;
}

static int try_parse_daggyr(void *userdata) {
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
        Problem problem = {};
        int r = task_spec_parse_daggyr(userdata, "7", &defaults, &spec, &problem);

        if (r < 0)
                check_problem("no memory", &problem, 503, "");
        return r;
}

static void without_memory_there_is_no_specification(void **state) {
        _cleanup_(json_putp) json_object *body = json_of(
                        "{\"command\":[\"a\",\"b\"],\"environment\":{\"A\":\"1\"},\"user\":\"a\","
                        "\"working_directory\":\"/\",\"stdin\":\"x\",\"labels\":{\"a\":\"b\"},"
                        "\"properties\":{\"AllowedCPUs\":\"0\"}}");
        _cleanup_(json_putp) json_object *empty = json_of("{}");

        fail_alloc_loop(try_parse, body);
        fail_alloc_loop(try_parse_daggyr, body);
        fail_alloc_loop(try_parse_daggyr, empty);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_command_alone_gets_the_defaults),
                cmocka_unit_test(every_field_is_read),
                cmocka_unit_test(the_id_of_the_path_counts_before_that_of_the_body),
                cmocka_unit_test(ids_that_are_not_valid_or_differ_are_refused),
                cmocka_unit_test(bodies_that_are_no_tasks_are_refused),
                cmocka_unit_test(values_that_are_out_of_place_are_refused_with_it),
                cmocka_unit_test(values_at_their_bounds_are_read),
                cmocka_unit_test(a_timeout_of_zero_means_never),
                cmocka_unit_test(a_umask_is_octal_in_a_string_and_a_number_as_it_is),
                cmocka_unit_test(what_may_grow_has_a_limit),
                cmocka_unit_test(long_strings_have_a_limit),
                cmocka_unit_test(a_command_has_up_to_4096_strings),
                cmocka_unit_test(specifications_are_equal_when_they_ask_for_the_same),
                cmocka_unit_test(what_is_left_open_twice_is_the_same),
                cmocka_unit_test(commands_that_differ_are_different_tasks),
                cmocka_unit_test(the_size_grows_with_what_is_kept),
                cmocka_unit_test(a_specification_outlives_its_body),
                cmocka_unit_test(daggyr_details_are_read),
                cmocka_unit_test(daggyr_details_may_lack_everything),
                cmocka_unit_test(daggyr_timeouts_beyond_all_bounds_mean_never),
                cmocka_unit_test(daggyr_details_of_wrong_types_are_refused),
                cmocka_unit_test(daggyr_resources_have_up_to_16_names),
                cmocka_unit_test(without_memory_there_is_no_specification),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
