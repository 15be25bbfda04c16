/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A finished task is to be tried again: it is read from the store, with what it is to wait for, and given to
 * the delivery. */
#pragma once

#include "core/json/problem.h"

typedef struct Queue Queue;

typedef struct RetryCallbacks {
        /* It is decided on; PROBLEM is NULL if it waits again as soon as that is stored. */
        void (*decided)(const Problem *problem, void *userdata);
        /* After that, and only then: 0 when it is stored. */
        void (*stored)(int r, void *userdata);
} RetryCallbacks;

/* Negative errno: nobody is called. */
int retry_task(Queue *queue, const char *task_id, const RetryCallbacks *callbacks, void *userdata);
