/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members of the first queue: each one's process with its heartbeats, and the rows in the database that
 * these come to, as queue/members.c has them. Heartbeats get lost, come late, or arrive when their process is
 * gone; the database may be away. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define N_ROWS           64
#define LOAD_USEC_MAX    (300 * USEC_PER_MSEC)
#define TAKE_OVER_USEC   (2 * USEC_PER_SEC) /* at most so much longer than the ttl */
#define START_AGAIN_USEC (20 * USEC_PER_SEC)

typedef struct MemberRow {
        uint64_t life; /* a process is another member each time that it starts */
        usec_t expires_usec;
} MemberRow;

/* What the database has of a worker. */
typedef struct WorkerRow {
        size_t runner, before;
        bool away, leaving, moved;
} WorkerRow;

struct Cluster {
        usec_t ttl_usec;
        bool begins_anew;       /* a process ends with its lead */
        usec_t away_until_usec; /* of the world */
        usec_t clock_usec;      /* of the database, less ours; it is set forward now and then */
        MemberRow rows[N_ROWS];
        uint64_t n_lives;
        uint64_t leader; /* a life; 0: nobody */
        uint64_t epoch, written;
        WorkerRow workers[N_RUNNERS_MAX];
        usec_t led_usec; /* when somebody led, or was made to, last */
};

/* On its way there, or back. */
typedef struct Beat {
        Queue *queue;
        uint64_t life, number;
        uint64_t last_epoch;
        bool leads, may_take, is_goodbye, is_unanswered;
        MembershipAnswer answer;
} Beat;

static void member_run(Sim *sim, Queue *queue);

bool cluster_is_away(const Sim *sim) {
        return sim->now_usec < sim->cluster->away_until_usec;
}

void cluster_set_away(Sim *sim, usec_t until_usec) {
        sim->cluster->away_until_usec = until_usec;
}

void cluster_set_clock(Sim *sim, usec_t forward_usec) {
        sim->cluster->clock_usec += forward_usec;
}

static usec_t database_clock(const Sim *sim) {
        return sim->now_usec + sim->cluster->clock_usec;
}

static bool is_of_now(const Beat *beat) {
        return beat->queue->host.up && beat->queue->member_life == beat->life;
}

static void send_later(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, const Beat *beat) {
        Beat *data = sim_allocate(sizeof(*data));
        *data = *beat;
        sim_at_any_life(sim, when_usec, host, handle, data);
}

/* It is no wonder if QUEUE knows nothing new before UNTIL_USEC. */
static void obstruct(Queue *queue, usec_t until_usec) {
        if (queue->obstructed_usec < until_usec)
                queue->obstructed_usec = until_usec;
}

/* When what QUEUE sends, or is sent, gets there. */
static usec_t arrival(Sim *sim, Queue *queue) {
        usec_t when_usec = sim->now_usec + sim_between(sim, 100, 20 * USEC_PER_MSEC);
        if (sim->now_usec > sim->calm_usec || !sim_chance(sim, sim->slow))
                return when_usec;
        when_usec += sim_below(sim, sim->cluster->ttl_usec);
        obstruct(queue, when_usec);
        return when_usec;
}

/* ── in the database ── */

static MemberRow *row_of(Cluster *cluster, uint64_t life) {
        MemberRow *oldest = &cluster->rows[0];
        for (size_t i = 0; i < N_ROWS; i++) {
                if (cluster->rows[i].life == life)
                        return &cluster->rows[i];
                if (cluster->rows[i].expires_usec < oldest->expires_usec)
                        oldest = &cluster->rows[i];
        }
        *oldest = (MemberRow) { .life = life };
        return oldest;
}

static usec_t leader_left(const Sim *sim, Cluster *cluster) {
        if (cluster->leader == 0)
                return 0;
        return usec_subtract(row_of(cluster, cluster->leader)->expires_usec, database_clock(sim));
}

static void is_notified(Sim *sim, void *data) {
        const Beat *beat = data;
        if (!is_of_now(beat))
                return;
        membership_hurry(&beat->queue->membership, host_clock(sim, &beat->queue->host));
        member_run(sim, beat->queue);
}

static void notify(Sim *sim, const Beat *beat) {
        for (size_t i = 0; i < sim->n_queues; i++) {
                Queue *other = &sim->queues[i];
                if (other->cluster && other->member_life != beat->life && !sim_chance(sim, sim->loss))
                        send_later(sim,
                                   arrival(sim, other),
                                   &other->host,
                                   is_notified,
                                   &(Beat) { .queue = other, .life = other->member_life });
        }
}

static void take(Sim *sim, Cluster *cluster, const Beat *beat) {
        bool mine = cluster->leader == beat->life;
        if (mine ? beat->leads : !beat->may_take || leader_left(sim, cluster) > 0)
                return;
        cluster->leader = beat->may_take ? beat->life : 0;
        cluster->epoch = (cluster->epoch > beat->last_epoch ? cluster->epoch : beat->last_epoch) + 1;
        cluster->written = 0;
        cluster->led_usec = sim->now_usec;
        sim_log(sim,
                "%s has the lead in the database, epoch %" PRIu64,
                beat->may_take ? beat->queue->host.name : "nobody",
                cluster->epoch);
        notify(sim, beat);
}

static void say_goodbye(Sim *sim, Cluster *cluster, const Beat *beat) {
        if (cluster->leader == beat->life)
                cluster->leader = 0;
        *row_of(cluster, beat->life) = (MemberRow) {};
        notify(sim, beat);
}

/* Its process does not wait for it any more, or stands still. */
static bool is_late(const Sim *sim, const Beat *beat) {
        return beat->queue->beat != beat->number || sim->now_usec < beat->queue->host.paused_until_usec;
}

static void is_answered(Sim *sim, void *data);

static void arrives(Sim *sim, void *data) {
        Beat *beat = data;
        Cluster *cluster = sim->cluster;
        if (cluster_is_away(sim))
                return;
        if (beat->is_goodbye)
                say_goodbye(sim, cluster, beat);
        else {
                row_of(cluster, beat->life)->expires_usec = database_clock(sim) + cluster->ttl_usec;
                take(sim, cluster, beat);
        }
        beat->answer = (MembershipAnswer) {
                .leads = cluster->leader == beat->life,
                .epoch = cluster->epoch,
                .leader_left_usec = sim->defect == DEFECT_LATE_LOOK ? USEC_INFINITY :
                                                                      leader_left(sim, cluster),
        };
        bool unheard = beat->is_unanswered || !is_of_now(beat) || sim_chance(sim, sim->loss);
        if (beat->answer.leads && (unheard || is_late(sim, beat)))
                cluster->led_usec = sim->now_usec; /* for one ttl the lead is that of one that does not know
                                                    */
        if (unheard)
                obstruct(beat->queue, sim->now_usec + cluster->ttl_usec / 4);
        else
                send_later(sim, arrival(sim, beat->queue), &beat->queue->host, is_answered, beat);
}

bool cluster_fence(Sim *sim, uint64_t epoch, uint64_t number) {
        Cluster *cluster = sim->cluster;
        if (epoch != cluster->epoch)
                return sim->defect == DEFECT_NO_FENCE;
        if (number != cluster->written + 1)
                return false;
        cluster->written = number;
        return true;
}

int cluster_written(const Sim *sim, uint64_t epoch, uint64_t *ret) {
        *ret = sim->cluster->written;
        return epoch == sim->cluster->epoch ? 0 : -ESTALE;
}

void cluster_put_workers(const Queue *queue) {
        if (!queue->cluster || !cluster_is_led_by(queue))
                return;
        for (size_t i = 0; i < queue->sim->n_runners; i++) {
                const WorkerView *view = &queue->views[i];
                queue->cluster->workers[i] = (WorkerRow) {
                        .runner = view->runner,
                        .before = view->before,
                        .away = view->away,
                        .leaving = view->leaving,
                        .moved = view->moved,
                };
        }
}

void cluster_get_workers(Queue *queue) {
        for (size_t i = 0; queue->cluster && i < queue->sim->n_runners; i++) {
                const WorkerRow *row = &queue->cluster->workers[i];
                WorkerView *view = &queue->views[i];
                view->runner = row->runner;
                view->before = row->before;
                view->away = row->away;
                view->leaving = row->leaving;
                view->moved = row->moved;
        }
}

/* ── a member ── */

bool queue_may_act(const Queue *queue) {
        return !queue->cluster || queue->sim->defect == DEFECT_LEADS_ON ||
                        membership_may_lead(&queue->membership, host_clock(queue->sim, &queue->host));
}

bool cluster_is_led_by(const Queue *queue) {
        const Cluster *cluster = queue->cluster;
        return cluster->leader == queue->member_life && cluster->epoch == queue->membership.epoch;
}

/* The store was read. */
static void is_loaded(Sim *sim, void *data) {
        const Beat *beat = data;
        Queue *queue = beat->queue;
        if (!is_of_now(beat) || queue->membership.epoch != beat->last_epoch)
                return;
        queue_stop_serving(sim, queue);
        sim_log(sim, "%s leads, epoch %" PRIu64, queue->host.name, beat->last_epoch);
        sim->n_led++;
        member_store_begin(queue);
        queue_serve(sim, queue);
}

static void crash(Sim *sim, Queue *queue) {
        if (queue->cluster->leader == queue->member_life) /* for one ttl the others have to wait */
                queue->cluster->led_usec = sim->now_usec;
        queue_crash(sim, queue);
}

/* What it led it throws away; or the whole process, to come back as another member. Its row would have the
 * others wait for another ttl: if the database is there, it takes its leave first. */
static void begin_anew(Sim *sim, Queue *queue) {
        if (queue->membership.state == MEMBERSHIP_FOLLOWING && !cluster_is_away(sim)) {
                member_leave(sim, queue);
                return;
        }
        crash(sim, queue);
        queue_start(sim, queue);
}

static void change_to(Sim *sim, Queue *queue, MembershipChange change) {
        if (change == MEMBERSHIP_LOST) {
                sim_log(sim, "%s does not lead any more", queue->host.name);
                queue_stop_serving(sim, queue);
                if (queue->cluster->begins_anew)
                        begin_anew(sim, queue);
        } else if (change == MEMBERSHIP_LEADS)
                send_later(sim,
                           sim->now_usec + sim_below(sim, LOAD_USEC_MAX),
                           &queue->host,
                           is_loaded,
                           &(Beat) { .queue = queue,
                                     .life = queue->member_life,
                                     .last_epoch = queue->membership.epoch });
}

static void starts_again(Sim *sim, void *data) {
        const Beat *beat = data;
        if (!beat->queue->host.up)
                queue_start(sim, beat->queue);
}

static void process_ends(Sim *sim, Queue *queue) {
        crash(sim, queue);
        send_later(sim,
                   sim->now_usec + sim_below(sim, START_AGAIN_USEC),
                   &queue->host,
                   starts_again,
                   &(Beat) { .queue = queue });
}

static void is_answered(Sim *sim, void *data) {
        const Beat *beat = data;
        Queue *queue = beat->queue;
        if (!is_of_now(beat) || queue->beat != beat->number)
                return;
        queue->beat = 0;
        if (beat->is_goodbye) {
                membership_left(&queue->membership);
                process_ends(sim, queue);
                return;
        }
        if (sim->defect == DEFECT_SAME_EPOCH && queue->membership.state == MEMBERSHIP_FOLLOWING)
                queue->membership.last_epoch = 0;
        change_to(sim,
                  queue,
                  membership_answered(&queue->membership, &beat->answer, host_clock(sim, &queue->host)));
        member_run(sim, queue);
}

static void is_given_up(Sim *sim, void *data) {
        const Beat *beat = data;
        Queue *queue = beat->queue;
        if (!is_of_now(beat) || queue->beat != beat->number)
                return;
        queue->beat = 0;
        obstruct(queue, sim->now_usec);
        membership_failed(&queue->membership, host_clock(sim, &queue->host));
        member_run(sim, queue);
}

static void send_beat(Sim *sim, Queue *queue, bool is_goodbye) {
        const Membership *membership = &queue->membership;
        bool keeps_epoch = sim->defect == DEFECT_SAME_EPOCH;
        Beat beat = {
                .queue = queue,
                .life = queue->member_life,
                .number = ++queue->n_beats,
                .leads = membership->epoch > 0 || (keeps_epoch && membership->last_epoch > 0),
                .last_epoch = membership->last_epoch,
                .may_take = membership_may_take(membership),
                .is_goodbye = is_goodbye,
        };
        usec_t ttl_usec = queue->cluster->ttl_usec;
        queue->beat = beat.number;
        send_later(sim, sim->now_usec + ttl_usec / 4, &queue->host, is_given_up, &beat);
        bool blocked = sim->now_usec < queue->cut_until_usec;
        if (!blocked && !sim_chance(sim, sim->loss)) {
                send_later(sim, arrival(sim, queue), NULL, arrives, &beat);
                return;
        }
        beat.is_unanswered = true;
        obstruct(queue, sim->now_usec + ttl_usec / 4);
        if (sim_chance(sim, 0.3))
                send_later(sim, sim->now_usec + sim_below(sim, 2 * ttl_usec), NULL, arrives, &beat);
}

static void time_comes(Sim *sim, void *data) {
        const Beat *beat = data;
        if (is_of_now(beat) && beat->queue->member_timer == beat->number)
                member_run(sim, beat->queue);
}

static void rearm(Sim *sim, Queue *queue) {
        usec_t deadline_usec = membership_deadline(&queue->membership);
        if (deadline_usec == USEC_INFINITY)
                return;
        send_later(sim,
                   usec_subtract(deadline_usec, queue->host.clock_offset_usec),
                   &queue->host,
                   time_comes,
                   &(Beat) { .queue = queue, .life = queue->member_life, .number = ++queue->member_timer });
}

static void member_run(Sim *sim, Queue *queue) {
        for (;;)
                switch (membership_step(&queue->membership, host_clock(sim, &queue->host))) {
                case MEMBERSHIP_WAIT:
                        rearm(sim, queue);
                        return;
                case MEMBERSHIP_BEAT:
                        send_beat(sim, queue, false);
                        break;
                case MEMBERSHIP_SAY_GOODBYE:
                        send_beat(sim, queue, true);
                        break;
                case MEMBERSHIP_STOP_LEADING:
                        if (sim->defect != DEFECT_LEADS_ON)
                                change_to(sim, queue, MEMBERSHIP_LOST);
                        break;
                case MEMBERSHIP_GONE:
                        process_ends(sim, queue);
                        return;
                }
}

void member_start(Sim *sim, Queue *queue) {
        queue->member_life = ++queue->cluster->n_lives;
        queue->beat = 0;
        queue->membership = membership_begin(queue->cluster->ttl_usec, host_clock(sim, &queue->host));
        member_run(sim, queue);
}

void member_leave(Sim *sim, Queue *queue) {
        queue_stop_serving(sim, queue);
        (void) membership_leave(&queue->membership, host_clock(sim, &queue->host));
        member_run(sim, queue);
}

void member_is_fenced(Sim *sim, Queue *queue) {
        sim->n_fenced++;
        member_leave(sim, queue);
}

/* ── all of them ── */

void cluster_begin(Sim *sim, size_t n_members) {
        Cluster *cluster = sim->cluster = sim_allocate(sizeof(*cluster));
        cluster->ttl_usec = sim_between(sim, 3, 15) * USEC_PER_SEC;
        cluster->begins_anew = sim_chance(sim, 0.5);
        for (size_t i = 0; i < sim->n_runners; i++)
                cluster->workers[i] = (WorkerRow) { .runner = i };
        for (size_t i = 0; i < n_members; i++) {
                sim->queues[i].cluster = cluster;
                sim->queues[i].group = 0;
        }
}

void cluster_end(Sim *sim) {
        member_stores_done(sim);
        free(sim->cluster);
}

/* What keeps a member from what it is to do, or has until lately, though the rest is well. */
static bool note_obstruction(const Sim *sim, Queue *queue) {
        const usec_t until_usec[] = {
                queue->host.paused_until_usec,
                queue->cut_until_usec,
                sim->cluster->away_until_usec,
                queue->host.up && queue->membership.state < MEMBERSHIP_LEAVING ? 0 : USEC_INFINITY,
        };
        bool obstructed = false;
        for (size_t i = 0; i < sizeof(until_usec) / sizeof(*until_usec); i++) {
                obstructed |= sim->now_usec < until_usec[i];
                obstruct(queue, sim->now_usec < until_usec[i] ? sim->now_usec : until_usec[i]);
        }
        return obstructed;
}

void cluster_check(Sim *sim) {
        Cluster *cluster = sim->cluster;
        size_t n_leading = 0;
        usec_t grace_usec = cluster->ttl_usec + TAKE_OVER_USEC;
        for (size_t i = 0; i < sim->n_queues; i++) {
                Queue *queue = &sim->queues[i];
                if (!queue->cluster)
                        continue;
                bool obstructed = note_obstruction(sim, queue);
                n_leading += queue->host.up &&
                                membership_may_lead(&queue->membership, host_clock(sim, &queue->host));
                if (!obstructed && queue_is_serving(queue) && queue_may_act(queue) &&
                    cluster_is_led_by(queue))
                        cluster->led_usec = sim->now_usec;
                if (sim->now_usec > queue->obstructed_usec + grace_usec &&
                    sim->now_usec > cluster->led_usec + grace_usec)
                        sim_violation(sim, "nobody leads for too long, though %s could", queue->host.name);
        }
        if (n_leading > 1 && cluster->clock_usec == 0) /* otherwise the fence is what is left */
                sim_violation(sim, "two members may lead");
}
