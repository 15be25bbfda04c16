/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: "METHOD TARGET", as in the first line of a request. */
#include <string.h>

#include "base/text.h"
#include "core/http/query.h"
#include "core/http/route.h"
#include "fuzz.h"

static const Route table[] = {
        { "GET", "/ready", 0 },
        { "GET", "/api/v1/capacity", 1 },
        { "POST", "/api/v1/task", 2 },
        { "GET", "/api/v1/task/{task_id}", 3 },
        { "POST", "/api/v1/task/{task_id}", 4 },
        { "DELETE", "/api/v1/task/{task_id}", 5 },
        { "GET", "/api/v1/task/{task_id}/output", 6 },
        { "PUT", "/api/v1/lease/{lease_id}", 7 },
        { "POST", "/api/v1/{#run_id}/{task_id}", 8 },
        { "DELETE", "/api/v1/{#run_id}/{task_id}", 9 },
};

#define N_ROUTES (sizeof(table) / sizeof(table[0]))

static void check_match(const RouteMatch *match) {
        size_t n_wanted = 0;

        for (const char *p = match->route->pattern; *p; p++)
                n_wanted += *p == '{';

        FUZZ_CHECK(match->id == match->route->id);
        FUZZ_CHECK(match->n_parameters == n_wanted);
        for (size_t i = 0; i < match->n_parameters; i++) {
                FUZZ_CHECK(match->parameters[i][0] != 0);
                FUZZ_CHECK(text_is_utf8(match->parameters[i], strlen(match->parameters[i])));
        }
}

/* Each of the methods that a 405 tells leads somewhere. */
static void check_allow(const char *allow, const char *path) {
        _cleanup_(freep) char *methods = strdup(allow);
        char *rest = methods, *method;

        FUZZ_CHECK(methods && *methods);
        while ((method = strsep(&rest, ","))) {
                _cleanup_(route_match_done) RouteMatch match = {};
                Problem problem = {};

                method += strspn(method, " ");
                (void) route_find(table, N_ROUTES, method, path, &match, &problem);
                FUZZ_CHECK(problem.status == 0 || problem.status == 400);
        }
}

static void fuzz_path(const char *method, const char *path) {
        _cleanup_(route_match_done) RouteMatch match = {};
        Problem problem = {};
        int r;

        r = route_find(table, N_ROUTES, method, path, &match, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 404, 405, 0 });
        if (r >= 0)
                check_match(&match);
        else {
                FUZZ_CHECK(match.n_parameters == 0);
                FUZZ_CHECK((problem.status == 405) == (match.allow[0] != 0));
                if (problem.status == 405)
                        check_allow(match.allow, path);
        }
}

/* The items again as a query, with all that may mean something escaped. */
static char *write_query(const Query *query) {
        Text text = {};

        for (size_t i = 0; i < query->n_items; i++) {
                _cleanup_(freep) char *name = NULL, *value = NULL;

                FUZZ_CHECK(text_percent_encode(query->items[i].name, "", &name) == 0);
                FUZZ_CHECK(text_percent_encode(query->items[i].value, "", &value) == 0);
                FUZZ_CHECK(text_appendf(&text, "%s%s=%s", i > 0 ? "&" : "", name, value) == 0);
        }

        FUZZ_CHECK(text_append(&text, "") == 0);
        return text.data;
}

static void fuzz_query(const char *text) {
        _cleanup_(query_done) Query query = { 0 }, again = {};
        _cleanup_(freep) char *written = NULL;
        Problem problem = {};
        int r;

        r = query_parse(text, &query, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
        if (r < 0)
                return;

        written = write_query(&query);
        FUZZ_CHECK(query_parse(written, &again, &problem) == 0);
        FUZZ_CHECK(again.n_items == query.n_items);
        for (size_t i = 0; i < query.n_items; i++) {
                FUZZ_CHECK(streq(again.items[i].name, query.items[i].name));
                FUZZ_CHECK(streq(again.items[i].value, query.items[i].value));
                FUZZ_CHECK(query_get(&query, query.items[i].name) != NULL);
        }

        r = query_check(&query, (const char *const[]) { "wait", "label", NULL }, NULL, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *line = fuzz_string(data, size);
        char *rest = line;
        const char *method = strsep(&rest, " ");
        const char *path = strsep(&rest, "?");

        if (path)
                fuzz_path(method, path);
        if (rest)
                fuzz_query(rest);
        return 0;
}
