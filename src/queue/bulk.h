/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stops, tries again or forgets all tasks that have some labels and a state, however many: a page of the
 * store at a time, in order of arrival, and the next one when what came of that is on disk. */
#pragma once

#include "core/task/bulk-request.h"
#include "io/http-server.h"

typedef struct Queue Queue;

typedef enum BulkVerb {
        BULK_STOP,
        BULK_RETRY, /* without a state: of those that have not completed */
        BULK_FORGET,
} BulkVerb;

/* Takes WANTED over. Answers REQUEST when all is done; it is done also if the client is gone. */
void bulk_begin(Queue *queue, HttpRequest *request, BulkVerb verb, BulkRequest *wanted);
