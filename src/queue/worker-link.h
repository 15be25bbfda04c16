/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One worker: the calls that are made to it, and the stream of its events. What comes back is told to the
 * scheduler and to the tasks that it is about. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "core/scheduling/scheduler.h"
#include "io/http-client.h"

typedef struct Queue Queue;
typedef struct Task Task;
typedef struct WorkerLink WorkerLink;

/* CONFIG is weak. A negative errno, logged. */
int worker_link_new(Queue *queue, const WorkerConfig *config, ScheduledWorker *worker, WorkerLink **ret);
WorkerLink *worker_link_free(WorkerLink *link);
DEFINE_POINTER_CLEANUP(WorkerLink, worker_link_free)

ScheduledWorker *worker_link_worker(const WorkerLink *link);
const WorkerConfig *worker_link_config(const WorkerLink *link);

/* Makes CALL and tells the scheduler how it went. */
void worker_link_call(WorkerLink *link, WorkerCall call);

/* Submits the current attempt of TASK and tells the scheduler what became of it. */
void worker_link_submit(WorkerLink *link, Task *task);

/* Asks for the attempt to be stopped. One that has ended meanwhile is kept, so that its result can be
 * fetched. */
void worker_link_stop(WorkerLink *link, const char *attempt_id);

/* Asks for the attempt to be forgotten, and to be stopped before if it still runs. */
void worker_link_forget(WorkerLink *link, const char *attempt_id);

/* A call to URL (the worker's, and PATH behind it) that the caller completes: its token, TLS and deadlines
 * are filled in. RET_URL is the caller's to free after http_call_new(). -ENOMEM. */
int worker_link_prepare(
                WorkerLink *link,
                const char *method,
                const char *path,
                HttpCallOptions *ret_options,
                char **ret_url);

/* "/api/v1/task/ID" and SUFFIX. -ENOMEM. The caller frees *ret. */
int worker_link_attempt_path(const char *attempt_id, const char *suffix, char **ret);

/* Looks again at what the worker has: for what may have been missed. */
void worker_link_resync(WorkerLink *link);

/* Keeps the stream of events open where there is something to be heard. Call after the scheduler ran. */
void worker_link_update(WorkerLink *link);
