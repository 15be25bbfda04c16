/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-runner.h"
#include "fail-alloc.h"
#include "test.h"

/* The configuration of TEXT, which must be good. The caller frees it. */
static RunnerConfig *config_of(const char *text) {
        RunnerConfig *config = NULL;
        Problem problem = {};
        int r;

        r = runner_config_parse(text, strlen(text), false, &config, &problem);
        if (r < 0)
                fail_msg("%s: %s: %s", text, problem.field, problem.detail);
        return config;
}

static void check_defaults(const RunnerConfig *config) {
        assert_string_equal(config->service.ip, "127.0.0.1");
        assert_int_equal(config->service.port, 2504);
        assert_int_equal(config->service.web_threads, 50);
        assert_false(config->capacity_overrides.cores_set);
        assert_false(config->capacity_overrides.memory_set);
        assert_int_equal(config->capacity_overrides.amounts.n_named, 0);
        assert_int_equal(config->default_resources.cores_micro, CORES_MICRO_PER_CORE);
        assert_int_equal(config->default_resources.memory_mb, 512);
        assert_string_equal(config->task_user, "daggyr-task");
        assert_non_null(config->allowed_users);
        assert_null(config->allowed_users[0]);
        assert_null(config->pass_environment[0]);
        assert_null(config->service.allowed_hosts[0]);
        assert_int_equal(config->queue_max, 1000);
        assert_int_equal(config->results_max, 10000);
        assert_true(config->result_ttl_usec == 3600 * USEC_PER_SEC);
        assert_int_equal(config->output_max_bytes, 16777216);
        assert_int_equal(config->inline_output_bytes, 1048576);
        assert_int_equal(config->service.body_max_bytes, 1048576);
        assert_true(config->journal);
        assert_false(config->require_lease);
        assert_false(config->service.insecure);
        assert_null(config->service.auth_token_file);
        assert_null(config->service.tls_cert);
        assert_null(config->service.tls_key);
        assert_null(config->service.tls_client_ca);
}

static void nothing_configured_means_defaults(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *absent = NULL, *empty = config_of("{}");
        Problem problem = {};

        check_defaults(empty);
        assert_int_equal(runner_config_parse(NULL, 0, false, &absent, &problem), 0);
        check_defaults(absent);
        assert_null(runner_config_free(NULL));
}

static void every_key_is_read(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = config_of(
                        "{\"ip\":\"10.0.0.1\",\"port\":0,\"web-threads\":1,"
                        "\"capacity_overrides\":{\"cores\":10,\"memory_mb\":100,\"gpu\":2},"
                        "\"default_resources\":{\"cores\":0.5,\"gpu\":1},"
                        "\"task_user\":\"worker\",\"allowed_users\":[\"a\",\"b\"],"
                        "\"pass_environment\":[\"PATH\"],\"queue_max\":0,\"results_max\":1,\"result_ttl\":0.5,"
                        "\"output_max_bytes\":2,\"inline_output_bytes\":3,\"body_max_bytes\":1024,"
                        "\"journal\":false,\"require_lease\":true,\"allowed_hosts\":[\"h.example\"],"
                        "\"insecure\":true,\"auth\":{\"token_file\":\"/t\"},"
                        "\"tls\":{\"cert\":\"/c\",\"key\":\"/k\",\"client_ca\":\"/a\"}}");

        assert_string_equal(config->service.ip, "10.0.0.1");
        assert_int_equal(config->service.port, 0);
        assert_int_equal(config->service.web_threads, 1);
        assert_true(config->capacity_overrides.cores_set);
        assert_true(config->capacity_overrides.memory_set);
        assert_int_equal(config->capacity_overrides.amounts.cores_micro, 10 * CORES_MICRO_PER_CORE);
        assert_int_equal(config->capacity_overrides.amounts.memory_mb, 100);
        assert_int_equal(resources_named_get(&config->capacity_overrides.amounts, "gpu"), 2);
        assert_int_equal(config->default_resources.cores_micro, 500000);
        assert_int_equal(config->default_resources.memory_mb, 512);
        assert_int_equal(resources_named_get(&config->default_resources, "gpu"), 1);
        assert_string_equal(config->task_user, "worker");
        assert_int_equal(text_list_count(config->allowed_users), 2);
        assert_string_equal(config->allowed_users[1], "b");
        assert_string_equal(config->pass_environment[0], "PATH");
        assert_int_equal(config->queue_max, 0);
        assert_int_equal(config->results_max, 1);
        assert_int_equal(config->result_ttl_usec, 500000);
        assert_int_equal(config->output_max_bytes, 2);
        assert_int_equal(config->inline_output_bytes, 3);
        assert_int_equal(config->service.body_max_bytes, 1024);
        assert_false(config->journal);
        assert_true(config->require_lease);
        assert_string_equal(config->service.allowed_hosts[0], "h.example");
        assert_true(config->service.insecure);
        assert_string_equal(config->service.auth_token_file, "/t");
        assert_string_equal(config->service.tls_cert, "/c");
        assert_string_equal(config->service.tls_key, "/k");
        assert_string_equal(config->service.tls_client_ca, "/a");
}

static void upper_bounds_are_within(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = config_of(
                        "{\"port\":65535,\"web-threads\":10000,\"queue_max\":100000,\"results_max\":1000000,"
                        "\"result_ttl\":2592000,\"output_max_bytes\":1099511627776,"
                        "\"inline_output_bytes\":67108864,\"body_max_bytes\":67108864}");

        assert_int_equal(config->service.port, 65535);
        assert_int_equal(config->service.web_threads, 10000);
        assert_int_equal(config->queue_max, 100000);
        assert_int_equal(config->results_max, 1000000);
        assert_true(config->result_ttl_usec == 2592000 * USEC_PER_SEC);
        assert_true(config->output_max_bytes == UINT64_C(1099511627776));
        assert_int_equal(config->inline_output_bytes, 67108864);
        assert_int_equal(config->service.body_max_bytes, 67108864);
}

static void zero_cores_means_all_of_them(void **state) {
        static const char *const rows[] = {
                "{\"capacity_overrides\":{\"cores\":0}}",
                "{\"capacity_overrides\":{\"cores\":0.0}}",
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(runner_config_freep) RunnerConfig *config = config_of(*row);

                check_true(*row, config->capacity_overrides.cores_set);
                check_true(*row, !config->capacity_overrides.memory_set);
                check_u64(*row, config->capacity_overrides.amounts.cores_micro, 0);
        }
}

static void bad_values_name_their_key(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "{", "" },
                { "[]", "" },
                { "null", "" },
                { " ", "" },
                { "{\"port\":1,\"port\":1}", "" },
                { "{\"prot\":1}", "/prot" },
                { "{\"web_threads\":1}", "/web_threads" },
                { "{\"port\":null}", "/port" },
                { "{\"port\":65536}", "/port" },
                { "{\"port\":-1}", "/port" },
                { "{\"port\":\"2504\"}", "/port" },
                { "{\"port\":2504.5}", "/port" },
                { "{\"ip\":\"example.com\"}", "/ip" },
                { "{\"ip\":\"\"}", "/ip" },
                { "{\"ip\":\"127.1\"}", "/ip" },
                { "{\"ip\":\"127.0.0.1 \"}", "/ip" },
                { "{\"ip\":\"[::1]\"}", "/ip" },
                { "{\"ip\":\"127.0.0.1:80\"}", "/ip" },
                { "{\"ip\":\"LOCALHOST\"}", "/ip" },
                { "{\"ip\":1}", "/ip" },
                { "{\"ip\":[\"127.0.0.1\"]}", "/ip" },
                { "{\"web-threads\":0}", "/web-threads" },
                { "{\"web-threads\":10001}", "/web-threads" },
                { "{\"capacity_overrides\":[]}", "/capacity_overrides" },
                { "{\"capacity_overrides\":{\"cores\":-1}}", "/capacity_overrides/cores" },
                { "{\"capacity_overrides\":{\"cores\":0.001}}", "/capacity_overrides/cores" },
                { "{\"capacity_overrides\":{\"cores\":\"all\"}}", "/capacity_overrides/cores" },
                { "{\"capacity_overrides\":{\"memory_mb\":0}}", "/capacity_overrides/memory_mb" },
                { "{\"capacity_overrides\":{\"GPU\":1}}", "/capacity_overrides/GPU" },
                { "{\"capacity_overrides\":{\"gpu\":-1}}", "/capacity_overrides/gpu" },
                { "{\"default_resources\":{\"cores\":0}}", "/default_resources/cores" },
                { "{\"default_resources\":5}", "/default_resources" },
                { "{\"task_user\":\"\"}", "/task_user" },
                { "{\"allowed_users\":\"a\"}", "/allowed_users" },
                { "{\"allowed_users\":[\"a\",\"\"]}", "/allowed_users/1" },
                { "{\"allowed_users\":[1]}", "/allowed_users/0" },
                { "{\"pass_environment\":[\"A\",\"B=1\"]}", "/pass_environment/1" },
                { "{\"pass_environment\":[\"\"]}", "/pass_environment/0" },
                { "{\"pass_environment\":{\"A\":\"1\"}}", "/pass_environment" },
                { "{\"queue_max\":100001}", "/queue_max" },
                { "{\"results_max\":1000001}", "/results_max" },
                { "{\"result_ttl\":-1}", "/result_ttl" },
                { "{\"result_ttl\":2592000.1}", "/result_ttl" },
                { "{\"output_max_bytes\":1099511627777}", "/output_max_bytes" },
                { "{\"inline_output_bytes\":67108865}", "/inline_output_bytes" },
                { "{\"body_max_bytes\":1023}", "/body_max_bytes" },
                { "{\"body_max_bytes\":67108865}", "/body_max_bytes" },
                { "{\"journal\":\"yes\"}", "/journal" },
                { "{\"require_lease\":1}", "/require_lease" },
                { "{\"allowed_hosts\":[\"\"]}", "/allowed_hosts/0" },
                { "{\"insecure\":0}", "/insecure" },
                { "{\"auth\":{}}", "/auth/token_file" },
                { "{\"auth\":\"t\"}", "/auth" },
                { "{\"auth\":{\"token\":\"secret\"}}", "/auth/token" },
                { "{\"auth\":{\"token_file\":\"\"}}", "/auth/token_file" },
                { "{\"tls\":{\"cert\":\"/c\"}}", "/tls/key" },
                { "{\"tls\":{\"key\":\"/k\"}}", "/tls/cert" },
                { "{\"tls\":{\"client_ca\":\"/a\"}}", "/tls/cert" },
                { "{\"tls\":{\"cert\":\"/c\",\"key\":\"/k\",\"ca\":\"/a\"}}", "/tls/ca" },
                { "{\"tls\":true}", "/tls" },
        };

        for (FOREACH_ROW(row, rows)) {
                RunnerConfig *config = NULL;
                Problem problem = {};

                check_int(row->text,
                          runner_config_parse(row->text, strlen(row->text), false, &config, &problem),
                          -EINVAL);
                check_true(row->text, !config);
                check_problem(row->text, &problem, 400, row->field);
        }
}

static void only_loopback_needs_no_credentials(void **state) {
        static const struct {
                const char *text;
                bool token_given, good;
        } rows[] = {
                { "{\"ip\":\"localhost\"}", false, true },
                { "{\"ip\":\"127.0.0.1\"}", false, true },
                { "{\"ip\":\"127.255.255.254\"}", false, true },
                { "{\"ip\":\"::1\"}", false, true },
                { "{\"ip\":\"0:0:0:0:0:0:0:1\"}", false, true },
                { "{\"ip\":\"::ffff:127.0.0.1\"}", false, true },
                { "{\"ip\":\"0.0.0.0\"}", false, false },
                { "{\"ip\":\"::\"}", false, false },
                { "{\"ip\":\"128.0.0.1\"}", false, false },
                { "{\"ip\":\"126.255.255.255\"}", false, false },
                { "{\"ip\":\"::ffff:10.0.0.1\"}", false, false },
                { "{\"ip\":\"::127.0.0.1\"}", false, false },
                { "{\"ip\":\"fe80::1\"}", false, false },
                { "{\"ip\":\"10.0.0.1\",\"insecure\":false}", false, false },
                { "{\"ip\":\"10.0.0.1\",\"tls\":{\"cert\":\"/c\",\"key\":\"/k\"}}", false, false },
                { "{\"ip\":\"10.0.0.1\",\"insecure\":true}", false, true },
                { "{\"ip\":\"10.0.0.1\",\"auth\":{\"token_file\":\"/t\"}}", false, true },
                { "{\"ip\":\"10.0.0.1\"}", true, true },
                { "{\"ip\":\"10.0.0.1\",\"tls\":{\"cert\":\"/c\",\"key\":\"/k\",\"client_ca\":\"/a\"}}",
                  false,
                  true },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
                Problem problem = {};
                int r;

                r = runner_config_parse(row->text, strlen(row->text), row->token_given, &config, &problem);
                check_int(row->text, r, row->good ? 0 : -EINVAL);
                if (!row->good)
                        check_problem(row->text, &problem, 400, "/ip");
        }
}

static void localhost_becomes_an_address(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = config_of("{\"ip\":\"localhost\"}");

        assert_string_equal(config->service.ip, "127.0.0.1");
}

static void a_text_that_is_too_long_is_refused(void **state) {
        _cleanup_(freep) char *text = malloc(CONFIG_SIZE_MAX + 1);
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        Problem problem = {};

        assert_non_null(text);
        memset(text, ' ', CONFIG_SIZE_MAX + 1);
        memcpy(text, "{}", 2);
        assert_int_equal(runner_config_parse(text, CONFIG_SIZE_MAX + 1, false, &config, &problem), -EFBIG);
        assert_null(config);
        assert_int_equal(runner_config_parse(text, CONFIG_SIZE_MAX, false, &config, &problem), 0);
}

static int try_parse(void *userdata) {
        static const char text[] = "{\"ip\":\"::1\",\"task_user\":\"w\",\"allowed_users\":[\"a\",\"b\"],"
                                   "\"pass_environment\":[\"A\"],\"allowed_hosts\":[\"h\"],"
                                   "\"auth\":{\"token_file\":\"/t\"},"
                                   "\"tls\":{\"cert\":\"/c\",\"key\":\"/k\",\"client_ca\":\"/a\"}}";
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        Problem problem = {};
        int r;

        r = runner_config_parse(text, sizeof(text) - 1, false, &config, &problem);
        if (r < 0) {
                assert_null(config);
                assert_int_equal(problem.status, 503);
        }
        return r;
}

static void failing_allocations_are_reported(void **state) {
        fail_alloc_loop(try_parse, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_configured_means_defaults),
                cmocka_unit_test(every_key_is_read),
                cmocka_unit_test(upper_bounds_are_within),
                cmocka_unit_test(zero_cores_means_all_of_them),
                cmocka_unit_test(bad_values_name_their_key),
                cmocka_unit_test(only_loopback_needs_no_credentials),
                cmocka_unit_test(localhost_becomes_an_address),
                cmocka_unit_test(a_text_that_is_too_long_is_refused),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("config-runner", tests, NULL, NULL);
}
