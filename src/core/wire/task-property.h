/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The resource-control settings of systemd that a task may have beside its limits: their names, as on
 * systemd's bus interface, and their values in the types that it takes. They are an allow-list, which daggyr
 * applies to what clients send and the broker once more to what daggyr sends. No JSON in here: the broker
 * does without. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define TASK_PROPERTIES_MAX             32
#define TASK_PROPERTY_ADDRESSES_MAX     256 /* that a client may list; "any" and the like are two each */
#define TASK_PROPERTY_DEVICE_LIMITS_MAX 64
#define TASK_PROPERTY_DEVICE_PATH_MAX   255
#define TASK_PROPERTY_CPU_MAX           8191 /* as in systemd */
#define TASK_PROPERTY_MASK_MAX          (TASK_PROPERTY_CPU_MAX / 8 + 1)

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
        const char *name; /* of a TaskPropertyForm, never freed */
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

/* Frees what PROPERTY holds, not PROPERTY. */
void task_property_done(TaskProperty *property);

TaskProperties *task_properties_free(TaskProperties *properties);
DEFINE_POINTER_CLEANUP(TaskProperties, task_properties_free)

/* About how many bytes PROPERTIES (may be NULL) holds. */
size_t task_properties_size(const TaskProperties *properties);

/* What a property may be. */
typedef struct TaskPropertyForm {
        const char *name;
        TaskPropertyKind kind;
        uint64_t min, max;    /* of its number, or of each device's limit */
        unsigned suffix_base; /* what a K behind it stands for; such numbers may be infinite. 0: neither */
} TaskPropertyForm;

/* The INDEXth of the allowed properties, or NULL behind the last. The order is part of the broker's protocol.
 */
const TaskPropertyForm *task_property_form(size_t index);

/* The form of NAME, or NULL when no task may have such a property; *RET_INDEX (may be NULL) is where it
 * stands. */
const TaskPropertyForm *task_property_find(const char *name, size_t *ret_index);

/* Whether PATH may be given to systemd as that of a device. PID 1 looks the path up, and on a file system
 * that a client serves itself it could be held up for ever: so only the places where root makes device nodes
 * and links to them will do. systemd also writes the path into the unit's file as it stands: so there are no
 * spaces, line ends or "%" in it. */
bool task_property_device_path_valid(const char *path);

/* The same for a device that a task may open. Such devices lie anywhere below /dev (/dev/dri/renderD128), but
 * not where others than root can make names. */
bool task_device_path_valid(const char *path);

/* Whether PROPERTY is one that its form allows, in every detail. */
bool task_property_valid(const TaskProperty *property);
