/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/task-request.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/task-submit.h"
#include "runner/task.h"

static bool list_has(const TaskListRequest *list, const Task *task) {
        if (list->after != UINT64_MAX && task->sequence <= list->after)
                return false;
        if (list->state && !streq(list->state, task_state_public(task->state, task->result)))
                return false;
        for (const char *const *label = list->labels; *label; label++)
                if (!text_list_has(task->spec->labels, *label))
                        return false;
        return true;
}

static json_object *task_list(const Runner *runner, const TaskListRequest *list) {
        _cleanup_(json_putp) json_object *tasks = json_object_new_array();
        if (!tasks)
                return NULL;
        const Task *last = NULL;
        uint64_t n = 0;
        const Task *task = runner->tasks.first;
        for (; task && n < list->limit; task = task->next) {
                if (!list_has(list, task))
                        continue;
                if (json_append(tasks, task_to_json(task, OUTPUT_NONE)) < 0)
                        return NULL;
                last = task;
                n++;
        }
        while (task && !list_has(list, task))
                task = task->next;
        return task_page_to_json(TAKE_PTR(tasks), task && last ? last->sequence : UINT64_MAX);
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        TaskListRequest list;
        if (task_list_request_parse(&context->query, QUERY_ITEMS_MAX, &list, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                http_request_answer_json(request, 200, task_list(runner, &list));
}

static json_object *submit_one(Runner *runner, json_object *element, const char *lease_id) {
        TaskSubmission submission = {};
        Problem problem = {};
        if (task_submit_json(runner, element, NULL, lease_id, &submission, &problem) < 0)
                return task_batch_refused(
                                task_batch_id(element),
                                &problem,
                                submission.is_full ? capacity_brief(runner) : NULL);
        runner_admit(runner); /* so that the next one sees what is left */
        return task_batch_accepted(
                        submission.task->spec->task_id,
                        submission.is_new,
                        task_to_json(submission.task, OUTPUT_NONE));
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL, *outcomes = json_object_new_array();
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = task_batch_check(body, &problem);
        if (r < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        const char *lease_id = http_request_header(request, "Daggyr-Lease");
        for (size_t i = 0; outcomes && i < json_object_array_length(body); i++)
                if (json_append(outcomes, submit_one(runner, json_object_array_get_idx(body, i), lease_id)) <
                    0) {
                        http_request_answer_json(request, 200, NULL);
                        return;
                }
        http_request_answer_json(request, 200, TAKE_PTR(outcomes));
}
