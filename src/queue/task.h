/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task that the queue has not finished with: what is known of it beyond the scheduler and the store. */
#pragma once

#include <assert.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/scheduling/scheduler.h"
#include "core/task/queue-attempt.h"
#include "core/task/task-request.h"
#include "io/http-client.h"
#include "io/task-store.h"
#include "service/waiters.h"

typedef struct Queue Queue;
typedef struct LiveOutput LiveOutput;
typedef struct TaskFetch TaskFetch;

static_assert(_OUTPUT_MODE_MAX <= WAITERS_FORMS_MAX, "tasks are told in each mode");

#define ATTEMPT_ID_MAX 128 /* of a task at a runner */

typedef struct Task {
        Queue *queue; /* weak */
        char *task_id;
        uint64_t seq;                        /* the store's */
        ScheduledTask *scheduled;            /* weak; NULL until the task is on disk */
        char *spec_text;                     /* as stored; NULL as soon as it can be read from there */
        usec_t submit_usec;                  /* CLOCK_REALTIME */
        usec_t queue_usec;                   /* CLOCK_REALTIME */
        uint64_t attempt_number;             /* of the current attempt, or the last one; 0: none yet */
        char attempt_id[ATTEMPT_ID_MAX + 1]; /* of the current attempt at its runner; "" */
        const char *worker_id;               /* of its runner, weak; NULL while there is none */
        char *unit;                          /* there; NULL until told */
        char *note;                          /* why no runner takes it; NULL */
        bool finish_seen;      /* its worker says that the attempt is over, maybe before it says that it
                                  took it */
        unsigned n_placing;    /* attempts on their way to the disk; all but the last were given up */
        bool stop_early;       /* a client wants it stopped before it could be scheduled */
        HttpCall *submit_call; /* owned */
        TaskFetch *fetch;      /* the result, while it is on its way from the runner to the disk; owned */
        unsigned n_pieces;     /* of its output on their way to the disk */
        bool piece_failed;     /* one of them did not get there */
        bool is_stored;        /* as a finished one: only its waiters are left to be told */
        sd_event_source *retry_source; /* to finish it again, when that failed */
        Waiters waiters;               /* wait until it is finished */
        LiveOutput *outputs;           /* followed ones; each owned by those who read it */
        UT_hash_handle by_id, by_attempt;
} Task;

/* -ENOMEM. It is in no table. */
int task_new(Queue *queue, const char *task_id, uint64_t seq, Task **ret);
Task *task_free(Task *task);
DEFINE_POINTER_CLEANUP(Task, task_free)

/* Whether clients see it as running: a worker has it. */
bool task_is_running(const Task *task);

/* The TaskAttempt as clients read it now; NULL when out of memory or the disk fails. FORM is an OutputMode.
 */
json_object *task_describe(const Task *task, unsigned mode);

/* The same of a task that is only in the store. -ENOENT, -ENOMEM, -EIO. The caller puts *ret. */
int task_describe_stored(Queue *queue, const char *task_id, OutputMode mode, json_object **ret);

/* The same of a task wherever it is. */
int task_describe_any(Queue *queue, const char *task_id, OutputMode mode, json_object **ret);

/* Adds "attempts", those that did not become the task's result. */
int task_add_earlier(const Task *task, json_object *object);

/* What the queue adds to an attempt of TASK. SPEC must outlive it. */
QueueAttempt task_attempt_frame(const Task *task, const QueueSpec *spec);

/* Reads the specification back. The caller frees *ret. */
int task_read_spec(const Task *task, QueueSpec **ret);

/* Reads TEXT, the stored specification of TASK_ID. The caller frees *ret. */
int task_parse_spec(const Queue *queue, const char *text, const char *task_id, QueueSpec **ret);

/* Hands TASK, which is on disk, to the scheduler. */
int task_schedule(Task *task, const QueueSpec *spec);

/* Tells listeners of /api/v1/events. */
void task_send_event(const Task *task, const char *state, const char *result);

/* Takes up one that an earlier run left in the store; ATTEMPT is its last, or NULL. It is in the table and
 * the scheduler then. Negative errno. */
int task_restore(Queue *queue, const StoredTask *row, const StoredAttempt *attempt);

/* The tasks that are not finished. */
typedef struct TaskTable {
        Task *by_id, *by_attempt;
} TaskTable;

void task_table_done(TaskTable *table);
Task *task_table_find(const TaskTable *table, const char *task_id);
Task *task_table_find_attempt(const TaskTable *table, const char *attempt_id);
int task_table_add(TaskTable *table, Task *task);     /* takes it over on success; -ENOMEM */
void task_table_remove(TaskTable *table, Task *task); /* and frees it */
size_t task_table_count(const TaskTable *table);

/* Gives TASK's attempt an id, under which it is found; "" none. -ENOMEM. */
int task_table_set_attempt(TaskTable *table, Task *task, const char *attempt_id);
