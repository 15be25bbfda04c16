/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "core/json.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/task-submit.h"
#include "runner/task.h"

#define LIST_LIMIT 1000
#define BATCH_MAX  1000

typedef struct ListFilter {
        const char *state;
        const Query *query; /* its "label" items must all hold */
        uint64_t limit;
        uint64_t after; /* sequence number of the last task of the page before, or UINT64_MAX */
} ListFilter;

static int parse_filter(const Query *query, ListFilter *ret, Problem *problem) {
        static const char *const states[] = { "queued", "running", "completed", "errored", "killed" };
        *ret = (ListFilter){
                .state = query_get(query, "state"),
                .query = query,
                .limit = LIST_LIMIT,
                .after = UINT64_MAX,
        };
        bool known = !ret->state;
        for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
                known |= ret->state && streq(ret->state, states[i]);
        if (!known)
                return problem_set(
                                problem,
                                400,
                                "/state",
                                "must be queued, running, completed, errored or killed");
        const char *limit = query_get(query, "limit"), *after = query_get(query, "after");
        if (limit && text_parse_u64(limit, 1, LIST_LIMIT, &ret->limit) < 0)
                return problem_set(problem, 400, "/limit", "must be an integer between 1 and %d", LIST_LIMIT);
        if (after && text_parse_u64(after, 0, UINT64_MAX - 1, &ret->after) < 0)
                return problem_set(problem, 400, "/after", "must be the \"next\" of an earlier answer");
        for (size_t i = 0; i < query->n_items; i++)
                if (streq(query->items[i].name, "label") && !strchr(query->items[i].value, '='))
                        return problem_set(problem, 400, "/label", "must be key=value");
        return 0;
}

static bool filter_accepts(const ListFilter *filter, const Task *task) {
        if (filter->after != UINT64_MAX && task->sequence <= filter->after)
                return false;
        if (filter->state && !streq(filter->state, task_state_public(task->state, task->result)))
                return false;
        for (size_t i = 0; i < filter->query->n_items; i++)
                if (streq(filter->query->items[i].name, "label") &&
                    !text_list_has(task->spec->labels, filter->query->items[i].value))
                        return false;
        return true;
}

static json_object *task_list(const Runner *runner, const ListFilter *filter) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *tasks = json_object_new_array();
        if (!object || !tasks)
                return NULL;
        const Task *last = NULL;
        uint64_t n = 0;
        const Task *task = runner->tasks.first;
        for (; task && n < filter->limit; task = task->next) {
                if (!filter_accepts(filter, task))
                        continue;
                if (json_append(tasks, task_to_json(task, OUTPUT_NONE)) < 0)
                        return NULL;
                last = task;
                n++;
        }
        while (task && !filter_accepts(filter, task))
                task = task->next;
        char next[3 * sizeof(uint64_t)];
        if (task && last)
                (void) snprintf(next, sizeof(next), "%" PRIu64, last->sequence);
        if (json_add(object, "tasks", TAKE_PTR(tasks)) < 0 ||
            json_add_string(object, "next", task && last ? next : NULL) < 0)
                return NULL;
        return TAKE_PTR(object);
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        ListFilter filter;
        if (parse_filter(&context->query, &filter, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                http_request_answer_json(request, 200, task_list(runner, &filter));
}

/* One element of the answer to a batch: {"task_id","status","attempt"|"problem"}. */
static json_object *batch_outcome(
                const Runner *runner,
                const TaskSubmission *submission,
                const char *task_id,
                const Problem *problem) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        json_object *problem_json = NULL;
        int r = object ? 0 : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "task_id", task_id);
        if (r >= 0)
                r = json_add_u64(
                                object,
                                "status",
                                problem->status                    ? (uint64_t) problem->status :
                                                submission->is_new ? 202 :
                                                                     200);
        if (r >= 0 && problem->status == 0)
                r = json_add(object, "attempt", task_to_json(submission->task, OUTPUT_NONE));
        else if (r >= 0) {
                r = problem_to_json(
                                problem, submission->is_full ? capacity_brief(runner) : NULL, &problem_json);
                if (r >= 0)
                        r = json_add(object, "problem", problem_json);
        }
        return r < 0 ? NULL : TAKE_PTR(object);
}

static json_object *submit_one(Runner *runner, json_object *element, const char *lease_id) {
        TaskSubmission submission = {};
        Problem problem = {};
        json_object *id = NULL;
        if (task_submit_json(runner, element, NULL, lease_id, &submission, &problem) >= 0) {
                runner_admit(runner); /* so that the next one sees what is left */
                return batch_outcome(runner, &submission, submission.task->spec->task_id, &problem);
        }
        bool named = json_object_is_type(element, json_type_object) &&
                        json_object_object_get_ex(element, "task_id", &id) &&
                        json_object_is_type(id, json_type_string);
        return batch_outcome(runner, &submission, named ? json_object_get_string(id) : NULL, &problem);
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL, *outcomes = json_object_new_array();
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0 &&
            (!json_object_is_type(body, json_type_array) || json_object_array_length(body) > BATCH_MAX))
                r = problem_set(&problem, 400, NULL, "must be an array of at most %d tasks", BATCH_MAX);
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
