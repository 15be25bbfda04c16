/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/submit.h"

#define BATCH_MAX 1000

static int parse_filter(const Query *query, StoreFilter *ret, const char **labels, Problem *problem) {
        const char *state = query_get(query, "state");
        const char *limit = query_get(query, "limit"), *after = query_get(query, "after");
        *ret = (StoreFilter){ .state = -1, .limit = STORE_LIST_LIMIT_MAX, .labels = labels };
        if (state)
                ret->state = stored_state_from_string(state);
        if (state && ret->state < 0)
                return problem_set(
                                problem,
                                400,
                                "/state",
                                "must be queued, running, completed, errored or killed");
        if (limit && text_parse_u64(limit, 1, STORE_LIST_LIMIT_MAX, &ret->limit) < 0)
                return problem_set(
                                problem,
                                400,
                                "/limit",
                                "must be an integer between 1 and %d",
                                STORE_LIST_LIMIT_MAX);
        if (after && text_parse_u64(after, 0, UINT64_MAX - 1, &ret->after) < 0)
                return problem_set(problem, 400, "/after", "must be the \"next\" of an earlier answer");
        size_t n = 0;
        for (size_t i = 0; i < query->n_items; i++) {
                if (!streq(query->items[i].name, "label"))
                        continue;
                if (!strchr(query->items[i].value, '='))
                        return problem_set(problem, 400, "/label", "must be key=value");
                if (n == STORE_LABELS_MAX)
                        return problem_set(
                                        problem,
                                        400,
                                        "/label",
                                        "must not stand more than %d times",
                                        STORE_LABELS_MAX);
                labels[n++] = query->items[i].value;
        }
        return 0;
}

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
                const Task *task = task_table_find(&page->queue->tasks, page->task_ids[i]);
                json_object *attempt = NULL;
                if (task)
                        attempt = task_describe(task, OUTPUT_NONE);
                else
                        (void) task_describe_stored(page->queue, page->task_ids[i], OUTPUT_NONE, &attempt);
                if (json_append(tasks, attempt) < 0)
                        return NULL;
        }
        return TAKE_PTR(tasks);
}

static int list(Queue *queue, const StoreFilter *filter, json_object **ret) {
        _cleanup_(page_done) Page page = { .queue = queue };
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        uint64_t next;
        if (!object)
                return -ENOMEM;
        int r = task_store_list(queue->store, filter, on_row, &page, &next);
        if (r < 0)
                return r;
        char next_text[3 * sizeof(uint64_t)];
        (void) snprintf(next_text, sizeof(next_text), "%" PRIu64, next);
        r = json_add(object, "tasks", describe_page(&page));
        if (r >= 0)
                r = json_add_string(object, "next", next > 0 ? next_text : NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        const char *labels[STORE_LABELS_MAX + 1] = {};
        Problem problem = {};
        StoreFilter filter;
        json_object *object = NULL;
        int r = parse_filter(&context->query, &filter, labels, &problem);
        if (r >= 0) {
                r = list(userdata, &filter, &object);
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

/* One element of the answer: {"task_id","status","attempt"|"problem"}. */
static json_object *batch_outcome(Queue *queue, const Submission *submission, const Problem *problem) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        json_object *part = NULL;
        int r = object ? json_add_string(object, "task_id", submission->task_id) : -ENOMEM;
        int status = problem->status ?: submission->is_new ? 202 : 200;
        if (r >= 0)
                r = json_add_u64(object, "status", (uint64_t) status);
        if (r < 0)
                return NULL;
        if (problem->status) {
                r = problem_to_json(problem, submission->is_full ? queue_capacity_json(queue) : NULL, &part);
                return r >= 0 && json_add(object, "problem", part) >= 0 ? TAKE_PTR(object) : NULL;
        }
        const Task *task = task_table_find(&queue->tasks, submission->task_id);
        if (task)
                part = task_describe(task, OUTPUT_NONE);
        else
                (void) task_describe_stored(queue, submission->task_id, OUTPUT_NONE, &part);
        return json_add(object, "attempt", part) >= 0 ? TAKE_PTR(object) : NULL;
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
        json_object *id;
        if (submit_task(queue, element, NULL, batch, submission, problem) >= 0 || submission->task_id)
                return;
        if (json_object_is_type(element, json_type_object) &&
            json_object_object_get_ex(element, "task_id", &id) && json_object_is_type(id, json_type_string))
                submission->task_id = strdup(json_object_get_string(id));
}

void route_tasks_submit(void *userdata, HttpRequest *request, const RequestContext *context) {
        Queue *queue = userdata;
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        _cleanup_(pending_batch_freep) PendingBatch *pending = NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0 &&
            (!json_object_is_type(body, json_type_array) || json_object_array_length(body) > BATCH_MAX))
                r = problem_set(&problem, 400, NULL, "must be an array of at most %d tasks", BATCH_MAX);
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
