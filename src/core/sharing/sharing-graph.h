/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the two ways of splitting have in common: who has whom configured, in numbers. Part of
 * sharing-split.h, not for others.
 *
 * Queues are numbered in their order, workers in the order of their ids. Workers that have exactly the same
 * owners form a group, so that 1000 queues with the same 100,000 workers are 1000 edges and not 100 million.
 */
#pragma once

#include <stdbool.h>

#include "core/sharing/sharing-split.h"

typedef struct SharingGraph {
        size_t n_queues;
        const SharingQueue **queues; /* weak, in their order */
        size_t *places;              /* where in the caller's array each is */

        size_t n_workers;
        const char **ids; /* weak: they are those of the queues' sets */
        uint32_t *worker_group;

        size_t n_groups;
        uint32_t *group_first;   /* n_groups + 1: where in group_workers the workers of a group begin */
        uint32_t *group_workers; /* ascending in each group */
        uint32_t *edge_first;    /* n_groups + 1: where in edge_queue the owners of a group begin */
        uint32_t *edge_queue;    /* ascending in each group */
} SharingGraph;

/* GRAPH is zeroed. -EEXIST, -E2BIG, -ENOMEM as sharing_split_…(); the caller calls sharing_graph_done() in
 * any case. */
int sharing_graph_init(SharingGraph *graph, const SharingQueue *queues, size_t n);
void sharing_graph_done(SharingGraph *graph);

static inline size_t sharing_graph_n_edges(const SharingGraph *graph) {
        return graph->edge_first[graph->n_groups];
}

static inline size_t sharing_graph_group_size(const SharingGraph *graph, size_t group) {
        return graph->group_first[group + 1] - graph->group_first[group];
}

/* Drops the edges for which KEEP is false. */
void sharing_graph_restrict(SharingGraph *graph, const bool *keep);

/* Makes the sets, where LISTS[q] holds COUNTS[q] numbers of workers, ascending. */
int sharing_graph_shares(
                const SharingGraph *graph,
                uint32_t *const *lists,
                const size_t *counts,
                WorkerSet **shares);
