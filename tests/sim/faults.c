/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a seed makes of a cluster: its size, its tasks, who may use which runner when, and what goes wrong. */

#include <stdio.h>
#include <string.h>

#include "sim.h"

#define SEC           USEC_PER_SEC
#define N_ALONE_MAX   3
#define N_MEMBERS_MAX 3

/* Each seed has some kinds of faults, often all. */
typedef enum Fault {
        FAULT_RUNNER_CRASH,
        FAULT_RUNNER_SHUTDOWN,
        FAULT_RUNNER_DRAIN,
        FAULT_RUNNER_PAUSE,
        FAULT_RUNNER_STRANGE,
        FAULT_QUEUE_CRASH,
        FAULT_QUEUE_PAUSE,
        FAULT_DISK_FULL,
        FAULT_DISK_SLOW,
        FAULT_CLOCK_JUMP,
        FAULT_PARTITION,
        FAULT_ISOLATION,
        FAULT_EVICTION,
        FAULT_STOP,
        FAULT_RETRY,
        FAULT_WORKER_LEAVES,
        FAULT_WORKER_MOVES,
        _FAULT_ALONE_MAX,
        FAULT_LEADER_PAUSE = _FAULT_ALONE_MAX, /* of queues with members only, as what follows */
        FAULT_MEMBER_LEAVES,
        FAULT_MEMBER_CUT,
        FAULT_DATABASE_AWAY,
        FAULT_STORE_BREAKS,
        FAULT_DATABASE_CLOCK,
        _FAULT_MAX,
} Fault;

typedef struct Change {
        size_t queue, runner, task;
        bool value;
} Change;

static Change *change_new(size_t queue, size_t runner, bool value) {
        Change *change = sim_allocate(sizeof(*change));
        *change = (Change) { .queue = queue, .runner = runner, .value = value };
        return change;
}

/* ── who may use what ── */

static void permission_arrives(Sim *sim, void *data) {
        const Change *change = data;
        Queue *queue = &sim->queues[change->queue];
        for (size_t v = 0; v < sim->n_runners; v++) /* workers that nobody has may be used when they come */
                if (queue->views[v].runner == change->runner)
                        queue_set_permitted(sim, queue, v, change->value);
}

/* Disjoint as the master sees it; each queue hears of it in its own time, so that their views overlap. */
static void share_out(Sim *sim, bool last) {
        for (size_t r = 0; r < sim->n_runners; r++) {
                size_t owner = last ? r % sim->n_queues : sim_below(sim, sim->n_queues + 1);
                if (owner < sim->n_queues)
                        owner = sim->queues[owner].group;
                for (size_t q = 0; q < sim->n_queues; q++) {
                        if (!last && sim_chance(sim, 0.2))
                                continue;
                        usec_t after_usec = sim_below(sim, last ? 5 * SEC : 40 * SEC);
                        sim_at_any_life(sim,
                                        sim->now_usec + after_usec,
                                        &sim->queues[q].host,
                                        permission_arrives,
                                        change_new(q, r, owner == sim->queues[q].group));
                }
        }
}

static void share_again(Sim *sim, void *data) {
        if (sim->now_usec >= sim->calm_usec)
                return;
        share_out(sim, false);
        sim_at(sim, sim->now_usec + sim_between(sim, 10 * SEC, 120 * SEC), NULL, share_again, NULL);
}

/* ── what goes wrong ── */

static void runner_comes_back(Sim *sim, void *data) {
        Runner *runner = &sim->runners[((const Change *) data)->runner];
        if (!runner->host.up)
                runner_start(sim, runner);
}

static void queue_comes_back(Sim *sim, void *data) {
        Queue *queue = &sim->queues[((const Change *) data)->queue];
        if (!queue->host.up)
                queue_start(sim, queue);
}

static void runner_ends(Sim *sim, void *data) {
        size_t r = ((const Change *) data)->runner;
        runner_crash(sim, &sim->runners[r]);
        sim_at(sim,
               sim->now_usec + sim_below(sim, 60 * SEC),
               NULL,
               runner_comes_back,
               change_new(0, r, true));
}

static void drain_ends(Sim *sim, void *data) {
        sim->runners[((const Change *) data)->runner].draining = false;
}

static usec_t soon(Sim *sim, usec_t most_usec) {
        return sim->now_usec + sim_between(sim, 1000, sim_chance(sim, 0.5) ? most_usec : most_usec / 20);
}

static void block(Sim *sim, size_t q, size_t r, usec_t until_usec) {
        Link *link = &sim->queues[q].links[r];
        uint64_t which = sim_below(sim, 3);
        if (which != 1)
                link->out_until_usec = until_usec;
        if (which != 2)
                link->in_until_usec = until_usec;
}

/* What came meanwhile is read in its order when it goes on. */
static void pause_host(Host *host, usec_t until_usec) {
        if (host->paused_until_usec < until_usec)
                host->paused_until_usec = until_usec;
}

static void go_wrong_at_runner(Sim *sim, Fault fault, size_t r) {
        Runner *runner = &sim->runners[r];
        if (!runner->host.up)
                return;
        sim_log(sim, "fault %d at %s", (int) fault, runner->host.name);
        usec_t end_usec = soon(sim, 10 * SEC);
        if (fault == FAULT_RUNNER_CRASH) {
                runner_crash(sim, runner);
                sim_at(sim, soon(sim, 60 * SEC), NULL, runner_comes_back, change_new(0, r, true));
        } else if (fault == FAULT_RUNNER_SHUTDOWN) {
                runner_shut_down(sim, runner);
                sim_at(sim, end_usec, &runner->host, runner_ends, change_new(0, r, true));
        } else if (fault == FAULT_RUNNER_DRAIN) {
                runner->draining = true;
                sim_at(sim, soon(sim, 60 * SEC), &runner->host, drain_ends, change_new(0, r, true));
        } else if (fault == FAULT_RUNNER_STRANGE)
                runner->strange_until_usec = soon(sim, 60 * SEC);
        else
                pause_host(&runner->host, soon(sim, 60 * SEC));
}

static void go_wrong_at_queue(Sim *sim, Fault fault, size_t q) {
        Queue *queue = &sim->queues[q];
        if (!queue->host.up)
                return;
        sim_log(sim, "fault %d at %s", (int) fault, queue->host.name);
        if (fault == FAULT_QUEUE_CRASH) {
                queue_crash(sim, queue);
                sim_at(sim, soon(sim, 90 * SEC), NULL, queue_comes_back, change_new(q, 0, true));
        } else if (fault == FAULT_DISK_FULL)
                queue->full_until_usec = soon(sim, 60 * SEC);
        else if (fault == FAULT_DISK_SLOW)
                queue->slow_until_usec = soon(sim, 60 * SEC);
        else if (fault == FAULT_CLOCK_JUMP) /* forth and back, by minutes or months */
                queue->realtime_offset_usec = sim_below(
                                sim, (sim_chance(sim, 0.5) ? (usec_t) 600 : (usec_t) 90 * 86400) * SEC);
        else
                pause_host(&queue->host, soon(sim, 70 * SEC));
}

/* Clients of a queue with members ask whichever is there. */
static Host *asked_host(Sim *sim, size_t task) {
        Queue *queue = &sim->queues[sim->tasks[task].queue];
        return queue->cluster ? NULL : &queue->host;
}

static void stop_arrives(Sim *sim, void *data) {
        queue_stop_task(sim, ((const Change *) data)->task);
}

static void stop(Sim *sim, size_t task) {
        Change *change = change_new(0, 0, true);
        change->task = task;
        sim_at_any_life(sim, sim->now_usec, asked_host(sim, task), stop_arrives, change);
}

static void retry_arrives(Sim *sim, void *data) {
        queue_retry_task(sim, ((const Change *) data)->task);
}

/* Of several, which is as often one that waited for another. */
static void retry(Sim *sim) {
        for (size_t i = sim_below(sim, 4) + 1; i > 0; i--) {
                Change *change = change_new(0, 0, true);
                change->task = sim_below(sim, sim->n_tasks);
                for (size_t k = 0; k < sim->n_tasks && !sim->tasks[change->task].disk.finished; k++)
                        change->task = (change->task + 1) % sim->n_tasks;
                sim_at_any_life(sim, sim->now_usec, asked_host(sim, change->task), retry_arrives, change);
        }
}

/* Results are kept for longer than requests travel, and than it takes a queue to learn what was accepted. */
static void evict(Sim *sim, uint32_t id) {
        Attempt *attempt = &sim->attempts[id];
        if (attempt->state == ATTEMPT_DONE && sim->tasks[attempt->task].disk.accepted &&
            sim->now_usec > attempt->done_usec + KEPT_USEC) {
                attempt->evicted |= attempt->kept;
                runner_forget(sim, id);
        }
}

static void worker_comes(Sim *sim, void *data) {
        const Change *change = data;
        Queue *queue = queue_in_charge(&sim->queues[change->queue]);
        if (queue)
                queue_worker_comes(sim, queue, change->runner);
        else
                sim_at(sim,
                       sim->now_usec + 5 * SEC,
                       NULL,
                       worker_comes,
                       change_new(change->queue, change->runner, true));
}

/* For longer than what it runs takes, or only for a moment. */
static void worker_leaves(Sim *sim, size_t q, size_t worker) {
        queue_worker_leaves(sim, &sim->queues[q], worker);
        sim_at_any_life(sim,
                        soon(sim, 120 * SEC),
                        sim->queues[q].cluster ? NULL : &sim->queues[q].host,
                        worker_comes,
                        change_new(q, worker, true));
}

static void go_wrong_at_member(Sim *sim, Fault fault, size_t q) {
        Queue *leader = queue_in_charge(&sim->queues[0]), *queue = &sim->queues[q];
        sim_log(sim, "fault %d, perhaps at %s", (int) fault, queue->host.name);
        if (fault == FAULT_DATABASE_AWAY)
                cluster_set_away(sim, soon(sim, 60 * SEC));
        else if (fault == FAULT_DATABASE_CLOCK)
                cluster_set_clock(sim, sim_below(sim, 60 * SEC));
        else if (fault == FAULT_LEADER_PAUSE && leader)
                pause_host(&leader->host, soon(sim, 70 * SEC));
        else if (fault == FAULT_STORE_BREAKS && leader)
                member_store_break(leader);
        else if (fault == FAULT_MEMBER_CUT)
                queue->cut_until_usec = soon(sim, 60 * SEC);
        else if (fault == FAULT_MEMBER_LEAVES && queue->cluster && queue->host.up &&
                 queue->membership.state < MEMBERSHIP_LEAVING)
                member_leave(sim, queue);
}

static void go_wrong(Sim *sim, Fault fault) {
        size_t q = sim_below(sim, sim->n_queues), r = sim_below(sim, sim->n_runners);
        usec_t until_usec = soon(sim, 100 * SEC);
        switch (fault) {
        case FAULT_RUNNER_CRASH:
        case FAULT_RUNNER_SHUTDOWN:
        case FAULT_RUNNER_DRAIN:
        case FAULT_RUNNER_PAUSE:
        case FAULT_RUNNER_STRANGE:
                go_wrong_at_runner(sim, fault, r);
                break;
        case FAULT_QUEUE_CRASH:
        case FAULT_QUEUE_PAUSE:
        case FAULT_DISK_FULL:
        case FAULT_DISK_SLOW:
        case FAULT_CLOCK_JUMP:
                go_wrong_at_queue(sim, fault, q);
                break;
        case FAULT_PARTITION:
                sim_log(sim, "%s and %s are parted", sim->queues[q].host.name, sim->runners[r].host.name);
                block(sim, q, r, until_usec);
                break;
        case FAULT_ISOLATION:
                sim_log(sim, "%s is isolated", sim->runners[r].host.name);
                for (size_t i = 0; i < sim->n_queues; i++)
                        block(sim, i, r, until_usec);
                break;
        case FAULT_EVICTION:
                if (sim->n_attempts > 0)
                        evict(sim, (uint32_t) sim_below(sim, sim->n_attempts));
                break;
        case FAULT_WORKER_LEAVES:
                worker_leaves(sim, q, r);
                break;
        case FAULT_WORKER_MOVES:
                queue_worker_moves(sim, &sim->queues[q], r, sim_below(sim, sim->n_runners));
                break;
        case FAULT_STOP:
                stop(sim, sim_below(sim, sim->n_tasks));
                break;
        case FAULT_RETRY:
                retry(sim);
                break;
        case FAULT_LEADER_PAUSE:
        case FAULT_MEMBER_LEAVES:
        case FAULT_MEMBER_CUT:
        case FAULT_DATABASE_AWAY:
        case FAULT_STORE_BREAKS:
        case FAULT_DATABASE_CLOCK:
                go_wrong_at_member(sim, fault, q);
                break;
        case _FAULT_MAX:
                break;
        }
}

typedef struct Trouble {
        uint64_t kinds; /* a bit each */
        usec_t every_usec;
} Trouble;

static void trouble(Sim *sim, void *data) {
        const Trouble *before = data;
        if (sim->now_usec >= sim->calm_usec)
                return;
        Fault fault = (Fault) sim_below(sim, sim->cluster ? _FAULT_MAX : _FAULT_ALONE_MAX);
        if (before->kinds & UINT64_C(1) << fault)
                go_wrong(sim, fault);
        Trouble *next = sim_allocate(sizeof(*next));
        *next = *before;
        sim_at(sim, sim->now_usec + sim_between(sim, 1, 2 * before->every_usec), NULL, trouble, next);
}

static void calm(Sim *sim, void *data) {
        sim_log(sim, "all is well from now on");
        sim->loss = 0;
        if (sim->cluster)
                cluster_set_away(sim, 0);
        for (size_t r = 0; r < sim->n_runners; r++) {
                Runner *runner = &sim->runners[r];
                runner->strange_until_usec = 0;
                if (runner->host.up && runner->draining) /* by a shutdown, perhaps */
                        runner_crash(sim, runner);
                if (!runner->host.up)
                        runner_start(sim, runner);
        }
        for (size_t q = 0; q < sim->n_queues; q++) {
                memset(sim->queues[q].links, 0, sizeof(sim->queues[q].links));
                sim->queues[q].full_until_usec = sim->queues[q].slow_until_usec = 0;
                sim->queues[q].cut_until_usec = 0;
                if (!sim->queues[q].host.up)
                        queue_start(sim, &sim->queues[q]);
                for (size_t r = 0; r < sim->n_runners; r++)
                        worker_comes(sim, &(Change) { .queue = q, .runner = r });
        }
}

/* After what was still on its way to queues that had stood still; and again, for workers that come back late,
 * because something of others may still run where they are to be. */
static void share_last(Sim *sim, void *data) {
        share_out(sim, true);
        if (sim->now_usec < sim->calm_usec + 1000 * SEC)
                sim_at(sim, sim->now_usec + 200 * SEC, NULL, share_last, NULL);
}

/* ── the beginning ── */

static void submission(Sim *sim, void *data) {
        queue_take_task(sim, ((const Change *) data)->task);
}

/* For tasks that came before, so that there is no circle. */
static void plan_after(Sim *sim, SimTask *task, size_t n_before) {
        size_t n = n_before > 0 && sim_chance(sim, 0.3) ? sim_between(sim, 1, N_AFTER_MAX) : 0;
        for (; n > 0; n--) {
                size_t on = sim_below(sim, n_before);
                bool is_there = false;
                for (size_t i = 0; i < task->n_after; i++)
                        is_there |= task->after[i].task == on;
                if (is_there || sim->tasks[on].queue != task->queue ||
                    sim->tasks[on].depth == AFTER_DEPTH_MAX)
                        continue;
                task->after[task->n_after++] = (After) { .task = on };
                if (task->depth <= sim->tasks[on].depth)
                        task->depth = sim->tasks[on].depth + 1;
        }
}

static void plan_task(Sim *sim, size_t i) {
        SimTask *task = &sim->tasks[i];
        bool big = sim_chance(sim, 0.15);
        *task = (SimTask) {
                .queue = sim->queues[sim_below(sim, sim->n_queues)].group,
                .want = { .cores_micro = (big ? 4 : sim_between(sim, 1, 2)) * CORES_MICRO_PER_CORE / 2,
                          .memory_mb = 100 * sim_between(sim, 1, big ? 10 : 4) },
                .priority = sim_chance(sim, 0.2) ? (int64_t) sim_below(sim, 3) : 0,
                .duration_usec = sim_between(
                                sim, 20 * USEC_PER_MSEC, sim_chance(sim, 0.3) ? 60 * SEC : 8 * SEC),
                .retries_max = sim_chance(sim, 0.3) ? sim_below(sim, 3) : 0,
                .retry_on_lost = sim_chance(sim, 0.8),
                .fails = sim_chance(sim, 0.2),
                .is_large = sim_chance(sim, 0.05),
                .output_bytes = sim_below(sim, sim_chance(sim, 0.3) ? 1000 : 40),
                .disk.attempt = NO_ATTEMPT,
        };
        plan_after(sim, task, i);
        (void) snprintf(task->id, sizeof(task->id), "t%zu", i);
        Change *change = change_new(0, 0, true);
        change->task = i;
        sim_at_any_life(sim, sim_between(sim, 0, sim->calm_usec), asked_host(sim, i), submission, change);
}

static void begin_host(Sim *sim, Host *host, const char *kind, size_t i) {
        (void) snprintf(host->name, sizeof(host->name), "%s%zu:1", kind, i);
        host->clock_offset_usec = sim_below(sim, 1000000 * SEC);
}

void scenario_begin(Sim *sim) {
        size_t n_members = sim->has_members ? sim_between(sim, 2, N_MEMBERS_MAX) : 0;
        sim->n_queues = sim->has_members ? n_members + sim_below(sim, 2) : sim_between(sim, 1, N_ALONE_MAX);
        sim->n_runners = sim_between(sim, sim->n_queues, N_RUNNERS_MAX);
        sim->n_tasks = sim_between(sim, 1, N_TASKS_MAX);
        sim->calm_usec = sim_between(sim, 30 * SEC, 400 * SEC);
        sim->config.lease_ttl_usec = sim_between(sim, 5, sim_chance(sim, 0.5) ? 30 : 90) * SEC;
        sim->config.lost_after_usec = sim_between(sim, 2, 40) * SEC;
        sim->slow = sim_chance(sim, 0.5) ? 0.03 : 0.3;
        sim->loss = sim_chance(sim, 0.3) ? 0 : (double) sim_below(sim, 30) / 100;
        for (size_t i = 0; i < sim->n_runners; i++) {
                Runner *runner = &sim->runners[i];
                begin_host(sim, &runner->host, "r", i);
                runner->pool.total = (Resources) {
                        .cores_micro = sim_between(sim, 2, 6) * CORES_MICRO_PER_CORE,
                        .memory_mb = sim_between(sim, 1000, 4000),
                };
                runner_start(sim, runner);
        }
        for (size_t i = 0; i < sim->n_queues; i++)
                sim->queues[i].index = sim->queues[i].group = i;
        if (sim->has_members)
                cluster_begin(sim, n_members);
        for (size_t i = 0; i < sim->n_queues; i++) {
                for (size_t r = 0; r < sim->n_runners; r++)
                        sim->queues[i].views[r] = (WorkerView) { .sim = sim,
                                                                 .queue = &sim->queues[i],
                                                                 .runner = r };
                if (sim->n_runners > 1 && sim_chance(sim, 0.3)) /* which leaves room to move to */
                        sim->queues[i].views[sim_below(sim, sim->n_runners)].away = true;
                begin_host(sim, &sim->queues[i].host, "q", i);
                queue_start(sim, &sim->queues[i]);
        }
        for (size_t i = 0; i < sim->n_tasks; i++)
                plan_task(sim, i);
        share_again(sim, NULL);
        Trouble *first = sim_allocate(sizeof(*first));
        *first = (Trouble) {
                .kinds = sim_chance(sim, 0.4) ? UINT64_MAX : sim_random(sim) & sim_random(sim),
                .every_usec = sim_between(sim, SEC, 20 * SEC),
        };
        sim_at(sim, sim_below(sim, 20 * SEC), NULL, trouble, first);
        sim_at(sim, sim->calm_usec, NULL, calm, NULL);
        sim_at(sim, sim->calm_usec + 120 * SEC, NULL, share_last, NULL);
}
