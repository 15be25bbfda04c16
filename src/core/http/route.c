/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Matching of paths against patterns. What a parameter means is for the reader of the route. */
#include "core/http/route.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

/* One segment of a path or pattern, without slashes. */
typedef struct Segment {
        const char *s;
        size_t size;
} Segment;

/* Moves *P, which points to a slash, behind the segment that follows it. False at the end of the path. */
static bool next_segment(const char **p, Segment *ret) {
        if (**p != '/')
                return false;

        ret->s = *p + 1;
        ret->size = strcspn(ret->s, "/");
        *p = ret->s + ret->size;
        return true;
}

static bool is_parameter(const Segment *pattern) {
        return pattern->size > 0 && pattern->s[0] == '{';
}

/* What of PATH the parameter at PATTERN takes, NULL when it does not take it. */
static const char *parameter_end(const char *pattern, const char *path) {
        size_t size = strcspn(path, "/");

        if (pattern[1] == '#' && strspn(path, "0123456789") < size)
                return NULL;

        return size > 0 ? path + size : NULL;
}

/* Each request is held against every pattern, most of which differ from its path in a character early on. */
static bool pattern_matches(const char *pattern, const char *path) {
        assert(pattern[0] == '/');

        while (*pattern) {
                if (*pattern == '{') {
                        path = parameter_end(pattern, path);
                        pattern += strcspn(pattern, "/");
                        if (!path)
                                return false;
                } else if (*pattern++ != *path++)
                        return false;
        }

        return *path == '\0';
}

/* Of two patterns that match the same path: whether A has the first literal where B has a parameter. */
static bool pattern_is_better(const char *a, const char *b) {
        Segment in_a, in_b;

        while (next_segment(&a, &in_a) && next_segment(&b, &in_b))
                if (is_parameter(&in_a) != is_parameter(&in_b))
                        return is_parameter(&in_b);

        return false;
}

static const char *find_pattern(const Route *table, size_t n_routes, const char *path) {
        const char *best = NULL;

        for (size_t i = 0; i < n_routes; i++)
                if (pattern_matches(table[i].pattern, path) &&
                    (!best || pattern_is_better(table[i].pattern, best)))
                        best = table[i].pattern;

        return best;
}

/* Whether two patterns, both matching one path, stand for the same: names of parameters do not matter. */
static bool pattern_is_same(const char *a, const char *b, const char *path) {
        return pattern_matches(b, path) && !pattern_is_better(a, b) && !pattern_is_better(b, a);
}

static const Route *find_method(
                const Route *table,
                size_t n_routes,
                const char *pattern,
                const char *path,
                const char *method) {
        for (size_t i = 0; i < n_routes; i++)
                if ((streq(table[i].method, method) || streq(table[i].method, ROUTE_METHOD_ANY)) &&
                    pattern_is_same(pattern, table[i].pattern, path))
                        return &table[i];

        return NULL;
}

static bool allow_has(const char *allow, const char *method) {
        size_t size = strlen(method);

        for (const char *p = allow; *p;) {
                size_t n = strcspn(p, ",");

                if (n == size && memcmp(p, method, size) == 0)
                        return true;
                p += n;
                p += strspn(p, ", ");
        }

        return false;
}

static void allow_add(char allow[static ROUTE_ALLOW_SIZE], const char *method) {
        size_t used = strlen(allow);

        if (allow_has(allow, method))
                return;

        assert(used + strlen(", ") + strlen(method) < ROUTE_ALLOW_SIZE);
        char *end = stpcpy(allow + used, used > 0 ? ", " : "");
        (void) stpcpy(end, method);
}

static void fill_allow(
                const Route *table,
                size_t n_routes,
                const char *pattern,
                const char *path,
                RouteMatch *match) {
        for (size_t i = 0; i < n_routes; i++) {
                if (!pattern_is_same(pattern, table[i].pattern, path))
                        continue;

                allow_add(match->allow, table[i].method);
                if (streq(table[i].method, "GET"))
                        allow_add(match->allow, "HEAD");
        }
}

static int take_parameters(
                const char *pattern,
                const char *path,
                RouteMatch *match,
                Problem *reterr_problem) {
        Segment wanted, given;

        while (next_segment(&pattern, &wanted) && next_segment(&path, &given)) {
                if (!is_parameter(&wanted))
                        continue;

                assert(match->n_parameters < ROUTE_PARAMETERS_MAX);
                int r = text_percent_decode(given.s, given.size, &match->parameters[match->n_parameters]);
                if (r == -ENOMEM)
                        return problem_from_errno(reterr_problem, r);
                if (r < 0)
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        NULL,
                                        "the path is not UTF-8 in percent-encoding");
                match->n_parameters++;
        }

        return 0;
}

void route_match_done(RouteMatch *match) {
        assert(match);

        for (size_t i = 0; i < match->n_parameters; i++)
                free(match->parameters[i]);
        *match = (RouteMatch) {};
}

int route_find(const Route *table,
               size_t n_routes,
               const char *method,
               const char *path,
               RouteMatch *ret,
               Problem *reterr_problem) {
        assert(table || n_routes == 0);
        assert(method);
        assert(path);
        assert(ret);
        assert(reterr_problem);

        *ret = (RouteMatch) {};

        const char *pattern = find_pattern(table, n_routes, path);
        if (!pattern)
                return problem_set(reterr_problem, 404, NULL, "nothing is at this path");

        const Route *route = find_method(table, n_routes, pattern, path, method);
        if (!route && streq(method, "HEAD"))
                route = find_method(table, n_routes, pattern, path, "GET");
        if (!route) {
                fill_allow(table, n_routes, pattern, path, ret);
                return problem_set(reterr_problem, 405, NULL, "this path serves %s only", ret->allow);
        }

        int r = take_parameters(route->pattern, path, ret, reterr_problem);
        if (r < 0) {
                route_match_done(ret);
                return r;
        }

        ret->id = route->id;
        ret->route = route;
        return 0;
}
