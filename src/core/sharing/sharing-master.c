/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing-master.h"

#include <assert.h>

#include "base/text.h"

#define NOT_DISCOVERABLE "not_discoverable_"

bool sharing_version_is_discoverable(const char *version) {
        return !text_after(version, NOT_DISCOVERABLE);
}

static bool is_better_master(const SharingQueue *a, const SharingQueue *b) {
        int d = strcmp(a->version, b->version);
        return d > 0 || (d == 0 && sharing_queue_compare(a, b) < 0);
}

int sharing_master_find(const SharingQueue *queues, size_t n, size_t *ret_index) {
        const SharingQueue *best = NULL;
        for (size_t i = 0; i < n; i++)
                if (sharing_version_is_discoverable(queues[i].version) &&
                    (!best || is_better_master(&queues[i], best)))
                        best = &queues[i];
        if (!best)
                return -ENOENT;
        *ret_index = (size_t) (best - queues);
        return 0;
}

static bool has_name_of(const SharingQueue *a, const SharingQueue *b) {
        return streq(a->address, b->address) && streq(a->version, b->version);
}

static bool is_same(const SharingQueue *a, const SharingQueue *b) {
        if (*a->id || *b->id)
                return streq(a->id, b->id);
        return has_name_of(a, b);
}

void sharing_queues_tidy(SharingQueue *queues, size_t *n) {
        size_t n_kept = 0;
        for (size_t i = 0; i < *n; i++) {
                SharingQueue queue = queues[i];
                bool keep = sharing_version_is_discoverable(queue.version);
                for (size_t k = 0; k < n_kept && keep; k++)
                        keep = !is_same(&queues[k], &queue);
                if (keep)
                        queues[n_kept++] = queue;
                else
                        sharing_queue_done(&queue);
        }
        *n = n_kept;
}

int sharing_queue_find(const SharingQueue *queues, size_t n, const SharingQueue *asker, size_t *ret_index) {
        size_t n_found = 0, found = 0;
        for (size_t i = 0; i < n; i++)
                if (*asker->id ? streq(queues[i].id, asker->id) : has_name_of(&queues[i], asker)) {
                        found = i;
                        n_found++;
                }
        if (n_found != 1)
                return -ENOENT;
        *ret_index = found;
        return 0;
}

uint64_t sharing_epoch(
                usec_t realtime_usec,
                usec_t poll_interval_usec,
                usec_t cache_ttl_usec,
                usec_t lease_ttl_usec) {
        usec_t turn_usec = usec_add(usec_add(poll_interval_usec, cache_ttl_usec), lease_ttl_usec);
        return turn_usec > 0 ? realtime_usec / turn_usec : realtime_usec;
}

/* ---- the cache ---- */

static void forget_unknown(SharingCache *cache) {
        while (cache->n_unknown > 0)
                free(cache->unknown[--cache->n_unknown]);
        free(cache->unknown);
        cache->unknown = NULL;
}

static void forget_split(SharingCache *cache) {
        if (cache->shares)
                sharing_shares_done(cache->shares, cache->n_queues);
        free(cache->shares);
        cache->shares = NULL;
        cache->queues = sharing_queues_free(cache->queues, cache->n_queues);
        cache->n_queues = 0;
        cache->is_filled = false;
        forget_unknown(cache);
}

void sharing_cache_done(SharingCache *cache) {
        forget_split(cache);
        *cache = (SharingCache) {};
}

/* An asker as text: by what it would be found. */
static int asker_key(const SharingQueue *asker, char **ret) {
        Text text = {};
        int r = text_append(&text, asker->id);
        if (r >= 0 && !*asker->id)
                r = text_append(&text, asker->address);
        if (r >= 0 && !*asker->id)
                r = text_append(&text, "\n");
        if (r >= 0 && !*asker->id)
                r = text_append(&text, asker->version);
        if (r < 0) {
                text_done(&text);
                return r;
        }
        *ret = text.data;
        return 0;
}

static bool is_unknown(const SharingCache *cache, const char *key) {
        bool found = cache->n_unknown == SHARING_UNKNOWN_MAX;
        for (size_t i = 0; i < cache->n_unknown && !found; i++)
                found = streq(cache->unknown[i], key);
        return found;
}

/* Remembers KEY, which it takes over on success. */
static int note_unknown(SharingCache *cache, char *key) {
        if (!cache->unknown)
                cache->unknown = calloc(SHARING_UNKNOWN_MAX, sizeof(char *));
        if (!cache->unknown)
                return -ENOMEM;
        cache->unknown[cache->n_unknown++] = key;
        return 0;
}

static int share_of(const SharingCache *cache, const SharingQueue *asker, WorkerSet *share, WorkerSet **ret) {
        if (!share && cache->strict)
                return worker_set_new(NULL, 0, ret);
        *ret = worker_set_ref(share ?: asker->workers);
        return 0;
}

static int answer_lost(const SharingCache *cache, const SharingQueue *asker, WorkerSet **ret_share) {
        int r = share_of(cache, asker, NULL, ret_share);
        return r < 0 ? r : SHARING_ANSWER_LOST;
}

static int answer_scan(SharingCache *cache, usec_t now_usec) {
        return sharing_cache_start_scan(cache, now_usec) ? SHARING_ANSWER_SCAN : SHARING_ANSWER_WAIT;
}

/* Emcee's queues never do. */
static bool has_other_workers(const SharingQueue *asker, const SharingQueue *known) {
        return *asker->id && asker->workers && known->workers &&
                        !worker_set_equal(asker->workers, known->workers);
}

int sharing_cache_ask(
                SharingCache *cache,
                const SharingQueue *asker,
                usec_t asked_usec,
                usec_t now_usec,
                WorkerSet **ret_share) {
        bool is_fresh = cache->is_filled && cache->scan_usec >= asked_usec;
        bool is_valid = cache->is_filled && now_usec < usec_add(cache->scan_usec, cache->ttl_usec);
        if (!is_fresh && !is_valid)
                return answer_scan(cache, now_usec);

        size_t index;
        if (sharing_queue_find(cache->queues, cache->n_queues, asker, &index) >= 0) {
                if (!is_fresh && has_other_workers(asker, &cache->queues[index]))
                        return answer_scan(cache, now_usec);
                int r = share_of(cache, asker, cache->shares[index], ret_share);
                return r < 0 ? r : SHARING_ANSWER_SHARE;
        }

        _cleanup_(freep) char *key = NULL;
        int r = asker_key(asker, &key);
        if (r < 0)
                return r;
        if (is_unknown(cache, key))
                return answer_lost(cache, asker, ret_share);
        if (!is_fresh)
                return answer_scan(cache, now_usec);
        r = note_unknown(cache, key);
        if (r < 0)
                return r;
        key = NULL;
        return answer_lost(cache, asker, ret_share);
}

bool sharing_cache_start_scan(SharingCache *cache, usec_t now_usec) {
        if (cache->is_scanning)
                return false;
        cache->is_scanning = true;
        cache->running_scan_usec = now_usec;
        return true;
}

WorkerSet *sharing_cache_workers(const SharingCache *cache, const SharingQueue *queue) {
        size_t index;
        if (sharing_queue_find(cache->queues, cache->n_queues, queue, &index) < 0)
                return NULL;
        return cache->queues[index].workers;
}

int sharing_cache_finish_scan(SharingCache *cache, SharingQueue *queues, size_t n, uint64_t epoch) {
        assert(cache->is_scanning);
        cache->is_scanning = false;

        size_t n_tidy = n;
        if (n > 0)
                sharing_queues_tidy(queues, &n_tidy);
        WorkerSet **shares = calloc(n_tidy + 1, sizeof(WorkerSet *));
        int r = shares ? 0 : -ENOMEM;
        if (r >= 0)
                r = cache->strict ? sharing_split_strict(queues, n_tidy, epoch, shares) :
                                    sharing_split_emcee(queues, n_tidy, shares);
        if (r < 0) {
                free(shares);
                sharing_queues_free(queues, n_tidy);
                return r;
        }

        forget_split(cache);
        cache->queues = queues;
        cache->n_queues = n_tidy;
        cache->shares = shares;
        cache->scan_usec = cache->running_scan_usec;
        cache->is_filled = true;
        return 0;
}

void sharing_cache_abandon_scan(SharingCache *cache) {
        assert(cache->is_scanning);
        cache->is_scanning = false;
}
