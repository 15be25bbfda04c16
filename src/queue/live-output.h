/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GET …/output of tasks: from the store when they are finished; while they are live, from their runner. What
 * several clients follow is fetched once, into a file that all read from. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/store/store-record.h"
#include "delivery/delivery.h"
#include "io/http-server.h"
#include "queue/task-sources.h"

typedef struct WatchedTask WatchedTask;

/* Answers REQUEST with what TASK, which is live, wrote to STREAM, from OFFSET on; with FOLLOW until it ends,
 * otherwise what there is now. */
void live_output_answer(
                const TaskSources *sources,
                Task *task,
                HttpRequest *request,
                StoredStream stream,
                uint64_t offset,
                bool follow);

/* A worker has taken the task: there is something to be fetched now. */
void live_output_task_started(WatchedTask *watched);

/* The attempt is lost, or the task ended without one: so does its output, with what has come so far. */
void live_output_task_gone(WatchedTask *watched);

/* The task is finished and stored: what was not yet passed on is read from there. Nobody asks its worker any
 * more. */
void live_output_task_stored(WatchedTask *watched);

/* The attempt has ended, and is not its last. True: output under way is passed on to its end, and then
 * delivery_release_attempt() is called. */
bool live_output_attempt_ended(WatchedTask *watched);

/* The same as live_output_answer() of a task that is not live. */
void stored_output_answer(
                const TaskSources *sources,
                HttpRequest *request,
                const char *task_id,
                StoredStream stream,
                uint64_t offset);
