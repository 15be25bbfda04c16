/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include "runner/task-table.h"

#include <utlist.h>

#include "core/task/task-spec.h"
#include "runner/task.h"

void task_table_done(TaskTable *table) {
        while (table->first)
                task_table_remove(table, table->first);
}

Task *task_table_find(const TaskTable *table, const char *task_id) {
        Task *task = NULL;
        HASH_FIND(by_id, table->by_id, task_id, strlen(task_id), task);
        return task;
}

int task_table_add(TaskTable *table, Task *task) {
        const char *task_id = task->spec->task_id;
        HASH_ADD_KEYPTR(by_id, table->by_id, task_id, strlen(task_id), task);
        if (!task->by_id.tbl)
                return -ENOMEM;
        task->sequence = table->next_sequence++;
        DL_APPEND2(table->first, task, previous, next);
        table->n_tasks++;
        return 0;
}

static void unlist_finished(TaskTable *table, Task *task) {
        if (!task->previous_finished) /* not even the oldest has none: it has the newest */
                return;
        DL_DELETE2(table->oldest_finished, task, previous_finished, next_finished);
        table->n_finished--;
        table->finished_bytes -= task->kept_bytes;
        table->finished_files -= task->kept_files;
}

void task_table_remove(TaskTable *table, Task *task) {
        unlist_finished(table, task);
        DL_DELETE2(table->first, task, previous, next);
        HASH_DELETE(by_id, table->by_id, task);
        table->n_tasks--;
        task_free(task);
}

static void measure_capture(Task *task, const Capture *capture) {
        if (!capture)
                return;
        const OutputStore *store = capture_store(capture);
        task->kept_bytes += store->memory.allocated;
        task->kept_files += store->file_fd >= 0;
}

static bool is_over_limit(const TaskTable *table) {
        return table->n_finished > table->limits.finished_max ||
                        table->finished_bytes > table->limits.finished_bytes_max ||
                        table->finished_files > table->limits.finished_files_max;
}

void task_table_finished(TaskTable *table, Task *task) {
        task->kept_bytes = sizeof(*task) + task_spec_size(task->spec) + (task->told ? strlen(task->told) : 0);
        measure_capture(task, task->output);
        measure_capture(task, task->error);

        DL_APPEND2(table->oldest_finished, task, previous_finished, next_finished);
        table->n_finished++;
        table->finished_bytes += task->kept_bytes;
        table->finished_files += task->kept_files;
}

usec_t task_table_expire(TaskTable *table, usec_t now_usec) {
        while (is_over_limit(table) && table->oldest_finished)
                task_table_remove(table, table->oldest_finished);
        while (table->oldest_finished) {
                usec_t when = usec_add(
                                table->oldest_finished->stop_boottime_usec, table->limits.finished_ttl_usec);
                if (when > now_usec)
                        return when;
                task_table_remove(table, table->oldest_finished);
        }
        return USEC_INFINITY;
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
