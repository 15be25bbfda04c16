/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sharing workers with other queues: looks for them, asks the master for this queue's share, and is the
 * master when it is this queue's turn. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "base/cleanup.h"

typedef struct Queue Queue;
typedef struct Sharing Sharing;

int sharing_new(Queue *queue, Sharing **ret);
Sharing *sharing_free(Sharing *sharing);
DEFINE_POINTER_CLEANUP(Sharing, sharing_free)

/* Whether this queue may use the worker now. */
bool sharing_permits(const Sharing *sharing, const char *worker_id);
