/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <string.h>

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/submit.h"

static_assert(TASK_LIST_MAX <= STORE_LIST_LIMIT_MAX, "the store can read a page");

/* The rows of a page; describing one reads others, which cannot be done from within the reading of a page. */
typedef struct Page {
        Queue *queue;
        size_t n;
        char *task_ids[STORE_LIST_LIMIT_MAX];
} Page;

static void page_done(Page *page) {
        for (size_t i = 0; i < page->n; i++)
                free(page->task_ids[i]);
}

static int on_row(const StoredTask *row, void *userdata) {
        Page *page = userdata;
        page->task_ids[page->n] = strdup(row->task_id);
        if (!page->task_ids[page->n])
                return -ENOMEM;
        page->n++;
        return 0;
}

static json_object *describe_page(const Page *page) {
        _cleanup_(json_putp) json_object *tasks = json_object_new_array();
        for (size_t i = 0; tasks && i < page->n; i++) {
                json_object *attempt = NULL;
                if (task_describe_any(page->queue, page->task_ids[i], OUTPUT_NONE, &attempt) == -ENOENT)
                        continue; /* forgotten since the page was read */
                if (json_append(tasks, attempt) < 0)
                        return NULL;
        }
        return TAKE_PTR(tasks);
}

static int list(Queue *queue, const TaskListRequest *wanted, json_object **ret) {
        StoreFilter filter = {
                .state = wanted->state ? stored_state_from_string(wanted->state) : -1,
                .labels = wanted->labels,
                .after = wanted->after == UINT64_MAX ? 0 : wanted->after,
                .limit = wanted->limit,
        };
        _cleanup_(page_done) Page page = { .queue = queue };
        uint64_t next;
        int r = task_store_list(queue->store, &filter, on_row, &page, &next);
        if (r < 0)
                return r;
        *ret = task_page_to_json(describe_page(&page), next > 0 ? next : UINT64_MAX);
        return *ret ? 0 : -ENOMEM;
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        TaskListRequest wanted;
        json_object *object = NULL;
        int r = task_list_request_parse(&context->query, STORE_LABELS_MAX, &wanted, &problem);
        if (r >= 0) {
                r = list(userdata, &wanted, &object);
                if (r < 0)
                        (void) problem_from_errno(&problem, r);
        }
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                http_request_answer_json(request, 200, object);
}

/* A batch that waits for the disk. */
typedef struct PendingBatch {
        Queue *queue;
        HttpRequest *request; /* NULL: the client is gone */
        size_t n;
        Submission *submissions;
        Problem *problems; /* status 0: none */
} PendingBatch;

static PendingBatch *pending_batch_free(PendingBatch *pending) {
        if (!pending)
                return NULL;
        for (size_t i = 0; pending->submissions && i < pending->n; i++)
                submission_done(&pending->submissions[i]);
        free(pending->submissions);
        free(pending->problems);
        free(pending);
        return NULL;
}

DEFINE_POINTER_CLEANUP(PendingBatch, pending_batch_free)

static int pending_batch_new(Queue *queue, HttpRequest *request, size_t n, PendingBatch **ret) {
        _cleanup_(pending_batch_freep) PendingBatch *pending = calloc(1, sizeof(*pending));
        if (!pending)
                return -ENOMEM;
        pending->queue = queue;
        pending->request = request;
        pending->n = n;
        pending->submissions = calloc(n + 1, sizeof(Submission));
        pending->problems = calloc(n + 1, sizeof(Problem));
        if (!pending->submissions || !pending->problems)
                return -ENOMEM;
        *ret = TAKE_PTR(pending);
        return 0;
}

static json_object *batch_outcome(Queue *queue, const Submission *submission, const Problem *problem) {
        const char *task_id = submission->task_id;
        if (problem->status)
                return task_batch_refused(
                                task_id, problem, submission->is_full ? queue_capacity_json(queue) : NULL);
        json_object *attempt = NULL;
        (void) task_describe_any(queue, task_id, OUTPUT_NONE, &attempt);
        return task_batch_accepted(task_id, submission->is_new, attempt);
}

static json_object *batch_outcomes(const PendingBatch *pending) {
        _cleanup_(json_putp) json_object *outcomes = json_object_new_array();
        for (size_t i = 0; outcomes && i < pending->n; i++)
                if (json_append(outcomes,
                                batch_outcome(pending->queue,
                                              &pending->submissions[i],
                                              &pending->problems[i])) < 0)
                        return NULL;
        return TAKE_PTR(outcomes);
}

static void on_batch_committed(int r, void *userdata) {
        _cleanup_(pending_batch_freep) PendingBatch *pending = userdata;
        if (!pending->request)
                return;
        http_request_on_hangup(pending->request, NULL, NULL);
        for (size_t i = 0; r < 0 && i < pending->n; i++)
                if (pending->problems[i].status == 0)
                        (void) problem_from_errno(&pending->problems[i], r);
        http_request_answer_json(pending->request, 200, batch_outcomes(pending));
}

static void on_batch_hangup(HttpRequest *request, void *userdata) {
        PendingBatch *pending = userdata;
        pending->request = NULL;
}

static void submit_one(
                Queue *queue,
                json_object *element,
                StoreBatch *batch,
                Submission *submission,
                Problem *problem) {
        if (submit_task(queue, element, NULL, batch, submission, problem) >= 0 || submission->task_id)
                return;
        const char *task_id = task_batch_id(element);
        if (task_id)
                submission->task_id = strdup(task_id);
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        _cleanup_(pending_batch_freep) PendingBatch *pending = NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = task_batch_check(body, &problem);
        if (r >= 0) {
                r = pending_batch_new(queue, request, json_object_array_length(body), &pending);
                if (r >= 0)
                        r = store_batch_new(&batch);
                if (r < 0)
                        (void) problem_from_errno(&problem, r);
        }
        if (r < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        for (size_t i = 0; i < pending->n; i++)
                submit_one(queue,
                           json_object_array_get_idx(body, i),
                           batch,
                           &pending->submissions[i],
                           &pending->problems[i]);
        PendingBatch *waiting = TAKE_PTR(pending);
        http_request_on_hangup(request, on_batch_hangup, waiting);
        submit_commit(queue, TAKE_PTR(batch), waiting->submissions, waiting->n, on_batch_committed, waiting);
}
