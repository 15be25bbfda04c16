/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of the queue's workers share. */
#pragma once

#include "queue/workers.h"

struct WorkerRow {
        WorkerRow *next;
        UT_hash_handle hh;
        StoredWorker row; /* its strings are owned */
};

/* A worker that comes. -ENOMEM. */
int workers_add(Workers *workers, const WorkerConfig *config, WorkerOrigin origin, QueueWorker **ret);

/* WORKER is as CONFIG says from now on. With another url it moves. -ENOMEM: it is as it was. */
int workers_configure(QueueWorker *worker, const WorkerConfig *config);

/* WORKER was at URL, or at none, before. -ENOMEM. */
int workers_set_before(QueueWorker *worker, const char *url);

void workers_set_leaving(QueueWorker *worker, bool leaving);

/* One that has left; frees it. */
void workers_remove(QueueWorker *worker);

PresentWorker queue_worker_present(const QueueWorker *worker);
WorkerRow *workers_find_row(const Workers *workers, const char *worker_id);
void workers_forget_rows(Workers *workers);

/* Nobody tells any more what becomes of them. */
void workers_drop_changes(Workers *workers);

/* Stores BATCH (taken over); what goes wrong is only logged. */
void workers_commit(Workers *workers, StoreBatch *batch);
