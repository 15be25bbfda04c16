/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/routes.h"

#include "core/task/task-request.h"

/* Emcee's queues answer any method. */
#define EMCEE_ENDPOINT(path, access, handle) \
        { ROUTE_METHOD_ANY, path, access, handle, .query_rule = QUERY_IGNORED, .style = &emcee_style }

const Endpoint queue_endpoints[] = {
        { "GET", "/api/v1/capacity", ACCESS_READ, route_capacity },
        { "GET", "/api/v1/resources", ACCESS_READ, route_resources },
        { "GET", "/api/v1/impact", ACCESS_READ, route_impact, .query_rule = QUERY_ANY },
        { "POST", "/api/v1/task", ACCESS_SUBMIT, route_task_submit },
        { "GET", "/api/v1/task/{task_id}", ACCESS_READ, route_task_get, task_get_query },
        { "POST", "/api/v1/task/{task_id}", ACCESS_SUBMIT, route_task_submit },
        { "DELETE", "/api/v1/task/{task_id}", ACCESS_SUBMIT, route_task_delete, task_delete_query },
        { "POST", "/api/v1/task/{task_id}/retry", ACCESS_SUBMIT, route_task_retry },
        { "GET", "/api/v1/task/{task_id}/output", ACCESS_READ, route_task_output, task_output_query },
        { "GET", "/api/v1/tasks", ACCESS_READ, route_tasks_list, tasks_list_query, tasks_list_repeatable },
        { "POST", "/api/v1/tasks", ACCESS_SUBMIT, route_tasks_submit },
        { "POST", "/api/v1/tasks/stop", ACCESS_SUBMIT, route_tasks_stop },
        { "POST", "/api/v1/tasks/retry", ACCESS_SUBMIT, route_tasks_retry },
        { "POST", "/api/v1/tasks/forget", ACCESS_SUBMIT, route_tasks_forget },
        { "GET", "/api/v1/members", ACCESS_READ, route_members, .everywhere = true },
        { "GET", "/api/v1/workers", ACCESS_READ, route_workers },
        { "POST", "/api/v1/workers", ACCESS_MANAGE, route_worker_join },
        { "DELETE", "/api/v1/workers/{worker_id}", ACCESS_MANAGE, route_worker_leave },
        { "PUT", "/api/v1/workers/{worker_id}", ACCESS_MANAGE, route_worker_set },
        { "GET", "/api/v1/queues", ACCESS_READ, route_queues },
        /* With or without a slash at the end. */
        EMCEE_ENDPOINT("/queueVersion", ACCESS_READ, route_queue_version),
        EMCEE_ENDPOINT("/queueVersion/", ACCESS_READ, route_queue_version),
        EMCEE_ENDPOINT("/workerIds", ACCESS_READ, route_worker_ids),
        EMCEE_ENDPOINT("/workerIds/", ACCESS_READ, route_worker_ids),
        EMCEE_ENDPOINT("/workersToUtilize", ACCESS_READ, route_workers_to_utilize),
        EMCEE_ENDPOINT("/workersToUtilize/", ACCESS_READ, route_workers_to_utilize),
        EMCEE_ENDPOINT("/toggleWorkersSharing", ACCESS_MANAGE, route_toggle_sharing),
        EMCEE_ENDPOINT("/toggleWorkersSharing/", ACCESS_MANAGE, route_toggle_sharing),
        EMCEE_ENDPOINT("/workerStatus", ACCESS_READ, route_worker_status),
        EMCEE_ENDPOINT("/workerStatus/", ACCESS_READ, route_worker_status),
        {},
};
