/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Workers that join and leave by requests. What changes is on disk first; then it happens, and is answered.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/moment.h"
#include "queue/workers-internal.h"

#define AGAIN_USEC (1 * USEC_PER_SEC)

struct WorkerChange {
        Workers *workers; /* weak */
        WorkerChange *prev, *next;
        WorkerConfig config; /* of one that leaves only the id */
        bool leaves;
        WorkerChanged done;
        void *userdata;
};

static void change_free(WorkerChange *change) {
        DL_DELETE(change->workers->changes, change);
        worker_config_done(&change->config);
        free(change);
}

void workers_drop_changes(Workers *workers) {
        while (workers->changes) {
                WorkerChange *change = workers->changes;
                Problem problem = {};
                (void) problem_from_errno(&problem, -ECANCELED);
                change->done(&problem, NULL, false, change->userdata);
                change_free(change);
        }
}

static bool is_changing(const Workers *workers, const WorkerConfig *config) {
        for (const WorkerChange *change = workers->changes; change; change = change->next)
                if (streq(change->config.id, config->id) ||
                    (config->url && streq_null(change->config.url, config->url)))
                        return true;
        return false;
}

bool workers_is_changing(const Workers *workers, const char *worker_id) {
        return is_changing(workers, &(WorkerConfig) { .id = (char *) worker_id });
}

static size_t count_changes(const Workers *workers) {
        size_t n = 0;
        for (const WorkerChange *change = workers->changes; change; change = change->next)
                n++;
        return n;
}

/* The file also has those that wait for their url. */
static bool file_has(const Workers *workers, const char *worker_id) {
        for (size_t i = 0; i < workers->file->n_workers; i++)
                if (streq(workers->file->workers[i].id, worker_id))
                        return true;
        return false;
}

static int plan(const Workers *workers, const WorkerConfig *config, bool leaves, Problem *problem) {
        const QueueWorker *worker = workers_find(workers, config->id),
                          *at_url = leaves ? NULL : workers_find_at(workers, config->url, config->id);
        PresentWorker present = { .id = config->id, .url = "", .origin = WORKER_FROM_FILE }, holder;
        bool is_present = worker || file_has(workers, config->id);
        if (worker)
                present = queue_worker_present(worker);
        if (at_url)
                holder = queue_worker_present(at_url);
        return leaves ? worker_plan_leave(is_present ? &present : NULL, problem) :
                        worker_plan_join(
                                        is_present ? &present : NULL,
                                        config,
                                        at_url ? &holder : NULL,
                                        problem);
}

/* ── on disk ── */

/* The configuration file came in between. */
static void undo(const WorkerChange *change) {
        StoreBatch *batch;
        QueueWorker *worker = workers_find(change->workers, change->config.id);
        if (store_batch_new(&batch) < 0)
                return;
        StoredWorker row = worker ? queue_worker_row(worker) : (StoredWorker) {};
        if (worker)
                (void) store_batch_put_worker(batch, &row);
        else
                (void) store_batch_delete_worker(batch, change->config.id);
        workers_commit(change->workers, batch);
}

static int carry_out(const WorkerChange *change, int step, QueueWorker **ret) {
        Workers *workers = change->workers;
        QueueWorker *worker = workers_find(workers, change->config.id);
        int r = 0;
        if (step == WORKER_STEP_LEAVE) {
                workers_set_leaving(worker, true);
                log_line(LOG_NOTICE, "Worker \"%s\" leaves when its last task has ended", change->config.id);
        } else if (step == WORKER_STEP_ADD) {
                r = workers_add(workers, &change->config, WORKER_JOINED, &worker);
                if (r >= 0)
                        log_line(LOG_NOTICE,
                                 "Worker \"%s\" has joined: %s",
                                 change->config.id,
                                 change->config.url);
        } else {
                worker->origin = WORKER_JOINED;
                workers_set_leaving(worker, false);
                r = workers_configure(worker, &change->config);
        }
        *ret = worker;
        return r;
}

static void on_stored(int r, const Moment *now, void *userdata) {
        WorkerChange *change = userdata;
        Workers *workers = change->workers;
        Problem problem = {};
        QueueWorker *worker = NULL;
        int step = r < 0 ? problem_from_errno(&problem, r) :
                           plan(workers, &change->config, change->leaves, &problem);
        if (r >= 0 && step < 0)
                undo(change);
        if (step >= 0) {
                r = carry_out(change, step, &worker);
                if (r < 0)
                        (void) problem_from_errno(&problem, r);
                workers->changed(workers->userdata);
        }
        change->done(problem.status ? &problem : NULL, worker, step == WORKER_STEP_ADD, change->userdata);
        change_free(change);
}

static StoredWorker wanted_row(const Workers *workers, const WorkerConfig *config, int step) {
        const QueueWorker *worker = workers_find(workers, config->id);
        StoredWorker row = worker ? queue_worker_row(worker) : (StoredWorker) { .worker_id = config->id };
        row.leaving = step == WORKER_STEP_LEAVE;
        if (step == WORKER_STEP_MOVE)
                row.before_url = row.url;
        if (row.leaving)
                return row;
        row.joined = true;
        row.url = config->url;
        row.token = config->token;
        return row;
}

static int change_begin(
                Workers *workers,
                WorkerConfig *config,
                int step,
                WorkerChanged done,
                void *userdata,
                Problem *problem) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        StoredWorker row = wanted_row(workers, config, step);
        WorkerChange *change = calloc(1, sizeof(*change));
        if (!change || store_batch_new(&batch) < 0) {
                free(change);
                return problem_from_errno(problem, -ENOMEM);
        }
        (void) store_batch_put_worker(batch, &row);
        *change = (WorkerChange) {
                .workers = workers,
                .config = *config,
                .leaves = step == WORKER_STEP_LEAVE,
                .done = done,
                .userdata = userdata,
        };
        *config = (WorkerConfig) {};
        DL_APPEND(workers->changes, change);
        int r = workers->store_port->commit(workers->store, TAKE_PTR(batch), on_stored, change);
        if (r >= 0)
                return 0;
        change_free(change);
        return problem_from_errno(problem, r);
}

static int change(
                Workers *workers,
                WorkerConfig *config,
                bool leaves,
                WorkerChanged done,
                void *userdata,
                Problem *problem) {
        if (is_changing(workers, config))
                return problem_set_for_now(problem, 503, 1, "another request is changing this worker");
        int step = plan(workers, config, leaves, problem);
        if (step < 0)
                return step;
        if (step == WORKER_STEP_ADD && workers->n_workers + count_changes(workers) >= QUEUE_WORKERS_MAX)
                return problem_set_for_now(problem, 503, 60, "this queue has as many workers as it may have");
        if ((step == WORKER_STEP_ADD || step == WORKER_STEP_MOVE) &&
            !workers->suits(config->url, workers->userdata))
                return problem_set(
                                problem,
                                409,
                                "/url",
                                "this queue's address, %s, is this host's only, and would not tell queues apart "
                                "elsewhere: give it \"advertise\" in its configuration, and restart it",
                                *workers->shared.address);
        return change_begin(workers, config, step, done, userdata, problem);
}

int workers_join(
                Workers *workers,
                WorkerConfig *config,
                WorkerChanged done,
                void *userdata,
                Problem *reterr_problem) {
        return change(workers, config, false, done, userdata, reterr_problem);
}

int workers_leave(
                Workers *workers,
                const char *worker_id,
                WorkerChanged done,
                void *userdata,
                Problem *reterr_problem) {
        WorkerConfig config = { .id = strdup(worker_id) };
        if (!config.id)
                return problem_from_errno(reterr_problem, -ENOMEM);
        int r = change(workers, &config, true, done, userdata, reterr_problem);
        worker_config_done(&config);
        return r;
}

/* ── those that have left ── */

static bool has_left(const QueueWorker *worker) {
        return worker->leaving && delivery_worker_has_left(http_worker_delivery(worker->http)) &&
                        http_worker_is_idle(worker->http);
}

/* It may have been let in again, or asked something, while that was on its way to the disk. */
static void on_gone(int r, const Moment *now, void *userdata) {
        QueueWorker *worker = userdata;
        Workers *workers = worker->workers;
        worker->going = false;
        if (r < 0) {
                worker->again_usec = usec_add(now->boottime_usec, AGAIN_USEC);
                (void) log_errno(
                                LOG_ERR,
                                r,
                                "Cannot store yet that worker \"%s\" is gone",
                                queue_worker_config(worker)->id);
                return;
        }
        if (!has_left(worker) || is_changing(workers, queue_worker_config(worker)))
                return;
        log_line(LOG_NOTICE, "Worker \"%s\" is gone", queue_worker_config(worker)->id);
        workers_remove(worker);
        workers->changed(workers->userdata);
        if (workers->n_waiting > 0)
                (void) workers_apply_file(workers, workers->file);
}

static void go(QueueWorker *worker) {
        Workers *workers = worker->workers;
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r >= 0) {
                (void) store_batch_delete_worker(batch, queue_worker_config(worker)->id);
                r = workers->store_port->commit(workers->store, batch, on_gone, worker);
        }
        worker->going = r >= 0;
        if (r < 0)
                worker->again_usec = usec_add(usec_now(CLOCK_BOOTTIME), AGAIN_USEC);
}

/* What it was sent before it moved is given up by now. */
static void note_move_is_over(QueueWorker *worker) {
        StoreBatch *batch;
        if (!worker->before_url || queue_worker_state(worker)->elsewhere_usec > 0 ||
            store_batch_new(&batch) < 0)
                return;
        (void) workers_set_before(worker, NULL);
        StoredWorker row = queue_worker_row(worker);
        (void) store_batch_put_worker(batch, &row);
        workers_commit(worker->workers, batch);
}

void workers_sweep(Workers *workers) {
        if (workers->n_leaving == 0 && workers->n_moved == 0)
                return;
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        size_t n_moved = workers->n_moved;
        for (size_t i = 0; i < workers->n_workers; i++) {
                QueueWorker *worker = workers->workers[i];
                if (is_changing(workers, queue_worker_config(worker)) || worker->going)
                        continue;
                note_move_is_over(worker);
                if (has_left(worker) && now_usec >= worker->again_usec)
                        go(worker);
        }
        if (workers->n_moved < n_moved && workers->n_waiting > 0)
                (void) workers_apply_file(workers, workers->file);
}
