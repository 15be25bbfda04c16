/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests of queues to runners and the answers: lost, late, doubled, out of order. What TCP rules out does
 * not happen: that a request which was answered arrives once more. Nor may a client repeat calls about leases
 * by itself. */

#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define TIMEOUT_USEC (5 * USEC_PER_SEC)

Rpc *rpc_new(Sim *sim, const WorkerView *view, RpcType type) {
        Rpc *rpc = sim_allocate(sizeof(*rpc));
        *rpc = (Rpc) {
                .type = type,
                .queue = view->queue->index,
                .view = (size_t) (view - view->queue->views),
                .runner = view->runner,
                .attempt = NO_ATTEMPT,
                .life = view->queue->host.life,
                .next = sim->rpcs,
        };
        sim->rpcs = rpc;
        return rpc;
}

static usec_t latency(Sim *sim) {
        usec_t usec = sim_between(sim, 100, 20 * USEC_PER_MSEC);
        return sim_chance(sim, sim->slow) ? usec + sim_below(sim, TIMEOUT_USEC) : usec;
}

/* An answer reaches the process that asked, once, or nobody. */
static void answer_arrives(Sim *sim, void *data) {
        Answer *answer = data;
        if (answer->rpc->done)
                return;
        answer->rpc->done = true;
        queue_answer(sim, answer);
}

static void give_up(Sim *sim, void *data) {
        answer_arrives(sim, data); /* with status 0 */
}

static void fail_at(Sim *sim, Rpc *rpc, usec_t when_usec) {
        Answer *answer = sim_allocate(sizeof(*answer));
        answer->rpc = rpc;
        sim_at(sim, when_usec, &sim->queues[rpc->queue].host, give_up, answer);
}

/* A sender that died gave up by that. */
static bool is_too_late(const Sim *sim, const Rpc *rpc, const Host *sender) {
        bool died = rpc->life != sender->life || !sender->up;
        return died && sim->now_usec > sender->died_usec + LATE_MAX_USEC;
}

static void request_arrives(Sim *sim, void *data) {
        Rpc *rpc = *(Rpc **) data;
        Runner *runner = &sim->runners[rpc->runner];
        Queue *queue = &sim->queues[rpc->queue];
        if (!runner->host.up || is_too_late(sim, rpc, &queue->host))
                return;
        Answer *answer = sim_allocate(sizeof(*answer));
        answer->rpc = rpc;
        runner_answer(sim, runner, rpc, answer);
        bool arrives = !rpc->done && !rpc->unanswered && rpc->life == queue->host.life && queue->host.up &&
                        queue->links[rpc->runner].in_until_usec <= sim->now_usec &&
                        !sim_chance(sim, sim->loss);
        if (arrives)
                sim_at(sim, sim->now_usec + latency(sim), &queue->host, answer_arrives, answer);
        else
                free(answer);
}

static void arrive_at(Sim *sim, Rpc *rpc, usec_t when_usec) {
        Rpc **data = sim_allocate(sizeof(Rpc *));
        *data = rpc;
        sim_at_any_life(sim, when_usec, &sim->runners[rpc->runner].host, request_arrives, data);
}

/* Before its sender gives up, or after; in either case without an answer. */
static usec_t late(Sim *sim, Rpc *rpc) {
        rpc->unanswered = true;
        return sim->now_usec + sim_below(sim, TIMEOUT_USEC + LATE_MAX_USEC);
}

/* No connection: it never arrives, and the sender knows. */
static bool has_no_connection(Sim *sim, const Rpc *rpc, bool blocked) {
        return blocked ? sim_chance(sim, 0.5) : !sim->runners[rpc->runner].host.up && sim_chance(sim, 0.8);
}

void rpc_send(Sim *sim, Rpc *rpc) {
        const Link *link = &sim->queues[rpc->queue].links[rpc->runner];
        bool blocked = link->out_until_usec > sim->now_usec;
        sim->n_calls++;
        sim_log(sim,
                "%s sends request %d, attempt %d, to %s",
                sim->queues[rpc->queue].host.name,
                (int) rpc->type,
                (int) rpc->attempt,
                sim->runners[rpc->runner].host.name);
        if (has_no_connection(sim, rpc, blocked)) {
                rpc->unsent = true;
                fail_at(sim, rpc, sim->now_usec + (blocked ? TIMEOUT_USEC : latency(sim)));
                return;
        }
        fail_at(sim, rpc, sim->now_usec + TIMEOUT_USEC);
        if (blocked) {
                usec_t when_usec = late(sim, rpc);
                if (when_usec > link->out_until_usec)
                        arrive_at(sim, rpc, when_usec);
        } else if (sim_chance(sim, sim->loss)) {
                bool once = rpc->type == RPC_RENEW || rpc->type == RPC_ACQUIRE;
                for (size_t n = 0; sim_chance(sim, 0.5) && !(once && n > 0); n++)
                        arrive_at(sim, rpc, late(sim, rpc));
        } else
                arrive_at(sim, rpc, sim->now_usec + latency(sim));
}
