/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/worker-index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/scheduling/impact.h"
#include "core/text/stable-hash.h"

/* What the lanes of Amounts count. */
enum {
        LANE_OPEN, /* 1: it is open for what the tree is about */
        LANE_CORES,
        LANE_MEMORY,
        LANE_NAMED, /* and those that follow, in the order of index->names */
};

#define GROUP_BITS 8

/* What a task wants, by lanes. */
typedef struct Demand {
        const Resources *want;
        size_t n_lanes;
        struct {
                size_t lane;
                uint64_t amount;
        } lanes[AMOUNT_LANES];
        bool is_partial; /* it also wants what no lane counts */
} Demand;

void worker_index_done(WorkerIndex *index) {
        amount_tree_done(&index->taking);
        amount_tree_done(&index->reservable);
        amount_tree_done(&index->totals);
        free(index->workers);
        *index = (WorkerIndex) {};
}

/* The trees get their room here, so that finding the places later cannot fail. */
int worker_index_add(WorkerIndex *index, Worker *worker) {
        if (index->n_workers == index->n_allocated) {
                size_t n = index->n_allocated == 0 ? 16 : 2 * index->n_allocated;
                Worker **workers = reallocarray(index->workers, n, sizeof(Worker *));
                if (!workers)
                        return -ENOMEM;
                index->workers = workers;
                index->is_stale = true;
                if (amount_tree_resize(&index->taking, n) < 0 ||
                    amount_tree_resize(&index->reservable, n) < 0 ||
                    amount_tree_resize(&index->totals, n) < 0)
                        return -ENOMEM;
                index->n_allocated = n;
        }
        index->workers[index->n_workers++] = worker;
        worker->open_for_tasks = worker->open_for_reservation = false;
        index->is_stale = true;
        return 0;
}

void worker_index_remove(WorkerIndex *index, const Worker *worker) {
        size_t i = 0;
        while (index->workers[i] != worker)
                i++;
        index->workers[i] = index->workers[--index->n_workers];
        index->is_stale = true;
}

static size_t name_find(const WorkerIndex *index, const char *name) {
        size_t i = 0;
        while (i < index->n_names && !streq(index->names[i], name))
                i++;
        return i;
}

/* A name that no worker had so far has 0 in all trees, so it can be added at any time. */
static size_t name_find_or_add(WorkerIndex *index, const char *name) {
        size_t i = name_find(index, name);
        if (i < index->n_names)
                return i;
        if (i == WORKER_INDEX_NAMES_MAX) {
                index->has_more_names = true;
                return i;
        }
        memcpy(index->names[i], name, strlen(name) + 1);
        index->n_names++;
        return i;
}

static Amounts amounts_of(WorkerIndex *index, const Resources *resources) {
        Amounts amounts = {};
        amounts.lanes[LANE_OPEN] = 1;
        amounts.lanes[LANE_CORES] = resources->cores_micro;
        amounts.lanes[LANE_MEMORY] = resources->memory_mb;
        for (size_t i = 0; i < resources->n_named; i++) {
                size_t name = name_find_or_add(index, resources->named[i].name);
                if (name < WORKER_INDEX_NAMES_MAX)
                        amounts.lanes[LANE_NAMED + name] = resources->named[i].amount;
        }
        return amounts;
}

static Amounts totals_of(WorkerIndex *index, const Worker *worker) {
        Amounts unlimited;
        memset(&unlimited, 0xff, sizeof(unlimited));
        return worker->identity != WORKER_UNKNOWN ? amounts_of(index, &worker->report.total) : unlimited;
}

static void put_worker(WorkerIndex *index, const Worker *worker) {
        const Amounts nothing = {};
        Amounts free_amounts = amounts_of(index, &worker->report.free_amounts);
        Amounts totals = totals_of(index, worker);
        amount_tree_set(&index->taking, worker->place, worker->open_for_tasks ? &free_amounts : &nothing);
        amount_tree_set(&index->reservable,
                        worker->place,
                        worker->open_for_reservation ? &free_amounts : &nothing);
        amount_tree_set(&index->totals, worker->place, &totals);
}

static int compare_workers(const void *a, const void *b) {
        const Worker *left = *(Worker *const *) a, *right = *(Worker *const *) b;
        if (left->id_hash != right->id_hash)
                return left->id_hash < right->id_hash ? -1 : 1;
        return strcmp(left->id, right->id);
}

/* There is room already, so this does not fail. */
static void resize(AmountTree *tree, size_t n) {
        int r = amount_tree_resize(tree, n);
        assert(r >= 0);
        (void) r;
}

static void find_places(WorkerIndex *index) {
        if (!index->is_stale)
                return;
        index->is_stale = false;
        qsort(index->workers, index->n_workers, sizeof(Worker *), compare_workers);
        resize(&index->taking, index->n_workers);
        resize(&index->reservable, index->n_workers);
        resize(&index->totals, index->n_workers);
        for (size_t i = 0; i < index->n_workers; i++) {
                index->workers[i]->place = i;
                put_worker(index, index->workers[i]);
        }
}

void worker_index_update(WorkerIndex *index, Worker *worker, WorkerOpenness openness) {
        worker->open_for_tasks = openness.takes_tasks;
        worker->open_for_reservation = openness.may_be_reserved;
        if (!index->is_stale)
                put_worker(index, worker);
}

static void demand_add(Demand *demand, size_t lane, uint64_t amount) {
        if (amount == 0)
                return;
        demand->lanes[demand->n_lanes].lane = lane;
        demand->lanes[demand->n_lanes++].amount = amount;
}

/* False when it wants what no worker has. */
static bool demand_of(const WorkerIndex *index, const Resources *want, Demand *ret) {
        *ret = (Demand) { .want = want };
        demand_add(ret, LANE_CORES, want->cores_micro);
        demand_add(ret, LANE_MEMORY, want->memory_mb);
        for (size_t i = 0; i < want->n_named; i++) {
                size_t name = name_find(index, want->named[i].name);
                if (name < index->n_names)
                        demand_add(ret, LANE_NAMED + name, want->named[i].amount);
                else if (want->named[i].amount > 0)
                        ret->is_partial = true;
        }
        return !ret->is_partial || index->has_more_names;
}

/* What impact_compute() says, as far as lanes count it; at most that of any worker below a node. False when
 * it does not fit. */
static bool impact_on(const Demand *demand, const Amounts *amounts, double *ret) {
        if (amounts->lanes[LANE_OPEN] == 0)
                return false;
        double impact = 0;
        for (size_t i = 0; i < demand->n_lanes; i++) {
                uint64_t want = demand->lanes[i].amount, have = amounts->lanes[demand->lanes[i].lane];
                if (want > have)
                        return false;
                double share = (double) want / (double) have;
                if (share > impact)
                        impact = share;
        }
        *ret = impact;
        return true;
}

/* A child that is worth a visit. */
typedef struct Candidate {
        double bound;
        size_t node;
} Candidate;

static void candidate_insert(Candidate candidates[static AMOUNT_TREE_FANOUT], size_t n, Candidate candidate) {
        for (; n > 0 && candidates[n - 1].bound > candidate.bound; n--)
                candidates[n] = candidates[n - 1];
        candidates[n] = candidate;
}

static uint64_t group_of(const Worker *worker) {
        return worker->id_hash >> (64 - GROUP_BITS);
}

static uint64_t group_tie(uint64_t group, uint64_t id_hash) {
        return stable_hash_u64(id_hash + group + 1);
}

WorkerTie worker_tie(const Worker *worker, uint64_t id_hash) {
        return (WorkerTie) {
                .group = group_tie(group_of(worker), id_hash),
                .worker = stable_hash_u64(worker->id_hash ^ id_hash),
        };
}

bool worker_tie_wins(WorkerTie a, WorkerTie b) {
        return a.group != b.group ? a.group < b.group : a.worker < b.worker;
}

/* The best worker so far. */
typedef struct LeastImpact {
        const WorkerIndex *index;
        const Demand *demand;
        uint64_t id_hash;
        Worker *worker;
        double impact;
        WorkerTie tie;
} LeastImpact;

/* The first place below a node, and how many it has at most. */
static size_t first_place(size_t level, size_t node, size_t *ret_n) {
        size_t n = 1;
        for (size_t i = 0; i < level; i++)
                n *= AMOUNT_TREE_FANOUT;
        *ret_n = n;
        return node * n;
}

/* Whether all workers below a node are of one group, and that one has lost. */
static bool group_has_lost(const LeastImpact *least, size_t level, size_t node) {
        const WorkerIndex *index = least->index;
        size_t n, first = first_place(level, node, &n);
        size_t last = n < index->n_workers - first ? first + n - 1 : index->n_workers - 1;
        uint64_t group = group_of(index->workers[first]);
        return group == group_of(index->workers[last]) && group_tie(group, least->id_hash) > least->tie.group;
}

/* Whether something below a node, on which the impact is BOUND, may be better. */
static bool least_impact_can_be_below(const LeastImpact *least, size_t level, size_t node, double bound) {
        if (!least->worker || bound < least->impact)
                return true;
        return !(bound > least->impact) && !group_has_lost(least, level, node);
}

static void least_impact_take(LeastImpact *least, size_t place, double impact) {
        Worker *worker = least->index->workers[place];
        if (least->demand->is_partial) {
                Impact exact = impact_compute(least->demand->want, &worker->report.free_amounts);
                if (!exact.satisfiable)
                        return;
                impact = exact.max_impact;
        }
        if (least->worker && impact > least->impact)
                return;
        WorkerTie tie = worker_tie(worker, least->id_hash);
        if (least->worker && !(impact < least->impact) && !worker_tie_wins(tie, least->tie))
                return;
        least->worker = worker;
        least->impact = impact;
        least->tie = tie;
}

/* The most promising child first: what is found there spares the others. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the tree has levels */
static void least_impact_visit(LeastImpact *least, size_t level, size_t node, double bound) {
        const AmountTree *tree = &least->index->taking;
        if (level == 0) {
                least_impact_take(least, node, bound);
                return;
        }
        Candidate candidates[AMOUNT_TREE_FANOUT];
        size_t n = 0, first, end = amount_tree_children(tree, level, node, &first);
        for (size_t child = first; child < end; child++) {
                double child_bound;
                if (impact_on(least->demand, &tree->levels[level - 1][child], &child_bound))
                        candidate_insert(candidates, n++, (Candidate) { child_bound, child });
        }
        for (size_t i = 0; i < n; i++)
                if (least_impact_can_be_below(least, level - 1, candidates[i].node, candidates[i].bound))
                        least_impact_visit(least, level - 1, candidates[i].node, candidates[i].bound);
}

Worker *worker_index_least_impact(WorkerIndex *index, const Resources *want, uint64_t id_hash) {
        Demand demand;
        double bound;
        find_places(index);
        if (index->n_workers == 0 || !demand_of(index, want, &demand))
                return NULL;
        LeastImpact least = { .index = index, .demand = &demand, .id_hash = id_hash };
        size_t root = amount_tree_root_level(&index->taking);
        if (impact_on(&demand, &index->taking.levels[root][0], &bound))
                least_impact_visit(&least, root, 0, bound);
        return least.worker;
}

static double share_missing(uint64_t want, uint64_t free_amount, uint64_t total) {
        return want > free_amount ? (double) (want - free_amount) / (double) total : 0;
}

static double larger(double a, double b) {
        return a > b ? a : b;
}

double worker_distance(const Worker *worker, const Resources *want) {
        const Resources *free_amounts = &worker->report.free_amounts, *total = &worker->report.total;
        double most = larger(
                        share_missing(want->cores_micro, free_amounts->cores_micro, total->cores_micro),
                        share_missing(want->memory_mb, free_amounts->memory_mb, total->memory_mb));
        for (size_t i = 0; i < want->n_named; i++) {
                const char *name = want->named[i].name;
                most = larger(most,
                              share_missing(want->named[i].amount,
                                            resources_named_get(free_amounts, name),
                                            resources_named_get(total, name)));
        }
        return most;
}

/* The nearest worker so far. */
typedef struct Nearest {
        const WorkerIndex *index;
        const Demand *demand;
        Worker *worker;
        double distance;
} Nearest;

/* At most the distance of any worker below the node. False when none of them ever has room. */
static bool distance_of(const Nearest *nearest, size_t level, size_t node, double *ret) {
        const Amounts *free_amounts = &nearest->index->reservable.levels[level][node];
        const Amounts *totals = &nearest->index->totals.levels[level][node];
        if (free_amounts->lanes[LANE_OPEN] == 0)
                return false;
        double most = 0;
        for (size_t i = 0; i < nearest->demand->n_lanes; i++) {
                size_t lane = nearest->demand->lanes[i].lane;
                uint64_t want = nearest->demand->lanes[i].amount;
                if (want > totals->lanes[lane])
                        return false;
                most = larger(most, share_missing(want, free_amounts->lanes[lane], totals->lanes[lane]));
        }
        *ret = most;
        return true;
}

/* Places are visited in no particular order; of equals the first is to win. */
static bool can_be_nearer(const Nearest *nearest, double distance, size_t place) {
        return !nearest->worker || distance < nearest->distance ||
                        (!(distance > nearest->distance) && place < nearest->worker->place);
}

static void nearest_take(Nearest *nearest, size_t place, double bound) {
        Worker *worker = nearest->index->workers[place];
        double distance = bound;
        if (nearest->demand->is_partial) {
                if (!resources_fit(nearest->demand->want, &worker->report.total))
                        return;
                distance = worker_distance(worker, nearest->demand->want);
        }
        if (!can_be_nearer(nearest, distance, place))
                return;
        nearest->worker = worker;
        nearest->distance = distance;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the tree has levels */
static void nearest_visit(Nearest *nearest, size_t level, size_t node, double bound) {
        if (level == 0) {
                nearest_take(nearest, node, bound);
                return;
        }
        Candidate candidates[AMOUNT_TREE_FANOUT];
        size_t n = 0, first, end = amount_tree_children(&nearest->index->reservable, level, node, &first);
        for (size_t child = first; child < end; child++) {
                double child_bound;
                if (distance_of(nearest, level - 1, child, &child_bound))
                        candidate_insert(candidates, n++, (Candidate) { child_bound, child });
        }
        for (size_t i = 0; i < n; i++) {
                size_t n_below, place = first_place(level - 1, candidates[i].node, &n_below);
                if (can_be_nearer(nearest, candidates[i].bound, place))
                        nearest_visit(nearest, level - 1, candidates[i].node, candidates[i].bound);
        }
}

Worker *worker_index_nearest(WorkerIndex *index, const Resources *want) {
        Demand demand;
        double bound;
        find_places(index);
        Nearest nearest = { .index = index, .demand = &demand };
        if (index->n_workers == 0 || !demand_of(index, want, &demand))
                return NULL;
        size_t root = amount_tree_root_level(&index->reservable);
        if (distance_of(&nearest, root, 0, &bound))
                nearest_visit(&nearest, root, 0, bound);
        return nearest.worker;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the tree has levels */
static bool could_fit_below(const WorkerIndex *index, const Demand *demand, size_t level, size_t node) {
        double impact;
        if (!impact_on(demand, &index->totals.levels[level][node], &impact))
                return false;
        if (level == 0) {
                const Worker *worker = index->workers[node];
                return !demand->is_partial || worker->identity == WORKER_UNKNOWN ||
                                resources_fit(demand->want, &worker->report.total);
        }
        size_t first, end = amount_tree_children(&index->totals, level, node, &first);
        for (size_t child = first; child < end; child++)
                if (could_fit_below(index, demand, level - 1, child))
                        return true;
        return false;
}

bool worker_index_could_fit(WorkerIndex *index, const Resources *want) {
        Demand demand;
        find_places(index);
        if (index->n_workers == 0)
                return false;
        if (!demand_of(index, want, &demand)) { /* only one that was never heard can: it has no limits */
                demand = (Demand) {};
                demand_add(&demand, LANE_MEMORY, UINT64_MAX);
        }
        return could_fit_below(index, &demand, amount_tree_root_level(&index->totals), 0);
}
