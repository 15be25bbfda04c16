/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/cleanup.h"
#include "base/text.h"
#include "core/task/bulk-request.h"
#include "fail-alloc.h"
#include "test.h"

static int parse(const char *text, BulkRequest *ret, Problem *problem) {
        _cleanup_(json_putp) json_object *body = json_of(text);
        return bulk_request_parse(body, ret, problem);
}

static void what_is_chosen_is_read(void **state) {
        _cleanup_(bulk_request_done) BulkRequest request = {};
        Problem problem = {};
        assert_int_equal(
                        parse("{\"labels\":{\"b\":\"2\",\"a\":\"1\"},\"state\":\"errored\"}",
                              &request,
                              &problem),
                        0);
        assert_string_equal(request.state, "errored");
        assert_string_equal(request.labels[0], "a=1");
        assert_string_equal(request.labels[1], "b=2");
        assert_null(request.labels[2]);
        bulk_request_done(&request);
        assert_int_equal(parse("{\"state\":\"queued\",\"labels\":{}}", &request, &problem), 0);
        assert_null(request.labels);
}

static void what_chooses_nothing_or_is_malformed_is_refused(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "{}", "" },
                { "{\"labels\":{}}", "" },
                { "[]", "" },
                { "{\"state\":\"done\"}", "/state" },
                { "{\"state\":1}", "/state" },
                { "{\"labels\":[\"a=1\"]}", "/labels" },
                { "{\"labels\":{\"a\":1}}", "/labels/a" },
                { "{\"labels\":{\"a b\":\"1\"}}", "/labels/a b" },
                { "{\"labels\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\",\"f\":\"\","
                  "\"g\":\"\",\"h\":\"\",\"i\":\"\"}}",
                  "/labels" },
                { "{\"state\":\"queued\",\"ids\":[]}", "/ids" },
        };
        for (FOREACH_ROW(row, rows)) {
                BulkRequest request = {};
                Problem problem = {};
                check_true(row->text, parse(row->text, &request, &problem) < 0);
                check_problem(row->text, &problem, 400, row->field);
        }
}

static void the_answer_has_both_counts(void **state) {
        _cleanup_(json_putp) json_object *answer = bulk_answer_new(10, 3);
        check_json("answer", answer, "{\"matched\":10,\"changed\":3}");
}

static int try_all(void *userdata) {
        _cleanup_(bulk_request_done) BulkRequest request = {};
        Problem problem = {};
        int r = bulk_request_parse(userdata, &request, &problem);
        if (r < 0)
                return r;
        json_object *answer = bulk_answer_new(1, 1);
        json_object_put(answer);
        return answer ? 0 : -ENOMEM;
}

static void memory_may_run_out(void **state) {
        _cleanup_(json_putp) json_object *body = json_of("{\"labels\":{\"a\":\"1\"},\"state\":\"killed\"}");
        fail_alloc_loop(try_all, body);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_chosen_is_read),
                cmocka_unit_test(what_chooses_nothing_or_is_malformed_is_refused),
                cmocka_unit_test(the_answer_has_both_counts),
                cmocka_unit_test(memory_may_run_out),
        };
        return cmocka_run_group_tests_name("bulk-request", tests, NULL, NULL);
}
