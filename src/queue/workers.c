/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include "queue/workers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/moment.h"
#include "queue/workers-internal.h"

static int reserve(Workers *workers) {
        if (workers->n_workers < workers->n_allocated)
                return 0;
        size_t n = workers->n_allocated == 0 ? 16 : 2 * workers->n_allocated;
        QueueWorker **list = reallocarray(workers->workers, n, sizeof(QueueWorker *));
        if (!list)
                return -ENOMEM;
        workers->workers = list;
        workers->n_allocated = n;
        return 0;
}

static int put_at_url(QueueWorker *worker) {
        Workers *workers = worker->workers;
        const char *url = queue_worker_config(worker)->url;
        HASH_ADD_KEYPTR(hh_url, workers->by_url, url, strlen(url), worker);
        return worker->hh_url.tbl ? 0 : -ENOMEM;
}

static void take_from_url(QueueWorker *worker) {
        Workers *workers = worker->workers;
        if (worker->hh_url.tbl)
                HASH_DELETE(hh_url, workers->by_url, worker);
        worker->hh_url.tbl = NULL;
}

static int put_by_id(QueueWorker *worker) {
        Workers *workers = worker->workers;
        const char *id = queue_worker_state(worker)->id;
        HASH_ADD_KEYPTR(hh_id, workers->by_id, id, strlen(id), worker);
        return worker->hh_id.tbl ? 0 : -ENOMEM;
}

static void worker_free(QueueWorker *worker) {
        Workers *workers = worker->workers;
        take_from_url(worker);
        if (worker->hh_id.tbl)
                HASH_DELETE(hh_id, workers->by_id, worker);
        http_worker_free(worker->http);
        free(worker->before_url);
        free(worker);
}

/* Without memory for the tables it is only not found, and cannot be told apart from another by its url: too
 * little to go on with. */
int workers_add(Workers *workers, const WorkerConfig *config, WorkerOrigin origin, QueueWorker **ret) {
        int r = reserve(workers);
        QueueWorker *worker = r < 0 ? NULL : calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;
        *worker = (QueueWorker) { .workers = workers, .origin = origin };
        Moment now = moment_now();
        DeliveryWorker *delivery_worker;
        r = http_worker_new(&workers->shared, config, &worker->http);
        if (r >= 0)
                r = delivery_add_worker(workers->delivery, config->id, worker->http, &now, &delivery_worker);
        if (r < 0) {
                http_worker_free(worker->http);
                free(worker);
                return r;
        }
        http_worker_set_delivery(worker->http, delivery_worker);
        workers->workers[workers->n_workers++] = worker;
        r = put_by_id(worker);
        if (r >= 0)
                r = put_at_url(worker);
        if (r < 0) {
                workers_set_leaving(worker, true);
                return r;
        }
        *ret = worker;
        return 0;
}

int workers_configure(QueueWorker *worker, const WorkerConfig *config) {
        Moment now = moment_now();
        bool moves = !streq(queue_worker_config(worker)->url, config->url);
        int r = moves ? workers_set_before(worker, queue_worker_config(worker)->url) : 0;
        if (r < 0)
                return r;
        take_from_url(worker);
        r = http_worker_configure(worker->http, config);
        if (put_at_url(worker) < 0 || r < 0)
                return -ENOMEM;
        if (moves) {
                http_worker_listen_anew(worker->http);
                delivery_move_worker(http_worker_delivery(worker->http), &now);
        } else
                scheduler_worker_suspect(http_worker_scheduled(worker->http), now.boottime_usec);
        return 0;
}

void workers_set_leaving(QueueWorker *worker, bool leaving) {
        Moment now = moment_now();
        if (worker->leaving == leaving)
                return;
        worker->leaving = leaving;
        worker->workers->n_leaving += leaving ? 1 : -(size_t) 1;
        delivery_set_leaving(http_worker_delivery(worker->http), leaving, &now);
}

void workers_remove(QueueWorker *worker) {
        Workers *workers = worker->workers;
        size_t i = 0;
        while (workers->workers[i] != worker)
                i++;
        workers->n_workers--;
        memmove(&workers->workers[i],
                &workers->workers[i + 1],
                (workers->n_workers - i) * sizeof(QueueWorker *));
        workers->n_leaving -= worker->leaving;
        (void) workers_set_before(worker, NULL);
        if (worker->hh_id.tbl) /* its key goes with the scheduler's worker */
                HASH_DELETE(hh_id, workers->by_id, worker);
        worker->hh_id.tbl = NULL;
        delivery_remove_worker(http_worker_delivery(worker->http));
        worker_free(worker);
}

void workers_done(Workers *workers) {
        workers_drop_changes(workers);
        HASH_CLEAR(hh_id, workers->by_id);
        HASH_CLEAR(hh_url, workers->by_url);
        for (size_t i = 0; i < workers->n_workers; i++) {
                http_worker_free(workers->workers[i]->http);
                free(workers->workers[i]->before_url);
                free(workers->workers[i]);
        }
        free(workers->workers);
        workers_forget_rows(workers);
        *workers = (Workers) {};
}

QueueWorker *workers_find(const Workers *workers, const char *worker_id) {
        QueueWorker *worker = NULL;
        HASH_FIND(hh_id, workers->by_id, worker_id, strlen(worker_id), worker);
        return worker;
}

QueueWorker *workers_find_at(const Workers *workers, const char *url, const char *id) {
        QueueWorker *worker = NULL;
        HASH_FIND(hh_url, workers->by_url, url, strlen(url), worker);
        for (size_t i = 0; (!worker || streq(queue_worker_config(worker)->id, id)) && workers->n_moved > 0 &&
             i < workers->n_workers;
             i++)
                if (streq_null(workers->workers[i]->before_url, url))
                        worker = workers->workers[i];
        return worker;
}

int workers_set_before(QueueWorker *worker, const char *url) {
        char *before_url = url ? strdup(url) : NULL;
        if (url && !before_url)
                return -ENOMEM;
        worker->workers->n_moved += before_url != NULL;
        worker->workers->n_moved -= worker->before_url != NULL;
        free(worker->before_url);
        worker->before_url = before_url;
        return 0;
}

PresentWorker queue_worker_present(const QueueWorker *worker) {
        return (PresentWorker) {
                .id = queue_worker_config(worker)->id,
                .url = queue_worker_config(worker)->url,
                .before_url = worker->before_url,
                .origin = worker->origin,
                .leaving = worker->leaving,
        };
}

StoredWorker queue_worker_row(const QueueWorker *worker) {
        const WorkerConfig *config = queue_worker_config(worker);
        const Worker *state = queue_worker_state(worker);
        bool joined = worker->origin == WORKER_JOINED;
        return (StoredWorker) {
                .worker_id = config->id,
                .disabled = state->disabled,
                .joined = joined,
                .leaving = worker->leaving,
                .url = config->url,
                .before_url = worker->before_url,
                .token = joined ? config->token : NULL, /* the file's is the file's */
        };
}

int workers_to_set(const Workers *workers, WorkerSet **ret) {
        size_t n = 0;
        _cleanup_(freep) const char **ids = calloc(workers->n_workers + 1, sizeof(char *));
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < workers->n_workers; i++)
                if (!workers->workers[i]->leaving)
                        ids[n++] = queue_worker_config(workers->workers[i])->id;
        return worker_set_new(ids, n, ret);
}

size_t workers_n_usable(const Workers *workers, usec_t now_usec) {
        size_t n = 0;
        for (size_t i = 0; i < workers->n_workers; i++)
                n += worker_is_usable(queue_worker_state(workers->workers[i]), now_usec);
        return n;
}

bool workers_hold_leases(const Workers *workers) {
        for (size_t i = 0; i < workers->n_workers; i++) {
                const Worker *worker = queue_worker_state(workers->workers[i]);
                if (*worker->lease_id && worker->n_attempts == 0 && !worker->silent)
                        return true;
        }
        return false;
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
