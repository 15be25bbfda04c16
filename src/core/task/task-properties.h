/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* "properties" of a task as clients write them: the settings of core/wire/task-property.h, by the names and
 * with the meanings of systemd.resource-control(5). What daggyr sets itself is refused with a word on what to
 * use instead; everything else is refused, as an allow-list has it. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "core/json/problem.h"
#include "core/wire/task-property.h"

/* Reads OBJECT, which stands at the JSON pointer PATH:
 *
 *   CPUWeight, IOWeight                   1…10000
 *   MemoryMin, MemoryLow, MemoryHigh      bytes, "512M" (K, M, G, T of 1024) or "infinity"
 *   AllowedCPUs, AllowedMemoryNodes       "0-3,5"
 *   IPAddressAllow, IPAddressDeny         ["10.0.0.0/8", "::1", "any", "localhost", "link-local", …]
 *   IO{Read,Write}{Bandwidth,IOPS}Max     {"/dev/vda": 1000000}, also "10M" (of 1000) or "infinity"
 *
 * 400 with the field for anything else. */
int task_properties_parse(
                json_object *object,
                const char *path,
                TaskProperties **ret,
                Problem *reterr_problem);

/* Whether both (either may be NULL) mean the same, however it was written and in whatever order. */
bool task_properties_equal(const TaskProperties *a, const TaskProperties *b);
