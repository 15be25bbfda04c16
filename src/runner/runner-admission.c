/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which waiting task starts when: as soon as it fits, but one at a time while something is short that a start
 * takes. */

#include <assert.h>
#include <syslog.h>

#include "base/container.h"
#include "base/log.h"
#include "io/loop.h"
#include "runner/runner-internal.h"
#include "runner/task-order.h"
#include "runner/task-run.h"
#include "runner/task.h"

#define SHORTAGE_PAUSE_USEC   (200 * USEC_PER_MSEC)
#define SHORTAGE_TOLD_USEC    (60 * USEC_PER_SEC)
#define CAPACITY_RECHECK_USEC (1 * USEC_PER_SEC)

void runner_admit_soon(Runner *runner) {
        (void) sd_event_source_set_enabled(runner->admit_source, SD_EVENT_ONESHOT);
}

static int on_time_to_admit(sd_event_source *source, uint64_t usec, void *userdata) {
        runner_admit_soon(userdata);
        return 0;
}

static void admit_later(
                Runner *runner,
                sd_event_source **source,
                usec_t delay_usec,
                const char *description) {
        (void) loop_set_timer(
                        runner->daemon.event,
                        source,
                        usec_add(usec_now(CLOCK_BOOTTIME), delay_usec),
                        on_time_to_admit,
                        runner,
                        description);
}

/* ── shortage ── */

/* Not at every attempt, of which there may be many. */
static void tell_shortage(Runner *runner) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (runner->shortage_told_usec > 0 && now < usec_add(runner->shortage_told_usec, SHORTAGE_TOLD_USEC))
                return;
        runner->shortage_told_usec = now;
        log_line(LOG_WARNING,
                 "Tasks wait though there is room for them: out of processes, descriptors or memory, or no spawner "
                 "answers; trying again");
}

void runner_shortage(Runner *runner) {
        tell_shortage(runner);
        runner->shortage_until_usec = usec_add(usec_now(CLOCK_BOOTTIME), SHORTAGE_PAUSE_USEC);
        admit_later(runner, &runner->shortage_source, SHORTAGE_PAUSE_USEC, "runner-shortage");
}

void runner_shortage_over(Runner *runner) {
        if (runner->shortage_until_usec == 0)
                return;
        runner->shortage_until_usec = 0;
        runner_admit_soon(runner);
}

/* ── admission ── */

static void release_held(AdmissionList *list) {
        for (AdmissionEntry *entry = list->first; entry; entry = entry->next)
                entry->held = false;
}

void runner_admit(Runner *runner) {
        if (!runner_is_ready(runner) || runner->upgrade || runner->waiting.n_entries == 0 ||
            usec_now(CLOCK_BOOTTIME) < runner->shortage_until_usec)
                return;
        release_held(&runner->waiting);
        while (!pressure_watch_holds(runner)) {
                AdmissionEntry *entry = admission_list_next(
                                &runner->waiting, &runner->pool, usec_now(CLOCK_BOOTTIME));
                if (!entry)
                        break;
                Task *task = container_of(entry, Task, waiting);
                if (!task_account_is_settled(runner, task->spec)) {
                        entry->held = true; /* until there is news of accounts, or at the next look */
                        continue;
                }
                int r = task_start(task);
                if (r == -EDQUOT) {
                        entry->held = true; /* until tasks end that hold what the configuration no longer
                                               names */
                        continue;
                }
                if (r == -EAGAIN) {
                        runner_shortage(runner);
                        return;
                }
                if (runner->shortage_until_usec > 0 &&
                    task->state == TASK_SPAWNING) { /* what becomes of this one tells about the others */
                        runner->shortage_until_usec = USEC_INFINITY;
                        return;
                }
        }
        /* What waits may come to fit when an administrator gives the slice more. */
        if (runner->waiting.n_entries > 0) {
                capacity_watch_refresh(runner->capacity_watch);
                admit_later(runner, &runner->patience_source, CAPACITY_RECHECK_USEC, "runner-recheck");
        }
        daemon_status_changed(&runner->daemon);
}

static void expire_tasks(Runner *runner);

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata) {
        expire_tasks(userdata);
        return 0;
}

static void expire_tasks(Runner *runner) {
        usec_t next = task_table_expire(&runner->tasks, usec_now(CLOCK_BOOTTIME));
        (void) loop_set_timer(
                        runner->daemon.event,
                        &runner->expiry_source,
                        next,
                        on_expiry,
                        runner,
                        "runner-expiry");
}

static int on_admit(sd_event_source *source, void *userdata) {
        Runner *runner = userdata;
        assert(runner->tasks.n_finished <= runner->tasks.n_tasks);
        assert(runner->waiting.n_entries <= runner_n_live(runner));
        expire_tasks(runner);
        if (runner->daemon.stopping && runner_n_live(runner) == 0)
                return sd_event_exit(runner->daemon.event, EXIT_SUCCESS);
        if (runner->host_going_down && runner_n_live(runner) == runner->waiting.n_entries)
                login1_release_delay(runner->login1); /* nothing runs any more */
        runner_admit(runner);
        return 0;
}

int runner_init_admission(Runner *runner) {
        int r = sd_event_add_defer(runner->daemon.event, &runner->admit_source, on_admit, runner);
        if (r >= 0)
                r = sd_event_source_set_priority(runner->admit_source, LOOP_PRIORITY_PROCESS + 2);
        if (r >= 0)
                r = sd_event_source_set_enabled(runner->admit_source, SD_EVENT_OFF);
        return r;
}
