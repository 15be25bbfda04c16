/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What this machine, and this process on it, say about themselves without systemd. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

typedef struct HostFacts {
        char machine_id[33]; /* specific to daggyr: the raw one is confidential (machine-id(5)) */
        char boot_id[33];
        char instance_id[33]; /* another for each process: a runner that was started anew has forgotten all */
        uint64_t cpus;        /* online */
        uint64_t memory_mb;
} HostFacts;

int host_facts_read(HostFacts *ret);

/* Appends the names of the cgroup controllers that units of a service manager can have, apart by spaces;
 * CONTROL_GROUP is the manager's own cgroup (its ControlGroup property), IS_USERS tells a user's manager.
 * Appends nothing where there are none, or none can be seen. -ENOMEM. */
int host_controllers(const char *control_group, bool is_users, Text *ret);

/* How many processes in SLICE, a slice right below the service manager's CONTROL_GROUP, the kernel has killed
 * for memory since the slice was made, those in units that are gone among them. -EOPNOTSUPP with cgroup v1,
 * which does not count them; -ENOENT without a slice or its memory controller. */
int host_slice_oom_kills(const char *control_group, const char *slice, uint64_t *ret);

/* Appends what the kernel says of the memory pressure in SLICE, a slice as above, with either version of
 * cgroups; of a slice that is not there yet, nothing. -EOPNOTSUPP: this kernel does not watch it, or there is
 * no hierarchy of v2 at all. */
int host_slice_memory_pressure(const char *control_group, const char *slice, Text *ret);
