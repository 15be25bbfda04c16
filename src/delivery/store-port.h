/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the queue needs of whatever keeps its tasks: SQLite in a local file is one, the simulation's disk
 * another. A kind of store is a table of these functions; STORE is the port's own.
 *
 * As with workers everything is only begun, and told later by DONE, once and never from within the function;
 * with a negative errno DONE is not called. Nothing can be cancelled. What they are given is copied.
 *
 * What a store has to promise: a batch is there whole or not at all; a DONE with 0 means that nothing but the
 * loss of the store itself undoes it; batches come into it, and are told, in the order in which they were
 * handed over, though one of them may fail. Readers see at least what was told to be there. A failed DONE
 * means that the batch is not there, and -EIO that nobody knows. */
#pragma once

#include "core/store/store-batch.h"
#include "core/store/store-record.h"
#include "delivery/worker-port.h"

typedef void (*StoreDone)(int r, const Moment *now, void *userdata);

/* What of a task is wanted besides its row. */
typedef struct StoreWanted {
        bool attempts;
        bool dependencies;
        uint64_t output_bytes_max; /* of each stream of the attempt that became its result; 0: none */
        bool tail;                 /* the last ones, not the first */
} StoreWanted;

typedef struct StoreOutput {
        const void *bytes; /* may be NULL when there are none */
        size_t size;
        uint64_t total; /* that are kept */
} StoreOutput;

/* A task as it is kept. Everything is borrowed. */
typedef struct StoreEntry {
        StoredTask task;
        const StoredAttempt *attempts; /* first to last */
        size_t n_attempts;
        const StoredDependency *dependencies;
        size_t n_dependencies;
        StoreOutput outputs[STORED_STDERR + 1];
} StoreEntry;

/* ENTRY is NULL when R is negative: -ENOENT, -EUCLEAN, -EIO, -ENOMEM. */
typedef void (*StoreGot)(int r, const StoreEntry *entry, const Moment *now, void *userdata);

/* NEXT is 0 at the end, else the "after" of the next page. */
typedef void (*StoreListed)(
                int r,
                const StoreEntry *entries,
                size_t n_entries,
                uint64_t next,
                const Moment *now,
                void *userdata);

/* 0 at the end, else the number of bytes at BYTES, or a negative errno. */
typedef void (*StoreHasRead)(ssize_t r, const void *bytes, const Moment *now, void *userdata);

/* All that matters for a start, one after the other; a negative errno from one of them ends the reading. */
typedef struct StoreLoader {
        int (*on_fact)(const char *key, const char *value, void *userdata);
        /* When the newest result was stored; 0: there is none. */
        int (*on_newest_result)(usec_t finish_usec, void *userdata);
        int (*on_worker)(const StoredWorker *worker, void *userdata);
        /* One that is not finished, in order of arrival; ATTEMPT is its last, or NULL. */
        int (*on_task)(const StoredTask *task,
                       const StoredAttempt *attempt,
                       const Moment *now,
                       void *userdata);
        /* Of a task that is not finished, after all tasks. */
        int (*on_dependency)(const StoredDependency *dependency, const Moment *now, void *userdata);
        StoreDone done;
        void *userdata;
} StoreLoader;

typedef struct StorePort {
        /* Takes BATCH over in any case. -ENOBUFS: too much waits to be written. */
        int (*commit)(void *store, StoreBatch *batch, StoreDone done, void *userdata);

        int (*get)(void *store,
                   const char *task_id,
                   const StoreWanted *wanted,
                   StoreGot done,
                   void *userdata);

        /* One page in order of arrival, each with its attempts while it is not finished, and then without its
         * specification. A page may hold less than the limit and yet not be the last. -EINVAL: too many
         * labels, or no "=" in one. */
        int (*list)(void *store, const StoreFilter *filter, StoreListed done, void *userdata);

        /* At most SIZE bytes of an output at OFFSET. */
        int (*read)(void *store,
                    uint64_t seq,
                    uint64_t number,
                    StoredStream stream,
                    uint64_t offset,
                    size_t size,
                    StoreHasRead done,
                    void *userdata);

        int (*load)(void *store, const StoreLoader *loader);

        /* Forgets finished tasks, the oldest first, at most LIMIT of them: those that finished before
         * FINISHED_BEFORE_USEC, and of the others all but the last KEEP_MAX. DONE's R is how many. */
        int (*prune)(void *store,
                     usec_t finished_before_usec,
                     uint64_t keep_max,
                     uint64_t limit,
                     StoreDone done,
                     void *userdata);

        /* A number for a new task, above all given before, also by others: of a range that was set aside for
         * this process. 0: there is none at the moment. */
        uint64_t (*next_seq)(void *store);

        /* What was handed over and is not told yet. */
        size_t (*pending_bytes)(const void *store);
} StorePort;
