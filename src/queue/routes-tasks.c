/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "queue/bulk.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/submit.h"

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        Problem problem = {};
        TaskListRequest wanted;
        if (task_list_request_parse(&context->query, STORE_LABELS_MAX, &wanted, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                task_lists_answer(queue->lists, request, &wanted);
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_submission(request, &body, &problem);
        if (r >= 0)
                r = task_batch_check(body, &problem);
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                submit_many(userdata, request, body);
}

static void bulk(Queue *queue, HttpRequest *request, BulkVerb verb) {
        Problem problem = {};
        BulkRequest wanted = {};
        if (request_parse_bulk(request, &wanted, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                bulk_begin(queue, request, verb, &wanted);
}

void route_tasks_stop(void *userdata, HttpRequest *request, const RequestContext *context) {
        bulk(userdata, request, BULK_STOP);
}

void route_tasks_retry(void *userdata, HttpRequest *request, const RequestContext *context) {
        bulk(userdata, request, BULK_RETRY);
}

void route_tasks_forget(void *userdata, HttpRequest *request, const RequestContext *context) {
        bulk(userdata, request, BULK_FORGET);
}
