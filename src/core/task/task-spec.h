/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a client asks for when it submits a task: the checked form of the JSON body. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/usec.h"
#include "core/json/problem.h"
#include "core/task/resources.h"
#include "core/task/task-properties.h"

#define TASK_COMMAND_MAX     4096 /* strings in "command" */
#define TASK_ENVIRONMENT_MAX 1024
#define TASK_LABELS_MAX      64
#define TASK_TIMEOUT_SEC_MAX 31536000.0 /* a year */
#define TASK_GRACE_SEC_MAX   3600.0
#define TASK_TASKS_MAX_LIMIT 4194304 /* the kernel's PID_MAX_LIMIT */

#define TASK_GRACE_DEFAULT_USEC (10 * USEC_PER_SEC)
#define TASK_TASKS_MAX_DEFAULT  4096
#define TASK_UMASK_DEFAULT      0022

typedef enum WhenFull {
        WHEN_FULL_QUEUE,
        WHEN_FULL_REJECT,
        _WHEN_FULL_MAX,
} WhenFull;

typedef struct TaskDefaults {
        Resources resources; /* "default_resources" */
} TaskDefaults;

typedef struct TaskSpec {
        char *task_id;      /* NULL: the server chooses */
        char **command;     /* NULL-terminated, at least one string; [0] may be empty: exec fails then */
        char **environment; /* "NAME=value", sorted by name; NULL for none */
        Resources resources;
        bool cores_by_default, memory_by_default; /* the client left it open */
        usec_t timeout_usec;                      /* USEC_INFINITY: never ("timeout": 0) */
        usec_t grace_usec;
        char *working_directory;           /* absolute, or NULL for the account's home */
        char *user;                        /* NULL for the configured task_user */
        mode_t umask;                      /* default 0022 */
        Text standard_input;               /* bytes; none by default */
        uint64_t tasks_max;                /* default 4096 */
        json_object *properties;           /* as given, or NULL; a reference */
        TaskProperties *parsed_properties; /* the same for systemd; NULL when PROPERTIES is */
        char **labels;                     /* "key=value", sorted by key; NULL for none */
        WhenFull when_full;                /* how to submit, not what: left out of comparisons */
} TaskSpec;

TaskSpec *task_spec_free(TaskSpec *spec);
DEFINE_POINTER_CLEANUP(TaskSpec, task_spec_free)

/* Reads the body of POST /api/v1/task[/{task_id}], or one element of a batch. TASK_ID is that of the path;
 * NULL lets the body's own "task_id" count (which must equal the path's if both are there). 400 for anything
 * malformed, with the field; also for a task id that is not valid, an environment name that is empty or has
 * "=", an empty command array, a label key outside [A-Za-z0-9._/-]{1,63} or value over 255 bytes, a
 * working_directory that is not absolute or over 4095 bytes, a user outside [A-Za-z_][A-Za-z0-9._-]*[$]?
 * or over 32 bytes, umask that is not an octal string "0022" or an integer 0…511. */
int task_spec_parse(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                TaskSpec **ret,
                Problem *reterr_problem);

/* Reads labels, an object at the JSON pointer PATH, as those of a task: at most N_MAX. *ret is as with
 * pairs_parse(). 400. */
int task_labels_parse(
                json_object *value,
                size_t n_max,
                const char *path,
                char ***ret,
                Problem *reterr_problem);

/* Reads the body of the DaggyR endpoint (details of Daggy's agent protocol): "command", "environment",
 * "timeout" in whole seconds, "resources" of integers. Unknown keys are ignored, as are resources whose name
 * could not be that of one of ours; cores and memory_mb of 0 are the defaults; negative amounts are refused.
 * An absent command is an empty array (spec->command holds no string then). TASK_ID is taken as it is, with
 * its "%". 400 with a detail on failure. */
int task_spec_parse_daggyr(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                TaskSpec **ret,
                Problem *reterr_problem);

/* Whether both ask for the same: every field but task_id and when_full, each by what it means and not by how
 * it is written. What both leave open is the same, though the defaults may have changed in between. */
bool task_spec_equal(const TaskSpec *a, const TaskSpec *b);

/* About how many bytes SPEC holds, for accounting of what is kept. */
size_t task_spec_size(const TaskSpec *spec);
