/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/impact.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/json.h"

/* 0 where nothing is asked for; meaningless where nothing is free. */
static double share(uint64_t request, uint64_t free_amount) {
        return request == 0 || free_amount == 0 ? 0 : (double) request / (double) free_amount;
}

static double larger(double a, double b) {
        return a > b ? a : b;
}

Impact impact_compute(const Resources *request, const Resources *free_amounts) {
        Impact impact = { .satisfiable = resources_fit(request, free_amounts) };

        if (!impact.satisfiable)
                return impact;

        impact.max_impact = larger(
                        share(request->cores_micro, free_amounts->cores_micro),
                        share(request->memory_mb, free_amounts->memory_mb));
        for (size_t i = 0; i < request->n_named; i++)
                impact.max_impact = larger(
                                impact.max_impact,
                                share(request->named[i].amount,
                                      resources_named_get(free_amounts, request->named[i].name)));
        return impact;
}

static int add_share(json_object *object, const char *name, uint64_t request, uint64_t free_amount) {
        if (request > 0 && free_amount == 0)
                return json_add_null(object, name);
        return json_add_double(object, name, share(request, free_amount));
}

static int shares_to_json(const Resources *request, const Resources *free_amounts, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        int r = add_share(object, "cores", request->cores_micro, free_amounts->cores_micro);
        if (r < 0)
                return r;
        r = add_share(object, "memory_mb", request->memory_mb, free_amounts->memory_mb);
        if (r < 0)
                return r;
        for (size_t i = 0; i < request->n_named; i++) {
                const NamedAmount *named = request->named + i;

                r = add_share(object,
                              named->name,
                              named->amount,
                              resources_named_get(free_amounts, named->name));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}

int impact_to_json(const Resources *request, const Resources *free_amounts, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL, *shares = NULL;
        Impact impact = impact_compute(request, free_amounts);

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;
        int r = shares_to_json(request, free_amounts, &shares);
        if (r < 0)
                return r;

        r = json_add_bool(object, "satisfiable", impact.satisfiable);
        if (r < 0)
                return r;
        r = json_add(object, "impact", TAKE_PTR(shares));
        if (r < 0)
                return r;
        r = impact.satisfiable ? json_add_double(object, "max_impact", impact.max_impact) :
                                 json_add_null(object, "max_impact");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(object);
        return 0;
}

static int impact_request_parse_item(const QueryItem *item, Resources *resources, Problem *problem) {
        char field[PROBLEM_FIELD_SIZE];
        json_pointer_join(field, "", item->name);

        if (streq(item->name, "cores")) {
                double cores;
                if (text_parse_double(item->value, &cores) < 0 || cores < 0 || cores > CORES_MAX)
                        return problem_set(
                                        problem, 400, field, "must be a number between 0 and %d", CORES_MAX);
                resources->cores_micro = (uint64_t) llround(cores * (double) CORES_MICRO_PER_CORE);
                return 0;
        }
        uint64_t amount;
        if (text_parse_u64(item->value, 0, RESOURCE_AMOUNT_MAX, &amount) < 0)
                return problem_set(
                                problem,
                                400,
                                field,
                                "must be an integer between 0 and %" PRIu64,
                                RESOURCE_AMOUNT_MAX);
        if (streq(item->name, "memory_mb")) {
                resources->memory_mb = amount;
                return 0;
        }
        if (resources_named_set(resources, item->name, amount) < 0)
                return problem_set(problem, 400, field, "is not the name of a capacity, or one too many");
        return 0;
}

int impact_request_parse(const Query *query, Resources *ret, Problem *reterr_problem) {
        Resources resources = {};
        for (size_t i = 0; i < query->n_items; i++) {
                if (query_get(query, query->items[i].name) != query->items[i].value)
                        return problem_set(reterr_problem, 400, NULL, "a query parameter stands twice");
                int r = impact_request_parse_item(&query->items[i], &resources, reterr_problem);
                if (r < 0)
                        return r;
        }
        *ret = resources;
        return 0;
}
