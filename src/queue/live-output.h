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
typedef struct WorkerLink WorkerLink;

/* Answers REQUEST with what TASK wrote to STREAM, from OFFSET on; with FOLLOW until it ends, otherwise what
 * there is now. */
void live_output_answer(Task *task, HttpRequest *request, StoredStream stream, uint64_t offset, bool follow);

/* A worker has taken TASK: there is something to be fetched now. */
void live_output_task_started(Task *task);

/* The attempt of TASK is lost, or TASK ended without one: so does its output, with what has come so far. */
void live_output_task_gone(Task *task);

/* TASK is finished and stored: what was not yet passed on is read from there. Nobody asks its worker any
 * more. */
void live_output_task_stored(Task *task);

/* The attempt of TASK at LINK has ended, and is not its last. Output under way is passed on to its end, and
 * then the worker is told to forget the attempt. */
void live_output_attempt_ended(Task *task, WorkerLink *link);

/* The same of a task that is finished and in the store. SEQ and NUMBER name its attempt there. */
void stored_output_answer(
                Queue *queue,
                HttpRequest *request,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset);
