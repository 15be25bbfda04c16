/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether tasks are short of memory together, as the kernel tells (PSI), and what follows for those that wait
 * to start. A plain value. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MemoryPressure {
        double percent;       /* of the last 10 s or so, in which some task stood still for memory */
        uint64_t max_percent; /* from there on starts are held; 0: none ever is */
        bool is_known;        /* false: nobody looks, or the kernel does not tell */
        bool is_holding;      /* starts */
} MemoryPressure;

/* Finds "avg10" of "some" in TEXT, what a file "memory.pressure" holds. -EBADMSG: it is none. */
int memory_pressure_parse(const char *text, double *ret_percent);

/* Whether a start must wait while N_RUNNING tasks run. Where none runs it never does: the pressure is old
 * then, or somebody else's, and might not end. The kernel's figure is an average that moves slowly; it needs
 * no second threshold to come down to. */
bool memory_pressure_holds(const MemoryPressure *pressure, size_t n_running);

/* Adds "pressure" to OBJECT: {"memory_percent","memory_max_percent","holding"}, or null while it is not
 * known. -ENOMEM. */
int memory_pressure_add(json_object *object, const MemoryPressure *pressure);
