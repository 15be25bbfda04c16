/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a task gets to a worker and its result to the disk. The scheduler decides, this carries out, by ports
 * (worker-port.h, store-port.h) behind which are HTTP and SQLite, or the simulation. There is no I/O in here,
 * no clock and no logging: a task's story in the order in which it happens is
 *
 *   accept.c    it is stored, then it waits
 *   retry.c     the same of one that has ended, and is to be tried again
 *   after.c     it waits for other tasks first
 *   dispatch.c  the scheduler's actions: where it goes is stored first
 *   submit.c    it is submitted, and what the answer means
 *   watch.c     what workers tell, by themselves and when they are listed
 *   fetch.c     its result and output come from the worker
 *   finish.c    they are stored; then everybody is told, and the worker may forget it
 *   restore.c   all of this is taken up where an earlier run of the queue left it
 *
 * Two rules hold everywhere. A submission leaves, a client hears of an acceptance or an end, and a worker
 * forgets, only when that which it follows from is on disk. And nothing is reported to the scheduler while
 * its actions are taken: what goes wrong in taking one is reported in the next turn. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/hash-table.h"
#include "core/scheduling/dependencies.h"
#include "core/scheduling/scheduler.h"
#include "core/store/result-clock.h"
#include "core/task/queue-attempt.h"
#include "delivery/store-port.h"
#include "delivery/worker-port.h"

typedef struct Delivery Delivery;
typedef struct DeliveryWorker DeliveryWorker;
typedef struct Task Task;
typedef struct TaskFetch TaskFetch;

#define ATTEMPT_ID_MAX   128 /* of a task at a worker */
#define ATTEMPT_RANDOM   16  /* digits that make it its own */
#define DELIVERY_ID_SIZE (ATTEMPT_RANDOM + 1)

/* Whom the delivery tells. None of them may report anything back from within, but for what says so. */
typedef struct DeliveryListener {
        /* delivery_run() is to be called, in a turn of its own. */
        void (*wake)(void *userdata);

        /* A line for the log; R is a negative errno or 0, PRIORITY one of syslog's. */
        void (*log)(int priority, int r, const char *text, void *userdata);

        /* TASK waits, REASON_NONE: for the first time. */
        void (*queued)(Task *task, ScheduledReason reason, void *userdata);

        /* A submission of TASK was answered. */
        void (*submitted)(Task *task, SubmitOutcome outcome, void *userdata);

        /* A worker has it. */
        void (*running)(Task *task, void *userdata);

        /* The attempt is over and not the last one. True: somebody still reads its output at the worker, and
         * says so by delivery_release_attempt(), once, when that is over. Called only where it has a result.
         */
        bool (*attempt_ended)(Task *task, void *userdata);

        /* The attempt is over, and there is nothing to be read of it. */
        void (*attempt_gone)(Task *task, void *userdata);

        /* It is over and on disk; the words are those that clients read. TASK is gone afterwards. */
        void (*finished)(Task *task, const char *state, const char *result, void *userdata);

        /* What the program hung on it (task->userdata) is to be freed. */
        void (*freed)(Task *task, void *userdata);

        /* ATTEMPT_RANDOM hexadecimal digits, and a NUL. Negative errno. */
        int (*random)(char ret[static DELIVERY_ID_SIZE], void *userdata);
} DeliveryListener;

typedef struct DeliveryOptions {
        SchedulerConfig scheduler;
        Resources default_resources; /* of tasks that name none */
        size_t body_bytes_max;       /* of a submission to a worker */
        const WorkerPort *worker_port;
        const StorePort *store_port;
        void *store;
        const ResultClock *result_clock; /* weak; started before anything ends */
        const char *queue_id;            /* copied */
        const DeliveryListener *listener;
        void *listener_userdata;
} DeliveryOptions;

/* An attempt that did not become the result, until its end is on disk: it goes along with whatever is stored
 * of its task next. */
typedef struct EndedAttempt EndedAttempt;
struct EndedAttempt {
        EndedAttempt *next;                    /* of the task's */
        EndedAttempt *previous_all, *next_all; /* of the delivery's */
        uint64_t number;
        StoredAttemptState state;
        DeliveryWorker *worker; /* weak */
        bool keep;              /* somebody reads its output there */
        uint64_t write;         /* the one that it is in; 0: none yet, or one that failed */
        usec_t finish_usec;     /* CLOCK_REALTIME */
        char *attempt_json;     /* as clients see it; NULL */
        char attempt_id[];
};

typedef void (*TaskStep)(Task *task, int r, const Moment *now);

/* What is under way for a task; the delivery's own. */
typedef struct TaskWork {
        PortCall *submit_call; /* owned */
        TaskFetch *fetch;      /* the result, on its way from the worker to the disk; owned */
        EndedAttempt *ended;   /* a list, owned; NULL: all is on disk */
        QueueSpec *spec;       /* parsed; NULL while it waits */
        char *body;            /* of submissions; NULL while it waits */
        json_object *seen;     /* the whole attempt, over, as it came with the news of that; NULL */
        json_object *earlier;  /* attempts that did not become the result, as stored; NULL: not read */
        char *result;          /* the finished task, on its way to the disk */
        const char *state_word, *result_word; /* in there; the latter may be NULL */
        TaskStep read_step; /* goes on when something was read from the store; NULL: nothing is read */
        bool reading;       /* … that is under way, not still to be begun */
        TaskStep again;     /* to be done again, or in the next turn, at the time of the deadline */
        Deadline deadline;
        uint64_t n_writes_begun, n_writes_done; /* to the disk, where they arrive in order */
        unsigned n_placing; /* of these, where attempts go; all but the last of them were given up */
        bool finish_seen; /* its worker says that the attempt is over, maybe before it says that it took it */
        bool stop_early;  /* a client wants it stopped before it could be scheduled */
        bool is_retried;  /* it had ended, and is on its way to wait again */
        Dependent dependent;     /* on others that are not finished */
        char *failed_dependency; /* an id: one that has not completed; NULL */
} TaskWork;

/* A task that is not finished. Others than the delivery only read it. */
struct Task {
        Delivery *delivery; /* weak */
        char *task_id;
        uint64_t seq;             /* the store's */
        ScheduledTask *scheduled; /* weak; NULL until the task is on disk */
        char *spec_text;          /* as stored; NULL: too large to be kept, read it from the store */
        usec_t submit_usec;       /* CLOCK_REALTIME */
        usec_t queue_usec;        /* CLOCK_REALTIME */
        uint64_t attempt_number;  /* of the current attempt, or the last one; 0: none yet */
        char *attempt_id;         /* of the current attempt at its worker; NULL: there is none */
        DeliveryWorker *worker;   /* where that is, weak; NULL while there is none */
        char *unit;               /* there; NULL until told */
        char *note;               /* why no worker takes it; NULL */
        bool is_stored;           /* as a finished one: only its listener is left to be told */
        Awaited *awaited;         /* by others; owned; NULL: by none */
        void *userdata;           /* the program's */
        TaskWork work;
        UT_hash_handle by_id, by_attempt;
};

int delivery_new(const DeliveryOptions *options, Delivery **ret);

/* The ports' calls must be over: free the ports first, which call nobody back. */
Delivery *delivery_free(Delivery *delivery);
DEFINE_POINTER_CLEANUP(Delivery, delivery_free)

Scheduler *delivery_scheduler(const Delivery *delivery);

/* A worker that may be used; PORT is what the worker port knows it by. One of that id that was only in the
 * books, for what an earlier run had sent there, is that one. -ENOMEM, -ENAMETOOLONG. */
int delivery_add_worker(
                Delivery *delivery,
                const char *id,
                void *port,
                const Moment *now,
                DeliveryWorker **ret);

/* Its port reaches it at another address from now on, or may as well reach another one there. What it was
 * asked before may still be answered, but for calls of the scheduler and listings, which are made again. */
void delivery_move_worker(DeliveryWorker *worker, const Moment *now);

/* Nothing new goes there, and it is given back when its last task has ended; or it is used again. */
void delivery_set_leaving(DeliveryWorker *worker, bool leaving, const Moment *now);

/* Whether one that is leaving is done with: nothing here needs it, or its port, any more. */
bool delivery_worker_has_left(const DeliveryWorker *worker);

/* Forgets a worker that has left; its port is the caller's to free. */
void delivery_remove_worker(DeliveryWorker *worker);

ScheduledWorker *delivery_worker_scheduled(const DeliveryWorker *worker);
void *delivery_worker_port(const DeliveryWorker *worker); /* NULL: it is not configured any more */
const char *delivery_worker_id(const DeliveryWorker *worker);

/* Lets the scheduler decide and carries that out. Call after anything that happened, in a turn of its own. */
void delivery_run(Delivery *delivery, const Moment *now);

/* When to call it again if nothing happens before. */
usec_t delivery_deadline(const Delivery *delivery, const Moment *now);

/* ── accept.c ── */

/* How a task that another one is to wait for has ended. */
typedef enum AfterState {
        AFTER_COMPLETED,
        AFTER_FAILED, /* in whatever other way, or nobody knows it any more and it had not completed when it
                         was */
} AfterState;

/* What a client submitted. Borrowed. */
typedef struct NewTask {
        const char *task_id;
        const QueueSpec *spec;
        json_object *body; /* as submitted; changed */
        const AfterState *
                        after; /* of each in spec->after that is not live; NULL where there is no such list */
} NewTask;

/* Adds a new task to BATCH. It is in the table then, and waits as soon as delivery_accept() has stored it.
 * -EAGAIN: the store has no number for it. -EMSGSIZE: what would be sent to a worker is too large for it.
 * -EDQUOT: too many tasks wait for too many others. */
int delivery_put_task(
                Delivery *delivery,
                const NewTask *wanted,
                StoreBatch *batch,
                const Moment *now,
                Task **ret);

/* Stores BATCH (taken over) and with it N new TASKS (copied). DONE is called once, later or at once: with 0
 * when they are stored and wait, or with why they are not, and then they are gone. */
void delivery_accept(
                Delivery *delivery,
                StoreBatch *batch,
                Task *const *tasks,
                size_t n,
                StoreDone done,
                void *userdata,
                const Moment *now);

/* Tasks that are on their way to the disk. */
size_t delivery_n_uncommitted(const Delivery *delivery);

/* A client wants it stopped. */
void delivery_stop_task(Delivery *delivery, Task *task, const Moment *now);

/* ── retry.c ── */

/* How often a task may be tried in all. */
#define ATTEMPTS_MAX 2000

/* Adds to BATCH that the task of ENTRY, read from the store with its attempts, waits again; as with
 * delivery_put_task(). SPEC is its specification, AFTER as in NewTask. -EBUSY: it is live. -E2BIG: it has
 * been tried too often. */
int delivery_put_retry(
                Delivery *delivery,
                const StoreEntry *entry,
                const QueueSpec *spec,
                const AfterState *after,
                StoreBatch *batch,
                const Moment *now,
                Task **ret);

/* ── what a worker tells by itself (watch.c) ── */

void delivery_worker_connected(DeliveryWorker *worker, const Moment *now);
void delivery_worker_disconnected(DeliveryWorker *worker, const Moment *now);
void delivery_worker_reported(DeliveryWorker *worker, const WorkerReport *report, const Moment *now);

/* ATTEMPT: the whole of it, when it is over and came along; or NULL. */
void delivery_worker_seen(
                DeliveryWorker *worker,
                const RunnerTask *seen,
                json_object *attempt,
                const Moment *now);

/* ── tasks ── */

Task *delivery_find_task(const Delivery *delivery, const char *task_id);
size_t delivery_n_tasks(const Delivery *delivery);

/* Calls VISIT with each live task, in no order; it must not end any. */
void delivery_visit_tasks(
                const Delivery *delivery,
                void (*visit)(Task *task, void *userdata),
                void *userdata);

/* Whether clients see it as running: a worker has it. */
bool task_is_running(const Task *task);

/* While many tasks are stopped one after the other, what the end of one means for those that wait for it is
 * put off, or they would have failed for it before they are stopped themselves. Each call with PUT_OFF is
 * followed by one without. */
void delivery_put_off_settling(Delivery *delivery, bool put_off);

/* Whether a client has wanted it stopped already, or it is over. */
bool task_is_to_stop(const Task *task);

/* Reads TEXT, the stored specification of TASK_ID. The caller frees *ret. */
int delivery_parse_spec(const Delivery *delivery, const char *text, const char *task_id, QueueSpec **ret);

/* The TaskAttempt of a live task, without outputs. SPEC_TEXT and ATTEMPTS are what is stored of it. */
int task_describe(
                const Task *task,
                const char *spec_text,
                const StoredAttempt *attempts,
                size_t n_attempts,
                json_object **ret);

/* "pending" of a task that is queued: why it does not run. -ENOMEM. *RET is NULL if it is not. */
int task_describe_pending(const Task *task, const Moment *now, json_object **ret);

/* Nobody reads at WORKER any more what was written by an attempt of TASK_ID that was not the last. */
void delivery_release_attempt(
                DeliveryWorker *worker,
                const char *task_id,
                const char *attempt_id,
                const Moment *now);

/* ── restore.c ── */

/* Takes up a task that an earlier run left in the store; ATTEMPT is its last, or NULL. */
int delivery_restore(
                Delivery *delivery,
                const StoredTask *row,
                const StoredAttempt *attempt,
                const Moment *now);

/* Then, when all tasks are taken up, whom they wait for. */
int delivery_restore_dependency(Delivery *delivery, const StoredDependency *dependency, const Moment *now);
