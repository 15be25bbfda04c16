/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who a process is, as far as the broker must know before it moves one. All of it is the kernel's word, none
 * the sender's. */
#pragma once

#include <sys/types.h>

/* The unit that holds process PID, if it is one of the system's manager: a cgroup right below slices, so that
 * what a user's own manager calls a unit does not count. The caller frees *ret. -ENXIO when there is none. */
int process_unit(pid_t pid, char **ret);

/* Whether PID_FD stands for a leader as the spawner has just forked it: a process that lives, is of the
 * account UID, a child of a spawner's, and still in that spawner's cgroup (whoever is in it was forked there,
 * since only root moves processes between the system's units). Returns its number by *RET. -EPERM when it is
 * anything else, -ESRCH when it has ended. */
int leader_check(int pid_fd, uid_t uid, pid_t *ret);
