/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include <errno.h>
#include <string.h>

#include "base/hash-table.h"
#include "delivery/delivery-internal.h"

void task_table_done(TaskTable *table) {
        while (table->by_id)
                task_table_remove(table, table->by_id);
}

Task *task_table_find(const TaskTable *table, const char *task_id) {
        Task *task = NULL;
        HASH_FIND(by_id, table->by_id, task_id, strlen(task_id), task);
        return task;
}

void task_table_visit(const TaskTable *table, void (*visit)(Task *task, void *userdata), void *userdata) {
        for (Task *task = table->by_id; task; task = task->by_id.next)
                visit(task, userdata);
}

Task *task_table_find_attempt(const TaskTable *table, const char *attempt_id) {
        Task *task = NULL;
        HASH_FIND(by_attempt, table->by_attempt, attempt_id, strlen(attempt_id), task);
        return task;
}

int task_table_add(TaskTable *table, Task *task) {
        HASH_ADD_KEYPTR(by_id, table->by_id, task->task_id, strlen(task->task_id), task);
        return task->by_id.tbl ? 0 : -ENOMEM;
}

int task_table_set_attempt(TaskTable *table, Task *task, const char *attempt_id) {
        if (task->attempt_id) {
                HASH_DELETE(by_attempt, table->by_attempt, task);
                free(TAKE_PTR(task->attempt_id));
        }
        if (!attempt_id)
                return 0;
        task->attempt_id = strdup(attempt_id);
        if (!task->attempt_id)
                return -ENOMEM;
        task->by_attempt = (UT_hash_handle) {};
        HASH_ADD_KEYPTR(by_attempt, table->by_attempt, task->attempt_id, strlen(task->attempt_id), task);
        if (!task->by_attempt.tbl) {
                free(TAKE_PTR(task->attempt_id));
                return -ENOMEM;
        }
        return 0;
}

void task_table_remove(TaskTable *table, Task *task) {
        (void) task_table_set_attempt(table, task, NULL);
        HASH_DELETE(by_id, table->by_id, task);
        task_free(task);
}

size_t task_table_count(const TaskTable *table) {
        return HASH_CNT(by_id, table->by_id);
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
