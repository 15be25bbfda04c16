/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing-flow.h"

#include <assert.h>

#define NO_LEVEL 0

static int index_edges(SharingFlow *flow) {
        const SharingGraph *graph = flow->graph;
        size_t n_edges = sharing_graph_n_edges(graph);
        _cleanup_(freep) uint32_t *at = calloc(graph->n_queues + 1, sizeof(uint32_t));
        if (!at)
                return -ENOMEM;

        for (size_t e = 0; e < n_edges; e++)
                flow->queue_first[graph->edge_queue[e] + 1]++;
        for (size_t q = 0; q < graph->n_queues; q++) {
                flow->queue_first[q + 1] += flow->queue_first[q];
                at[q] = flow->queue_first[q];
                flow->queue_order[q] = (uint32_t) q;
        }
        for (size_t g = 0; g < graph->n_groups; g++)
                for (uint32_t e = graph->edge_first[g]; e < graph->edge_first[g + 1]; e++) {
                        flow->edge_group[e] = (uint32_t) g;
                        flow->queue_edges[at[graph->edge_queue[e]]++] = e;
                }
        return 0;
}

int sharing_flow_init(SharingFlow *flow, const SharingGraph *graph) {
        size_t n_edges = sharing_graph_n_edges(graph);
        const struct {
                uint32_t **array;
                size_t n;
        } arrays[] = {
                { &flow->count, n_edges },
                { &flow->edge_group, n_edges },
                { &flow->queue_edges, n_edges },
                { &flow->load, graph->n_queues },
                { &flow->part, graph->n_queues },
                { &flow->queue_first, graph->n_queues },
                { &flow->queue_order, graph->n_queues },
                { &flow->queue_level, graph->n_queues },
                { &flow->queue_arc, graph->n_queues },
                { &flow->group_level, graph->n_groups },
                { &flow->group_arc, graph->n_groups },
                { &flow->reached, graph->n_queues + graph->n_groups },
        };
        flow->graph = graph;
        for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
                *arrays[i].array = calloc(arrays[i].n + 1, sizeof(uint32_t));
                if (!*arrays[i].array)
                        return -ENOMEM;
        }
        return index_edges(flow);
}

void sharing_flow_done(SharingFlow *flow) {
        free(flow->count);
        free(flow->edge_group);
        free(flow->queue_edges);
        free(flow->load);
        free(flow->part);
        free(flow->queue_first);
        free(flow->queue_order);
        free(flow->queue_level);
        free(flow->queue_arc);
        free(flow->group_level);
        free(flow->group_arc);
        free(flow->reached);
        *flow = (SharingFlow) {};
}

/* ---- a first assignment ---- */

typedef struct Loaded {
        uint32_t load, edge;
} Loaded;

static int compare_loaded(const void *a, const void *b) {
        const Loaded *x = a, *y = b;
        if (x->load != y->load)
                return x->load < y->load ? -1 : 1;
        return x->edge < y->edge ? -1 : 1;
}

/* Fills up the emptiest of the queues of GROUP, all to the same level, with its workers. */
static void fill_group(SharingFlow *flow, size_t group, Loaded *queues) {
        const SharingGraph *graph = flow->graph;
        size_t n = 0, n_left = sharing_graph_group_size(graph, group), n_filled = 1;
        for (uint32_t e = graph->edge_first[group]; e < graph->edge_first[group + 1]; e++)
                queues[n++] = (Loaded) { flow->load[graph->edge_queue[e]], e };
        assert(n > 0);
        qsort(queues, n, sizeof(Loaded), compare_loaded);

        /* The first n_filled are at the same level; lift them to that of the next as long as that is paid
         * for. */
        size_t level = queues[0].load;
        while (n_filled < n && (queues[n_filled].load - level) * n_filled <= n_left) {
                n_left -= (queues[n_filled].load - level) * n_filled;
                level = queues[n_filled++].load;
        }
        for (size_t i = 0; i < n_filled; i++) {
                size_t load = level + n_left / n_filled + (i < n_left % n_filled);
                flow->count[queues[i].edge] = (uint32_t) (load - queues[i].load);
                flow->load[graph->edge_queue[queues[i].edge]] = (uint32_t) load;
        }
}

/* The usual case in a hurry: a single worker. */
static void fill_one(SharingFlow *flow, size_t group) {
        const SharingGraph *graph = flow->graph;
        uint32_t best = graph->edge_first[group];
        for (uint32_t e = best + 1; e < graph->edge_first[group + 1]; e++)
                if (flow->load[graph->edge_queue[e]] < flow->load[graph->edge_queue[best]])
                        best = e;
        flow->count[best] = 1;
        flow->load[graph->edge_queue[best]]++;
}

int sharing_flow_fill(SharingFlow *flow) {
        const SharingGraph *graph = flow->graph;
        _cleanup_(freep) Loaded *queues = calloc(graph->n_queues + 1, sizeof(Loaded));
        _cleanup_(freep) uint32_t *first = calloc(graph->n_queues + 2, sizeof(uint32_t));
        _cleanup_(freep) uint32_t *order = calloc(graph->n_groups + 1, sizeof(uint32_t));
        if (!queues || !first || !order)
                return -ENOMEM;

        /* Those with the fewest owners first, as they have the least choice. */
        for (size_t g = 0; g < graph->n_groups; g++)
                first[graph->edge_first[g + 1] - graph->edge_first[g] + 1]++;
        for (size_t n = 0; n < graph->n_queues; n++)
                first[n + 1] += first[n];
        for (size_t g = 0; g < graph->n_groups; g++)
                order[first[graph->edge_first[g + 1] - graph->edge_first[g]]++] = (uint32_t) g;

        for (size_t i = 0; i < graph->n_groups; i++)
                if (sharing_graph_group_size(graph, order[i]) == 1)
                        fill_one(flow, order[i]);
                else
                        fill_group(flow, order[i], queues);
        return 0;
}

/* ---- chains of moves ---- */

static void forget_levels(SharingFlow *flow) {
        size_t n_queues = flow->graph->n_queues;
        for (size_t i = 0; i < flow->n_reached; i++)
                if (flow->reached[i] < n_queues)
                        flow->queue_level[flow->reached[i]] = NO_LEVEL;
                else
                        flow->group_level[flow->reached[i] - n_queues] = NO_LEVEL;
        flow->n_reached = 0;
}

static void reach_queue(SharingFlow *flow, uint32_t queue, uint32_t level) {
        flow->queue_level[queue] = level;
        flow->queue_arc[queue] = flow->queue_first[queue];
        flow->reached[flow->n_reached++] = queue;
}

static void reach_groups_of(SharingFlow *flow, uint32_t queue) {
        for (uint32_t i = flow->queue_first[queue]; i < flow->queue_first[queue + 1]; i++) {
                uint32_t edge = flow->queue_edges[i], group = flow->edge_group[edge];
                if (flow->count[edge] == 0 || flow->group_level[group] != NO_LEVEL)
                        continue;
                flow->group_level[group] = flow->queue_level[queue] + 1;
                flow->group_arc[group] = flow->graph->edge_first[group];
                flow->reached[flow->n_reached++] = (uint32_t) flow->graph->n_queues + group;
        }
}

/* Whether one of those newly reached can take a worker at LIMIT. */
static bool reach_queues_of(SharingFlow *flow, uint32_t group, uint32_t part, uint32_t limit) {
        const SharingGraph *graph = flow->graph;
        bool found = false;
        for (uint32_t e = graph->edge_first[group]; e < graph->edge_first[group + 1]; e++) {
                uint32_t queue = graph->edge_queue[e];
                if (flow->part[queue] != part || flow->queue_level[queue] != NO_LEVEL)
                        continue;
                reach_queue(flow, queue, flow->group_level[group] + 1);
                found = found || flow->load[queue] < limit;
        }
        return found;
}

/* Gives levels to all that can be reached from queues with more than LIMIT workers, up to the level where a
 * queue with less is. Returns false when there is none; everything that can be reached has its level then. */
static bool find_chains(SharingFlow *flow, const uint32_t *queues, size_t n, uint32_t limit) {
        uint32_t n_queues = (uint32_t) flow->graph->n_queues, part = flow->part[queues[0]];
        uint32_t last_level = UINT32_MAX;

        forget_levels(flow);
        for (size_t i = 0; i < n; i++)
                if (flow->load[queues[i]] > limit)
                        reach_queue(flow, queues[i], 1);
        for (size_t i = 0; i < flow->n_reached; i++) {
                uint32_t node = flow->reached[i];
                if (node < n_queues) {
                        if (flow->queue_level[node] >= last_level)
                                break;
                        reach_groups_of(flow, node);
                } else if (reach_queues_of(flow, node - n_queues, part, limit))
                        last_level = flow->group_level[node - n_queues] + 1;
        }
        return last_level != UINT32_MAX;
}

static uint32_t push_from_queue(SharingFlow *flow, uint32_t queue, uint32_t n, uint32_t limit);

static uint32_t push_from_group(
                SharingFlow *flow,
                uint32_t group,
                uint32_t part,
                uint32_t n,
                uint32_t limit) {
        const SharingGraph *graph = flow->graph;
        for (uint32_t *e = &flow->group_arc[group]; *e < graph->edge_first[group + 1]; ++*e) {
                uint32_t queue = graph->edge_queue[*e];
                if (flow->part[queue] != part || flow->queue_level[queue] != flow->group_level[group] + 1)
                        continue;
                uint32_t pushed = push_from_queue(flow, queue, n, limit);
                if (pushed > 0) {
                        flow->count[*e] += pushed;
                        return pushed;
                }
        }
        return 0;
}

/* Moves up to N workers to QUEUE, or through it to one that is a level further on; returns how many. The
 * depth is bounded by twice the number of queues (SHARING_QUEUES_MAX). */
static uint32_t push_from_queue(SharingFlow *flow, uint32_t queue, uint32_t n, uint32_t limit) {
        if (flow->load[queue] < limit) {
                uint32_t room = limit - flow->load[queue];
                n = n < room ? n : room;
                flow->load[queue] += n;
                return n;
        }
        for (uint32_t *i = &flow->queue_arc[queue]; *i < flow->queue_first[queue + 1]; ++*i) {
                uint32_t edge = flow->queue_edges[*i], group = flow->edge_group[edge];
                if (flow->count[edge] == 0 || flow->group_level[group] != flow->queue_level[queue] + 1)
                        continue;
                uint32_t some = n < flow->count[edge] ? n : flow->count[edge];
                uint32_t pushed = push_from_group(flow, group, flow->part[queue], some, limit);
                if (pushed > 0) {
                        flow->count[edge] -= pushed;
                        return pushed;
                }
        }
        return 0;
}

/* Moves workers from those of the N QUEUES, which are one part, that have more than LIMIT to those that have
 * less, until that is no longer possible. */
static void level_out(SharingFlow *flow, const uint32_t *queues, size_t n, uint32_t limit) {
        while (find_chains(flow, queues, n, limit))
                for (size_t i = 0; i < n; i++)
                        while (flow->load[queues[i]] > limit) {
                                uint32_t q = queues[i], pushed;
                                pushed = push_from_queue(flow, q, flow->load[q] - limit, limit);
                                if (pushed == 0)
                                        break;
                                flow->load[q] -= pushed;
                        }
}

/* ---- parts ---- */

static bool any_beyond(
                const SharingFlow *flow,
                const uint32_t *queues,
                size_t n,
                uint32_t limit,
                bool above) {
        for (size_t i = 0; i < n; i++)
                if (above ? flow->load[queues[i]] > limit : flow->load[queues[i]] < limit)
                        return true;
        return false;
}

/* Puts those of the N QUEUES that were reached first, and the others into NEW_PART; returns how many were.
 * Those reached have no worker that could move to the others, nor the others a reason to give one to them. */
static size_t divide(SharingFlow *flow, uint32_t *queues, size_t n, uint32_t new_part) {
        size_t n_first = 0;
        for (size_t i = 0; i < n; i++) {
                uint32_t queue = queues[i];
                if (flow->queue_level[queue] == NO_LEVEL) {
                        flow->part[queue] = new_part;
                        continue;
                }
                queues[i] = queues[n_first];
                queues[n_first++] = queue;
        }
        assert(n_first > 0 && n_first < n);
        return n_first;
}

/* Levels out one part at its average load. Returns N when that was possible, or after how many queues it had
 * to be divided in two, each of which is to be levelled out on its own. */
static size_t level_out_part(SharingFlow *flow, uint32_t *queues, size_t n, uint32_t new_part) {
        uint64_t total = 0;
        for (size_t i = 0; i < n; i++)
                total += flow->load[queues[i]];
        uint32_t low = (uint32_t) (total / n), high = (uint32_t) ((total + n - 1) / n);

        level_out(flow, queues, n, high);
        if (any_beyond(flow, queues, n, high, true))
                return divide(flow, queues, n, new_part);
        level_out(flow, queues, n, low);
        if (any_beyond(flow, queues, n, low, false))
                return divide(flow, queues, n, new_part);
        return n;
}

int sharing_flow_equalise(SharingFlow *flow) {
        size_t n_queues = flow->graph->n_queues, n_waiting = 0;
        uint32_t n_parts = 1;
        typedef struct Range {
                size_t first, n;
        } Range;
        _cleanup_(freep) Range *waiting = calloc(n_queues + 1, sizeof(Range));
        if (!waiting)
                return -ENOMEM;

        if (n_queues > 0)
                waiting[n_waiting++] = (Range) { 0, n_queues };
        while (n_waiting > 0) {
                Range range = waiting[--n_waiting];
                size_t n = level_out_part(flow, flow->queue_order + range.first, range.n, n_parts);
                if (n == range.n)
                        continue;
                n_parts++;
                waiting[n_waiting++] = (Range) { range.first, n };
                waiting[n_waiting++] = (Range) { range.first + n, range.n - n };
        }
        return 0;
}

/* ---- one worker for each, in an order of precedence ---- */

/* group_arc counts the workers of each group that were given away, group_level marks those that were seen. */
static bool claim_spare(SharingFlow *flow, uint32_t queue) {
        for (uint32_t i = flow->queue_first[queue]; i < flow->queue_first[queue + 1]; i++) {
                uint32_t edge = flow->queue_edges[i], group = flow->edge_group[edge];
                if (flow->group_arc[group] >= sharing_graph_group_size(flow->graph, group))
                        continue;
                flow->group_arc[group]++;
                flow->count[edge]++;
                return true;
        }
        return false;
}

/* Also from queues that find something else. The depth is bounded by the number of queues. */
static bool claim(SharingFlow *flow, uint32_t queue) {
        const SharingGraph *graph = flow->graph;
        if (claim_spare(flow, queue))
                return true;
        for (uint32_t i = flow->queue_first[queue]; i < flow->queue_first[queue + 1]; i++) {
                uint32_t edge = flow->queue_edges[i], group = flow->edge_group[edge];
                if (flow->group_level[group] != NO_LEVEL)
                        continue;
                flow->group_level[group] = 1;
                flow->reached[flow->n_reached++] = (uint32_t) graph->n_queues + group;
                for (uint32_t e = graph->edge_first[group]; e < graph->edge_first[group + 1]; e++)
                        if (flow->count[e] > 0 && claim(flow, graph->edge_queue[e])) {
                                flow->count[e]--;
                                flow->count[edge]++;
                                return true;
                        }
        }
        return false;
}

bool sharing_flow_claim(SharingFlow *flow, uint32_t queue) {
        size_t n_before = flow->n_reached;
        if (!claim(flow, queue))
                return false;

        flow->load[queue]++;
        while (flow->n_reached > n_before)
                flow->group_level[flow->reached[--flow->n_reached] - flow->graph->n_queues] = NO_LEVEL;
        return true;
}
