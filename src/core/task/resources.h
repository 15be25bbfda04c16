/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Amounts of what tasks need and hosts have: cores, memory, and capacities that only the
 * configuration knows ("gpu": 2). A plain value. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json/json.h"
#include "core/json/problem.h"

#define RESOURCES_NAMED_MAX  16
#define RESOURCE_NAME_MAX    32
#define RESOURCE_AMOUNT_MAX  UINT64_C(1000000000000) /* of memory_mb and of named capacities */
#define CORES_MICRO_PER_CORE UINT64_C(1000000)
#define CORES_MAX            1000000

typedef struct NamedAmount {
        char name[RESOURCE_NAME_MAX + 1];
        uint64_t amount;
} NamedAmount;

typedef struct Resources {
        uint64_t cores_micro; /* millionths of a core, the unit of CPUQuotaPerSecUSec */
        uint64_t memory_mb;   /* of 1048576 bytes */
        size_t n_named;
        NamedAmount named[RESOURCES_NAMED_MAX]; /* sorted by name, no name twice */
} Resources;

/* 1…32 of a-z, 0-9 and "_", starting with a letter, and not "cores" or "memory_mb". */
bool resource_name_valid(const char *name);

/* The amount of the named capacity, 0 when there is none of that name. */
uint64_t resources_named_get(const Resources *resources, const char *name);

/* Sets or adds a named capacity. -EINVAL for a bad name, -ENOSPC when there are too many names. */
int resources_named_set(Resources *resources, const char *name, uint64_t amount);

/* The same amounts of the same names; a name with amount 0 is not the same as no such name. */
bool resources_equal(const Resources *a, const Resources *b);

/* Whether both ask for the same: none of a named capacity is the same as not to name it. */
bool resources_same_request(const Resources *a, const Resources *b);

/* Whether WANT is no more than HAVE in every kind. */
bool resources_fit(const Resources *want, const Resources *have);

/* a + b, saturating; names of both. -ENOSPC when the union has too many names. */
int resources_add(const Resources *a, const Resources *b, Resources *ret);

/* a - b, at least 0 in each kind; the names are those of A. */
void resources_subtract(const Resources *a, const Resources *b, Resources *ret);

/* Reads what a task asks for, {"cores":0.5,"memory_mb":64,"gpu":1}, on top of what *RESOURCES
 * already holds as defaults. cores 0.01…CORES_MAX, memory_mb 1…, others 0…; 400 with the field below PATH
 * otherwise. */
int resources_parse_request(
                json_object *object,
                const char *path,
                Resources *resources,
                Problem *reterr_problem);

/* The same for a table of json_dispatch(); the target is a Resources. */
int resources_field_request(
                json_object *object,
                const JsonField *field,
                const char *path,
                void *resources,
                Problem *reterr_problem);

/* Reads one member of such an object, KEY and VALUE, into *RESOURCES. FIELD_PATH is what a problem names. */
int resources_parse_amount(
                const char *key,
                json_object *value,
                const char *field_path,
                Resources *resources,
                Problem *reterr_problem);

/* Flat: {"cores":6,"memory_mb":12000,"gpu":2}. -ENOMEM. The caller puts *ret. */
int resources_to_json(const Resources *resources, json_object **ret);
