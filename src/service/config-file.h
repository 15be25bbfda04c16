/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A program's configuration and what it refers to, as they are on disk. What is wrong goes into one line of
 * the log. PROGRAM is its name. */
#pragma once

#include <stdbool.h>

#include "base/text.h"
#include "core/config/config-service.h"
#include "core/json/problem.h"

/* Reads the file at PATH; with NULL nothing, which means the defaults. *ret_token_given: whether the unit
 * passes the credential "PROGRAM.token". */
int config_file_read(const char *program, const char *path, Text *ret, bool *ret_token_given);

/* How log lines name the configuration of PATH. */
const char *config_file_name(const char *path);

/* Logs why the configuration of PATH was refused. */
void config_file_log_problem(const char *path, const Problem *problem);

/* Reads the token that clients over TCP must show: the file that the configuration names, or the credential.
 * *ret is NULL when there is neither; the caller frees it. */
int config_file_read_token(const char *program, const ServiceConfig *config, char **ret);
