/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From task ids to unit names. */
#pragma once

#include <stdbool.h>

#define TASK_ID_MAX          128
#define TASK_UNIT_PREFIX     "daggyr-task-"
#define TASK_UNIT_SUFFIX     ".scope"
#define TASK_UNIT_PATTERN    TASK_UNIT_PREFIX "*" TASK_UNIT_SUFFIX
#define UNIT_NAME_LENGTH_MAX 255 /* systemd's UNIT_NAME_MAX less the NUL */

/* 1…128 of A-Za-z0-9._:- and no "." or "-" first. */
bool task_id_valid(const char *task_id);

/* "daggyr-task-" + TASK_ID escaped as systemd-escape(1) does + ".scope". A name that would be too
 * long is cut and ends in "…-<16 hex digits>" of the id's hash instead (without the "…"). TASK_ID may hold
 * "%" (ids of the DaggyR endpoints). -ENOMEM. The caller frees *ret. */
int unit_name_from_task_id(const char *task_id, char **ret);
