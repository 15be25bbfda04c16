/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The TaskAttempt of a queue: the runner's, with what only the queue knows. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/task/queue-spec.h"

/* What the queue adds to an attempt. Borrows everything. */
typedef struct QueueAttempt {
        const char *task_id;
        const QueueSpec *spec;
        const char *worker; /* NULL: none yet */
        usec_t submit_usec; /* CLOCK_REALTIME, at the queue */
        usec_t queue_usec;  /* CLOCK_REALTIME, since when it waits, or last waited; 0: null */
} QueueAttempt;

/* How a task ended that no runner's result is final for. */
typedef enum QueueEnd {
        QUEUE_END_LIVE,       /* it did not: "queued", or "running" where there is a worker */
        QUEUE_END_CANCELED,   /* killed, "canceled" */
        QUEUE_END_LOST,       /* errored, "worker-lost" */
        QUEUE_END_INVALID,    /* errored, "start-failed" */
        QUEUE_END_DEPENDENCY, /* errored, "dependency-failed" */
} QueueEnd;

/* Turns RUNNER_ATTEMPT, an object as a runner sent it, into the queue's: takes out its outputs and puts in
 * what ATTEMPT says. -ENOMEM: the object must be dropped. */
int queue_attempt_adopt(json_object *runner_attempt, const QueueAttempt *attempt);

/* One for a task that has none from a runner. UNIT and NOTE may be NULL; STOP_USEC is CLOCK_REALTIME.
 * -ENOMEM. The caller puts *ret. */
int queue_attempt_new(
                const QueueAttempt *attempt,
                QueueEnd end,
                const char *unit,
                const char *note,
                usec_t stop_usec,
                json_object **ret);

/* Takes out of an attempt that did not become its task's result what the task itself shows: these may be
 * many, and a command a megabyte. */
void queue_attempt_make_earlier(json_object *object);

/* The result of a task that is tried again, of FINISHED, which is changed: what is kept of it among the
 * earlier attempts. */
void queue_attempt_make_retried(json_object *finished);

/* Adds "output" or "error" (KEY) to a finished attempt: SIZE BYTES of those the task wrote; CUT when these
 * are not all that are kept. -ENOMEM. */
int queue_attempt_add_output(json_object *object, const char *key, const void *bytes, size_t size, bool cut);
