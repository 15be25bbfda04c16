/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a runner comes to be ready: the connection to systemd, a unit of its own, an end to what an earlier run
 * left, the capacity; and again, when the connection was lost. */

#include <stdlib.h>
#include <syslog.h>

#include "base/log.h"
#include "runner/runner-internal.h"

static void on_capacity(const SliceLimits *limits, void *userdata) {
        Runner *runner = userdata;
        runner->slice_limits = *limits;
        runner_update_capacity(runner);
}

static void ready(Runner *runner) {
        bool first = runner->on_ready != NULL;
        runner->systemd_ready = runner->has_been_ready = true;
        pressure_watch_update(runner);
        http_server_accept(runner->daemon.http);
        runner_admit_soon(runner);
        daemon_status_changed(&runner->daemon);
        if (first) {
                RunnerReady on_ready = runner->on_ready;
                runner->on_ready = NULL;
                on_ready(runner->ready_userdata);
        }
}

static void on_capacity_known(void *userdata) {
        Runner *runner = userdata;
        const char *control_group = capacity_watch_facts(runner->capacity_watch)->control_group;
        if (runner->on_ready && !runner->goes_on && control_group) /* the first time: no task has run yet */
                oom_watch_begin(&runner->oom_watch, control_group);
        ready(runner);
}

static void find_capacity(Runner *runner) {
        CapacityWaiter *waiter;
        capacity_watch_reset(runner->capacity_watch);
        int r = capacity_watch_when_fresh(runner->capacity_watch, on_capacity_known, runner, &waiter);
        if (r < 0)
                (void) log_errno(LOG_ERR, r, "Cannot find out the capacity");
}

static void on_stale_scopes_gone(int error, void *userdata) {
        Runner *runner = userdata;
        if (error < 0)
                (void) log_errno(LOG_WARNING, error, "Cannot look for scopes of an earlier run, ignoring");
        find_capacity(runner);
}

static void on_own_unit(int error, const char *message, void *userdata) {
        Runner *runner = userdata;
        if (error < 0) {
                (void) log_errno(LOG_ERR, error, "Cannot have a unit of daggyr's own (%s)", message);
                (void) sd_event_exit(runner->daemon.event, EXIT_FAILURE);
                return;
        }
        int r = own_unit_is_service(runner->own_unit) ? stale_scopes_end(
                                                                        runner->systemd1,
                                                                        runner->scopes,
                                                                        own_unit_name(runner->own_unit),
                                                                        on_stale_scopes_gone,
                                                                        runner,
                                                                        &runner->stale_scopes) :
                                                        0;
        if (r < 0 || !own_unit_is_service(runner->own_unit))
                on_stale_scopes_gone(r, runner);
}

static void on_connected(void *userdata) {
        Runner *runner = userdata;
        if (runner->checking || runner->own_unit) { /* a connection made anew: everything else is known */
                find_capacity(runner);
                return;
        }
        int r = own_unit_find(runner->daemon.event, runner->systemd1, on_own_unit, runner, &runner->own_unit);
        if (r < 0)
                on_own_unit(r, "cannot ask systemd", runner);
}

static void on_disconnected(int error, void *userdata) {
        Runner *runner = userdata;
        if (runner->checking) {
                (void) log_errno(LOG_WARNING, error, "Cannot ask systemd, going by what the host says");
                ready(runner);
                return;
        }
        if (runner->systemd_ready || runner->on_ready)
                (void) log_errno(LOG_WARNING, error, "No connection to systemd, trying again");
        if (runner->on_ready && !runner->goes_on && runner->own_unit) { /* lost in the middle of the start */
                runner->stale_scopes = stale_scopes_free(runner->stale_scopes);
                runner->own_unit = own_unit_free(runner->own_unit);
        }
        runner->systemd_ready = false;
        daemon_status_changed(&runner->daemon);
}

int runner_connect(Runner *runner) {
        static const Systemd1Handlers handlers = {
                .on_connected = on_connected,
                .on_disconnected = on_disconnected,
        };
        const char *broker_path = runner->daemon.user_mode ? NULL : getenv("DAGGYR_BROKER");
        Systemd1Mode mode = runner->daemon.user_mode ? SYSTEMD1_USER :
                        broker_path                  ? SYSTEMD1_SYSTEM_READ :
                                                       SYSTEMD1_SYSTEM;
        const RunnerState *state = runner->restored;
        sd_event *event = runner->daemon.event;
        int r = systemd1_new(event, mode, &handlers, runner, &runner->systemd1);
        if (r >= 0)
                r = !broker_path      ? task_scopes_new_direct(runner->systemd1, &runner->scopes) :
                                state ? task_scopes_restore_broker(
                                                        event, broker_path, &state->broker, &runner->scopes) :
                                        task_scopes_new_broker(event, broker_path, &runner->scopes);
        if (r >= 0 && state)
                r = own_unit_restore(
                                event,
                                runner->systemd1,
                                state->own_unit,
                                state->own_unit_is_service,
                                &runner->own_unit);
        if (r >= 0)
                r = capacity_watch_new(
                                runner->systemd1,
                                runner->daemon.user_mode,
                                TASK_SLICE,
                                on_capacity,
                                runner,
                                &runner->capacity_watch);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot connect to systemd") : 0;
}
