/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A program's configuration and what it refers to, as they are on disk. What is wrong goes into one line of
 * the log. PROGRAM is its name. */
#pragma once

#include <stdbool.h>

#include "base/text.h"
#include "core/config/config-service.h"
#include "core/json/problem.h"

#define CONFIG_FILE_DEFAULT "/etc/daggyr/%s.json" /* with the program's name */

/* Where PROGRAM as a service of the system has its configuration. The string is static. */
const char *config_file_default_path(const char *program);

/* Reads the file at PATH. Nothing, which means the defaults, with NULL, and when PATH is the default one and
 * there is no file. *ret_token_given: whether the unit passes the credential "PROGRAM.token". */
int config_file_read(const char *program, const char *path, Text *ret, bool *ret_token_given);

/* How log lines name the configuration of PATH. */
const char *config_file_name(const char *path);

/* Logs why the configuration of PATH was refused. */
void config_file_log_problem(const char *path, const Problem *problem);

/* Reads the token that clients over TCP must show: the file that the configuration names, or the credential.
 * *ret is NULL when there is neither; the caller frees it. */
int config_file_read_token(const char *program, const ServiceConfig *config, char **ret);
