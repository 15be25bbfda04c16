/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/json/json.h"
#include "core/task/resources.h"
#include "fail-alloc.h"
#include "test.h"

/* Reads TEXT on top of nothing. */
static Resources resources_of(const char *text) {
        _cleanup_(json_putp) json_object *object = json_of(text);
        Resources resources = {};
        Problem problem = {};

        check_int(text, resources_parse_request(object, "", &resources, &problem), 0);
        return resources;
}

static void names_are_checked(void **state) {
        static const struct {
                const char *name;
                bool valid;
        } rows[] = {
                { "gpu", true },
                { "a", true },
                { "gpu_2_x", true },
                { "abcdefghijklmnopqrstuvwxyz012345", true },
                { "abcdefghijklmnopqrstuvwxyz0123456", false },
                { "", false },
                { "2gpu", false },
                { "_gpu", false },
                { "Gpu", false },
                { "gPu", false },
                { "gpu-2", false },
                { "g pu", false },
                { "gpü", false },
                { "cores", false },
                { "memory_mb", false },
        };

        for (FOREACH_ROW(row, rows))
                check_int(row->name, resource_name_valid(row->name), row->valid);
}

static void named_amounts_stay_sorted(void **state) {
        Resources resources = {};

        assert_int_equal(resources_named_set(&resources, "m", 1), 0);
        assert_int_equal(resources_named_set(&resources, "z", 2), 0);
        assert_int_equal(resources_named_set(&resources, "a", 3), 0);
        assert_int_equal(resources_named_set(&resources, "m", 4), 0);
        assert_int_equal(resources.n_named, 3);
        assert_string_equal(resources.named[0].name, "a");
        assert_string_equal(resources.named[1].name, "m");
        assert_string_equal(resources.named[2].name, "z");
        assert_int_equal(resources_named_get(&resources, "a"), 3);
        assert_int_equal(resources_named_get(&resources, "m"), 4);
        assert_int_equal(resources_named_get(&resources, "z"), 2);
        assert_int_equal(resources_named_get(&resources, "b"), 0);
        assert_int_equal(resources_named_set(&resources, "B", 1), -EINVAL);
        assert_int_equal(resources.n_named, 3);
}

static void names_are_limited_in_number(void **state) {
        Resources resources = {}, other = {}, sum = { .memory_mb = 4711 };
        char name[8];

        for (int i = 0; i < RESOURCES_NAMED_MAX; i++) {
                (void) snprintf(name, sizeof(name), "r%d", i);
                assert_int_equal(resources_named_set(&resources, name, 1), 0);
        }
        assert_int_equal(resources_named_set(&resources, "one_more", 1), -ENOSPC);
        assert_int_equal(resources_named_set(&resources, "r3", 2), 0);
        assert_int_equal(resources.n_named, RESOURCES_NAMED_MAX);

        assert_int_equal(resources_named_set(&other, "one_more", 1), 0);
        assert_int_equal(resources_add(&resources, &other, &sum), -ENOSPC);
        assert_int_equal(sum.memory_mb, 4711);
}

static void equality_is_of_every_kind(void **state) {
        static const struct {
                const char *a, *b;
                bool equal;
        } rows[] = {
                { "{}", "{}", true },
                { "{\"cores\":1,\"memory_mb\":2,\"x\":3}", "{\"x\":3,\"memory_mb\":2,\"cores\":1}", true },
                { "{\"cores\":1}", "{\"cores\":1.000001}", false },
                { "{\"memory_mb\":1}", "{\"memory_mb\":2}", false },
                { "{\"x\":1}", "{\"x\":2}", false },
                { "{\"x\":1,\"y\":1}", "{\"x\":1,\"y\":2}", false },
                { "{\"x\":1}", "{\"y\":1}", false },
                { "{\"x\":1}", "{}", false },
                { "{\"x\":0}", "{}", false },
        };

        for (FOREACH_ROW(row, rows)) {
                Resources a = resources_of(row->a), b = resources_of(row->b);

                check_int(row->a, resources_equal(&a, &b), row->equal);
                check_int(row->b, resources_equal(&b, &a), row->equal);
        }
}

static void fitting_is_of_every_kind(void **state) {
        static const struct {
                const char *want, *have;
                bool fits;
        } rows[] = {
                { "{}", "{}", true },
                { "{\"cores\":1,\"memory_mb\":2,\"x\":3}", "{\"cores\":1,\"memory_mb\":2,\"x\":3}", true },
                { "{\"cores\":0.5}", "{\"cores\":1,\"x\":1}", true },
                { "{\"cores\":1.000001}", "{\"cores\":1}", false },
                { "{\"memory_mb\":2}", "{\"memory_mb\":1}", false },
                { "{\"x\":2}", "{\"x\":1}", false },
                { "{\"x\":1}", "{\"y\":1}", false },
                { "{\"x\":1,\"y\":2,\"z\":1}", "{\"x\":1,\"y\":1,\"z\":1}", false },
                { "{\"x\":1,\"y\":1,\"z\":2}", "{\"x\":1,\"y\":1,\"z\":1}", false },
                { "{\"x\":0}", "{}", true },
        };

        for (FOREACH_ROW(row, rows)) {
                Resources want = resources_of(row->want), have = resources_of(row->have);

                check_int(row->want, resources_fit(&want, &have), row->fits);
        }
}

static void sums_have_the_names_of_both(void **state) {
        Resources a = resources_of("{\"cores\":0.5,\"memory_mb\":10,\"x\":1,\"y\":2}");
        Resources b = resources_of("{\"cores\":1.5,\"memory_mb\":5,\"y\":3,\"a\":4}");
        Resources expected = resources_of("{\"cores\":2,\"memory_mb\":15,\"a\":4,\"x\":1,\"y\":5}"), sum;

        assert_int_equal(resources_add(&a, &b, &sum), 0);
        assert_true(resources_equal(&sum, &expected));

        assert_int_equal(resources_add(&a, &b, &a), 0);
        assert_true(resources_equal(&a, &expected));
}

static void sums_saturate(void **state) {
        Resources a = { .cores_micro = UINT64_MAX, .memory_mb = UINT64_MAX - 1 },
                  b = { .cores_micro = 1, .memory_mb = 2 }, sum;

        assert_int_equal(resources_named_set(&a, "x", UINT64_MAX), 0);
        assert_int_equal(resources_named_set(&b, "x", 7), 0);
        assert_int_equal(resources_add(&a, &b, &sum), 0);
        assert_true(sum.cores_micro == UINT64_MAX);
        assert_true(sum.memory_mb == UINT64_MAX);
        assert_true(resources_named_get(&sum, "x") == UINT64_MAX);
}

static void differences_stop_at_zero(void **state) {
        Resources a = resources_of("{\"cores\":2,\"memory_mb\":10,\"x\":1,\"y\":5}");
        Resources b = resources_of("{\"cores\":0.5,\"memory_mb\":11,\"x\":2,\"y\":3,\"z\":1}");
        Resources expected = resources_of("{\"cores\":1.5,\"memory_mb\":1,\"x\":0,\"y\":2}"), rest;

        expected.memory_mb = 0;
        resources_subtract(&a, &b, &rest);
        assert_true(resources_equal(&rest, &expected));

        resources_subtract(&a, &b, &a);
        assert_true(resources_equal(&a, &expected));
}

static void requests_are_read_on_top_of_defaults(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{\"cores\":0.5,\"gpu\":1}");
        Resources resources = { .cores_micro = CORES_MICRO_PER_CORE, .memory_mb = 512 };
        Problem problem = {};

        assert_int_equal(resources_parse_request(object, "/resources", &resources, &problem), 0);
        assert_int_equal(resources.cores_micro, 500000);
        assert_int_equal(resources.memory_mb, 512);
        assert_int_equal(resources_named_get(&resources, "gpu"), 1);
}

static void boundaries_are_within(void **state) {
        Resources resources = resources_of("{\"cores\":0.01,\"memory_mb\":1,\"x\":0}");

        assert_int_equal(resources.cores_micro, 10000);
        assert_int_equal(resources.memory_mb, 1);
        assert_int_equal(resources.n_named, 1);

        resources = resources_of("{\"cores\":1000000,\"memory_mb\":1000000000000,\"x\":1000000000000}");
        assert_true(resources.cores_micro == CORES_MAX * CORES_MICRO_PER_CORE);
        assert_true(resources.memory_mb == RESOURCE_AMOUNT_MAX);
        assert_true(resources_named_get(&resources, "x") == RESOURCE_AMOUNT_MAX);

        resources = resources_of("{\"cores\":0.29}");
        assert_int_equal(resources.cores_micro, 290000);
}

static void bad_requests_name_the_field_and_change_nothing(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "null", "/r" },
                { "[]", "/r" },
                { "5", "/r" },
                { "{\"cores\":0}", "/r/cores" },
                { "{\"cores\":0.009}", "/r/cores" },
                { "{\"cores\":-1}", "/r/cores" },
                { "{\"cores\":1000001}", "/r/cores" },
                { "{\"cores\":\"1\"}", "/r/cores" },
                { "{\"cores\":null}", "/r/cores" },
                { "{\"cores\":1e400}", "/r/cores" },
                { "{\"memory_mb\":0}", "/r/memory_mb" },
                { "{\"memory_mb\":-5}", "/r/memory_mb" },
                { "{\"memory_mb\":1.5}", "/r/memory_mb" },
                { "{\"memory_mb\":1.25}", "/r/memory_mb" },
                { "{\"memory_mb\":1000000000001}", "/r/memory_mb" },
                { "{\"memory_mb\":18446744073709551616}", "/r/memory_mb" },
                { "{\"gpu\":-1}", "/r/gpu" },
                { "{\"gpu\":0.5}", "/r/gpu" },
                { "{\"gpu\":null}", "/r/gpu" },
                { "{\"gpu\":1000000000001}", "/r/gpu" },
                { "{\"Gpu\":1}", "/r/Gpu" },
                { "{\"a/b\":1}", "/r/a~1b" },
                { "{\"\":1}", "/r/" },
                { "{\"cores\":2,\"memory_mb\":3,\"gpu\":\"x\"}", "/r/gpu" },
                { "{\"r0\":1,\"r1\":1,\"r2\":1,\"r3\":1,\"r4\":1,\"r5\":1,\"r6\":1,\"r7\":1,\"r8\":1,\"r9\":1,"
                  "\"r10\":1,\"r11\":1,\"r12\":1,\"r13\":1,\"r14\":1,\"r15\":1,\"r16\":1}",
                  "/r/r16" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);
                const Resources before = { .cores_micro = 7, .memory_mb = 8 };
                Resources resources = before;
                Problem problem = {};

                check_int(row->text, resources_parse_request(object, "/r", &resources, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
                check_true(row->text, resources_equal(&resources, &before));
        }
}

static void json_goes_out_and_comes_back(void **state) {
        static const char *const rows[] = {
                "{\"cores\":6,\"memory_mb\":12000}",
                "{\"cores\":0.5,\"memory_mb\":64,\"gpu\":1}",
                "{\"cores\":0.01,\"memory_mb\":1,\"a\":0,\"b\":1000000000000}",
                "{\"cores\":1000000,\"memory_mb\":1000000000000}",
                "{\"cores\":1.234567,\"memory_mb\":1}",
                "{\"cores\":999999.999999,\"memory_mb\":1}",
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = NULL;
                Resources resources = resources_of(*row);

                check_int(*row, resources_to_json(&resources, &object), 0);
                check_json(*row, object, *row);
        }
}

static int try_to_json(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r;

        r = resources_to_json(userdata, &object);
        if (r < 0)
                assert_null(object);
        return r;
}

static void failing_allocations_are_reported(void **state) {
        Resources resources = resources_of("{\"cores\":0.5,\"memory_mb\":64,\"gpu\":1}");

        fail_alloc_loop(try_to_json, &resources);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_are_checked),
                cmocka_unit_test(named_amounts_stay_sorted),
                cmocka_unit_test(names_are_limited_in_number),
                cmocka_unit_test(equality_is_of_every_kind),
                cmocka_unit_test(fitting_is_of_every_kind),
                cmocka_unit_test(sums_have_the_names_of_both),
                cmocka_unit_test(sums_saturate),
                cmocka_unit_test(differences_stop_at_zero),
                cmocka_unit_test(requests_are_read_on_top_of_defaults),
                cmocka_unit_test(boundaries_are_within),
                cmocka_unit_test(bad_requests_name_the_field_and_change_nothing),
                cmocka_unit_test(json_goes_out_and_comes_back),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("resources", tests, NULL, NULL);
}
