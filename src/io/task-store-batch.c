/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Batches: lists of prepared statements by name, with copies of what is to be bound to them. */

#include <errno.h>
#include <string.h>

#include "io/task-store-internal.h"

#define OUTPUT_ROW_BYTES (128 * 1024) /* who reads some bytes of a row has it read whole */

static const char *const state_names[] = {
        [STORED_QUEUED] = "queued",   [STORED_RUNNING] = "running", [STORED_COMPLETED] = "completed",
        [STORED_ERRORED] = "errored", [STORED_KILLED] = "killed",
};
_Static_assert(sizeof(state_names) / sizeof(*state_names) == _STORED_STATE_MAX, "a name for each state");

static const char *const attempt_state_names[] = {
        [STORED_ATTEMPT_PLACED] = "placed",   [STORED_ATTEMPT_SENT] = "sent",
        [STORED_ATTEMPT_RUNNING] = "running", [STORED_ATTEMPT_FINISHED] = "finished",
        [STORED_ATTEMPT_LOST] = "lost",       [STORED_ATTEMPT_REFUSED] = "refused",
};
_Static_assert(sizeof(attempt_state_names) / sizeof(*attempt_state_names) == _STORED_ATTEMPT_STATE_MAX,
               "a name for each state");

const char *stored_state_to_string(StoredState state) {
        return state_names[state];
}

int stored_state_from_string(const char *name) {
        for (int i = 0; i < _STORED_STATE_MAX; i++)
                if (streq(state_names[i], name))
                        return i;
        return -EINVAL;
}

const char *stored_attempt_state_to_string(StoredAttemptState state) {
        return attempt_state_names[state];
}

int stored_attempt_state_from_string(const char *name) {
        for (int i = 0; i < _STORED_ATTEMPT_STATE_MAX; i++)
                if (streq(attempt_state_names[i], name))
                        return i;
        return -EINVAL;
}

int store_batch_new(StoreBatch **ret) {
        StoreBatch *batch = calloc(1, sizeof(*batch));
        if (!batch)
                return -ENOMEM;
        *ret = batch;
        return 0;
}

static void operation_free(BatchOperation *operation) {
        for (size_t i = 0; i < operation->n_values; i++)
                free(operation->values[i].bytes);
        free(operation);
}

StoreBatch *store_batch_free(StoreBatch *batch) {
        if (!batch)
                return NULL;
        BatchOperation *operation;
        while ((operation = batch->first)) {
                batch->first = operation->next;
                operation_free(operation);
        }
        free(batch);
        return NULL;
}

static BatchValue number(uint64_t value) {
        return (BatchValue){ .type = VALUE_NUMBER, .number = (int64_t) value };
}

/* Borrows until it is added. */
static BatchValue bytes(const void *value, size_t size) {
        return (BatchValue){ .type = VALUE_BYTES, .bytes = (char *) value, .size = size };
}

static BatchValue text(const char *value) {
        if (!value)
                return (BatchValue){ .type = VALUE_NULL };
        return (BatchValue){ .type = VALUE_TEXT, .bytes = (char *) value, .size = strlen(value) };
}

static int operation_new(
                WriteStatement statement,
                const BatchValue *values,
                size_t n_values,
                BatchOperation **ret) {
        BatchOperation *operation = calloc(1, sizeof(*operation) + n_values * sizeof(*values));
        if (!operation)
                return -ENOMEM;
        operation->statement = statement;
        for (size_t i = 0; i < n_values; i++) {
                operation->values[i] = values[i];
                operation->values[i].bytes = NULL;
                operation->n_values = i + 1;
                if (!values[i].bytes)
                        continue;
                operation->values[i].bytes = malloc(values[i].size + 1);
                if (!operation->values[i].bytes) {
                        operation_free(operation);
                        return -ENOMEM;
                }
                memcpy(operation->values[i].bytes, values[i].bytes, values[i].size);
        }
        *ret = operation;
        return 0;
}

static int batch_fail(StoreBatch *batch, int error) {
        if (batch->error == 0)
                batch->error = error;
        return error;
}

static int batch_add(StoreBatch *batch, WriteStatement statement, const BatchValue *values, size_t n_values) {
        BatchOperation *operation;
        int r = operation_new(statement, values, n_values, &operation);
        if (r < 0)
                return batch_fail(batch, r);
        batch->bytes += sizeof(*operation) + n_values * sizeof(*values);
        for (size_t i = 0; i < n_values; i++)
                batch->bytes += values[i].size;
        if (batch->last)
                batch->last->next = operation;
        else
                batch->first = operation;
        batch->last = operation;
        return 0;
}

#define N_VALUES(values) (sizeof(values) / sizeof(*(values)))

int store_batch_put_task(StoreBatch *batch, const StoredTask *task, char *const *labels) {
        const BatchValue values[] = {
                number(task->seq),
                text(task->task_id),
                text(stored_state_to_string(task->state)),
                number((uint64_t) task->priority),
                number(task->retries),
                number(task->stop_reason),
                number(task->submit_usec),
                number(task->queue_usec),
                number(task->not_before_usec),
                number(task->finish_usec),
                number(task->spec_hash),
                text(task->result),
        };
        const BatchValue spec[] = { number(task->seq), text(task->spec) };
        int r = batch_add(batch, WRITE_TASK, values, N_VALUES(values));
        if (r >= 0)
                r = batch_add(batch, WRITE_SPEC, spec, N_VALUES(spec));
        for (; r >= 0 && labels && *labels; labels++) {
                const BatchValue label[] = { text(*labels), number(task->seq) };
                r = batch_add(batch, WRITE_LABEL, label, N_VALUES(label));
        }
        return r;
}

int store_batch_update_task(StoreBatch *batch, const StoredTask *task) {
        const BatchValue values[] = {
                number(task->seq),
                text(stored_state_to_string(task->state)),
                number((uint64_t) task->priority),
                number(task->retries),
                number(task->stop_reason),
                number(task->queue_usec),
                number(task->not_before_usec),
        };
        return batch_add(batch, WRITE_TASK_UPDATE, values, N_VALUES(values));
}

int store_batch_finish_task(
                StoreBatch *batch,
                uint64_t seq,
                StoredState state,
                usec_t finish_usec,
                const char *result) {
        const BatchValue values[] = {
                number(seq),
                text(stored_state_to_string(state)),
                number(finish_usec),
                text(result),
        };
        return batch_add(batch, WRITE_TASK_FINISH, values, N_VALUES(values));
}

int store_batch_delete_task(StoreBatch *batch, uint64_t seq) {
        const BatchValue values[] = { number(seq) };
        int r = 0;
        for (WriteStatement i = WRITE_TASK_DELETE; r >= 0 && i <= WRITE_OUTPUTS_DELETE; i++)
                r = batch_add(batch, i, values, N_VALUES(values));
        return r;
}

int store_batch_put_attempt(StoreBatch *batch, uint64_t seq, const StoredAttempt *attempt) {
        const BatchValue values[] = {
                number(seq),
                number(attempt->number),
                text(stored_attempt_state_to_string(attempt->state)),
                text(attempt->worker_id),
                text(attempt->runner_task_id),
                text(attempt->runner_instance),
                text(attempt->lease_id),
                number(attempt->place_usec),
                number(attempt->start_usec),
                number(attempt->finish_usec),
                text(attempt->attempt),
        };
        return batch_add(batch, WRITE_ATTEMPT, values, N_VALUES(values));
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
        int r = 0;
        for (size_t i = 0; r >= 0 && i < size; i += OUTPUT_ROW_BYTES) {
                size_t n = size - i < OUTPUT_ROW_BYTES ? size - i : OUTPUT_ROW_BYTES;
                const BatchValue values[] = {
                        number(seq),
                        number(attempt_number),
                        number(stream),
                        number(offset + i),
                        bytes((const char *) data + i, n),
                };
                r = batch_add(batch, WRITE_OUTPUT, values, N_VALUES(values));
        }
        return r;
}

int store_batch_put_worker(StoreBatch *batch, const StoredWorker *worker) {
        const BatchValue values[] = {
                text(worker->worker_id),       number(worker->disabled),           text(worker->lease_id),
                text(worker->runner_instance), number(worker->lease_expires_usec),
        };
        return batch_add(batch, WRITE_WORKER, values, N_VALUES(values));
}
