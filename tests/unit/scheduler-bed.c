/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scheduler-bed.h"

#include <stdio.h>
#include <string.h>

#include "test.h"

void bed_init(Bed *bed, size_t n_workers, unsigned cores) {
        SchedulerConfig config = { .lease_ttl_usec = 30 * SEC, .lost_after_usec = 30 * SEC };
        *bed = (Bed) { .now_usec = 1000 * SEC, .n_workers = n_workers };
        assert_int_equal(scheduler_new(&config, &bed->scheduler), 0);
        for (size_t i = 0; i < n_workers; i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "w%zu", i);
                assert_int_equal(
                                scheduler_add_worker(bed->scheduler, id, bed->now_usec, &bed->workers[i]), 0);
                bed->calls[i] = NO_CALL;
                bed->reports[i] = (WorkerReport) {
                        .total = { .cores_micro = cores * CORES_MICRO_PER_CORE, .memory_mb = 1000 },
                };
                bed->reports[i].free_amounts = bed->reports[i].total;
                bed_restart(bed, i);
                scheduler_set_permitted(bed->workers[i], true, bed->now_usec);
        }
}

void bed_done(Bed *bed) {
        bed->scheduler = scheduler_free(bed->scheduler);
}

/* All actions are taken before anything else happens; those about tasks stay for the test. */
static void run(Bed *bed) {
        SchedulerAction action;
        scheduler_run(bed->scheduler, bed->now_usec);
        while (scheduler_next_action(bed->scheduler, &action)) {
                if (action.type != ACTION_CALL) {
                        assert_true(bed->n_actions < BED_ACTIONS_MAX);
                        bed->actions[(bed->first_action + bed->n_actions++) % BED_ACTIONS_MAX] = action;
                        continue;
                }
                for (size_t i = 0; i < bed->n_workers; i++)
                        if (bed->workers[i] == action.worker)
                                bed->calls[i] = (int) action.call;
        }
        scheduler_check(bed->scheduler, bed->n_workers);
}

SchedulerAction bed_next(Bed *bed) {
        if (bed->n_actions == 0)
                run(bed);
        if (bed->n_actions == 0)
                return (SchedulerAction) { .type = ACTION_CALL };
        SchedulerAction action = bed->actions[bed->first_action++ % BED_ACTIONS_MAX];
        bed->n_actions--;
        return action;
}

void bed_expect_at(
                Bed *bed,
                SchedulerActionType type,
                const ScheduledTask *task,
                const char *file,
                int line) {
        SchedulerAction action = bed_next(bed);
        check_int_at("action", action.type, type, "type", file, line);
        check_true_at("action", action.task == task, "it is about the task", file, line);
        bool has_worker = type != ACTION_REQUEUE && type != ACTION_FINISH;
        check_true_at("action", has_worker == !!action.worker, "it has a worker", file, line);
}

void bed_expect_none_at(Bed *bed, const char *file, int line) {
        check_int_at("no action", bed_next(bed).type, ACTION_CALL, "type", file, line);
}

void bed_wait(Bed *bed, usec_t usec) {
        bed->now_usec += usec;
}

void bed_answer(Bed *bed, size_t i) {
        char lease_id[LEASE_ID_SIZE];
        ScheduledWorker *worker = bed->workers[i];
        int call = bed->calls[i];
        assert_int_not_equal(call, NO_CALL);
        bed->calls[i] = NO_CALL;
        switch ((WorkerCall) call) {
        case WORKER_CALL_PROBE:
                scheduler_call_answered(bed->scheduler, worker, bed->now_usec);
                scheduler_worker_reported(bed->scheduler, worker, &bed->reports[i], bed->now_usec);
                break;
        case WORKER_CALL_ACQUIRE:
                (void) snprintf(lease_id, sizeof(lease_id), "%032u", ++bed->n_leases);
                scheduler_call_granted(bed->scheduler, worker, lease_id, 30 * SEC, bed->now_usec);
                break;
        case WORKER_CALL_RENEW:
                memcpy(lease_id, worker->worker.lease_id, sizeof(lease_id));
                scheduler_call_granted(bed->scheduler, worker, lease_id, 30 * SEC, bed->now_usec);
                break;
        case WORKER_CALL_RELEASE:
                scheduler_call_answered(bed->scheduler, worker, bed->now_usec);
                break;
        }
}

void bed_settle(Bed *bed) {
        for (unsigned round = 0; round < 8; round++) {
                run(bed);
                for (size_t i = 0; i < bed->n_workers; i++)
                        if (bed->calls[i] != NO_CALL)
                                bed_answer(bed, i);
        }
}

void bed_restart(Bed *bed, size_t i) {
        static unsigned n_instances;
        (void) snprintf(bed->reports[i].instance, WORKER_INSTANCE_SIZE, "%032u", ++n_instances);
}

ScheduledTask *bed_task_with(Bed *bed, ScheduledTaskOptions options) {
        char id[16];
        ScheduledTask *task;
        (void) snprintf(id, sizeof(id), "t%llu", (unsigned long long) ++bed->n_tasks);
        options.task_id = id;
        options.sequence = bed->n_tasks;
        assert_int_equal(scheduler_add_task(bed->scheduler, &options, bed->now_usec, &task), 0);
        return task;
}

ScheduledTask *bed_task(Bed *bed, unsigned half_cores, unsigned memory_mb) {
        return bed_task_with(
                        bed,
                        (ScheduledTaskOptions) {
                                        .resources = { .cores_micro = half_cores * CORES_MICRO_PER_CORE / 2,
                                                       .memory_mb = memory_mb },
                                        .retry_on_lost = true,
                        });
}

void bed_submit_done(Bed *bed, ScheduledTask *task, SubmitOutcome outcome) {
        scheduler_submit_done(bed->scheduler, task, outcome, bed->now_usec);
}

ScheduledTask *bed_sent(Bed *bed, SubmitOutcome outcome) {
        ScheduledTask *task = bed_task(bed, 2, 100);
        bed_expect(bed, ACTION_PLACE, task);
        bed_submit_done(bed, task, outcome);
        return task;
}
