/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From a request to the function that serves it: a program hands over the table of what it serves, and
 * everything that comes before a handler is done here. */
#pragma once

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/http/query.h"
#include "core/http/route.h"
#include "core/task/bulk-request.h"
#include "core/upgrade/runner-state.h"
#include "io/http-server.h"
#include "service/access.h"

typedef struct Router Router;
typedef struct Endpoint Endpoint;

/* What is known of a request before its body is read. */
typedef struct RequestContext {
        const Endpoint *endpoint;
        void *userdata; /* of the endpoint's table */
        RouteMatch match;
        Query query;
} RequestContext;

/* Parses, calls, answers. USERDATA is that of the endpoint's table. */
typedef void (*EndpointHandler)(void *userdata, HttpRequest *request, const RequestContext *context);

/* The ways of a protocol that is not ours, for the endpoints that speak it. Each function may be NULL. */
typedef struct EndpointStyle {
        /* Takes the place of the check that a body is JSON, which comes last of those of the header. */
        int (*check_header)(
                        void *userdata,
                        const HttpRequest *request,
                        const RequestContext *context,
                        Problem *reterr_problem);
        /* Answers a request that was refused, for whatever reason, in the protocol's own form. */
        void (*refuse)(void *userdata, HttpRequest *request, const Problem *problem);
} EndpointStyle;

typedef enum QueryRule {
        QUERY_LISTED,  /* only the names in the table: the default */
        QUERY_ANY,     /* the handler looks at the names itself */
        QUERY_IGNORED, /* not even parsed */
} QueryRule;

struct Endpoint {
        const char *method;  /* or ROUTE_METHOD_ANY */
        const char *pattern; /* as in core/http/route.h */
        AccessLevel access;
        EndpointHandler handle;
        const char *const *query_names; /* with QUERY_LISTED: NULL-terminated; NULL: none */
        const char *const *query_repeatable;
        QueryRule query_rule;
        const EndpointStyle *style; /* NULL: ours */
        bool everywhere;            /* served here whoever else may be asked: it is never diverted */
};

/* What is served for the same USERDATA. */
typedef struct EndpointTable {
        const Endpoint *endpoints; /* the last one is without method */
        void *userdata;
} EndpointTable;

/* What TABLES point to and ACCESS (after access_init()) must stay until router_free(). -ENOMEM. */
int router_new(const EndpointTable *tables, size_t n_tables, Access *access, Router **ret);

/* Takes over a request that is let in, before its handler: true when somebody else answers it, now or later,
 * by whatever way; then REQUEST and CONTEXT, which lives as long, are his. */
typedef bool (*RouterDivert)(void *userdata, HttpRequest *request, const RequestContext *context);

/* DIVERT is asked about each request from now on, but for those of endpoints that are served everywhere. */
void router_divert(Router *router, RouterDivert divert, void *userdata);

/* The server must be gone before. */
Router *router_free(Router *router);
DEFINE_POINTER_CLEANUP(Router, router_free)

/* For http_server_new(); their userdata is the Router. */
extern const HttpHandlers router_http_handlers;

/* Serves a request that was diverted, after all, by its own handler. */
void request_serve(HttpRequest *request);

/* Answers a request that cannot be served now in the form of what it asks for. */
void request_answer_unserved(HttpRequest *request, const Problem *problem);

/* Appends the metric PROGRAM_http_requests_total. -ENOMEM. */
int router_format_metrics(const Router *router, const char *program, Text *text);

/* The request's body as JSON; the caller puts it. */
int request_parse_body(const HttpRequest *request, json_object **ret, Problem *reterr_problem);

/* The same, with the trace that the request's headers tell of put into the environment of the task, or the
 * tasks, that are in there. */
int request_parse_submission(const HttpRequest *request, json_object **ret, Problem *reterr_problem);

/* A body that is {NAME: true} or {NAME: false}. */
int request_parse_switch(const HttpRequest *request, const char *name, bool *ret, Problem *reterr_problem);

/* Which tasks the body means. */
int request_parse_bulk(const HttpRequest *request, BulkRequest *ret, Problem *reterr_problem);

/* For another process that goes on in this one's place: how often what was asked for. RET, whose strings stay
 * ROUTER's, is a list of SavedRequests, to be freed in every case. -ENOMEM. */
int router_save_metrics(const Router *router, RecordList *ret);

/* Goes on counting from there; what is not served any more is dropped. */
void router_restore_metrics(Router *router, const RecordList *saved);
