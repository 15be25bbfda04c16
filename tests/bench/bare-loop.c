/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What launching costs at the very least: processes in transient scopes, limited as a task is, and nothing
 * else around them. Forks /bin/true parked, asks systemd for a scope over the system bus, awaits JobRemoved,
 * lets the child go and reaps it.
 *
 *   bare-loop COUNT IN_FLIGHT [SLICE]      prints one line of JSON; run as root */

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/usec.h"
#include "io/loop.h"

#define MEMORY_MAX_BYTES (UINT64_C(64) << 20)
#define IN_FLIGHT_MAX    100 /* dbus-daemon refuses more than 128 pending replies */
#define DEADLINE_USEC    (120 * USEC_PER_SEC)
#define SCOPES_ENDED_MAX 64 /* that systemd has not removed yet */
#define SCOPE_LOOK_USEC  (1 * USEC_PER_MSEC)
#define SCOPE_NAME_SIZE  64
#define SLICE_DEFAULT    "system.slice"

typedef struct Loop Loop;

typedef struct Launch {
        Loop *loop;
        char unit[SCOPE_NAME_SIZE];
        pid_t pid;
        int go_fd; /* the child goes when it is closed */
        bool released;
        usec_t start_usec;
} Launch;

struct Loop {
        sd_event *event;
        sd_bus *bus;
        const char *slice;
        uint64_t n, n_started, n_ended, n_in_flight_max;
        usec_t *latencies_usec; /* in order of the ends */
        sd_event_source *look_source;
        Launch launches[IN_FLIGHT_MAX];
};

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "bare-loop: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

static usec_t now(void) {
        return usec_now(CLOCK_MONOTONIC);
}

static void unit_name(uint64_t number, char ret[static SCOPE_NAME_SIZE]) {
        (void) snprintf(ret, SCOPE_NAME_SIZE, "bare-loop-%d-%" PRIu64 ".scope", (int) getpid(), number);
}

/* Whether systemd still has the cgroup of a scope. */
static bool scope_exists(const Loop *loop, uint64_t number) {
        static const char *const tops[] = { "/sys/fs/cgroup/systemd", "/sys/fs/cgroup" };
        char unit[SCOPE_NAME_SIZE], path[256];
        unit_name(number, unit);
        for (size_t i = 0; i < sizeof(tops) / sizeof(*tops); i++) {
                (void) snprintf(path, sizeof(path), "%s/%s/%s", tops[i], loop->slice, unit);
                if (access(path, F_OK) == 0)
                        return true;
        }
        return false;
}

static void release(Launch *launch) {
        launch->released = true;
        (void) close(launch->go_fd);
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        if (sd_bus_message_is_method_error(reply, NULL)) {
                (void) fprintf(stderr, "bare-loop: %s\n", sd_bus_message_get_error(reply)->message);
                exit(EXIT_FAILURE);
        }
        return 0;
}

/* The cgroup has the process only now. */
static int on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        Loop *loop = userdata;
        const char *job, *unit, *result;
        uint32_t id;
        check(sd_bus_message_read(signal, "uoss", &id, &job, &unit, &result), "JobRemoved");
        for (uint64_t i = 0; i < loop->n_in_flight_max; i++) {
                Launch *launch = &loop->launches[i];
                if (launch->pid <= 0 || launch->released || !streq(launch->unit, unit))
                        continue;
                if (!streq(result, "done"))
                        check(-EIO, result);
                release(launch);
        }
        return 0;
}

static pid_t fork_parked(int *ret_go_fd) {
        int fds[2];
        check(pipe2(fds, O_CLOEXEC) < 0 ? -errno : 0, "pipe");
        pid_t pid = fork();
        check(pid < 0 ? -errno : 0, "fork");
        if (pid == 0) {
                char *const arguments[] = { (char *) "true", NULL }, *const environment[] = { NULL };
                sigset_t none;
                sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                (void) close(fds[1]);
                (void) !read(fds[0], &(char) { 0 }, 1);
                (void) execve("/bin/true", arguments, environment);
                _exit(127);
        }
        (void) close(fds[0]);
        *ret_go_fd = fds[1];
        return pid;
}

static void ask_for_scope(Loop *loop, Launch *launch) {
        int r = sd_bus_call_method_async(
                        loop->bus,
                        NULL,
                        "org.freedesktop.systemd1",
                        "/org/freedesktop/systemd1",
                        "org.freedesktop.systemd1.Manager",
                        "StartTransientUnit",
                        on_reply,
                        launch,
                        "ssa(sv)a(sa(sv))",
                        launch->unit,
                        "fail",
                        5,
                        "Slice",
                        "s",
                        loop->slice,
                        "CollectMode",
                        "s",
                        "inactive-or-failed",
                        "CPUQuotaPerSecUSec",
                        "t",
                        USEC_PER_SEC,
                        "MemoryMax",
                        "t",
                        MEMORY_MAX_BYTES,
                        "PIDs",
                        "au",
                        1,
                        (uint32_t) launch->pid,
                        0);
        check(r, "StartTransientUnit");
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata);

static void start_one(Loop *loop, Launch *launch) {
        launch->loop = loop;
        unit_name(loop->n_started++, launch->unit);
        launch->start_usec = now();
        launch->released = false;
        launch->pid = fork_parked(&launch->go_fd);
        check(sd_event_add_child(loop->event, NULL, launch->pid, WEXITED, on_child, launch), "add child");
        ask_for_scope(loop, launch);
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata);

/* systemd is given time to remove ended scopes when too many have piled up. */
static void start_more(Loop *loop) {
        for (uint64_t i = 0; i < loop->n_in_flight_max && loop->n_started < loop->n; i++) {
                Launch *launch = &loop->launches[i];
                if (launch->pid > 0)
                        continue;
                uint64_t back = SCOPES_ENDED_MAX + loop->n_in_flight_max;
                if (loop->n_started >= back && scope_exists(loop, loop->n_started - back)) {
                        usec_t when = usec_add(usec_now(CLOCK_BOOTTIME), SCOPE_LOOK_USEC);
                        check(loop_set_timer(loop->event, &loop->look_source, when, on_look, loop, "look"),
                              "set timer");
                        return;
                }
                start_one(loop, launch);
        }
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        start_more(userdata);
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata) {
        Launch *launch = userdata;
        Loop *loop = launch->loop;
        if (!launch->released || info->si_code != CLD_EXITED || info->si_status != 0)
                check(-ECHILD, "a child ended otherwise than it should");
        loop->latencies_usec[loop->n_ended++] = now() - launch->start_usec;
        launch->pid = 0;
        (void) sd_event_source_unref(source);
        if (loop->n_ended == loop->n)
                return sd_event_exit(loop->event, 0);
        start_more(loop);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        check(-ETIMEDOUT, "not all tasks ended");
        return 0;
}

static int compare_usec(const void *a, const void *b) {
        usec_t x = *(const usec_t *) a, y = *(const usec_t *) b;
        return (x > y) - (x < y);
}

static double cpu_msec(int who) {
        struct rusage usage;
        check(getrusage(who, &usage) < 0 ? -errno : 0, "getrusage");
        return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                        (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static void print_outcome(Loop *loop, usec_t took_usec) {
        qsort(loop->latencies_usec, loop->n, sizeof(usec_t), compare_usec);
        printf("{\"count\": %" PRIu64
               ", \"seconds\": %.6f, \"rate\": %.2f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
               "\"own_cpu_ms\": %.3f, \"children_cpu_ms\": %.3f}\n",
               loop->n,
               (double) took_usec / 1e6,
               (double) loop->n * 1e6 / (double) took_usec,
               (double) loop->latencies_usec[loop->n / 2] / 1e3,
               (double) loop->latencies_usec[loop->n * 99 / 100] / 1e3,
               cpu_msec(RUSAGE_SELF),
               cpu_msec(RUSAGE_CHILDREN));
}

static void connect_to_systemd(Loop *loop) {
        check(sd_bus_open_system(&loop->bus), "open the system bus");
        check(sd_bus_match_signal(
                              loop->bus,
                              NULL,
                              "org.freedesktop.systemd1",
                              "/org/freedesktop/systemd1",
                              "org.freedesktop.systemd1.Manager",
                              "JobRemoved",
                              on_job_removed,
                              loop),
              "match JobRemoved");
        check(sd_bus_attach_event(loop->bus, loop->event, 0), "attach the bus");
}

int main(int argc, char **argv) {
        static Loop loop;
        loop.n = argc >= 3 ? strtoull(argv[1], NULL, 10) : 0;
        loop.n_in_flight_max = argc >= 3 ? strtoull(argv[2], NULL, 10) : 0;
        loop.slice = argc >= 4 ? argv[3] : SLICE_DEFAULT;
        if (loop.n == 0 || loop.n_in_flight_max == 0 || loop.n_in_flight_max > IN_FLIGHT_MAX) {
                (void) fprintf(stderr, "Usage: bare-loop COUNT IN_FLIGHT [SLICE]\n");
                return EXIT_FAILURE;
        }
        loop.latencies_usec = calloc(loop.n, sizeof(usec_t));
        check(loop.latencies_usec ? 0 : -ENOMEM, "allocate");

        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &blocked, NULL);
        check(sd_event_new(&loop.event), "event loop");
        check(sd_event_add_time_relative(
                              loop.event, NULL, CLOCK_BOOTTIME, DEADLINE_USEC, 0, on_deadline, NULL),
              "deadline");
        connect_to_systemd(&loop);

        usec_t start_usec = now();
        start_more(&loop);
        check(sd_event_loop(loop.event), "loop");
        print_outcome(&loop, now() - start_usec);
        return EXIT_SUCCESS;
}
