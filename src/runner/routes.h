/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runner's REST interface: handlers for the table in routes.c, which says which are there; their userdata
 * is the Runner. */
#pragma once

#include <json-c/json.h>

#include "io/http-server.h"
#include "service/router.h"

typedef struct Runner Runner;

/* What daggyr serves, besides what every daemon does (service/daemon.c). */
extern const Endpoint runner_endpoints[];

/* routes-capacity.c */
void route_capacity(void *userdata, HttpRequest *request, const RequestContext *context);
void route_resources(void *userdata, HttpRequest *request, const RequestContext *context);
void route_impact(void *userdata, HttpRequest *request, const RequestContext *context);

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
void route_lease_acquire(void *userdata, HttpRequest *request, const RequestContext *context);
void route_lease_show(void *userdata, HttpRequest *request, const RequestContext *context);
void route_lease_renew(void *userdata, HttpRequest *request, const RequestContext *context);
void route_lease_release(void *userdata, HttpRequest *request, const RequestContext *context);

/* {"lease":null} or the lease without its id; NULL when out of memory. */
json_object *runner_lease_json(const Runner *runner);

/* routes-daggyr.c */
void route_daggyr_run(void *userdata, HttpRequest *request, const RequestContext *context);
void route_daggyr_stop(void *userdata, HttpRequest *request, const RequestContext *context);

/* Answers a request of these that its client may make again in a moment. */
void daggyr_answer_later(HttpRequest *request);

/* How these endpoints check a header and refuse. */
extern const EndpointStyle daggyr_style;

/* routes-task.c */
void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_get(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_delete(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_output(void *userdata, HttpRequest *request, const RequestContext *context);

/* routes-tasks.c */
void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_stop(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_forget(void *userdata, HttpRequest *request, const RequestContext *context);

/* upgrade.c */
void route_upgrade(void *userdata, HttpRequest *request, const RequestContext *context);
