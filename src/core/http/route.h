/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Method and path to route. Each program has its table; matching is here. */
#pragma once

#include <stddef.h>

#include "core/json/problem.h"

#define ROUTE_METHOD_ANY     "*"
#define ROUTE_PARAMETERS_MAX 2
#define ROUTE_ALLOW_SIZE     64

typedef struct Route {
        const char *method;  /* "GET" also serves HEAD; ROUTE_METHOD_ANY everything */
        const char *pattern; /* "/api/v1/task/{task_id}": {name} stands for one non-empty segment, {#name} for
                                one of digits */
        int id;              /* the program's own enum */
} Route;

typedef struct RouteMatch {
        int id;
        const Route *route;
        size_t n_parameters;
        char *parameters[ROUTE_PARAMETERS_MAX]; /* percent-decoded, in order of appearance */
        char allow[ROUTE_ALLOW_SIZE];           /* set with 405: "GET, HEAD, POST" */
} RouteMatch;

void route_match_done(RouteMatch *match);

/* Finds METHOD and PATH (raw, still percent-encoded, without query) in TABLE. Literal segments are compared
 * as they stand and win over parameters, from the left; the pattern that wins alone decides which methods
 * there are. 404 when no pattern matches the path (a trailing slash makes another path, an empty segment
 * matches nothing), 405 with ret->allow filled when only the method differs, 400 for a parameter that is
 * malformed, holds a NUL or is not UTF-8. *ret is set in every case; without success it has no parameters. */
int route_find(const Route *table,
               size_t n_routes,
               const char *method,
               const char *path,
               RouteMatch *ret,
               Problem *reterr_problem);
