/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

/* The workers as the configuration file has them, at the start and when it is read anew. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/http/token.h"
#include "io/file.h"
#include "queue/moment.h"
#include "queue/workers-internal.h"

int workers_read_tokens(QueueConfig *config) {
        for (size_t i = 0; i < config->n_workers; i++) {
                WorkerConfig *worker = &config->workers[i];
                _cleanup_(text_done) Text text = {};
                if (!worker->token_file)
                        continue;
                int r = file_read_all(worker->token_file, TOKEN_MAX + 1, &text);
                if (r >= 0)
                        r = token_parse(text.data, text.size, &worker->token);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot use the token file %s", worker->token_file);
        }
        return 0;
}

/* ── what an earlier run left ── */

static void row_free(WorkerRow *row) {
        free((char *) row->row.worker_id);
        free((char *) row->row.url);
        free((char *) row->row.before_url);
        free((char *) row->row.token);
        free(row);
}

int workers_note_row(Workers *workers, const StoredWorker *row) {
        WorkerRow *copy = calloc(1, sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        copy->row = *row;
        copy->row.worker_id = strdup(row->worker_id);
        copy->row.url = row->url ? strdup(row->url) : NULL;
        copy->row.before_url = row->before_url ? strdup(row->before_url) : NULL;
        copy->row.token = row->token ? strdup(row->token) : NULL;
        if (!copy->row.worker_id || !copy->row.url != !row->url || !copy->row.token != !row->token ||
            !copy->row.before_url != !row->before_url) {
                row_free(copy);
                return -ENOMEM;
        }
        HASH_ADD_KEYPTR(hh, workers->rows, copy->row.worker_id, strlen(copy->row.worker_id), copy);
        if (copy->hh.tbl)
                return 0;
        row_free(copy);
        return -ENOMEM;
}

WorkerRow *workers_find_row(const Workers *workers, const char *worker_id) {
        WorkerRow *row = NULL;
        HASH_FIND(hh, workers->rows, worker_id, strlen(worker_id), row);
        return row;
}

void workers_forget_rows(Workers *workers) {
        WorkerRow *row = NULL, *next = NULL;
        HASH_ITER(hh, workers->rows, row, next) {
                HASH_DELETE(hh, workers->rows, row);
                row_free(row);
        }
}

/* What the store knows of a worker that was not there until now. */
static int take_row(QueueWorker *worker, const StoredWorker *row) {
        Moment now = moment_now();
        bool moved = row->url && !streq(row->url, queue_worker_config(worker)->url);
        const char *before_url = moved ? row->url : row->before_url;
        scheduler_set_disabled(http_worker_scheduled(worker->http), row->disabled, now.boottime_usec);
        if (before_url)
                delivery_move_worker(http_worker_delivery(worker->http), &now);
        return workers_set_before(worker, before_url);
}

static int restore_joined(Workers *workers, const StoredWorker *row) {
        QueueWorker *worker;
        WorkerConfig config = {
                .id = (char *) row->worker_id,
                .url = (char *) row->url,
                .token = (char *) row->token,
        };
        int r = workers_add(workers, &config, WORKER_JOINED, &worker);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up worker \"%s\"", config.id);
        workers_set_leaving(worker, row->leaving);
        return take_row(worker, row);
}

/* ── by the file ── */

static void put_row(QueueWorker *worker, StoreBatch *batch) {
        StoredWorker row = queue_worker_row(worker);
        (void) store_batch_put_worker(batch, &row);
}

static int add_from_file(Workers *workers, const WorkerConfig *wanted, StoreBatch *batch) {
        const WorkerRow *known = workers_find_row(workers, wanted->id);
        QueueWorker *worker;
        int r = workers_add(workers, wanted, WORKER_FROM_FILE, &worker);
        if (r < 0)
                return r;
        worker->in_file = true;
        r = known ? take_row(worker, &known->row) : 0;
        if (!known || known->row.joined || !streq_null(known->row.url, wanted->url))
                put_row(worker, batch);
        return r;
}

static int set_from_file(
                QueueWorker *worker,
                const WorkerConfig *wanted,
                WorkerStep step,
                StoreBatch *batch) {
        bool stored = worker->origin == WORKER_FROM_FILE && !worker->leaving && step == WORKER_STEP_SET;
        int r = workers_configure(worker, wanted);
        if (r < 0)
                return r;
        if (worker->origin == WORKER_JOINED)
                log_line(LOG_NOTICE, "Worker \"%s\" joined, and is the configuration file's now", wanted->id);
        worker->origin = WORKER_FROM_FILE;
        workers_set_leaving(worker, false);
        if (!stored)
                put_row(worker, batch);
        return 0;
}

/* The file wins: who joined with the url that it has for another worker makes way. */
static void wait_for_url(
                Workers *workers,
                const WorkerConfig *wanted,
                QueueWorker *at_url,
                StoreBatch *batch) {
        workers->n_waiting++;
        log_line(LOG_NOTICE,
                 "Worker \"%s\" is used at %s when what \"%s\" has, or had, there is over",
                 wanted->id,
                 wanted->url,
                 at_url ? queue_worker_config(at_url)->id : wanted->id);
        if (!at_url || at_url->origin != WORKER_JOINED || at_url->leaving ||
            !streq(queue_worker_config(at_url)->url, wanted->url))
                return;
        workers_set_leaving(at_url, true);
        put_row(at_url, batch);
}

static int apply(Workers *workers, const WorkerConfig *wanted, StoreBatch *batch) {
        QueueWorker *worker = workers_find(workers, wanted->id),
                    *at_url = workers_find_at(workers, wanted->url, wanted->id);
        PresentWorker present, holder;
        if (worker)
                present = queue_worker_present(worker);
        if (at_url)
                holder = queue_worker_present(at_url);
        WorkerStep step = worker_plan_file(worker ? &present : NULL, wanted, at_url ? &holder : NULL);
        if (worker)
                worker->in_file = true;
        if ((step == WORKER_STEP_ADD || step == WORKER_STEP_MOVE) && workers->suits &&
            !workers->suits(wanted->url, workers->userdata)) {
                log_line(LOG_WARNING,
                         "Worker \"%s\" is not on this host, and could not tell this queue from others by its "
                         "address: it is used after a restart",
                         wanted->id);
                return 0;
        }
        switch (step) {
        case WORKER_STEP_ADD:
                return add_from_file(workers, wanted, batch);
        case WORKER_STEP_SET:
        case WORKER_STEP_MOVE:
                return set_from_file(worker, wanted, step, batch);
        case WORKER_STEP_WAIT:
                wait_for_url(workers, wanted, at_url, batch);
                break;
        case WORKER_STEP_KEEP:
        case WORKER_STEP_LEAVE:
                break;
        }
        return 0;
}

/* Those that the file had until now. */
static void give_up_others(Workers *workers) {
        for (size_t i = 0; i < workers->n_workers; i++) {
                QueueWorker *worker = workers->workers[i];
                PresentWorker present = queue_worker_present(worker);
                if (worker->in_file || worker_plan_file(&present, NULL, NULL) != WORKER_STEP_LEAVE)
                        continue;
                log_line(LOG_NOTICE, "Worker \"%s\" is given up when its last task has ended", present.id);
                workers_set_leaving(worker, true);
        }
}

static int apply_all(Workers *workers, const QueueConfig *config, StoreBatch *batch) {
        int r = 0;
        workers->file = config;
        workers->n_waiting = 0;
        for (size_t i = 0; i < workers->n_workers; i++)
                workers->workers[i]->in_file = false;
        for (size_t i = 0; r >= 0 && i < config->n_workers; i++) {
                r = apply(workers, &config->workers[i], batch);
                if (r < 0)
                        (void) log_errno(LOG_ERR, r, "Cannot set up worker \"%s\"", config->workers[i].id);
        }
        if (r >= 0)
                give_up_others(workers);
        return r;
}

static void on_committed(int r, const Moment *now, void *userdata) {
        if (r < 0)
                (void) log_errno(LOG_ERR, r, "Cannot store what is known of the workers");
}

void workers_commit(Workers *workers, StoreBatch *batch) {
        if (!batch->first) {
                store_batch_free(batch);
                return;
        }
        int r = workers->store_port->commit(workers->store, batch, on_committed, workers);
        if (r < 0)
                on_committed(r, NULL, workers);
}

int workers_apply_file(Workers *workers, const QueueConfig *config) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up the workers");
        r = apply_all(workers, config, batch);
        workers_commit(workers, batch);
        if (workers->changed)
                workers->changed(workers->userdata);
        return r;
}

/* Rows of workers that nobody has any more say nothing, unless an administrator had disabled them. */
static void forget_strangers(Workers *workers) {
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        for (const WorkerRow *row = workers->rows; row; row = row->hh.next)
                if (!row->row.joined && !row->row.disabled && !workers_find(workers, row->row.worker_id))
                        (void) store_batch_delete_worker(batch, row->row.worker_id);
        workers_commit(workers, batch);
}

int workers_start(Workers *workers, const QueueConfig *config) {
        int r = 0;
        for (const WorkerRow *row = workers->rows; r >= 0 && row; row = row->hh.next)
                if (row->row.joined && row->row.url)
                        r = restore_joined(workers, &row->row);
        if (r >= 0)
                r = workers_apply_file(workers, config);
        if (r >= 0)
                forget_strangers(workers);
        return r;
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
