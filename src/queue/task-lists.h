/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Pages of the list of tasks, in the making. One is made after the other, so that there is one in memory, and
 * each is read from the store in pieces, between which everybody else is served. */
#pragma once

#include "base/cleanup.h"
#include "core/task/task-request.h"
#include "io/http-server.h"
#include "queue/task-sources.h"

typedef struct TaskLists TaskLists;

/* SOURCES is weak. -ENOMEM. */
int task_lists_new(const TaskSources *sources, TaskLists **ret);

/* The HTTP server and the store must be gone before. */
TaskLists *task_lists_free(TaskLists *lists);
DEFINE_POINTER_CLEANUP(TaskLists, task_lists_free)

/* Answers REQUEST with the page that it wants. What WANTED points to must stay as long as the request does.
 */
void task_lists_answer(TaskLists *lists, HttpRequest *request, const TaskListRequest *wanted);
