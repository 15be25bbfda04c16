/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the scheduler takes for a task among many workers: a fleet of several kinds, in use to differing
 * degrees, and tasks of many kinds, in a steady state: for each that is placed another one ends.
 *
 *   bench-placement N_WORKERS N_TASKS
 *
 * Prints one line of JSON: of the CPU time that a task took, from being added to being removed, the median
 * and the 99th percentile. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/scheduling/scheduler.h"

#define WORKERS_MAX 1000000
#define TASKS_MAX   10000000
#define N_LIVE_MAX  65536
#define ACTIONS_MAX 1024
#define N_ROUNDS    3
#define LEASE_USEC  (3600 * USEC_PER_SEC)
#define NOW_USEC    (1000 * USEC_PER_SEC)
#define N_KINDS(a)  (sizeof(a) / sizeof((a)[0]))

typedef struct Bench {
        Scheduler *scheduler;
        uint64_t random, n_added;
        ScheduledTask *live[N_LIVE_MAX]; /* run somewhere; a ring */
        size_t n_live, first_live;
} Bench;

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "bench-placement: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

/* xorshift64: the same fleet and the same tasks each time. */
static uint64_t random_below(Bench *bench, uint64_t n) {
        bench->random ^= bench->random << 13;
        bench->random ^= bench->random >> 7;
        bench->random ^= bench->random << 17;
        return bench->random % n;
}

static void add_named(Resources *resources, const char *name, uint64_t amount) {
        check(resources_named_set(resources, name, amount), "name");
}

/* Every tenth has GPUs, every twentieth something else; each has the larger part in use, or the smaller. */
static WorkerReport random_report(Bench *bench, uint64_t number) {
        static const uint64_t cores[] = { 8, 16, 32, 64, 128 }, memory_per_core[] = { 2048, 4096, 8192 };
        WorkerReport report = {};
        uint64_t n = cores[random_below(bench, N_KINDS(cores))];
        report.total.cores_micro = n * CORES_MICRO_PER_CORE;
        report.total.memory_mb = n * memory_per_core[random_below(bench, N_KINDS(memory_per_core))];
        if (random_below(bench, 10) == 0)
                add_named(&report.total, "gpu", 2ULL << random_below(bench, 3));
        if (random_below(bench, 20) == 0)
                add_named(&report.total, "license", 1 + random_below(bench, 5));
        report.free_amounts = report.total;
        report.free_amounts.cores_micro = (1 + random_below(bench, 2 * n)) * CORES_MICRO_PER_CORE / 2;
        report.free_amounts.memory_mb = 1 + random_below(bench, report.total.memory_mb);
        for (size_t i = 0; i < report.total.n_named; i++)
                report.free_amounts.named[i].amount = random_below(bench, report.total.named[i].amount + 1);
        (void) snprintf(report.instance, sizeof(report.instance), "%032" PRIx64, number);
        return report;
}

static Resources random_want(Bench *bench) {
        static const uint64_t half_cores[] = { 1, 2, 2, 2, 4, 4, 8, 16, 32 };
        Resources want = {
                .cores_micro = half_cores[random_below(bench, N_KINDS(half_cores))] * CORES_MICRO_PER_CORE /
                                2,
                .memory_mb = 256ULL << random_below(bench, 8),
        };
        if (random_below(bench, 20) == 0)
                add_named(&want, "gpu", 1 + random_below(bench, 2));
        return want;
}

/* Answers what the scheduler asks of a worker. */
static void answer_call(Bench *bench, const SchedulerAction *action) {
        char lease_id[LEASE_ID_SIZE];
        if (action->call == WORKER_CALL_PROBE) {
                WorkerReport *report = action->worker->userdata;
                scheduler_call_answered(bench->scheduler, action->worker, NOW_USEC);
                scheduler_worker_reported(bench->scheduler, action->worker, report, NOW_USEC);
        } else {
                (void) snprintf(lease_id, sizeof(lease_id), "%032" PRIu64, ++bench->n_added);
                scheduler_call_granted(bench->scheduler, action->worker, lease_id, LEASE_USEC, NOW_USEC);
        }
}

/* All that is to be done about workers; those that have a lease are left alone for a while. */
static void settle(Bench *bench, ScheduledWorker **workers, size_t n_workers) {
        SchedulerAction *actions = calloc(n_workers, sizeof(SchedulerAction));
        check(actions ? 0 : -ENOMEM, "actions");
        size_t n_usable;
        do {
                size_t n = 0;
                scheduler_run(bench->scheduler, NOW_USEC);
                while (scheduler_next_action(bench->scheduler, &actions[n]))
                        n++;
                for (size_t i = 0; i < n; i++)
                        answer_call(bench, &actions[i]);
                n_usable = 0;
                for (size_t i = 0; i < n_workers; i++)
                        n_usable += worker_is_usable(&workers[i]->worker, NOW_USEC);
        } while (n_usable < n_workers);
        free(actions);
}

static void fill(Bench *bench, size_t n_workers) {
        SchedulerConfig config = { .lease_ttl_usec = LEASE_USEC, .lost_after_usec = LEASE_USEC };
        ScheduledWorker **workers = calloc(n_workers, sizeof(ScheduledWorker *));
        WorkerReport *reports = calloc(n_workers, sizeof(WorkerReport));
        check(workers && reports ? 0 : -ENOMEM, "workers");
        check(scheduler_new(&config, &bench->scheduler), "scheduler");
        for (size_t i = 0; i < n_workers; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "host%zu", i);
                check(scheduler_add_worker(bench->scheduler, id, NOW_USEC, &workers[i]), "worker");
                reports[i] = random_report(bench, i);
                workers[i]->userdata = &reports[i];
                scheduler_set_permitted(workers[i], true, NOW_USEC);
        }
        settle(bench, workers, n_workers);
        free(reports);
        free(workers);
}

/* The oldest one. What the worker says of it, it says at the next probe. */
static void end_one(Bench *bench) {
        ScheduledTask *task = bench->live[bench->first_live];
        bench->first_live = (bench->first_live + 1) % N_LIVE_MAX;
        bench->n_live--;
        scheduler_attempt_ended(bench->scheduler, task, ATTEMPT_SUCCEEDED, NOW_USEC);
}

/* All are taken before anything is reported. */
static void take_actions(Bench *bench) {
        SchedulerAction actions[ACTIONS_MAX];
        size_t n = 0;
        scheduler_run(bench->scheduler, NOW_USEC);
        while (scheduler_next_action(bench->scheduler, &actions[n]))
                check(++n < ACTIONS_MAX ? 0 : -EPROTO, "more actions than tasks lead to");
        for (size_t i = 0; i < n; i++) {
                ScheduledTask *task = actions[i].task;
                if (actions[i].type == ACTION_PLACE) {
                        scheduler_submit_done(bench->scheduler, task, SUBMIT_ACCEPTED, NOW_USEC);
                        bench->live[(bench->first_live + bench->n_live++) % N_LIVE_MAX] = task;
                } else if (actions[i].type == ACTION_FINISH)
                        scheduler_remove_task(bench->scheduler, task);
        }
}

static void one_task(Bench *bench) {
        char id[32];
        ScheduledTask *task;
        (void) snprintf(id, sizeof(id), "t%" PRIu64, ++bench->n_added);
        ScheduledTaskOptions options = {
                .task_id = id,
                .resources = random_want(bench),
                .sequence = bench->n_added,
        };
        check(scheduler_add_task(bench->scheduler, &options, NOW_USEC, &task), "task");
        take_actions(bench);
}

static usec_t cpu_nsec(void) {
        struct timespec time;
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
        return (usec_t) time.tv_sec * 1000000000 + (usec_t) time.tv_nsec;
}

static int compare(const void *a, const void *b) {
        usec_t left = *(const usec_t *) a, right = *(const usec_t *) b;
        return (left > right) - (left < right);
}

/* Every round is the same, so the least of each time is what it takes without the machine's other work. */
static void run_round(size_t n_workers, size_t n_tasks, bool is_first, usec_t *times) {
        static Bench bench;
        bench = (Bench) { .random = UINT64_C(0x9e3779b97f4a7c15) };
        fill(&bench, n_workers);
        size_t n_live = n_workers < N_LIVE_MAX / 2 ? n_workers : N_LIVE_MAX / 2;
        while (bench.n_live < n_live)
                one_task(&bench);
        for (size_t i = 0; i < n_tasks; i++) {
                usec_t begin = cpu_nsec();
                end_one(&bench);
                one_task(&bench);
                usec_t took = cpu_nsec() - begin;
                if (is_first || took < times[i])
                        times[i] = took;
        }
        (void) scheduler_free(bench.scheduler);
}

int main(int argc, char **argv) {
        uint64_t n_workers, n_tasks;
        if (argc != 3 || text_parse_u64(argv[1], 1, WORKERS_MAX, &n_workers) < 0 ||
            text_parse_u64(argv[2], 100, TASKS_MAX, &n_tasks) < 0) {
                (void) fprintf(stderr, "Usage: bench-placement N_WORKERS N_TASKS\n");
                return EXIT_FAILURE;
        }
        usec_t *times = calloc(n_tasks, sizeof(usec_t));
        check(times ? 0 : -ENOMEM, "times");
        for (unsigned round = 0; round < N_ROUNDS; round++)
                run_round(n_workers, n_tasks, round == 0, times);
        qsort(times, n_tasks, sizeof(usec_t), compare);
        printf("{\"n_workers\":%" PRIu64 ",\"median_usec\":%.2f,\"p99_usec\":%.2f,\"worst_usec\":%.2f}\n",
               n_workers,
               (double) times[n_tasks / 2] / 1000,
               (double) times[n_tasks * 99 / 100] / 1000,
               (double) times[n_tasks - 1] / 1000);
        free(times);
        return EXIT_SUCCESS;
}
