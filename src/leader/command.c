/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "leader/command.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/text.h"

/* What the child says through the pipe when it cannot become the command. */
typedef struct Failure {
        LeaderStep step;
        int error;
} Failure;

void bounding_set_drop(int keep) {
        for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
                if (capability != keep)
                        (void) prctl(PR_CAPBSET_DROP, capability);
}

int privileges_drop(int keep) {
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return -errno;

        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
        if (keep >= 0) {
                struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3] = {};
                if (syscall(SYS_capget, &header, has) < 0)
                        return -errno;
                uint32_t bit = has[CAP_TO_INDEX(keep)].permitted & CAP_TO_MASK(keep);
                data[CAP_TO_INDEX(keep)].permitted = bit;
                data[CAP_TO_INDEX(keep)].effective = bit;
        }
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int become_user(const LeaderOrder *order) {
        if (order->uid == UINT32_MAX)
                return 0;
        /* Checked where the order comes from, too. But it is here that a mistake there would come true. */
        if (order->uid == 0 || order->uid == geteuid())
                return -EPERM;
        if (setresgid(order->gid, order->gid, order->gid) < 0 ||
            setresuid(order->uid, order->uid, order->uid) < 0)
                return -errno;
        return 0;
}

/* The OOM killer spares the spawner and the leader, which is to tell of its victims, but no task. Written
 * with CAP_SYS_RESOURCE, the score becomes the lowest that the process can choose for itself, too. A process
 * that is not dumpable may not open its own file. */
static int child_oom_score(const LeaderOrder *order) {
        if (order->uid == UINT32_MAX)
                return 0;
        (void) prctl(PR_SET_DUMPABLE, 1);
        _cleanup_(fd_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        int r = fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
        (void) prctl(PR_SET_DUMPABLE, 0);
        return r;
}

/* Keys of one's session keyring can be read whoever one has become. An account has a quota of keyrings (200);
 * above it the task keeps the spawner's own, which is empty. */
static void child_keyring(const LeaderOrder *order) {
        if (order->uid != UINT32_MAX)
                (void) syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

static int child_privileges(const LeaderOrder *order) {
        int r = privileges_drop(-1);
        if (r < 0)
                return r;
        if (order->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return 0;
}

/* Own session (no terminal, own process group), streams in place, everything else closed on exec. */
static int child_streams(void) {
        if (setsid() < 0)
                return -errno;
        if (dup2(LEADER_FD_STDIN, STDIN_FILENO) < 0)
                return -errno;
        if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                return -errno;
        return 0;
}

/* Asks the kernel directly: glibc keeps two signals to itself, and its posix_spawn() leaves them ignored
 * (2.36). */
static void child_signals(void) {
        const unsigned long
                        defaults[4] = {}; /* struct sigaction of the kernel: SIG_DFL, no flags, empty mask */
        for (int signal = 1; signal < _NSIG; signal++)
                (void) syscall(SYS_rt_sigaction,
                               signal,
                               defaults,
                               NULL,
                               _NSIG / 8); /* not SIGKILL, SIGSTOP */
        sigset_t none;
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static const char *environment_get(char *const *environment, const char *name) {
        for (; *environment; environment++) {
                const char *value = text_after(*environment, name);
                if (value && *value == '=')
                        return value + 1;
        }
        return NULL;
}

/* As execvpe() with the task's own PATH, but without its last resort of handing the file to a shell. An empty
 * directory in PATH is the current one, as POSIX has it. Returns errno. */
static int child_execute(const LeaderOrder *order) {
        const char *name = order->command[0];
        if (strchr(name, '/') || !*name) {
                (void) execve(name, order->command, order->environment);
                return errno;
        }
        int error = ENOENT;
        const char *directories = environment_get(order->environment, "PATH") ?: "";
        for (const char *p = directories; p;) {
                size_t length = strcspn(p, ":");
                char path[PATH_MAX];
                int n = snprintf(
                                path,
                                sizeof(path),
                                "%.*s/%s",
                                length > 0 ? (int) length : 1,
                                length > 0 ? p : ".",
                                name);
                p = p[length] ? p + length + 1 : NULL;
                if (n < 0 || (size_t) n >= sizeof(path))
                        continue;
                (void) execve(path, order->command, order->environment);
                if (errno == EACCES)
                        error = EACCES; /* there is one further on, perhaps; if not, that is the news */
                else if (errno != ENOENT && errno != ENOTDIR)
                        return errno;
        }
        return error;
}

/* Runs in the child; returns only on failure. */
static Failure child_become(const LeaderOrder *order) {
        int r = child_streams();
        if (r < 0)
                return (Failure){ LEADER_STEP_STDIO, -r };
        child_signals();
        r = child_oom_score(order); /* this and what follows while we still may */
        if (r < 0)
                return (Failure){ LEADER_STEP_PRIVILEGES, -r };
        bounding_set_drop(-1);
        if (order->uid != UINT32_MAX && setgroups(0, NULL) < 0)
                return (Failure){ LEADER_STEP_GROUPS, errno };
        r = become_user(order);
        if (r < 0)
                return (Failure){ LEADER_STEP_USER, -r };
        child_keyring(order);
        r = child_privileges(order);
        if (r < 0)
                return (Failure){ LEADER_STEP_PRIVILEGES, -r };
        (void) prctl(PR_SET_DUMPABLE, 1);
        (void) umask((mode_t) order->umask);
        if (chdir(*order->directory ? order->directory : "/") < 0 &&
            (!order->directory_optional || chdir("/") < 0))
                return (Failure){ LEADER_STEP_DIRECTORY, errno };

        return (Failure){ LEADER_STEP_EXEC, child_execute(order) };
}

int command_start(const LeaderOrder *order, pid_t *ret_pid, LeaderStep *reterr_step) {
        *reterr_step = LEADER_STEP_FORK;
        int pipe_fds[2];
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -errno;
        _cleanup_(fd_close) int reader = pipe_fds[0], writer = pipe_fds[1];

        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                Failure failure = child_become(order);
                (void) !write(writer, &failure, sizeof(failure));
                _exit(127);
        }

        fd_close(&writer);
        Failure failure = {};
        ssize_t n;
        do
                n = read(reader, &failure, sizeof(failure));
        while (n < 0 && errno == EINTR);
        if (n == 0) { /* closed by a successful exec */
                *ret_pid = pid;
                return 0;
        }
        (void) waitpid(pid, NULL, 0);
        *reterr_step = failure.step;
        return n == (ssize_t) sizeof(failure) ? -failure.error : -EIO;
}
