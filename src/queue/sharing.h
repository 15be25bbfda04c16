/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sharing workers with other queues: looks for them, asks the master for this queue's share, and answers as
 * the master when it is this queue. docs/sharing.md has the rules. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "core/sharing/sharing-split.h"
#include "io/http-server.h"

typedef struct Queue Queue;
typedef struct Sharing Sharing;

/* Begins at once. Negative errno. */
int sharing_new(Queue *queue, Sharing **ret);
Sharing *sharing_free(Sharing *sharing);
DEFINE_POINTER_CLEANUP(Sharing, sharing_free)

/* Whether this queue may use the worker now. */
bool sharing_permits(const Sharing *sharing, const char *worker_id);

void sharing_toggle(Sharing *sharing, bool enabled);

/* The workers this queue has configured. */
const WorkerSet *sharing_configured(const Sharing *sharing);

/* The value of EMCEE_IDENTITY_HEADER of this queue. */
const char *sharing_identity(const Sharing *sharing);

/* The version this queue shows: not its own when it is about to end, so that no others reckon with it. */
const char *sharing_shown_version(const Sharing *sharing);

/* Answers REQUEST, by which ASKER (emptied) asks for its share, now or after a scan. */
void sharing_answer_share(Sharing *sharing, HttpRequest *request, SharingQueue *asker);

/* GET /api/v1/queues; NULL when out of memory. */
json_object *sharing_describe(const Sharing *sharing);
