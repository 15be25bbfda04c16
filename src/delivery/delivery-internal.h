/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of the delivery share; each group of functions is the story's next part. */
#pragma once

#include "core/scheduling/deadline-heap.h"
#include "delivery/delivery.h"

/* Specifications of waiting tasks that are no larger are kept in memory. */
#define SPEC_KEPT_MAX 4096

/* syslog's. */
#define PRIORITY_ERROR   3
#define PRIORITY_WARNING 4
#define PRIORITY_NOTICE  5
#define PRIORITY_INFO    6

#define AGAIN_USEC (1 * USEC_PER_SEC)

/* The tasks that are not finished. */
typedef struct TaskTable {
        Task *by_id, *by_attempt;
} TaskTable;

struct Delivery {
        Scheduler *scheduler;
        Resources default_resources;
        size_t body_bytes_max;
        const WorkerPort *worker_port;
        const StorePort *store_port;
        void *store;
        const ResultClock *result_clock;
        const DeliveryListener *listener;
        void *listener_userdata;
        char *queue_id;

        TaskTable tasks;
        DeadlineHeap task_deadlines, worker_deadlines; /* what is to be done again */
        DeliveryWorker **workers;
        size_t n_workers, n_unconfigured; /* of them without a port */
        DeliveryWorker *first_touched;    /* whose events may be wanted, or not, since the last turn */
        EndedAttempt *first_ended;        /* all whose end is not on disk */
        size_t n_uncommitted;
        DependencyGraph dependencies;
        unsigned n_settling_put_off; /* by so many what follows from ends is put off */
        size_t n_failing;            /* for what they waited for, and their results are not on disk */
        usec_t output_patience_usec; /* for a worker that does not send what it has */
};

struct DeliveryWorker {
        Delivery *delivery; /* weak */
        ScheduledWorker *scheduled;
        void *port;    /* NULL: not configured any more, and only in the books for what it had */
        size_t n_uses; /* by tasks, attempts whose end is not on disk, and readers of output */
        bool touched;
        DeliveryWorker *next_touched;

        PortCall *call; /* the scheduler's */
        WorkerCall call_kind;
        bool call_unmade; /* could not be made; the scheduler is told in the next turn */

        PortCall *probe_call, *list_call; /* a listing: first who it is, then what it has */
        bool list_again;                  /* something may have been missed since it began */
        bool list_missed;                 /* the last one failed while it was silent */
        bool list_due;                    /* to be begun at the time of the deadline */
        usec_t asked_usec;                /* when the last listing was begun */
        usec_t listed_usec;               /* when its list was asked for */
        Deadline deadline;
};

/* delivery.c */
void delivery_log(const Delivery *delivery, int priority, int r, const char *format, ...)
                __attribute__((format(printf, 4, 5)));
void delivery_wake(const Delivery *delivery);
DeliveryWorker *delivery_find_worker(const Delivery *delivery, const char *id);

/* The worker's events may be wanted now, or not any more. */
void worker_touch(DeliveryWorker *worker);

/* TASK is with WORKER from now on; NULL: with none. */
void task_set_worker(Task *task, DeliveryWorker *worker);

/* Has STEP done at WHEN_USEC (CLOCK_BOOTTIME), once, in place of an earlier one. */
void task_again(Task *task, TaskStep step, usec_t when_usec);

/* task.c */
int task_new(Delivery *delivery, const char *task_id, uint64_t seq, Task **ret);
void task_free(Task *task);
DEFINE_POINTER_CLEANUP(Task, task_free)

/* Hands TASK, which is on disk, to the scheduler. */
int task_schedule(Task *task, const QueueSpec *spec, const Moment *now);

/* Reads TEXT, as stored, and makes the body by which it is submitted to a worker. A negative errno. The
 * caller frees both. */
int delivery_parse_submission(
                const Delivery *delivery,
                const char *text,
                const char *task_id,
                QueueSpec **ret,
                char **ret_body);

/* Keeps TEXT if it is small. -ENOMEM. */
int task_keep_spec(Task *task, const char *text);

/* Reads TEXT, as stored, for a task that goes to a worker. */
int task_take_spec(Task *task, const char *text);

/* Goes on with STEP when the specification is at hand (work.spec, work.body), and with EARLIER what is stored
 * of earlier attempts: at once, or when that was read. Only the last of several steps is done. */
void task_with_spec(Task *task, bool earlier, TaskStep step, const Moment *now);

/* What was only needed while it was with a worker goes. */
void task_drop_spec(Task *task);

/* It has no attempt any more. */
void task_leave_worker(Task *task);

/* What the queue adds to its attempt; borrows from TASK. */
QueueAttempt task_frame(const Task *task, const QueueSpec *spec);

/* The row of TASK, live, in STATE. */
StoredTask task_row(const Task *task, StoredState state);

/* The row of its present attempt. */
StoredAttempt task_attempt_row(const Task *task, StoredAttemptState state);

/* Commits BATCH (taken over), counted among its writes; DONE is to begin with task_written(). */
int task_commit(Task *task, StoreBatch *batch, StoreDone done);
void task_written(Task *task, int r, const Moment *now);
bool task_is_writing(const Task *task);

/* task-table.c */
void task_table_done(TaskTable *table);
Task *task_table_find(const TaskTable *table, const char *task_id);
void task_table_visit(const TaskTable *table, void (*visit)(Task *task, void *userdata), void *userdata);
Task *task_table_find_attempt(const TaskTable *table, const char *attempt_id);
int task_table_add(TaskTable *table, Task *task);     /* takes it over on success; -ENOMEM */
void task_table_remove(TaskTable *table, Task *task); /* and frees it */
size_t task_table_count(const TaskTable *table);

/* Gives TASK's attempt an id, under which it is found; NULL: none. -ENOMEM. */
int task_table_set_attempt(TaskTable *table, Task *task, const char *attempt_id);

/* accept.c: NEW_TASK has been added to a batch; taken over on success. */
int delivery_add_task(Delivery *delivery, Task *new_task);

/* after.c */

/* TASK, new or to be tried again, waits for those of AFTER, NULL-terminated, or NULL: those that are live,
 * with STATES of the others. Adds to BATCH what is to be known of that. -ENOMEM, -EDQUOT. */
int task_set_after(Task *task, char *const *after, const AfterState *states, StoreBatch *batch);

/* TASK, which has just been scheduled, waits for those first. */
void task_hold_if_after(Task *task);

/* TASK, which was taken up and waits, waits for the one of ID, or FAILED with it. */
int task_restore_after(Task *task, const char *id, bool failed);

/* Others wait for TASK no more, which has ended. */
void task_settle(Task *task, bool completed);

/* What follows for others from what has ended, a part of it in each turn; and whether there is any. */
bool delivery_settling_is_due(const Delivery *delivery);
void delivery_take_settled(Delivery *delivery, const Moment *now);

/* dispatch.c */
void delivery_take_actions(Delivery *delivery, const Moment *now);

/* Adds to BATCH, the next write, what is not on disk of attempts that are over. */
void task_put_ended(Task *task, StoreBatch *batch);

/* The write that was done last, or that could not be begun, came to R. */
void task_ended_written(Task *task, uint64_t write, int r, const Moment *now);
void task_ended_free(Task *task);

/* Whether ATTEMPT_ID is over but its end not on disk. */
bool delivery_has_ended(const Delivery *delivery, const char *attempt_id);

/* Stops the present attempt. */
void task_stop_attempt(const Task *task);

/* submit.c */

/* Submits the present attempt. A negative errno: it was not, and nobody will be told. */
int task_submit(Task *task, const Moment *now);

/* Its worker has it, as its answer or a listing tells. */
void task_accepted(Task *task, const Moment *now);
void task_note_unit(Task *task, const char *unit);

/* watch.c */
void worker_call(DeliveryWorker *worker, WorkerCall call, const Moment *now);

/* Looks at what the worker has: for what may have been missed. */
void worker_list(DeliveryWorker *worker, const Moment *now);

/* Does so when it answers again, if it could not be listed because it was silent. */
void worker_list_missed(DeliveryWorker *worker, const Moment *now);
void worker_deadline(DeliveryWorker *worker, const Moment *now);

/* fetch.c */

/* Begins, unless it has begun. ATTEMPT came along with the news that it is over; NULL: it is to be asked
 * for. What goes wrong on the way is made up for when the worker is listed again. */
void task_fetch_start(Task *task, json_object *attempt, const Moment *now);
TaskFetch *task_fetch_free(TaskFetch *fetch);

/* The attempt is not final: what the worker said of it; NULL when there is nothing. Borrowed. */
json_object *task_fetch_attempt(const TaskFetch *fetch);

/* The attempt is final: stores its output, then goes on with task_finish(). */
void task_fetch_finish(TaskFetch *fetch, const Moment *now);

/* finish.c */

/* What ACTION_FINISH asks for. R is ignored. */
void task_finish_begin(Task *task, int r, const Moment *now);

/* Begins anew with that, in a while. */
void task_finish_later(Task *task, const Moment *now);

/* Finishes it with ATTEMPT as the worker told it; what is in BATCH (taken over) goes to disk with it. Tries
 * again when the disk fails. */
void task_finish(Task *task, json_object *attempt, StoreBatch *batch, const Moment *now);
