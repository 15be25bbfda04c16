/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing-graph.h"

#include <assert.h>

#include "base/text.h"

#define NONE UINT32_MAX

/* While the graph is made: the sets that differ, and every id once. */
typedef struct SharingIntake {
        size_t n_sets;
        const WorkerSet **sets; /* weak */
        uint32_t *queue_set;    /* which of them each queue has; NONE for an empty one */
        uint32_t **members;     /* of each set, as numbers */

        /* A table of numbers by the hash of what they stand for, with open addressing. uthash would want a
         * struct with a handle of 56 bytes for each id. */
        size_t n_ids, n_ids_allocated, n_slots;
        const char **ids;
        uint64_t *hashes;
        uint32_t *slots;
} SharingIntake;

static void intake_done(SharingIntake *intake) {
        for (size_t s = 0; intake->members && s < intake->n_sets; s++)
                free(intake->members[s]);
        free(intake->members);
        free(intake->sets);
        free(intake->queue_set);
        free(intake->ids);
        free(intake->hashes);
        free(intake->slots);
}

void sharing_queue_done(SharingQueue *queue) {
        free(queue->address);
        free(queue->version);
        worker_set_unref(queue->workers);
        *queue = (SharingQueue) {};
}

SharingQueue *sharing_queues_free(SharingQueue *queues, size_t n) {
        for (size_t i = 0; i < n; i++)
                sharing_queue_done(&queues[i]);
        free(queues);
        return NULL;
}

void sharing_shares_done(WorkerSet **shares, size_t n) {
        for (size_t i = 0; i < n; i++)
                shares[i] = worker_set_unref(shares[i]);
}

int sharing_queue_compare(const SharingQueue *a, const SharingQueue *b) {
        int d = strcmp(a->address, b->address);
        if (d == 0)
                d = strcmp(a->version, b->version);
        return d != 0 ? d : strcmp(a->id, b->id);
}

static int compare_queues(const void *a, const void *b) {
        return sharing_queue_compare(*(const SharingQueue *const *) a, *(const SharingQueue *const *) b);
}

static int order_queues(SharingGraph *graph, const SharingQueue *queues, size_t n) {
        if (n > SHARING_QUEUES_MAX)
                return -E2BIG;
        graph->n_queues = n;
        graph->queues = calloc(n + 1, sizeof(SharingQueue *));
        graph->places = calloc(n + 1, sizeof(size_t));
        if (!graph->queues || !graph->places)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++)
                graph->queues[i] = &queues[i];
        qsort(graph->queues, n, sizeof(SharingQueue *), compare_queues);
        for (size_t i = 0; i < n; i++) {
                graph->places[i] = (size_t) (graph->queues[i] - queues);
                if (i > 0 && sharing_queue_compare(graph->queues[i - 1], graph->queues[i]) == 0)
                        return -EEXIST;
        }
        return 0;
}

/* Queues that share a set, or whose sets are equal, are common: each set is read once. */
static int collect_sets(SharingGraph *graph, SharingIntake *intake) {
        intake->sets = calloc(graph->n_queues + 1, sizeof(WorkerSet *));
        intake->queue_set = calloc(graph->n_queues + 1, sizeof(uint32_t));
        if (!intake->sets || !intake->queue_set)
                return -ENOMEM;

        for (size_t q = 0; q < graph->n_queues; q++) {
                const WorkerSet *set = graph->queues[q]->workers;
                size_t s = 0;
                intake->queue_set[q] = NONE;
                if (!set || set->n_ids == 0)
                        continue;
                while (s < intake->n_sets && !worker_set_equal(intake->sets[s], set))
                        s++;
                if (s == intake->n_sets)
                        intake->sets[intake->n_sets++] = set;
                intake->queue_set[q] = (uint32_t) s;
        }
        return 0;
}

static void enter(SharingIntake *intake, uint32_t number) {
        size_t slot = intake->hashes[number] & (intake->n_slots - 1);
        while (intake->slots[slot] != NONE)
                slot = (slot + 1) & (intake->n_slots - 1);
        intake->slots[slot] = number;
}

/* Makes room for one more id; at most half of the slots are taken then. */
static int grow(SharingIntake *intake) {
        if (intake->n_ids < intake->n_ids_allocated)
                return 0;
        size_t n = intake->n_ids_allocated > 0 ? 2 * intake->n_ids_allocated : 1024;
        if (n >= NONE / 2)
                return -E2BIG;

        const char **ids = reallocarray(intake->ids, n, sizeof(char *));
        if (!ids)
                return -ENOMEM;
        intake->ids = ids;
        uint64_t *hashes = reallocarray(intake->hashes, n, sizeof(uint64_t));
        if (!hashes)
                return -ENOMEM;
        intake->hashes = hashes;
        uint32_t *slots = reallocarray(intake->slots, 2 * n, sizeof(uint32_t));
        if (!slots)
                return -ENOMEM;
        intake->slots = slots;

        intake->n_ids_allocated = n;
        intake->n_slots = 2 * n;
        memset(slots, 0xff, intake->n_slots * sizeof(uint32_t));
        for (size_t i = 0; i < intake->n_ids; i++)
                enter(intake, (uint32_t) i);
        return 0;
}

static int number_of(SharingIntake *intake, const char *id, uint32_t *ret) {
        uint64_t hash = text_hash(id);
        hash ^= hash >> 32;

        int r = grow(intake);
        if (r < 0)
                return r;
        for (size_t slot = hash & (intake->n_slots - 1); intake->slots[slot] != NONE;
             slot = (slot + 1) & (intake->n_slots - 1)) {
                uint32_t number = intake->slots[slot];
                if (intake->hashes[number] == hash && streq(intake->ids[number], id)) {
                        *ret = number;
                        return 0;
                }
        }

        intake->ids[intake->n_ids] = id;
        intake->hashes[intake->n_ids] = hash;
        enter(intake, (uint32_t) intake->n_ids);
        *ret = (uint32_t) intake->n_ids++;
        return 0;
}

static int number_sets(SharingIntake *intake) {
        intake->members = calloc(intake->n_sets + 1, sizeof(uint32_t *));
        if (!intake->members)
                return -ENOMEM;
        for (size_t s = 0; s < intake->n_sets; s++) {
                const WorkerSet *set = intake->sets[s];
                intake->members[s] = calloc(set->n_ids, sizeof(uint32_t));
                if (!intake->members[s])
                        return -ENOMEM;
                for (size_t i = 0; i < set->n_ids; i++) {
                        int r = number_of(intake, set->ids[i], &intake->members[s][i]);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

typedef struct NumberedId {
        const char *id;
        uint32_t number;
} NumberedId;

static int compare_numbered(const void *a, const void *b) {
        return strcmp(((const NumberedId *) a)->id, ((const NumberedId *) b)->id);
}

/* Renumbers the ids by their bytes. Members are ascending after that, as their sets are sorted. */
static int order_workers(SharingGraph *graph, SharingIntake *intake) {
        size_t n = intake->n_ids;
        graph->n_workers = n;
        graph->ids = calloc(n + 1, sizeof(char *));
        _cleanup_(freep) NumberedId *sorted = calloc(n + 1, sizeof(NumberedId));
        _cleanup_(freep) uint32_t *rank = calloc(n + 1, sizeof(uint32_t));
        if (!graph->ids || !sorted || !rank)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++)
                sorted[i] = (NumberedId) { intake->ids[i], (uint32_t) i };
        qsort(sorted, n, sizeof(NumberedId), compare_numbered);
        for (size_t i = 0; i < n; i++) {
                graph->ids[i] = sorted[i].id;
                rank[sorted[i].number] = (uint32_t) i;
        }
        for (size_t s = 0; s < intake->n_sets; s++)
                for (size_t i = 0; i < intake->sets[s]->n_ids; i++)
                        intake->members[s][i] = rank[intake->members[s][i]];
        return 0;
}

/* While groups are split: a row for each number that a group can have. */
typedef struct Splitting {
        uint32_t count;       /* how many workers are in it */
        uint32_t stamp, into; /* set STAMP - 1 has moved workers from here to group INTO */
        uint32_t spare;       /* not of this row: a stack of the numbers of groups that became empty */
} Splitting;

/* Moves those of WORKERS out of each group into a new one. */
static void split_groups(
                uint32_t *group,
                const uint32_t *workers,
                size_t n,
                Splitting *rows,
                size_t *n_spare,
                uint32_t stamp) {
        for (size_t i = 0; i < n; i++) {
                uint32_t old = group[workers[i]];
                if (rows[old].stamp != stamp) {
                        rows[old].stamp = stamp;
                        rows[old].into = rows[--*n_spare].spare;
                }
                group[workers[i]] = rows[old].into;
                rows[rows[old].into].count++;
                if (--rows[old].count == 0)
                        rows[(*n_spare)++].spare = old;
        }
}

/* Starts with all workers in one group and lets each set split every group into those within and those
 * without. A worker leaves as many groups as it enters, so there are never more than workers, and one that is
 * about to become empty. */
static int refine_groups(SharingGraph *graph, const SharingIntake *intake) {
        size_t n = graph->n_workers, n_spare = 0;
        graph->worker_group = calloc(n + 1, sizeof(uint32_t));
        _cleanup_(freep) Splitting *rows = calloc(n + 2, sizeof(Splitting));
        if (!graph->worker_group || !rows)
                return -ENOMEM;

        rows[0].count = (uint32_t) n;
        for (uint32_t number = (uint32_t) n + 1; number > 0; number--)
                rows[n_spare++].spare = number;
        for (size_t s = 0; s < intake->n_sets; s++)
                split_groups(graph->worker_group,
                             intake->members[s],
                             intake->sets[s]->n_ids,
                             rows,
                             &n_spare,
                             (uint32_t) s + 1);
        return 0;
}

/* Renumbers the groups by their first workers, and lists the workers of each. */
static int order_groups(SharingGraph *graph) {
        size_t n = graph->n_workers;
        _cleanup_(freep) uint32_t *rank = malloc((n + 2) * sizeof(uint32_t));
        _cleanup_(freep) uint32_t *at = calloc(n + 1, sizeof(uint32_t));
        graph->group_first = calloc(n + 2, sizeof(uint32_t));
        graph->group_workers = calloc(n + 1, sizeof(uint32_t));
        if (!rank || !at || !graph->group_first || !graph->group_workers)
                return -ENOMEM;

        memset(rank, 0xff, (n + 2) * sizeof(uint32_t));
        for (size_t w = 0; w < n; w++) {
                uint32_t *group = &graph->worker_group[w];
                if (rank[*group] == NONE)
                        rank[*group] = (uint32_t) graph->n_groups++;
                *group = rank[*group];
                graph->group_first[*group + 1]++;
        }
        for (size_t g = 0; g < graph->n_groups; g++) {
                graph->group_first[g + 1] += graph->group_first[g];
                at[g] = graph->group_first[g];
        }
        for (size_t w = 0; w < n; w++)
                graph->group_workers[at[graph->worker_group[w]]++] = (uint32_t) w;
        return 0;
}

/* Replaces the members of each set by the groups they are in; COUNTS says how many. */
static int find_set_groups(SharingGraph *graph, SharingIntake *intake, size_t *counts) {
        _cleanup_(freep) uint32_t *stamp = calloc(graph->n_groups + 1, sizeof(uint32_t));
        if (!stamp)
                return -ENOMEM;
        for (size_t s = 0; s < intake->n_sets; s++)
                for (size_t i = 0; i < intake->sets[s]->n_ids; i++) {
                        uint32_t group = graph->worker_group[intake->members[s][i]];
                        if (stamp[group] == s + 1)
                                continue;
                        stamp[group] = (uint32_t) s + 1;
                        intake->members[s][counts[s]++] = group;
                }
        return 0;
}

static int find_edges(SharingGraph *graph, SharingIntake *intake) {
        _cleanup_(freep) size_t *counts = calloc(intake->n_sets + 1, sizeof(size_t));
        _cleanup_(freep) uint32_t *at = calloc(graph->n_groups + 1, sizeof(uint32_t));
        graph->edge_first = calloc(graph->n_groups + 1, sizeof(uint32_t));
        if (!counts || !at || !graph->edge_first)
                return -ENOMEM;
        int r = find_set_groups(graph, intake, counts);
        if (r < 0)
                return r;

        uint64_t n_edges = 0;
        for (size_t q = 0; q < graph->n_queues; q++) {
                uint32_t s = intake->queue_set[q];
                for (size_t i = 0; s != NONE && i < counts[s]; i++, n_edges++)
                        graph->edge_first[intake->members[s][i] + 1]++;
        }
        if (n_edges >= NONE)
                return -E2BIG;
        for (size_t g = 0; g < graph->n_groups; g++) {
                graph->edge_first[g + 1] += graph->edge_first[g];
                at[g] = graph->edge_first[g];
        }

        graph->edge_queue = calloc(n_edges + 1, sizeof(uint32_t));
        if (!graph->edge_queue)
                return -ENOMEM;
        for (size_t q = 0; q < graph->n_queues; q++) {
                uint32_t s = intake->queue_set[q];
                for (size_t i = 0; s != NONE && i < counts[s]; i++)
                        graph->edge_queue[at[intake->members[s][i]]++] = (uint32_t) q;
        }
        return 0;
}

int sharing_graph_init(SharingGraph *graph, const SharingQueue *queues, size_t n) {
        _cleanup_(intake_done) SharingIntake intake = {};
        int r = order_queues(graph, queues, n);
        if (r >= 0)
                r = collect_sets(graph, &intake);
        if (r >= 0)
                r = number_sets(&intake);
        if (r >= 0)
                r = order_workers(graph, &intake);
        if (r >= 0)
                r = refine_groups(graph, &intake);
        if (r >= 0)
                r = order_groups(graph);
        if (r >= 0)
                r = find_edges(graph, &intake);
        return r;
}

void sharing_graph_done(SharingGraph *graph) {
        free(graph->queues);
        free(graph->places);
        free(graph->ids);
        free(graph->worker_group);
        free(graph->group_first);
        free(graph->group_workers);
        free(graph->edge_first);
        free(graph->edge_queue);
        *graph = (SharingGraph) {};
}

void sharing_graph_restrict(SharingGraph *graph, const bool *keep) {
        uint32_t n = 0, first = 0;
        for (size_t g = 0; g < graph->n_groups; g++) {
                uint32_t end = graph->edge_first[g + 1];
                graph->edge_first[g] = n;
                for (uint32_t e = first; e < end; e++)
                        if (keep[e])
                                graph->edge_queue[n++] = graph->edge_queue[e];
                first = end;
        }
        graph->edge_first[graph->n_groups] = n;
}

static int make_share(const SharingGraph *graph, const uint32_t *list, size_t n, WorkerSet **ret) {
        _cleanup_(freep) const char **ids = calloc(n + 1, sizeof(char *));
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                ids[i] = graph->ids[list[i]];
        return worker_set_new(ids, n, ret);
}

int sharing_graph_shares(
                const SharingGraph *graph,
                uint32_t *const *lists,
                const size_t *counts,
                WorkerSet **shares) {
        _cleanup_(freep) WorkerSet **made = calloc(graph->n_queues + 1, sizeof(WorkerSet *));
        if (!made)
                return -ENOMEM;

        for (size_t q = 0; q < graph->n_queues; q++) {
                const WorkerSet *configured = graph->queues[q]->workers;
                if (!configured || configured->n_ids == 0)
                        continue;
                int r = make_share(graph, lists[q], counts[q], &made[graph->places[q]]);
                if (r < 0) {
                        sharing_shares_done(made, graph->n_queues);
                        return r;
                }
        }
        for (size_t q = 0; q < graph->n_queues; q++)
                shares[q] = made[q];
        return 0;
}
