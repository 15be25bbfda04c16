/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/leader-process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "io/loop.h"
#include "io/sealed-file.h"
#include "io/unit-cgroup.h"

/* Holds the burst that the journal's rate limit lets pass (see core/task/journal-entry.h) at ordinary line
 * lengths. */
#define FEED_PENDING_MAX (2 * 1024 * 1024)

struct LeaderProcess {
        SpawnCall *spawn_call; /* until it is there */
        bool kill_at_once;     /* when it is */
        pid_t pid;
        bool exited; /* but not reaped: the spawner sees to that once the feed is closed */
        int pid_fd, control_fd, feed_fd;
        sd_event *event;
        sd_event_source *control_source, *exit_source;
        sd_event_source *feed_source; /* while the feed has no room */
        Text pending;                 /* entries on their way into the feed … */
        size_t sent;                  /* … less so many bytes */
        bool finished;                /* to be told once the feed has everything */
        bool *is_freed;               /* of whoever is calling handlers */
        LeaderHandlers handlers;
        void *userdata;
};

static int order_file(const LeaderOrder *order) {
        _cleanup_(freep) void *block = NULL;
        size_t size;
        int r = leader_order_encode(order, &block, &size);
        if (r < 0)
                return r;
        return sealed_file_new("daggyr-order", block, size);
}

/* /dev/null for the common case of no input: a program that stats its stdin sees what it is used to. */
static int input_file(const Text *standard_input) {
        if (standard_input->size > 0)
                return sealed_file_new("daggyr-stdin", standard_input->data, standard_input->size);
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* One report, or 0 when there is none to read now. */
static int leader_take_report(LeaderProcess *leader) {
        LeaderMessage message;
        ssize_t n = recv(leader->control_fd, &message, sizeof(message), MSG_DONTWAIT);
        if (n != (ssize_t) sizeof(message))
                return 0;
        leader->handlers.on_report(&message, leader->userdata);
        return 1;
}

/* All reports that are there, so that the end of a command is one turn of the loop; a handler may free
 * LEADER. */
static int on_control_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        LeaderProcess *leader = userdata;
        bool is_freed = false;
        int r;
        leader->is_freed = &is_freed;
        do
                r = leader_take_report(leader);
        while (r > 0 && !is_freed);
        if (is_freed)
                return 0;
        leader->is_freed = NULL;
        if (revents & (EPOLLHUP | EPOLLERR))
                (void) sd_event_source_set_enabled(
                                source, SD_EVENT_OFF); /* the end itself is the pidfd's to tell */
        return 0;
}

static int on_exit_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        LeaderProcess *leader = userdata;
        /* What it said last may still be unread; one report a turn, as its handler may free us. */
        if (leader_take_report(leader) > 0)
                return 0;
        event_source_dropp(&leader->exit_source);
        leader->exited = true;
        leader->handlers.on_exit(leader->userdata);
        return 0;
}

static int leader_tell(LeaderProcess *leader, const LeaderMessage *message) {
        ssize_t n = send(leader->control_fd, message, sizeof(*message), MSG_DONTWAIT | MSG_NOSIGNAL);
        return n < 0 ? -errno : 0;
}

static void feed_done(LeaderProcess *leader) {
        event_source_dropp(&leader->feed_source);
        leader->pending.size = leader->sent = 0;
        if (leader->finished)
                (void) shutdown(leader->feed_fd, SHUT_WR);
}

/* False when there is no room now. */
static bool feed_send(LeaderProcess *leader) {
        while (leader->sent < leader->pending.size) {
                ssize_t n = send(
                                leader->feed_fd,
                                leader->pending.data + leader->sent,
                                leader->pending.size - leader->sent,
                                MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN)
                        return false;
                if (n < 0) { /* a leader that is gone reads no more */
                        event_source_dropp(&leader->feed_source);
                        return true;
                }
                leader->sent += (size_t) n;
        }
        feed_done(leader);
        return true;
}

static int on_feed_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        (void) feed_send(userdata);
        return 0;
}

static int leader_watch(LeaderProcess *leader) {
        sd_event *event = leader->event;
        int r = sd_event_add_io(
                        event, &leader->control_source, leader->control_fd, EPOLLIN, on_control_io, leader);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &leader->exit_source, leader->pid_fd, EPOLLIN, on_exit_io, leader);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(leader->control_source, LOOP_PRIORITY_PROCESS);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(leader->exit_source, LOOP_PRIORITY_PROCESS + 1);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(leader->control_source, "leader-control");
        (void) sd_event_source_set_description(leader->exit_source, "leader-exit");
        return 0;
}

static void on_spawned(int error, pid_t pid, int pid_fd, void *userdata) {
        LeaderProcess *leader = userdata;
        leader->spawn_call = NULL;
        if (error >= 0) {
                leader->pid = pid;
                leader->pid_fd = pid_fd;
                error = leader_watch(leader);
        }
        if (leader->kill_at_once)
                leader_process_kill(leader);
        leader->handlers.on_spawned(error, leader->userdata);
}

static int socket_pair(int type, int *ret_ours, int *ret_theirs) {
        int fds[2];
        if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        *ret_ours = fds[0];
        *ret_theirs = fds[1];
        return 0;
}

int leader_process_spawn(
                sd_event *event,
                Spawner *spawner,
                const LeaderOrder *order,
                const Text *standard_input,
                int output_fd,
                int error_fd,
                const LeaderHandlers *handlers,
                void *userdata,
                LeaderProcess **ret) {
        _cleanup_(leader_process_freep) LeaderProcess *leader = calloc(1, sizeof(*leader));
        if (!leader)
                return -ENOMEM;
        *leader = (LeaderProcess) {
                .event = sd_event_ref(event),
                .pid_fd = -EBADF,
                .control_fd = -EBADF,
                .feed_fd = -EBADF,
                .handlers = *handlers,
                .userdata = userdata,
        };

        _cleanup_(fd_close) int control = -EBADF, feed = -EBADF;
        int r = socket_pair(SOCK_SEQPACKET, &leader->control_fd, &control);
        if (r < 0)
                return r;
        r = socket_pair(SOCK_STREAM, &leader->feed_fd, &feed);
        if (r < 0)
                return r;
        _cleanup_(fd_close) int order_fd = order_file(order);
        if (order_fd < 0)
                return order_fd;
        _cleanup_(fd_close) int input_fd = input_file(standard_input);
        if (input_fd < 0)
                return input_fd;

        const int fds[LEADER_N_FDS] = {
                [LEADER_STDOUT] = output_fd, [LEADER_STDERR] = error_fd, [LEADER_CONTROL] = control,
                [LEADER_ORDER] = order_fd,   [LEADER_STDIN] = input_fd,  [LEADER_FEED] = feed,
        };
        r = spawner_spawn(spawner, fds, on_spawned, leader, &leader->spawn_call);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(leader);
        return 0;
}

LeaderProcess *leader_process_free(LeaderProcess *leader) {
        if (!leader)
                return NULL;
        if (leader->is_freed)
                *leader->is_freed = true;
        spawn_call_cancel(leader->spawn_call);
        event_source_dropp(&leader->control_source);
        event_source_dropp(&leader->exit_source);
        event_source_dropp(&leader->feed_source);
        text_done(&leader->pending);
        leader_process_kill(leader);
        fd_close(&leader->pid_fd);
        fd_close(&leader->control_fd);
        fd_close(&leader->feed_fd);
        sd_event_unref(leader->event);
        free(leader);
        return NULL;
}

pid_t leader_process_pid(const LeaderProcess *leader) {
        return leader->pid;
}

int leader_process_pid_fd(const LeaderProcess *leader) {
        return leader->pid_fd;
}

bool leader_process_is_in(const LeaderProcess *leader, const char *slice, const char *unit) {
        return unit_cgroup_has(slice, unit, leader->pid);
}

int leader_process_go(LeaderProcess *leader) {
        return leader_tell(leader, &(LeaderMessage) { .type = LEADER_GO });
}

int leader_process_stop(LeaderProcess *leader, usec_t grace_usec) {
        return leader_tell(leader, &(LeaderMessage) { .type = LEADER_STOP, .grace_usec = grace_usec });
}

/* Says so at once, or a journal that takes nothing could hold it up for ever; that it has everything the
 * feed's end tells. */
int leader_process_finish(LeaderProcess *leader) {
        leader->finished = true;
        if (leader->pending.size == 0)
                feed_done(leader);
        return leader_tell(leader, &(LeaderMessage) { .type = LEADER_FINISH });
}

uint64_t leader_process_unfed(const LeaderProcess *leader) {
        uint64_t n = 0;
        for (size_t start = 0; start < leader->pending.size;) {
                uint32_t size;
                memcpy(&size, leader->pending.data + start, sizeof(size));
                start += sizeof(size) + size;
                n += start > leader->sent;
        }
        return n;
}

int leader_process_feed(LeaderProcess *leader, const void *entry, size_t size) {
        if (size > LEADER_ENTRY_MAX - sizeof(uint32_t) || leader->pending.size + size > FEED_PENDING_MAX)
                return -EAGAIN;
        uint32_t length = (uint32_t) size;
        size_t before = leader->pending.size;
        int r = text_append_bytes(&leader->pending, &length, sizeof(length));
        if (r >= 0)
                r = text_append_bytes(&leader->pending, entry, size);
        if (r < 0) {
                leader->pending.size = before;
                return r;
        }
        return 0;
}

void leader_process_flush(LeaderProcess *leader) {
        if (leader->feed_source || leader->pending.size == 0 || feed_send(leader))
                return;
        int r = sd_event_add_io(
                        leader->event, &leader->feed_source, leader->feed_fd, EPOLLOUT, on_feed_io, leader);
        if (r >= 0) /* else the next flush tries again */
                (void) sd_event_source_set_description(leader->feed_source, "leader-feed");
}

bool leader_process_has_exited(const LeaderProcess *leader) {
        return leader->exited;
}

void leader_process_kill(LeaderProcess *leader) {
        leader->kill_at_once = leader->spawn_call != NULL;
        if (!leader->exited && leader->pid_fd >= 0)
                (void) syscall(SYS_pidfd_send_signal, leader->pid_fd, SIGKILL, NULL, 0);
}

SavedLeader leader_process_save(const LeaderProcess *leader) {
        return (SavedLeader) {
                .pid = leader->pid,
                .pid_fd = leader->pid_fd,
                .control_fd = leader->control_fd,
                .feed_fd = leader->feed_fd,
                .exited = leader->exited,
                .finished = leader->finished,
                .pending = { leader->pending.data, leader->pending.size },
                .sent = leader->sent,
        };
}

/* One that has exited was told to have; nothing more is to be heard of it. */
static int leader_go_on(LeaderProcess *leader, const SavedLeader *saved) {
        int r = record_bytes_append(&saved->pending, &leader->pending);
        if (r < 0 || saved->exited)
                return r;
        r = leader_watch(leader);
        if (r >= 0)
                leader_process_flush(leader);
        return r;
}

int leader_process_restore(
                sd_event *event,
                const SavedLeader *saved,
                const LeaderHandlers *handlers,
                void *userdata,
                LeaderProcess **ret) {
        LeaderProcess *leader = calloc(1, sizeof(*leader));
        if (!leader)
                return -ENOMEM;
        *leader = (LeaderProcess) {
                .event = sd_event_ref(event),
                .pid = (pid_t) saved->pid,
                .pid_fd = (int) saved->pid_fd,
                .control_fd = (int) saved->control_fd,
                .feed_fd = (int) saved->feed_fd,
                .exited = saved->exited,
                .finished = saved->finished,
                .sent = saved->sent,
                .handlers = *handlers,
                .userdata = userdata,
        };
        int r = leader_go_on(leader, saved);
        if (r < 0) { /* the descriptors stay the caller's, and the leader alive */
                leader->pid_fd = leader->control_fd = leader->feed_fd = -EBADF;
                leader_process_free(leader);
                return r;
        }
        *ret = leader;
        return 0;
}
