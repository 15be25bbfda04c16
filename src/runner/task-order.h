/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From a specification to what the leader is told: account, directory and environment of the command. */
#pragma once

#include "core/json/problem.h"
#include "core/task/task-spec.h"
#include "io/accounts.h"

typedef struct Runner Runner;

/* Finds the account that SPEC's task would run as. 403 when that account is not among those allowed, 422 when
 * there is none of that name. In user mode every task is the daemon's own user. */
int task_account(const Runner *runner, const TaskSpec *spec, Account *ret, Problem *reterr_problem);

/* The command's environment: a clean base, then what the configuration passes on, then SPEC's own. -ENOMEM.
 * The caller frees *ret with text_list_free(). */
int task_environment(
                const Runner *runner,
                const TaskSpec *spec,
                const char *unit,
                const Account *account,
                char ***ret);
