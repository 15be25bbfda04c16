/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/store/store-batch.h"

#include <string.h>

#include "base/text.h"

int store_batch_new(StoreBatch **ret) {
        StoreBatch *batch = calloc(1, sizeof(*batch));
        if (!batch)
                return -ENOMEM;
        batch->bytes = sizeof(*batch);
        *ret = batch;
        return 0;
}

static void change_free(StoreChange *change) {
        if (change->type == STORE_PUT_TASK)
                text_list_free(change->labels);
        else if (change->type == STORE_SET_DEPENDENCIES)
                text_list_free(change->dependencies);
        free(change);
}

StoreBatch *store_batch_free(StoreBatch *batch) {
        if (!batch)
                return NULL;
        StoreChange *change;
        while ((change = batch->first)) {
                batch->first = change->next;
                change_free(change);
        }
        free(batch);
        return NULL;
}

static int batch_fail(StoreBatch *batch, int error) {
        if (batch->error == 0)
                batch->error = error;
        return error;
}

/* One with room for SIZE bytes of text. */
static StoreChange *change_new(StoreChangeType type, uint64_t seq, size_t size) {
        StoreChange *change = calloc(1, sizeof(*change) + size);
        if (!change)
                return NULL;
        change->type = type;
        change->seq = seq;
        return change;
}

static size_t text_size(const char *text) {
        return text ? strlen(text) + 1 : 0;
}

/* Copies *TEXT to *END, lets it point there, and moves the end on. */
static void copy_text(const char **text, char **end) {
        if (!*text)
                return;
        size_t size = strlen(*text) + 1;
        memcpy(*end, *text, size);
        *text = *end;
        *end += size;
}

static int batch_add(StoreBatch *batch, StoreChange *change, size_t text_bytes) {
        if (!change)
                return batch_fail(batch, -ENOMEM);
        batch->bytes += sizeof(*change) + text_bytes;
        if (batch->last)
                batch->last->next = change;
        else
                batch->first = change;
        batch->last = change;
        return 0;
}

static int copy_list(char *const *list, char ***ret) {
        size_t n = text_list_count(list);
        if (n == 0)
                return 0;
        char **copy = calloc(n + 1, sizeof(char *));
        for (size_t i = 0; copy && i < n; i++) {
                copy[i] = strdup(list[i]);
                if (!copy[i])
                        copy = text_list_free(copy);
        }
        *ret = copy;
        return copy ? 0 : -ENOMEM;
}

static StoreChange *task_change_new(StoreChangeType type, const StoredTask *task, size_t *ret_size) {
        *ret_size = text_size(task->task_id) + text_size(task->spec) + text_size(task->result);
        StoreChange *change = change_new(type, task->seq, *ret_size);
        if (!change)
                return NULL;
        char *end = change->text;
        change->task = *task;
        copy_text(&change->task.task_id, &end);
        copy_text(&change->task.spec, &end);
        copy_text(&change->task.result, &end);
        return change;
}

int store_batch_put_task(StoreBatch *batch, const StoredTask *task, char *const *labels) {
        size_t size;
        StoreChange *change = task_change_new(STORE_PUT_TASK, task, &size);
        if (change && copy_list(labels, &change->labels) < 0) {
                free(change);
                change = NULL;
        }
        for (char *const *label = labels; label && *label; label++)
                size += text_size(*label);
        return batch_add(batch, change, size);
}

int store_batch_update_task(StoreBatch *batch, const StoredTask *task) {
        StoredTask changed = *task;
        changed.task_id = changed.spec = changed.result = NULL;
        size_t size;
        StoreChange *change = task_change_new(STORE_UPDATE_TASK, &changed, &size);
        return batch_add(batch, change, size);
}

int store_batch_finish_task(
                StoreBatch *batch,
                uint64_t seq,
                StoredState state,
                usec_t finish_usec,
                const char *result) {
        size_t size;
        StoreChange *change = task_change_new(
                        STORE_FINISH_TASK,
                        &(StoredTask) { .seq = seq,
                                        .state = state,
                                        .finish_usec = finish_usec,
                                        .result = result },
                        &size);
        return batch_add(batch, change, size);
}

int store_batch_retry_task(StoreBatch *batch, uint64_t seq, usec_t queue_usec) {
        size_t size;
        StoreChange *change = task_change_new(
                        STORE_RETRY_TASK, &(StoredTask) { .seq = seq, .queue_usec = queue_usec }, &size);
        return batch_add(batch, change, size);
}

int store_batch_set_dependencies(StoreBatch *batch, uint64_t seq, char *const *task_ids) {
        size_t size = 0;
        StoreChange *change = change_new(STORE_SET_DEPENDENCIES, seq, 0);
        if (change && copy_list(task_ids, &change->dependencies) < 0) {
                free(change);
                change = NULL;
        }
        for (char *const *id = task_ids; id && *id; id++)
                size += text_size(*id);
        return batch_add(batch, change, size);
}

int store_batch_delete_task(StoreBatch *batch, uint64_t seq) {
        return batch_add(batch, change_new(STORE_DELETE_TASK, seq, 0), 0);
}

int store_batch_put_attempt(StoreBatch *batch, uint64_t seq, const StoredAttempt *attempt) {
        size_t size = text_size(attempt->worker_id) + text_size(attempt->runner_task_id) +
                        text_size(attempt->runner_instance) + text_size(attempt->attempt);
        StoreChange *change = change_new(STORE_PUT_ATTEMPT, seq, size);
        if (change) {
                char *end = change->text;
                change->attempt = *attempt;
                copy_text(&change->attempt.worker_id, &end);
                copy_text(&change->attempt.runner_task_id, &end);
                copy_text(&change->attempt.runner_instance, &end);
                copy_text(&change->attempt.attempt, &end);
        }
        return batch_add(batch, change, size);
}

int store_batch_append_output(
                StoreBatch *batch,
                uint64_t seq,
                uint64_t attempt_number,
                StoredStream stream,
                uint64_t offset,
                const void *data,
                size_t size) {
        if (size > STORE_OUTPUT_PIECE_MAX)
                return batch_fail(batch, -EINVAL);
        if (size == 0)
                return 0;
        StoreChange *change = change_new(STORE_APPEND_OUTPUT, seq, size);
        if (change) {
                memcpy(change->text, data, size);
                change->output.number = attempt_number;
                change->output.stream = stream;
                change->output.offset = offset;
                change->output.bytes = change->text;
                change->output.size = size;
        }
        return batch_add(batch, change, size);
}

static int add_worker(StoreBatch *batch, StoreChangeType type, const StoredWorker *worker) {
        size_t size = text_size(worker->worker_id) + text_size(worker->url) + text_size(worker->before_url) +
                        text_size(worker->token);
        StoreChange *change = change_new(type, 0, size);
        if (change) {
                char *end = change->text;
                change->worker = *worker;
                copy_text(&change->worker.worker_id, &end);
                copy_text(&change->worker.url, &end);
                copy_text(&change->worker.before_url, &end);
                copy_text(&change->worker.token, &end);
        }
        return batch_add(batch, change, size);
}

int store_batch_put_worker(StoreBatch *batch, const StoredWorker *worker) {
        return add_worker(batch, STORE_PUT_WORKER, worker);
}

int store_batch_delete_worker(StoreBatch *batch, const char *worker_id) {
        return add_worker(batch, STORE_DELETE_WORKER, &(StoredWorker) { .worker_id = worker_id });
}

int store_batch_put_fact(StoreBatch *batch, const char *key, const char *value) {
        size_t size = text_size(key) + text_size(value);
        StoreChange *change = change_new(STORE_PUT_FACT, 0, size);
        if (change) {
                char *end = change->text;
                change->fact.key = key;
                change->fact.value = value;
                copy_text(&change->fact.key, &end);
                copy_text(&change->fact.value, &end);
        }
        return batch_add(batch, change, size);
}
