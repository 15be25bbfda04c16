/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "core/http/forward-rule.h"
#include "fail-alloc.h"
#include "test.h"

typedef struct Row {
        const char *method, *path, *query, *body;
        bool expected;
} Row;

static bool may_repeat(const Row *row) {
        Query query = {};
        Problem problem = {};
        const char *body = row->body ?: "";
        check_int(row->path, query_parse(row->query ?: "", &query, &problem), 0);
        bool result = forward_may_repeat(row->method, row->path, &query, body, strlen(body));
        query_done(&query);
        return result;
}

static void what_comes_to_the_same_may_be_repeated(void **state) {
        static const Row rows[] = {
                { "GET", "/api/v1/task/7", "wait=10", NULL, true },
                { "HEAD", "/api/v1/tasks", NULL, NULL, true },
                { "PUT", "/api/v1/drain", NULL, "{\"drain\":true}", true },
                { "POST", "/api/v1/task/7", NULL, "{}", true },
                { "POST", "/api/v1/task/a%2Fb", NULL, "{}", true },
                { "POST", "/api/v1/workers", NULL, "{}", true },
                { "DELETE", "/api/v1/workers/mac1", NULL, NULL, true },
                { "POST", "/api/v1/tasks/stop", NULL, "{}", true },
                { "POST", "/api/v1/tasks/forget", NULL, "{}", true },
                /* A second task, a second try, a result that is forgotten: */
                { "POST", "/api/v1/task", NULL, "{}", false },
                { "POST", "/api/v1/task/", NULL, "{}", false },
                { "POST", "/api/v1/task/7/retry", NULL, NULL, false },
                { "POST", "/api/v1/tasks/retry", NULL, "{}", false },
                { "DELETE", "/api/v1/task/7", NULL, NULL, false },
                { "DELETE", "/api/v1/task/7", "keep=false", NULL, false },
                { "DELETE", "/api/v1/task/7", "keep=true", NULL, true },
                { "POST", "/workersToUtilize", NULL, "{}", false },
                { "PATCH", "/api/v1/task/7", NULL, NULL, false },
        };
        for (FOREACH_ROW(row, rows))
                check_int(row->path, may_repeat(row), row->expected);
}

static void a_batch_may_be_repeated_when_each_task_has_an_id(void **state) {
        static const Row rows[] = {
                { "POST", "/api/v1/tasks", NULL, "[{\"task_id\":\"1\"},{\"task_id\":\"2\"}]", true },
                { "POST", "/api/v1/tasks", NULL, "[]", true },
                { "POST", "/api/v1/tasks", NULL, "[{\"task_id\":\"1\"},{\"command\":[\"a\"]}]", false },
                { "POST", "/api/v1/tasks", NULL, "[\"task_id\"]", false },
                { "POST", "/api/v1/tasks", NULL, "{\"task_id\":\"1\"}", false },
                { "POST", "/api/v1/tasks", NULL, "[{\"task_id\":", false },
                { "POST", "/api/v1/tasks", NULL, "", false },
        };
        for (FOREACH_ROW(row, rows))
                check_int(row->body, may_repeat(row), row->expected);
}

static void a_lack_of_memory_repeats_nothing(void **state) {
        const Row row = { "POST", "/api/v1/tasks", NULL, "[{\"task_id\":\"1\"}]", true };
        Query query = {};
        fail_alloc_next();
        check_int(row.body,
                  forward_may_repeat(row.method, row.path, &query, row.body, strlen(row.body)),
                  false);
}

static void what_a_client_waits_for_is_told_from_the_rest(void **state) {
        static const struct {
                const char *path, *query;
                bool expected;
        } rows[] = {
                { "/api/v1/task/7", "wait=5", true },
                { "/api/v1/task/7", "wait=", false },
                { "/api/v1/task/7", "output=full", false },
                { "/api/v1/task/7/output", "stream=stdout&follow=true", true },
                { "/api/v1/events", "", true },
                { "/api/v1/tasks", "state=queued", false },
        };
        for (FOREACH_ROW(row, rows)) {
                Query query = {};
                Problem problem = {};
                check_int(row->path, query_parse(row->query, &query, &problem), 0);
                check_int(row->query, forward_may_wait(row->path, &query), row->expected);
                query_done(&query);
        }
}

static void no_header_that_says_who_is_asking_goes_along(void **state) {
        static const char *const kept[] = { "Authorization",  "Cookie", "Origin",
                                            "Sec-Fetch-Site", "Host",   FORWARD_HEADER };
        for (FOREACH_ROW(name, kept))
                for (const char *const *passed = forward_request_headers; *passed; passed++)
                        check_true(*name, strcasecmp(*name, *passed) != 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_comes_to_the_same_may_be_repeated),
                cmocka_unit_test(a_batch_may_be_repeated_when_each_task_has_an_id),
                cmocka_unit_test(a_lack_of_memory_repeats_nothing),
                cmocka_unit_test(what_a_client_waits_for_is_told_from_the_rest),
                cmocka_unit_test(no_header_that_says_who_is_asking_goes_along),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
