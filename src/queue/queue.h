/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue: everything daggyd holds, from start to end. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "io/http-client.h"
#include "queue/forward.h"
#include "queue/http-sharing.h"
#include "queue/members.h"
#include "queue/metrics.h"
#include "queue/postgres-store.h"
#include "queue/sqlite-store.h"
#include "queue/task-lists.h"
#include "queue/task-sources.h"
#include "queue/workers.h"
#include "service/daemon.h"

/* What this process is to the queue. The only one that there is leads from its start on; a member of several
 * comes to QUEUE_LEADS when it is its turn, goes from there to QUEUE_HANDS_OVER when it is to end, and when
 * it may not lead any more, the program begins anew. */
typedef enum QueueRole {
        QUEUE_FOLLOWS,    /* another member leads, or nobody does: requests go there, or wait */
        QUEUE_TAKES_UP,   /* it is to lead, and reads what is stored */
        QUEUE_LEADS,      /* it has the tasks, and sends them to workers */
        QUEUE_HANDS_OVER, /* it leads no more, and never again */
} QueueRole;

typedef struct Queue {
        Daemon daemon;
        QueueConfig *config; /* but for what the daemon has of it */
        QueueRole role;
        bool begins_anew;     /* the program does, when the loop has ended */
        char *address;        /* "host:port" by which others know this queue, whoever leads */
        char *member_address; /* by which other members know this one; NULL: there are none */
        char *told_capacity;  /* as the last event had it, or NULL */

        HttpClient *client;    /* calls that end soon */
        HttpClient *streams;   /* those that do not */
        HttpClient *followers; /* the same of clients, who cannot hold up ours however many they are */

        Members *members;     /* NULL: the tasks are in a local file, and this is the only one */
        Forwarder *forwarder; /* the same */

        /* Of the one that leads. */
        SqliteStore *sqlite; /* one of these */
        PostgresStore *postgres;
        const StorePort *store_port;
        void *store; /* weak: that one, for the port */
        ResultClock result_clock;
        Delivery *delivery;
        TaskSources sources; /* both of them, for those who tell clients of tasks */
        Workers workers;
        HttpSharing *sharing; /* NULL until it listens */
        TaskLists *lists;
        Metrics metrics;

        int loaded; /* what is stored: 0 not yet, 1, or a negative errno */
        sd_event_source *run_source, *deadline_source, *prune_source, *stop_source, *end_source;
} Queue;

/* Takes CONFIG over in every case. Opens a store in a local file and takes up what was left there, for which
 * it runs the loop. A negative errno, logged. */
int queue_new(sd_event *event, const char *config_path, QueueConfig *config, bool user_mode, Queue **ret);
Queue *queue_free(Queue *queue);
DEFINE_POINTER_CLEANUP(Queue, queue_free)

/* Listens, and begins to work, or to be a member. */
int queue_start(Queue *queue);

/* Whether requests about tasks are served here. */
bool queue_leads(const Queue *queue);

/* *REQUEST (NULL: its client is gone) has led to nothing, and the caller is about to refuse it for PROBLEM.
 * If that is for now (503), and this member has ceased to lead since the request came, the one that leads
 * next is to decide on it instead: *REQUEST becomes NULL. Either way the caller hears of no hang-up after. */
void queue_leave_to_next(Queue *queue, HttpRequest **request, const Problem *problem);

/* Lets the scheduler decide, in a turn of the loop of its own. Call after anything it should know of. */
void queue_run_soon(Queue *queue);

/* Hands out what this queue may use: its share, or nothing while it drains. */
void queue_update_permissions(Queue *queue);

/* Whether it takes no tasks: told to drain, or about to end. */
bool queue_is_draining(const Queue *queue);

/* The version by which other queues compare it. */
const char *queue_version(const Queue *queue);
