/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Impact: how large a share of what is free a task would take, per kind of capacity. Daggy's measure for
 * placement: the task goes to the runner where its largest share is smallest. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "core/http/query.h"
#include "core/json/problem.h"
#include "core/task/resources.h"

typedef struct Impact {
        bool satisfiable;  /* fits into what is free */
        double max_impact; /* max over kinds of request ÷ free; meaningless when not satisfiable */
} Impact;

/* request ÷ free in each kind that is asked for; asking 0 costs 0 whatever is free. */
Impact impact_compute(const Resources *request, const Resources *free_amounts);

/* {"satisfiable":true,"impact":{"cores":0.5,"memory_mb":0.64},"max_impact":0.64}: "impact" has
 * the kinds named in REQUEST (cores and memory_mb always). Not satisfiable: kinds with nothing free are null,
 * max_impact null. */
int impact_to_json(const Resources *request, const Resources *free_amounts, json_object **ret);

/* Reads a request from a query string, "cores=2&memory_mb=5120&gpu=1"; what is not named is 0. 400 for
 * anything else. */
int impact_request_parse(const Query *query, Resources *ret, Problem *reterr_problem);
