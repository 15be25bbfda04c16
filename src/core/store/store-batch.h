/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is to be stored together, whole or not at all: a list of changes, in order. Everything that is added
 * is copied. */
#pragma once

#include "base/cleanup.h"
#include "core/store/store-record.h"

#define STORE_OUTPUT_PIECE_MAX (1024 * 1024) /* bytes in one store_batch_append_output() */

/* Of every store: so much may wait to be written, and so many tasks are forgotten at once. */
#define STORE_PENDING_BYTES_MAX (64 * 1024 * 1024)
#define STORE_PRUNE_MAX         1000

typedef enum StoreChangeType {
        STORE_PUT_TASK,    /* a new task, with its labels; fails where its id or seq is there */
        STORE_UPDATE_TASK, /* what can change of a live task; fails where there is none */
        STORE_FINISH_TASK, /* state, finish_usec and result; fails where there is none */
        STORE_RETRY_TASK,  /* a finished one waits again, without its outputs; fails where there is none */
        STORE_DELETE_TASK, /* with its labels, attempts, outputs and dependencies */
        STORE_SET_DEPENDENCIES, /* in place of those that are there; see below */
        STORE_PUT_ATTEMPT,      /* replaces the one of that number */
        STORE_APPEND_OUTPUT,    /* replaces what is there at that place, cut in the same pieces */
        STORE_PUT_WORKER,       /* replaces the one of that id */
        STORE_DELETE_WORKER,    /* if there is one */
        STORE_PUT_FACT,
} StoreChangeType;

typedef struct StoreChange StoreChange;
struct StoreChange {
        StoreChangeType type;
        StoreChange *next;
        uint64_t seq; /* of the task that it is about; 0: none */
        union {
                struct {
                        StoredTask task;
                        char **labels; /* "key=value", NULL-terminated */
                };
                StoredAttempt attempt;
                struct {
                        uint64_t number;
                        StoredStream stream;
                        uint64_t offset;
                        const void *bytes;
                        size_t size;
                } output;
                StoredWorker worker;
                char **dependencies; /* NULL-terminated */
                struct {
                        const char *key, *value;
                } fact;
        };
        char text[]; /* what the strings above point to */
};

typedef struct StoreBatch {
        StoreChange *first, *last;
        size_t bytes; /* of memory, roughly */
        int error;    /* of an earlier store_batch_…() */
} StoreBatch;

/* All store_batch_…() return 0, -ENOMEM, or -EINVAL for what is too large. The batch remembers: it is then
 * not to be stored. */
int store_batch_new(StoreBatch **ret);
StoreBatch *store_batch_free(StoreBatch *batch);
DEFINE_POINTER_CLEANUP(StoreBatch, store_batch_free)

/* LABELS are "key=value", NULL-terminated, or NULL. */
int store_batch_put_task(StoreBatch *batch, const StoredTask *task, char *const *labels);

/* Of TASK count: seq, state, priority, retries, losses, stop_requested, queue_usec, not_before_usec. */
int store_batch_update_task(StoreBatch *batch, const StoredTask *task);
int store_batch_finish_task(
                StoreBatch *batch,
                uint64_t seq,
                StoredState state,
                usec_t finish_usec,
                const char *result);

/* The task of SEQ, finished, is queued again since QUEUE_USEC, as if it had not been tried. */
int store_batch_retry_task(StoreBatch *batch, uint64_t seq, usec_t queue_usec);
int store_batch_delete_task(StoreBatch *batch, uint64_t seq);

/* The task of SEQ, live, waits for those of TASK_IDS, NULL-terminated. Of each the store notes how it is at
 * that place among the changes: one that has completed is not waited for any more, one that has ended
 * otherwise or is not there has failed. From then on STORE_FINISH_TASK does that with all who wait for its
 * task: in one change, so that how a task ended and what that means for others can never differ, nor does it
 * matter who forgets what. */
int store_batch_set_dependencies(StoreBatch *batch, uint64_t seq, char *const *task_ids);
int store_batch_put_attempt(StoreBatch *batch, uint64_t seq, const StoredAttempt *attempt);

/* SIZE bytes of output that stand at OFFSET, which is where the last piece ended. */
int store_batch_append_output(
                StoreBatch *batch,
                uint64_t seq,
                uint64_t attempt_number,
                StoredStream stream,
                uint64_t offset,
                const void *data,
                size_t size);
int store_batch_put_worker(StoreBatch *batch, const StoredWorker *worker);
int store_batch_delete_worker(StoreBatch *batch, const char *worker_id);
int store_batch_put_fact(StoreBatch *batch, const char *key, const char *value);
