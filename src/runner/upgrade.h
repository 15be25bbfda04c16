/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Upgrade in place: the program that is installed now is executed in this process, and goes on with
 * everything.
 *
 * upgrade.c decides when, and whether: nothing is started any more; what is in the middle of a start settles;
 * the new program is asked, with a copy of the state, whether it can go on from that; clients take their
 * leave, or wait in the backlog of the listening sockets, which stay open; then it is executed. Until then
 * everything can be undone. upgrade-save.c makes the state, and upgrade-restore.c a runner of it. */
#pragma once

#include <stdbool.h>

#include "core/upgrade/runner-state.h"
#include "io/http-server.h"
#include "service/command-line.h"

typedef struct Runner Runner;
typedef struct Task Task;
typedef struct Upgrade Upgrade;

/* ── upgrade.c ── */

/* Begins an upgrade. REQUEST, which may be NULL, is answered: 202 when it is about to happen, 409 with the
 * reason, which is logged, when it does not. */
void upgrade_begin(Runner *runner, HttpRequest *request);

/* Gives up on one that is under way, if there is; REASON is logged and told. */
void upgrade_give_up(Runner *runner, const char *reason);

/* Frees without a word. NULL is fine. */
Upgrade *upgrade_free(Upgrade *upgrade);

/* ── upgrade-save.c ── */

/* All that RUNNER is, in its own strings; for runner_state_done() in every case. -ENOMEM. */
int runner_save(const Runner *runner, RunnerState *ret);

/* ── upgrade-restore.c ── */

/* The state that was inherited as descriptor FD, which is closed; the strings point into BLOCK. A negative
 * errno, with the problem. */
int upgrade_read_state(int fd, Text *block, RunnerState *ret, Problem *reterr_problem);

/* What --check-state does: reads a state from stdin, and says whether this program, with the configuration
 * that it has, could go on from it. An exit status. */
int upgrade_check_state(const CommandLine *command_line);

/* Whether the descriptors of STATE are inherited by what is executed. -EBADF when one is none. */
int state_set_inherited(const RunnerState *state, bool inherited);

/* For runner_start(): listens where the earlier program did, and goes on with its tasks. Negative errno,
 * logged. */
int runner_restore_listeners(Runner *runner, const RunnerState *state);
int runner_restore(Runner *runner, const RunnerState *state);
