/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The end of a task at the queue: its result goes to disk, then everybody who waits is told, then the queue
 * forgets what it knew of it while it was live. */
#pragma once

#include <json-c/json.h>

#include "core/task/queue-attempt.h"
#include "io/task-store.h"

typedef struct Task Task;

/* Finishes a task that has no runner's result, for what END says. */
void task_finish_without_result(Task *task, QueueEnd end);

/* Finishes TASK with RESULT, its attempt without output; what is in BATCH goes to disk with it. Takes both
 * over. Tries again, later, when the disk fails. */
void task_finish(Task *task, json_object *result, StoreBatch *batch);

/* Begins to finish it anew in a while. */
void task_finish_later(Task *task);
