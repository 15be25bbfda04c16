/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a client asks of a queue: a task as a runner takes it, and how the queue is to treat it. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/task/task-spec.h"

#define QUEUE_PRIORITY_MAX    1000000
#define QUEUE_RETRY_MAX       1000
#define QUEUE_BACKOFF_SEC_MAX 3600.0
#define QUEUE_AFTER_MAX       1000

/* Labels that begin so are the queue's own. */
#define QUEUE_LABEL_PREFIX "daggyd."
#define QUEUE_LABEL        QUEUE_LABEL_PREFIX "queue" /* marks a queue's attempts at the runners, by its id */

typedef struct QueueSpec {
        TaskSpec *task;
        uint64_t retry_max; /* "retry": how often an errored task is run again */
        usec_t retry_backoff_usec;
        int64_t priority; /* higher first */
        bool retry_on_lost;
        char **after; /* ids of tasks that are to complete first, NULL-terminated; NULL: none */
} QueueSpec;

QueueSpec *queue_spec_free(QueueSpec *spec);
DEFINE_POINTER_CLEANUP(QueueSpec, queue_spec_free)

/* Like task_spec_parse(), with the further members "retry" {"max","backoff"}, "priority", "retry_on_lost",
 * "after".
 * BODY is changed. 400 also for a label of QUEUE_LABEL_PREFIX. */
int queue_spec_parse(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                QueueSpec **ret,
                Problem *reterr_problem);

/* Whether both ask for the same: every field but task_id and when_full. */
bool queue_spec_equal(const QueueSpec *a, const QueueSpec *b);

/* BODY, as it was submitted, with everything that SPEC settled (resources that are defaults), without what
 * does not belong to the task itself (task_id, when_full): what is stored, and read back by
 * queue_spec_parse_stored(). -ENOMEM. The caller frees *ret. */
int queue_spec_to_stored(const QueueSpec *spec, json_object *body, char **ret);

/* Reads back what queue_spec_to_stored() made. With RET_BODY also the body of its submission to a runner:
 * without what only queues know, with the label of queue QUEUE_ID, refusing to wait there. A negative errno.
 * The caller frees both. */
int queue_spec_parse_stored(
                const char *stored,
                const char *task_id,
                const TaskDefaults *defaults,
                const char *queue_id,
                QueueSpec **ret,
                char **ret_body);
