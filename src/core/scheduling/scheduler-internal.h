/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the scheduler's sources share. scheduler.c: tasks and actions; scheduler-attempt.c: one attempt from
 * placement to end; scheduler-worker.c: what is heard of workers, and how they come and go;
 * scheduler-touch.c: whose state has changed; scheduler-place.c: which task goes where; scheduler-explain.c:
 * why one goes nowhere. */
#pragma once

#include "core/scheduling/scheduler.h"
#include "core/scheduling/worker-index.h"

/* Amounts that many tasks ask for: there are few kinds of tasks, and what one asks for takes 800 bytes. */
typedef struct SharedResources {
        Resources resources; /* first: a ScheduledTask points to it */
        size_t n_refs;
} SharedResources;

/* The latest ones; a kind that is not among them gets a copy more. */
#define SHARED_RESOURCES_KEPT 64

struct Scheduler {
        SchedulerConfig config;
        ScheduledWorker **workers;
        size_t n_workers;
        ScheduledTask *tasks;
        size_t n_tasks, n_held;
        WaitingList waiting;
        DeadlineHeap deadlines;
        ScheduledTask *first_active, *last_active;      /* have actions to be taken */
        SharedResources *shared[SHARED_RESOURCES_KEPT]; /* each a reference; by hash */
        ForgetList forget, strays; /* what workers are to forget, and to stop; by attempt id */
        usec_t run_usec;           /* when it last ran */
        bool acting;               /* there are actions to be taken before anything else is reported */
        size_t checked;            /* the worker that scheduler_check() looks at next */
        bool more_to_place;        /* the last run stopped before it was through */

        /* What is known of workers that is worked out from their state, and anew for those in TOUCHED. */
        WorkerIndex index;
        DeadlineHeap dues;
        ScheduledWorker *touched;
        usec_t refreshed_usec;
        ScheduledWorker *reserved;               /* in the last run */
        ScheduledWorker *first_call, *last_call; /* have a call to be made */
};

/* scheduler-attempt.c: how long TASK waits before its retry number n_retries. */
usec_t scheduler_backoff_usec(const ScheduledTask *task);
void scheduler_act(Scheduler *scheduler, ScheduledTask *task, SchedulerActionType type);

/* Every function that reports something begins with this. */
void scheduler_assert_idle(const Scheduler *scheduler);

/* scheduler-attempt.c */
void attempt_begin(Scheduler *scheduler, ScheduledTask *task, ScheduledWorker *worker, usec_t now_usec);
void attempt_refused(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);
void attempt_forgotten(Scheduler *scheduler, ScheduledTask *task);
void attempt_lost(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);
bool attempt_is_of_other_instance(const ScheduledTask *task);
void attempt_unmiss(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);
bool attempt_is_outlived(const ScheduledTask *task, usec_t now_usec);
void attempt_resubmit(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);
void task_wait(Scheduler *scheduler, ScheduledTask *task, usec_t since_usec, usec_t now_usec);

/* scheduler-worker.c */
void worker_doubt(Worker *worker, usec_t now_usec);
bool worker_is_to_be_released(const Worker *worker);
void workers_tick(Scheduler *scheduler, usec_t now_usec);
void workers_forget_call(Scheduler *scheduler, ScheduledWorker *worker);
bool workers_next_call(Scheduler *scheduler, SchedulerAction *ret);

/* scheduler-touch.c */
int touch_add_worker(Scheduler *scheduler, ScheduledWorker *worker);
void touch_worker(ScheduledWorker *worker);
void touch_remove_worker(ScheduledWorker *worker);
void touch_refresh(Scheduler *scheduler, usec_t now_usec);
void touch_refresh_worker(ScheduledWorker *worker, usec_t now_usec);

/* scheduler-place.c */
bool worker_takes_more(const ScheduledWorker *worker, usec_t now_usec);
bool worker_is_reservable(const ScheduledWorker *worker, usec_t now_usec);
void scheduler_place(Scheduler *scheduler, usec_t now_usec);
