/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "core/sharing/sharing-split.h"
#include "fail-alloc.h"
#include "test.h"

/* With sanitizers or under valgrind, which preloads a library of its own: less of everything. */
static bool is_slow(void) {
        const char *preloaded = getenv("LD_PRELOAD");
#ifdef __SANITIZE_ADDRESS__
        return true;
#elif defined(__has_feature)
        #if __has_feature(address_sanitizer)
        return true;
        #endif
#endif
        return preloaded && strstr(preloaded, "vgpreload");
}

typedef int (*Split)(const SharingQueue *queues, size_t n, uint64_t epoch, WorkerSet **shares);

static int split_emcee(const SharingQueue *queues, size_t n, uint64_t epoch, WorkerSet **shares) {
        (void) epoch;
        return sharing_split_emcee(queues, n, shares);
}

/* ---- queues and shares as text: "a:1=w1 w2, b:1/version=w2" ---- */

static size_t split_at(char *text, const char *separators, const char **ret, size_t max) {
        size_t n = 0;
        char *rest = NULL;
        for (char *item = strtok_r(text, separators, &rest); item; item = strtok_r(NULL, separators, &rest)) {
                assert_true(n < max);
                ret[n++] = item;
        }
        return n;
}

static size_t queues_of(const char *text, SharingQueue *queues, size_t max) {
        _cleanup_(freep) char *copy = strdup(text);
        const char *items[64], *ids[256];
        size_t n = split_at(copy, ",", items, N_ELEMENTS(items));
        assert_true(n <= max);
        for (size_t i = 0; i < n; i++) {
                char *name = (char *) items[i] + strspn(items[i], " "), *equals = strchr(name, '=');
                *equals = '\0';
                char *slash = strchr(name, '/');
                if (slash)
                        *slash = '\0';
                queues[i] = (SharingQueue) { .address = strdup(name),
                                             .version = strdup(slash ? slash + 1 : "1") };
                size_t n_ids = split_at(equals + 1, " ", ids, N_ELEMENTS(ids));
                assert_int_equal(worker_set_new(ids, n_ids, &queues[i].workers), 0);
        }
        return n;
}

static void show_shares(WorkerSet *const *shares, size_t n, Text *text) {
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(text_append(text, i > 0 ? ", " : ""), 0);
                if (!shares[i]) {
                        assert_int_equal(text_append(text, "absent"), 0);
                        continue;
                }
                for (size_t w = 0; w < shares[i]->n_ids; w++)
                        assert_int_equal(text_appendf(text, "%s%s", w > 0 ? " " : "", shares[i]->ids[w]), 0);
        }
}

static void done_queues(SharingQueue *queues, size_t n) {
        for (size_t i = 0; i < n; i++)
                sharing_queue_done(&queues[i]);
}

static void check_shares(const char *queues_text, Split split, uint64_t epoch, const char *want) {
        SharingQueue queues[16];
        WorkerSet *shares[16] = {};
        _cleanup_(text_done) Text text = {};
        size_t n = queues_of(queues_text, queues, 16);
        check_int(queues_text, split(queues, n, epoch, shares), 0);
        show_shares(shares, n, &text);
        check_text(queues_text, text.data ?: "", want);
        sharing_shares_done(shares, n);
        done_queues(queues, n);
}

static void emcee_deals_workers_out_within_clusters(void **state) {
        static const struct {
                const char *queues, *shares;
        } rows[] = {
                { "a:1=1 2 3 4, b:1=1 2 3 4", "1 3, 2 4" },
                { "b:1=1 2 3 4, a:1=1 2 3 4", "2 4, 1 3" },
                { "a:1=1 2 3, b:1=1 2 3", "1 3, 2" },
                { "a:1=1 2, b:1=3 4", "1 2, 3 4" },
                { "a:1=1 2 3, b:1=3 4 5", "1 2 3, 3 4 5" }, /* the cluster of 3 has two queues */
                { "a:1=1 2 3 4 5 6, b:1=5 6 7 8", "1 2 3 4 5, 6 7 8" },
                /* more queues than workers: the first and the last get the same one */
                { "a:1=1 2 3, b:1=1 2 3, c:1=1 2 3, d:1=1 2 3", "1, 2, 3, 1" },
                /* clusters of one worker and two queues each, four times */
                { "a:1=1 2, b:1=2 3, c:1=3 4, d:1=4 1", "1 2, 2 3, 3 4, 1 4" },
                /* the extra one goes to the lowest address in every cluster */
                { "a:1=1 2 3 5 6 7, b:1=1 2 3 5 6 7 8, c:1=5 6 7", "1 3 5, 2 6 8, 7" },
                /* strings, not numbers: "h:10" < "h:9", "host1:42" < "host:42" */
                { "h:9=1 2 3, h:10=1 2 3", "2, 1 3" },
                { "host:42=1 2 3, host1:42=1 2 3", "2, 1 3" },
                { "a:1/9=1 2 3, a:1/10=1 2 3", "2, 1 3" },
                { "a:1=10 9 2, b:1=10 9 2", "10 9, 2" },
                { "a:1=1, b:1=", "1, absent" },
                { "a:1=", "absent" },
                { "", "" },
        };
        for (FOREACH_ROW(row, rows))
                check_shares(row->queues, split_emcee, 0, row->shares);
}

#define M4 "=m1 m2 m3 m4"
#define M3 "=m1 m2 m3"

/* Those of docs/sharing.md among them. Who gets which worker follows from the scores, and these must never
 * change: daggyds of different versions would not agree on the split. */
static void strict_shares_are_what_they_always_were(void **state) {
        static const struct {
                const char *queues;
                uint64_t epoch;
                const char *shares;
        } rows[] = {
                { "q1:41000" M4 ", q2:41000" M4, 0, "m1 m2, m3 m4" },
                { "q1:41000" M4 ", q2:41000" M4 ", q3:41000" M4, 0, "m2, m3 m4, m1" },
                { "q1:41000" M4 ", q3:41000" M4, 0, "m2 m3, m1 m4" },
                { "q1:41000=m1 m2, q2:41000=m2 m3, q3:41000=m3 m4, q4:41000=m4 m1", 0, "m2, m3, m4, m1" },
                { "q1:41000=m1 m2 m3 m4 m5 m6, q2:41000=m1 m2, q3:41000=m2", 0, "m3 m4 m5 m6, m1, m2" },
                { "q1:41000" M3 ", q2:41000" M3 ", q3:41000" M3 ", q4:41000" M3, 0, "m2, m3, m1, " },
                { "q1:41000" M3 ", q2:41000" M3 ", q3:41000" M3 ", q4:41000" M3, 1, "m2, m3, , m1" },
                { "q1:41000" M3 ", q2:41000" M3 ", q3:41000" M3 ", q4:41000" M3, 2, "m2, , m3, m1" },
                { "q1:41000" M3 ", q2:41000" M3 ", q3:41000" M3 ", q4:41000" M3, 3, ", m2, m3, m1" },
                { "a:1=1 2 3 4", 0, "1 2 3 4" },
                { "a:1=1 2, b:1=3 4", 0, "1 2, 3 4" },
                { "a:1=1, b:1=1 2", 7, "1, 2" },
                { "a:1=1, b:1=1 2, c:1=2 3, d:1=3 4", 7, "1, 2, 3, 4" },
                { "a:1=1 2 3 4, b:1=1, c:1=1", 0, "2 3 4, 1, " },
                { "a:1=1 2 3 4, b:1=1, c:1=1", 1, "2 3 4, , 1" },
                { "a:1=1 2 3 4, b:1=1, c:1=1", 2, "2 3 4, 1, " },
                { "a:1=1, b:1=1, c:1=1", 0, "1, , " },
                { "a:1=1, b:1=1, c:1=1", 1, ", 1, " },
                { "a:1=1, b:1=1, c:1=1", 2, ", , 1" },
                { "c:1=1, b:1=1, a:1=1", UINT64_MAX, ", , 1" }, /* 2^64 - 1 = 0 mod 3 */
                { "a:1=1, b:1=", 0, "1, absent" },
                { "", 0, "" },
        };
        for (FOREACH_ROW(row, rows))
                check_shares(row->queues, sharing_split_strict, row->epoch, row->shares);
}

static void queues_that_cannot_be_told_apart_are_refused(void **state) {
        static const struct {
                const char *queues;
                int r;
        } rows[] = {
                { "a:1=1, a:1=2", -EEXIST },
                { "a:1=1, a:1/2=2", 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                SharingQueue queues[4];
                WorkerSet *shares[4] = {};
                size_t n = queues_of(row->queues, queues, 4);
                check_int(row->queues, sharing_split_emcee(queues, n, shares), row->r);
                sharing_shares_done(shares, n);
                check_int(row->queues, sharing_split_strict(queues, n, 0, shares), row->r);
                sharing_shares_done(shares, n);
                done_queues(queues, n);
        }
        _cleanup_(freep) SharingQueue *many = calloc(SHARING_QUEUES_MAX + 1, sizeof(SharingQueue));
        assert_int_equal(sharing_split_strict(many, SHARING_QUEUES_MAX + 1, 0, NULL), -E2BIG);
}

/* ---- random instances ---- */

static uint64_t random_state = 1;

static size_t random_below(size_t n) {
        random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (size_t) (random_state >> 33) % n;
}

typedef struct Instance {
        size_t n_queues, n_workers;
        bool *edges; /* n_queues × n_workers */
        SharingQueue *queues;
        WorkerSet **shares;
        size_t *owner; /* of each worker; n_queues: nobody's */
        size_t *load;
} Instance;

static Instance instance_new(size_t n_queues, size_t n_workers) {
        return (Instance) {
                .n_queues = n_queues,
                .n_workers = n_workers,
                .edges = calloc(n_queues * n_workers + 1, sizeof(bool)),
                .queues = calloc(n_queues + 1, sizeof(SharingQueue)),
                .shares = calloc(n_queues + 1, sizeof(WorkerSet *)),
                .owner = calloc(n_workers + 1, sizeof(size_t)),
                .load = calloc(n_queues + 1, sizeof(size_t)),
        };
}

static void instance_done(Instance *instance) {
        sharing_shares_done(instance->shares, instance->n_queues);
        done_queues(instance->queues, instance->n_queues);
        free(instance->edges);
        free(instance->queues);
        free(instance->shares);
        free(instance->owner);
        free(instance->load);
}

static void make_queues(Instance *instance, size_t first_name) {
        const char **ids = calloc(instance->n_workers + 1, sizeof(char *));
        char(*names)[32] = calloc(instance->n_workers + 1, sizeof(*names));
        for (size_t w = 0; w < instance->n_workers; w++)
                (void) snprintf(names[w], sizeof(*names), "w%05zu", w);
        for (size_t q = 0; q < instance->n_queues; q++) {
                size_t n = 0;
                for (size_t w = 0; w < instance->n_workers; w++)
                        if (instance->edges[q * instance->n_workers + w])
                                ids[n++] = names[w];
                SharingQueue *queue = &instance->queues[q];
                assert_true(asprintf(&queue->address, "host%03zu:41000", first_name + q) > 0);
                queue->version = strdup("1");
                assert_int_equal(worker_set_new(ids, n, &queue->workers), 0);
        }
        free(names);
        free(ids);
}

/* Splits, and checks that every worker with an owner has exactly one, and one that has it configured. */
static void instance_split(Instance *instance, uint64_t epoch) {
        size_t n_workers = instance->n_workers;
        sharing_shares_done(instance->shares, instance->n_queues);
        assert_int_equal(
                        sharing_split_strict(instance->queues, instance->n_queues, epoch, instance->shares),
                        0);
        for (size_t w = 0; w < n_workers; w++)
                instance->owner[w] = instance->n_queues;
        for (size_t q = 0; q < instance->n_queues; q++) {
                const WorkerSet *share = instance->shares[q];
                instance->load[q] = share ? share->n_ids : 0;
                for (size_t i = 0; i < instance->load[q]; i++) {
                        uint64_t w;
                        assert_int_equal(text_parse_u64(share->ids[i] + 1, 0, n_workers - 1, &w), 0);
                        assert_true(instance->edges[q * n_workers + w]);
                        assert_int_equal(instance->owner[w], instance->n_queues);
                        instance->owner[w] = q;
                }
        }
        for (size_t w = 0; w < n_workers; w++)
                for (size_t q = 0; q < instance->n_queues; q++)
                        assert_false(instance->edges[q * n_workers + w] &&
                                     instance->owner[w] == instance->n_queues);
}

static void random_edges(Instance *instance, size_t percent) {
        for (size_t i = 0; i < instance->n_queues * instance->n_workers; i++)
                instance->edges[i] = random_below(100) < percent;
}

static int compare_sizes(const void *a, const void *b) {
        size_t x = *(const size_t *) a, y = *(const size_t *) b;
        return (x > y) - (x < y);
}

/* Tries all assignments: BEST becomes the loads in ascending order that are the highest lexicographically. */
static void try_all(const Instance *instance, size_t worker, size_t *load, size_t *best, bool *has_best) {
        size_t n = instance->n_queues;
        bool any = false;
        if (worker == instance->n_workers) {
                size_t sorted[8];
                memcpy(sorted, load, n * sizeof(size_t));
                qsort(sorted, n, sizeof(size_t), compare_sizes);
                size_t i = 0;
                while (*has_best && i < n && sorted[i] == best[i])
                        i++;
                if (!*has_best || (i < n && sorted[i] > best[i]))
                        memcpy(best, sorted, n * sizeof(size_t));
                *has_best = true;
                return;
        }
        for (size_t q = 0; q < n; q++)
                if (instance->edges[q * instance->n_workers + worker]) {
                        any = true;
                        load[q]++;
                        try_all(instance, worker + 1, load, best, has_best);
                        load[q]--;
                }
        if (!any)
                try_all(instance, worker + 1, load, best, has_best);
}

static void strict_is_as_fair_as_the_best_of_all_assignments(void **state) {
        for (size_t round = 0; round < (is_slow() ? 200 : 1000); round++) {
                _cleanup_(instance_done)
                                Instance instance = instance_new(1 + random_below(5), 1 + random_below(6));
                size_t load[8] = {}, best[8] = {};
                bool has_best = false;
                random_edges(&instance, 20 + random_below(80));
                make_queues(&instance, 0);
                instance_split(&instance, random_below(10));
                try_all(&instance, 0, load, best, &has_best);
                qsort(instance.load, instance.n_queues, sizeof(size_t), compare_sizes);
                assert_memory_equal(instance.load, best, instance.n_queues * sizeof(size_t));
        }
}

/* Whether a chain of moves leads from a queue to one that has at least two workers less. */
static bool has_unfair_chain(const Instance *instance, size_t from) {
        size_t n = instance->n_queues, n_reached = 1;
        _cleanup_(freep) size_t *reached = calloc(n + 1, sizeof(size_t));
        _cleanup_(freep) bool *seen = calloc(n + 1, sizeof(bool));
        reached[0] = from;
        seen[from] = true;
        for (size_t i = 0; i < n_reached; i++)
                for (size_t w = 0; w < instance->n_workers; w++)
                        for (size_t q = 0; q < n && instance->owner[w] == reached[i]; q++)
                                if (instance->edges[q * instance->n_workers + w] && !seen[q]) {
                                        if (instance->load[q] + 2 <= instance->load[from])
                                                return true;
                                        seen[q] = true;
                                        reached[n_reached++] = q;
                                }
        return false;
}

/* Some queues with few workers, some with many; some workers with few owners, some with many. */
static void random_lopsided_edges(Instance *instance) {
        for (size_t q = 0; q < instance->n_queues; q++)
                for (size_t w = 0; w < instance->n_workers; w++)
                        instance->edges[q * instance->n_workers + w] = random_below(instance->n_queues) <=
                                                        q / 2 &&
                                        random_below(instance->n_workers) <= w / 2;
}

static void strict_leaves_no_chain_of_moves_that_would_be_fairer(void **state) {
        for (size_t round = 0; round < (is_slow() ? 40 : 400); round++) {
                _cleanup_(instance_done)
                                Instance instance = instance_new(2 + random_below(20), 5 + random_below(100));
                if (round % 2 == 0)
                        random_lopsided_edges(&instance);
                else
                        random_edges(&instance, 2 + random_below(30));
                make_queues(&instance, 0);
                instance_split(&instance, round);
                for (size_t q = 0; q < instance.n_queues; q++)
                        assert_false(has_unfair_chain(&instance, q));
        }
}

static void the_order_of_queues_changes_nothing(void **state) {
        for (size_t round = 0; round < (is_slow() ? 20 : 200); round++) {
                _cleanup_(instance_done)
                                Instance instance = instance_new(2 + random_below(12), 1 + random_below(40));
                random_edges(&instance, 5 + random_below(95));
                make_queues(&instance, 0);
                for (int strict = 0; strict < 2; strict++) {
                        size_t n = instance.n_queues;
                        Split split = strict ? sharing_split_strict : split_emcee;
                        SharingQueue shuffled[16];
                        WorkerSet *before[16] = {}, *after[16] = {};
                        assert_int_equal(split(instance.queues, n, round, before), 0);
                        for (size_t i = 0; i < n; i++)
                                shuffled[i] = instance.queues[(i * (n - 1) + round) % n];
                        assert_int_equal(split(shuffled, n, round, after), 0);
                        for (size_t i = 0; i < n; i++) {
                                WorkerSet *old = before[(i * (n - 1) + round) % n];
                                assert_true(old ? worker_set_equal(after[i], old) : !after[i]);
                        }
                        sharing_shares_done(before, n);
                        sharing_shares_done(after, n);
                }
        }
}

/* ---- turns ---- */

static void all_get_a_turn_and_only_where_workers_are_too_few(void **state) {
        for (size_t round = 0; round < (is_slow() ? 20 : 200); round++) {
                size_t n = 2 + random_below(10);
                _cleanup_(instance_done) Instance instance = instance_new(n, 1 + random_below(n + 4));
                size_t turns[16] = {}, highest[16] = {};
                random_edges(&instance, 10 + random_below(90));
                make_queues(&instance, 0);
                size_t start = random_below(1000);
                for (size_t epoch = start; epoch < start + n; epoch++) {
                        instance_split(&instance, epoch);
                        for (size_t q = 0; q < n; q++) {
                                turns[q] += instance.load[q] > 0;
                                highest[q] = instance.load[q] > highest[q] ? instance.load[q] : highest[q];
                        }
                }
                for (size_t q = 0; q < n; q++) {
                        assert_true(turns[q] > 0 || instance.queues[q].workers->n_ids == 0);
                        assert_true(turns[q] == n || highest[q] <= 1); /* only the starving take turns */
                }
        }
}

static void epochs_move_nothing_while_there_is_one_for_each(void **state) {
        for (size_t round = 0; round < (is_slow() ? 10 : 100); round++) {
                _cleanup_(instance_done) Instance instance = instance_new(2 + random_below(8), 60);
                random_edges(&instance, 40);
                make_queues(&instance, 0);
                instance_split(&instance, 0);
                size_t before[60];
                memcpy(before, instance.owner, sizeof(before));
                instance_split(&instance, 1 + random_below(1000));
                assert_memory_equal(instance.owner, before, sizeof(before));
        }
}

static void turns_among_equals_come_about_as_soon_as_they_can(void **state) {
        static const struct {
                size_t n_queues, n_workers, epochs;
        } rows[] = {
                { 4, 3, 2 }, { 4, 2, 4 }, { 10, 3, 4 }, { 10, 7, 2 }, { 100, 10, 12 }, { 7, 1, 7 },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(instance_done) Instance instance = instance_new(row->n_queues, row->n_workers);
                size_t last[100] = {};
                char label[64];
                (void) snprintf(label,
                                sizeof(label),
                                "%zu queues, %zu workers",
                                row->n_queues,
                                row->n_workers);
                random_edges(&instance, 100);
                make_queues(&instance, 0);
                for (size_t epoch = 1; epoch <= 3 * row->n_queues; epoch++) {
                        instance_split(&instance, epoch);
                        for (size_t q = 0; q < row->n_queues; q++) {
                                if (instance.load[q] > 0)
                                        last[q] = epoch;
                                check_true(label, epoch - last[q] < row->epochs);
                        }
                }
        }
}

/* ---- moves ---- */

typedef struct Moves {
        size_t moved, least, modulo;
} Moves;

/* N queues with PERCENT of N_WORKERS each, of which the one at ABSENT is not there at first. */
static void count_moves(
                size_t n,
                size_t n_workers,
                size_t percent,
                size_t absent,
                size_t first_name,
                Moves *moves) {
        _cleanup_(instance_done) Instance all = instance_new(n, n_workers);
        _cleanup_(instance_done) Instance before = instance_new(n, n_workers);
        random_edges(&all, percent);
        memcpy(before.edges, all.edges, n * n_workers * sizeof(bool));
        for (size_t w = 0; w < n_workers; w++)
                before.edges[absent * n_workers + w] = false;
        make_queues(&all, first_name);
        make_queues(&before, first_name);
        instance_split(&all, 0);
        instance_split(&before, 0);
        for (size_t w = 0; w < n_workers; w++) {
                size_t old = w % (n - 1);
                moves->moved += all.owner[w] != before.owner[w];
                moves->modulo += w % n != old + (old >= absent);
        }
        moves->least += percent == 100 ? n_workers / n : all.load[absent];
}

static void a_queue_that_joins_moves_little_more_than_its_share(void **state) {
        static const struct {
                size_t n_queues, n_workers, percent;
                double worst; /* moves on average, for one that could not be avoided */
        } rows[] = {
                { 3, 12, 100, 1.4 },  { 3, 100, 100, 1.3 },  { 6, 25, 100, 1.7 }, { 6, 50, 100, 1.5 },
                { 11, 50, 100, 2.2 }, { 11, 200, 100, 1.6 }, { 21, 400, 100, 2 }, { 31, 300, 100, 2.7 },
                { 6, 50, 50, 1.7 },   { 11, 200, 40, 2 },    { 21, 400, 20, 3 },  { 31, 300, 10, 4 },
        };
        for (FOREACH_ROW(row, rows)) {
                Moves moves = {};
                char label[128];
                for (size_t round = 0; round < (is_slow() ? 5 : 25); round++)
                        count_moves(row->n_queues,
                                    row->n_workers,
                                    row->percent,
                                    random_below(row->n_queues),
                                    round * row->n_queues,
                                    &moves);
                double ratio = (double) moves.moved / (double) moves.least;
                double modulo = (double) moves.modulo / (double) moves.least;
                (void) snprintf(label,
                                sizeof(label),
                                "%zu queues with %zu%% of %zu workers: %.2f times the least (dealt out: %.2f)",
                                row->n_queues,
                                row->percent,
                                row->n_workers,
                                ratio,
                                modulo);
                print_message("# %s\n", label);
                check_true(label, ratio >= 1 && (is_slow() || ratio <= row->worst));
                check_true(label, row->percent < 100 || modulo > ratio);
        }
}

static void changes_in_one_cluster_leave_others_alone(void **state) {
        _cleanup_(instance_done) Instance instance = instance_new(8, 80);
        for (size_t q = 0; q < 8; q++)
                for (size_t w = 0; w < 80; w++)
                        instance.edges[q * 80 + w] = (q < 4) == (w < 40) && q != 1;
        make_queues(&instance, 0);
        instance_split(&instance, 0);
        size_t before[80];
        memcpy(before, instance.owner, sizeof(before));

        for (size_t w = 0; w < 40; w++)
                instance.edges[1 * 80 + w] = true;
        done_queues(instance.queues, 8);
        make_queues(&instance, 0);
        instance_split(&instance, 0);
        assert_int_equal(instance.load[1], 10);
        assert_memory_equal(instance.owner + 40, before + 40, 40 * sizeof(size_t));
}

/* ---- size ---- */

static double cpu_sec(void) {
        return (double) clock() / CLOCKS_PER_SEC;
}

/* Each worker with DEGREE of the queues, or all with all. */
static void check_large(const char *label, size_t n_queues, size_t n_workers, size_t degree) {
        const char **ids = calloc(n_workers, sizeof(char *)), **some = calloc(n_workers, sizeof(char *));
        char(*names)[32] = calloc(n_workers, sizeof(*names));
        SharingQueue *queues = calloc(n_queues, sizeof(SharingQueue));
        WorkerSet **shares = calloc(n_queues, sizeof(WorkerSet *)), *all = NULL;
        for (size_t w = 0; w < n_workers; w++) {
                (void) snprintf(names[w], sizeof(*names), "mac%07zu", w);
                ids[w] = names[w];
        }
        assert_int_equal(worker_set_new(ids, n_workers, &all), 0);
        for (size_t q = 0; q < n_queues; q++) {
                size_t n = 0;
                assert_true(asprintf(&queues[q].address, "host%zu:%zu", q / 11, 41000 + q % 11) > 0);
                queues[q].version = strdup("1");
                for (size_t w = 0; w < n_workers && degree > 0; w++)
                        if (random_below(n_queues) < degree)
                                some[n++] = ids[w];
                if (degree == 0)
                        queues[q].workers = worker_set_ref(all);
                else
                        assert_int_equal(worker_set_new(some, n, &queues[q].workers), 0);
        }

        double start = cpu_sec();
        check_int(label, sharing_split_strict(queues, n_queues, 0, shares), 0);
        double sec = cpu_sec() - start;
        print_message("# %s: %.3f s\n", label, sec);
        check_true(label, is_slow() || sec < 5); /* ten times what it takes */
        for (size_t q = 0; q < n_queues && degree == 0; q++)
                check_int(label, (intmax_t) shares[q]->n_ids, (intmax_t) (n_workers / n_queues));

        sharing_shares_done(shares, n_queues);
        done_queues(queues, n_queues);
        worker_set_unref(all);
        free(shares);
        free(queues);
        free(names);
        free(some);
        free(ids);
}

static void a_thousand_queues_and_a_hundred_thousand_workers_take_no_time(void **state) {
        if (is_slow()) {
                check_large("50 queues, 1000 workers, all with all", 50, 1000, 0);
                check_large("50 queues, 1000 workers, each with about 5", 50, 1000, 5);
                return;
        }
        check_large("1000 queues, 100000 workers, all with all", 1000, 100000, 0);
        check_large("1000 queues, 100000 workers, each with about 10", 1000, 100000, 10);
}

/* ---- out of memory ---- */

typedef struct TryData {
        SharingQueue queues[8];
        size_t n;
} TryData;

static int try_strict(void *userdata) {
        TryData *data = userdata;
        WorkerSet *shares[8] = {};
        int r = sharing_split_strict(data->queues, data->n, 1, shares);
        if (r < 0)
                for (size_t i = 0; i < data->n; i++)
                        assert_null(shares[i]);
        sharing_shares_done(shares, data->n);
        return r;
}

static int try_emcee(void *userdata) {
        TryData *data = userdata;
        WorkerSet *shares[8] = {};
        int r = sharing_split_emcee(data->queues, data->n, shares);
        sharing_shares_done(shares, data->n);
        return r;
}

static void running_out_of_memory_leaves_nothing_behind(void **state) {
        /* The second has queues that take turns, the third needs step 4 for some choice of names. */
        static const char *const texts[] = {
                "a:1=1 2 3, b:1=2 3 4, c:1=",
                "a:1=1, b:1=1, c:1=1 2 3 4",
                "a:1=1 2, b:1=1 3, c:1=2 4, d:1=3 5, e:1=4 6, f:1=5 7, g:1=6 8, h:1=7 8",
        };
        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                TryData data = {};
                data.n = queues_of(texts[i], data.queues, 8);
                fail_alloc_loop(try_strict, &data);
                fail_alloc_loop(try_emcee, &data);
                done_queues(data.queues, data.n);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(emcee_deals_workers_out_within_clusters),
                cmocka_unit_test(strict_shares_are_what_they_always_were),
                cmocka_unit_test(queues_that_cannot_be_told_apart_are_refused),
                cmocka_unit_test(strict_is_as_fair_as_the_best_of_all_assignments),
                cmocka_unit_test(strict_leaves_no_chain_of_moves_that_would_be_fairer),
                cmocka_unit_test(the_order_of_queues_changes_nothing),
                cmocka_unit_test(all_get_a_turn_and_only_where_workers_are_too_few),
                cmocka_unit_test(epochs_move_nothing_while_there_is_one_for_each),
                cmocka_unit_test(turns_among_equals_come_about_as_soon_as_they_can),
                cmocka_unit_test(a_queue_that_joins_moves_little_more_than_its_share),
                cmocka_unit_test(changes_in_one_cluster_leave_others_alone),
                cmocka_unit_test(a_thousand_queues_and_a_hundred_thousand_workers_take_no_time),
                cmocka_unit_test(running_out_of_memory_leaves_nothing_behind),
        };
        return cmocka_run_group_tests_name("sharing-split", tests, NULL, NULL);
}
