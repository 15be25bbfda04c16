/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration and what it refers to, read from disk, with what is wrong in one line of the log. */
#pragma once

#include "core/config-runner.h"

/* Reads the file at PATH, or with NULL takes the defaults. */
int runner_config_load(const char *path, RunnerConfig **ret);

/* -ENOENT when there is no such account, -EPERM when tasks would run as root or as the daemon itself. */
int runner_config_check_task_user(const char *path, const RunnerConfig *config);

/* Reads the token that clients over TCP must show: the file that the configuration names, or the credential
 * "daggyr.token" of the unit. *ret is NULL when there is neither. */
int runner_token_load(const RunnerConfig *config, char **ret);
