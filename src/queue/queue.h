/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue: everything daggyd holds, from start to end. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "io/http-client.h"
#include "io/http-server.h"
#include "queue/http-worker.h"
#include "queue/metrics.h"
#include "queue/sharing.h"
#include "queue/sqlite-store.h"
#include "queue/task-lists.h"
#include "service/access.h"
#include "service/event-stream.h"
#include "service/long-jobs.h"
#include "service/process.h"
#include "service/router.h"

#define PROGRAM_NAME "daggyd"

struct Queue {
        const char *config_path; /* NULL: defaults only */
        QueueConfig *config;
        bool user_mode; /* a user's own: nobody else has any business at its Unix sockets */
        sd_event *event;
        char host_name[HOST_NAME_MAX + 1];
        char *address; /* "host:port" by which others know this queue */
        uint16_t port; /* where it listens */

        Access access;
        Router *router;
        HttpServer *http;
        ProcessSignals *signals;
        EventStream *events;
        HttpClient *client;    /* calls that end soon */
        HttpClient *streams;   /* those that do not */
        HttpClient *followers; /* the same of clients, who cannot hold up ours however many they are */

        const StorePort *store_port;
        SqliteStore *store;
        ResultClock result_clock;
        Delivery *delivery;
        HttpWorkers worker_options;
        HttpWorker **workers; /* those of the configuration, in its order */
        size_t n_workers;
        Sharing *sharing; /* NULL until it listens */
        TaskLists *lists;
        LongJobs *long_jobs; /* batches that go on in a later turn */
        Metrics metrics;

        bool draining; /* by request: takes no tasks and starts none */
        int loaded;    /* what an earlier run left: 0 not yet, 1, or a negative errno */
        bool stopping;
        sd_event_source *run_source, *deadline_source, *prune_source, *status_source, *stop_source;
};

/* Takes CONFIG over in every case. Opens the store and takes up what was left there, for which it runs the
 * loop. A negative errno,
 * logged. */
int queue_new(sd_event *event, const char *config_path, QueueConfig *config, bool user_mode, Queue **ret);
Queue *queue_free(Queue *queue);
DEFINE_POINTER_CLEANUP(Queue, queue_free)

/* Listens, and begins to work. */
int queue_start(Queue *queue);

/* Gives leases back as far as nothing runs under them, and ends the loop. Tasks go on at their runners. */
void queue_stop(Queue *queue);

/* Lets the scheduler decide, in a turn of the loop of its own. Call after anything it should know of. */
void queue_run_soon(Queue *queue);

/* Hands out what this queue may use: its share, or nothing while it drains. */
void queue_update_permissions(Queue *queue);

/* Drains, or not any more, also after a restart: DONE is called when that is stored. A negative errno:
 * nothing has changed. */
int queue_set_draining(Queue *queue, bool draining, StoreDone done, void *userdata);

/* The version by which other queues compare it. */
const char *queue_version(const Queue *queue);

HttpWorker *queue_find_worker(const Queue *queue, const char *worker_id);
ScheduledWorker *queue_scheduled_worker(const HttpWorker *worker);
