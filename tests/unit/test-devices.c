/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-runner.h"
#include "core/task/devices.h"
#include "fail-alloc.h"
#include "test.h"

static RunnerConfig *read_config(const char *text) {
        RunnerConfig *config = NULL;
        Problem problem = {};

        int r = runner_config_parse(text, strlen(text), false, &config, &problem);
        if (r < 0)
                print_message("%s: %s\n", problem.field, problem.detail);
        assert_int_equal(r, 0);
        return config;
}

#define GPUS                                                                                             \
        "{\"devices\":{\"gpu\":{\"paths\":[\"/dev/ctl\"],\"items\":["                                    \
        "{\"id\":\"0\",\"paths\":[\"/dev/g0\"],\"environment\":{\"V\":\"a\",\"W\":\"x\"}},"              \
        "{\"id\":\"1\",\"paths\":[\"/dev/g1\"],\"environment\":{\"V\":\"b\"}},"                          \
        "{\"id\":\"2\",\"paths\":[\"/dev/g2\",\"/dev/ctl\"]}]},\"disk_slot\":{\"items\":[{\"id\":\"s\"}" \
        "]}}}"

static DeviceGrant *take(DeviceGrants *grants, const RunnerConfig *config, uint64_t n_gpus) {
        Resources want = {};
        DeviceGrant *grant = NULL;

        if (n_gpus > 0)
                assert_int_equal(resources_named_set(&want, "gpu", n_gpus), 0);
        assert_int_equal(device_grants_take(grants, &config->devices, &want, &grant), 0);
        return grant;
}

static void assert_list(char *const *list, const char *expected) {
        _cleanup_(text_done) Text joined = {};

        for (; *list; list++)
                assert_int_equal(text_appendf(&joined, "%s;", *list), 0);
        assert_string_equal(joined.data ?: "", expected);
}

static void the_lowest_free_items_are_given(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        DeviceGrants grants = {};

        DeviceGrant *a = take(&grants, config, 1), *b = take(&grants, config, 1);
        assert_list(a->kinds[0].ids, "0;");
        assert_list(b->kinds[0].ids, "1;");
        device_grant_release(a);
        DeviceGrant *c = take(&grants, config, 2);
        assert_list(c->kinds[0].ids, "0;2;");
        assert_list(a->kinds[0].ids, "0;"); /* it tells what it had */
        device_grant_release(a);
        assert_list(c->kinds[0].ids, "0;2;");
        device_grant_free(a);
        device_grant_free(b);
        device_grant_free(c);
        assert_null(grants.first);
}

static void paths_are_those_of_kind_and_items(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        DeviceGrants grants = {};

        DeviceGrant *three = take(&grants, config, 3), *none = take(&grants, config, 0);
        assert_list(three->paths, "/dev/g0;/dev/g1;/dev/g2;/dev/ctl;");
        assert_list(none->paths, "");
        assert_int_equal(none->n_kinds, 0);
        device_grant_free(three);
        device_grant_free(none);
}

static void values_of_one_variable_are_joined(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        DeviceGrants grants = {};

        DeviceGrant *grant = take(&grants, config, 3);
        assert_list(grant->environment, "V=a,b;W=x;DAGGYR_DEVICES_GPU=0,1,2;");
        device_grant_free(grant);
}

static void without_paths_nothing_is_restricted(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(
                        "{\"devices\":{\"licence\":{\"items\":[{\"id\":\"a\"}]}}}");
        DeviceGrants grants = {};

        DeviceGrant *grant = take(&grants, config, 0);
        assert_null(grant->paths);
        device_grant_free(grant);
}

static void no_more_are_given_than_are_free(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        DeviceGrants grants = {};
        DeviceGrant *held = take(&grants, config, 2), *refused = NULL;
        Resources want = {};

        assert_int_equal(resources_named_set(&want, "gpu", 2), 0);
        assert_int_equal(device_grants_take(&grants, &config->devices, &want, &refused), -EDQUOT);
        assert_null(refused);
        device_grant_free(held);
}

static void an_item_in_use_stays_so_in_another_configuration(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *before = read_config(GPUS);
        DeviceGrants grants = {};
        DeviceGrant *held = take(&grants, before, 1);

        before = runner_config_free(before);
        _cleanup_(runner_config_freep) RunnerConfig *after = read_config(GPUS);
        DeviceGrant *next = take(&grants, after, 1);
        assert_list(next->kinds[0].ids, "1;");
        device_grant_free(held);
        device_grant_free(next);
}

static void each_kind_is_a_capacity(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        Resources total = {};

        assert_int_equal(devices_count(&config->devices, &total), 0);
        assert_int_equal(resources_named_get(&total, "gpu"), 3);
        assert_int_equal(resources_named_get(&total, "disk_slot"), 1);
}

static void an_attempt_shows_them(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        _cleanup_(freep) char *text = NULL;
        DeviceGrants grants = {};
        DeviceGrant *two = take(&grants, config, 2), *none = take(&grants, config, 0);

        assert_int_equal(device_grant_add(object, none), 0);
        assert_int_equal(device_grant_add(object, NULL), 0);
        assert_int_equal(device_grant_add(object, two), 0);
        assert_int_equal(json_format(object, &text, NULL), 0);
        assert_string_equal(text, "{\"devices\":{\"gpu\":[\"0\",\"1\"]}}");
        device_grant_free(two);
        device_grant_free(none);
}

static int try_to_take(void *userdata) {
        const RunnerConfig *config = userdata;
        DeviceGrants grants = {};
        Resources want = {};
        DeviceGrant *grant = NULL;

        assert_int_equal(resources_named_set(&want, "gpu", 2), 0);
        int r = device_grants_take(&grants, &config->devices, &want, &grant);
        device_grant_free(grant);
        assert_null(grants.first);
        return r;
}

static void without_memory_nothing_is_taken(void **state) {
        _cleanup_(runner_config_freep) RunnerConfig *config = read_config(GPUS);

        fail_alloc_loop(try_to_take, config);
}

static int try_to_read(void *userdata) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        Problem problem = {};

        int r = runner_config_parse(userdata, strlen(userdata), false, &config, &problem);
        return r < 0 && problem.status == 500 ? -ENOMEM : r;
}

static void without_memory_there_are_no_devices(void **state) {
        fail_alloc_loop(try_to_read, (char *) GPUS);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_lowest_free_items_are_given),
                cmocka_unit_test(paths_are_those_of_kind_and_items),
                cmocka_unit_test(values_of_one_variable_are_joined),
                cmocka_unit_test(without_paths_nothing_is_restricted),
                cmocka_unit_test(no_more_are_given_than_are_free),
                cmocka_unit_test(an_item_in_use_stays_so_in_another_configuration),
                cmocka_unit_test(each_kind_is_a_capacity),
                cmocka_unit_test(an_attempt_shows_them),
                cmocka_unit_test(without_memory_nothing_is_taken),
                cmocka_unit_test(without_memory_there_are_no_devices),
        };

        return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
