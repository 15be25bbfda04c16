/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the journal says of a task under its scope's unit: that it started, what it wrote, how it ended. The
 * entries go through the leader, which is inside the scope. */
#pragma once

#include "runner/task.h"

void task_journal_started(Task *task);

/* SIZE more bytes of a stream; with SIZE 0 its end: what is left without line break is a line. */
void task_journal_output(Task *task, TaskStream stream, const char *bytes, size_t size);

void task_journal_finished(Task *task);
