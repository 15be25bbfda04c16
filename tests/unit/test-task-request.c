/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/task/task-request.h"
#include "fail-alloc.h"
#include "test.h"

static void query_of(const char *text, Query *ret) {
        Problem problem = {};
        check_int(text, query_parse(text, ret, &problem), 0);
}

static void waits_are_read(void **state) {
        static const struct {
                const char *text;
                usec_t usec;
        } rows[] = {
                { "", 0 },
                { "wait=", 0 },
                { "wait=0", 0 },
                { "wait=0.5", USEC_PER_SEC / 2 },
                { "wait=300", 300 * USEC_PER_SEC },
        };
        static const char *const bad[] = { "wait=-1", "wait=300.1", "wait=soon" };
        usec_t usec = 4711;
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                Problem problem = {};
                query_of(row->text, &query);
                check_int(row->text, task_wait_parse(&query, &usec, &problem), 0);
                check_u64(row->text, usec, row->usec);
        }
        for (FOREACH_ROW(text, bad)) {
                _cleanup_(query_done) Query query = {};
                Problem problem = {};
                query_of(*text, &query);
                check_int(*text, task_wait_parse(&query, &usec, &problem), -EINVAL);
                check_problem(*text, &problem, 400, "/wait");
        }
}

static void output_modes_are_read(void **state) {
        static const struct {
                const char *text;
                int mode; /* or a negative errno */
        } rows[] = {
                { "", OUTPUT_FULL },
                { "output=", OUTPUT_FULL },
                { "output=full", OUTPUT_FULL },
                { "output=tail", OUTPUT_TAIL },
                { "output=none", OUTPUT_NONE },
                { "output=daggyr", -EINVAL },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                OutputMode mode = _OUTPUT_MODE_MAX;
                Problem problem = {};
                query_of(row->text, &query);
                int r = output_mode_parse(&query, &mode, &problem);
                check_int(row->text, r < 0 ? r : (int) mode, row->mode);
                if (r < 0)
                        check_problem(row->text, &problem, 400, "/output");
        }
}

static void requests_for_output_are_read(void **state) {
        static const struct {
                const char *text, *field; /* NULL: it is good */
                OutputRequest wanted;
        } rows[] = {
                { "", NULL, {} },
                { "stream=&offset=&follow=", NULL, {} },
                { "stream=stdout&follow=false", NULL, {} },
                { "stream=stderr&offset=7&follow=true", NULL, { true, 7, true } },
                { "offset=18446744073709551615", NULL, { .offset = UINT64_MAX } },
                { "stream=output", "/stream", {} },
                { "offset=-1", "/offset", {} },
                { "follow=yes", "/follow", {} },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                OutputRequest output;
                Problem problem = {};
                query_of(row->text, &query);
                int r = output_request_parse(&query, &output, &problem);
                check_int(row->text, r, row->field ? -EINVAL : 0);
                if (row->field) {
                        check_problem(row->text, &problem, 400, row->field);
                        continue;
                }
                check_true(row->text, output.is_error == row->wanted.is_error);
                check_u64(row->text, output.offset, row->wanted.offset);
                check_true(row->text, output.follow == row->wanted.follow);
        }
}

static void requests_for_lists_are_read(void **state) {
        _cleanup_(query_done) Query none = {}, all = {};
        TaskListRequest list;
        Problem problem = {};
        query_of("state=&label=&limit=&after=", &none);
        assert_int_equal(task_list_request_parse(&none, 8, &list, &problem), 0);
        assert_null(list.state);
        assert_null(list.labels[0]);
        assert_true(list.limit == TASK_LIST_MAX && list.after == UINT64_MAX);

        query_of("label=a=1&state=killed&limit=2&label=b=&after=0", &all);
        assert_int_equal(task_list_request_parse(&all, 2, &list, &problem), 0);
        check_text("state", list.state, "killed");
        check_text("first", list.labels[0], "a=1");
        check_text("second", list.labels[1], "b=");
        assert_null(list.labels[2]);
        assert_true(list.limit == 2 && list.after == 0);
}

static void bad_requests_for_lists_are_refused(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "state=ending", "/state" },
                { "limit=0", "/limit" },
                { "limit=1001", "/limit" },
                { "after=18446744073709551615", "/after" },
                { "after=last", "/after" },
                { "label=a", "/label" },
                { "label=a=1&label=b=2&label=c=3", "/label" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                TaskListRequest list;
                Problem problem = {};
                query_of(row->text, &query);
                check_int(row->text, task_list_request_parse(&query, 2, &list, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
        }
}

/* As many labels as a query can hold are no more than a list has room for. */
static void a_query_full_of_labels_fits(void **state) {
        _cleanup_(query_done) Query query = {};
        _cleanup_(text_done) Text text = {};
        TaskListRequest list;
        Problem problem = {};
        for (unsigned i = 0; i < QUERY_ITEMS_MAX; i++)
                assert_int_equal(text_appendf(&text, "label=k%u=v&", i), 0);
        query_of(text.data, &query);
        assert_int_equal(task_list_request_parse(&query, QUERY_ITEMS_MAX, &list, &problem), 0);
        assert_non_null(list.labels[QUERY_ITEMS_MAX - 1]);
        assert_null(list.labels[QUERY_ITEMS_MAX]);
}

static void check_page(const char *name, TaskPage *page, uint64_t next, const char *expected) {
        assert_int_equal(task_page_end(page, next), 0);
        if (!streq(page->text.data, expected))
                fail_msg("%s: %s instead of %s", name, page->text.data, expected);
        task_page_done(page);
}

static void pages_are_written_task_by_task(void **state) {
        TaskPage page = {};
        check_page("empty", &page, UINT64_MAX, "{\"tasks\":[],\"next\":null}");
        assert_int_equal(task_page_add(&page, NULL), -ENOMEM);
        assert_int_equal(task_page_add(&page, json_of("{\"a\":1}")), 0);
        assert_int_equal(page.n_tasks, 1);
        assert_false(task_page_is_full(&page, 2));
        assert_true(task_page_is_full(&page, 1));
        assert_int_equal(task_page_add(&page, json_of("{\"b\":2}")), 0);
        assert_int_equal(task_page_add_text(&page, "{}", 2), 0);
        check_page("three", &page, 7, "{\"tasks\":[{\"a\":1},{\"b\":2},{}],\"next\":\"7\"}");
}

static void pages_end_after_so_many_bytes(void **state) {
        TaskPage page = {};
        _cleanup_(freep) char *large = malloc(TASK_PAGE_BYTES_MAX);
        assert_non_null(large);
        memset(large, 'x', TASK_PAGE_BYTES_MAX);
        large[TASK_PAGE_BYTES_MAX - 1] = '\0';
        assert_int_equal(task_page_add(&page, json_object_new_string("x")), 0);
        assert_false(task_page_is_full(&page, TASK_LIST_MAX));
        assert_int_equal(task_page_add(&page, json_object_new_string(large)), 0);
        assert_true(task_page_is_full(&page, TASK_LIST_MAX));
        task_page_done(&page);
}

static void batches_are_arrays(void **state) {
        static const struct {
                const char *body;
                int r;
        } rows[] = { { "[]", 0 }, { "[1]", 0 }, { "{}", -EINVAL }, { "\"\"", -EINVAL } };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *body = json_of(row->body);
                Problem problem = {};
                check_int(row->body, task_batch_check(body, &problem), row->r);
        }
        _cleanup_(json_putp) json_object *many = json_object_new_array();
        Problem problem = {};
        for (size_t i = 0; i < TASK_BATCH_MAX; i++)
                assert_int_equal(json_append(many, json_object_new_object()), 0);
        assert_int_equal(task_batch_check(many, &problem), 0);
        assert_int_equal(json_append(many, json_object_new_object()), 0);
        assert_int_equal(task_batch_check(many, &problem), -EINVAL);
        check_problem("many", &problem, 400, "");
}

static void ids_in_batches_are_found(void **state) {
        static const struct {
                const char *element, *id;
        } rows[] = {
                { "{\"task_id\":\"a\",\"x\":1}", "a" },
                { "{\"task_id\":1}", NULL },
                { "{\"task_id\":null}", NULL },
                { "{}", NULL },
                { "[\"task_id\"]", NULL },
                { "\"task_id\"", NULL },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *element = json_of(row->element);
                check_text(row->element, task_batch_id(element), row->id);
        }
}

static void outcomes_of_batches_are_written(void **state) {
        _cleanup_(json_putp) json_object *is_new = task_batch_accepted("a", true, json_of("{\"b\":1}"));
        _cleanup_(json_putp) json_object *known = task_batch_accepted("a", false, json_of("{}"));
        Problem problem = {};
        (void) problem_set(&problem, 409, NULL, "no");
        _cleanup_(json_putp) json_object *refused = task_batch_refused(NULL, &problem, json_of("{\"c\":2}"));
        check_json("new", is_new, "{\"task_id\":\"a\",\"status\":202,\"attempt\":{\"b\":1}}");
        check_json("known", known, "{\"task_id\":\"a\",\"status\":200,\"attempt\":{}}");
        check_json("refused",
                   refused,
                   "{\"task_id\":null,\"status\":409,\"problem\":{\"type\":\"about:blank\","
                   "\"title\":\"Conflict\",\"status\":409,\"detail\":\"no\",\"c\":2}}");
        assert_null(task_batch_accepted("a", true, NULL));
}

static void paths_are_percent_encoded(void **state) {
        _cleanup_(freep) char *path = NULL;
        assert_int_equal(task_path_format("a b:c%/ü", &path), 0);
        check_text("path", path, "/api/v1/task/a%20b:c%25%2F%C3%BC");
}

static int try_refused(void *userdata) {
        json_object *object = task_batch_refused("a", userdata, NULL);
        json_object_put(object);
        return object ? 0 : -ENOMEM;
}

static int try_path(void *userdata) {
        char *path;
        int r = task_path_format("a", &path);
        if (r >= 0)
                free(path);
        return r;
}

static void failing_allocations_are_reported(void **state) {
        Problem problem = {};
        (void) problem_set(&problem, 409, "/x", "no");
        fail_alloc_loop(try_refused, &problem);
        fail_alloc_loop(try_path, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(waits_are_read),
                cmocka_unit_test(output_modes_are_read),
                cmocka_unit_test(requests_for_output_are_read),
                cmocka_unit_test(requests_for_lists_are_read),
                cmocka_unit_test(bad_requests_for_lists_are_refused),
                cmocka_unit_test(a_query_full_of_labels_fits),
                cmocka_unit_test(pages_are_written_task_by_task),
                cmocka_unit_test(pages_end_after_so_many_bytes),
                cmocka_unit_test(batches_are_arrays),
                cmocka_unit_test(ids_in_batches_are_found),
                cmocka_unit_test(outcomes_of_batches_are_written),
                cmocka_unit_test(paths_are_percent_encoded),
                cmocka_unit_test(failing_allocations_are_reported),
        };
        return cmocka_run_group_tests_name("task-request", tests, NULL, NULL);
}
