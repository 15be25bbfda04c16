/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What systemd grants the tasks' slice, and the state it is in itself.
 *
 * systemd 252 sends no signal when `systemctl set-property` changes a slice, so it is asked again whenever
 * the answer matters and is older than a second. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/scheduling/capacity.h"
#include "core/task/controllers.h"
#include "io/systemd1.h"

typedef struct CapacityWatch CapacityWatch;
typedef struct CapacityWaiter CapacityWaiter;

typedef struct SystemdFacts {
        char *version, *virtualization, *system_state; /* NULL until known */
        char *control_group; /* of the service manager itself; "" for the system's */
        const char *warnings[CONTROLLER_WARNINGS_MAX]; /* limits that have no effect … */
        size_t n_warnings;                             /* … so many */
} SystemdFacts;

/* Called after every answer. */
typedef void (*CapacityHandler)(const SliceLimits *limits, void *userdata);
typedef void (*CapacityFresh)(void *userdata);

/* IS_USERS: systemd1 is a user's manager. */
int capacity_watch_new(
                Systemd1 *systemd1,
                bool is_users,
                const char *slice,
                CapacityHandler handler,
                void *userdata,
                CapacityWatch **ret);
CapacityWatch *capacity_watch_free(CapacityWatch *watch);
DEFINE_POINTER_CLEANUP(CapacityWatch, capacity_watch_free)

/* Call when the connection to systemd is new: what was asked before will not be answered. */
void capacity_watch_reset(CapacityWatch *watch);

/* Asks systemd again if the last answer is older than a second. */
void capacity_watch_refresh(CapacityWatch *watch);

/* Calls FRESH as soon as the answer is no older than a second: at once if it is, or if systemd cannot be
 * asked now. *RET is NULL once FRESH was called. -ENOMEM: it will not be. */
int capacity_watch_when_fresh(
                CapacityWatch *watch,
                CapacityFresh fresh,
                void *userdata,
                CapacityWaiter **ret);

/* FRESH will not be called. */
void capacity_waiter_cancel(CapacityWaiter *waiter);

const SystemdFacts *capacity_watch_facts(const CapacityWatch *watch);
