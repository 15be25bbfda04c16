/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether a task is taken. */
#pragma once

#include <stdbool.h>

#include "core/json/problem.h"
#include "core/task/task-spec.h"
#include "runner/task.h"

typedef struct TaskSubmission {
        Task *task; /* the new one, or the existing one with the same specification */
        bool is_new;
        bool is_full; /* refused with 409 because of "when_full": the answer shows the capacity */
} TaskSubmission;

/* Decides on SPEC, which it takes over in every case, submitted under lease LEASE_ID (NULL: none), and queues
 * it. With ANEW a task of this id that has ended is no obstacle but replaced, once SPEC is accepted. Refused:
 * 423 for the lease, 409 for an id that is taken by another specification or a runner that is full, 422 for
 * what can never run, 403 for a user, 429 for a full queue, 503 while draining. */
int task_submit(Runner *runner,
                TaskSpec *spec,
                const char *lease_id,
                bool anew,
                TaskSubmission *ret,
                Problem *reterr_problem);

/* The same, not anew, for a specification as JSON, under the id TASK_ID or, with NULL, the one it names
 * itself. */
int task_submit_json(
                Runner *runner,
                json_object *body,
                const char *task_id,
                const char *lease_id,
                TaskSubmission *ret,
                Problem *reterr_problem);
