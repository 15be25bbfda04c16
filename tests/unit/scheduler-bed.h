/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A scheduler with workers whose calls are answered by hand or as all is well. */
#pragma once

#include "core/scheduling/scheduler.h"

#define BED_WORKERS_MAX 8
#define BED_ACTIONS_MAX 1024
#define NO_CALL         (-1)
#define SEC             USEC_PER_SEC

typedef struct Bed {
        Scheduler *scheduler;
        usec_t now_usec;
        size_t n_workers;
        ScheduledWorker *workers[BED_WORKERS_MAX];
        WorkerReport reports[BED_WORKERS_MAX];    /* what each says when it is asked */
        int calls[BED_WORKERS_MAX];               /* under way and not answered, or NO_CALL */
        SchedulerAction actions[BED_ACTIONS_MAX]; /* about tasks: taken, and not yet given to the test */
        size_t first_action, n_actions;
        unsigned n_leases;
        uint64_t n_tasks;
} Bed;

/* N workers that nobody has heard of yet, with CORES and 1000 MB each; permitted. */
void bed_init(Bed *bed, size_t n_workers, unsigned cores);
void bed_done(Bed *bed);

/* Runs; notes calls; returns the next action that is about a task, or type ACTION_CALL when there is none. */
SchedulerAction bed_next(Bed *bed);

/* The next action must be TYPE for TASK. */
#define bed_expect(bed, type, task) bed_expect_at(bed, type, task, __FILE__, __LINE__)
void bed_expect_at(Bed *bed, SchedulerActionType type, const ScheduledTask *task, const char *file, int line);

/* There must be no action about a task. */
#define bed_expect_none(bed) bed_expect_none_at(bed, __FILE__, __LINE__)
void bed_expect_none_at(Bed *bed, const char *file, int line);

/* Time goes on. Calls that become due are noted, not answered. */
void bed_wait(Bed *bed, usec_t usec);

/* Answers the call that worker I was to get. */
void bed_answer(Bed *bed, size_t i);

/* Answers all, until every worker is leased, probed, and idle for the moment. */
void bed_settle(Bed *bed);

/* The worker comes back as another instance, which nobody knows yet. */
void bed_restart(Bed *bed, size_t i);

/* A task for CORES (in halves) and MEMORY_MB, otherwise plain. */
ScheduledTask *bed_task(Bed *bed, unsigned half_cores, unsigned memory_mb);
ScheduledTask *bed_task_with(Bed *bed, ScheduledTaskOptions options);

/* A task that was placed at the only worker, with its submission answered by OUTCOME. */
ScheduledTask *bed_sent(Bed *bed, SubmitOutcome outcome);
void bed_submit_done(Bed *bed, ScheduledTask *task, SubmitOutcome outcome);
