/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Looks for the queues there are: asks every port of every host whether a queue is there, and, if wanted,
 * which workers it has configured. This queue is always among them, without being asked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/sharing/sharing-split.h"
#include "io/http-client.h"

typedef struct Queue Queue;
typedef struct QueueScan QueueScan;

/* A queue that was found. */
typedef struct FoundQueue {
        SharingQueue queue;
        char *url; /* where it was found; NULL: it is this one */
} FoundQueue;

/* The N queues that were FOUND. What it takes out of them it leaves zeroed. */
typedef void (*QueueScanDone)(FoundQueue *found, size_t n, void *userdata);

/* What QUEUE, which does not tell this time, is known to have configured (weak), or NULL. */
typedef WorkerSet *(*QueueScanRecall)(const SharingQueue *queue, void *userdata);

typedef struct QueueScanOptions {
        const SharingQueue *self; /* copied */
        const char *identity;     /* of this queue: "Daggyr-Queue: …"; weak */
        QueueScanRecall recall;   /* NULL: workers are not asked for */
        QueueScanDone done;       /* called once, never from within queue_scan_new(); the scan may be freed
                                     in it */
        void *userdata;
} QueueScanOptions;

int queue_scan_new(Queue *queue, const QueueScanOptions *options, QueueScan **ret);
QueueScan *queue_scan_free(QueueScan *scan);
DEFINE_POINTER_CLEANUP(QueueScan, queue_scan_free)

/* Asks the queue at URL for PATH ("/queueVersion") with BODY, in Emcee's way; no answer within TOTAL_USEC is
 * -ETIMEDOUT. */
int queue_call_new(
                Queue *queue,
                const char *url,
                const char *path,
                const char *identity,
                const char *body,
                usec_t total_usec,
                HttpCallDone on_done,
                void *userdata,
                HttpCall **ret);

/* The answer of such a call as JSON. -EIO when there is none. The caller puts *ret. */
int queue_call_parse(const HttpOutcome *outcome, json_object **ret);
