/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests that wait for a task's end. */
#pragma once

#include "base/usec.h"
#include "io/http-server.h"
#include "runner/task.h"

/* Answers REQUEST with the attempt and STATUS as soon as TASK is finished, or with what it is then after
 * TIMEOUT_USEC. Takes care of a client that goes away. */
void task_wait_add(Task *task, HttpRequest *request, int status, OutputMode mode, usec_t timeout_usec);

/* Answers everybody who waits for TASK. */
void task_wait_answer_all(Task *task);

/* Forgets everybody, unanswered. */
void task_waiters_drop(Task *task);
