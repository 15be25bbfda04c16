/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The systemd manager on the bus: scopes in, properties and signals out. Every call is asynchronous, has a
 * deadline, and survives a restart of the bus: the connection is made anew and its owner told. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/task/task-properties.h"

typedef struct Systemd1 Systemd1;
typedef struct Systemd1Call Systemd1Call;

typedef struct Systemd1Handlers {
        void (*on_connected)(void *userdata);
        void (*on_disconnected)(int error, void *userdata);
} Systemd1Handlers;

/* Starts to connect to the system's manager, or with USER to the calling user's, and keeps at it. */
int systemd1_new(
                sd_event *event,
                bool user,
                const Systemd1Handlers *handlers,
                void *userdata,
                Systemd1 **ret);
Systemd1 *systemd1_free(Systemd1 *systemd1);
DEFINE_POINTER_CLEANUP(Systemd1, systemd1_free)

uint64_t systemd1_n_reconnects(const Systemd1 *systemd1);

/* How a call ended: ERROR is 0 or a negative errno, MESSAGE a sentence with it. The call object is gone
 * when the handler returns. */
typedef void (*Systemd1Done)(int error, const char *message, void *userdata);

/* Gives up on CALL: its handler will not be called. NULL is fine; always returns NULL. What systemd was asked
 * to do may still happen. */
Systemd1Call *systemd1_call_cancel(Systemd1Call *call);

typedef struct ScopeParameters {
        const char *name;
        const char *slice; /* NULL for systemd's default */
        const char *description;
        const char *bound_to;      /* unit whose end ends the scope, or NULL */
        pid_t pid;                 /* becomes the scope's first process: our own unreaped child */
        uint64_t cpu_quota_usec;   /* CPU time per second; UINT64_MAX for no limit */
        uint64_t memory_max_bytes; /* UINT64_MAX for no limit */
        uint64_t tasks_max;
        usec_t stop_timeout_usec;         /* between SIGTERM and SIGKILL when systemd stops the scope */
        const TaskProperties *properties; /* further ones, or NULL */
} ScopeParameters;

/* Creates a transient scope. DONE is called once systemd has said that its job is done, so the process is in
 * its cgroup then. -EEXIST when a unit of that name is (still) there, -ETIMEDOUT, -ENOTCONN, … At most a
 * bounded number of calls is under way at once; more wait their turn here. */
int systemd1_start_scope(
                Systemd1 *systemd1,
                const ScopeParameters *parameters,
                Systemd1Done done,
                void *userdata,
                Systemd1Call **ret);

/* Stops a unit and waits for its end; -ENOENT when there is no such unit. */
int systemd1_stop_unit(
                Systemd1 *systemd1,
                const char *name,
                Systemd1Done done,
                void *userdata,
                Systemd1Call **ret);

/* Sends SIGNAL to all processes of a unit. Nobody waits for the answer. */
void systemd1_kill_unit(Systemd1 *systemd1, const char *name, int signal);

/* For queries with their own replies: bus, and the manager's and a unit's addresses. The bus is only valid
 * until the next turn of the loop, NULL while not connected. */
sd_bus *systemd1_bus(Systemd1 *systemd1);

#define SYSTEMD1_SERVICE           "org.freedesktop.systemd1"
#define SYSTEMD1_MANAGER_PATH      "/org/freedesktop/systemd1"
#define SYSTEMD1_MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
