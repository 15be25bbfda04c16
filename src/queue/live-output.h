/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GET …/output of tasks: from the store when they are finished; while they are live, from their runner. What
 * several clients follow is fetched once, into a file that all read from. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "io/http-server.h"
#include "io/task-store.h"

typedef struct Queue Queue;
typedef struct Task Task;
typedef struct LiveOutput LiveOutput;

/* Answers REQUEST with what TASK wrote to STREAM, from OFFSET on; with FOLLOW until it ends, otherwise what
 * there is now. */
void live_output_answer(Task *task, HttpRequest *request, StoredStream stream, uint64_t offset, bool follow);

/* A worker has taken TASK: there is something to be fetched now. */
void live_output_task_started(Task *task);

/* The attempt of TASK is over, or TASK itself; what is still under way is passed on to the end. */
void live_output_task_gone(Task *task);

/* The same of a task that is finished and in the store. SEQ and NUMBER name its attempt there. */
void stored_output_answer(
                Queue *queue,
                HttpRequest *request,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset);
