/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GET /api/v1/task/{task_id}/output: the raw bytes of one stream, as they come if asked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "io/http-server.h"
#include "runner/task.h"

/* Answers REQUEST with what was captured of STREAM from OFFSET on; with FOLLOW until the task has ended. */
void task_output_answer(Task *task, HttpRequest *request, TaskStream stream, uint64_t offset, bool follow);

/* Call when there is more output, or the task's end. */
void task_output_wake(Task *task);

/* TASK is about to go: those who read its output get what they have. */
void task_output_drop(Task *task);

/* Those who read its output get all there is now, and then an end; they may come again for the rest. */
void task_output_end_readers(Task *task);
