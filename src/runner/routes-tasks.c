/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/json/json.h"
#include "core/task/task-request.h"
#include "runner/bulk.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/submit-wait.h"
#include "runner/task-submit.h"
#include "runner/task.h"

/* Of a page that are made in one step: a millisecond's work, unless a single task is larger. */
#define LIST_STEP_BYTES ((size_t) 64 * 1024)

static bool list_has(const TaskListRequest *list, const Task *task) {
        return (list->after == UINT64_MAX || task->sequence > list->after) &&
                        task_matches(task, list->state, list->labels);
}

/* A page in the making. */
typedef struct ListJob {
        Runner *runner;
        HttpRequest *request;
        TaskListRequest list; /* AFTER is the last task that was looked at */
        uint64_t last;        /* that is on the page */
        TaskPage page;
        LongJob *job;
} ListJob;

static void list_job_free(void *userdata) {
        ListJob *job = userdata;
        task_page_done(&job->page);
        free(job);
}

static void list_job_answer(ListJob *job, int error, bool more) {
        HttpRequest *request = job->request;
        http_request_on_hangup(request, NULL, NULL);
        if (error >= 0)
                error = task_page_end(&job->page, more ? job->last : UINT64_MAX);
        if (error >= 0)
                http_request_answer_text(request, 200, "application/json", &job->page.text);
        else
                http_request_answer_json(request, 200, NULL);
        list_job_free(job);
}

/* TASK or the next one behind it that is asked for. */
static const Task *first_listed(const ListJob *job, const Task *task) {
        while (task && !list_has(&job->list, task))
                task = task->next;
        return task;
}

/* Adds some tasks. The table may change between two steps, so the place in it is found anew. */
static bool list_job_step(void *userdata) {
        ListJob *job = userdata;
        size_t end = job->page.text.size + LIST_STEP_BYTES;
        const Task *task = first_listed(job, job->runner->tasks.first);
        while (task && !task_page_is_full(&job->page, job->list.limit) && job->page.text.size < end) {
                job->last = job->list.after = task->sequence;
                int r = task_page_add(&job->page, task_to_json(task, OUTPUT_NONE));
                if (r < 0) {
                        list_job_answer(job, r, false);
                        return false;
                }
                task = first_listed(job, task->next);
        }
        if (task && !task_page_is_full(&job->page, job->list.limit))
                return true;
        list_job_answer(job, 0, task != NULL);
        return false;
}

static void on_list_hangup(HttpRequest *request, void *userdata) {
        ListJob *job = userdata;
        long_job_cancel(job->job);
        list_job_free(job);
}

void route_tasks_list(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        TaskListRequest list;
        if (task_list_request_parse(&context->query, QUERY_ITEMS_MAX, &list, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        ListJob *job = calloc(1, sizeof(*job));
        if (job)
                *job = (ListJob) { .runner = runner, .request = request, .list = list, .last = list.after };
        if (!job ||
            long_jobs_add(runner->daemon.long_jobs, list_job_step, list_job_free, job, &job->job) < 0) {
                free(job);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        http_request_on_hangup(request, on_list_hangup, job);
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

/* A batch on its way. It is carried out to its end even when its client goes away: REQUEST is NULL then. */
typedef struct BatchJob {
        Runner *runner;
        HttpRequest *request;
        char *lease_id; /* NULL: none */
        json_object *body, *outcomes;
        size_t n_done;
        LongJob *job;
} BatchJob;

static void batch_job_free(void *userdata) {
        BatchJob *job = userdata;
        json_object_put(job->body);
        json_object_put(job->outcomes);
        free(job->lease_id);
        free(job);
}

static bool batch_job_step(void *userdata) {
        BatchJob *job = userdata;
        if (job->n_done < json_object_array_length(job->body)) {
                json_object *element = json_object_array_get_idx(job->body, job->n_done++);
                json_object *outcome = submit_one(job->runner, element, job->lease_id);
                if (job->outcomes && json_append(job->outcomes, outcome) < 0)
                        job->outcomes = (json_object_put(job->outcomes), NULL);
                return true;
        }
        if (job->request) {
                http_request_on_hangup(job->request, NULL, NULL);
                http_request_answer_json(job->request, 200, TAKE_PTR(job->outcomes));
        }
        batch_job_free(job);
        return false;
}

static void on_batch_hangup(HttpRequest *request, void *userdata) {
        BatchJob *job = userdata;
        job->request = NULL;
}

static void submit_batch(Runner *runner, HttpRequest *request, json_object *body) {
        const char *lease_id = http_request_header(request, "Daggyr-Lease");
        BatchJob *job = calloc(1, sizeof(*job));
        if (job)
                *job = (BatchJob) {
                        .runner = runner,
                        .request = request,
                        .lease_id = lease_id ? strdup(lease_id) : NULL,
                        .body = json_object_get(body),
                        .outcomes = json_object_new_array(),
                };
        if (!job || !job->outcomes || (lease_id && !job->lease_id) ||
            long_jobs_add(runner->daemon.long_jobs, batch_job_step, batch_job_free, job, &job->job) < 0) {
                if (job)
                        batch_job_free(job);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        http_request_on_hangup(request, on_batch_hangup, job);
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
                submit_when_accounts_are_known(userdata, request, TAKE_PTR(body), "user", submit_batch);
}

static void bulk(Runner *runner, HttpRequest *request, BulkVerb verb) {
        Problem problem = {};
        BulkRequest wanted = {};
        if (request_parse_bulk(request, &wanted, &problem) < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                bulk_begin(runner, request, verb, &wanted);
}

void route_tasks_stop(void *userdata, HttpRequest *request, const RequestContext *context) {
        bulk(userdata, request, BULK_STOP);
}

void route_tasks_forget(void *userdata, HttpRequest *request, const RequestContext *context) {
        bulk(userdata, request, BULK_FORGET);
}
