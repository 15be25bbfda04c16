/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue: everything daggyd holds, from start to end. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "io/http-client.h"
#include "queue/http-sharing.h"
#include "queue/metrics.h"
#include "queue/sqlite-store.h"
#include "queue/task-lists.h"
#include "queue/task-sources.h"
#include "queue/workers.h"
#include "service/daemon.h"

typedef struct Queue {
        Daemon daemon;
        QueueConfig *config; /* but for what the daemon has of it */
        char *address;       /* "host:port" by which others know this queue */
        char *told_capacity; /* as the last event had it, or NULL */

        HttpClient *client;    /* calls that end soon */
        HttpClient *streams;   /* those that do not */
        HttpClient *followers; /* the same of clients, who cannot hold up ours however many they are */

        const StorePort *store_port;
        SqliteStore *store;
        ResultClock result_clock;
        Delivery *delivery;
        TaskSources sources; /* both of them, for those who tell clients of tasks */
        Workers workers;
        HttpSharing *sharing; /* NULL until it listens */
        TaskLists *lists;
        Metrics metrics;

        int loaded; /* what an earlier run left: 0 not yet, 1, or a negative errno */
        sd_event_source *run_source, *deadline_source, *prune_source, *stop_source;
} Queue;

/* Takes CONFIG over in every case. Opens the store and takes up what was left there, for which it runs the
 * loop. A negative errno, logged. */
int queue_new(sd_event *event, const char *config_path, QueueConfig *config, bool user_mode, Queue **ret);
Queue *queue_free(Queue *queue);
DEFINE_POINTER_CLEANUP(Queue, queue_free)

/* Listens, and begins to work. */
int queue_start(Queue *queue);

/* Lets the scheduler decide, in a turn of the loop of its own. Call after anything it should know of. */
void queue_run_soon(Queue *queue);

/* Hands out what this queue may use: its share, or nothing while it drains. */
void queue_update_permissions(Queue *queue);

/* Whether it takes no tasks: told to drain, or about to end. */
bool queue_is_draining(const Queue *queue);

/* The version by which other queues compare it. */
const char *queue_version(const Queue *queue);
