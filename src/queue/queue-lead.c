/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What it takes to lead: the scheduler and its hands, workers, sharing. Set up once, when a store is open: at
 * the start with a local file, and when it is a member's turn with a database. */

#include <errno.h>
#include <syslog.h>

#include "base/log.h"
#include "queue/queue-internal.h"

static const char *store_queue_id(const Queue *queue) {
        return queue->sqlite ? sqlite_store_queue_id(queue->sqlite) :
                               postgres_store_queue_id(queue->postgres);
}

static int init_delivery(Queue *queue) {
        int r = delivery_new(
                        &(DeliveryOptions){
                                        .scheduler = {
                                                .lease_ttl_usec = queue->config->lease_ttl_usec,
                                                .lost_after_usec = queue->config->lost_after_usec,
                                        },
                                        .default_resources = queue->config->default_resources,
                                        .body_bytes_max = queue->daemon.config.body_max_bytes,
                                        .worker_port = &http_worker_port,
                                        .store_port = queue->store_port,
                                        .store = queue->store,
                                        .result_clock = &queue->result_clock,
                                        .queue_id = store_queue_id(queue),
                                        .listener = &queue_delivery_listener,
                                        .listener_userdata = queue,
                        },
                        &queue->delivery);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set up") : 0;
}

static void on_workers_changed(void *userdata) {
        Queue *queue = userdata;
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL;
        if (!queue->sharing) /* it has not begun */
                return;
        if (workers_to_set(&queue->workers, &set) >= 0)
                http_sharing_set_configured(queue->sharing, set);
        queue_update_permissions(queue);
}

static void init_workers(Queue *queue) {
        queue->workers.delivery = queue->delivery;
        queue->workers.store_port = queue->store_port;
        queue->workers.store = queue->store;
        queue->workers.changed = on_workers_changed;
        queue->workers.userdata = queue;
        queue->workers.shared = (HttpWorkers) {
                .event = queue->daemon.event,
                .client = queue->client,
                .streams = queue->streams,
                .followers = queue->followers,
                .queue_id = store_queue_id(queue),
                .address = (const char *const *) &queue->address,
                .version = queue_version(queue),
                .lease_ttl_usec = queue->config->lease_ttl_usec,
        };
}

static void init_sources(Queue *queue) {
        queue->sources = (TaskSources) {
                .event = queue->daemon.event,
                .server = queue->daemon.http,
                .delivery = queue->delivery,
                .store_port = queue->store_port,
                .store = queue->store,
                .config = queue->config,
        };
}

static bool on_is_draining(const void *userdata) {
        return queue_is_draining(userdata);
}

static void on_share_changed(void *userdata) {
        queue_update_permissions(userdata);
}

static int init_sharing(Queue *queue) {
        _cleanup_(worker_set_unrefp) WorkerSet *configured = NULL;
        int r = workers_to_set(&queue->workers, &configured);
        if (r < 0)
                return r;
        return http_sharing_new(
                        &(HttpSharingOptions) {
                                        .event = queue->daemon.event,
                                        .client = queue->client,
                                        .access = &queue->daemon.access,
                                        .config = queue->config,
                                        .configured = configured,
                                        .address = queue->address,
                                        .version = queue_version(queue),
                                        .is_draining = on_is_draining,
                                        .share_changed = on_share_changed,
                                        .userdata = queue,
                        },
                        &queue->sharing);
}

int queue_take_up(Queue *queue) {
        int r = init_delivery(queue);
        if (r < 0)
                return r;
        init_sources(queue);
        init_workers(queue);
        r = queue_load(queue);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot take up the tasks that are stored") : 0;
}

int queue_begin_leading(Queue *queue) {
        queue->workers.suits = queue_address_suits;
        int r = init_sharing(queue);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up worker sharing");
        queue->role = QUEUE_LEADS;
        queue_update_permissions(queue);
        queue_start_pruning(queue);
        return 0;
}
