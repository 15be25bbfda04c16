/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which queue may use which workers, when several queues have the same workers configured. docs/sharing.md
 * has the rules with examples.
 *
 * Both ways of splitting are functions of the set of queues (and, for the strict one, of an epoch): whoever
 * computes it, and in whatever order the queues come, the outcome is the same. No earlier outcome goes in: a
 * master that has just taken over continues what the last one did, without having heard of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/sharing/worker-set.h"

#define SHARING_QUEUES_MAX    2048 /* in one split; -E2BIG above */
#define SHARING_QUEUE_ID_SIZE 33   /* 32 hexadecimal digits and a NUL */

typedef struct SharingQueue {
        char *address;                  /* "host:port", its name and, in the byte order, its place */
        char *version;                  /* tells queues of the same address apart */
        char id[SHARING_QUEUE_ID_SIZE]; /* and then this; "" for queues that have none (Emcee's) */
        WorkerSet *workers;             /* those it has configured; NULL counts as empty */
} SharingQueue;

void sharing_queue_done(SharingQueue *queue);

/* Frees the N QUEUES and the array. Returns NULL. */
SharingQueue *sharing_queues_free(SharingQueue *queues, size_t n);

/* The order in which both ways see queues: by address, version, id; all by their bytes. */
int sharing_queue_compare(const SharingQueue *a, const SharingQueue *b);

/* As Emcee (21.0 and before) splits: workers with the same owners are dealt out to these in turn, and where
 * there are fewer workers than owners they are dealt out again, so shares may intersect.
 *
 * Sets SHARES[i] to the share of QUEUES[i]; NULL when it has no workers configured. SHARES has room for N and
 * is written to on success only; the caller unrefs each (sharing_shares_done()). -EEXIST when two queues have
 * the same address, version and id, -E2BIG, -ENOMEM. */
int sharing_split_emcee(const SharingQueue *queues, size_t n, WorkerSet **shares);

/* Every worker goes to exactly one of the queues that have it configured. The sizes are the fairest there
 * are: the smallest share is as large as possible, then the second smallest, and so on.
 *
 * Each pair of a worker and a queue has a fixed score, and pairs of a high score are preferred. So when a
 * queue comes or goes, it is mostly its own workers that move.
 *
 * Where queues have fewer workers between them than they are, some get none, and EPOCH says which: while it
 * counts up, everyone's turn comes, at the latest in the N-th epoch of N queues that compete. All other
 * shares are the same in every epoch.
 *
 * Arguments and errors as above. */
int sharing_split_strict(const SharingQueue *queues, size_t n, uint64_t epoch, WorkerSet **shares);

/* Unrefs N sets and makes them NULL. */
void sharing_shares_done(WorkerSet **shares, size_t n);
