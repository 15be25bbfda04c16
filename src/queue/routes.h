/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue's REST interface. Each route parses, calls, answers; the table in routes.c says which are there.
 */
#pragma once

#include <json-c/json.h>

#include "service/router.h"

typedef struct Queue Queue;

/* What daggyd serves, besides what every daemon does (service/daemon.c). Their userdata is the Queue. */
extern const Endpoint queue_endpoints[];

/* routes-capacity.c */
void route_capacity(void *userdata, HttpRequest *request, const RequestContext *context);
void route_resources(void *userdata, HttpRequest *request, const RequestContext *context);
void route_impact(void *userdata, HttpRequest *request, const RequestContext *context);

/* The capacity of all workers that may be used now, together; NULL when out of memory. */
json_object *queue_capacity_json(const Queue *queue);

/* routes-task.c */
void route_task_submit(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_get(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_delete(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_retry(void *userdata, HttpRequest *request, const RequestContext *context);
void route_task_output(void *userdata, HttpRequest *request, const RequestContext *context);

/* routes-tasks.c */
void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_stop(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_retry(void *userdata, HttpRequest *request, const RequestContext *context);
void route_tasks_forget(void *userdata, HttpRequest *request, const RequestContext *context);

/* routes-sharing.c */
extern const EndpointStyle emcee_style;
void route_queues(void *userdata, HttpRequest *request, const RequestContext *context);
void route_queue_version(void *userdata, HttpRequest *request, const RequestContext *context);
void route_worker_ids(void *userdata, HttpRequest *request, const RequestContext *context);
void route_workers_to_utilize(void *userdata, HttpRequest *request, const RequestContext *context);
void route_toggle_sharing(void *userdata, HttpRequest *request, const RequestContext *context);
void route_worker_status(void *userdata, HttpRequest *request, const RequestContext *context);

/* routes-members.c */
void route_members(void *userdata, HttpRequest *request, const RequestContext *context);

/* routes-workers.c */
void route_workers(void *userdata, HttpRequest *request, const RequestContext *context);
void route_worker_join(void *userdata, HttpRequest *request, const RequestContext *context);
void route_worker_leave(void *userdata, HttpRequest *request, const RequestContext *context);
void route_worker_set(void *userdata, HttpRequest *request, const RequestContext *context);
