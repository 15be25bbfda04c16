/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "leader/command.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "leader/accounts.h"

/* Why the child could not become the command. */
typedef struct Failure {
        LeaderStep step;
        int error;
} Failure;

void bounding_set_drop(int keep) {
        for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
                if (capability != keep)
                        (void) prctl(PR_CAPBSET_DROP, capability);
}

/* Asks the kernel directly: glibc keeps two signals to itself, and its posix_spawn() leaves them ignored
 * (2.36). */
void signals_reset(void) {
        const unsigned long
                        defaults[4] = {}; /* struct sigaction of the kernel: SIG_DFL, no flags, empty mask */
        for (int signal = 1; signal < _NSIG; signal++)
                (void) syscall(SYS_rt_sigaction,
                               signal,
                               defaults,
                               NULL,
                               _NSIG / 8); /* not SIGKILL, SIGSTOP */
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

/* How much likelier than its leader the command of a user's own daggyr is to be the OOM killer's victim. */
#define OOM_SCORE_ABOVE_LEADER 300
#define OOM_SCORE_MAX          1000

/* The leader is to tell of the OOM killer's victims, and so must not be one. That of the service is spared,
 * and no command: written with CAP_SYS_RESOURCE, the score becomes the lowest that the process can choose for
 * itself, too. Without that capability a process may only raise its score, which the command of a user's
 * daggyr does. */
static int oom_score_write(const LeaderOrder *order) {
        _cleanup_(fd_close) int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
        char text[32] = "0";
        if (fd < 0)
                return -errno;
        if (order->uid == UINT32_MAX) {
                ssize_t n = read(fd, text, sizeof(text) - 1);
                if (n < 0)
                        return -errno;
                text[n] = '\0';
                long score = strtol(text, NULL, 10) + OOM_SCORE_ABOVE_LEADER;
                (void) snprintf(text, sizeof(text), "%ld", score < OOM_SCORE_MAX ? score : OOM_SCORE_MAX);
        }
        return pwrite(fd, text, strlen(text), 0) < 0 ? -errno : 0;
}

/* A process that is not dumpable may not open its own files in /proc. */
static int child_oom_score(const LeaderOrder *order) {
        (void) prctl(PR_SET_DUMPABLE, 1);
        int r = oom_score_write(order);
        (void) prctl(PR_SET_DUMPABLE, 0);
        return order->uid == UINT32_MAX ? 0 :
                                          r; /* for a user's daggyr it is not what keeps tasks in bounds */
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
        /* Another account never gains privileges, whatever the order says. */
        bool is_final = order->no_new_privileges || order->uid != UINT32_MAX;
        if (is_final && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
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

/* Whether FD is a pipe or an anonymous file, which daggyr has made for this task, and nothing of the host's
 * that others use as well, such as /dev/null. */
static bool is_made_for_task(int fd) {
        struct stat st;
        return fstat(fd, &st) >= 0 && (S_ISFIFO(st.st_mode) || (S_ISREG(st.st_mode) && st.st_nlink == 0));
}

/* A program that opens /dev/stdout opens the pipe anew, which only its owner may. Daggyr has made it, but it
 * is to be the task's account's, and nobody else's. */
static int child_own_streams(const LeaderOrder *order) {
        if (order->uid == UINT32_MAX)
                return 0;
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (is_made_for_task(fd) && fchown(fd, order->uid, order->gid) < 0)
                        return -errno;
        return 0;
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

/* Runs in the child; returns only on failure. The child has the leader's memory, and so may do nothing but
 * calls to the kernel and what takes a stack. */
static Failure child_become(const LeaderOrder *order) {
        int r = child_streams();
        if (r >= 0)
                r = child_own_streams(order);
        if (r < 0)
                return (Failure) { LEADER_STEP_STDIO, -r };
        sigset_t none;
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        r = child_oom_score(order); /* this and what follows while we still may */
        if (r < 0)
                return (Failure) { LEADER_STEP_PRIVILEGES, -r };
        if (order->uid != UINT32_MAX && setgroups(0, NULL) < 0)
                return (Failure) { LEADER_STEP_GROUPS, errno };
        r = become_user(order);
        if (r < 0)
                return (Failure) { LEADER_STEP_USER, -r };
        child_keyring(order);
        r = child_privileges(order);
        if (r < 0)
                return (Failure) { LEADER_STEP_PRIVILEGES, -r };
        (void) prctl(PR_SET_DUMPABLE, 1);
        (void) umask((mode_t) order->umask);
        if (chdir(*order->directory ? order->directory : "/") < 0 &&
            (!order->directory_optional || chdir("/") < 0))
                return (Failure) { LEADER_STEP_DIRECTORY, errno };

        return (Failure) { LEADER_STEP_EXEC, child_execute(order) };
}

/* vfork(), since a copy of the page tables, and a fault for each page that either process then writes to,
 * would cost more than all else that a task costs here (measured: 3 ms of 11 for /bin/true, on a virtual
 * machine with dear page faults). The leader stands still until the command is executed; one that hangs in
 * that is killed by its daemon's leave, through systemd. */
/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): with all that in mind */
int command_start(const LeaderOrder *order, pid_t *ret_pid, LeaderStep *reterr_step) {
        static volatile Failure failure; /* the child's, and so ours */
        failure = (Failure) {};
        int r = order->uid == UINT32_MAX ? 0 : accounts_check(order->uid, order->gid);
        if (r < 0) {
                *reterr_step = LEADER_STEP_USER;
                return r;
        }
        pid_t pid = vfork(); /* NOLINT(bugprone-unsafe-functions) */
        if (pid < 0) {
                *reterr_step = LEADER_STEP_FORK;
                return -errno;
        }
        if (pid == 0) {
                failure = child_become(order);
                _exit(127);
        }
        /* What the child said of its memory it said of ours. */
        (void) prctl(PR_SET_DUMPABLE, 0);
        if (failure.error == 0) {
                *ret_pid = pid;
                return 0;
        }
        (void) waitpid(pid, NULL, 0);
        *reterr_step = failure.step;
        return -failure.error;
}
/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */
