/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/pressure-watch.h"

#include <inttypes.h>
#include <syslog.h>

#include "base/log.h"
#include "io/host.h"
#include "io/loop.h"
#include "runner/runner-internal.h"

#define READING_USEC (2 * USEC_PER_SEC)
#define TOLD_USEC    (60 * USEC_PER_SEC)

static int read_percent(const char *control_group, double *ret) {
        _cleanup_(text_done) Text text = {};
        int r = host_slice_memory_pressure(control_group, TASK_SLICE, &text);
        if (r < 0)
                return r;
        *ret = 0;
        return text.size > 0 ? memory_pressure_parse(text.data, ret) : 0;
}

/* Whatever goes wrong, tasks start: nobody is to wait for a figure that does not come. */
static void take_reading(Runner *runner) {
        PressureWatch *watch = &runner->pressure_watch;
        const char *control_group = capacity_watch_facts(runner->capacity_watch)->control_group;
        if (!control_group) /* not known yet */
                return;
        int r = read_percent(control_group, &watch->pressure.percent);
        watch->pressure.is_known = r >= 0;
        if (r < 0 && !watch->is_missing)
                (void) log_errno(
                                LOG_WARNING,
                                r,
                                "memory_pressure_max_percent has no effect: this kernel does not tell the "
                                "pressure in %s",
                                TASK_SLICE);
        watch->is_missing = r < 0;
}

static int on_reading(sd_event_source *source, uint64_t usec, void *userdata) {
        pressure_watch_update(userdata);
        return 0;
}

void pressure_watch_update(Runner *runner) {
        PressureWatch *watch = &runner->pressure_watch;
        uint64_t max_percent = runner->config->memory_pressure_max_percent;
        watch->pressure.max_percent = max_percent;
        watch->pressure.is_known = false;
        if (max_percent > 0)
                take_reading(runner);
        else
                watch->is_missing = false;
        (void) loop_set_timer(
                        runner->daemon.event,
                        &watch->source,
                        max_percent > 0 ? usec_add(usec_now(CLOCK_BOOTTIME), READING_USEC) : USEC_INFINITY,
                        on_reading,
                        runner,
                        "runner-pressure");
        bool held = watch->pressure.is_holding;
        if (!pressure_watch_holds(runner) && held)
                runner_admit_soon(runner);
}

/* Not at every turn: the figure may go up and down around the threshold. */
static void tell_hold(PressureWatch *watch) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (watch->told_usec > 0 && now < usec_add(watch->told_usec, TOLD_USEC))
                return;
        watch->told_usec = now;
        log_line(LOG_INFO,
                 "Waiting tasks are held: memory pressure in %s is at %.1f%%, and is to come below %" PRIu64
                 "%%",
                 TASK_SLICE,
                 watch->pressure.percent,
                 watch->pressure.max_percent);
}

bool pressure_watch_holds(Runner *runner) {
        PressureWatch *watch = &runner->pressure_watch;
        bool holds = memory_pressure_holds(
                        &watch->pressure, runner_n_live(runner) - runner->waiting.n_entries);
        if (holds == watch->pressure.is_holding)
                return holds;
        watch->pressure.is_holding = holds;
        runner->pool.revision++;
        daemon_status_changed(&runner->daemon);
        if (holds)
                tell_hold(watch);
        return holds;
}

void pressure_watch_done(PressureWatch *watch) {
        event_source_dropp(&watch->source);
}
