/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The connection to a systemd manager over the bus, and what it is asked to do: scopes to start, units to
 * stop. Every call is asynchronous, has a deadline, and survives a restart of the bus: the connection is made
 * anew and its owner told. What is only read stands in systemd1-query.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/wire/task-property.h"
#include "io/call-queue.h"

typedef struct Systemd1 Systemd1;

typedef struct Systemd1Handlers {
        void (*on_connected)(void *userdata);
        void (*on_disconnected)(int error, void *userdata);
} Systemd1Handlers;

/* Whose manager, and what for. */
typedef enum Systemd1Mode {
        SYSTEMD1_SYSTEM,      /* the system's, to start and stop units and to ask */
        SYSTEMD1_SYSTEM_READ, /* the system's, only to ask: no job's end is heard of */
        SYSTEMD1_USER,        /* the calling user's, for everything */
} Systemd1Mode;

/* Starts to connect, and keeps at it. */
int systemd1_new(
                sd_event *event,
                Systemd1Mode mode,
                const Systemd1Handlers *handlers,
                void *userdata,
                Systemd1 **ret);
Systemd1 *systemd1_free(Systemd1 *systemd1);
DEFINE_POINTER_CLEANUP(Systemd1, systemd1_free)

uint64_t systemd1_n_reconnects(const Systemd1 *systemd1);

typedef struct ScopeParameters {
        const char *name;
        const char *slice; /* NULL for systemd's default */
        const char *description;
        const char *bound_to; /* unit whose end ends the scope, or NULL */
        pid_t pid;  /* becomes the scope's first process; its number must not become another's meanwhile */
        int pid_fd; /* of the same process, used where systemd takes it (255), or negative */
        uint64_t cpu_quota_usec;   /* CPU time per second; UINT64_MAX for no limit */
        uint64_t memory_max_bytes; /* UINT64_MAX for no limit */
        uint64_t tasks_max;
        usec_t stop_timeout_usec;  /* between SIGTERM and SIGKILL when systemd stops the scope */
        char *const *device_paths; /* NULL: any device may be opened; else only these and harmless ones */
        const TaskProperties *properties; /* further ones, or NULL */
} ScopeParameters;

/* Creates a transient scope. DONE is called once systemd has said that its job is done, so the process is in
 * its cgroup then. -EEXIST when a unit of that name is (still) there, -ETIMEDOUT, -ENOTCONN, … At most a
 * bounded number of calls is under way at once; more wait their turn here. */
int systemd1_start_scope(
                Systemd1 *systemd1,
                const ScopeParameters *parameters,
                CallDone done,
                void *userdata,
                QueuedCall **ret);

/* Stops a unit and waits for its end; -ENOENT when there is no such unit. */
int systemd1_stop_unit(Systemd1 *systemd1, const char *name, CallDone done, void *userdata, QueuedCall **ret);

/* Sends SIGNAL to all processes of a unit. Nobody waits for the answer. */
void systemd1_kill_unit(Systemd1 *systemd1, const char *name, int signal);
