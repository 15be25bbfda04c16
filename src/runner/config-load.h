/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr's configuration, read from disk, with what is wrong in one line of the log. */
#pragma once

#include "core/config/config-runner.h"
#include "io/accounts.h"

#define PROGRAM_NAME "daggyr" /* by which its files are found */

/* Reads the file at PATH, or with NULL takes the defaults. */
int runner_config_load(const char *path, RunnerConfig **ret);

/* Whether tasks may run as CONFIG's task_user, for which a lookup has ended with ERROR or found ACCOUNT.
 * ERROR when it failed, -EPERM when tasks would run as root or as the daemon itself; logged. */
int runner_config_check_account(
                const char *path,
                const RunnerConfig *config,
                int error,
                const Account *account);

/* Looks it up itself, for as long as that takes: before there is a loop. */
int runner_config_check_task_user(const char *path, const RunnerConfig *config);
