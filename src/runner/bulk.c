/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/bulk.h"

#include <stdlib.h>

#include "runner/runner.h"
#include "runner/task-run.h"
#include "runner/task.h"

/* Of those that match, in one turn: a few milliseconds' work if all of them are told to stop. */
#define STEP_TASKS 32

typedef struct BulkJob {
        Runner *runner;
        HttpRequest *request; /* NULL: the client is gone */
        BulkVerb verb;
        BulkRequest wanted;
        uint64_t next, end; /* of those from NEXT on; what came at END or later is not meant */
        uint64_t n_matched, n_changed;
        LongJob *job;
} BulkJob;

static void bulk_job_free(void *userdata) {
        BulkJob *job = userdata;
        bulk_request_done(&job->wanted);
        free(job);
}

static bool is_meant(const BulkJob *job, const Task *task) {
        return task->sequence >= job->next &&
                        task_matches(task, job->wanted.state, (const char *const *) job->wanted.labels);
}

/* One that ends already, for whatever reason, goes on ending for that. */
static bool stop(Task *task) {
        if (!task_is_live(task) || task->end.stop != STOP_NONE)
                return false;
        task_stop(task, STOP_REQUESTED, task->spec->grace_usec);
        return task->end.stop == STOP_REQUESTED;
}

static bool forget(Runner *runner, Task *task) {
        if (task_is_live(task))
                return false;
        task_table_remove(&runner->tasks, task);
        return true;
}

/* The table may change between two steps, so the place in it is found anew. */
static bool bulk_job_step(void *userdata) {
        BulkJob *job = userdata;
        Task *task = job->runner->tasks.first;
        for (size_t n = 0; task && task->sequence < job->end && n < STEP_TASKS;) {
                Task *following = task->next;
                if (is_meant(job, task)) {
                        job->next = task->sequence + 1;
                        job->n_matched++;
                        job->n_changed += job->verb == BULK_STOP ? stop(task) : forget(job->runner, task);
                        n++;
                }
                task = following;
        }
        if (task && task->sequence < job->end)
                return true;
        if (job->request) {
                http_request_on_hangup(job->request, NULL, NULL);
                http_request_answer_json(job->request, 200, bulk_answer_new(job->n_matched, job->n_changed));
        }
        bulk_job_free(job);
        return false;
}

static void on_hangup(HttpRequest *request, void *userdata) {
        BulkJob *job = userdata;
        job->request = NULL;
}

void bulk_begin(Runner *runner, HttpRequest *request, BulkVerb verb, BulkRequest *wanted) {
        BulkJob *job = calloc(1, sizeof(*job));
        if (job)
                *job = (BulkJob) {
                        .runner = runner,
                        .request = request,
                        .verb = verb,
                        .wanted = *wanted,
                        .end = runner->tasks.next_sequence,
                };
        if (!job ||
            long_jobs_add(runner->daemon.long_jobs, bulk_job_step, bulk_job_free, job, &job->job) < 0) {
                bulk_request_done(wanted);
                free(job);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *wanted = (BulkRequest) {};
        http_request_on_hangup(request, on_hangup, job);
}
