/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <math.h>

#include "core/json/json.h"
#include "core/scheduling/impact.h"
#include "fail-alloc.h"
#include "test.h"

static Resources amounts(uint64_t cores, uint64_t memory_mb) {
        return (Resources) { .cores_micro = cores * CORES_MICRO_PER_CORE, .memory_mb = memory_mb };
}

/* Daggy's own example of the rule: 2 cores and 5 GB, three runners. */
static void the_placement_example_goes_to_the_third_runner(void **state) {
        static const struct {
                const char *label;
                uint64_t free_cores, free_memory_mb;
                double max_impact;
        } rows[] = {
                { "70 cores, 20 GB", 70, 20480, 0.25 },
                { "4 cores, 80 GB", 4, 81920, 0.5 },
                { "10 cores, 30 GB", 10, 30720, 0.2 },
        };
        const Resources request = amounts(2, 5120);

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                Resources free_amounts = amounts(rows[i].free_cores, rows[i].free_memory_mb);
                Impact impact = impact_compute(&request, &free_amounts);
                check_true(rows[i].label, impact.satisfiable);
                check_true(rows[i].label, fabs(impact.max_impact - rows[i].max_impact) < 1e-12);
        }
}

static void asking_for_nothing_costs_nothing(void **state) {
        const Resources nothing = {}, request = amounts(0, 10), free_amounts = amounts(0, 20);
        Impact impact;

        impact = impact_compute(&nothing, &nothing);
        assert_true(impact.satisfiable);
        assert_true(fabs(impact.max_impact) <= 0);
        impact = impact_compute(&request, &free_amounts);
        assert_true(impact.satisfiable);
        assert_true(fabs(impact.max_impact - 0.5) <= 0);
}

static void named_capacities_count_like_the_others(void **state) {
        Resources request = amounts(1, 10), free_amounts = amounts(10, 100);
        Impact impact;

        assert_int_equal(resources_named_set(&request, "gpu", 3), 0);
        assert_false(impact_compute(&request, &free_amounts).satisfiable);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 4), 0);
        impact = impact_compute(&request, &free_amounts);
        assert_true(impact.satisfiable);
        assert_true(fabs(impact.max_impact - 0.75) <= 0);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 3), 0);
        assert_true(fabs(impact_compute(&request, &free_amounts).max_impact - 1) <= 0);
        assert_int_equal(resources_named_set(&request, "port", 6), 0);
        assert_int_equal(resources_named_set(&free_amounts, "port", 8), 0);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 6), 0);
        assert_true(fabs(impact_compute(&request, &free_amounts).max_impact - 0.75) <= 0);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 2), 0);
        assert_false(impact_compute(&request, &free_amounts).satisfiable);
}

static void impacts_are_written_for_every_kind_asked_for(void **state) {
        static const struct {
                uint64_t cores, memory_mb, free_cores, free_memory_mb;
                const char *text;
        } rows[] = {
                { 2,
                  5120,
                  4,
                  8000,
                  "{\"satisfiable\":true,\"impact\":{\"cores\":0.5,\"memory_mb\":0.64},\"max_impact\":0.64}" },
                { 0,
                  0,
                  0,
                  0,
                  "{\"satisfiable\":true,\"impact\":{\"cores\":0,\"memory_mb\":0},\"max_impact\":0}" },
                { 4,
                  1,
                  4,
                  4,
                  "{\"satisfiable\":true,\"impact\":{\"cores\":1,\"memory_mb\":0.25},\"max_impact\":1}" },
                { 6,
                  1,
                  4,
                  4,
                  "{\"satisfiable\":false,\"impact\":{\"cores\":1.5,\"memory_mb\":0.25},\"max_impact\":null}" },
                { 1,
                  1,
                  0,
                  4,
                  "{\"satisfiable\":false,\"impact\":{\"cores\":null,\"memory_mb\":0.25},\"max_impact\":null}" },
                { 1,
                  1,
                  4,
                  0,
                  "{\"satisfiable\":false,\"impact\":{\"cores\":0.25,\"memory_mb\":null},\"max_impact\":null}" },
        };

        for (FOREACH_ROW(row, rows)) {
                const Resources request = amounts(row->cores, row->memory_mb);
                const Resources free_amounts = amounts(row->free_cores, row->free_memory_mb);
                _cleanup_(json_putp) json_object *object = NULL;

                check_int(row->text, impact_to_json(&request, &free_amounts, &object), 0);
                check_json(row->text, object, row->text);
        }
}

static void named_kinds_are_written_when_asked_for(void **state) {
        Resources request = amounts(1, 1), free_amounts = amounts(2, 2);
        _cleanup_(json_putp) json_object *object = NULL;

        assert_int_equal(resources_named_set(&request, "gpu", 1), 0);
        assert_int_equal(resources_named_set(&request, "zero", 0), 0);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 4), 0);
        assert_int_equal(resources_named_set(&free_amounts, "other", 4), 0);
        assert_int_equal(impact_to_json(&request, &free_amounts, &object), 0);
        check_json("named",
                   object,
                   "{\"satisfiable\":true,\"impact\":{\"cores\":0.5,\"memory_mb\":0.5,\"gpu\":0.25,\"zero\":0},"
                   "\"max_impact\":0.5}");
}

static void requests_are_read_from_query_strings(void **state) {
        static const struct {
                const char *text;
                uint64_t cores_micro, memory_mb, gpu;
        } rows[] = {
                { "", 0, 0, 0 },
                { "cores=&memory_mb=&gpu=", 0, 0, 0 },
                { "cores=2&memory_mb=5120", 2000000, 5120, 0 },
                { "memory_mb=1&gpu=3", 0, 1, 3 },
                { "cores=0.5", 500000, 0, 0 },
                { "cores=1e3", UINT64_C(1000000000), 0, 0 },
                { "cores=0&memory_mb=0&gpu=0", 0, 0, 0 },
                { "cores=1000000&memory_mb=1000000000000", UINT64_C(1000000000000), RESOURCE_AMOUNT_MAX, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                Resources request = {};
                Problem problem = {};

                check_int(row->text, query_parse(row->text, &query, &problem), 0);
                check_int(row->text, impact_request_parse(&query, &request, &problem), 0);
                check_u64(row->text, request.cores_micro, row->cores_micro);
                check_u64(row->text, request.memory_mb, row->memory_mb);
                check_u64(row->text, resources_named_get(&request, "gpu"), row->gpu);
        }
}

static void bad_queries_are_refused(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "cores=-1", "/cores" },
                { "cores=1000000.1", "/cores" },
                { "cores=nan", "/cores" },
                { "cores=2x", "/cores" },
                { "memory_mb=1.5", "/memory_mb" },
                { "memory_mb=-1", "/memory_mb" },
                { "memory_mb=1000000000001", "/memory_mb" },
                { "GPU=1", "/GPU" },
                { "gpu=many", "/gpu" },
                { "cores=1&cores=1", "" },
                { "gpu=1&cores=1&gpu=1", "" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(query_done) Query query = {};
                Resources request = { .memory_mb = 4711 };
                Problem problem = {};

                check_int(row->text, query_parse(row->text, &query, &problem), 0);
                check_int(row->text, impact_request_parse(&query, &request, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
                check_u64(row->text, request.memory_mb, 4711);
        }
}

static int try_to_json(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;
        Resources request = amounts(1, 1), free_amounts = amounts(3, 0);
        int r;

        assert_int_equal(resources_named_set(&request, "gpu", 1), 0);
        assert_int_equal(resources_named_set(&free_amounts, "gpu", 4), 0);
        r = impact_to_json(&request, &free_amounts, &object);
        if (r < 0)
                assert_null(object);
        return r;
}

static void failing_allocations_are_reported(void **state) {
        fail_alloc_loop(try_to_json, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_placement_example_goes_to_the_third_runner),
                cmocka_unit_test(asking_for_nothing_costs_nothing),
                cmocka_unit_test(named_capacities_count_like_the_others),
                cmocka_unit_test(impacts_are_written_for_every_kind_asked_for),
                cmocka_unit_test(named_kinds_are_written_when_asked_for),
                cmocka_unit_test(requests_are_read_from_query_strings),
                cmocka_unit_test(bad_queries_are_refused),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("impact", tests, NULL, NULL);
}
