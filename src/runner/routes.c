/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/routes.h"

#include "core/task/task-request.h"

const Endpoint runner_endpoints[] = {
        { "GET", "/api/v1/capacity", ACCESS_READ, route_capacity },
        { "GET", "/api/v1/resources", ACCESS_READ, route_resources },
        { "GET", "/api/v1/impact", ACCESS_READ, route_impact, .query_rule = QUERY_ANY },
        { "POST", "/api/v1/task", ACCESS_SUBMIT, route_task_submit },
        { "GET", "/api/v1/task/{task_id}", ACCESS_READ, route_task_get, task_get_query },
        { "POST", "/api/v1/task/{task_id}", ACCESS_SUBMIT, route_task_submit },
        { "DELETE", "/api/v1/task/{task_id}", ACCESS_SUBMIT, route_task_delete, task_delete_query },
        { "GET", "/api/v1/task/{task_id}/output", ACCESS_READ, route_task_output, task_output_query },
        { "GET", "/api/v1/tasks", ACCESS_READ, route_tasks_list, tasks_list_query, tasks_list_repeatable },
        { "POST", "/api/v1/tasks", ACCESS_SUBMIT, route_tasks_submit },
        { "POST", "/api/v1/tasks/stop", ACCESS_SUBMIT, route_tasks_stop },
        { "POST", "/api/v1/tasks/forget", ACCESS_SUBMIT, route_tasks_forget },
        { "GET", "/api/v1/lease", ACCESS_READ, route_lease_show },
        { "POST", "/api/v1/lease", ACCESS_MANAGE, route_lease_acquire },
        { "PUT", "/api/v1/lease/{lease_id}", ACCESS_MANAGE, route_lease_renew },
        { "DELETE", "/api/v1/lease/{lease_id}", ACCESS_MANAGE, route_lease_release },
        { "POST", "/api/v1/upgrade", ACCESS_MANAGE, route_upgrade },
        { "POST",
          "/api/v1/{#run_id}/{task_id}",
          ACCESS_SUBMIT,
          route_daggyr_run,
          .query_rule = QUERY_ANY,
          .style = &daggyr_style },
        { "DELETE",
          "/api/v1/{#run_id}/{task_id}",
          ACCESS_SUBMIT,
          route_daggyr_stop,
          .query_rule = QUERY_ANY,
          .style = &daggyr_style },
        {},
};
