/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taking a task: deciding on it, storing it, and only then saying so. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "core/json/problem.h"
#include "io/task-store.h"

typedef struct Queue Queue;
typedef struct Task Task;

/* What became of a submission. */
typedef struct Submission {
        Task *task;    /* weak: in the table of live tasks; NULL when it was finished before */
        char *task_id; /* the submission's own; submission_done() */
        bool is_new;   /* TASK is in the batch, and taken once that is on disk: see submit_commit() */
        bool is_full;  /* refused because it does not fit now: the answer shows the capacity */
} Submission;

void submission_done(Submission *submission);

/* Decides on BODY, which is changed; a new task goes into BATCH. A negative errno with the problem on
 * refusal. */
int submit_task(Queue *queue,
                json_object *body,
                const char *task_id,
                StoreBatch *batch,
                Submission *ret,
                Problem *reterr_problem);

/* Called once: with 0 when the tasks are on disk and scheduled, or with why they are not, and then they are
 * gone. */
typedef void (*SubmitCommitted)(int r, void *userdata);

/* Stores BATCH, which it takes over, and with it the new tasks of N SUBMISSIONS, which must stay until
 * CALLBACK. */
void submit_commit(
                Queue *queue,
                StoreBatch *batch,
                const Submission *submissions,
                size_t n,
                SubmitCommitted callback,
                void *userdata);
