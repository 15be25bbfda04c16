/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/account-lookup.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/text.h"
#include "io/loop.h"

#define PROCESSES_MAX    64
#define ANSWER_BYTES_MAX (256 * 1024)

struct AccountLookup {
        pid_t pid; /* 0 once it was reaped */
        int pid_fd, answer_fd;
        sd_event_source *answer_source, *deadline_source, *exit_source;
        Text answer;
        AccountLookupHandler handler;
        void *userdata;
};

static unsigned n_processes;

static void lookup_destroy(AccountLookup *lookup) {
        text_done(&lookup->answer);
        fd_close(&lookup->answer_fd);
        fd_close(&lookup->pid_fd);
        free(lookup);
}

static void lookup_destroyp(void *userdata) {
        lookup_destroy(userdata);
}

static bool lookup_reap(AccountLookup *lookup) {
        if (lookup->pid > 0 && waitpid(lookup->pid, NULL, WNOHANG) == 0)
                return false;
        n_processes -= lookup->pid > 0;
        lookup->pid = 0;
        return true;
}

static int on_exit_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        AccountLookup *lookup = userdata;
        if (lookup_reap(lookup))
                (void) sd_event_source_set_floating(
                                source, false); /* whose destroy callback frees the lookup */
        return 0;
}

/* A process in the middle of an uninterruptible sleep dies when that ends. Until then the event source, which
 * the loop owns from now on, keeps what is needed to reap it. */
AccountLookup *account_lookup_free(AccountLookup *lookup) {
        if (!lookup)
                return NULL;
        event_source_dropp(&lookup->answer_source);
        event_source_dropp(&lookup->deadline_source);
        fd_close(&lookup->answer_fd);
        if (lookup->pid_fd >= 0)
                (void) syscall(SYS_pidfd_send_signal, lookup->pid_fd, SIGKILL, NULL, 0);
        if (lookup->exit_source && !lookup_reap(lookup) &&
            sd_event_source_set_destroy_callback(lookup->exit_source, lookup_destroyp) >= 0 &&
            sd_event_source_set_floating(lookup->exit_source, true) >= 0) {
                sd_event_source_unref(lookup->exit_source);
                return NULL;
        }
        event_source_dropp(&lookup->exit_source);
        lookup_destroy(lookup);
        return NULL;
}

static void lookup_finish(AccountLookup *lookup, int error, Account *account) {
        AccountLookupHandler handler = lookup->handler;
        void *userdata = lookup->userdata;
        account_lookup_free(lookup);
        handler(error, account, userdata);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        lookup_finish(userdata, -ETIMEDOUT, NULL);
        return 0;
}

/* The next field of an answer, NULL when there is none that ends within it. */
static const char *next_field(const Text *answer, size_t *offset) {
        const char *field = answer->data + *offset;
        const char *end = *offset < answer->size ? memchr(field, '\0', answer->size - *offset) : NULL;
        if (!end)
                return NULL;
        *offset += (size_t) (end - field) + 1;
        return field;
}

static int parse_number(const Text *answer, size_t *offset, uint64_t *ret) {
        const char *field = next_field(answer, offset);
        return field ? text_parse_u64(field, 0, UINT32_MAX, ret) : -EIO;
}

static int parse_string(const Text *answer, size_t *offset, char **ret) {
        const char *field = next_field(answer, offset);
        if (!field)
                return -EIO;
        *ret = strdup(field);
        return *ret ? 0 : -ENOMEM;
}

/* As src/account/main.c says it. */
static int parse_answer(const Text *answer, Account *ret) {
        Account account = {};
        size_t offset = 0;
        uint64_t error = 0, uid = 0, gid = 0;
        int r = parse_number(answer, &offset, &error);
        if (r < 0 || error > 0)
                return r < 0 ? -EIO : -(int) error;
        r = parse_string(answer, &offset, &account.name);
        if (r >= 0)
                r = parse_string(answer, &offset, &account.home);
        if (r >= 0)
                r = parse_string(answer, &offset, &account.shell);
        if (r >= 0)
                r = parse_number(answer, &offset, &uid);
        if (r >= 0)
                r = parse_number(answer, &offset, &gid);
        if (r < 0) {
                account_done(&account);
                return r;
        }
        account.uid = (uid_t) uid;
        account.gid = (gid_t) gid;
        *ret = account;
        return 0;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        AccountLookup *lookup = userdata;
        char piece[4096];
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        int r = n < 0 ? -errno : 0;
        if (n > 0 && lookup->answer.size + (size_t) n > ANSWER_BYTES_MAX)
                r = -EMSGSIZE;
        if (n > 0 && r >= 0)
                r = text_append_bytes(&lookup->answer, piece, (size_t) n);
        if (n > 0 && r >= 0)
                return 0;
        _cleanup_(account_done) Account account = {};
        if (r >= 0)
                r = parse_answer(&lookup->answer, &account);
        lookup_finish(lookup, r, &account);
        return 0;
}

/* With the descriptor ANSWER_FD as its stdout. */
static int execute(const char *executable, const char *name, int answer_fd, pid_t *ret_pid) {
        char program[] = "daggyr-account";
        char *const arguments[] = { program, (char *) name, NULL };
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
        int r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(&attributes, &all);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, answer_fd, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn(ret_pid, executable, &actions, &attributes, arguments, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        (void) posix_spawnattr_destroy(&attributes);
        return -r;
}

static int lookup_execute(AccountLookup *lookup, const char *executable, const char *name) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        lookup->answer_fd = fds[0];
        _cleanup_(fd_close) int theirs = fds[1];
        if (fcntl(lookup->answer_fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        int r = execute(executable, name, theirs, &lookup->pid);
        if (r < 0) {
                lookup->pid = 0;
                return r;
        }
        n_processes++;
        lookup->pid_fd = (int) syscall(SYS_pidfd_open, lookup->pid, 0);
        return lookup->pid_fd < 0 ? -errno : 0;
}

static int lookup_watch(AccountLookup *lookup, sd_event *event, usec_t timeout_usec) {
        int r = sd_event_add_io(event, &lookup->exit_source, lookup->pid_fd, EPOLLIN, on_exit_io, lookup);
        if (r >= 0)
                r = sd_event_source_set_enabled(lookup->exit_source, SD_EVENT_ONESHOT);
        if (r >= 0)
                r = sd_event_add_io(
                                event, &lookup->answer_source, lookup->answer_fd, EPOLLIN, on_answer, lookup);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(lookup->exit_source, "account-exit");
        (void) sd_event_source_set_description(lookup->answer_source, "account-answer");
        return loop_set_timer(
                        event,
                        &lookup->deadline_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), timeout_usec),
                        on_deadline,
                        lookup,
                        "account-deadline");
}

/* What was executed but cannot be watched is killed and waited for: it has not had the time to ask anybody.
 */
static void lookup_abandon(AccountLookup *lookup) {
        if (lookup->pid > 0 && !lookup->exit_source) {
                (void) kill(lookup->pid, SIGKILL);
                (void) waitpid(lookup->pid, NULL, 0);
                lookup->pid = 0;
                n_processes--;
        }
        account_lookup_free(lookup);
}

int account_lookup_start(
                sd_event *event,
                const char *executable,
                const char *name,
                usec_t timeout_usec,
                AccountLookupHandler handler,
                void *userdata,
                AccountLookup **ret) {
        if (n_processes >= PROCESSES_MAX)
                return -EAGAIN;
        AccountLookup *lookup = calloc(1, sizeof(*lookup));
        if (!lookup)
                return -ENOMEM;
        *lookup = (AccountLookup) {
                .pid_fd = -EBADF,
                .answer_fd = -EBADF,
                .handler = handler,
                .userdata = userdata,
        };
        int r = lookup_execute(lookup, executable, name);
        if (r >= 0)
                r = lookup_watch(lookup, event, timeout_usec);
        if (r < 0) {
                lookup_abandon(lookup);
                return r;
        }
        *ret = lookup;
        return 0;
}
