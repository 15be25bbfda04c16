/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/upgrade.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "io/loop.h"
#include "io/sealed-file.h"
#include "io/successor.h"
#include "runner/routes.h"
#include "runner/runner-internal.h"
#include "runner/task-output.h"
#include "runner/task.h"

#define TICK_USEC (5 * USEC_PER_MSEC)

/* What is in the middle of a start gets so long to come out of it. What takes longer is carried over as it
 * is, where that can be. */
#define SETTLE_USEC (1 * USEC_PER_SEC)

/* Then what cannot be carried over ends the attempt. */
#define SETTLE_MAX_USEC (6 * USEC_PER_SEC)

#define ANSWER_USEC (10 * USEC_PER_SEC)

/* A client that reads its answer slowly, and a request that is not answered yet, may hold it up so long. */
#define SLOW_READER_USEC (2 * USEC_PER_SEC)
#define REQUEST_USEC     (10 * USEC_PER_SEC)

/* "DAGGYR_STATE_FD=" and a number */
#define STATE_FD_SIZE 16

typedef enum UpgradePhase {
        UPGRADE_SETTLING, /* nothing is started any more */
        UPGRADE_ASKING,   /* the new program */
        UPGRADE_PARTING,  /* from clients */
} UpgradePhase;

struct Upgrade {
        Runner *runner; /* weak */
        UpgradePhase phase;
        usec_t since_usec; /* of the phase */
        sd_event_source *tick_source;
        HttpRequest *request; /* that asked for it; NULL: none, or it is answered */
        Successor *successor;
};

Upgrade *upgrade_free(Upgrade *upgrade) {
        if (!upgrade)
                return NULL;
        if (upgrade->request)
                http_request_on_hangup(upgrade->request, NULL, NULL);
        event_source_dropp(&upgrade->tick_source);
        successor_free(upgrade->successor);
        free(upgrade);
        return NULL;
}

static void refuse(HttpRequest *request, const char *reason) {
        Problem problem = {};
        (void) problem_set(&problem, 409, NULL, "%s", reason);
        log_line(LOG_ERR, "No upgrade: %s", problem.detail);
        if (request)
                http_request_answer_problem(request, &problem, NULL);
}

void upgrade_give_up(Runner *runner, const char *reason) {
        Upgrade *upgrade = runner->upgrade;
        if (!upgrade)
                return;
        HttpRequest *request = upgrade->request;
        runner->upgrade = upgrade_free(upgrade);
        refuse(request, reason);
        event_stream_go_on(runner->daemon.events);
        http_server_accept(runner->daemon.http);
        runner_admit_soon(runner);
}

static void give_up_executing(Runner *runner, int error) {
        _cleanup_(freep) char *reason = NULL;
        (void) text_format(&reason, "the installed program cannot be executed: %s", strerror(-error));
        upgrade_give_up(runner, reason ?: "out of memory");
}

/* ── what is executed ── */

/* As it was called, so that what is installed there now is found; the kernel knows the name of a file that
 * was called by a relative one. */
static int executable_path(char path[static PATH_MAX]) {
        const char *called = (const char *) getauxval(AT_EXECFN);
        if (called && *called == '/' && strlen(called) < PATH_MAX) {
                memcpy(path, called, strlen(called) + 1);
                return 0;
        }
        ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        char *mark = strstr(path, " (deleted)");
        if (mark && streq(mark, " (deleted)"))
                *mark = '\0';
        return 0;
}

static int write_state(const RunnerState *state) {
        _cleanup_(text_done) Text bytes = {};
        int r = runner_state_encode(state, &bytes);
        return r < 0 ? r : sealed_file_new("daggyr-state", bytes.data, bytes.size);
}

/* ── the last step ── */

/* Returns only when it fails. */
static int execute(Runner *runner, const char *path, int state_fd) {
        char number[STATE_FD_SIZE];
        (void) snprintf(number, sizeof(number), "%d", state_fd);
        if (fcntl(state_fd, F_SETFD, 0) < 0 || setenv(STATE_FD_VARIABLE, number, 1) < 0)
                return -errno;
        (void) sd_notifyf(
                        false,
                        "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nWATCHDOG=1\nSTATUS=Being upgraded",
                        usec_now(CLOCK_MONOTONIC));
        (void) execv(path, runner->arguments);
        int r = -errno;
        (void) unsetenv(STATE_FD_VARIABLE);
        (void) sd_notify(false, "READY=1");
        return r;
}

static int hand_over(Runner *runner) {
        char path[PATH_MAX];
        RunnerState state;
        _cleanup_(fd_close) int state_fd = -EBADF;
        task_accounts_stop(runner->accounts);
        int r = executable_path(path);
        if (r < 0)
                return r;
        r = runner_save(runner, &state);
        if (r >= 0)
                r = state_fd = write_state(&state);
        if (r >= 0)
                r = state_set_inherited(&state, true);
        if (r >= 0)
                r = execute(runner, path, state_fd);
        (void) state_set_inherited(&state, false);
        runner_state_done(&state);
        return r;
}

/* ── parting from clients ── */

/* Who waits for a task's end hears how it is, and who reads its output gets what there is; both come again.
 */
static void end_waits(const Runner *runner) {
        for (Task *task = runner->tasks.first; task; task = task->next) {
                task_end_waits(task);
                task_output_end_readers(task);
        }
}

static bool can_be_carried(const Runner *runner) {
        for (const Task *task = runner->tasks.first; task; task = task->next)
                if (task->state == TASK_SPAWNING || own_unit_question_is_open(task->shutdown_question))
                        return false;
        return !spawner_is_busy(runner->spawner);
}

static void part(Upgrade *upgrade, usec_t waited_usec) {
        Runner *runner = upgrade->runner;
        HttpServer *http = runner->daemon.http;
        end_waits(runner);
        http_server_wind_down(http);
        bool has_work = http_server_n_unanswered(http) > 0 || !long_jobs_are_done(runner->daemon.long_jobs) ||
                        !can_be_carried(runner);
        if (has_work && waited_usec >= REQUEST_USEC) {
                upgrade_give_up(runner,
                                "requests, or tasks, are in the middle of something that does not end");
                return;
        }
        if (has_work || (!http_server_is_idle(http) && waited_usec < SLOW_READER_USEC))
                return;
        give_up_executing(runner, hand_over(runner));
}

static void enter(Upgrade *upgrade, UpgradePhase phase) {
        upgrade->phase = phase;
        upgrade->since_usec = usec_now(CLOCK_BOOTTIME);
}

static void begin_parting(Upgrade *upgrade) {
        HttpRequest *request = TAKE_PTR(upgrade->request);
        if (request) {
                http_request_on_hangup(request, NULL, NULL);
                http_request_answer(request, 202, NULL, NULL, 0);
        }
        log_line(LOG_INFO, "Upgrading in place");
        event_stream_end(upgrade->runner->daemon.events);
        enter(upgrade, UPGRADE_PARTING);
}

/* ── asking the new program ── */

static void on_answer(const char *refusal, void *userdata) {
        Upgrade *upgrade = userdata;
        upgrade->successor = NULL;
        if (refusal)
                upgrade_give_up(upgrade->runner, refusal);
        else
                begin_parting(upgrade);
}

static int ask_successor(Upgrade *upgrade, const char *path, int state_fd) {
        Runner *runner = upgrade->runner;
        size_t n = text_list_count(runner->arguments);
        _cleanup_(freep) char **arguments = calloc(n + 2, sizeof(*arguments));
        static char check[] = "--check-state";
        if (!arguments)
                return -ENOMEM;
        memcpy(arguments, runner->arguments, n * sizeof(*arguments));
        arguments[n] = check;
        return successor_ask(
                        runner->daemon.event,
                        path,
                        arguments,
                        state_fd,
                        ANSWER_USEC,
                        on_answer,
                        upgrade,
                        &upgrade->successor);
}

static int ask(Upgrade *upgrade) {
        char path[PATH_MAX];
        RunnerState state;
        _cleanup_(fd_close) int state_fd = -EBADF;
        int r = runner_save(upgrade->runner, &state);
        if (r >= 0)
                r = state_fd = write_state(&state);
        runner_state_done(&state);
        if (r >= 0)
                r = executable_path(path);
        return r < 0 ? r : ask_successor(upgrade, path, state_fd);
}

static void begin_asking(Upgrade *upgrade) {
        enter(upgrade, UPGRADE_ASKING);
        int r = ask(upgrade);
        if (r >= 0)
                return;
        give_up_executing(upgrade->runner, r);
}

/* ── settling ── */

/* Whether no task is in the middle of its start. */
static bool has_settled(const Runner *runner) {
        for (const Task *task = runner->tasks.first; task; task = task->next)
                if (task->state == TASK_SPAWNING || task->state == TASK_PARKED || task->scope_call)
                        return false;
        return true;
}

static void settle(Upgrade *upgrade, usec_t waited_usec) {
        bool can = can_be_carried(upgrade->runner);
        if (can && (has_settled(upgrade->runner) || waited_usec >= SETTLE_USEC))
                begin_asking(upgrade);
        else if (waited_usec >= SETTLE_MAX_USEC)
                upgrade_give_up(upgrade->runner,
                                "busy: a task is in the middle of its start, and does not come out of it");
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Upgrade *upgrade = userdata;
        Runner *runner = upgrade->runner;
        usec_t waited = usec_subtract(usec_now(CLOCK_BOOTTIME), upgrade->since_usec);
        (void) loop_set_timer(
                        runner->daemon.event,
                        &upgrade->tick_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), TICK_USEC),
                        on_tick,
                        upgrade,
                        "upgrade-tick");
        switch (upgrade->phase) { /* each may free UPGRADE */
        case UPGRADE_SETTLING:
                settle(upgrade, waited);
                break;
        case UPGRADE_ASKING:
                break;
        case UPGRADE_PARTING:
                part(upgrade, waited);
                break;
        }
        return 0;
}

/* ── begin ── */

static void on_hangup(HttpRequest *request, void *userdata) {
        Upgrade *upgrade = userdata;
        upgrade->request = NULL;
}

static const char *why_not_now(const Runner *runner) {
        return runner->upgrade                     ? "one is under way" :
                        runner_is_stopping(runner) ? "daggyr is stopping" :
                        runner->host_going_down    ? "the host is going down" :
                        !runner->has_been_ready    ? "daggyr is still starting" :
                                                     NULL;
}

void upgrade_begin(Runner *runner, HttpRequest *request) {
        const char *reason = why_not_now(runner);
        if (reason) {
                refuse(request, reason);
                return;
        }
        Upgrade *upgrade = calloc(1, sizeof(*upgrade));
        if (!upgrade) {
                refuse(request, "out of memory");
                return;
        }
        *upgrade = (Upgrade) { .runner = runner, .request = request };
        enter(upgrade, UPGRADE_SETTLING);
        int r = loop_set_timer(
                        runner->daemon.event, &upgrade->tick_source, 0, on_tick, upgrade, "upgrade-tick");
        if (r < 0) {
                upgrade->request = NULL;
                upgrade_free(upgrade);
                refuse(request, "out of memory");
                return;
        }
        runner->upgrade = upgrade;
        if (request)
                http_request_on_hangup(request, on_hangup, upgrade);
}

void route_upgrade(void *userdata, HttpRequest *request, const RequestContext *context) {
        upgrade_begin(userdata, request);
}
