/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A queue as one of several members: how it comes to lead, what becomes of requests while it does not, and
 * how it ends. A member that may not lead any more forgets everything, by executing its program anew: what it
 * was about to do is another one's, and nothing of it can be left over. */

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/queue-internal.h"
#include "queue/watched-task.h"

#define HELD_MAX 10000
#define HOLD_MARGIN_USEC \
        (2 * USEC_PER_SEC) /* beyond the ttl: another member leads by then, if there is one */

#define END_USEC (500 * USEC_PER_MSEC) /* for last answers to be told */

/* It takes its leave first, as far as the database answers: otherwise the others might wait for a member that
 * is not there any more. */
static void begin_anew(Queue *queue, const char *why) {
        if (queue->begins_anew || queue->daemon.stopping)
                return;
        log_line(LOG_NOTICE, "%s: beginning anew", why);
        queue->role = QUEUE_HANDS_OVER;
        queue->begins_anew = true;
        http_server_wind_down(queue->daemon.http); /* who connects from now on is served by what comes then */
        forwarder_end(queue->forwarder);
        members_leave(queue->members);
}

bool queue_may_lead(Queue *queue) {
        if (!queue_leads(queue))
                return false;
        if (!queue->members || members_may_lead(queue->members, usec_now(CLOCK_BOOTTIME)))
                return true;
        begin_anew(queue,
                   "The database has not answered for too long, so that another member may lead by now");
        return false;
}

/* ── to lead ── */

void queue_loaded(Queue *queue, int r) {
        if (!queue->members || queue->role != QUEUE_TAKES_UP)
                return;
        if (r >= 0)
                r = queue_begin_leading(queue);
        if (r < 0) {
                (void) sd_event_exit(queue->daemon.event, r);
                return;
        }
        log_line(LOG_INFO, "This member leads");
        forwarder_leader_changed(queue->forwarder);
}

static void on_store_ready(void *userdata) {
        Queue *queue = userdata;
        int r = queue->role == QUEUE_TAKES_UP ? queue_take_up(queue) : 0;
        if (r < 0)
                (void) sd_event_exit(queue->daemon.event, r);
}

static void on_fenced(int r, void *userdata) {
        Queue *queue = userdata;
        if (r == -ESTALE || queue->daemon.stopping)
                begin_anew(queue, "Another member leads");
        else if (r == -ENOTSUP) /* as any member, it waits until that has changed */
                begin_anew(queue, "The database is not to be used as it is now");
        else
                (void) sd_event_exit(queue->daemon.event, r);
}

static int open_database(Queue *queue, uint64_t epoch) {
        int r = postgres_store_new(
                        queue->daemon.event,
                        &(PostgresStoreOptions) {
                                        .config = &queue->config->postgres,
                                        .epoch = epoch,
                                        .ready = on_store_ready,
                                        .fenced = on_fenced,
                                        .userdata = queue,
                        },
                        &queue->postgres);
        queue->store_port = &postgres_store_port;
        queue->store = queue->postgres;
        return r;
}

/* Others know the queue by the address of the member that led it first, as workers know by that who has a
 * lease. */
static int take_address(Queue *queue) {
        const char *stored = members_queue_address(queue->members);
        char *address = strdup(stored ?: queue->member_address);
        if (!address)
                return -ENOMEM;
        free(queue->address);
        queue->address = address;
        return 0;
}

static void on_lead(uint64_t epoch, void *userdata) {
        Queue *queue = userdata;
        if (queue->role != QUEUE_FOLLOWS)
                return;
        queue->role = QUEUE_TAKES_UP;
        int r = take_address(queue);
        if (r >= 0)
                r = open_database(queue, epoch);
        if (r < 0) {
                (void) log_errno(LOG_ERR, r, "Cannot lead");
                (void) sd_event_exit(queue->daemon.event, r);
        }
}

static void on_lost(void *userdata) {
        Queue *queue = userdata;
        if (queue->role != QUEUE_FOLLOWS)
                begin_anew(queue, "This member does not lead any more");
}

static void on_members_changed(void *userdata) {
        Queue *queue = userdata;
        forwarder_leader_changed(queue->forwarder);
        daemon_status_changed(&queue->daemon);
}

/* ── to follow ── */

static const Member *find_leader(void *userdata) {
        const Queue *queue = userdata;
        const Member *leader = members_leader(queue->members);
        return leader == members_self(queue->members) ? NULL : leader;
}

static bool leads_now(void *userdata) {
        return queue_may_lead(userdata);
}

static bool leads_soon(void *userdata) {
        const Queue *queue = userdata;
        return queue->role == QUEUE_TAKES_UP;
}

bool queue_divert(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        return forwarder_take(queue->forwarder, request, context);
}

void queue_leave_to_next(Queue *queue, HttpRequest **request, const Problem *problem) {
        if (!*request)
                return;
        http_request_on_hangup(*request, NULL, NULL);
        if (problem->status == 503 && queue_divert(queue, *request, http_request_context(*request)))
                *request = NULL;
}

bool queue_vouched(const char *secret, void *userdata) {
        const Queue *queue = userdata;
        return queue->members && members_know_secret(queue->members, secret);
}

/* ── to end ── */

static bool is_alone(const Queue *queue) {
        const Member *members;
        size_t n = members_list(queue->members, &members), n_alive = 0;
        for (size_t i = 0; i < n; i++)
                n_alive += members[i].alive && !members[i].draining;
        return n_alive <= 1;
}

static void on_left(void *userdata) {
        Queue *queue = userdata;
        forwarder_end(queue->forwarder);
        queue_end(queue, END_USEC);
}

static void answer_waiters(Task *task, void *userdata) {
        WatchedTask *watched = task->userdata;
        if (watched)
                waiters_answer_all(&watched->waiters);
}

/* What was handed to the store is there, and told. Who waits for a task is told how it is, as if the time
 * were over, and waits on at the member that leads next. */
static void on_all_stored(int r, const Moment *now, void *userdata) {
        Queue *queue = userdata;
        postgres_store_retire(queue->postgres);
        members_leave(queue->members);
        delivery_visit_tasks(queue->delivery, answer_waiters, NULL);
}

/* Leases stay with the queue: the next one that leads has them by the same name. */
static void hand_over_tasks(Queue *queue) {
        StoreBatch *nothing;
        queue->role = QUEUE_HANDS_OVER;
        int r = store_batch_new(&nothing);
        if (r >= 0)
                r = queue->store_port->commit(queue->store, nothing, on_all_stored, queue);
        if (r < 0)
                on_all_stored(r, NULL, queue);
}

void queue_hand_over(Queue *queue) {
        if (queue_leads(queue) && is_alone(queue)) {
                members_drain(queue->members);
                queue_update_permissions(queue);
                return;
        }
        if (queue_leads(queue)) {
                hand_over_tasks(queue);
                return;
        }
        queue->role = QUEUE_HANDS_OVER;
        members_leave(queue->members);
}

/* ── to begin ── */

static int find_url(const Queue *queue, char **ret) {
        const char *scheme = queue->daemon.config.tls_cert ? "https" : "http";
        return text_format(ret, "%s://%s", scheme, queue->member_address);
}

static int init_members(Queue *queue, const char *url) {
        return members_new(
                        queue->daemon.event,
                        &(MembersOptions) {
                                        .config = &queue->config->postgres,
                                        .ttl_usec = queue->config->member_ttl_usec,
                                        .url = url,
                                        .address = queue->member_address,
                                        .version = queue_version(queue),
                                        .lead = on_lead,
                                        .lost = on_lost,
                                        .changed = on_members_changed,
                                        .left = on_left,
                                        .userdata = queue,
                        },
                        &queue->members);
}

static int init_forwarder(Queue *queue) {
        return forwarder_new(
                        &(ForwarderOptions) {
                                        .event = queue->daemon.event,
                                        .config = &queue->daemon.config,
                                        .secret = members_self(queue->members)->secret,
                                        .hold_usec = usec_add(
                                                        queue->config->member_ttl_usec, HOLD_MARGIN_USEC),
                                        .held_max = HELD_MAX,
                                        .connections_max = (unsigned) (queue->daemon.n_descriptors / 8),
                                        .leader = find_leader,
                                        .leads = leads_now,
                                        .leads_soon = leads_soon,
                                        .userdata = queue,
                        },
                        &queue->forwarder);
}

int queue_join_members(Queue *queue) {
        _cleanup_(freep) char *url = NULL;
        queue->member_address = strdup(queue->address);
        int r = queue->member_address ? find_url(queue, &url) : -ENOMEM;
        if (r >= 0)
                r = init_members(queue, url);
        if (r >= 0)
                r = init_forwarder(queue);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set up") : 0;
}
