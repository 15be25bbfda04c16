/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-worker.h"
#include "core/scheduling/worker-id.h"
#include "test.h"

static int read_joining(const char *text, WorkerConfig *ret, Problem *problem) {
        json_object *body = NULL;
        *ret = (WorkerConfig) {};
        *problem = (Problem) {};
        assert_int_equal(json_parse(text, strlen(text), &body, problem), 0);
        int r = worker_config_read_joining(body, ret, problem);
        json_object_put(body);
        return r;
}

static void who_joins_says_its_id_url_and_token(void **state) {
        WorkerConfig worker;
        Problem problem;
        int r = read_joining(
                        "{\"id\":\"x'; DROP TABLE workers; --\",\"url\":\"http://[::1]:2504/\","
                        "\"token\":\"0123456789abcdef\"}",
                        &worker,
                        &problem);
        assert_int_equal(r, 0);
        assert_string_equal(worker.id, "x'; DROP TABLE workers; --");
        assert_string_equal(worker.url, "http://[::1]:2504");
        assert_string_equal(worker.token, "0123456789abcdef");

        WorkerConfig copy;
        assert_int_equal(worker_config_copy(&worker, &copy), 0);
        assert_string_equal(copy.token, worker.token);
        assert_null(copy.ca_file);
        worker_config_done(&copy);
        worker_config_done(&worker);
        assert_null(worker.id);
}

static void what_is_no_worker_is_refused_by_its_key(void **state) {
        static const struct {
                const char *body, *field;
        } rows[] = {
                { "{}", "/id" },
                { "{\"id\":\"a\"}", "/url" },
                { "{\"id\":\"\",\"url\":\"http://a\"}", "/id" },
                { "{\"id\":1,\"url\":\"http://a\"}", "/id" },
                { "{\"id\":\"a\",\"url\":\"a:2504\"}", "/url" },
                { "{\"id\":\"a\",\"url\":\"http://a/path\"}", "/url" },
                { "{\"id\":\"a\",\"url\":\"http://u@a\"}", "/url" },
                { "{\"id\":\"a\",\"url\":\"http://a b\"}", "/url" },
                { "{\"id\":\"a\",\"url\":\"http://a\",\"token\":\"short\"}", "/token" },
                { "{\"id\":\"a\",\"url\":\"http://a\",\"token\":\"0123456789abcde\\u00e4\"}", "/token" },
                { "{\"id\":\"a\",\"url\":\"http://a\",\"token\":\"0123456789 abcdef\"}", "/token" },
                { "{\"id\":\"a\",\"url\":\"http://a\",\"token\":\"0123456789abcdef\\n\"}", "/token" },
                { "{\"id\":\"a\",\"url\":\"http://a\",\"token_file\":\"/etc/shadow\"}", "/token_file" },
                { "{\"id\":\"a\",\"url\":\"https://a\",\"ca_file\":\"/etc/shadow\"}", "/ca_file" },
        };
        for (FOREACH_ROW(row, rows)) {
                WorkerConfig worker;
                Problem problem;
                assert_int_equal(read_joining(row->body, &worker, &problem), -EINVAL);
                assert_int_equal(problem.status, 400);
                assert_string_equal(problem.field, row->field);
                worker_config_done(&worker);
        }
}

static void an_id_has_a_longest_length(void **state) {
        char id[WORKER_ID_MAX + 2], body[2 * sizeof(id)];
        for (size_t size = WORKER_ID_MAX; size <= WORKER_ID_MAX + 1; size++) {
                WorkerConfig worker;
                Problem problem;
                memset(id, 'i', size);
                id[size] = '\0';
                (void) snprintf(body, sizeof(body), "{\"id\":\"%s\",\"url\":\"http://a\"}", id);
                assert_int_equal(read_joining(body, &worker, &problem), size > WORKER_ID_MAX ? -EINVAL : 0);
                worker_config_done(&worker);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_joins_says_its_id_url_and_token),
                cmocka_unit_test(what_is_no_worker_is_refused_by_its_key),
                cmocka_unit_test(an_id_has_a_longest_length),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
