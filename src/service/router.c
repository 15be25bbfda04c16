/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/http/request-framing.h"
#include "core/http/request-guard.h"
#include "core/http/request-metrics.h"
#include "core/json/json.h"
#include "core/task/task-spec.h"
#include "core/task/trace-context.h"
#include "service/refusals.h"

/* What is served, and for whom. */
typedef struct Served {
        const Endpoint *endpoint;
        void *userdata;
} Served;

struct Router {
        size_t n_served;
        Served *served;
        Route *routes; /* of what is served; the id of each is its place */
        Access *access;
        RouterDivert divert; /* NULL: nothing is diverted */
        void *divert_userdata;
        RequestMetrics metrics;
        Refusals refusals;
};

static void add_table(Router *router, const EndpointTable *table) {
        for (const Endpoint *endpoint = table->endpoints; endpoint->method; endpoint++) {
                size_t place = router->n_served++;
                router->served[place] = (Served) { endpoint, table->userdata };
                router->routes[place] = (Route) { endpoint->method, endpoint->pattern, (int) place };
        }
}

int router_new(const EndpointTable *tables, size_t n_tables, Access *access, Router **ret) {
        _cleanup_(router_freep) Router *router = calloc(1, sizeof(*router));
        if (!router)
                return -ENOMEM;
        router->access = access;
        refusals_init(&router->refusals, access->event);
        size_t n = 0;
        for (size_t i = 0; i < n_tables; i++)
                for (const Endpoint *endpoint = tables[i].endpoints; endpoint->method; endpoint++)
                        n++;
        router->served = calloc(n, sizeof(*router->served));
        router->routes = calloc(n, sizeof(*router->routes));
        if (!router->served || !router->routes)
                return -ENOMEM;
        for (size_t i = 0; i < n_tables; i++)
                add_table(router, &tables[i]);
        int r = request_metrics_init(&router->metrics, router->routes, n);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(router);
        return 0;
}

void router_divert(Router *router, RouterDivert divert, void *userdata) {
        router->divert = divert;
        router->divert_userdata = userdata;
}

Router *router_free(Router *router) {
        if (!router)
                return NULL;
        refusals_done(&router->refusals);
        request_metrics_done(&router->metrics);
        free(router->served);
        free(router->routes);
        free(router);
        return NULL;
}

static void context_free(void *pointer) {
        RequestContext *context = pointer;
        route_match_done(&context->match);
        query_done(&context->query);
        free(context);
}

static const EndpointStyle *style_of(const RequestContext *context) {
        static const EndpointStyle ours = {};
        return context && context->endpoint && context->endpoint->style ? context->endpoint->style : &ours;
}

static int read_query(const HttpRequest *request, RequestContext *context, Problem *problem) {
        const Endpoint *endpoint = context->endpoint;
        if (endpoint->query_rule == QUERY_IGNORED)
                return 0;
        int r = query_parse(http_request_query(request), &context->query, problem);
        if (r >= 0 && endpoint->query_rule == QUERY_LISTED)
                r = query_check(&context->query, endpoint->query_names, endpoint->query_repeatable, problem);
        return r;
}

/* "OPTIONS *" is about the server as a whole. */
static void answer_server_options(void *userdata, HttpRequest *request, const RequestContext *context) {
        (void) http_request_add_header(request, "Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS");
        http_request_answer(request, 204, NULL, NULL, 0);
}

static const Endpoint server_endpoint = { "OPTIONS",
                                          FRAMING_TARGET_SERVER,
                                          ACCESS_PUBLIC,
                                          answer_server_options,
                                          .everywhere = true };

static int find_endpoint(
                const Router *router,
                HttpRequest *request,
                RequestContext *context,
                Problem *problem) {
        if (streq(http_request_path(request), FRAMING_TARGET_SERVER)) {
                context->endpoint = &server_endpoint;
                return 0;
        }
        int r = route_find(
                        router->routes,
                        router->n_served,
                        http_request_method(request),
                        http_request_path(request),
                        &context->match,
                        problem);
        if (r < 0 && problem->status == 405)
                (void) http_request_add_header(request, "Allow", context->match.allow);
        if (r < 0)
                return r;
        const Served *served = &router->served[context->match.id];
        context->endpoint = served->endpoint;
        context->userdata = served->userdata;
        return read_query(request, context, problem);
}

static int check_demands(HttpRequest *request, Problem *reterr_problem) {
        const GuardDemands demands = {
                .content_encoding = http_request_header(request, "Content-Encoding"),
                .content_range = http_request_header(request, "Content-Range"),
                .if_match = http_request_header(request, "If-Match"),
        };
        int r = guard_check_demands(&demands, reterr_problem);
        if (r < 0 && reterr_problem->status == 415)
                (void) http_request_add_header(request, "Accept-Encoding", "identity");
        return r;
}

static int on_header(HttpRequest *request, void *userdata, Problem *reterr_problem) {
        const Router *router = userdata;
        RequestContext *context = calloc(1, sizeof(*context));
        if (!context)
                return problem_from_errno(reterr_problem, ENOMEM);
        http_request_set_context(request, context, context_free);

        /* What a web page sends is refused as such wherever it leads; but in the form of where it leads. */
        Problem route_problem = {};
        int found = find_endpoint(router, request, context, &route_problem);
        AccessLevel level = found < 0 ? ACCESS_READ : context->endpoint->access;
        int r = access_check_header(router->access, request, level, reterr_problem);
        if (r >= 0 && found < 0) {
                *reterr_problem = route_problem;
                r = found;
        }
        if (r >= 0)
                r = check_demands(request, reterr_problem);
        if (r < 0)
                return r;
        const EndpointStyle *style = style_of(context);
        if (style->check_header)
                return style->check_header(context->userdata, request, context, reterr_problem);
        if (http_request_has_body(request))
                return guard_check_content_type(http_request_header(request, "Content-Type"), reterr_problem);
        return 0;
}

/* Foreign protocols have a form of their own for the reason, but not for this. */
static void add_retry_after(HttpRequest *request, unsigned seconds) {
        char value[sizeof("4294967295")];
        (void) snprintf(value, sizeof(value), "%u", seconds);
        (void) http_request_add_header(request, "Retry-After", value);
}

void request_answer_unserved(HttpRequest *request, const Problem *problem) {
        const RequestContext *context = http_request_context(request);
        const EndpointStyle *style = style_of(context);
        if (style->refuse && problem->retry_after_sec > 0)
                add_retry_after(request, problem->retry_after_sec);
        if (style->refuse)
                style->refuse(context->userdata, request, problem);
        else
                http_request_answer_problem(request, problem, NULL);
}

static void on_refused(HttpRequest *request, const Problem *problem, void *userdata) {
        Router *router = userdata;
        refusals_request(&router->refusals, request, problem);
        request_answer_unserved(request, problem);
}

void request_serve(HttpRequest *request) {
        const RequestContext *context = http_request_context(request);
        context->endpoint->handle(context->userdata, request, context);
}

static bool divert(const Router *router, HttpRequest *request) {
        const RequestContext *context = http_request_context(request);
        return router->divert && !context->endpoint->everywhere &&
                        router->divert(router->divert_userdata, request, context);
}

static void on_decided(HttpRequest *request, const Problem *refusal, void *userdata) {
        if (refusal)
                on_refused(request, refusal, userdata);
        else if (!divert(userdata, request))
                request_serve(request);
}

static void on_request(HttpRequest *request, void *userdata) {
        const Router *router = userdata;
        const RequestContext *context = http_request_context(request);
        access_decide(router->access, request, context->endpoint->access, on_decided, userdata);
}

static void on_answered(HttpRequest *request, int status, void *userdata) {
        Router *router = userdata;
        const RequestContext *context = http_request_context(request);
        request_metrics_count(&router->metrics, context ? context->match.route : NULL, status);
}

static void on_dropped(HttpDrop why, const char *client, void *userdata) {
        Router *router = userdata;
        refusals_connection(&router->refusals, why, client);
}

const HttpHandlers router_http_handlers = {
        .on_header = on_header,
        .on_request = on_request,
        .on_refused = on_refused,
        .on_answered = on_answered,
        .on_dropped = on_dropped,
};

int router_format_metrics(const Router *router, const char *program, Text *text) {
        return request_metrics_format(&router->metrics, program, text);
}

int request_parse_body(const HttpRequest *request, json_object **ret, Problem *reterr_problem) {
        size_t size;
        const char *body = http_request_body(request, &size);
        return json_parse(body, size, ret, reterr_problem);
}

int request_parse_submission(const HttpRequest *request, json_object **ret, Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, reterr_problem);
        if (r < 0)
                return r;
        r = trace_context_add(
                        body,
                        TASK_ENVIRONMENT_MAX,
                        http_request_header(request, "traceparent"),
                        http_request_header(request, "tracestate"));
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        *ret = TAKE_PTR(body);
        return 0;
}

int request_parse_switch(const HttpRequest *request, const char *name, bool *ret, Problem *reterr_problem) {
        const JsonField fields[] = { { .name = name, .parse = json_field_bool, .required = true }, {} };
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, reterr_problem);
        return r < 0 ? r : json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", ret, reterr_problem);
}

int request_parse_bulk(const HttpRequest *request, BulkRequest *ret, Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, reterr_problem);
        return r < 0 ? r : bulk_request_parse(body, ret, reterr_problem);
}

int router_save_metrics(const Router *router, RecordList *ret) {
        const RequestMetrics *metrics = &router->metrics;
        int r = record_list_new(ret, metrics->n_routes + 1, sizeof(SavedRequests));
        SavedRequests *rows = ret->items;
        for (size_t row = 0; r >= 0 && row < ret->n; row++) {
                const Route *route = row < metrics->n_routes ? &metrics->routes[row] : NULL;
                rows[row].method = route ? route->method : NULL;
                rows[row].pattern = route ? route->pattern : NULL;
                r = record_list_new(&rows[row].counts, REQUEST_STATUSES_MAX, sizeof(SavedCount));
                SavedCount *counts = rows[row].counts.items;
                for (size_t i = 0; r >= 0 && i < REQUEST_STATUSES_MAX; i++)
                        counts[i].count = metrics->counts[row][i];
        }
        return r;
}

static size_t find_row(const RequestMetrics *metrics, const SavedRequests *saved) {
        size_t row = 0;
        while (row < metrics->n_routes &&
               (!streq_null(metrics->routes[row].method, saved->method) ||
                !streq_null(metrics->routes[row].pattern, saved->pattern)))
                row++;
        return row;
}

void router_restore_metrics(Router *router, const RecordList *saved) {
        RequestMetrics *metrics = &router->metrics;
        const SavedRequests *rows = saved->items;
        for (size_t i = 0; i < saved->n; i++) {
                const SavedCount *counts = rows[i].counts.items;
                size_t row = find_row(metrics, &rows[i]);
                if (row == metrics->n_routes && rows[i].method)
                        continue;
                for (size_t k = 0; k < rows[i].counts.n && k < REQUEST_STATUSES_MAX; k++)
                        metrics->counts[row][k] = counts[k].count;
        }
}
