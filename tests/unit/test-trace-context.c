/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>

#include "core/task/trace-context.h"
#include "test.h"

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void a_parent_is_what_the_standard_says(void **state) {
        static const struct {
                const char *parent;
                bool valid;
        } rows[] = {
                { PARENT, true },
                { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true },
                { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes", true },
                { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true },
                { PARENT "-more", false }, /* not in version 00 */
                { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", false },
                { "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false },
                { "00-00000000000000000000000000000000-00f067aa0ba902b7-01", false },
                { "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false },
                { "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false },
                { "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false },
                { "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01", false },
                { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", false },
                { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false },
                { "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false },
                { "00-", false },
                { "00", false },
                { "", false },
        };
        for (FOREACH_ROW(row, rows))
                check_int(row->parent, trace_parent_is_valid(row->parent), row->valid);
        assert_false(trace_parent_is_valid(NULL));
}

static void a_trace_reaches_each_task(void **state) {
        static const struct {
                const char *body, *parent, *trace_state, *with_it;
        } rows[] = {
                { "{}", PARENT, NULL, "{\"environment\":{\"TRACEPARENT\":\"" PARENT "\"}}" },
                { "{\"environment\":{\"A\":\"1\"}}",
                  PARENT,
                  "a=1,b=2",
                  "{\"environment\":{\"A\":\"1\",\"TRACEPARENT\":\"" PARENT
                  "\",\"TRACESTATE\":\"a=1,b=2\"}}" },
                { "[{},{\"task_id\":\"b\"}]",
                  PARENT,
                  "",
                  "[{\"environment\":{\"TRACEPARENT\":\"" PARENT "\"}},"
                  "{\"task_id\":\"b\",\"environment\":{\"TRACEPARENT\":\"" PARENT "\"}}]" },
                { "{\"environment\":{\"TRACEPARENT\":\"mine\"}}",
                  PARENT,
                  "a=1",
                  "{\"environment\":{\"TRACEPARENT\":\"mine\"}}" },
                { "{\"environment\":{\"TRACESTATE\":\"of another\"}}",
                  PARENT,
                  "a=\n1",
                  "{\"environment\":{\"TRACEPARENT\":\"" PARENT "\"}}" },
                { "{}", "nonsense", "a=1", "{}" },
                { "{}", NULL, "a=1", "{}" },
                { "{\"environment\":[]}", PARENT, NULL, "{\"environment\":[]}" },
                { "[1,null]", PARENT, NULL, "[1,null]" },
                { "\"text\"", PARENT, NULL, "\"text\"" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *body = json_of(row->body);
                check_int(row->body, trace_context_add(body, 1024, row->parent, row->trace_state), 0);
                check_json(row->body, body, row->with_it);
        }
}

static void a_full_environment_stays_good(void **state) {
        _cleanup_(json_putp) json_object *body = json_of("{\"environment\":{}}");
        json_object *environment = json_object_object_get(body, "environment");
        for (int i = 0; i < 1023; i++) {
                char name[16];
                (void) snprintf(name, sizeof(name), "V%d", i);
                assert_int_equal(json_add_string(environment, name, ""), 0);
        }
        assert_int_equal(trace_context_add(body, 1024, PARENT, "a=1"), 0);
        assert_int_equal(json_object_object_length(environment), 1023);
}

static void its_variables_are_known(void **state) {
        assert_true(trace_context_has("TRACEPARENT=x"));
        assert_true(trace_context_has("TRACESTATE="));
        assert_false(trace_context_has("TRACEPARENTS=x"));
        assert_false(trace_context_has("PATH=TRACEPARENT=x"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_parent_is_what_the_standard_says),
                cmocka_unit_test(a_trace_reaches_each_task),
                cmocka_unit_test(a_full_environment_stays_good),
                cmocka_unit_test(its_variables_are_known),
        };
        return cmocka_run_group_tests_name("trace-context", tests, NULL, NULL);
}
