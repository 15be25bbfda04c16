/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a runner does, as far as a queue can tell: see src/runner/task-submit.c and routes-lease.c. */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim.h"

static void random_id(Sim *sim, char ret[static LEASE_ID_SIZE]) {
        uint64_t high = sim_random(sim), low = sim_random(sim);
        (void) snprintf(ret, LEASE_ID_SIZE, "%016" PRIx64 "%016" PRIx64, high, low);
}

void runner_start(Sim *sim, Runner *runner) {
        runner->host.up = true;
        runner->host.life++;
        runner->instance = sim_random(sim);
        runner->draining = false;
        memset(&runner->lease, 0, sizeof(runner->lease));
        sim_log(sim, "%s starts as %016" PRIx64, runner->host.name, runner->instance);
}

static size_t runner_index(const Sim *sim, const Runner *runner) {
        return (size_t) (runner - sim->runners);
}

void runner_crash(Sim *sim, Runner *runner) {
        if (!runner->host.up)
                return;
        sim_log(sim, "%s dies", runner->host.name);
        runner->host.up = false;
        streams_break(sim, runner);
        for (size_t i = 0; i < sim->n_attempts; i++) {
                Attempt *attempt = &sim->attempts[i];
                if (!attempt->kept || attempt->runner != runner_index(sim, runner))
                        continue;
                if (attempt->state == ATTEMPT_LIVE)
                        attempt->state = ATTEMPT_DEAD;
                capacity_charge_release(&attempt->charge);
                attempt->kept = false;
        }
}

static void end_attempt(Sim *sim, uint32_t id, AttemptEnd end) {
        Attempt *attempt = &sim->attempts[id];
        if (attempt->state != ATTEMPT_LIVE)
                return;
        attempt->state = ATTEMPT_DONE;
        attempt->end = end;
        attempt->done_usec = sim->now_usec;
        capacity_charge_release(&attempt->charge);
        sim_log(sim,
                "%s: attempt %" PRIu32 " of %s ends as %d",
                sim->runners[attempt->runner].host.name,
                id,
                sim->tasks[attempt->task].id,
                (int) end);
        runner_tell(sim, &sim->runners[attempt->runner], id);
        runner_tell(sim, &sim->runners[attempt->runner], NO_ATTEMPT);
}

void runner_shut_down(Sim *sim, Runner *runner) {
        runner->draining = true;
        for (size_t i = 0; i < sim->n_attempts; i++)
                if (sim->attempts[i].kept && sim->attempts[i].runner == runner_index(sim, runner))
                        end_attempt(sim, (uint32_t) i, ATTEMPT_SHUTDOWN);
}

void runner_forget(Sim *sim, uint32_t id) {
        Attempt *attempt = &sim->attempts[id];
        if (!attempt->kept || attempt->state != ATTEMPT_DONE)
                return;
        attempt->kept = false;
}

static void attempt_over(Sim *sim, void *data) {
        uint32_t id = *(uint32_t *) data;
        const SimTask *task = &sim->tasks[sim->attempts[id].task];
        end_attempt(sim, id, task->fails ? ATTEMPT_ERRORED : ATTEMPT_SUCCEEDED);
}

static void attempt_stopped(Sim *sim, void *data) {
        end_attempt(sim, *(uint32_t *) data, ATTEMPT_KILLED);
}

static void later(Sim *sim, Runner *runner, uint32_t id, usec_t after_usec, EventHandler handle) {
        uint32_t *data = sim_allocate(sizeof(*data));
        *data = id;
        sim_at(sim, sim->now_usec + after_usec, &runner->host, handle, data);
}

void runner_report(const Runner *runner, WorkerReport *ret) {
        (void) snprintf(ret->instance, sizeof(ret->instance), "%032" PRIx64, runner->instance);
        ret->total = runner->pool.total;
        capacity_pool_free_amounts(&runner->pool, &ret->free_amounts);
        ret->draining = runner->draining;
}

/* What it has is not what another runner has, where its queue may have looked for it before. */
static bool has(const Sim *sim, const Rpc *rpc) {
        const Attempt *attempt = &sim->attempts[rpc->attempt];
        return attempt->kept && attempt->runner == rpc->runner;
}

static int submit(Sim *sim, Runner *runner, const Rpc *rpc) {
        Attempt *attempt = &sim->attempts[rpc->attempt];
        Problem problem = {};
        if (has(sim, rpc))
                return 200;
        if (sim->defect != DEFECT_NO_LEASES &&
            lease_check(&runner->lease,
                        *rpc->lease_id ? rpc->lease_id : NULL,
                        false,
                        host_clock(sim, &runner->host),
                        &problem) < 0)
                return problem.status;
        if (runner->draining)
                return 503;
        const SimTask *task = &sim->tasks[attempt->task];
        if (attempt->runner != rpc->runner)
                sim_violation(sim, "%s is sent to two runners as one attempt", task->id);
        if (!resources_fit(&task->want, &runner->pool.total))
                return 422;
        if (capacity_charge(&runner->pool, &task->want, &attempt->charge) < 0)
                return 409;
        attempt->kept = true;
        attempt->epoch = runner->lease.epoch;
        check_start(sim, rpc->attempt);
        attempt->state = ATTEMPT_LIVE;
        later(sim, runner, rpc->attempt, task->duration_usec, attempt_over);
        runner_tell(sim, runner, rpc->attempt);
        runner_tell(sim, runner, NO_ATTEMPT);
        return 202;
}

static int submit_strangely(Sim *sim, Runner *runner, const Rpc *rpc) {
        if (sim_chance(sim, 0.5))
                (void) submit(sim, runner, rpc);
        return 500;
}

static int acquire(Sim *sim, Runner *runner, const Rpc *rpc, Answer *answer) {
        if (runner->draining)
                return 503;
        char fresh_id[LEASE_ID_SIZE];
        char version[] = "1";
        LeaseRequest request = {
                .queue = (char *) queue_name(sim, rpc->queue),
                .version = version,
                .ttl_usec = sim->config.lease_ttl_usec,
        };
        random_id(sim, fresh_id);
        int r = lease_acquire(&runner->lease, &request, fresh_id, host_clock(sim, &runner->host));
        memcpy(r < 0 ? answer->holder : answer->lease_id,
               r < 0 ? runner->lease.queue : runner->lease.id,
               r < 0 ? sizeof(answer->holder) : sizeof(answer->lease_id));
        return r < 0 ? 409 : r > 0 ? 201 : 200;
}

static int get(const Sim *sim, const Rpc *rpc, Answer *answer) {
        const Attempt *attempt = &sim->attempts[rpc->attempt];
        answer->done = attempt->state == ATTEMPT_DONE;
        answer->end = attempt->end;
        return has(sim, rpc) ? 200 : 404;
}

static int delete(Sim *sim, Runner *runner, const Rpc *rpc) {
        const Attempt *attempt = &sim->attempts[rpc->attempt];
        if (!has(sim, rpc))
                return 404;
        if (attempt->state == ATTEMPT_DONE) {
                if (rpc->type == RPC_DELETE) {
                        check_forget(sim, rpc->attempt);
                        runner_forget(sim, rpc->attempt);
                }
                return 204;
        }
        later(sim, runner, rpc->attempt, sim_between(sim, 1000, USEC_PER_SEC), attempt_stopped);
        return 202;
}

static int list(const Sim *sim, const Runner *runner, const Rpc *rpc, Answer *answer) {
        for (size_t i = 0; i < sim->n_attempts; i++) {
                const Attempt *attempt = &sim->attempts[i];
                if (!attempt->kept || attempt->runner != runner_index(sim, runner) ||
                    sim->queues[attempt->queue].group != sim->queues[rpc->queue].group)
                        continue;
                assert(answer->n_listed < sizeof(answer->listed) / sizeof(*answer->listed));
                answer->listed_done[answer->n_listed] = attempt->state == ATTEMPT_DONE;
                answer->listed[answer->n_listed++] = (uint32_t) i;
        }
        return 200;
}

void runner_answer(Sim *sim, Runner *runner, const Rpc *rpc, Answer *ret) {
        usec_t now_usec = host_clock(sim, &runner->host);
        switch (rpc->type) {
        case RPC_PROBE:
                ret->status = 200;
                break;
        case RPC_ACQUIRE:
                ret->status = acquire(sim, runner, rpc, ret);
                break;
        case RPC_RENEW:
                ret->status = lease_renew(&runner->lease, rpc->lease_id, now_usec) < 0 ? 404 : 200;
                break;
        case RPC_RELEASE:
                ret->status = lease_release(&runner->lease, rpc->lease_id, now_usec) < 0 ? 404 : 204;
                break;
        case RPC_SUBMIT:
                ret->status = sim->now_usec < runner->strange_until_usec ?
                                submit_strangely(sim, runner, rpc) :
                                submit(sim, runner, rpc);
                break;
        case RPC_GET:
        case RPC_OUTPUT:
                ret->status = get(sim, rpc, ret);
                break;
        case RPC_STOP:
        case RPC_DELETE:
                ret->status = delete (sim, runner, rpc);
                break;
        case RPC_LIST:
                ret->status = list(sim, runner, rpc, ret);
                break;
        }
        runner_report(runner, &ret->report);
        sim_log(sim,
                "%s -> %s: request %d, attempt %d: %d",
                sim->queues[rpc->queue].host.name,
                runner->host.name,
                (int) rpc->type,
                (int) rpc->attempt,
                ret->status);
}
