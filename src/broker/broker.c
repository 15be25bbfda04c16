/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Orders come in, are checked, carried out at systemd and answered. What an order says is never believed: the
 * unit's name, its slice and what it is bound to are made here, and the process is looked at
 * (leader-check.h). */
#include "broker/broker.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "broker/leader-check.h"
#include "core/text/unit-name.h"
#include "io/loop.h"
#include "io/task-scopes.h"

/* Calls under way, and answers that a daggyr has no room for: with more than these no order is read, so that
 * a flood or a daggyr that hangs costs no more memory than this. */
#define ORDERS_MAX 128

typedef enum Refusal {
        REFUSAL_MALFORMED,
        REFUSAL_OVERSIZED,
        REFUSAL_VERSION,
        REFUSAL_NO_LEADER,
        REFUSAL_LEADER_TWICE,
        _REFUSAL_MAX,
} Refusal;

static const char *const refusal_texts[] = {
        [REFUSAL_MALFORMED] = "the order is malformed, or asks for what no task may have",
        [REFUSAL_OVERSIZED] = "the order is too large, or has too many descriptors",
        [REFUSAL_VERSION] = "the order is of another version of daggyr than the scope broker",
        [REFUSAL_NO_LEADER] = "the process is not a leader that the spawner has just forked",
        [REFUSAL_LEADER_TWICE] = "the process is being put into another scope",
};
static_assert(sizeof(refusal_texts) / sizeof(refusal_texts[0]) == _REFUSAL_MAX, "each refusal has a text");

typedef struct Order {
        Broker *broker; /* weak */
        struct Order *prev, *next;
        uint64_t call_id;
        pid_t leader; /* 0: a STOP */
        QueuedCall *call;
} Order;

struct Broker {
        sd_event *event;
        int fd;
        sd_event_source *source;
        uid_t uid;      /* of who is connected */
        char *bound_to; /* the unit it is in */
        Systemd1 *systemd1;
        bool systemd_tried; /* connected, or found that it cannot be for now */
        TaskScopes *scopes;
        Order *orders; /* under way */
        size_t n_orders;
        BrokerReply replies[ORDERS_MAX + 1]; /* that could not be sent yet */
        size_t n_replies;
        bool refusals_told[_REFUSAL_MAX]; /* in the log */
        char block[BROKER_REQUEST_SIZE_MAX + 1];
};

static void broker_update_events(Broker *broker) {
        bool may_read = broker->systemd_tried && broker->n_replies == 0 && broker->n_orders < ORDERS_MAX;
        (void) sd_event_source_set_io_events(
                        broker->source,
                        (may_read ? (uint32_t) EPOLLIN : 0) |
                                        (broker->n_replies > 0 ? (uint32_t) EPOLLOUT : 0));
}

static bool reply_send(const Broker *broker, const BrokerReply *reply) {
        ssize_t n = send(broker->fd, reply, sizeof(*reply), MSG_DONTWAIT | MSG_NOSIGNAL);
        return n >= 0 || errno != EAGAIN; /* any other error is the connection's end, which tells itself */
}

static void broker_reply(Broker *broker, uint64_t call_id, int error, const char *message) {
        BrokerReply reply = { .call_id = call_id, .error = -error };
        if (message)
                memcpy(reply.message, message, text_cut(message, sizeof(reply.message) - 1));
        if (broker->n_replies == 0 && reply_send(broker, &reply))
                return;
        assert(broker->n_replies <= ORDERS_MAX);
        broker->replies[broker->n_replies++] = reply;
        broker_update_events(broker);
}

static void broker_send_replies(Broker *broker) {
        size_t n = 0;
        while (n < broker->n_replies && reply_send(broker, &broker->replies[n]))
                n++;
        broker->n_replies -= n;
        memmove(broker->replies, broker->replies + n, broker->n_replies * sizeof(BrokerReply));
        broker_update_events(broker);
}

/* Whoever sends such orders may send millions of them: each kind is logged once. */
static void broker_refuse(Broker *broker, uint64_t call_id, Refusal refusal) {
        if (!broker->refusals_told[refusal])
                log_line(LOG_WARNING, "Refused an order of %s: %s", broker->bound_to, refusal_texts[refusal]);
        broker->refusals_told[refusal] = true;
        broker_reply(broker, call_id, refusal == REFUSAL_VERSION ? -EPROTO : -EPERM, refusal_texts[refusal]);
}

static void order_free(Order *order) {
        Broker *broker = order->broker;
        DL_DELETE(broker->orders, order);
        broker->n_orders--;
        queued_call_cancel(order->call);
        free(order);
}

static int order_new(Broker *broker, uint64_t call_id, pid_t leader, Order **ret) {
        Order *order = calloc(1, sizeof(*order));
        if (!order)
                return -ENOMEM;
        *order = (Order) { .broker = broker, .call_id = call_id, .leader = leader };
        DL_APPEND(broker->orders, order);
        broker->n_orders++;
        *ret = order;
        return 0;
}

static void on_order_done(int error, const char *message, void *userdata) {
        Order *order = userdata;
        Broker *broker = order->broker;
        uint64_t call_id = order->call_id;
        order->call = NULL;
        order_free(order);
        broker_reply(broker, call_id, error, message);
        broker_update_events(broker);
}

static bool is_being_moved(const Broker *broker, pid_t leader) {
        const Order *order;
        DL_FOREACH(broker->orders, order)
        if (order->leader == leader)
                return true;
        return false;
}

static int order_start(Broker *broker, const BrokerRequest *request, pid_t leader, int pid_fd) {
        _cleanup_(freep) char *unit = NULL;
        Order *order = NULL;
        int r = unit_name_from_task_id(request->order.task_id, &unit);
        if (r >= 0)
                r = order_new(broker, request->call_id, leader, &order);
        if (r < 0)
                return r;
        r = task_scopes_start(
                        broker->scopes,
                        &request->order,
                        unit,
                        broker->bound_to,
                        &(ScopeLeader) { .pid = leader, .pid_fd = pid_fd },
                        on_order_done,
                        order,
                        &order->call);
        if (r < 0)
                order_free(order);
        return r;
}

static int order_stop(Broker *broker, const BrokerRequest *request) {
        Order *order;
        int r = order_new(broker, request->call_id, 0, &order);
        if (r < 0)
                return r;
        r = task_scopes_stop(broker->scopes, request->unit, on_order_done, order, &order->call);
        if (r < 0)
                order_free(order);
        return r;
}

static void broker_carry_out(Broker *broker, const BrokerRequest *request, int pid_fd) {
        pid_t leader = 0;
        int r = 0;
        switch (request->type) {
        case BROKER_START:
                if (pid_fd < 0 || leader_check(pid_fd, broker->uid, &leader) < 0) {
                        broker_refuse(broker, request->call_id, REFUSAL_NO_LEADER);
                        return;
                }
                if (is_being_moved(broker, leader)) {
                        broker_refuse(broker, request->call_id, REFUSAL_LEADER_TWICE);
                        return;
                }
                r = order_start(broker, request, leader, pid_fd);
                break;
        case BROKER_STOP:
                r = order_stop(broker, request);
                break;
        case BROKER_KILL:
                task_scopes_kill(broker->scopes, request->unit);
                return;
        case _BROKER_REQUEST_TYPE_MAX:
                return;
        }
        if (r < 0)
                broker_reply(broker, request->call_id, r, "the scope broker could not ask systemd");
}

/* The one descriptor that came with a message, or -EBADF. There is room for no more: the kernel closes the
 * rest and says so. */
static int take_descriptor(struct msghdr *message) {
        int fd = -EBADF;
        struct cmsghdr *head = CMSG_FIRSTHDR(message);
        if (head && head->cmsg_type == SCM_RIGHTS && head->cmsg_len >= CMSG_LEN(sizeof(int)))
                memcpy(&fd, CMSG_DATA(head), sizeof(int));
        return fd;
}

static void broker_take(Broker *broker, size_t size, int flags, int pid_fd) {
        _cleanup_(broker_request_done) BrokerRequest request = {};
        uint64_t call_id = broker_request_peek_id(broker->block, size);
        if (flags & (MSG_TRUNC | MSG_CTRUNC)) {
                broker_refuse(broker, call_id, REFUSAL_OVERSIZED);
                return;
        }
        int r = broker_request_decode(broker->block, size, &request);
        if (r == -EBADMSG || (r >= 0 && pid_fd >= 0 && request.type != BROKER_START))
                broker_refuse(broker, call_id, REFUSAL_MALFORMED);
        else if (r == -EPROTO)
                broker_refuse(broker, call_id, REFUSAL_VERSION);
        else if (r < 0)
                broker_reply(broker, call_id, r, "the scope broker is out of memory");
        else
                broker_carry_out(broker, &request, pid_fd);
}

/* False at the connection's end. */
static bool broker_receive(Broker *broker) {
        union {
                char buffer[CMSG_LEN(sizeof(int))]; /* and not CMSG_SPACE(), which has room for two */
                struct cmsghdr alignment;
        } control = {};
        struct iovec io = { .iov_base = broker->block, .iov_len = BROKER_REQUEST_SIZE_MAX };
        struct msghdr message = {
                .msg_iov = &io,
                .msg_iovlen = 1,
                .msg_control = control.buffer,
                .msg_controllen = sizeof(control.buffer),
        };
        ssize_t n = recvmsg(broker->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        if (n == 0)
                return false;
        _cleanup_(fd_close) int pid_fd = take_descriptor(&message);
        broker_take(broker, (size_t) n, message.msg_flags, pid_fd);
        broker_update_events(broker);
        return true;
}

static int on_connection_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Broker *broker = userdata;
        if (revents & EPOLLOUT)
                broker_send_replies(broker);
        bool is_over = (revents & EPOLLIN) ? !broker_receive(broker) : (revents & (EPOLLHUP | EPOLLERR)) != 0;
        return is_over ? sd_event_exit(broker->event, 0) : 0;
}

static void on_systemd_connected(void *userdata) {
        Broker *broker = userdata;
        broker->systemd_tried = true;
        broker_update_events(broker);
}

static void on_systemd_disconnected(int error, void *userdata) {
        Broker *broker = userdata;
        broker->systemd_tried = true; /* orders are answered with -ENOTCONN meanwhile */
        broker_update_events(broker);
}

static int broker_find_peer(Broker *broker) {
        struct ucred peer;
        socklen_t size = sizeof(peer);
        if (getsockopt(broker->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        broker->uid = peer.uid;
        int r = process_unit(peer.pid, &broker->bound_to);
        if (r < 0)
                return r;
        const char *suffix = strrchr(broker->bound_to, '.');
        return suffix && streq(suffix, ".service") ? 0 : -EPERM;
}

int broker_new(sd_event *event, int fd, Broker **ret) {
        static const Systemd1Handlers handlers = {
                .on_connected = on_systemd_connected,
                .on_disconnected = on_systemd_disconnected,
        };
        _cleanup_(broker_freep) Broker *broker = calloc(1, sizeof(*broker));
        if (!broker) {
                (void) close(fd);
                return -ENOMEM;
        }
        broker->fd = fd;
        broker->event = sd_event_ref(event);
        int r = broker_find_peer(broker);
        if (r >= 0)
                r = systemd1_new(event, SYSTEMD1_SYSTEM, &handlers, broker, &broker->systemd1);
        if (r >= 0)
                r = task_scopes_new_direct(broker->systemd1, &broker->scopes);
        if (r >= 0)
                r = sd_event_add_io(event, &broker->source, broker->fd, 0, on_connection_io, broker);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(broker);
        return 0;
}

Broker *broker_free(Broker *broker) {
        if (!broker)
                return NULL;
        while (broker->orders)
                order_free(broker->orders);
        event_source_dropp(&broker->source);
        task_scopes_free(broker->scopes);
        systemd1_free(broker->systemd1);
        fd_close(&broker->fd);
        free(broker->bound_to);
        sd_event_unref(broker->event);
        free(broker);
        return NULL;
}
