/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/workers.h"

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/moment.h"

static int add_worker(Workers *workers, const WorkerConfig *config, Delivery *delivery) {
        HttpWorker *worker;
        int r = http_worker_new(&workers->shared, config, &worker);
        if (r < 0)
                return r;
        workers->workers[workers->n_workers++] = worker;
        DeliveryWorker *delivery_worker;
        Moment now = moment_now();
        r = delivery_add_worker(delivery, config->id, worker, &now, &delivery_worker);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up worker \"%s\"", config->id);
        http_worker_set_delivery(worker, delivery_worker);
        return 0;
}

int workers_init(Workers *workers, const QueueConfig *config, Delivery *delivery) {
        workers->workers = calloc(config->n_workers + 1, sizeof(HttpWorker *));
        if (!workers->workers)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up");
        int r = 0;
        for (size_t i = 0; r >= 0 && i < config->n_workers; i++)
                r = add_worker(workers, &config->workers[i], delivery);
        return r;
}

void workers_done(Workers *workers) {
        for (size_t i = 0; i < workers->n_workers; i++)
                http_worker_free(workers->workers[i]);
        free(workers->workers);
        *workers = (Workers){};
}

HttpWorker *workers_find(const Workers *workers, const char *worker_id) {
        for (size_t i = 0; i < workers->n_workers; i++)
                if (streq(http_worker_config(workers->workers[i])->id, worker_id))
                        return workers->workers[i];
        return NULL;
}

size_t workers_n_usable(const Workers *workers, usec_t now_usec) {
        size_t n = 0;
        for (size_t i = 0; i < workers->n_workers; i++)
                n += worker_is_usable(&http_worker_scheduled(workers->workers[i])->worker, now_usec);
        return n;
}

bool workers_hold_leases(const Workers *workers) {
        for (size_t i = 0; i < workers->n_workers; i++) {
                const Worker *worker = &http_worker_scheduled(workers->workers[i])->worker;
                if (*worker->lease_id && worker->n_attempts == 0 && !worker->silent)
                        return true;
        }
        return false;
}
