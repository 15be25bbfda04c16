/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Fairness: how many workers of each group go to each queue, so that the loads of the queues are as equal as
 * the edges allow. Part of sharing-split.h, not for others.
 *
 * An assignment is as fair as can be if no chain of moves (a worker from the first queue to the second, one
 * from there to the third, …) leads from a queue to one that has at least two workers less: Harvey, Ladner,
 * Lovász, Tamir, "Semi-matchings for bipartite graphs and load balancing", 2006. Chains are found many at a
 * time, as blocking flows in a layered network (Dinic). */
#pragma once

#include "core/sharing/sharing-graph.h"

typedef struct SharingFlow {
        const SharingGraph *graph;
        uint32_t *count; /* for each edge: how many workers of the group the queue has */
        uint32_t *load;  /* for each queue: how many it has in all */
        uint32_t *part;  /* for each queue: workers move only between queues of the same part */

        uint32_t *edge_group;  /* for each edge */
        uint32_t *queue_first; /* n_queues + 1: where in queue_edges those of a queue begin */
        uint32_t *queue_edges; /* the edges of each queue, ascending */
        uint32_t *queue_order; /* all queues, those of a part side by side */
        uint32_t *queue_level; /* 1: may give; 0: not reached */
        uint32_t *group_level; /* the same for groups */
        uint32_t *queue_arc;   /* the next edge of the queue to try */
        uint32_t *group_arc;   /* the next edge of the group to try */
        uint32_t *reached;     /* what has a level: queues, and groups from n_queues on */
        size_t n_reached;
} SharingFlow;

/* FLOW is zeroed; nothing is assigned, all queues are in part 0. -ENOMEM; the caller calls
 * sharing_flow_done() in any case. */
int sharing_flow_init(SharingFlow *flow, const SharingGraph *graph);
void sharing_flow_done(SharingFlow *flow);

/* Assigns all workers, each to one of those of its queues that have the fewest by then. -ENOMEM. */
int sharing_flow_fill(SharingFlow *flow);

/* Makes a complete assignment as fair as can be. All queues must be in part 0. Sets the part of each queue:
 * in a part loads differ by at most one, and in every fair assignment the same workers are with it. -ENOMEM.
 */
int sharing_flow_equalise(SharingFlow *flow);

/* Gives QUEUE one more worker, by a chain of moves that takes no other queue's last, or returns false. Once
 * false, that chain is not tried again for others: call it with queues in their order of precedence. */
bool sharing_flow_claim(SharingFlow *flow, uint32_t queue);
