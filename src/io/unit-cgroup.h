/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who is in the cgroup of a unit, by the kernel's list of its processes: a /proc that is mounted with
 * hidepid= tells nothing of processes that are not one's own. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Whether the process PID is in the cgroup of UNIT itself, which is in SLICE (a single word and ".slice") of
 * the service manager that this process runs under, the system's or a user's. False also when nothing can be
 * read. */
bool unit_cgroup_has(const char *slice, const char *unit, pid_t pid);

/* 1 if there is a process in the cgroup of the same UNIT or below it, 0 if not, or if there is no such cgroup.
 * Negative errno when that cannot be told just now. */
int unit_cgroup_is_populated(const char *slice, const char *unit);
