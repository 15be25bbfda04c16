/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runner: everything daggyr holds, from start to end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-runner.h"
#include "core/scheduling/admission.h"
#include "core/scheduling/capacity.h"
#include "core/scheduling/lease.h"
#include "io/accounts.h"
#include "io/host.h"
#include "io/login1.h"
#include "io/spawner.h"
#include "io/systemd1.h"
#include "io/task-scopes.h"
#include "runner/capacity-watch.h"
#include "runner/lease-journal.h"
#include "runner/metrics.h"
#include "runner/oom-watch.h"
#include "runner/own-unit.h"
#include "runner/pressure-watch.h"
#include "runner/stale-scopes.h"
#include "runner/task-accounts.h"
#include "runner/task-table.h"
#include "runner/upgrade.h"
#include "service/daemon.h"

typedef struct Runner Runner;

/* Told once, when the runner listens and may start tasks. */
typedef void (*RunnerReady)(void *userdata);

struct Runner {
        Daemon daemon;        /* in user mode tasks run as that user */
        RunnerConfig *config; /* but for what the daemon has of it */
        HostFacts facts;
        Account daemon_account;
        TaskAccounts *accounts;    /* whom tasks run as */
        RunnerConfig *next_config; /* read on SIGHUP, while its task_user is looked up */
        AccountsWait *next_account;
        bool checking;                /* only asks for the capacity */
        Spawner *spawner;             /* where leaders come from */
        const char *output_directory; /* for captured output too large for memory */

        Systemd1 *systemd1;
        TaskScopes *scopes;                 /* who makes those of the tasks */
        OwnUnit *own_unit;                  /* what task scopes are bound to */
        OwnUnitQuestion *stopping_question; /* whether its stop goes on */
        StaleScopes *stale_scopes;          /* of an earlier run, until they are gone */
        CapacityWatch *capacity_watch;
        SliceLimits slice_limits; /* as last heard */
        Login1 *login1;

        CapacityPool pool;
        DeviceGrants devices_in_use;
        OomWatch oom_watch;
        PressureWatch pressure_watch;
        AdmissionList waiting;
        TaskTable tasks;
        Lease lease;
        LeaseJournal lease_journal;
        Metrics metrics;
        uint64_t told_revision; /* of the capacity, in the last event */
        bool systemd_ready;     /* connected, own unit known, stale scopes gone: tasks may start */
        bool host_going_down;
        bool unit_stopping;         /* systemd has begun with the scopes of tasks, and tells daggyr soon */
        usec_t shortage_until_usec; /* no task is started before that; 0: there is no shortage */
        usec_t shortage_told_usec;  /* in the log; 0: never */

        RunnerReady on_ready;
        void *ready_userdata;
        Upgrade *upgrade;            /* under way: no task is started meanwhile */
        char **arguments;            /* weak: of main(), for an upgrade */
        const RunnerState *restored; /* weak: what this runner goes on from, until it has started; or NULL */
        bool goes_on;                /* in the place of an earlier program */
        bool has_been_ready;
        sd_event_source *admit_source, *patience_source, *shortage_source, *expiry_source, *accept_source,
                        *lease_source, *stopping_source;
};

/* CONFIG, which it takes over in every case, is what the file of COMMAND_LINE said, which is read again on
 * SIGHUP. STATE, which must stay until the runner has started, is what it goes on from, NULL to begin anew.
 */
int runner_new(sd_event *event,
               const CommandLine *command_line,
               RunnerConfig *config,
               const RunnerState *state,
               RunnerReady on_ready,
               void *userdata,
               Runner **ret);
Runner *runner_free(Runner *runner);
DEFINE_POINTER_CLEANUP(Runner, runner_free)

/* Listens on the sockets that systemd passed or else the configured address, and connects to systemd. */
int runner_start(Runner *runner);

/* Only finds out the capacity, as far as systemd can be asked, and reports ready. */
int runner_check(Runner *runner);

/* ── runner-admission.c: which waiting task starts when ── */

/* Starts waiting tasks that fit, in a turn of the loop of its own. Call after anything that may let one
 * start. */
void runner_admit_soon(Runner *runner);

/* The same at once. */
void runner_admit(Runner *runner);

/* Something that a start takes is not to be had now: starts no task for a moment, and then one at a time,
 * until runner_shortage_over(). */
void runner_shortage(Runner *runner);
void runner_shortage_over(Runner *runner);

/* ── runner.c, again ── */

/* Has the lease end in time. */
void runner_arm_lease(Runner *runner);

/* Call when the lease was granted, renewed or released. */
void runner_lease_changed(Runner *runner);

/* Call when a task reached its end. */
void runner_task_finished(Runner *runner);

/* Call when a task ended because systemd stops daggyr's unit. A queue that hears of that end would send the
 * task again, to be ended again, for as long as other tasks of this runner take to stop. */
void runner_unit_stopping(Runner *runner);

/* Whether systemd stops it, or somebody else has told it to end. */
bool runner_is_stopping(const Runner *runner);

/* Whether it takes no new tasks: told to drain, or on its way down with the host or alone. */
bool runner_is_draining(const Runner *runner);

/* Whether tasks may start now. */
bool runner_is_ready(const Runner *runner);
