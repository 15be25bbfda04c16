/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runner's REST interface. Each route parses, calls, answers; the table in routes.c says which are there.
 */
#pragma once

#include <json-c/json.h>

#include "core/route.h"
#include "io/http-server.h"

typedef struct Runner Runner;

/* What is known of a request before its body is read. */
typedef struct RequestContext {
        RouteMatch match;
        Query query;
} RequestContext;

/* For http_server_new(); their userdata is the Runner. */
extern const HttpHandlers runner_http_handlers;

/* All routes; the id of each is its place. */
const Route *runner_routes(size_t *ret_n);

/* The request's body as JSON; the caller puts it. */
int route_parse_body(const HttpRequest *request, json_object **ret, Problem *reterr_problem);

/* routes-capacity.c */
void route_ready(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_capacity(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_resources(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_impact(Runner *runner, HttpRequest *request, const RequestContext *context);

/* The present capacity without the host's facts, as a refusal shows it; NULL when out of memory. */
json_object *capacity_brief(const Runner *runner);

/* The host's facts; NULL when out of memory. */
json_object *runner_facts_json(const Runner *runner);

/* Answers by ANSWER as soon as systemd's word on the slice is no older than a second. */
typedef void (*FreshAnswer)(Runner *runner, HttpRequest *request, const RequestContext *context);
void answer_when_fresh(
                Runner *runner,
                HttpRequest *request,
                const RequestContext *context,
                FreshAnswer answer);

/* routes-lease.c */
void route_lease_acquire(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_lease_show(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_lease_renew(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_lease_release(Runner *runner, HttpRequest *request, const RequestContext *context);

/* {"lease":null} or the lease without its id; NULL when out of memory. */
json_object *runner_lease_json(const Runner *runner);

/* routes-daggyr.c */
void route_daggyr_run(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_daggyr_stop(Runner *runner, HttpRequest *request, const RequestContext *context);

/* These endpoints' own checks of a header, and their own form of refusals. */
int daggyr_check_header(
                const Runner *runner,
                const HttpRequest *request,
                const RequestContext *context,
                Problem *problem);
void daggyr_answer_refused(const Runner *runner, HttpRequest *request, const Problem *problem);
void daggyr_answer_error(HttpRequest *request, int status, const char *message);

/* routes-admin.c */
void route_drain(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_events(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_metrics(Runner *runner, HttpRequest *request, const RequestContext *context);

/* routes-task.c */
void route_task_submit(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_task_get(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_task_delete(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_task_output(Runner *runner, HttpRequest *request, const RequestContext *context);

/* routes-tasks.c */
void route_tasks_list(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_tasks_submit(Runner *runner, HttpRequest *request, const RequestContext *context);
