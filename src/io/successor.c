/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/text.h"
#include "io/loop.h"

/* Of what it says; the rest is not read. */
#define WORDS_MAX 1024

struct Successor {
        pid_t pid; /* 0 once it was reaped */
        int pid_fd, words_fd;
        sd_event_source *exit_source, *deadline_source;
        SuccessorHandler handler;
        void *userdata;
};

static void successor_destroy(Successor *successor) {
        fd_close(&successor->pid_fd);
        fd_close(&successor->words_fd);
        free(successor);
}

static void successor_destroyp(void *userdata) {
        successor_destroy(userdata);
}

static bool successor_reap(Successor *successor) {
        if (successor->pid > 0 && waitpid(successor->pid, NULL, WNOHANG) == 0)
                return false;
        successor->pid = 0;
        return true;
}

/* A process in the middle of an uninterruptible sleep dies when that ends. Until then the event source, which
 * the loop owns from now on, keeps what is needed to reap it. */
Successor *successor_free(Successor *successor) {
        if (!successor)
                return NULL;
        event_source_dropp(&successor->deadline_source);
        successor->handler = NULL;
        if (successor->pid > 0)
                (void) kill(successor->pid, SIGKILL);
        if (successor->exit_source && !successor_reap(successor) &&
            sd_event_source_set_destroy_callback(successor->exit_source, successor_destroyp) >= 0 &&
            sd_event_source_set_floating(successor->exit_source, true) >= 0) {
                sd_event_source_unref(successor->exit_source);
                return NULL;
        }
        event_source_dropp(&successor->exit_source);
        successor_destroy(successor);
        return NULL;
}

static void successor_finish(Successor *successor, const char *refusal) {
        SuccessorHandler handler = successor->handler;
        void *userdata = successor->userdata;
        successor_free(successor);
        handler(refusal, userdata);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        successor_finish(userdata, "the installed program gave no answer in time");
        return 0;
}

/* Its last line without the end, for that is the one on which it failed. */
static char *last_line(char *words) {
        size_t n = strlen(words);
        while (n > 0 && words[n - 1] == '\n')
                words[--n] = '\0';
        char *line = strrchr(words, '\n');
        return line ? line + 1 : words;
}

/* NULL, or why it cannot, in REASON. */
static const char *judge(const siginfo_t *info, char words[static WORDS_MAX + 1], Text *reason) {
        bool exited = info->si_code == CLD_EXITED;
        if (exited && info->si_status == 0 && streq(words, SUCCESSOR_ASSENT))
                return NULL;
        int r = text_append(reason, "the installed program cannot take over: ");
        if (r >= 0 && !exited)
                r = text_appendf(
                                reason,
                                "it was ended by signal %d (%s)",
                                info->si_status,
                                strsignal(info->si_status));
        else if (r >= 0 && *last_line(words))
                r = text_append(reason, last_line(words));
        else if (r >= 0)
                r = text_appendf(reason, "it exited with status %d", info->si_status);
        return r < 0 ? "the installed program cannot take over" : reason->data;
}

static int on_exit_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Successor *successor = userdata;
        if (!successor->handler) { /* killed before: the destroy callback frees the rest */
                if (successor_reap(successor))
                        (void) sd_event_source_set_floating(source, false);
                return 0;
        }
        siginfo_t info = {};
        if (waitid(P_PID, (id_t) successor->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return 0;
        successor->pid = 0;
        char words[WORDS_MAX + 1];
        ssize_t n = read(successor->words_fd, words, WORDS_MAX);
        words[n > 0 ? n : 0] = '\0';
        _cleanup_(text_done) Text reason = {};
        successor_finish(successor, judge(&info, words, &reason));
        return 0;
}

static void reset_signals(void) {
        sigset_t none;
        sigemptyset(&none);
        for (int number = 1; number < NSIG; number++)
                (void) signal(number, SIG_DFL); /* there are some that cannot be set */
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Of the child. Its words are all that is heard of it. */
static _Noreturn void become(const char *path, char *const *arguments, int state_fd, int words_fd) {
        reset_signals();
        if (dup2(state_fd, STDIN_FILENO) >= 0 && dup2(words_fd, STDOUT_FILENO) >= 0 &&
            dup2(words_fd, STDERR_FILENO) >= 0)
                (void) execv(path, arguments);
        (void) dprintf(words_fd, "it cannot be executed: %s\n", strerror(errno));
        _exit(EXIT_FAILURE);
}

/* fork(), for the kernel may take any time to execute a program, and whoever calls vfork() or posix_spawn()
 * waits for that. */
static int execute(const char *path, char *const *arguments, int state_fd, int words_fd, pid_t *ret_pid) {
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                become(path, arguments, state_fd, words_fd);
        *ret_pid = pid;
        return 0;
}

static int successor_watch(Successor *successor, sd_event *event, usec_t timeout_usec) {
        successor->pid_fd = (int) syscall(SYS_pidfd_open, successor->pid, 0);
        if (successor->pid_fd < 0)
                return -errno;
        int r = sd_event_add_io(
                        event, &successor->exit_source, successor->pid_fd, EPOLLIN, on_exit_io, successor);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(successor->exit_source, "successor-exit");
        return loop_set_timer(
                        event,
                        &successor->deadline_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), timeout_usec),
                        on_deadline,
                        successor,
                        "successor-deadline");
}

int successor_ask(
                sd_event *event,
                const char *path,
                char *const *arguments,
                int state_fd,
                usec_t timeout_usec,
                SuccessorHandler handler,
                void *userdata,
                Successor **ret) {
        _cleanup_(successor_freep) Successor *successor = calloc(1, sizeof(*successor));
        if (!successor)
                return -ENOMEM;
        *successor = (Successor) {
                .pid_fd = -EBADF,
                .words_fd = -EBADF,
                .handler = handler,
                .userdata = userdata,
        };
        int fds[2];
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        successor->words_fd = fds[0];
        _cleanup_(fd_close) int theirs = fds[1];
        int r = execute(path, arguments, state_fd, theirs, &successor->pid);
        if (r >= 0)
                r = successor_watch(successor, event, timeout_usec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(successor);
        return 0;
}
