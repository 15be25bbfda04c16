/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/http/query.h"
#include "core/http/route.h"
#include "fail-alloc.h"
#include "test.h"

enum {
        READY,
        ROOT,
        SUBMIT_ANY,
        TASK_GET,
        TASK_SUBMIT,
        TASK_DELETE,
        TASK_OUTPUT,
        LEASE_RENEW,
        DAGGYR_RUN,
        DAGGYR_STOP,
        HEAD_ITSELF,
        HEAD_GET,
        OTHER_NAME_GET,
        OTHER_NAME_PUT,
        NUMBER,
        ANY_METHOD,
};

/* The pattern with parameters only stands first, to lose nonetheless. */
static const Route table[] = {
        { "POST", "/api/v1/{run_id}/{task_id}", DAGGYR_RUN },
        { "DELETE", "/api/v1/{run_id}/{task_id}", DAGGYR_STOP },
        { "GET", "/ready", READY },
        { "GET", "/", ROOT },
        { "POST", "/api/v1/task", SUBMIT_ANY },
        { "GET", "/api/v1/task/{task_id}", TASK_GET },
        { "POST", "/api/v1/task/{task_id}", TASK_SUBMIT },
        { "DELETE", "/api/v1/task/{task_id}", TASK_DELETE },
        { "GET", "/api/v1/task/{task_id}/output", TASK_OUTPUT },
        { "PUT", "/api/v1/lease/{lease_id}", LEASE_RENEW },
        { "HEAD", "/head", HEAD_ITSELF },
        { "GET", "/head", HEAD_GET },
        { "GET", "/other/{a}", OTHER_NAME_GET },
        { "PUT", "/other/{b}", OTHER_NAME_PUT },
        { "GET", "/number/{#n}/{x}", NUMBER },
        { ROUTE_METHOD_ANY, "/any", ANY_METHOD },
        { ROUTE_METHOD_ANY, "/any/", ANY_METHOD },
};

static int find(const char *method, const char *path, RouteMatch *ret, Problem *ret_problem) {
        return route_find(table, N_ELEMENTS(table), method, path, ret, ret_problem);
}

static void paths_lead_to_their_routes(void **state) {
        static const struct {
                const char *method, *path;
                int id;
                const char *parameters[ROUTE_PARAMETERS_MAX];
        } rows[] = {
                { "GET", "/ready", READY, { 0 } },
                { "GET", "/", ROOT, { 0 } },
                { "POST", "/api/v1/task", SUBMIT_ANY, { 0 } },
                { "GET", "/api/v1/task/7", TASK_GET, { "7" } },
                { "POST", "/api/v1/task/7", TASK_SUBMIT, { "7" } },
                { "DELETE", "/api/v1/task/7", TASK_DELETE, { "7" } },
                { "GET", "/api/v1/task/7/output", TASK_OUTPUT, { "7" } },
                { "POST", "/api/v1/12/7", DAGGYR_RUN, { "12", "7" } },
                { "DELETE", "/api/v1/12/7", DAGGYR_STOP, { "12", "7" } },
                { "PUT", "/other/x", OTHER_NAME_PUT, { "x" } },
                { "GET", "/other/x", OTHER_NAME_GET, { "x" } },
                { "GET", "/number/0/x", NUMBER, { "0", "x" } },
                { "GET", "/number/0123456789/7", NUMBER, { "0123456789", "7" } },
                { "HEAD", "/ready", READY, { 0 } },
                { "HEAD", "/api/v1/task/7", TASK_GET, { "7" } },
                { "HEAD", "/head", HEAD_ITSELF, { 0 } },
                { "GET", "/head", HEAD_GET, { 0 } },
                { "GET", "/api/v1/task/output", TASK_GET, { "output" } },
                { "GET", "/api/v1/task/..", TASK_GET, { ".." } },
                { "POST", "/any", ANY_METHOD, { 0 } },
                { "HEAD", "/any/", ANY_METHOD, { 0 } },
                { "BREW", "/any", ANY_METHOD, { 0 } },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(route_match_done) RouteMatch match = {};
                Problem problem = {};
                size_t n = 0;

                check_int(row->path, find(row->method, row->path, &match, &problem), 0);
                check_int(row->path, match.id, row->id);
                check_int(row->path, match.route->id, row->id);
                for (; n < ROUTE_PARAMETERS_MAX && row->parameters[n]; n++)
                        check_text(row->path, match.parameters[n], row->parameters[n]);
                check_u64(row->path, match.n_parameters, n);
        }
}

static void parameters_are_percent_decoded(void **state) {
        static const struct {
                const char *segment, *value;
        } rows[] = {
                { "a%20b", "a b" },
                { "a%2Fb", "a/b" },
                { "%2f", "/" },
                { "%2e%2E", ".." },
                { "%25", "%" },
                { "%2525", "%25" },
                { "a+b", "a+b" },
                { "%C3%BC", "\xc3\xbc" },
                { "\xc3\xbc", "\xc3\xbc" },
                { "{task_id}", "{task_id}" },
                { "%61", "a" },
                { "a;b=c", "a;b=c" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(route_match_done) RouteMatch match = {};
                _cleanup_(text_done) Text path = {};
                Problem problem = {};

                check_int(row->segment, text_appendf(&path, "/api/v1/task/%s/output", row->segment), 0);
                check_int(row->segment, find("GET", path.data, &match, &problem), 0);
                check_int(row->segment, match.id, TASK_OUTPUT);
                check_text(row->segment, match.parameters[0], row->value);
        }
}

static void malformed_parameters_are_refused(void **state) {
        static const char *const segments[] = { "%",     "%2",  "a%",   "%zz", "%00",
                                                "a%00b", "%ff", "\xff", "%C3", "%-1" };

        for (FOREACH_ROW(segment, segments)) {
                _cleanup_(text_done) Text path = {};
                RouteMatch match;
                Problem problem = {};

                check_int(*segment, text_appendf(&path, "/api/v1/12/%s", *segment), 0);
                check_int(*segment, find("POST", path.data, &match, &problem), -EINVAL);
                check_problem(*segment, &problem, 400, "");
                check_u64(*segment, match.n_parameters, 0);
        }
}

static void other_paths_lead_nowhere(void **state) {
        static const char *const paths[] = {
                "",
                "ready",
                "*",
                "//",
                "/ready/",
                "//ready",
                "/Ready",
                "/read",
                "/readyx",
                "/r%65ady",
                "/api/v1",
                "/api/v1/",
                "/api/v1/task/",
                "/api/v1//7",
                "/api/v1/7/",
                "/api/v1/task//output",
                "/api/v1/task/7/",
                "/api/v1/task/7/output/",
                "/api/v1/task/7/outputs",
                "/api/v1/task/7/output/8",
                "/api/v2/task/7",
                "http://localhost/ready",
                "/number//x",
                "/number/x/7",
                "/number/7x/7",
                "/number/-7/7",
                "/number/%37/7",
                "/number/7",
        };

        for (FOREACH_ROW(path, paths)) {
                RouteMatch match;
                Problem problem = {};

                check_int(*path, find("GET", *path, &match, &problem), -ENOENT);
                check_problem(*path, &problem, 404, "");
                check_text(*path, match.allow, "");
        }
}

static void wrong_methods_are_told_the_right_ones(void **state) {
        static const struct {
                const char *method, *path, *allow;
        } rows[] = {
                { "POST", "/ready", "GET, HEAD" },
                { "OPTIONS", "/ready", "GET, HEAD" },
                { "get", "/ready", "GET, HEAD" },
                { "", "/ready", "GET, HEAD" },
                { "PUT", "/api/v1/task/7", "GET, HEAD, POST, DELETE" },
                { "GET", "/api/v1/12/7", "POST, DELETE" },
                { "HEAD", "/api/v1/task", "POST" },
                { "POST", "/api/v1/lease/7", "PUT" }, /* not the route of two parameters */
                { "POST", "/other/x", "GET, HEAD, PUT" },
                { "POST", "/head", "HEAD, GET" },
                { "PUT", "/api/v1/task/%zz", "GET, HEAD, POST, DELETE" },
        };

        for (FOREACH_ROW(row, rows)) {
                RouteMatch match;
                Problem problem = {};

                check_int(row->path, find(row->method, row->path, &match, &problem), -EOPNOTSUPP);
                check_problem(row->path, &problem, 405, "");
                check_text(row->path, match.allow, row->allow);
                check_u64(row->path, match.n_parameters, 0);
        }
}

static void the_first_literal_from_the_left_decides(void **state) {
        static const Route routes[] = {
                { "GET", "/{a}/b", 1 },
                { "GET", "/a/{b}", 2 },
                { "GET", "/{a}/{b}", 3 },
        };
        static const struct {
                const char *path;
                int id;
        } rows[] = { { "/a/b", 2 }, { "/x/b", 1 }, { "/a/x", 2 }, { "/x/y", 3 } };

        for (FOREACH_ROW(row, rows))
                for (size_t first = 0; first < N_ELEMENTS(routes); first++) {
                        Route turned[N_ELEMENTS(routes)];
                        _cleanup_(route_match_done) RouteMatch match = {};
                        Problem problem = {};

                        for (size_t i = 0; i < N_ELEMENTS(routes); i++)
                                turned[i] = routes[(first + i) % N_ELEMENTS(routes)];

                        check_int(row->path,
                                  route_find(turned, N_ELEMENTS(turned), "GET", row->path, &match, &problem),
                                  0);
                        check_int(row->path, match.id, row->id);
                }
}

static void an_empty_table_has_no_routes(void **state) {
        RouteMatch match;
        Problem problem = {};

        check_int("empty", route_find(NULL, 0, "GET", "/", &match, &problem), -ENOENT);
}

static int try_find(void *userdata) {
        _cleanup_(route_match_done) RouteMatch match = {};
        Problem problem = {};

        return find("POST", "/api/v1/12/7", &match, &problem);
}

static void without_memory_there_is_no_match(void **state) {
        fail_alloc_loop(try_find, NULL);
}

static void queries_are_split_and_decoded(void **state) {
        static const struct {
                const char *text;
                const char *items[8]; /* name, value, name, value, … */
        } rows[] = {
                { "", { 0 } },
                { "&", { 0 } },
                { "&&&", { 0 } },
                { "wait=30", { "wait", "30" } },
                { "a=1&b=2", { "a", "1", "b", "2" } },
                { "&a=1&&b=2&", { "a", "1", "b", "2" } },
                { "a", { 0 } },
                { "a=", { 0 } },
                { "a=&b=2&c", { "b", "2" } },
                { "a=&a=1&a=", { "a", "1" } },
                { "a=%20", { "a", " " } },
                { "=a", { "", "a" } },
                { "=", { 0 } },
                { "label=k=v", { "label", "k=v" } },
                { "label=k%3Dv", { "label", "k=v" } },
                { "a%26b=c%26d", { "a&b", "c&d" } },
                { "a+b=c+d", { "a b", "c d" } },
                { "a=%2B", { "a", "+" } },
                { "a=1&a=2", { "a", "1", "a", "2" } },
                { "a=?#/", { "a", "?#/" } },
                { "a=%C3%BC", { "a", "\xc3\xbc" } },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                Problem problem = {};
                size_t n = 0;

                check_int(row->text, query_parse(row->text, &query, &problem), 0);
                for (; row->items[2 * n]; n++) {
                        check_true(row->text, n < query.n_items);
                        check_text(row->text, query.items[n].name, row->items[2 * n]);
                        check_text(row->text, query.items[n].value, row->items[2 * n + 1]);
                }
                check_u64(row->text, query.n_items, n);
        }
}

static void malformed_queries_are_refused(void **state) {
        static const char *const texts[] = { "%",        "a=%",   "%zz=1",  "a=%00", "%00",
                                             "a=1&b=%f", "a=%ff", "a=\xff", "%zz=" };

        for (FOREACH_ROW(text, texts)) {
                Query query = {};
                Problem problem = {};

                check_int(*text, query_parse(*text, &query, &problem), -EINVAL);
                check_problem(*text, &problem, 400, "");
                assert_null(query.items);
        }
}

static void a_query_has_up_to_32_items(void **state) {
        _cleanup_(text_done) Text text = {};
        _cleanup_(query_done) Query query = {};
        Problem problem = {};

        for (int i = 0; i < QUERY_ITEMS_MAX; i++)
                check_int("append", text_appendf(&text, "a%d=1&b=&", i), 0);
        check_int("fits", query_parse(text.data, &query, &problem), 0);
        check_u64("fits", query.n_items, QUERY_ITEMS_MAX);
        query_done(&query);

        check_int("append", text_append(&text, "b=1"), 0);
        check_int("one too many", query_parse(text.data, &query, &problem), -EINVAL);
        check_problem("one too many", &problem, 400, "");
}

static void the_first_of_a_name_is_found(void **state) {
        _cleanup_(query_done) Query query = {};
        Problem problem = {};

        check_int("parse", query_parse("a=1&b=2&a=3&c", &query, &problem), 0);
        check_text("first", query_get(&query, "a"), "1");
        check_text("other", query_get(&query, "b"), "2");
        check_text("empty", query_get(&query, "c"), NULL);
        check_text("absent", query_get(&query, "d"), NULL);
}

static void unknown_and_doubled_items_are_found_out(void **state) {
        static const char *const names[] = { "wait", "output", "label", NULL };
        static const char *const repeatable[] = { "label", NULL };
        static const struct {
                const char *text;
                bool any_repeatable;
                int r;
        } rows[] = {
                { "", true, 0 },
                { "wait=1&output=none", true, 0 },
                { "label=a=1&label=b=2", true, 0 },
                { "label=a=1&label=a=1", true, 0 },
                { "label=a=1&label=b=2", false, -EINVAL },
                { "wait=1&wait=1", true, -EINVAL },
                { "wait=1&output=full&wait=2", true, -EINVAL },
                { "Wait=1", true, -EINVAL },
                { "wai=1", true, -EINVAL },
                { "=1", true, -EINVAL },
                { "wait=1&wait=", true, 0 },
                { "wait=&label=&x=", true, 0 },
                { "wait=1&x=1", true, -EINVAL },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                Problem problem = {};

                check_int(row->text, query_parse(row->text, &query, &problem), 0);
                check_int(row->text,
                          query_check(&query, names, row->any_repeatable ? repeatable : NULL, &problem),
                          row->r);
                if (row->r < 0)
                        check_problem(row->text, &problem, 400, "");
        }
}

static int try_query(void *userdata) {
        _cleanup_(query_done) Query query = {};
        Problem problem = {};

        return query_parse(userdata, &query, &problem);
}

static void without_memory_there_is_no_query(void **state) {
        char text[] = "a=1&b=2";

        fail_alloc_loop(try_query, text);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_lead_to_their_routes),
                cmocka_unit_test(parameters_are_percent_decoded),
                cmocka_unit_test(malformed_parameters_are_refused),
                cmocka_unit_test(other_paths_lead_nowhere),
                cmocka_unit_test(wrong_methods_are_told_the_right_ones),
                cmocka_unit_test(the_first_literal_from_the_left_decides),
                cmocka_unit_test(an_empty_table_has_no_routes),
                cmocka_unit_test(without_memory_there_is_no_match),
                cmocka_unit_test(queries_are_split_and_decoded),
                cmocka_unit_test(malformed_queries_are_refused),
                cmocka_unit_test(a_query_has_up_to_32_items),
                cmocka_unit_test(the_first_of_a_name_is_found),
                cmocka_unit_test(unknown_and_doubled_items_are_found_out),
                cmocka_unit_test(without_memory_there_is_no_query),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
