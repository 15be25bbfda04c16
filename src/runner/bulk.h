/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stops or forgets all tasks that have some labels and a state, a few of them in each turn. */
#pragma once

#include "core/task/bulk-request.h"
#include "io/http-server.h"

typedef struct Runner Runner;

typedef enum BulkVerb {
        BULK_STOP,
        BULK_FORGET,
} BulkVerb;

/* Takes WANTED over. Answers REQUEST when all is done; it is done also if the client is gone. */
void bulk_begin(Runner *runner, HttpRequest *request, BulkVerb verb, BulkRequest *wanted);
