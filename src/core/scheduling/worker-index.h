/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Finds the worker where a task has the least impact, or that comes nearest to having room for it, without
 * looking at all of them.
 *
 * Workers have places in the order of the hash of their ids, and three trees hold the largest amounts of each
 * part of that order (amount-tree.h): what those have free that take tasks, what those have free that may be
 * reserved, and what each has in all. A share is the smaller the more there is, in exact arithmetic as in
 * that of doubles. So what a task would take of a node's amounts is at most what it takes of any worker's
 * below it, and a part that cannot win is passed by; what is found is exactly what looking at every worker
 * would find.
 *
 * Between workers with the same impact a hash of the task and the worker decides, the least wins: first that
 * of the task with the worker's group, which is one of 256 by the hash of its id, and within the group that
 * of the task with the worker itself. Groups are neighbours in the order, so that of a fleet of equals the
 * trees are searched in the winning group only.
 *
 * A search takes O(log n) where workers are alike, and O(n^(1-1/k)) on average where k kinds of amounts are
 * independent of each other: some hundred of 10,000 workers with cores and memory are looked at. At worst,
 * where each worker is the best of some kind of task, it is O(n). An update takes O(log n). Only adding
 * workers takes memory.
 *
 * The trees know the first WORKER_INDEX_NAMES_MAX names of capacities that workers report besides cores and
 * memory. Any others are compared at the workers themselves, which is as exact but slower. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/scheduling/amount-tree.h"
#include "core/scheduling/worker.h"
#include "core/task/resources.h"

#define WORKER_INDEX_NAMES_MAX (AMOUNT_LANES - 3)

typedef struct WorkerIndex {
        Worker **workers; /* weak; by place */
        size_t n_workers, n_allocated;
        bool is_stale; /* workers came or went; the places of all are not found yet */
        char names[WORKER_INDEX_NAMES_MAX][RESOURCE_NAME_MAX + 1];
        size_t n_names;
        bool has_more_names;
        AmountTree taking, reservable, totals;
} WorkerIndex;

/* What a worker is open for. */
typedef struct WorkerOpenness {
        bool takes_tasks, may_be_reserved;
} WorkerOpenness;

void worker_index_done(WorkerIndex *index);

/* Adds a worker that is open for nothing. It must stay where it is as long as the index. -ENOMEM. */
int worker_index_add(WorkerIndex *index, Worker *worker);

/* Takes WORKER out. */
void worker_index_remove(WorkerIndex *index, const Worker *worker);

/* Takes over what WORKER has free and in all, and what it is open for. */
void worker_index_update(WorkerIndex *index, Worker *worker, WorkerOpenness openness);

/* The worker that takes tasks where WANT has the least max_impact; between equals ID_HASH, of the task's id,
 * decides. NULL: it fits nowhere. */
Worker *worker_index_least_impact(WorkerIndex *index, const Resources *want, uint64_t id_hash);

/* The worker that may be reserved and of which the least share has to come free for WANT, the largest of all
 * kinds; between equals the first in order of the hash of the id. NULL: none ever has room. */
Worker *worker_index_nearest(WorkerIndex *index, const Resources *want);

/* Whether some worker has room for WANT in all, whatever it is open for. One that was never heard has. */
bool worker_index_could_fit(WorkerIndex *index, const Resources *want);

/* The tie between equals, lower wins: see above. */
typedef struct WorkerTie {
        uint64_t group, worker;
} WorkerTie;
WorkerTie worker_tie(const Worker *worker, uint64_t id_hash);
bool worker_tie_wins(WorkerTie a, WorkerTie b);

/* The largest share of WORKER that has to come free before WANT fits. */
double worker_distance(const Worker *worker, const Resources *want);
