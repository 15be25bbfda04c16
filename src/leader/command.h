/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The task's command: the one place where the leader forks, gives up privileges and executes. */
#pragma once

#include <sys/types.h>

#include "core/wire/leader-protocol.h"

/* Gives every signal its default action. */
void signals_reset(void);

/* Forks and executes what ORDER says, with LEADER_FD_STDIN, 1 and 2 as its streams and no other descriptor. 0
 * when it was executed; otherwise a negative errno and the step that failed in *ret_step, the child reaped.
 */
int command_start(const LeaderOrder *order, pid_t *ret_pid, LeaderStep *reterr_step);

/* Takes every capability but KEEP (a number, or -1) out of the bounding set, where CAP_SETPCAP allows it. */
void bounding_set_drop(int keep);

/* Gives up every capability of the calling process but KEEP. Negative errno. */
int privileges_drop(int keep);
