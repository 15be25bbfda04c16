/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* "properties" of a task: the resource-control settings of systemd that a client may hand through, by the
 * names and with the meanings of systemd.resource-control(5), as values of the types that systemd's bus
 * interface takes. What daggyr sets itself is refused with a word on what to use instead; everything else is
 * refused, as an allow-list has it. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "core/json/problem.h"

#define TASK_PROPERTIES_MAX             32
#define TASK_PROPERTY_ADDRESSES_MAX     256
#define TASK_PROPERTY_DEVICE_LIMITS_MAX 64
#define TASK_PROPERTY_CPU_MAX           8191 /* as in systemd */

typedef enum TaskPropertyKind {
        TASK_PROPERTY_NUMBER,        /* "t" */
        TASK_PROPERTY_MASK,          /* "ay": bit n%8 of byte n/8 stands for CPU or node n */
        TASK_PROPERTY_ADDRESSES,     /* "a(iayu)": family, bytes, prefix length */
        TASK_PROPERTY_DEVICE_LIMITS, /* "a(st)": path of the device, limit */
} TaskPropertyKind;

typedef struct TaskAddress {
        int family;        /* AF_INET or AF_INET6 */
        uint8_t bytes[16]; /* 4 or 16 of them, in network order, 0 beyond the prefix */
        size_t size;       /* 4 or 16 */
        uint32_t n_bits;   /* prefix length */
} TaskAddress;

typedef struct TaskDeviceLimit {
        char *path;
        uint64_t limit; /* per second; UINT64_MAX: none */
} TaskDeviceLimit;

typedef struct TaskProperty {
        const char *name; /* as systemd's bus interface calls it, too */
        TaskPropertyKind kind;
        uint64_t number; /* UINT64_MAX: "infinity" */
        uint8_t *mask;   /* the last byte is not 0 */
        size_t mask_size;
        TaskAddress *addresses;
        size_t n_addresses;
        TaskDeviceLimit *limits;
        size_t n_limits;
} TaskProperty;

typedef struct TaskProperties {
        TaskProperty *items; /* in the order they were given */
        size_t n_items;
} TaskProperties;

TaskProperties *task_properties_free(TaskProperties *properties);
DEFINE_POINTER_CLEANUP(TaskProperties, task_properties_free)

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

/* About how many bytes PROPERTIES (may be NULL) holds. */
size_t task_properties_size(const TaskProperties *properties);
