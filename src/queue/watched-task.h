/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A live task that clients watch: who waits for its end, and who reads its output. Hangs on the delivery's
 * task from the first of them on. */
#pragma once

#include <assert.h>

#include "core/task/task-request.h"
#include "delivery/delivery.h"
#include "queue/task-sources.h"
#include "service/waiters.h"

typedef struct LiveOutput LiveOutput;

static_assert(_OUTPUT_MODE_MAX <= WAITERS_FORMS_MAX, "tasks are told in each mode");

typedef struct WatchedTask {
        const TaskSources *sources; /* weak */
        Task *task;                 /* weak: owns it */
        Waiters waiters;
        LiveOutput *outputs; /* each owned by those who read it */
} WatchedTask;

/* That of TASK, made if it has none. -ENOMEM. */
int watched_task_get(const TaskSources *sources, Task *task, WatchedTask **ret);

/* Nobody reads its output any more (live_output_task_gone()). NULL is fine. */
void watched_task_free(WatchedTask *watched);

/* Answers REQUEST with STATUS and the task when it has ended, or after TIMEOUT_USEC. */
void watched_task_wait(
                const TaskSources *sources,
                Task *task,
                HttpRequest *request,
                int status,
                OutputMode mode,
                usec_t timeout_usec);
