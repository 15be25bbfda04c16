/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All tasks the runner knows, by id and in order of submission, and how long finished ones are kept. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"

typedef struct Task Task;

typedef struct TaskLimits {
        uint64_t finished_max;
        uint64_t finished_bytes_max; /* memory of their specifications and outputs */
        uint64_t finished_files_max; /* unlinked files of larger outputs, each an open descriptor */
        usec_t finished_ttl_usec;
} TaskLimits;

typedef struct TaskTable {
        Task *by_id;
        Task *first, *oldest_finished;
        size_t n_tasks, n_finished;
        uint64_t finished_bytes, finished_files;
        uint64_t next_sequence;
        TaskLimits limits;
} TaskTable;

/* Frees all tasks. */
void task_table_done(TaskTable *table);

Task *task_table_find(const TaskTable *table, const char *task_id);

/* TABLE owns TASK from now on. -ENOMEM: it does not. */
int task_table_add(TaskTable *table, Task *task);

/* Forgets and frees TASK. */
void task_table_remove(TaskTable *table, Task *task);

/* Counts TASK among the finished, the newest of them. Nothing is forgotten yet. */
void task_table_finished(TaskTable *table, Task *task);

/* Forgets what finished longer than the limit ago, and the oldest where there is too much; returns when there
 * will be something to do again, or USEC_INFINITY. */
usec_t task_table_expire(TaskTable *table, usec_t now_usec);
