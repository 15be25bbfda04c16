/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <string.h>

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "queue/describe.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/submit.h"

static_assert(TASK_LIST_MAX <= STORE_LIST_LIMIT_MAX, "the store can read a page");

/* A list that waits for the store. */
typedef struct PendingList {
        Queue *queue;         /* weak */
        HttpRequest *request; /* NULL: the client is gone */
} PendingList;

static void on_list_hangup(HttpRequest *request, void *userdata) {
        PendingList *pending = userdata;
        pending->request = NULL;
}

static json_object *describe_page(Queue *queue, const StoreEntry *entries, size_t n) {
        _cleanup_(json_putp) json_object *tasks = json_object_new_array();
        for (size_t i = 0; tasks && i < n; i++) {
                json_object *attempt = NULL;
                if (describe_entry(queue, &entries[i], OUTPUT_NONE, &attempt) == -ENOENT)
                        continue; /* forgotten since the page was read */
                if (json_append(tasks, attempt) < 0)
                        return NULL;
        }
        return TAKE_PTR(tasks);
}

static void answer_error(HttpRequest *request, int r) {
        Problem problem = {};
        (void) problem_from_errno(&problem, r);
        http_request_answer_problem(request, &problem, NULL);
}

static void on_listed(
                int r,
                const StoreEntry *entries,
                size_t n,
                uint64_t next,
                const Moment *now,
                void *userdata) {
        PendingList *pending = userdata;
        HttpRequest *request = pending->request;
        Queue *queue = pending->queue;
        free(pending);
        if (!request)
                return;
        http_request_on_hangup(request, NULL, NULL);
        if (r < 0)
                answer_error(request, r);
        else
                http_request_answer_json(
                                request,
                                200,
                                task_page_to_json(
                                                describe_page(queue, entries, n),
                                                next > 0 ? next : UINT64_MAX));
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        TaskListRequest wanted;
        if (task_list_request_parse(&context->query, STORE_LABELS_MAX, &wanted, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        PendingList *pending = malloc(sizeof(*pending));
        int r = -ENOMEM;
        if (pending) {
                *pending = (PendingList){ .queue = queue, .request = request };
                r = queue->store_port->list(
                                queue->store,
                                &(StoreFilter){
                                                .state = wanted.state ?
                                                                stored_state_from_string(wanted.state) :
                                                                -1,
                                                .labels = wanted.labels,
                                                .after = wanted.after == UINT64_MAX ? 0 : wanted.after,
                                                .limit = wanted.limit,
                                },
                                on_listed,
                                pending);
        }
        if (r >= 0) {
                http_request_on_hangup(request, on_list_hangup, pending);
                return;
        }
        free(pending);
        answer_error(request, r);
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = task_batch_check(body, &problem);
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                submit_many(userdata, request, body);
}
