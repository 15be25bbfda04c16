/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store of a member that leads, as queue/postgres-store.c has it: transactions go out one behind the
 * other without waiting, and each counts. When the connection is lost, nobody knows which of them took place;
 * the next session ends the one before, asks how many did, and sends the rest again. What a process has sent
 * reaches the database in order or not at all, be it that the process does not live, or lead, by then. */

#include <assert.h>
#include <stdlib.h>

#include "sim.h"

#define WRITE_USEC_MAX (30 * USEC_PER_MSEC)
#define LATE_USEC_MAX  (40 * USEC_PER_SEC)
#define ANSWER_USEC    (3 * USEC_PER_SEC) /* otherwise the connection is given up */
#define RECONNECT_USEC (1 * USEC_PER_SEC)

struct StoreSession {
        uint64_t epoch, n_sent;          /* the number of the last transaction */
        usec_t arrive_usec, answer_usec; /* of the last, since they come in order */
        usec_t cut_usec;                 /* nothing arrives any more from then on */
        bool is_deaf;                    /* nothing is answered any more */
        bool is_lost;                    /* as its process knows */
        StoreSession *next;
};

/* A transaction on its way there, or back. */
typedef struct Travel {
        Queue *queue;
        SimWrite *write;
        StoreSession *session;
        uint64_t number;
        int r;
} Travel;

static void travel_at(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, const Travel *travel) {
        Travel *data = sim_allocate(sizeof(*data));
        *data = *travel;
        sim_at(sim, when_usec, host, handle, data);
}

static void connect_later(Queue *queue);
static void connect_now(Queue *queue);

static void session_lost(Queue *queue) {
        Sim *sim = queue->sim;
        if (queue->session->is_lost)
                return;
        queue->session->is_lost = queue->session->is_deaf = true;
        if (sim_chance(sim, 0.5)) /* otherwise all of it still arrives */
                queue->session->cut_usec = sim->now_usec;
        connect_later(queue);
}

void member_store_break(Queue *queue) {
        if (queue->delivery && queue->session)
                session_lost(queue);
}

static void is_told(Queue *queue, int r) {
        SimWrite *write = queue->first_write;
        Moment now = queue_moment(queue);
        assert(write);
        queue->first_write = write->next;
        if (!queue->first_write)
                queue->last_write = NULL;
        write->done(r, &now, write->userdata);
        queue_settle(queue);
}

static void is_answered(Sim *sim, void *data) {
        const Travel *travel = data;
        Queue *queue = travel->queue;
        if (queue->session != travel->session || travel->session->is_lost)
                return;
        if (travel->r == -ESTALE) { /* it failed, and so does all behind it: what is there now? */
                session_lost(queue);
                return;
        }
        assert(queue->first_write == travel->write);
        is_told(queue, travel->r);
}

static void arrives(Sim *sim, void *data) {
        Travel *travel = data;
        StoreSession *session = travel->session;
        if (sim->now_usec >= session->cut_usec)
                return;
        if (cluster_is_away(sim)) {
                session->cut_usec = sim->now_usec;
                return;
        }
        travel->r = travel->write->r;
        if (travel->r >= 0 && !cluster_fence(sim, session->epoch, travel->number))
                travel->r = -ESTALE;
        if (travel->r >= 0)
                disk_apply(sim, travel->write);
        session->is_deaf |= sim_chance(sim, sim->loss / 4);
        if (session->is_deaf)
                return;
        usec_t when_usec = sim->now_usec + sim_between(sim, 100, 5 * USEC_PER_MSEC);
        if (session->answer_usec < when_usec)
                session->answer_usec = when_usec;
        travel_at(sim, session->answer_usec, &travel->queue->host, is_answered, travel);
}

static void is_overdue(Sim *sim, void *data) {
        const Travel *travel = data;
        const SimWrite *first = travel->queue->first_write;
        if (travel->queue->session == travel->session && first && first->number <= travel->number)
                session_lost(travel->queue);
}

static void send_write(Queue *queue, SimWrite *write) {
        Sim *sim = queue->sim;
        StoreSession *session = queue->session;
        if (session->is_lost)
                return;
        write->number = ++session->n_sent;
        Travel travel = { .queue = queue, .write = write, .session = session, .number = write->number };
        usec_t when_usec = sim->now_usec + sim_below(sim, WRITE_USEC_MAX);
        if (sim_chance(sim, sim->loss / 4))
                when_usec += sim_below(sim, LATE_USEC_MAX);
        if (session->arrive_usec < when_usec)
                session->arrive_usec = when_usec;
        travel_at(sim, session->arrive_usec, NULL, arrives, &travel);
        travel_at(sim, sim->now_usec + ANSWER_USEC, &queue->host, is_overdue, &travel);
}

void member_commit(Queue *queue, SimWrite *write) {
        write->next_kept = queue->sim->kept_writes;
        queue->sim->kept_writes = write;
        *(queue->last_write ? &queue->last_write->next : &queue->first_write) = write;
        queue->last_write = write;
        send_write(queue, write);
}

/* ── sessions ── */

static void session_begin(Queue *queue, uint64_t written) {
        Sim *sim = queue->sim;
        StoreSession *session = sim_allocate(sizeof(*session));
        *session = (StoreSession) {
                .epoch = queue->store_epoch,
                .n_sent = written,
                .cut_usec = USEC_INFINITY,
                .next = sim->sessions,
        };
        queue->session = sim->sessions = session;
}

/* How many of those that wait to be told are there, as the database has counted. */
static size_t n_written(const Queue *queue, uint64_t written) {
        size_t n = 0;
        for (const SimWrite *write = queue->first_write; write; write = write->next)
                n += write->number > 0 && write->number <= written;
        return queue->sim->defect == DEFECT_WRITE_AGAIN ? 0 : n;
}

static void reconnects(Sim *sim, void *data) {
        Queue *queue = ((const Travel *) data)->queue;
        if (cluster_is_away(sim) || sim->now_usec < queue->cut_until_usec)
                connect_later(queue);
        else
                connect_now(queue);
}

static void connect_later(Queue *queue) {
        Sim *sim = queue->sim;
        travel_at(sim,
                  sim->now_usec + sim_between(sim, 10 * USEC_PER_MSEC, RECONNECT_USEC),
                  &queue->host,
                  reconnects,
                  &(Travel) { .queue = queue });
}

/* What was written is told after the rest has gone out again, since it may lead to more. */
static void connect_now(Queue *queue) {
        Sim *sim = queue->sim;
        uint64_t written;
        queue->session->cut_usec = sim->now_usec;
        if (cluster_written(sim, queue->store_epoch, &written) < 0) {
                sim_log(sim, "%s finds that another one leads", queue->host.name);
                member_is_fenced(sim, queue);
                return;
        }
        size_t n = n_written(queue, written), i = 0;
        sim_log(sim, "%s finds %zu of its writes in the database", queue->host.name, n);
        sim->n_resolved++;
        session_begin(queue, written);
        for (SimWrite *write = queue->first_write; write; write = write->next)
                if (i++ >= n)
                        send_write(queue, write);
        uint64_t life = queue->host.life;
        for (; n > 0 && queue->host.life == life; n--)
                is_told(queue, 0);
}

/* The epoch is new, so that nothing was written under it. */
void member_store_begin(Queue *queue) {
        uint64_t written;
        queue->store_epoch = queue->membership.epoch;
        (void) cluster_written(queue->sim, queue->store_epoch, &written);
        session_begin(queue, written);
}

/* The process does not wait for it any more. */
void member_store_end(Queue *queue) {
        Moment now = queue_moment(queue);
        while (queue->first_write) {
                SimWrite *write = queue->first_write;
                queue->first_write = write->next;
                write->done(-ECANCELED, &now, write->userdata);
        }
        queue->last_write = NULL;
        queue->session = NULL;
}

void member_stores_done(Sim *sim) {
        for (SimWrite *write = sim->kept_writes, *next; write; write = next) {
                next = write->next_kept;
                write_free(write);
        }
        for (StoreSession *session = sim->sessions, *next; session; session = next) {
                next = session->next;
                free(session);
        }
}
