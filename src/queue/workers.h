/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The workers of the configuration, in its order. */
#pragma once

#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "queue/http-worker.h"

typedef struct Workers {
        HttpWorkers shared;
        size_t n_workers;
        HttpWorker **workers;
} Workers;

/* WORKERS is zeroed but for what they share. Adds those of CONFIG (weak) to DELIVERY. A negative errno,
 * logged; workers_done() in every case. */
int workers_init(Workers *workers, const QueueConfig *config, Delivery *delivery);

/* The delivery must be gone before. */
void workers_done(Workers *workers);

HttpWorker *workers_find(const Workers *workers, const char *worker_id);

/* How many tasks could be placed on now. */
size_t workers_n_usable(const Workers *workers, usec_t now_usec);

/* Whether there are leases that could be given back. */
bool workers_hold_leases(const Workers *workers);
