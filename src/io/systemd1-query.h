/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Questions to the systemd manager, which change nothing. Each handler is called once, in a later turn of the
 * loop, unless its query is freed before; what it is given is valid during the call only. -ENOTCONN at once
 * when there is no connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "core/scheduling/capacity.h"
#include "io/systemd1.h"

typedef struct Systemd1Query Systemd1Query;

/* Its handler will not be called any more. NULL is fine; always returns NULL. Whoever asked owes this for the
 * query in every case, also after the handler was called. */
Systemd1Query *systemd1_query_free(Systemd1Query *query);
DEFINE_POINTER_CLEANUP(Systemd1Query, systemd1_query_free)

/* The unit that process PID is in, and, when that is a service, its main process (else 0). UNIT is NULL when
 * it is in none. */
typedef void (*Systemd1UnitOfHandler)(int error, const char *unit, pid_t main_pid, void *userdata);
int systemd1_ask_unit_of(
                Systemd1 *systemd1,
                pid_t pid,
                Systemd1UnitOfHandler handler,
                void *userdata,
                Systemd1Query **ret);

typedef struct UnitStatus {
        const char *name;
        const char *active_state; /* "active", "deactivating", … */
        const char *job_type;     /* "stop", "restart", …; "" without a job */
} UnitStatus;

typedef void (*Systemd1UnitsHandler)(int error, const UnitStatus *units, size_t n, void *userdata);

/* The units in memory whose names match PATTERN (a glob). */
int systemd1_ask_units(
                Systemd1 *systemd1,
                const char *pattern,
                Systemd1UnitsHandler handler,
                void *userdata,
                Systemd1Query **ret);

/* The one unit NAME. */
int systemd1_ask_unit(
                Systemd1 *systemd1,
                const char *name,
                Systemd1UnitsHandler handler,
                void *userdata,
                Systemd1Query **ret);

/* Whether UNIT is bound to TO (BindsTo=). */
typedef void (*Systemd1BoundHandler)(int error, bool is_bound, void *userdata);
int systemd1_ask_bound(
                Systemd1 *systemd1,
                const char *unit,
                const char *to,
                Systemd1BoundHandler handler,
                void *userdata,
                Systemd1Query **ret);

/* A property of the manager that is a string, such as "Version". */
typedef void (*Systemd1StringHandler)(int error, const char *value, void *userdata);
int systemd1_ask_string(
                Systemd1 *systemd1,
                const char *property,
                Systemd1StringHandler handler,
                void *userdata,
                Systemd1Query **ret);

/* What systemd grants SLICE. One that is not loaded answers as well. */
typedef void (*Systemd1LimitsHandler)(int error, const SliceLimits *limits, void *userdata);
int systemd1_ask_limits(
                Systemd1 *systemd1,
                const char *slice,
                Systemd1LimitsHandler handler,
                void *userdata,
                Systemd1Query **ret);
