/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Scopes of tasks by asking the broker: a message for each call, and one back. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/send-fds.h"
#include "base/text.h"
#include "io/loop.h"
#include "io/task-scopes.h"

/* What the broker has of its own, and some seconds: its word on a time-out says more than our own. */
#define CALL_TIMEOUT_USEC (40 * USEC_PER_SEC)

#define CALLS_UNDER_WAY_MAX 64

/* systemd starts one broker for each connection, and gives up on a socket that is connected to too often. */
#define RECONNECT_MIN_USEC (100 * USEC_PER_MSEC)
#define RECONNECT_MAX_USEC (5 * USEC_PER_SEC)

typedef struct BrokerScopes {
        TaskScopes head;
        sd_event *event;
        struct sockaddr_un address;
        int fd; /* the connection, -EBADF while there is none */
        sd_event_source *source;
        bool answered;          /* on this connection */
        usec_t reconnect_usec;  /* how long to wait after a failure */
        usec_t not_before_usec; /* no new connection until then */
        CallQueue calls;
        uint64_t last_call_id;
} BrokerScopes;

typedef struct BrokerCall {
        uint64_t id;
        void *block; /* until it was sent */
        size_t size;
        int pid_fd; /* goes with it; ours, or -EBADF */
} BrokerCall;

static void broker_call_free(void *payload) {
        BrokerCall *call = payload;
        if (!call)
                return;
        free(call->block);
        fd_close(&call->pid_fd);
        free(call);
}

/* Ends the connection; what was asked over it is not known to have happened or not. */
static void broker_disconnect(BrokerScopes *broker) {
        broker->reconnect_usec = broker->answered                   ? RECONNECT_MIN_USEC :
                        broker->reconnect_usec < RECONNECT_MIN_USEC ? RECONNECT_MIN_USEC :
                        broker->reconnect_usec < RECONNECT_MAX_USEC ? broker->reconnect_usec * 2 :
                                                                      RECONNECT_MAX_USEC;
        broker->not_before_usec = usec_add(usec_now(CLOCK_BOOTTIME), broker->reconnect_usec);
        broker->answered = false;
        event_source_dropp(&broker->source);
        fd_close(&broker->fd);
}

static QueuedCall *find_call(BrokerScopes *broker, uint64_t id) {
        for (QueuedCall *call = broker->calls.calls; call; call = call->next)
                if (call->under_way && ((const BrokerCall *) call->payload)->id == id)
                        return call;
        return NULL;
}

/* 1 with a reply that was taken, 0 when there is none now, -ECONNRESET at the end of the connection. */
static int broker_take_reply(BrokerScopes *broker) {
        BrokerReply reply;
        ssize_t n = recv(broker->fd, &reply, sizeof(reply), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0 || !broker_reply_valid(&reply, (size_t) n))
                return -ECONNRESET;
        broker->answered = true;
        QueuedCall *call = find_call(broker, reply.call_id);
        if (call) /* or it was cancelled, or is too late */
                queued_call_finish(call, -reply.error, reply.message);
        return 1;
}

static int on_broker_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        BrokerScopes *broker = userdata;
        int r = 0;
        if (revents & EPOLLOUT) { /* there is room again */
                (void) sd_event_source_set_io_events(source, EPOLLIN);
                call_queue_resume(&broker->calls);
        }
        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
                do
                        r = broker_take_reply(broker);
                while (r > 0);
        if (r < 0) {
                broker_disconnect(broker);
                call_queue_fail(&broker->calls, -ENOTCONN, "the connection to the scope broker was lost");
        }
        return 0;
}

static int broker_watch(BrokerScopes *broker, int fd) {
        int r = sd_event_add_io(broker->event, &broker->source, fd, EPOLLIN, on_broker_io, broker);
        if (r >= 0)
                r = sd_event_source_set_priority(broker->source, LOOP_PRIORITY_BUS);
        if (r < 0) {
                event_source_dropp(&broker->source);
                return r;
        }
        (void) sd_event_source_set_description(broker->source, "scope-broker");
        return 0;
}

/* Does not wait: systemd's end has a backlog. */
static int broker_connect(BrokerScopes *broker) {
        if (broker->fd >= 0)
                return 0;
        if (usec_now(CLOCK_BOOTTIME) < broker->not_before_usec)
                return -ENOTCONN;
        _cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &broker->address, sizeof(broker->address)) < 0) {
                broker_disconnect(broker);
                return -ENOTCONN;
        }
        int r = broker_watch(broker, fd);
        if (r >= 0)
                broker->fd = TAKE_FD(fd);
        return r;
}

static int broker_send(QueuedCall *queued, void *payload, void *userdata) {
        BrokerScopes *broker = userdata;
        BrokerCall *call = payload;
        int r = broker_connect(broker);
        if (r < 0)
                return r;
        size_t n_fds = call->pid_fd >= 0 ? 1 : 0;
        r = send_fds(broker->fd, call->block, call->size, &call->pid_fd, n_fds, MSG_DONTWAIT);
        if (r == -EAGAIN) {
                (void) sd_event_source_set_io_events(broker->source, EPOLLIN | EPOLLOUT);
                return r;
        }
        if (r < 0) /* the end of the connection tells itself, for the other calls too */
                return -ENOTCONN;
        free(call->block);
        call->block = NULL;
        fd_close(&call->pid_fd);
        return 0;
}

/* Takes a copy of PID_FD, unless that is negative. */
static int broker_call_new(BrokerScopes *broker, BrokerRequest *request, int pid_fd, BrokerCall **ret) {
        BrokerCall *call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        request->call_id = call->id = ++broker->last_call_id;
        call->pid_fd = pid_fd < 0 ? -EBADF : fcntl(pid_fd, F_DUPFD_CLOEXEC, 3);
        int r = pid_fd >= 0 && call->pid_fd < 0 ? -errno :
                                                  broker_request_encode(request, &call->block, &call->size);
        if (r < 0) {
                broker_call_free(call);
                return r;
        }
        *ret = call;
        return 0;
}

static int broker_start(
                TaskScopes *scopes,
                const ScopeOrder *order,
                const char *unit,
                const char *bound_to,
                const ScopeLeader *leader,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        BrokerScopes *broker = (BrokerScopes *) scopes;
        BrokerRequest request = { .type = BROKER_START, .order = *order };
        BrokerCall *call;
        int r = broker_call_new(broker, &request, leader->pid_fd, &call);
        return r < 0 ? r : call_queue_add(&broker->calls, call, done, userdata, ret);
}

static int broker_stop(
                TaskScopes *scopes,
                const char *unit,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        BrokerScopes *broker = (BrokerScopes *) scopes;
        BrokerRequest request = { .type = BROKER_STOP, .unit = (char *) unit };
        BrokerCall *call;
        int r = broker_call_new(broker, &request, -EBADF, &call);
        return r < 0 ? r : call_queue_add(&broker->calls, call, done, userdata, ret);
}

/* Nobody waits for it, and it must come before a STOP that follows: so past the queue of calls. */
static void broker_kill(TaskScopes *scopes, const char *unit) {
        BrokerScopes *broker = (BrokerScopes *) scopes;
        BrokerRequest request = { .type = BROKER_KILL, .unit = (char *) unit };
        _cleanup_(freep) void *block = NULL;
        size_t size;
        if (broker_request_encode(&request, &block, &size) >= 0 && broker_connect(broker) >= 0)
                (void) send_fds(broker->fd, block, size, NULL, 0, MSG_DONTWAIT);
}

/* One that is not sent yet is asked anew by whoever comes. */
static uint64_t broker_call_id(const QueuedCall *call) {
        return call->under_way ? ((const BrokerCall *) call->payload)->id : 0;
}

static int broker_resume(
                TaskScopes *scopes,
                uint64_t call_id,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        BrokerScopes *broker = (BrokerScopes *) scopes;
        if (broker->fd < 0)
                return -ENOTCONN;
        BrokerCall *call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        *call = (BrokerCall) { .id = call_id, .pid_fd = -EBADF };
        return call_queue_add_sent(&broker->calls, call, done, userdata, ret);
}

static SavedBroker broker_save(const TaskScopes *scopes) {
        const BrokerScopes *broker = (const BrokerScopes *) scopes;
        return (SavedBroker) {
                .fd = broker->fd,
                .protocol = BROKER_PROTOCOL,
                .answered = broker->answered,
                .last_call_id = broker->last_call_id,
        };
}

static void broker_free(TaskScopes *scopes) {
        BrokerScopes *broker = (BrokerScopes *) scopes;
        call_queue_done(&broker->calls);
        event_source_dropp(&broker->source);
        fd_close(&broker->fd);
        sd_event_unref(broker->event);
        free(broker);
}

int task_scopes_new_broker(sd_event *event, const char *path, TaskScopes **ret) {
        static const TaskScopesMethods methods = {
                .start = broker_start,
                .stop = broker_stop,
                .kill = broker_kill,
                .call_id = broker_call_id,
                .resume = broker_resume,
                .save = broker_save,
                .free = broker_free,
        };
        static const CallCarrier carrier = { .send = broker_send, .payload_free = broker_call_free };
        BrokerScopes *broker = calloc(1, sizeof(*broker));
        if (!broker)
                return -ENOMEM;
        *broker = (BrokerScopes) {
                .head.methods = &methods,
                .event = sd_event_ref(event),
                .address.sun_family = AF_UNIX,
                .fd = -EBADF,
        };
        int r = call_queue_init(
                        &broker->calls, event, &carrier, broker, CALLS_UNDER_WAY_MAX, CALL_TIMEOUT_USEC);
        if (r >= 0)
                r = strlen(path) < sizeof(broker->address.sun_path) ? 0 : -ENAMETOOLONG;
        if (r < 0) {
                broker_free(&broker->head);
                return r;
        }
        memcpy(broker->address.sun_path, path, strlen(path) + 1);
        *ret = &broker->head;
        return 0;
}

int task_scopes_restore_broker(
                sd_event *event,
                const char *path,
                const SavedBroker *saved,
                TaskScopes **ret) {
        int r = task_scopes_new_broker(event, path, ret);
        if (r < 0)
                return r;
        BrokerScopes *broker = (BrokerScopes *) *ret;
        _cleanup_(fd_close) int fd = (int) saved->fd;
        if (fd < 0 || !streq(saved->protocol, BROKER_PROTOCOL))
                return 0;
        r = broker_watch(broker, fd);
        if (r < 0) {
                *ret = task_scopes_free(*ret);
                return r;
        }
        broker->fd = TAKE_FD(fd);
        broker->answered = saved->answered;
        broker->last_call_id = saved->last_call_id;
        return 0;
}
