/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task's story, from admission to result. */
#pragma once

#include "runner/task.h"

/* Starts a queued task whose turn has come. With nothing changed: -EAGAIN when the host is short of
 * processes, descriptors or memory just now; -EDQUOT when what it asks for must not be charged yet
 * (capacity.h). When it turns out later that it is, the task waits again, and runner_shortage() was called;
 * anything else that goes wrong is the task's result. */
int task_start(Task *task);

/* Ends a task for REASON within GRACE_USEC: a queued one at once, a running one by SIGTERM and then SIGKILL
 * to all its processes. The first reason stays; a task that is ending already goes on ending. */
void task_stop(Task *task, StopReason reason, usec_t grace_usec);

/* Whether a task that met this error may start later just as well. */
bool task_error_is_shortage(int error);
