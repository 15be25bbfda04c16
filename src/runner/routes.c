/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/routes.h"

#include <assert.h>

#include "core/json.h"
#include "core/request-guard.h"
#include "core/token.h"
#include "runner/runner.h"

typedef void (*RouteHandler)(Runner *runner, HttpRequest *request, const RequestContext *context);

typedef enum RouteId {
        ROUTE_READY,
        ROUTE_METRICS,
        ROUTE_CAPACITY,
        ROUTE_RESOURCES,
        ROUTE_IMPACT,
        ROUTE_TASK_SUBMIT_NEW,
        ROUTE_TASK_GET,
        ROUTE_TASK_SUBMIT,
        ROUTE_TASK_DELETE,
        ROUTE_TASK_OUTPUT,
        ROUTE_TASKS_LIST,
        ROUTE_TASKS_SUBMIT,
        ROUTE_EVENTS,
        ROUTE_DRAIN,
        ROUTE_LEASE_SHOW,
        ROUTE_LEASE_ACQUIRE,
        ROUTE_LEASE_RENEW,
        ROUTE_LEASE_RELEASE,
        ROUTE_DAGGYR_RUN,
        ROUTE_DAGGYR_STOP,
        _ROUTE_MAX,
} RouteId;

static_assert(_ROUTE_MAX < METRICS_ROUTES_MAX, "requests are counted by route");

static const Route routes[] = {
        { "GET", "/ready", ROUTE_READY },
        { "GET", "/metrics", ROUTE_METRICS },
        { "GET", "/api/v1/capacity", ROUTE_CAPACITY },
        { "GET", "/api/v1/resources", ROUTE_RESOURCES },
        { "GET", "/api/v1/impact", ROUTE_IMPACT },
        { "POST", "/api/v1/task", ROUTE_TASK_SUBMIT_NEW },
        { "GET", "/api/v1/task/{task_id}", ROUTE_TASK_GET },
        { "POST", "/api/v1/task/{task_id}", ROUTE_TASK_SUBMIT },
        { "DELETE", "/api/v1/task/{task_id}", ROUTE_TASK_DELETE },
        { "GET", "/api/v1/task/{task_id}/output", ROUTE_TASK_OUTPUT },
        { "GET", "/api/v1/tasks", ROUTE_TASKS_LIST },
        { "POST", "/api/v1/tasks", ROUTE_TASKS_SUBMIT },
        { "GET", "/api/v1/events", ROUTE_EVENTS },
        { "PUT", "/api/v1/drain", ROUTE_DRAIN },
        { "GET", "/api/v1/lease", ROUTE_LEASE_SHOW },
        { "POST", "/api/v1/lease", ROUTE_LEASE_ACQUIRE },
        { "PUT", "/api/v1/lease/{lease_id}", ROUTE_LEASE_RENEW },
        { "DELETE", "/api/v1/lease/{lease_id}", ROUTE_LEASE_RELEASE },
        { "POST", "/api/v1/{#run_id}/{task_id}", ROUTE_DAGGYR_RUN },
        { "DELETE", "/api/v1/{#run_id}/{task_id}", ROUTE_DAGGYR_STOP },
};

static const char *const no_query[] = { NULL };
static const char *const task_get_query[] = { "wait", "output", NULL };
static const char *const task_delete_query[] = { "wait", NULL };
static const char *const task_output_query[] = { "stream", "offset", "follow", NULL };
static const char *const tasks_list_query[] = { "state", "label", "limit", "after", NULL };
static const char *const tasks_list_repeatable[] = { "label", NULL };

static const struct {
        RouteHandler handle;
        const char *const *query_names; /* NULL: any, the handler looks at them itself */
        const char *const *query_repeatable;
} endpoints[_ROUTE_MAX] = {
        [ROUTE_READY] = { route_ready, no_query, NULL },
        [ROUTE_METRICS] = { route_metrics, no_query, NULL },
        [ROUTE_CAPACITY] = { route_capacity, no_query, NULL },
        [ROUTE_RESOURCES] = { route_resources, no_query, NULL },
        [ROUTE_IMPACT] = { route_impact, NULL, NULL },
        [ROUTE_TASK_SUBMIT_NEW] = { route_task_submit, no_query, NULL },
        [ROUTE_TASK_GET] = { route_task_get, task_get_query, NULL },
        [ROUTE_TASK_SUBMIT] = { route_task_submit, no_query, NULL },
        [ROUTE_TASK_DELETE] = { route_task_delete, task_delete_query, NULL },
        [ROUTE_TASK_OUTPUT] = { route_task_output, task_output_query, NULL },
        [ROUTE_TASKS_LIST] = { route_tasks_list, tasks_list_query, tasks_list_repeatable },
        [ROUTE_TASKS_SUBMIT] = { route_tasks_submit, no_query, NULL },
        [ROUTE_EVENTS] = { route_events, no_query, NULL },
        [ROUTE_DRAIN] = { route_drain, no_query, NULL },
        [ROUTE_LEASE_SHOW] = { route_lease_show, no_query, NULL },
        [ROUTE_LEASE_ACQUIRE] = { route_lease_acquire, no_query, NULL },
        [ROUTE_LEASE_RENEW] = { route_lease_renew, no_query, NULL },
        [ROUTE_LEASE_RELEASE] = { route_lease_release, no_query, NULL },
        [ROUTE_DAGGYR_RUN] = { route_daggyr_run, NULL, NULL },
        [ROUTE_DAGGYR_STOP] = { route_daggyr_stop, NULL, NULL },
};

const Route *runner_routes(size_t *ret_n) {
        *ret_n = sizeof(routes) / sizeof(*routes);
        return routes;
}

int route_parse_body(const HttpRequest *request, json_object **ret, Problem *reterr_problem) {
        size_t size;
        const char *body = http_request_body(request, &size);
        return json_parse(body, size, ret, reterr_problem);
}

static void context_free(void *pointer) {
        RequestContext *context = pointer;
        route_match_done(&context->match);
        query_done(&context->query);
        free(context);
}

static int check_guard(
                const Runner *runner,
                const HttpRequest *request,
                bool authenticated,
                Problem *problem) {
        return guard_check(
                        &(GuardConfig){
                                        .host_name = runner->facts.host_name,
                                        .allowed_hosts = runner->config->service.allowed_hosts,
                        },
                        &(GuardRequest){
                                        .host = http_request_header(request, "Host"),
                                        .origin = http_request_header(request, "Origin"),
                                        .sec_fetch_site = http_request_header(request, "Sec-Fetch-Site"),
                                        .over_tcp = http_request_over_tcp(request),
                                        .authenticated = authenticated,
                        },
                        problem);
}

static int find_route(HttpRequest *request, RequestContext *context, Problem *problem) {
        int r = route_find(
                        routes,
                        sizeof(routes) / sizeof(*routes),
                        http_request_method(request),
                        http_request_path(request),
                        &context->match,
                        problem);
        if (r < 0 && problem->status == 405)
                (void) http_request_add_header(request, "Allow", context->match.allow);
        if (r >= 0)
                r = query_parse(http_request_query(request), &context->query, problem);
        if (r >= 0 && endpoints[context->match.id].query_names)
                r = query_check(&context->query,
                                endpoints[context->match.id].query_names,
                                endpoints[context->match.id].query_repeatable,
                                problem);
        return r;
}

static bool is_daggyr(const RequestContext *context) {
        return context && context->match.route &&
                        (context->match.id == ROUTE_DAGGYR_RUN || context->match.id == ROUTE_DAGGYR_STOP);
}

/* Over TCP a token is asked for where one is configured; /ready tells nothing that a port scan would not. */
static int check_token(const Runner *runner, HttpRequest *request, bool is_ready, Problem *problem) {
        if (!runner->token || !http_request_over_tcp(request) || is_ready)
                return 0;
        int r = token_check(runner->token, http_request_header(request, "Authorization"), problem);
        if (r < 0)
                (void) http_request_add_header(request, "WWW-Authenticate", "Bearer realm=\"daggyr\"");
        return r;
}

static bool shows_token(const Runner *runner, const HttpRequest *request) {
        Problem ignored = {};
        return runner->token &&
                        token_check(runner->token, http_request_header(request, "Authorization"), &ignored) >=
                        0;
}

static int on_header(HttpRequest *request, void *userdata, Problem *reterr_problem) {
        const Runner *runner = userdata;
        RequestContext *context = calloc(1, sizeof(*context));
        if (!context)
                return problem_from_errno(reterr_problem, ENOMEM);
        http_request_set_context(request, context, context_free);

        /* What a web page sends is refused as such wherever it leads; but in the form of where it leads. */
        Problem route_problem = {};
        int found = find_route(request, context, &route_problem);
        int r = check_guard(runner, request, shows_token(runner, request), reterr_problem);
        if (r >= 0)
                r = check_token(runner,
                                request,
                                found >= 0 && context->match.id == ROUTE_READY,
                                reterr_problem);
        if (r >= 0 && found < 0) {
                *reterr_problem = route_problem;
                r = found;
        }
        if (r < 0)
                return r;
        if (is_daggyr(context))
                return daggyr_check_header(runner, request, context, reterr_problem);
        if (http_request_has_body(request))
                return guard_check_content_type(http_request_header(request, "Content-Type"), reterr_problem);
        return 0;
}

static void on_request(HttpRequest *request, void *userdata) {
        const RequestContext *context = http_request_context(request);
        endpoints[context->match.id].handle(userdata, request, context);
}

static void on_refused(HttpRequest *request, const Problem *problem, void *userdata) {
        if (is_daggyr(http_request_context(request)))
                daggyr_answer_refused(userdata, request, problem);
        else
                http_request_answer_problem(request, problem, NULL);
}

static void on_answered(HttpRequest *request, int status, void *userdata) {
        Runner *runner = userdata;
        const RequestContext *context = http_request_context(request);
        bool matched = context && context->match.route;
        metrics_count_request(&runner->metrics, matched ? (size_t) context->match.id : _ROUTE_MAX, status);
}

const HttpHandlers runner_http_handlers = {
        .on_header = on_header,
        .on_request = on_request,
        .on_refused = on_refused,
        .on_answered = on_answered,
};
