/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <utlist.h>

#include "base/send-fds.h"
#include "base/text.h"
#include "base/usec.h"
#include "io/loop.h"

/* An answer takes a millisecond, the first one as long as systemd takes to start the spawner. */
#define ANSWER_USEC (5 * USEC_PER_SEC)

/* Unanswered requests. */
#define CALLS_MAX 256

/* Requests are answered in their order. */
struct SpawnCall {
        SpawnCall *prev, *next;
        usec_t deadline_usec;
        SpawnDone done; /* NULL: nobody wants to know any more */
        void *userdata;
};

struct Spawner {
        sd_event *event;
        int executable_fd; /* or */
        struct sockaddr_un address;
        struct rlimit descriptors; /* that the tasks are to have */
        int fd;                    /* the connection, -EBADF while there is none */
        pid_t pid;                 /* of a spawner of our own, or 0 */
        sd_event_source *source, *deadline_source;
        SpawnCall *calls;
        size_t n_calls;
};

static void call_free(Spawner *spawner, SpawnCall *call) {
        DL_DELETE(spawner->calls, call);
        spawner->n_calls--;
        free(call);
}

static void call_finish(Spawner *spawner, SpawnCall *call, int error, pid_t pid, int pid_fd) {
        SpawnDone done = call->done;
        void *userdata = call->userdata;
        call_free(spawner, call);
        if (done)
                done(error, pid, pid_fd, userdata);
        else if (pid_fd >= 0)
                (void) close(pid_fd);
}

SpawnCall *spawn_call_cancel(SpawnCall *call) {
        if (call)
                call->done = NULL;
        return NULL;
}

static void spawner_disconnect(Spawner *spawner) {
        event_source_dropp(&spawner->source);
        fd_close(&spawner->fd);
        if (spawner->pid <= 0)
                return;
        (void) kill(spawner->pid, SIGKILL); /* it would go by itself, but not if it hangs */
        (void) waitpid(spawner->pid, NULL, 0);
        spawner->pid = 0;
}

/* Does not wait: systemd's end has a backlog, and a full one is a shortage (-EAGAIN). */
static int spawner_connect(Spawner *spawner) {
        _cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &spawner->address, sizeof(spawner->address)) < 0)
                return -errno;
        spawner->fd = TAKE_FD(fd);
        return 0;
}

/* With its end of the connection as stdin, as systemd gives it. */
static int execute(int executable_fd, int connection_fd, pid_t *ret_pid) {
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", executable_fd);
        char name[] = "daggyr-leader";
        char *const arguments[] = { name, NULL }, *const environment[] = { NULL };

        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t all, none;
        sigfillset(&all);
        sigemptyset(&none);
        if (posix_spawn_file_actions_init(&actions) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                (void) posix_spawn_file_actions_destroy(&actions);
                return -ENOMEM;
        }
        int r = posix_spawnattr_setflags(
                        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(&attributes, &all);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, connection_fd, STDIN_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawn(ret_pid, path, &actions, &attributes, arguments, environment);
        (void) posix_spawn_file_actions_destroy(&actions);
        (void) posix_spawnattr_destroy(&attributes);
        return -r;
}

static int spawner_execute(Spawner *spawner) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        _cleanup_(fd_close) int ours = fds[0], theirs = fds[1];
        struct rlimit own;
        if (getrlimit(RLIMIT_NOFILE, &own) < 0 || setrlimit(RLIMIT_NOFILE, &spawner->descriptors) < 0)
                return -errno;
        int r = execute(spawner->executable_fd, theirs, &spawner->pid);
        (void) setrlimit(RLIMIT_NOFILE, &own);
        if (r < 0) {
                spawner->pid = 0;
                return r;
        }
        spawner->fd = TAKE_FD(ours);
        return 0;
}

/* The connection is gone, or of no use. Whether leaders were forked that were asked for, or will be, is not
 * known: those whose sockets are closed here end by themselves. The next attempt is another spawner's. */
static void spawner_fail(Spawner *spawner) {
        spawner_disconnect(spawner);
        SpawnCall *lost = spawner->calls;
        spawner->calls = NULL; /* whoever hears of one may ask anew */
        spawner->n_calls = 0;
        while (lost) {
                SpawnCall *call = lost;
                lost = call->next;
                if (call->done)
                        call->done(-EAGAIN, 0, -EBADF, call->userdata);
                free(call);
        }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

static void spawner_arm_deadline(Spawner *spawner) {
        (void) loop_set_timer(
                        spawner->event,
                        &spawner->deadline_source,
                        spawner->calls ? spawner->calls->deadline_usec : USEC_INFINITY,
                        on_deadline,
                        spawner,
                        "spawner-deadline");
}

/* Set for a call that may have been answered since, which is cheaper than to follow each. */
static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Spawner *spawner = userdata;
        if (spawner->calls && spawner->calls->deadline_usec <= usec)
                spawner_fail(spawner);
        spawner_arm_deadline(spawner);
        return 0;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int spawner_watch(Spawner *spawner) {
        int r = sd_event_add_io(spawner->event, &spawner->source, spawner->fd, EPOLLIN, on_answer, spawner);
        if (r >= 0)
                r = sd_event_source_set_priority(spawner->source, LOOP_PRIORITY_PROCESS);
        if (r < 0)
                spawner_disconnect(spawner);
        else
                (void) sd_event_source_set_description(spawner->source, "spawner");
        return r;
}

static int spawner_ensure(Spawner *spawner) {
        if (spawner->fd >= 0)
                return 0;
        int r = *spawner->address.sun_path ? spawner_connect(spawner) : spawner_execute(spawner);
        return r < 0 ? r : spawner_watch(spawner);
}

/* Without a connection yet. */
static int spawner_init(Spawner *spawner, sd_event *event, const char *executable, const char *socket_path) {
        *spawner = (Spawner) {
                .event = sd_event_ref(event),
                .executable_fd = -EBADF,
                .fd = -EBADF,
                .address.sun_family = AF_UNIX,
        };
        if (getrlimit(RLIMIT_NOFILE, &spawner->descriptors) < 0)
                return -errno;
        if (socket_path) {
                if (strlen(socket_path) >= sizeof(spawner->address.sun_path))
                        return -ENAMETOOLONG;
                memcpy(spawner->address.sun_path, socket_path, strlen(socket_path));
        } else {
                spawner->executable_fd = open(executable, O_PATH | O_CLOEXEC);
                if (spawner->executable_fd < 0)
                        return -errno;
        }
        return 0;
}

int spawner_new(sd_event *event, const char *executable, const char *socket_path, Spawner **ret) {
        _cleanup_(spawner_freep) Spawner *spawner = calloc(1, sizeof(*spawner));
        if (!spawner)
                return -ENOMEM;
        int r = spawner_init(spawner, event, executable, socket_path);
        if (r >= 0 && socket_path)
                r = spawner_ensure(spawner);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(spawner);
        return 0;
}

bool spawner_is_busy(const Spawner *spawner) {
        return spawner->calls != NULL;
}

SavedSpawner spawner_save(const Spawner *spawner) {
        return (SavedSpawner) {
                .fd = spawner->fd,
                .pid = spawner->pid,
                .protocol = SPAWN_REQUEST,
                .descriptors_soft = spawner->descriptors.rlim_cur,
                .descriptors_hard = spawner->descriptors.rlim_max,
        };
}

int spawner_restore(
                sd_event *event,
                const char *executable,
                const char *socket_path,
                const SavedSpawner *saved,
                Spawner **ret) {
        _cleanup_(spawner_freep) Spawner *spawner = calloc(1, sizeof(*spawner));
        if (!spawner)
                return -ENOMEM;
        int r = spawner_init(spawner, event, executable, socket_path);
        if (r < 0)
                return r;
        spawner->descriptors = (struct rlimit) { saved->descriptors_soft, saved->descriptors_hard };
        spawner->fd = (int) saved->fd;
        spawner->pid = (pid_t) saved->pid;
        if (spawner->fd >= 0 && !streq(saved->protocol, SPAWN_REQUEST))
                spawner_disconnect(spawner);
        r = spawner->fd >= 0 ? spawner_watch(spawner) : 0;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(spawner);
        return 0;
}

Spawner *spawner_free(Spawner *spawner) {
        if (!spawner)
                return NULL;
        spawner_disconnect(spawner);
        while (spawner->calls)
                call_free(spawner, spawner->calls);
        event_source_dropp(&spawner->deadline_source);
        fd_close(&spawner->executable_fd);
        sd_event_unref(spawner->event);
        free(spawner);
        return NULL;
}

/* ETOOMANYREFS, too, is a shortage: the kernel counts the descriptors that all processes of this account have
 * under way, and holds them to this one's limit of descriptors (Linux 6.18). */
static int send_request(int fd, const int fds[static LEADER_N_FDS]) {
        return send_fds(fd, SPAWN_REQUEST, sizeof(SPAWN_REQUEST), fds, LEADER_N_FDS, MSG_DONTWAIT);
}

static int receive_reply(int fd, SpawnReply *ret, int *ret_pid_fd) {
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr alignment;
        } control = {};
        struct iovec io = { .iov_base = ret, .iov_len = sizeof(*ret) };
        struct msghdr message = {
                .msg_iov = &io,
                .msg_iovlen = 1,
                .msg_control = control.buffer,
                .msg_controllen = sizeof(control.buffer),
        };
        ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0)
                return -errno;
        if (n == 0)
                return -ECONNRESET;
        *ret_pid_fd = -EBADF;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (head && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int)))
                memcpy(ret_pid_fd, CMSG_DATA(head), sizeof(int));
        return n == (ssize_t) sizeof(*ret) ? 0 : -EPROTO;
}

static int reply_error(const SpawnReply *reply, int pid_fd) {
        if (reply->error != 0)
                return -reply->error;
        return pid_fd < 0 ? -EMFILE : 0; /* no descriptor was left to receive it */
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Spawner *spawner = userdata;
        SpawnReply reply;
        _cleanup_(fd_close) int pid_fd = -EBADF;
        int r = receive_reply(fd, &reply, &pid_fd);
        if (r == -EAGAIN || r == -EINTR)
                return 0;
        if (r < 0 || !spawner->calls) {
                spawner_fail(spawner);
                return 0;
        }
        r = reply_error(&reply, pid_fd);
        call_finish(spawner, spawner->calls, r, r < 0 ? 0 : reply.pid, r < 0 ? -EBADF : TAKE_FD(pid_fd));
        return 0;
}

/* Sends to a spawner that lives: one that was stopped, or replaced, has left a connection that is closed. */
static int spawner_request(Spawner *spawner, const int fds[static LEADER_N_FDS]) {
        int r = spawner_ensure(spawner);
        if (r >= 0)
                r = send_request(spawner->fd, fds);
        if ((r != -EPIPE && r != -ECONNRESET) || spawner->calls)
                return r;
        spawner_disconnect(spawner);
        r = spawner_ensure(spawner);
        return r < 0 ? r : send_request(spawner->fd, fds);
}

int spawner_spawn(
                Spawner *spawner,
                const int fds[static LEADER_N_FDS],
                SpawnDone done,
                void *userdata,
                SpawnCall **ret) {
        if (spawner->n_calls >= CALLS_MAX)
                return -EAGAIN;
        SpawnCall *call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        if (spawner_request(spawner, fds) < 0) {
                free(call);
                return -EAGAIN;
        }
        *call = (SpawnCall) {
                .deadline_usec = usec_add(usec_now(CLOCK_BOOTTIME), ANSWER_USEC),
                .done = done,
                .userdata = userdata,
        };
        DL_APPEND(spawner->calls, call);
        spawner->n_calls++;
        if (spawner->n_calls == 1)
                spawner_arm_deadline(spawner);
        *ret = call;
        return 0;
}
