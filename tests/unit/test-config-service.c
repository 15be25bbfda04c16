/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The shared keys in a configuration that is not the runner's; what each of them takes is tested with that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/config/config-service.h"
#include "test.h"

typedef struct Sample {
        uint64_t before;
        ServiceConfig service;
        bool after;
} Sample;

static const JsonField sample_fields[] = {
        { "before", json_field_u64, offsetof(Sample, before), true, 0, 9 },
        { .included = service_config_fields, .offset = offsetof(Sample, service) },
        { "after", json_field_bool, offsetof(Sample, after), true },
        {},
};

static int read_sample(const char *text, Sample *sample, Problem *problem) {
        *sample = (Sample) {};
        *problem = (Problem) {};
        assert_int_equal(service_config_init(&sample->service, 2503), 0);
        return service_config_read(text, strlen(text), sample_fields, sample, problem);
}

static void the_port_is_the_programs(void **state) {
        Sample sample;
        Problem problem;

        assert_int_equal(read_sample("", &sample, &problem), 0);
        assert_int_equal(sample.service.port, 2503);
        assert_string_equal(sample.service.ip, "127.0.0.1");
        assert_int_equal(sample.service.body_max_bytes, 1048576);
        assert_int_equal(service_config_check_access(&sample.service, false, &problem), 0);
        service_config_done(&sample.service);
}

static void own_keys_and_shared_ones_find_their_places(void **state) {
        Sample sample;
        Problem problem;

        assert_int_equal(
                        read_sample("{\"after\":true,\"ip\":\"::1\",\"auth\":{\"token_file\":\"/t\"},"
                                    "\"insecure\":true,\"before\":7,\"allowed_hosts\":[\"h\"]}",
                                    &sample,
                                    &problem),
                        0);
        assert_int_equal(sample.before, 7);
        assert_true(sample.after);
        assert_true(sample.service.insecure);
        assert_string_equal(sample.service.ip, "::1");
        assert_string_equal(sample.service.auth_token_file, "/t");
        assert_string_equal(sample.service.allowed_hosts[0], "h");
        service_config_done(&sample.service);
}

static void what_is_wrong_is_named_wherever_it_belongs(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "{\"before\":1,\"after\":true,\"port\":65536}", "/port" },
                { "{\"before\":1,\"after\":true,\"queue_max\":1}", "/queue_max" },
                { "{\"before\":1,\"after\":true,\"tls\":{\"cert\":\"/c\"}}", "/tls/key" },
                { "{\"before\":10,\"after\":true}", "/before" },
                { "{\"after\":true,\"port\":1}", "/before" },
                { "{\"before\":1,\"port\":1}", "/after" },
        };

        for (FOREACH_ROW(row, rows)) {
                Sample sample;
                Problem problem;

                check_int(row->text, read_sample(row->text, &sample, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
                service_config_done(&sample.service);
        }
}

static void an_open_address_needs_access_control(void **state) {
        Sample sample;
        Problem problem;

        assert_int_equal(
                        read_sample("{\"before\":1,\"after\":true,\"ip\":\"0.0.0.0\"}", &sample, &problem),
                        0);
        assert_int_equal(service_config_check_access(&sample.service, true, &problem), 0);
        assert_int_equal(service_config_check_access(&sample.service, false, &problem), -EINVAL);
        check_problem("0.0.0.0", &problem, 400, "/ip");
        service_config_done(&sample.service);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_port_is_the_programs),
                cmocka_unit_test(own_keys_and_shared_ones_find_their_places),
                cmocka_unit_test(what_is_wrong_is_named_wherever_it_belongs),
                cmocka_unit_test(an_open_address_needs_access_control),
        };

        return cmocka_run_group_tests_name("config-service", tests, NULL, NULL);
}
