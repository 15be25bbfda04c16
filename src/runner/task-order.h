/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From a specification to what the leader is told: account, directory and environment of the command. */
#pragma once

#include <stdbool.h>

#include "core/json/problem.h"
#include "core/task/task-spec.h"
#include "io/accounts.h"

typedef struct Runner Runner;

/* The account that a task runs as which asks for USER (NULL: for none); it has to be looked up. NULL when
 * that USER is not allowed, or, in user mode, is the daemon's own, which is known. Weak: the configuration's
 * or USER. */
const char *task_account_name(const Runner *runner, const char *user);

/* Whether the name service has just said who that is, or that there is no such account: a task that starts
 * runs as that very account. If not, it is being asked. */
bool task_account_is_settled(const Runner *runner, const TaskSpec *spec);

/* Finds the account that SPEC's task would run as, as far as it was looked up (runner/task-accounts.h). 403
 * when that account is not among those allowed, 422 when there is none of that name, 503 when the name
 * service has not said. In user mode every task is the daemon's own user. */
int task_account(const Runner *runner, const TaskSpec *spec, Account *ret, Problem *reterr_problem);

/* The command's environment: a clean base, then what the configuration passes on, then SPEC's own,
 * then that of DEVICES ("NAME=value"; may be NULL). -ENOMEM.
 * The caller frees *ret with text_list_free(). */
int task_environment(
                const Runner *runner,
                const TaskSpec *spec,
                const char *unit,
                const Account *account,
                char *const *devices,
                char ***ret);
