/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tasks as clients read them, wherever they are: live ones from memory as far as they are there, all else
 * from the store. */
#pragma once

#include <json-c/json.h>

#include "core/task/task-request.h"
#include "delivery/delivery.h"
#include "io/http-server.h"
#include "queue/task-sources.h"

/* OBJECT is the callee's; NULL with a negative R: -ENOENT, -ENOMEM, -EIO. */
typedef void (*DescribeDone)(int r, json_object *object, void *userdata);

/* What can be told at once of a task whose description is in memory. -EAGAIN: it is not. The caller puts
 * *ret. */
int describe_now(const TaskSources *sources, const char *task_id, OutputMode mode, json_object **ret);

/* Reads what it takes; DONE is called later, once. Negative errno: never. */
int describe_task(
                const TaskSources *sources,
                const char *task_id,
                OutputMode mode,
                DescribeDone done,
                void *userdata);

/* What the store has. -EAGAIN: that was read while the task was live, which it is not any more, so that the
 * store has something else by now. The caller puts *ret. */
int describe_entry(const TaskSources *sources, const StoreEntry *entry, OutputMode mode, json_object **ret);

/* Answers REQUEST, which nobody else holds, with STATUS and the task, or why it cannot be told. */
void describe_answer(
                const TaskSources *sources,
                HttpRequest *request,
                int status,
                const char *task_id,
                OutputMode mode);

/* 404 with -ENOENT, else what R says. */
void describe_answer_error(HttpRequest *request, int r);
