/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/json/problem.h"
#include "fail-alloc.h"
#include "test.h"

static void statuses_have_errno_and_title(void **state) {
        static const struct {
                int status, r;
                const char *title;
        } rows[] = {
                { 400, -EINVAL, "Bad Request" },
                { 401, -EACCES, "Unauthorized" },
                { 403, -EACCES, "Forbidden" },
                { 404, -ENOENT, "Not Found" },
                { 405, -EOPNOTSUPP, "Method Not Allowed" },
                { 409, -EEXIST, "Conflict" },
                { 413, -EFBIG, "Content Too Large" },
                { 415, -EPROTONOSUPPORT, "Unsupported Media Type" },
                { 421, -EREMOTE, "Misdirected Request" },
                { 422, -ERANGE, "Unprocessable Content" },
                { 423, -EBUSY, "Locked" },
                { 429, -EDQUOT, "Too Many Requests" },
                { 500, -EIO, "Internal Server Error" },
                { 503, -EAGAIN, "Service Unavailable" },
                { 599, -EIO, "Error" },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;

                check_int(row->title, problem_set(&problem, row->status, "/a", "no %d", 1), row->r);
                check_problem(row->title, &problem, row->status, "/a");
                check_text(row->title, problem.detail, "no 1");
                check_int(row->title, problem.retry_after_sec, 0);
                check_text(row->title, problem_title(row->status), row->title);
        }
}

static void what_is_too_long_is_cut_between_characters(void **state) {
        _cleanup_(text_done) Text long_text = {};
        Problem problem;

        assert_int_equal(text_append(&long_text, "/"), 0);
        for (int i = 0; i < 500; i++)
                assert_int_equal(text_append(&long_text, "é"), 0);

        (void) problem_set(&problem, 400, long_text.data, "%s", long_text.data);
        assert_int_equal(strlen(problem.field), PROBLEM_FIELD_SIZE - 1);
        assert_true(text_is_utf8(problem.field, strlen(problem.field)));
        assert_int_equal(strlen(problem.detail), PROBLEM_DETAIL_SIZE - 1);
        assert_true(text_is_utf8(problem.detail, strlen(problem.detail)));

        (void) problem_set(&problem, 400, long_text.data + 1, "%s", long_text.data + 1);
        assert_int_equal(strlen(problem.field), PROBLEM_FIELD_SIZE - 2);
        assert_true(text_is_utf8(problem.field, strlen(problem.field)));
        assert_int_equal(strlen(problem.detail), PROBLEM_DETAIL_SIZE - 2);
        assert_true(text_is_utf8(problem.detail, strlen(problem.detail)));
}

static void a_problem_can_be_made_from_itself(void **state) {
        Problem problem;

        (void) problem_set(&problem, 400, "/a", "is bad");
        (void) problem_set(&problem, 422, problem.field, "element 3: %s", problem.detail);
        check_problem("again", &problem, 422, "/a");
        assert_string_equal(problem.detail, "element 3: is bad");
}

static void failures_of_ours_ask_to_try_again(void **state) {
        Problem problem;

        assert_int_equal(problem_from_errno(&problem, -ENOMEM), -ENOMEM);
        check_problem("ENOMEM", &problem, 503, "");
        assert_true(problem.retry_after_sec > 0);
        assert_string_equal(problem.detail, "out of memory, try again");

        assert_int_equal(problem_from_errno(&problem, EMFILE), -EMFILE);
        check_problem("EMFILE", &problem, 503, "");
        assert_int_equal(problem_from_errno(&problem, 4711), -4711);
        check_problem("unknown", &problem, 503, "");
}

static void what_is_full_says_when_to_try_again(void **state) {
        Problem problem = { .field = "/old" };

        assert_int_equal(problem_set_for_now(&problem, 429, 5, "100% full"), -EDQUOT);
        check_problem("full", &problem, 429, "");
        assert_int_equal(problem.retry_after_sec, 5);
        assert_string_equal(problem.detail, "100% full");
}

static void problems_are_written_as_rfc9457_says(void **state) {
        _cleanup_(json_putp) json_object *object = NULL, *without_field = NULL;
        Problem problem;

        (void) problem_set(&problem, 400, "/a~1b", "must be \"x\"");
        assert_int_equal(problem_to_json(&problem, NULL, &object), 0);
        check_json("with field",
                   object,
                   "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
                   "\"detail\":\"must be \\\"x\\\"\",\"field\":\"/a~1b\"}");

        (void) problem_set(&problem, 404, NULL, "no such task");
        assert_int_equal(problem_to_json(&problem, NULL, &without_field), 0);
        check_json("without field",
                   without_field,
                   "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"no such task\"}");
}

static void further_members_are_taken_over(void **state) {
        _cleanup_(json_putp) json_object *object = NULL;
        json_object *extra = json_object_new_object();
        Problem problem;

        assert_int_equal(json_add_null(extra, "nothing"), 0);
        assert_int_equal(json_add_u64(extra, "n", 1), 0);
        (void) problem_set(&problem, 409, NULL, "full");
        assert_int_equal(problem_to_json(&problem, extra, &object), 0);
        check_json("with members",
                   object,
                   "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":\"full\","
                   "\"nothing\":null,\"n\":1}");
}

static int try_to_json(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem;
        int r;

        (void) problem_set(&problem, 400, "/a", "is bad");
        r = problem_to_json(&problem, NULL, &object);
        if (r < 0)
                assert_null(object);
        return r;
}

static void failing_allocations_are_reported(void **state) {
        fail_alloc_loop(try_to_json, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(statuses_have_errno_and_title),
                cmocka_unit_test(what_is_too_long_is_cut_between_characters),
                cmocka_unit_test(a_problem_can_be_made_from_itself),
                cmocka_unit_test(failures_of_ours_ask_to_try_again),
                cmocka_unit_test(what_is_full_says_when_to_try_again),
                cmocka_unit_test(problems_are_written_as_rfc9457_says),
                cmocka_unit_test(further_members_are_taken_over),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("problem", tests, NULL, NULL);
}
