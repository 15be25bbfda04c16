/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Workers that are runners, over HTTP: the first kind behind the worker port. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "delivery/worker-port.h"
#include "io/http-client.h"

typedef struct HttpWorker HttpWorker;

/* What all of them share. Weak. */
typedef struct HttpWorkers {
        sd_event *event;
        HttpClient *client;    /* calls that end soon */
        HttpClient *streams;   /* those that do not */
        HttpClient *followers; /* the same of clients, who cannot hold up ours however many they are */
        const char *queue_id;
        const char *const *address; /* "host:port" by which leases name this queue; set later */
        const char *version;
        usec_t lease_ttl_usec;
} HttpWorkers;

extern const WorkerPort http_worker_port;

/* CONFIG is copied, SHARED is weak. A negative errno, logged. */
int http_worker_new(const HttpWorkers *shared, const WorkerConfig *config, HttpWorker **ret);

/* Goes by CONFIG (copied) from now on; requests under way go on as they were made. -ENOMEM: nothing has
 * changed. */
int http_worker_configure(HttpWorker *worker, const WorkerConfig *config);

/* Its events come from where it is now. */
void http_worker_listen_anew(HttpWorker *worker);

/* Whether nothing is under way to it. */
bool http_worker_is_idle(const HttpWorker *worker);

/* Its calls are dropped without calling back. */
HttpWorker *http_worker_free(HttpWorker *worker);
DEFINE_POINTER_CLEANUP(HttpWorker, http_worker_free)

/* Whom its events are told to. */
void http_worker_set_delivery(HttpWorker *worker, DeliveryWorker *delivery_worker);
DeliveryWorker *http_worker_delivery(const HttpWorker *worker);
ScheduledWorker *http_worker_scheduled(const HttpWorker *worker);
const WorkerConfig *http_worker_config(const HttpWorker *worker);
