/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

/* The loop stands still until it has forked and answered, as it would if daggyr forked by itself; that takes
 * less than a millisecond, the first time as long as systemd takes to start it. Far from the watchdog's
 * patience. */
#define ANSWER_SEC 5

struct Spawner {
        int executable_fd; /* or */
        struct sockaddr_un address;
        struct rlimit descriptors; /* that the tasks are to have */
        int fd;                    /* the connection, -EBADF while there is none */
        pid_t pid;                 /* of a spawner of our own, or 0 */
};

static void spawner_disconnect(Spawner *spawner) {
        fd_close(&spawner->fd);
        if (spawner->pid <= 0)
                return;
        (void) kill(spawner->pid, SIGKILL); /* it would go by itself, but not if it hangs */
        (void) waitpid(spawner->pid, NULL, 0);
        spawner->pid = 0;
}

static int set_deadlines(int fd) {
        const struct timeval deadline = { .tv_sec = ANSWER_SEC };
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline)) < 0)
                return -errno;
        return 0;
}

/* Does not wait: systemd's end has a backlog, and a full one is a shortage (-EAGAIN). */
static int spawner_connect(Spawner *spawner) {
        _cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &spawner->address, sizeof(spawner->address)) < 0)
                return -errno;
        if (fcntl(fd, F_SETFL, 0) < 0)
                return -errno;
        int r = set_deadlines(fd);
        if (r < 0)
                return r;
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
        int r = set_deadlines(ours);
        if (r < 0)
                return r;

        struct rlimit own;
        if (getrlimit(RLIMIT_NOFILE, &own) < 0 || setrlimit(RLIMIT_NOFILE, &spawner->descriptors) < 0)
                return -errno;
        r = execute(spawner->executable_fd, theirs, &spawner->pid);
        (void) setrlimit(RLIMIT_NOFILE, &own);
        if (r < 0) {
                spawner->pid = 0;
                return r;
        }
        spawner->fd = TAKE_FD(ours);
        return 0;
}

static int spawner_ensure(Spawner *spawner) {
        if (spawner->fd >= 0)
                return 0;
        return *spawner->address.sun_path ? spawner_connect(spawner) : spawner_execute(spawner);
}

int spawner_new(const char *executable, const char *socket_path, Spawner **ret) {
        _cleanup_(spawner_freep) Spawner *spawner = calloc(1, sizeof(*spawner));
        if (!spawner)
                return -ENOMEM;
        *spawner = (Spawner){ .executable_fd = -EBADF, .fd = -EBADF, .address.sun_family = AF_UNIX };
        if (getrlimit(RLIMIT_NOFILE, &spawner->descriptors) < 0)
                return -errno;
        if (socket_path) {
                if (strlen(socket_path) >= sizeof(spawner->address.sun_path))
                        return -ENAMETOOLONG;
                memcpy(spawner->address.sun_path, socket_path, strlen(socket_path));
                int r = spawner_connect(spawner);
                if (r < 0)
                        return r;
        } else {
                spawner->executable_fd = open(executable, O_PATH | O_CLOEXEC);
                if (spawner->executable_fd < 0)
                        return -errno;
        }
        *ret = TAKE_PTR(spawner);
        return 0;
}

Spawner *spawner_free(Spawner *spawner) {
        if (!spawner)
                return NULL;
        spawner_disconnect(spawner);
        fd_close(&spawner->executable_fd);
        free(spawner);
        return NULL;
}

static int send_request(int fd, const int fds[static LEADER_N_FDS]) {
        union {
                char buffer[CMSG_SPACE(LEADER_N_FDS * sizeof(int))];
                struct cmsghdr alignment;
        } control = {};
        char version[] = SPAWN_REQUEST;
        struct iovec io = { .iov_base = version, .iov_len = sizeof(version) };
        struct msghdr message = {
                .msg_iov = &io,
                .msg_iovlen = 1,
                .msg_control = control.buffer,
                .msg_controllen = sizeof(control.buffer),
        };
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(LEADER_N_FDS * sizeof(int));
        memcpy(CMSG_DATA(head), fds, LEADER_N_FDS * sizeof(int));
        return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
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
        ssize_t n;
        do
                n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (n == 0)
                return -ECONNRESET;
        *ret_pid_fd = -EBADF;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (head && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int)))
                memcpy(ret_pid_fd, CMSG_DATA(head), sizeof(int));
        return n == (ssize_t) sizeof(*ret) ? 0 : -EPROTO;
}

/* Sends to a spawner that lives: one that was stopped, or replaced, has left a connection that is closed. */
static int spawner_request(Spawner *spawner, const int fds[static LEADER_N_FDS]) {
        int r = spawner_ensure(spawner);
        if (r >= 0)
                r = send_request(spawner->fd, fds);
        if (r != -EPIPE && r != -ECONNRESET)
                return r;
        spawner_disconnect(spawner);
        r = spawner_ensure(spawner);
        return r < 0 ? r : send_request(spawner->fd, fds);
}

int spawner_spawn(Spawner *spawner, const int fds[static LEADER_N_FDS], pid_t *ret_pid, int *ret_pid_fd) {
        SpawnReply reply;
        _cleanup_(fd_close) int pid_fd = -EBADF;
        int r = spawner_request(spawner, fds);
        if (r >= 0)
                r = receive_reply(spawner->fd, &reply, &pid_fd);
        if (r < 0) {
                /* Whether it has forked, or will, is not known: a leader whose sockets the caller closes ends
                 * by itself. The next attempt is another spawner's. */
                spawner_disconnect(spawner);
                return -EAGAIN;
        }
        if (reply.error != 0)
                return -reply.error;
        if (pid_fd < 0) /* no descriptor was left to receive it */
                return -EMFILE;
        *ret_pid = reply.pid;
        *ret_pid_fd = TAKE_FD(pid_fd);
        return 0;
}
