/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What becomes of a queue's workers when the configuration file says something else, or somebody lets one
 * join or leave. The file wins: a worker that joined and is in the file is the file's from then on, and can
 * be changed there only. No two workers have the same url, since each would stop what the other one started;
 * nor does one get the url that another one has moved away from, as long as something that was sent there may
 * run under a lease: that lease, which is the queue's, would be kept alive. */
#pragma once

#include "core/config/config-worker.h"

typedef enum WorkerOrigin {
        WORKER_FROM_FILE,
        WORKER_JOINED,
} WorkerOrigin;

/* "file", "joined". */
const char *worker_origin_to_string(WorkerOrigin origin);

/* A worker that the queue has. */
typedef struct PresentWorker {
        const char *id, *url;
        const char *before_url; /* where it was, and something of ours may still run; or NULL */
        WorkerOrigin origin;
        bool leaving;
} PresentWorker;

typedef enum WorkerStep {
        WORKER_STEP_KEEP,
        WORKER_STEP_ADD,
        WORKER_STEP_SET,   /* its token and the like may be others */
        WORKER_STEP_MOVE,  /* the same, and its url is another */
        WORKER_STEP_LEAVE, /* nothing new goes there; it goes when its last task has ended */
        WORKER_STEP_WAIT,  /* until the other worker that has its url is gone or elsewhere */
} WorkerStep;

/* PRESENT, or NULL, is to be as the file WANTS it; NULL: the file does not have it. AT_URL is the worker that
 * has the wanted url, or had it before, if there is one. */
WorkerStep worker_plan_file(
                const PresentWorker *present,
                const WorkerConfig *wanted,
                const PresentWorker *at_url);

/* The same by a request. A negative errno: it is refused. */
int worker_plan_join(
                const PresentWorker *present,
                const WorkerConfig *wanted,
                const PresentWorker *at_url,
                Problem *reterr_problem);

/* WORKER_STEP_LEAVE, or a negative errno. PRESENT may be NULL. */
int worker_plan_leave(const PresentWorker *present, Problem *reterr_problem);
