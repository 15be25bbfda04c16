/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr's configuration, read from disk, with what is wrong in one line of the log. */
#pragma once

#include "core/config/config-runner.h"

/* Reads the file at PATH, or with NULL takes the defaults. */
int runner_config_load(const char *path, RunnerConfig **ret);

/* -ENOENT when there is no such account, -EPERM when tasks would run as root or as the daemon itself. */
int runner_config_check_task_user(const char *path, const RunnerConfig *config);
