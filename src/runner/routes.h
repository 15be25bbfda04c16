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

/* routes-capacity.c */
void route_ready(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_capacity(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_resources(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_impact(Runner *runner, HttpRequest *request, const RequestContext *context);

/* The present capacity without the host's facts, as a refusal shows it; NULL when out of memory. */
json_object *capacity_brief(const Runner *runner);

/* routes-task.c */
void route_task_submit(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_task_get(Runner *runner, HttpRequest *request, const RequestContext *context);
void route_task_delete(Runner *runner, HttpRequest *request, const RequestContext *context);

/* routes-tasks.c */
void route_tasks_list(Runner *runner, HttpRequest *request, const RequestContext *context);
