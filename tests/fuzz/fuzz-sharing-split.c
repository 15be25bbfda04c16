/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: three bytes for the numbers of queues and workers and the epoch, then who has whom configured. The
 * strict split must be complete, disjoint, as fair as can be, and the same whatever the order of the queues.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/sharing/sharing-split.h"
#include "fuzz.h"

#define QUEUES_MAX  24
#define WORKERS_MAX 64
#define NOBODY      QUEUES_MAX

typedef struct Instance {
        size_t n_queues, n_workers;
        bool edges[QUEUES_MAX][WORKERS_MAX];
        SharingQueue queues[QUEUES_MAX];
        WorkerSet *shares[QUEUES_MAX];
        size_t owner[WORKERS_MAX];
} Instance;

static void make_queues(Instance *instance, const uint8_t *data, size_t size) {
        char names[WORKERS_MAX][8];
        for (size_t w = 0; w < WORKERS_MAX; w++)
                (void) snprintf(names[w], sizeof(names[w]), "w%u", (unsigned) w);
        for (size_t q = 0; q < instance->n_queues; q++) {
                const char *ids[WORKERS_MAX];
                size_t n = 0;
                for (size_t w = 0; w < instance->n_workers; w++) {
                        size_t bit = q * instance->n_workers + w;
                        bool has = bit / 8 < size && (data[bit / 8] >> bit % 8 & 1) != 0;
                        instance->edges[q][w] = has;
                        if (has)
                                ids[n++] = names[w];
                }
                SharingQueue *queue = &instance->queues[q];
                FUZZ_CHECK(asprintf(&queue->address, "h:%u", (unsigned) q) > 0);
                queue->version = strdup("1");
                FUZZ_CHECK(queue->version && worker_set_new(ids, n, &queue->workers) == 0);
        }
}

static void check_owners(Instance *instance) {
        for (size_t w = 0; w < instance->n_workers; w++)
                instance->owner[w] = NOBODY;
        for (size_t q = 0; q < instance->n_queues; q++) {
                FUZZ_CHECK((instance->shares[q] != NULL) == (instance->queues[q].workers->n_ids > 0));
                for (size_t i = 0; instance->shares[q] && i < instance->shares[q]->n_ids; i++) {
                        uint64_t w;
                        FUZZ_CHECK(text_parse_u64(instance->shares[q]->ids[i] + 1, 0, WORKERS_MAX - 1, &w) ==
                                   0);
                        FUZZ_CHECK(instance->edges[q][w] && instance->owner[w] == NOBODY);
                        instance->owner[w] = q;
                }
        }
        for (size_t q = 0; q < instance->n_queues; q++)
                for (size_t w = 0; w < instance->n_workers; w++)
                        FUZZ_CHECK(!instance->edges[q][w] || instance->owner[w] != NOBODY);
}

static size_t load_of(const Instance *instance, size_t queue) {
        return instance->shares[queue] ? instance->shares[queue]->n_ids : 0;
}

static void check_fair(const Instance *instance, size_t from) {
        size_t reached[QUEUES_MAX] = { from }, n_reached = 1;
        bool seen[QUEUES_MAX] = {};
        seen[from] = true;
        for (size_t i = 0; i < n_reached; i++)
                for (size_t w = 0; w < instance->n_workers; w++)
                        for (size_t q = 0; q < instance->n_queues && instance->owner[w] == reached[i]; q++) {
                                if (!instance->edges[q][w] || seen[q])
                                        continue;
                                FUZZ_CHECK(load_of(instance, q) + 1 >= load_of(instance, from));
                                seen[q] = true;
                                reached[n_reached++] = q;
                        }
}

static void check_reversed(const Instance *instance, uint64_t epoch) {
        SharingQueue reversed[QUEUES_MAX];
        WorkerSet *shares[QUEUES_MAX] = {};
        size_t n = instance->n_queues;
        for (size_t q = 0; q < n; q++)
                reversed[q] = instance->queues[n - 1 - q];
        FUZZ_CHECK(sharing_split_strict(reversed, n, epoch, shares) == 0);
        for (size_t q = 0; q < n; q++)
                FUZZ_CHECK(shares[q] ? worker_set_equal(shares[q], instance->shares[n - 1 - q]) :
                                       !instance->shares[n - 1 - q]);
        sharing_shares_done(shares, n);
        FUZZ_CHECK(sharing_split_emcee(reversed, n, shares) == 0);
        sharing_shares_done(shares, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Instance instance = {};
        if (size < 3)
                return 0;
        instance.n_queues = data[0] % (QUEUES_MAX + 1);
        instance.n_workers = data[1] % (WORKERS_MAX + 1);
        make_queues(&instance, data + 3, size - 3);

        FUZZ_CHECK(sharing_split_strict(instance.queues, instance.n_queues, data[2], instance.shares) == 0);
        check_owners(&instance);
        for (size_t q = 0; q < instance.n_queues; q++)
                check_fair(&instance, q);
        check_reversed(&instance, data[2]);

        sharing_shares_done(instance.shares, instance.n_queues);
        for (size_t q = 0; q < instance.n_queues; q++)
                sharing_queue_done(&instance.queues[q]);
        return 0;
}
