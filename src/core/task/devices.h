/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Devices by name: what the host has of each kind ("gpu"), and which items of it a task gets for itself. A
 * kind is a named capacity, so how many items a task gets is decided where capacity is
 * (scheduling/capacity.h); which ones they are is decided here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "core/task/resources.h"

/* Of the variables that say which items a task has; no item's environment sets one. */
#define DEVICES_VARIABLE_PREFIX "DAGGYR_DEVICES_"

typedef struct DeviceItem {
        char *id;           /* unlike that of any other item of the kind */
        char **paths;       /* device nodes that only its holder may open; NULL or NULL-terminated */
        char **environment; /* "NAME=value", which its holder gets; NULL or NULL-terminated */
} DeviceItem;

typedef struct DeviceKind {
        char *name;   /* of the capacity */
        char **paths; /* device nodes that whoever holds any of the items may open; NULL or NULL-terminated */
        DeviceItem *items;
        size_t n_items;
} DeviceKind;

typedef struct Devices {
        DeviceKind *kinds; /* sorted by name */
        size_t n_kinds;
} Devices;

/* Frees what DEVICES holds, not DEVICES. */
void devices_done(Devices *devices);

/* Makes the number of items of each kind the amount of its capacity in TOTAL. -ENOSPC: too many names. */
int devices_count(const Devices *devices, Resources *total);

/* How many paths there are in all, which is the most that one task may open. */
size_t devices_n_paths(const Devices *devices);

typedef struct DeviceGrants DeviceGrants;
typedef struct DeviceGrant DeviceGrant;

/* What of one kind a task has got. */
typedef struct GrantedKind {
        char *name;
        char **ids; /* NULL-terminated, in the order of the configuration */
} GrantedKind;

/* What a task has got, in copies: the configuration may be another before it ends. */
struct DeviceGrant {
        GrantedKind *kinds; /* without those that it got nothing of */
        size_t n_kinds;
        /* Both are NULL-terminated, hold nothing twice, and are NULL once they are released. */
        char **paths; /* it may open these, beside /dev/null and the like; NULL: any, no kind has paths */
        char **environment;   /* "NAME=value" */
        DeviceGrants *grants; /* that it is one of; NULL: it has been released */
        DeviceGrant *previous, *next;
};

/* All grants that have not been released. Zero-initialise it. */
struct DeviceGrants {
        DeviceGrant *first;
};

/* Gives out the first items of DEVICES that nobody in GRANTS holds, as many of each kind as WANT says. An
 * item in use is told by the kind's name and its id, whatever else DEVICES says of it now. The environment
 * has DAGGYR_DEVICES_KIND="id,id" for each kind that there are items of, and the items' own; where several of
 * them set one variable, their values are joined by ",". -EDQUOT: not so many are free. -ENOMEM. */
int device_grants_take(
                DeviceGrants *grants,
                const Devices *devices,
                const Resources *want,
                DeviceGrant **ret);

/* Makes GRANT, which an earlier process gave, one of GRANTS. */
void device_grants_hold(DeviceGrants *grants, DeviceGrant *grant);

/* The items are free again; which they were is still known. Does nothing the second time. */
void device_grant_release(DeviceGrant *grant);

/* Releases GRANT, which may be NULL, and returns NULL. */
DeviceGrant *device_grant_free(DeviceGrant *grant);
DEFINE_POINTER_CLEANUP(DeviceGrant, device_grant_free)

/* Adds "devices", {"gpu":["0","2"]}, to OBJECT unless it is empty; GRANT may be NULL. -ENOMEM. */
int device_grant_add(json_object *object, const DeviceGrant *grant);
