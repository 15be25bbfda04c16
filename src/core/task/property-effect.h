/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether the properties of a task are in force on this host, by what the kernel shows in the task's cgroup.
 * systemd accepts them all, and leaves out in silence what there is no controller, or no device, for. */
#pragma once

#include <stdbool.h>

#include "core/wire/task-property.h"

/* The files in which a property may show, in the order in which they are to be looked for. */
#define PROPERTY_FILES_MAX 2

typedef struct PropertyPlace {
        const char *controller;                 /* whose hierarchy it is with cgroup v1 */
        const char *legacy[PROPERTY_FILES_MAX]; /* with v1; all NULL: it is not done there */
        const char *unified[PROPERTY_FILES_MAX];
} PropertyPlace;

/* Where the property NAME shows; NULL for one that shows in no file: addresses, which are filtered by
 * programs in the kernel, and names that are none. */
const PropertyPlace *property_place(const char *name);

/* How the property is in force when a file of its place holds CONTENT (NULL: none of them is there). */
typedef enum PropertyEffect {
        PROPERTY_IN_FORCE,
        PROPERTY_WITHOUT_EFFECT,
        PROPERTY_PARTLY, /* for fewer devices than it names */
} PropertyEffect;

PropertyEffect property_effect(const TaskProperty *property, const char *content);

/* The cgroups of a host, and whose service manager makes the scopes. */
typedef struct CgroupSetup {
        bool is_unified; /* v2 alone */
        bool has_v2;     /* alone or beside v1 */
        bool is_users;   /* the manager is a user's */
} CgroupSetup;

/* Why the property is not, or not wholly, in force, in words for people (static); NULL if it is. CONTENT as
 * above. */
const char *property_complaint(const TaskProperty *property, const CgroupSetup *setup, const char *content);
