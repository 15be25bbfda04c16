/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/usec.h"
#include "io/loop.h"

#define N_SIGNALS 4 /* SIGTERM, SIGINT, SIGHUP, SIGUSR2 */

struct ProcessSignals {
        const ProcessHandlers *handlers;
        void *userdata;
        sd_event_source *sources[N_SIGNALS];
};

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        ProcessSignals *signals = userdata;
        signals->handlers->stop(signals->userdata);
        return 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        ProcessSignals *signals = userdata;
        (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, usec_now(CLOCK_MONOTONIC));
        int r = signals->handlers->reload(signals->userdata);
        if (r != -EINPROGRESS)
                process_reload_done(r);
        return 0;
}

static int on_upgrade(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        ProcessSignals *signals = userdata;
        signals->handlers->upgrade(signals->userdata);
        return 0;
}

void process_reload_done(int error) {
        log_line(LOG_INFO, error < 0 ? "Keeping the configuration as it was" : "Configuration reloaded");
        (void) sd_notify(false, "READY=1");
}

static int watch_signal(
                sd_event *event,
                ProcessSignals *signals,
                size_t i,
                int signal,
                sd_event_signal_handler_t handler) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, signal);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return sd_event_add_signal(event, &signals->sources[i], signal, handler, signals);
}

int process_watch_signals(
                sd_event *event,
                const ProcessHandlers *handlers,
                void *userdata,
                ProcessSignals **ret) {
        _cleanup_(process_signals_freep) ProcessSignals *signals = calloc(1, sizeof(*signals));
        if (!signals)
                return -ENOMEM;
        signals->handlers = handlers;
        signals->userdata = userdata;
        int r = watch_signal(event, signals, 0, SIGTERM, on_stop);
        if (r >= 0)
                r = watch_signal(event, signals, 1, SIGINT, on_stop);
        if (r >= 0)
                r = watch_signal(event, signals, 2, SIGHUP, on_reload);
        if (r >= 0 && handlers->upgrade)
                r = watch_signal(event, signals, 3, SIGUSR2, on_upgrade);
        if (r < 0)
                return r;
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        *ret = TAKE_PTR(signals);
        return 0;
}

ProcessSignals *process_signals_free(ProcessSignals *signals) {
        if (!signals)
                return NULL;
        for (size_t i = 0; i < N_SIGNALS; i++)
                event_source_dropp(&signals->sources[i]);
        free(signals);
        return NULL;
}

uint64_t process_raise_descriptor_limit(void) {
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return 1024;
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
        return limit.rlim_cur;
}

const char *process_spool_directory(void) {
        return getenv("CACHE_DIRECTORY") ?: getenv("TMPDIR") ?: "/var/tmp";
}

size_t process_count_descriptors(void) {
        size_t n = 0;
        DIR *directory = opendir("/proc/self/fd");
        if (!directory)
                return 0;
        while (readdir(directory))
                n++;
        (void) closedir(directory);
        return n > 3 ? n - 3 : 0; /* ".", ".." and the one that reads them */
}

/* Above all places that sockets go to, so that none is overwritten on its way there. */
static int lift_sockets(const int *sockets, size_t n, int *ret_lifted) {
        for (size_t i = 0; i < n; i++) {
                int fd = fcntl(sockets[i], F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START + (int) n);
                if (fd < 0)
                        return -errno;
                ret_lifted[i] = fd;
        }
        return 0;
}

static int set_number(const char *name, uint64_t number) {
        char text[sizeof("18446744073709551615")];
        (void) snprintf(text, sizeof(text), "%" PRIu64, number);
        return setenv(name, text, 1) < 0 ? -errno : 0;
}

int process_execute_anew(char *const *arguments, const int *sockets, size_t n) {
        _cleanup_(freep) int *lifted = calloc(n + 1, sizeof(int));
        if (!lifted)
                return -ENOMEM;
        int r = lift_sockets(sockets, n, lifted);
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (dup2(lifted[i], SD_LISTEN_FDS_START + (int) i) < 0)
                        r = -errno;
        if (r >= 0)
                r = set_number("LISTEN_FDS", n);
        if (r >= 0)
                r = set_number("LISTEN_PID", (uint64_t) getpid());
        if (r < 0)
                return r;
        (void) unsetenv("LISTEN_FDNAMES");
        (void) execv("/proc/self/exe", arguments);
        return -errno;
}
