/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The leader's own cgroup, seen from inside: who is in it, what it used, and signals to all others.
 * Works on unified, hybrid and legacy hierarchies. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "core/wire/leader-protocol.h"

typedef struct Cgroup Cgroup;

/* Opens the cgroup of this process. -EXDEV when it is not that of UNIT: then nothing here may be
 * trusted to act on the task alone. */
int cgroup_open_own(const char *unit, Cgroup **ret);
Cgroup *cgroup_free(Cgroup *cgroup);
DEFINE_POINTER_CLEANUP(Cgroup, cgroup_free)

/* Whether this process is the only one left in the cgroup and all below it; negative errno. */
int cgroup_is_ours_alone(Cgroup *cgroup);

/* Sends SIGNAL to every process in the cgroup and below it except this one. Processes that come and
 * go meanwhile are no error. */
int cgroup_signal_others(Cgroup *cgroup, int signal);

/* Processes of the cgroup that the kernel killed for memory so far. */
uint64_t cgroup_oom_kills(Cgroup *cgroup);

/* A descriptor for poll() that reports POLLPRI when cgroup_oom_kills() may have changed, owned by
 * CGROUP; or -EOPNOTSUPP on cgroup v1, where only root may ask to be told. */
int cgroup_oom_fd(Cgroup *cgroup);

/* Reads what the cgroup used so far; what the kernel does not offer stays 0. */
void cgroup_usage(Cgroup *cgroup, LeaderUsage *ret);
