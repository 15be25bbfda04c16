/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-queue.h"
#include "fail-alloc.h"
#include "test.h"

static QueueConfig *config_of(const char *text) {
        QueueConfig *config = NULL;
        Problem problem = {};
        if (queue_config_parse(text, strlen(text), false, &config, &problem) < 0)
                fail_msg("%s: %s: %s", text, problem.field, problem.detail);
        return config;
}

static void nothing_configured_means_defaults(void **state) {
        _cleanup_(queue_config_freep) QueueConfig *config = config_of("{}");
        assert_int_equal(config->service.port, 2503);
        assert_string_equal(config->service.ip, "127.0.0.1");
        assert_int_equal(config->n_workers, 0);
        assert_int_equal(config->lease_ttl_usec, 30 * USEC_PER_SEC);
        assert_int_equal(config->lost_after_usec, 30 * USEC_PER_SEC);
        assert_true(config->sharing.enabled && config->sharing.strict);
        assert_string_equal(config->sharing.hosts[0], "127.0.0.1");
        assert_null(config->sharing.hosts[1]);
        assert_int_equal(config->sharing.ports.from, 41000);
        assert_int_equal(config->sharing.ports.to, 41010);
        assert_int_equal(config->ports.from, 0);
        assert_null(config->postgres.conninfo);
        assert_int_equal(config->member_ttl_usec, 10 * USEC_PER_SEC);
        assert_null(queue_config_free(NULL));
}

#define FULL                                                                                                 \
        "{\"workers\":[{\"id\":\"a\",\"url\":\"http://10.0.0.1:2504/\",\"token_file\":\"/t\"},"              \
        "{\"id\":\"b\",\"url\":\"https://b\",\"ca_file\":\"/c\",\"cert_file\":\"/d\",\"key_file\":\"/e\"}]," \
        "\"port_range\":{\"from\":41000,\"to\":41000},\"advertise\":\"q:1\",\"version\":\"v\","              \
        "\"sharing\":{\"enabled\":false,\"hosts\":[\"x\",\"y\"],\"poll_interval\":0.5},"                     \
        "\"lease_ttl\":3,\"lost_after\":1,\"placement\":\"least-impact\",\"state_directory\":\"/s\","        \
        "\"store\":{\"postgresql\":{\"conninfo\":\"host=db1,db2\",\"password_file\":\"/p\"}},\"member_ttl\":3}"

static void what_is_given_is_taken(void **state) {
        _cleanup_(queue_config_freep) QueueConfig *config = config_of(FULL);
        assert_int_equal(config->n_workers, 2);
        assert_string_equal(config->workers[0].url, "http://10.0.0.1:2504");
        assert_string_equal(config->workers[1].key_file, "/e");
        assert_int_equal(config->ports.to, 41000);
        assert_string_equal(config->sharing.hosts[1], "y");
        assert_int_equal(config->sharing.poll_interval_usec, USEC_PER_SEC / 2);
        assert_int_equal(config->lease_ttl_usec, 3 * USEC_PER_SEC);
        assert_string_equal(config->postgres.conninfo, "host=db1,db2");
        assert_string_equal(config->postgres.password_file, "/p");
        assert_int_equal(config->member_ttl_usec, 3 * USEC_PER_SEC);
}

static void the_local_file_can_be_named(void **state) {
        _cleanup_(queue_config_freep) QueueConfig *config = config_of("{\"store\":{\"sqlite\":{}}}");
        assert_null(config->postgres.conninfo);
}

static void what_cannot_be_is_refused(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "{\"workers\":{}}", "/workers" },
                { "{\"workers\":[{\"id\":\"a\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"url\":\"http://a\"}]}", "/workers/0/id" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"ftp://a\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http://\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http:///\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http://a/b\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http://u@a\"}]}", "/workers/0/url" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http://a\"},{\"id\":\"a\",\"url\":\"http://b\"}]}",
                  "/workers/1" },
                { "{\"workers\":[{\"id\":\"a\",\"url\":\"http://a\"},{\"id\":\"b\",\"url\":\"http://a/\"}]}",
                  "/workers/1" },
                { "{\"port_range\":{\"from\":2,\"to\":1}}", "/port_range" },
                { "{\"port_range\":{\"from\":2}}", "/port_range/to" },
                { "{\"sharing\":{\"port_range\":{\"from\":1,\"to\":65535}}}", "/sharing" },
                { "{\"sharing\":{\"often\":1}}", "/sharing/often" },
                { "{\"placement\":\"random\"}", "/placement" },
                { "{\"lease_ttl\":0}", "/lease_ttl" },
                { "{\"lost_after\":4000}", "/lost_after" },
                { "{\"store\":{}}", "/store" },
                { "{\"store\":{\"etcd\":{}}}", "/store/etcd" },
                { "{\"store\":{\"sqlite\":{\"path\":\"/x\"}}}", "/store/sqlite/path" },
                { "{\"store\":{\"postgresql\":{}}}", "/store/postgresql/conninfo" },
                { "{\"store\":{\"sqlite\":{},\"postgresql\":{\"conninfo\":\"\"}}}", "/store" },
                { "{\"member_ttl\":2}", "/member_ttl" },
                { "{\"capacity_overrides\":{}}", "/capacity_overrides" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(queue_config_freep) QueueConfig *config = NULL;
                Problem problem = {};
                check_true(row->text,
                           queue_config_parse(row->text, strlen(row->text), false, &config, &problem) < 0);
                check_true(row->text, !config);
                check_problem(row->text, &problem, 400, row->field);
        }
}

static int try_parse(void *userdata) {
        _cleanup_(queue_config_freep) QueueConfig *config = NULL;
        Problem problem = {};
        return queue_config_parse(FULL, strlen(FULL), false, &config, &problem);
}

static void memory_may_run_out(void **state) {
        fail_alloc_loop(try_parse, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_configured_means_defaults),
                cmocka_unit_test(what_is_given_is_taken),
                cmocka_unit_test(the_local_file_can_be_named),
                cmocka_unit_test(what_cannot_be_is_refused),
                cmocka_unit_test(memory_may_run_out),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
