/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr-leader, as executed: the spawner. It has a connection to daggyr for its stdin, forks a leader
 * whenever daggyr sends the descriptors for one, and exits with the connection. Nothing is executed for a
 * leader, so a start costs no more CPU than when daggyr executed them itself.
 *
 * It reads nothing of what a client sent. That it is a process of its own is for the daemon's sandbox: system
 * call filters and mount namespaces pass on to children, and a task is to find what any process of its
 * account finds. */

#include <assert.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/send-fds.h"
#include "core/wire/leader-protocol.h"
#include "leader/accounts.h"
#include "leader/command.h"
#include "leader/leader.h"

/* The first number that no leader's own descriptor has. */
#define OWN_FD_MIN (LEADER_FD_FEED + 1)

typedef struct SpawnerState {
        int connection_fd, epoll_fd;
        struct rlimit descriptors; /* as found, for the tasks */
} SpawnerState;

/* One for each leader: its feed, which closes when daggyr has finished with it, then its pidfd. In an
 * epoll_event's 64 bits, so that nothing has to be allocated; a pid is never 0. */
typedef struct Watch {
        int32_t pid;
        int32_t fd;
} Watch;

static_assert(sizeof(Watch) == sizeof(uint64_t), "a Watch must fit");

static int watch_add(const SpawnerState *state, Watch watch, uint32_t events) {
        struct epoll_event event = { .events = events };
        memcpy(&event.data.u64, &watch, sizeof(watch));
        return epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, watch.fd, &event) < 0 ? -errno : 0;
}

/* daggyr has closed its end of the feed, or the leader has ended after that: the pid may be given away. */
static void watch_fired(const SpawnerState *state, Watch watch) {
        /* Leaders share the description, so that closing it here would not end the watch. */
        (void) epoll_ctl(state->epoll_fd, EPOLL_CTL_DEL, watch.fd, NULL);
        (void) close(watch.fd);
        if (waitpid(watch.pid, NULL, WNOHANG) != 0)
                return;
        watch.fd = (int) syscall(SYS_pidfd_open, watch.pid, 0);
        if (watch.fd < 0 || watch_add(state, watch, EPOLLIN) < 0) {
                fd_close(&watch.fd);
                (void) waitpid(watch.pid, NULL, 0); /* it was killed, or sees the end of its socket */
        }
}

/* Descriptor numbers up to LEADER_FD_FEED are taken by /dev/null in the spawner, so no dup2() hits one of
 * FDS. */
static _Noreturn void become_leader(const SpawnerState *state, const int fds[static LEADER_N_FDS]) {
        static const int places[LEADER_N_FDS] = {
                [LEADER_STDOUT] = STDOUT_FILENO,      [LEADER_STDERR] = STDERR_FILENO,
                [LEADER_CONTROL] = LEADER_FD_CONTROL, [LEADER_ORDER] = LEADER_FD_ORDER,
                [LEADER_STDIN] = LEADER_FD_STDIN,     [LEADER_FEED] = LEADER_FD_FEED,
        };
        for (size_t i = 0; i < LEADER_N_FDS; i++)
                if (dup2(fds[i], places[i]) < 0)
                        _exit(EXIT_FAILURE);
        if (syscall(SYS_close_range, OWN_FD_MIN, ~0U, 0) < 0 || setsid() < 0 ||
            setrlimit(RLIMIT_NOFILE, &state->descriptors) < 0)
                _exit(EXIT_FAILURE);
        leader_main();
}

/* A negative errno, or 0 with the leader's pid and pidfd. */
static int fork_leader(
                const SpawnerState *state,
                int fds[static LEADER_N_FDS],
                pid_t *ret_pid,
                int *ret_pid_fd) {
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                become_leader(state, fds);
        int r = 0;
        _cleanup_(fd_close) int pid_fd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (pid_fd < 0)
                r = -errno;
        if (r >= 0)
                r = watch_add(state, (Watch) { .pid = pid, .fd = fds[LEADER_FEED] }, 0);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                return r;
        }
        fds[LEADER_FEED] = -EBADF; /* the watch has it */
        *ret_pid = pid;
        *ret_pid_fd = TAKE_FD(pid_fd);
        return 0;
}

static void reply(const SpawnerState *state, const SpawnReply *answer, int pid_fd) {
        /* Not heard is daggyr gone: the next turn of the loop finds that out. */
        (void) send_fds(state->connection_fd, answer, sizeof(*answer), &pid_fd, pid_fd >= 0 ? 1 : 0, 0);
}

static void close_all(int (*fds)[LEADER_N_FDS]) {
        for (size_t i = 0; i < LEADER_N_FDS; i++)
                fd_close(&(*fds)[i]);
}

/* 1 with all descriptors of a request, 0 at the connection's end, -EPROTO for anything else: the kernel has
 * then closed what did not fit, or the caller does. */
static int receive(const SpawnerState *state, int fds[static LEADER_N_FDS]) {
        union {
                char buffer[CMSG_SPACE(LEADER_N_FDS * sizeof(int))];
                struct cmsghdr alignment;
        } control = {};
        char request[sizeof(SPAWN_REQUEST)];
        struct iovec io = { .iov_base = request, .iov_len = sizeof(request) };
        struct msghdr message = {
                .msg_iov = &io,
                .msg_iovlen = 1,
                .msg_control = control.buffer,
                .msg_controllen = sizeof(control.buffer),
        };
        ssize_t n = recvmsg(state->connection_fd, &message, MSG_CMSG_CLOEXEC);
        if (n <= 0)
                return n < 0 && errno == EINTR ? -EPROTO : 0;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (!head || head->cmsg_type != SCM_RIGHTS)
                return -EPROTO;
        size_t n_fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(head), n_fds * sizeof(int));
        bool is_ours = n == sizeof(request) && memcmp(request, SPAWN_REQUEST, sizeof(request)) == 0;
        if (message.msg_flags & MSG_CTRUNC) /* no descriptors left here */
                return -EMFILE;
        return is_ours && !(message.msg_flags & MSG_TRUNC) && n_fds == LEADER_N_FDS ? 1 : -EPROTO;
}

/* False at the connection's end. */
static bool serve(const SpawnerState *state) {
        _cleanup_(close_all) int fds[LEADER_N_FDS] = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF };
        _cleanup_(fd_close) int pid_fd = -EBADF;
        pid_t pid = 0;
        int r = receive(state, fds);
        if (r == 0)
                return false;
        if (r > 0)
                r = fork_leader(state, fds, &pid, &pid_fd);
        reply(state, &(SpawnReply) { .error = r < 0 ? -r : 0, .pid = pid }, pid_fd);
        return true;
}

static void spawner_run(const SpawnerState *state) {
        for (;;) {
                struct epoll_event event;
                int n = epoll_wait(state->epoll_fd, &event, 1, -1);
                if (n < 0 && errno != EINTR)
                        return;
                if (n <= 0)
                        continue;
                Watch watch;
                memcpy(&watch, &event.data.u64, sizeof(watch));
                if (watch.pid > 0)
                        watch_fired(state, watch);
                else if (!serve(state))
                        return;
        }
}

static int spawner_init(SpawnerState *state) {
        int type;
        socklen_t size = sizeof(type);
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET)
                return -ENOTSOCK;
        state->connection_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, OWN_FD_MIN);
        state->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (state->connection_fd < 0 || state->epoll_fd < 0)
                return -errno;
        if (state->epoll_fd < OWN_FD_MIN) {
                int high = fcntl(state->epoll_fd, F_DUPFD_CLOEXEC, OWN_FD_MIN);
                (void) close(state->epoll_fd);
                if (high < 0)
                        return -errno;
                state->epoll_fd = high;
        }
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < OWN_FD_MIN && null_fd >= 0; fd++)
                if (fd != null_fd && fd != STDERR_FILENO && dup2(null_fd, fd) < 0)
                        return -errno;
        if (null_fd < 0 || (null_fd >= OWN_FD_MIN && close(null_fd) < 0))
                return -errno;
        return watch_add(state, (Watch) { .fd = state->connection_fd }, EPOLLIN);
}

/* A descriptor for each leader, of which there may be thousands. */
static int raise_descriptor_limit(SpawnerState *state) {
        if (getrlimit(RLIMIT_NOFILE, &state->descriptors) < 0)
                return -errno;
        const struct rlimit most = { state->descriptors.rlim_max, state->descriptors.rlim_max };
        return setrlimit(RLIMIT_NOFILE, &most) < 0 ? -errno : 0;
}

int main(void) {
        SpawnerState state;
        int r = spawner_init(&state);
        if (r >= 0)
                r = raise_descriptor_limit(&state);
        /* Started from a shell of root: tasks must not get at root's keys. A service has a keyring of its
         * own. */
        if (geteuid() == 0)
                (void) syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        /* Not traceable by anybody of the same account, and no core dumps with its memory in them. */
        if (r < 0 || prctl(PR_SET_DUMPABLE, 0) < 0) {
                (void) fprintf(stderr,
                               "daggyr-leader is executed for daggyr; it is no command of its own.\n");
                return EXIT_FAILURE;
        }
        /* Once here, and so for every leader and command: none of them executes anything else. */
        signals_reset();
        bounding_set_drop(-1);
        accounts_load();
        (void) prctl(PR_SET_NAME, "daggyr-spawner");
        spawner_run(&state);
        return EXIT_SUCCESS;
}
