/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a queue keeps on disk: tasks, their attempts and outputs, and what it knows about its workers. SQLite
 * in WAL mode, synchronous.
 *
 * One thread owns the connection that writes. The loop hands it batches; it takes all that are there into one
 * transaction, and when that is on disk their callbacks are called in the loop, in order. So nothing in the
 * loop waits for fsync(), and many small batches share one.
 *
 * Reads are made in the loop, through a second connection that is read-only and sees what is committed:
 * single rows and pages found by an index, from the page cache as a rule. A reader and the writer never wait
 * for each other.
 *
 * Stored times are in microseconds, 0 for "not yet". A library of its own (SQLite, threads):
 * the signals that are to be handled must be blocked before task_store_open().
 *
 * Measured with tests/io/bench-task-store.c on two busy CPUs and an ext4 whose fsync() takes about 6 ms: 155
 * batches a second one after the other, 1300 with 8 at once, 9000 with 1000 at once, as many tasks in large
 * batches; output 50 MB/s. With 100,000 waiting tasks: 0.6 s to open and check, 0.6 s to load (8 MB more
 * memory, for SQLite's cache); a page of 100 tasks in 0.2 ms, by a label in about 1 ms, one task in 0.05 ms.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/store/store-batch.h"
#include "core/store/store-record.h"

typedef struct TaskStore TaskStore;

/* Opens the store in DIRECTORY, which must exist, and makes an empty one if there is none; brings an older
 * one up to date. Blocks, for at most some seconds. On failure there is a sentence for the log in
 * *RETERR_MESSAGE, which the caller frees (NULL when out of memory): -EBUSY      another process has it open
 * -EUCLEAN    it is damaged. It was renamed to tasks.db.corrupt-<time>; nothing of it is lost, and the next
 * start begins with an empty one. Whether there should be one is for an administrator to decide.
 * -EMEDIUMTYPE, -ENOTSUP   it is not one of ours; it was made by a later version. It was not touched.
 * -EACCES, -EROFS, -ENOSPC, -EIO, … */
int task_store_open(sd_event *event, const char *directory, TaskStore **ret, char **reterr_message);

/* Waits until all that was handed over is on disk, without calling back. Not from within a callback. NULL is
 * fine; returns NULL. */
TaskStore *task_store_free(TaskStore *store);
DEFINE_POINTER_CLEANUP(TaskStore, task_store_free)

/* 32 hexadecimal digits, made with the store and kept with it. */
const char *task_store_queue_id(const TaskStore *store);

/* A number above all that were ever stored or given. */
uint64_t task_store_next_seq(TaskStore *store);

/* Bytes handed over that are not on disk yet. */
size_t task_store_pending_bytes(const TaskStore *store);

/* R is 0 when the batch is on disk. Otherwise nothing of it is: -ENOSPC, -EIO, -EEXIST, -ENOENT, -ENOMEM, …
 * After a failed fsync() nobody can say what is on disk: then and from then on it is -EIO, until the store is
 * opened again. */
typedef void (*StoreCommitted)(int r, void *userdata);

/* Hands BATCH over, also on failure. CALLBACK (may be NULL) is called later, from the loop. -ENOBUFS when too
 * much (STORE_PENDING_BYTES_MAX) waits to be written, or what the batch remembers: then it is not called. */
int task_store_commit(TaskStore *store, StoreBatch *batch, StoreCommitted callback, void *userdata);

/* Forgets finished tasks, the oldest first, at most LIMIT (1 … STORE_PRUNE_MAX) of them: those that finished
 * before FINISHED_BEFORE_USEC, and of the others all but the last KEEP_MAX. In order with the batches;
 * CALLBACK's R is how many there were: again, if LIMIT were. */
int task_store_prune(
                TaskStore *store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreCommitted callback,
                void *userdata);

/* Readers. A handler is given one row after the other, valid until it returns; a negative errno from it ends
 * the reading and is returned. A handler must not start the same reading again (-EBUSY). -EUCLEAN when what
 * is there is damaged, -EIO. */
typedef int (*StoredTaskHandler)(const StoredTask *task, void *userdata);
typedef int (*StoredAttemptHandler)(const StoredAttempt *attempt, void *userdata);
typedef int (*StoredWorkerHandler)(const StoredWorker *worker, void *userdata);

typedef int (*StoredDependencyHandler)(const StoredDependency *dependency, void *userdata);

/* ATTEMPT is the last one, or NULL. */
typedef int (*StoredLiveHandler)(const StoredTask *task, const StoredAttempt *attempt, void *userdata);

/* All tasks that are not finished, in order of arrival; for the start, as it reads them all. */
int task_store_load_live(TaskStore *store, StoredLiveHandler handler, void *userdata);

/* Those of all tasks that are not finished, in no order. */
int task_store_load_dependencies(TaskStore *store, StoredDependencyHandler handler, void *userdata);
int task_store_load_workers(TaskStore *store, StoredWorkerHandler handler, void *userdata);

/* When the newest of the finished tasks was; 0: there is none. */
int task_store_newest_result(TaskStore *store, usec_t *ret_finish_usec);

/* One task; -ENOENT. */
int task_store_get(TaskStore *store, const char *task_id, StoredTaskHandler handler, void *userdata);

/* All attempts of a task, first to last. */
int task_store_attempts(TaskStore *store, uint64_t seq, StoredAttemptHandler handler, void *userdata);

/* What a task waits for, or has failed for, in no order. */
int task_store_dependencies(TaskStore *store, uint64_t seq, StoredDependencyHandler handler, void *userdata);

/* One page, in order of arrival. HANDLER returns 1 after a row to make it the page's last. *RET_NEXT is 0 at
 * the end, else the "after" of the next page. A page may hold less than LIMIT and yet not be the last: where
 * labels and state together fit few of many tasks, it ends after so many were looked at. -EINVAL (too many
 * labels, or no "=" in one). */
int task_store_list(
                TaskStore *store,
                const StoreFilter *filter,
                StoredTaskHandler handler,
                void *userdata,
                uint64_t *ret_next);

/* Reads up to SIZE bytes of output at OFFSET: their number, which may be less than there are, 0 at the end.
 */
ssize_t task_store_read_output(
                TaskStore *store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                void *buffer,
                size_t size);

/* How much of it is stored. */
int task_store_output_size(
                TaskStore *store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t *ret_bytes);

/* The caller frees *ret. -ENOENT. */
int task_store_get_fact(TaskStore *store, const char *key, char **ret);
