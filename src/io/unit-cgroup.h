/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is in the cgroup of a unit. Who is tells the kernel's list of its processes: a /proc that is mounted
 * with hidepid= tells nothing of processes that are not one's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/text.h"

/* Whether the process PID is in the cgroup of UNIT itself, which is in SLICE (a single word and ".slice") of
 * the service manager that this process runs under, the system's or a user's. False also when nothing can be
 * read. */
bool unit_cgroup_has(const char *slice, const char *unit, pid_t pid);

/* Reads the first of NAMES (NULL: no more) that the cgroup of the same UNIT has, where CONTROLLER is in force
 * with cgroup v1. 1 if there is one, 0 if not; negative errno when that cannot be told just now. */
int unit_cgroup_read(
                const char *slice,
                const char *unit,
                const char *controller,
                const char *const names[],
                size_t n_names,
                Text *ret);

/* Whether this host has cgroup v2 alone, and whether it has it at all. */
bool unit_cgroup_is_unified(void);
bool unit_cgroup_has_v2(void);

/* 1 if there is a process in the cgroup of the same UNIT or below it, 0 if not, or if there is no such
 * cgroup. Negative errno when that cannot be told just now. */
int unit_cgroup_is_populated(const char *slice, const char *unit);
