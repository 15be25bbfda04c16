/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The strict way to split goes in four steps.
 *
 * 1. How fair can it be? A flow finds one fairest assignment. It divides the queues into parts; which workers
 *    are with a part, and how many its queues have (LOW or one more), is the same in every fairest
 * assignment. Edges from one part to another are of no more use.
 * 2. Where a connected part has fewer workers than queues, those whose turn it is take one each, and the
 * other queues leave.
 * 3. Workers propose to their queues in the order of the scores, queues keep the best they may (a stable
 *    matching; as both sides go by the same score there is only one, whoever proposes first). One that is
 *    pushed out goes on to its next queue. A change somewhere therefore moves others only along chains of
 *    falling scores, which are short.
 * 4. Where queues have different workers configured, some may be pushed out everywhere. They get in all the
 *    same, and the flow of step 1 sets right what that makes unfair. */

#include <assert.h>

#include "base/text.h"
#include "core/sharing/sharing-flow.h"

#define NOWHERE UINT32_MAX

typedef struct Candidate {
        uint64_t score;
        uint32_t worker;
} Candidate;

typedef struct SharingSplitter {
        SharingGraph graph;
        uint64_t epoch;
        uint64_t *queue_hash, *worker_hash;

        /* Connected parts ("pieces"): no worker has owners in two of them. */
        size_t n_pieces;
        uint32_t *piece;         /* of each queue; NOWHERE when it has no workers to expect */
        uint32_t *piece_first;   /* n_pieces + 1: where in piece_queues those of a piece begin */
        uint32_t *piece_queues;  /* ascending in each */
        uint32_t *piece_workers; /* how many workers are in it */

        /* Proposals */
        uint32_t *owner;    /* of each worker; NOWHERE when it was pushed out of all */
        uint64_t *proposed; /* the score of each worker's last proposal */
        uint32_t *load;     /* of each queue */
        uint32_t *n_extra;  /* of each piece: how many of its queues may have one more than the others */
        size_t *heap_first; /* of each queue: where in heap its candidates are, the lowest first */
        Candidate *heap;
        uint64_t *extra_low; /* at the queue's place in piece_queues: its lowest score if it has one more */
        uint32_t *extra_at;  /* that place, for each queue */
} SharingSplitter;

static void splitter_done(SharingSplitter *splitter) {
        sharing_graph_done(&splitter->graph);
        free(splitter->queue_hash);
        free(splitter->worker_hash);
        free(splitter->piece);
        free(splitter->piece_first);
        free(splitter->piece_queues);
        free(splitter->piece_workers);
        free(splitter->owner);
        free(splitter->proposed);
        free(splitter->load);
        free(splitter->n_extra);
        free(splitter->heap_first);
        free(splitter->heap);
        free(splitter->extra_low);
        free(splitter->extra_at);
}

/* ---- scores ---- */

/* Not stable_hash_u64(), though it would do as well: queues of all versions must come to these scores. */
static uint64_t mix(uint64_t x) {
        x ^= x >> 32;
        x *= UINT64_C(0xd6e8feb86659fd93);
        x ^= x >> 32;
        x *= UINT64_C(0xd6e8feb86659fd93);
        return x ^ x >> 32;
}

static uint64_t score(const SharingSplitter *splitter, uint32_t worker, uint32_t queue) {
        return mix(splitter->worker_hash[worker] ^ splitter->queue_hash[queue]);
}

/* By the address alone: a queue that comes back with another version keeps its workers. */
static int hash_names(SharingSplitter *splitter) {
        const SharingGraph *graph = &splitter->graph;
        splitter->queue_hash = calloc(graph->n_queues + 1, sizeof(uint64_t));
        splitter->worker_hash = calloc(graph->n_workers + 1, sizeof(uint64_t));
        if (!splitter->queue_hash || !splitter->worker_hash)
                return -ENOMEM;

        uint64_t n_namesakes = 0;
        for (size_t q = 0; q < graph->n_queues; q++) {
                const char *address = graph->queues[q]->address;
                bool again = q > 0 && streq(graph->queues[q - 1]->address, address);
                n_namesakes = again ? n_namesakes + 1 : 0;
                splitter->queue_hash[q] = mix(mix(text_hash(address)) + n_namesakes);
        }
        for (size_t w = 0; w < graph->n_workers; w++)
                splitter->worker_hash[w] = mix(text_hash(graph->ids[w]) + 1);
        return 0;
}

/* ---- step 1 ---- */

static int keep_fair_edges(SharingSplitter *splitter) {
        SharingGraph *graph = &splitter->graph;
        _cleanup_(sharing_flow_done) SharingFlow flow = {};
        _cleanup_(freep) bool *keep = calloc(sharing_graph_n_edges(graph) + 1, sizeof(bool));
        if (!keep)
                return -ENOMEM;
        int r = sharing_flow_init(&flow, graph);
        if (r >= 0)
                r = sharing_flow_fill(&flow);
        if (r >= 0)
                r = sharing_flow_equalise(&flow);
        if (r < 0)
                return r;

        for (size_t g = 0; g < graph->n_groups; g++) {
                uint32_t edge = graph->edge_first[g];
                while (flow.count[edge] == 0)
                        edge++;
                uint32_t part = flow.part[graph->edge_queue[edge]];
                for (uint32_t e = graph->edge_first[g]; e < graph->edge_first[g + 1]; e++)
                        keep[e] = flow.part[graph->edge_queue[e]] == part;
        }
        sharing_graph_restrict(graph, keep);
        return 0;
}

/* ---- pieces ---- */

static uint32_t find_root(uint32_t *parent, uint32_t queue) {
        while (parent[queue] != queue) {
                parent[queue] = parent[parent[queue]];
                queue = parent[queue];
        }
        return queue;
}

/* Makes PARENT, with which each queue starts on its own, a forest with one tree for each piece; the first of
 * its queues is the root. */
static void join_owners(const SharingGraph *graph, uint32_t *parent) {
        for (size_t g = 0; g < graph->n_groups; g++)
                for (uint32_t e = graph->edge_first[g] + 1; e < graph->edge_first[g + 1]; e++) {
                        uint32_t a = find_root(parent, graph->edge_queue[e - 1]);
                        uint32_t b = find_root(parent, graph->edge_queue[e]);
                        parent[a > b ? a : b] = a > b ? b : a;
                }
}

static void count_piece_workers(SharingSplitter *splitter) {
        const SharingGraph *graph = &splitter->graph;
        for (size_t g = 0; g < graph->n_groups; g++)
                splitter->piece_workers[splitter->piece[graph->edge_queue[graph->edge_first[g]]]] +=
                                (uint32_t) sharing_graph_group_size(graph, g);
}

static void list_piece_queues(SharingSplitter *splitter, uint32_t *at) {
        for (size_t p = 0; p < splitter->n_pieces; p++) {
                splitter->piece_first[p + 1] += splitter->piece_first[p];
                at[p] = splitter->piece_first[p];
        }
        for (size_t q = 0; q < splitter->graph.n_queues; q++)
                if (splitter->piece[q] != NOWHERE)
                        splitter->piece_queues[at[splitter->piece[q]]++] = (uint32_t) q;
}

static int find_pieces(SharingSplitter *splitter) {
        const SharingGraph *graph = &splitter->graph;
        size_t n = graph->n_queues;
        _cleanup_(freep) uint32_t *parent = calloc(n + 1, sizeof(uint32_t));
        _cleanup_(freep) bool *has_edges = calloc(n + 1, sizeof(bool));
        if (!parent || !has_edges)
                return -ENOMEM;

        for (size_t q = 0; q < n; q++)
                parent[q] = (uint32_t) q;
        for (size_t e = 0; e < sharing_graph_n_edges(graph); e++)
                has_edges[graph->edge_queue[e]] = true;
        join_owners(graph, parent);

        splitter->n_pieces = 0;
        memset(splitter->piece_first, 0, (n + 1) * sizeof(uint32_t));
        memset(splitter->piece_workers, 0, (n + 1) * sizeof(uint32_t));
        for (size_t q = 0; q < n; q++) {
                splitter->piece[q] = NOWHERE;
                if (!has_edges[q])
                        continue;
                uint32_t root = find_root(parent, (uint32_t) q);
                splitter->piece[q] = root == q ? (uint32_t) splitter->n_pieces++ : splitter->piece[root];
                splitter->piece_first[splitter->piece[q] + 1]++;
        }
        list_piece_queues(splitter, parent);
        count_piece_workers(splitter);
        return 0;
}

static size_t piece_size(const SharingSplitter *splitter, size_t piece) {
        return splitter->piece_first[piece + 1] - splitter->piece_first[piece];
}

/* ---- step 2 ---- */

static size_t common_divisor(size_t a, size_t b) {
        while (b > 0) {
                size_t rest = a % b;
                a = b;
                b = rest;
        }
        return a;
}

/* Which of N queues comes first in this epoch, when WORKERS of them get one: the first of all moves on by
 * about as many as got one. The step has no divisor in common with N, so that within N epochs each is the
 * first of all once, and then it gets a worker whatever the others have configured. */
static size_t first_in_turn(size_t n, size_t workers, uint64_t epoch) {
        size_t step = workers;
        while (common_divisor(n, step) != 1)
                step--;
        return (size_t) (epoch % n * step % n);
}

/* Marks in KEEP the edges of those queues of PIECE that get a worker in this epoch. */
static void take_turns(const SharingSplitter *splitter, size_t piece, SharingFlow *flow, bool *keep) {
        const uint32_t *queues = splitter->piece_queues + splitter->piece_first[piece];
        size_t n = piece_size(splitter, piece);
        size_t first = first_in_turn(n, splitter->piece_workers[piece], splitter->epoch);
        for (size_t i = 0; i < n; i++) {
                uint32_t queue = queues[(first + i) % n];
                bool claimed = sharing_flow_claim(flow, queue);
                for (uint32_t j = flow->queue_first[queue]; j < flow->queue_first[queue + 1]; j++)
                        keep[flow->queue_edges[j]] = claimed;
        }
}

static bool is_starving(const SharingSplitter *splitter, size_t piece) {
        return splitter->piece_workers[piece] < piece_size(splitter, piece);
}

static int keep_edges_in_turn(SharingSplitter *splitter) {
        SharingGraph *graph = &splitter->graph;
        size_t first = 0;
        while (first < splitter->n_pieces && !is_starving(splitter, first))
                first++;
        if (first == splitter->n_pieces)
                return 0;

        _cleanup_(sharing_flow_done) SharingFlow flow = {};
        _cleanup_(freep) bool *keep = malloc(sharing_graph_n_edges(graph) + 1);
        if (!keep)
                return -ENOMEM;
        int r = sharing_flow_init(&flow, graph);
        if (r < 0)
                return r;
        memset(keep, true, sharing_graph_n_edges(graph));
        for (size_t p = first; p < splitter->n_pieces; p++)
                if (is_starving(splitter, p))
                        take_turns(splitter, p, &flow, keep);
        sharing_graph_restrict(graph, keep);
        return find_pieces(splitter);
}

/* ---- step 3 ---- */

static bool is_below(const Candidate *a, const Candidate *b) {
        return a->score != b->score ? a->score < b->score : a->worker < b->worker;
}

static void heap_push(Candidate *heap, size_t n, Candidate candidate) {
        size_t i = n;
        while (i > 0 && is_below(&candidate, &heap[(i - 1) / 2])) {
                heap[i] = heap[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        heap[i] = candidate;
}

/* Puts CANDIDATE in the place of the lowest of the N. */
static void heap_replace(Candidate *heap, size_t n, Candidate candidate) {
        size_t i = 0;
        for (;;) {
                size_t child = 2 * i + 1;
                if (child < n && child + 1 < n && is_below(&heap[child + 1], &heap[child]))
                        child++;
                if (child >= n || !is_below(&heap[child], &candidate))
                        break;
                heap[i] = heap[child];
                i = child;
        }
        heap[i] = candidate;
}

static Candidate heap_pop(Candidate *heap, size_t n) {
        Candidate lowest = heap[0];
        if (n > 1)
                heap_replace(heap, n - 1, heap[n - 1]);
        return lowest;
}

static uint32_t piece_low(const SharingSplitter *splitter, uint32_t piece) {
        return splitter->piece_workers[piece] / (uint32_t) piece_size(splitter, piece);
}

/* To be called after each change to the candidates of QUEUE. */
static void note_extra(SharingSplitter *splitter, uint32_t queue, uint32_t low) {
        splitter->extra_low[splitter->extra_at[queue]] = splitter->load[queue] > low ?
                        splitter->heap[splitter->heap_first[queue]].score :
                        UINT64_MAX;
}

/* The queue of PIECE that has the lowest of all candidates with queues that have one more than LOW, or
 * NOWHERE. */
static uint32_t find_lowest_extra(const SharingSplitter *splitter, uint32_t piece) {
        uint64_t lowest = UINT64_MAX;
        uint32_t found = NOWHERE;
        if (splitter->piece_workers[piece] % piece_size(splitter, piece) == 0)
                return NOWHERE;
        for (uint32_t i = splitter->piece_first[piece]; i < splitter->piece_first[piece + 1]; i++)
                if (splitter->extra_low[i] < lowest) {
                        lowest = splitter->extra_low[i];
                        found = splitter->piece_queues[i];
                }
        return found;
}

/* QUEUE has LOW candidates, and all that may have one more do already: the lowest gives way, be it the new
 * one, one of this queue's, or one of a queue with one more. */
static uint32_t propose_for_extra(
                SharingSplitter *splitter,
                uint32_t queue,
                uint32_t low,
                Candidate candidate) {
        Candidate *heap = splitter->heap + splitter->heap_first[queue], lowest = candidate;
        if (low > 0 && is_below(&heap[0], &lowest))
                lowest = heap[0];

        uint32_t other = find_lowest_extra(splitter, splitter->piece[queue]);
        if (other != NOWHERE) {
                Candidate *other_heap = splitter->heap + splitter->heap_first[other];
                if (is_below(&other_heap[0], &lowest)) {
                        lowest = heap_pop(other_heap, splitter->load[other]--);
                        note_extra(splitter, other, low);
                        heap_push(heap, splitter->load[queue]++, candidate);
                        note_extra(splitter, queue, low);
                        return lowest.worker;
                }
        }
        if (lowest.worker != candidate.worker)
                heap_replace(heap, low, candidate);
        return lowest.worker;
}

/* Returns the worker that is without a queue now, or NOWHERE. */
static uint32_t propose(SharingSplitter *splitter, uint32_t queue, Candidate candidate) {
        uint32_t piece = splitter->piece[queue], low = piece_low(splitter, piece);
        Candidate *heap = splitter->heap + splitter->heap_first[queue];

        if (splitter->load[queue] < low || (splitter->load[queue] == low && splitter->n_extra[piece] > 0)) {
                splitter->n_extra[piece] -= splitter->load[queue] == low;
                heap_push(heap, splitter->load[queue]++, candidate);
                note_extra(splitter, queue, low);
                return NOWHERE;
        }
        if (splitter->load[queue] == low)
                return propose_for_extra(splitter, queue, low, candidate);
        if (is_below(&candidate, &heap[0]))
                return candidate.worker;
        uint32_t lowest = heap[0].worker;
        heap_replace(heap, splitter->load[queue], candidate);
        note_extra(splitter, queue, low);
        return lowest;
}

/* The queue of WORKER with the highest score below what it proposed last, or NOWHERE. */
static uint32_t next_choice(const SharingSplitter *splitter, uint32_t worker, uint64_t *ret_score) {
        const SharingGraph *graph = &splitter->graph;
        uint32_t group = graph->worker_group[worker], found = NOWHERE;
        uint64_t best = 0, limit = splitter->proposed[worker];
        for (uint32_t e = graph->edge_first[group]; e < graph->edge_first[group + 1]; e++) {
                uint64_t s = score(splitter, worker, graph->edge_queue[e]);
                if (s < limit && (s > best || found == NOWHERE)) {
                        best = s;
                        found = graph->edge_queue[e];
                }
        }
        *ret_score = best;
        return found;
}

static void propose_all(SharingSplitter *splitter) {
        for (size_t w = 0; w < splitter->graph.n_workers; w++)
                for (uint32_t worker = (uint32_t) w; worker != NOWHERE;) {
                        uint64_t best;
                        uint32_t queue = next_choice(splitter, worker, &best);
                        if (queue == NOWHERE)
                                break;
                        splitter->proposed[worker] = best;
                        worker = propose(splitter, queue, (Candidate) { best, worker });
                }

        for (size_t q = 0; q < splitter->graph.n_queues; q++)
                for (size_t i = 0; i < splitter->load[q]; i++)
                        splitter->owner[splitter->heap[splitter->heap_first[q] + i].worker] = (uint32_t) q;
}

static int match_by_score(SharingSplitter *splitter) {
        size_t n_queues = splitter->graph.n_queues, n_workers = splitter->graph.n_workers, n_heap = 0;
        splitter->owner = calloc(n_workers + 1, sizeof(uint32_t));
        splitter->proposed = calloc(n_workers + 1, sizeof(uint64_t));
        splitter->load = calloc(n_queues + 1, sizeof(uint32_t));
        splitter->n_extra = calloc(n_queues + 1, sizeof(uint32_t));
        splitter->heap_first = calloc(n_queues + 1, sizeof(size_t));
        splitter->heap = calloc(n_workers + n_queues + 1, sizeof(Candidate));
        splitter->extra_low = calloc(n_queues + 1, sizeof(uint64_t));
        splitter->extra_at = calloc(n_queues + 1, sizeof(uint32_t));
        if (!splitter->owner || !splitter->proposed || !splitter->load || !splitter->n_extra ||
            !splitter->heap_first || !splitter->heap || !splitter->extra_low || !splitter->extra_at)
                return -ENOMEM;

        memset(splitter->owner, 0xff, n_workers * sizeof(uint32_t));
        memset(splitter->proposed, 0xff, n_workers * sizeof(uint64_t));
        for (uint32_t p = 0; p < splitter->n_pieces; p++) {
                uint32_t low = piece_low(splitter, p);
                splitter->n_extra[p] = splitter->piece_workers[p] % (uint32_t) piece_size(splitter, p);
                for (uint32_t i = splitter->piece_first[p]; i < splitter->piece_first[p + 1]; i++) {
                        splitter->heap_first[splitter->piece_queues[i]] = n_heap;
                        splitter->extra_at[splitter->piece_queues[i]] = i;
                        splitter->extra_low[i] = UINT64_MAX;
                        n_heap += low + 1;
                }
        }
        assert(n_heap <= n_workers + n_queues);
        propose_all(splitter);
        return 0;
}

/* ---- step 4 ---- */

/* Gives those that were pushed out everywhere to the queue they score highest with. Returns how many. */
static size_t place_leftovers(SharingSplitter *splitter) {
        size_t n = 0;
        for (uint32_t w = 0; w < splitter->graph.n_workers; w++)
                if (splitter->owner[w] == NOWHERE) {
                        uint64_t best;
                        splitter->proposed[w] = UINT64_MAX;
                        splitter->owner[w] = next_choice(splitter, w, &best);
                        n++;
                }
        return n;
}

static uint32_t edge_of(const SharingSplitter *splitter, uint32_t worker) {
        const SharingGraph *graph = &splitter->graph;
        uint32_t group = graph->worker_group[worker];
        uint32_t low = graph->edge_first[group], high = graph->edge_first[group + 1];
        while (high - low > 1) {
                uint32_t middle = low + (high - low) / 2;
                *(graph->edge_queue[middle] <= splitter->owner[worker] ? &low : &high) = middle;
        }
        return low;
}

/* Lets the owners follow the counts: workers stay where the count still has room for them. */
static void follow_counts(SharingSplitter *splitter, uint32_t *count) {
        const SharingGraph *graph = &splitter->graph;
        for (uint32_t w = 0; w < graph->n_workers; w++) {
                uint32_t edge = edge_of(splitter, w);
                if (count[edge] > 0)
                        count[edge]--;
                else
                        splitter->owner[w] = NOWHERE;
        }
        for (uint32_t w = 0; w < graph->n_workers; w++)
                if (splitter->owner[w] == NOWHERE) {
                        uint32_t edge = graph->edge_first[graph->worker_group[w]];
                        while (count[edge] == 0)
                                edge++;
                        count[edge]--;
                        splitter->owner[w] = graph->edge_queue[edge];
                }
}

static int settle_leftovers(SharingSplitter *splitter) {
        if (place_leftovers(splitter) == 0)
                return 0;

        _cleanup_(sharing_flow_done) SharingFlow flow = {};
        int r = sharing_flow_init(&flow, &splitter->graph);
        if (r < 0)
                return r;
        for (uint32_t w = 0; w < splitter->graph.n_workers; w++) {
                flow.count[edge_of(splitter, w)]++;
                flow.load[splitter->owner[w]]++;
        }
        r = sharing_flow_equalise(&flow);
        if (r < 0)
                return r;
        follow_counts(splitter, flow.count);
        return 0;
}

/* ---- all together ---- */

static int make_shares(const SharingSplitter *splitter, WorkerSet **shares) {
        const SharingGraph *graph = &splitter->graph;
        size_t n = graph->n_queues, total = 0;
        _cleanup_(freep) size_t *counts = calloc(n + 1, sizeof(size_t));
        _cleanup_(freep) uint32_t **lists = calloc(n + 1, sizeof(uint32_t *));
        _cleanup_(freep) uint32_t *space = calloc(graph->n_workers + 1, sizeof(uint32_t));
        if (!counts || !lists || !space)
                return -ENOMEM;

        for (size_t w = 0; w < graph->n_workers; w++)
                counts[splitter->owner[w]]++;
        for (size_t q = 0; q < n; q++) {
                lists[q] = space + total;
                total += counts[q];
                counts[q] = 0;
        }
        for (uint32_t w = 0; w < graph->n_workers; w++)
                lists[splitter->owner[w]][counts[splitter->owner[w]]++] = w;
        return sharing_graph_shares(graph, lists, counts, shares);
}

int sharing_split_strict(const SharingQueue *queues, size_t n, uint64_t epoch, WorkerSet **shares) {
        _cleanup_(splitter_done) SharingSplitter splitter = { .epoch = epoch };
        int r = sharing_graph_init(&splitter.graph, queues, n);
        if (r < 0)
                return r;
        splitter.piece = calloc(n + 1, sizeof(uint32_t));
        splitter.piece_first = calloc(n + 2, sizeof(uint32_t));
        splitter.piece_queues = calloc(n + 1, sizeof(uint32_t));
        splitter.piece_workers = calloc(n + 1, sizeof(uint32_t));
        if (!splitter.piece || !splitter.piece_first || !splitter.piece_queues || !splitter.piece_workers)
                return -ENOMEM;

        r = hash_names(&splitter);
        if (r >= 0)
                r = keep_fair_edges(&splitter);
        if (r >= 0)
                r = find_pieces(&splitter);
        if (r >= 0)
                r = keep_edges_in_turn(&splitter);
        if (r >= 0)
                r = match_by_score(&splitter);
        if (r >= 0)
                r = settle_leftovers(&splitter);
        if (r >= 0)
                r = make_shares(&splitter, shares);
        return r;
}
