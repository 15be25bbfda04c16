/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue's workers: those of the configuration file and those that joined. workers.c: the set of them;
 * workers-file.c: what the file says of it; workers-change.c: what requests say, and how a worker goes. */
#pragma once

#include "base/hash-table.h"
#include "core/config/config-queue.h"
#include "core/config/worker-plan.h"
#include "core/sharing/worker-set.h"
#include "delivery/delivery.h"
#include "queue/http-worker.h"

typedef struct Workers Workers;
typedef struct WorkerChange WorkerChange;
typedef struct WorkerRow WorkerRow;

typedef struct QueueWorker {
        Workers *workers; /* weak */
        HttpWorker *http;
        WorkerOrigin origin;
        bool leaving;
        bool in_file;      /* while the file is gone through */
        bool going;        /* that it is gone is being stored */
        char *before_url;  /* where it was, as the store has it too; NULL once all that was there is over */
        usec_t again_usec; /* not tried before: it could not be stored */
        UT_hash_handle hh_id, hh_url;
} QueueWorker;

struct Workers {
        HttpWorkers shared;
        Delivery *delivery; /* weak, as the following */
        const StorePort *store_port;
        void *store;

        /* Workers have come, gone, or begun to leave. */
        void (*changed)(void *userdata);
        /* Whether the worker at URL could tell this queue from others by its address. */
        bool (*suits)(const char *url, const void *userdata);
        void *userdata;

        QueueWorker **workers; /* in the order in which they came, as far as none has gone */
        size_t n_workers, n_allocated;
        QueueWorker *by_id, *by_url;
        size_t n_leaving, n_moved;

        const QueueConfig *file; /* weak: the configuration that was taken over last */
        size_t n_waiting;        /* of its workers, for another one to go */
        WorkerRow *rows;         /* what an earlier run left in the store */
        WorkerChange *changes;   /* by requests, on their way to the disk */
};

/* The store must be gone before, then the delivery. */
void workers_done(Workers *workers);

QueueWorker *workers_find(const Workers *workers, const char *worker_id);

/* The one that is there, or was before it moved, unless that is ID itself. */
QueueWorker *workers_find_at(const Workers *workers, const char *url, const char *id);

static inline const Worker *queue_worker_state(const QueueWorker *worker) {
        return &http_worker_scheduled(worker->http)->worker;
}

static inline const WorkerConfig *queue_worker_config(const QueueWorker *worker) {
        return http_worker_config(worker->http);
}

/* The ids of those that are not leaving. -ENOMEM. */
int workers_to_set(const Workers *workers, WorkerSet **ret);

/* How many tasks could be placed on now. */
size_t workers_n_usable(const Workers *workers, usec_t now_usec);

/* Whether there are leases that could be given back. */
bool workers_hold_leases(const Workers *workers);

/* ── workers-file.c ── */

/* A row that an earlier run left. Before workers_start(). -ENOMEM. */
int workers_note_row(Workers *workers, const StoredWorker *row);

/* All workers there are, by the rows and by CONFIG (weak), before there are tasks. A negative errno, logged.
 */
int workers_start(Workers *workers, const QueueConfig *config);

/* Reads the tokens that CONFIG has files for. A negative errno, logged. */
int workers_read_tokens(QueueConfig *config);

/* Goes by CONFIG (weak), with its tokens read, from now on. A negative errno, logged: not by all of it. */
int workers_apply_file(Workers *workers, const QueueConfig *config);

/* ── workers-change.c ── */

/* CREATED: the worker has not been there before. With a problem WORKER is NULL. */
typedef void (*WorkerChanged)(
                const Problem *problem,
                const QueueWorker *worker,
                bool created,
                void *userdata);

/* CONFIG (emptied) joins; or the worker of that id leaves. DONE is called later, once; with a negative errno
 * never. */
int workers_join(
                Workers *workers,
                WorkerConfig *config,
                WorkerChanged done,
                void *userdata,
                Problem *reterr_problem);
int workers_leave(
                Workers *workers,
                const char *worker_id,
                WorkerChanged done,
                void *userdata,
                Problem *reterr_problem);

/* Whether a request is changing it now. */
bool workers_is_changing(const Workers *workers, const char *worker_id);

/* After each turn of the delivery: those that have left go, and what has moved for good is noted. */
void workers_sweep(Workers *workers);

/* What the store is to have of WORKER; borrowed. */
StoredWorker queue_worker_row(const QueueWorker *worker);
