/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Emcee's WorkersMapping calculator, bit by bit. */

#include "core/sharing/sharing-graph.h"

/* How many of the group's workers go to each of its queues in turn: all, or, when they are fewer than the
 * queues, one to each. */
static size_t n_deals(const SharingGraph *graph, size_t group, size_t *ret_n_queues) {
        size_t n_workers = sharing_graph_group_size(graph, group);
        *ret_n_queues = graph->edge_first[group + 1] - graph->edge_first[group];
        return n_workers > *ret_n_queues ? n_workers : *ret_n_queues;
}

/* With LISTS, fills them; in any case counts. */
static void deal(const SharingGraph *graph, uint32_t **lists, size_t *counts) {
        for (size_t g = 0; g < graph->n_groups; g++) {
                size_t n_queues, n = n_deals(graph, g, &n_queues);
                size_t n_workers = sharing_graph_group_size(graph, g);
                for (size_t i = 0; i < n; i++) {
                        uint32_t queue = graph->edge_queue[graph->edge_first[g] + i % n_queues];
                        if (lists)
                                lists[queue][counts[queue]] =
                                                graph->group_workers[graph->group_first[g] + i % n_workers];
                        counts[queue]++;
                }
        }
}

static int split(const SharingGraph *graph, WorkerSet **shares) {
        size_t total = 0;
        _cleanup_(freep) size_t *counts = calloc(graph->n_queues + 1, sizeof(size_t));
        _cleanup_(freep) uint32_t **lists = calloc(graph->n_queues + 1, sizeof(uint32_t *));
        if (!counts || !lists)
                return -ENOMEM;

        deal(graph, NULL, counts);
        for (size_t q = 0; q < graph->n_queues; q++)
                total += counts[q];
        _cleanup_(freep) uint32_t *space = calloc(total + 1, sizeof(uint32_t));
        if (!space)
                return -ENOMEM;
        total = 0;
        for (size_t q = 0; q < graph->n_queues; q++) {
                lists[q] = space + total;
                total += counts[q];
                counts[q] = 0;
        }
        deal(graph, lists, counts);
        return sharing_graph_shares(graph, lists, counts, shares);
}

int sharing_split_emcee(const SharingQueue *queues, size_t n, WorkerSet **shares) {
        _cleanup_(sharing_graph_done) SharingGraph graph = {};
        int r = sharing_graph_init(&graph, queues, n);
        if (r < 0)
                return r;
        return split(&graph, shares);
}
