/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/routes.h"

#include "core/request-guard.h"
#include "runner/runner.h"

typedef void (*RouteHandler)(Runner *runner, HttpRequest *request, const RequestContext *context);

typedef enum RouteId {
        ROUTE_READY,
        ROUTE_CAPACITY,
        ROUTE_RESOURCES,
        ROUTE_IMPACT,
        ROUTE_TASK_SUBMIT_NEW,
        ROUTE_TASK_SUBMIT,
        ROUTE_TASK_GET,
        ROUTE_TASK_DELETE,
        ROUTE_TASKS_LIST,
        _ROUTE_MAX,
} RouteId;

static const Route routes[] = {
        { "GET", "/ready", ROUTE_READY },
        { "GET", "/api/v1/capacity", ROUTE_CAPACITY },
        { "GET", "/api/v1/resources", ROUTE_RESOURCES },
        { "GET", "/api/v1/impact", ROUTE_IMPACT },
        { "POST", "/api/v1/task", ROUTE_TASK_SUBMIT_NEW },
        { "GET", "/api/v1/task/{task_id}", ROUTE_TASK_GET },
        { "POST", "/api/v1/task/{task_id}", ROUTE_TASK_SUBMIT },
        { "DELETE", "/api/v1/task/{task_id}", ROUTE_TASK_DELETE },
        { "GET", "/api/v1/tasks", ROUTE_TASKS_LIST },
};

static const char *const no_query[] = { NULL };
static const char *const tasks_list_query[] = { "state", "label", "limit", "after", NULL };
static const char *const tasks_list_repeatable[] = { "label", NULL };
static const char *const task_get_query[] = { "wait", "output", NULL };
static const char *const task_delete_query[] = { "wait", NULL };

static const struct {
        RouteHandler handle;
        const char *const *query_names; /* NULL: any, the handler looks at them itself */
        const char *const *query_repeatable;
} endpoints[_ROUTE_MAX] = {
        [ROUTE_READY] = { route_ready, no_query, NULL },
        [ROUTE_CAPACITY] = { route_capacity, no_query, NULL },
        [ROUTE_RESOURCES] = { route_resources, no_query, NULL },
        [ROUTE_IMPACT] = { route_impact, NULL, NULL },
        [ROUTE_TASK_SUBMIT_NEW] = { route_task_submit, no_query, NULL },
        [ROUTE_TASK_SUBMIT] = { route_task_submit, no_query, NULL },
        [ROUTE_TASK_GET] = { route_task_get, task_get_query, NULL },
        [ROUTE_TASK_DELETE] = { route_task_delete, task_delete_query, NULL },
        [ROUTE_TASKS_LIST] = { route_tasks_list, tasks_list_query, tasks_list_repeatable },
};

static void context_free(void *pointer) {
        RequestContext *context = pointer;
        route_match_done(&context->match);
        query_done(&context->query);
        free(context);
}

static int check_guard(const Runner *runner, const HttpRequest *request, Problem *problem) {
        int r = guard_check(
                        &(GuardConfig){
                                        .host_name = runner->facts.host_name,
                                        .allowed_hosts = runner->config->allowed_hosts,
                        },
                        &(GuardRequest){
                                        .host = http_request_header(request, "Host"),
                                        .origin = http_request_header(request, "Origin"),
                                        .sec_fetch_site = http_request_header(request, "Sec-Fetch-Site"),
                                        .over_tcp = http_request_over_tcp(request),
                        },
                        problem);
        if (r < 0 || !http_request_has_body(request))
                return r;
        return guard_check_content_type(http_request_header(request, "Content-Type"), problem);
}

static int find_route(HttpRequest *request, RequestContext *context, Problem *problem) {
        int r =
                        route_find(routes,
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

static int on_header(HttpRequest *request, void *userdata, Problem *reterr_problem) {
        RequestContext *context = calloc(1, sizeof(*context));
        if (!context)
                return problem_from_errno(reterr_problem, ENOMEM);
        http_request_set_context(request, context, context_free);
        int r = find_route(request, context, reterr_problem);
        return r < 0 ? r : check_guard(userdata, request, reterr_problem);
}

static void on_request(HttpRequest *request, void *userdata) {
        const RequestContext *context = http_request_context(request);
        endpoints[context->match.id].handle(userdata, request, context);
}

const HttpHandlers runner_http_handlers = {
        .on_header = on_header,
        .on_request = on_request,
};
