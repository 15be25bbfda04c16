/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Brings a finished attempt from its runner to the disk. First the attempt itself, of which the scheduler
 * decides whether it is final; then its output, where it did not come along; then the worker may forget it.
 */
#pragma once

#include <json-c/json.h>

#include "base/cleanup.h"

typedef struct Task Task;
typedef struct TaskFetch TaskFetch;
typedef struct WorkerLink WorkerLink;

/* Begins, unless it has begun. What goes wrong on the way is made up for when the worker is listed again. */
void task_fetch_start(Task *task, WorkerLink *link);
TaskFetch *task_fetch_free(TaskFetch *fetch);
DEFINE_POINTER_CLEANUP(TaskFetch, task_fetch_free)

/* The attempt is not final: what the runner said of it; NULL when there is nothing. Borrowed. */
json_object *task_fetch_attempt(const TaskFetch *fetch);

/* The attempt is final: stores it and its output, then finishes the task. */
void task_fetch_finish(TaskFetch *fetch);
