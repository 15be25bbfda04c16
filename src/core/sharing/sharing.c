/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/text.h"

/* Who waits for the master's look: somebody else, or, as the answer to a question, this queue. */
struct SharingAsker {
        SharingAsker *prev, *next;
        void *asker;       /* whom the hands answer */
        unsigned question; /* the one of this queue; 0: somebody else asks */
        SharingQueue queue;
        usec_t asked_usec;
};

void found_queue_done(FoundQueue *found) {
        sharing_queue_done(&found->queue);
        free(found->url);
        *found = (FoundQueue) {};
}

SharingQueue sharing_self(const Sharing *sharing) {
        const SharingOptions *options = &sharing->options;
        SharingQueue self = {
                .address = (char *) options->address,
                .version = (char *) options->hands->version(options->userdata),
                .workers = options->configured,
        };
        memcpy(self.id, options->id, sizeof(self.id));
        return self;
}

static int copy_self(const Sharing *sharing, SharingQueue *ret) {
        SharingQueue self = sharing_self(sharing),
                     copy = {
                             .address = strdup(self.address),
                             .version = strdup(self.version),
                             .workers = worker_set_ref(self.workers),
                     };
        memcpy(copy.id, self.id, sizeof(copy.id));
        *ret = copy;
        return copy.address && copy.version ? 0 : -ENOMEM;
}

/* This queue, and behind it the N FOUND, which are emptied but for their URLs. */
static int take_queues(const Sharing *sharing, FoundQueue *found, size_t n, SharingQueue **ret) {
        SharingQueue *queues = found ? calloc(n + 1, sizeof(SharingQueue)) : NULL;
        if (!queues)
                return -ENOMEM;
        if (copy_self(sharing, &queues[0]) < 0) {
                sharing_queues_free(queues, 1);
                return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++) {
                queues[i + 1] = found[i].queue;
                found[i].queue = (SharingQueue) {};
        }
        *ret = queues;
        return 0;
}

/* A discovery may have come upon this queue, too: puts the other FOUND to the front, and says how many. */
static size_t without_self(const Sharing *sharing, FoundQueue *found, size_t n) {
        size_t n_others = 0;
        for (size_t i = 0; found && i < n; i++) {
                if (streq(found[i].queue.id, sharing->options.id))
                        continue;
                FoundQueue other = found[i];
                found[i] = found[n_others];
                found[n_others++] = other;
        }
        return n_others;
}

/* ── the side that asks ── */

static void share_changed(const Sharing *sharing) {
        sharing->options.hands->share_changed(sharing->options.userdata);
}

static void deadline_changed(const Sharing *sharing) {
        sharing->options.hands->deadline_changed(sharing->options.userdata);
}

void sharing_answered(Sharing *sharing, unsigned question, const WorkerSet *share, const Moment *now) {
        if (sharing_poll_finish(&sharing->poll, question, share, now->boottime_usec) > 0)
                share_changed(sharing);
        deadline_changed(sharing);
}

void sharing_run(Sharing *sharing, const Moment *now) {
        const SharingOptions *options = &sharing->options;
        unsigned question = sharing_poll_start(&sharing->poll, now->boottime_usec);
        sharing->is_looking |= question != 0;
        if (question != 0 && options->port->look(options->discovery, DISCOVER_QUEUES, now) < 0) {
                sharing->is_looking = false;
                sharing_answered(sharing, question, NULL, now);
        }
        deadline_changed(sharing);
}

/* Who hears of another master without having asked asks that soon. */
static void note_master(Sharing *sharing, const char *address, const Moment *now) {
        if (streq_null(sharing->master, address))
                return;
        free(sharing->master);
        sharing->master = address ? strdup(address) : NULL;
        sharing->options.hands->master_changed(address, sharing->options.userdata);
        sharing_poll_hurry(&sharing->poll, now->boottime_usec);
}

static void ask_self(Sharing *sharing, unsigned question, const Moment *now);

/* Notes who there is. *RET_URL is where the master is asked; NULL: this queue is it. -ENOENT: there is none.
 */
static int note_seen(Sharing *sharing, FoundQueue *found, size_t n, const Moment *now, const char **ret_url) {
        SharingQueue *queues = NULL;
        size_t master;
        sharing_queues_free(sharing->seen, sharing->n_seen);
        int r = take_queues(sharing, found, n, &queues);
        sharing->seen = queues;
        sharing->n_seen = r < 0 ? 0 : n + 1;
        sharing->seen_usec = now->realtime_usec;
        if (r >= 0)
                r = sharing_master_find(queues, sharing->n_seen, &master);
        note_master(sharing, r < 0 ? NULL : queues[master].address, now);
        if (r >= 0)
                *ret_url = master == 0 ? NULL : found[master - 1].url;
        return r;
}

/* A question that was asked before SINCE_USEC has waited for this set. */
static void on_queues(Sharing *sharing, FoundQueue *found, size_t n, usec_t since_usec, const Moment *now) {
        const SharingOptions *options = &sharing->options;
        unsigned question = sharing->is_looking && since_usec >= sharing->poll.asked_usec ?
                        sharing->poll.question :
                        0;
        const char *url = NULL;
        int r = note_seen(sharing, found, n, now, &url);
        if (question == 0) {
                deadline_changed(sharing);
                return;
        }
        sharing->is_looking = false;
        if (r >= 0 && !url)
                ask_self(sharing, question, now);
        else if (r < 0 || options->hands->ask_master(question, url, options->userdata) < 0)
                sharing_answered(sharing, question, NULL, now);
}

void sharing_toggle(Sharing *sharing, bool enabled, const Moment *now) {
        if (sharing_poll_toggle(&sharing->poll, enabled, now->boottime_usec) > 0)
                share_changed(sharing);
        deadline_changed(sharing);
}

void sharing_set_configured(Sharing *sharing, WorkerSet *configured, const Moment *now) {
        WorkerSet *before = sharing->options.configured;
        if (worker_set_equal(before, configured))
                return;
        sharing->options.configured = worker_set_ref(configured);
        worker_set_unref(before);
        if (sharing_poll_configure(&sharing->poll, configured, now->boottime_usec) > 0)
                share_changed(sharing);
        deadline_changed(sharing);
}

/* ── the master's side ── */

static void asker_free(Sharing *sharing, SharingAsker *asker) {
        DL_DELETE(sharing->askers, asker);
        sharing->n_askers--;
        sharing_queue_done(&asker->queue);
        free(asker);
}

static int asker_new(Sharing *sharing, const Moment *now, SharingAsker **ret) {
        if (sharing->n_askers == SHARING_ASKERS_MAX)
                return -EBUSY;
        SharingAsker *asker = calloc(1, sizeof(*asker));
        if (!asker)
                return -ENOMEM;
        asker->asked_usec = now->boottime_usec;
        DL_PREPEND(sharing->askers, asker);
        sharing->n_askers++;
        *ret = asker;
        return 0;
}

/* SHARE is NULL when there is no answer to give. */
static void asker_answer(Sharing *sharing, SharingAsker *asker, const WorkerSet *share, const Moment *now) {
        void *whom = asker->asker;
        unsigned question = asker->question;
        asker_free(sharing, asker);
        if (question != 0)
                sharing_answered(sharing, question, share, now);
        else
                sharing->options.hands->answer(whom, share, sharing->options.userdata);
}

/* It may be answered, and gone, afterwards. */
static void asker_ask(Sharing *sharing, SharingAsker *asker, const Moment *now) {
        const SharingOptions *options = &sharing->options;
        _cleanup_(worker_set_unrefp) WorkerSet *share = NULL;
        int answer = sharing_cache_ask(
                        &sharing->cache, &asker->queue, asker->asked_usec, now->boottime_usec, &share);
        switch (answer) {
        case SHARING_ANSWER_SCAN:
                if (options->port->look(options->discovery, DISCOVER_WORKERS, now) >= 0)
                        return;
                sharing_cache_abandon_scan(&sharing->cache);
                break;
        case SHARING_ANSWER_WAIT:
                return;
        case SHARING_ANSWER_LOST:
                if (sharing_version_is_discoverable(asker->queue.version))
                        options->hands->stranger_asked(&asker->queue, options->userdata);
                break;
        default:
                break;
        }
        asker_answer(sharing, asker, share, now);
}

static void ask_self(Sharing *sharing, unsigned question, const Moment *now) {
        SharingAsker *asker;
        if (asker_new(sharing, now, &asker) < 0) {
                sharing_answered(sharing, question, NULL, now);
                return;
        }
        asker->question = question;
        if (copy_self(sharing, &asker->queue) < 0)
                asker_answer(sharing, asker, NULL, now);
        else
                asker_ask(sharing, asker, now);
}

int sharing_ask(Sharing *sharing, void *whom, SharingQueue *queue, const Moment *now) {
        SharingAsker *asker;
        int r = asker_new(sharing, now, &asker);
        if (r < 0) {
                sharing_queue_done(queue);
                return r;
        }
        asker->asker = whom;
        asker->queue = *queue;
        *queue = (SharingQueue) {};
        asker_ask(sharing, asker, now);
        return 0;
}

void sharing_forget_asker(Sharing *sharing, const void *whom) {
        for (SharingAsker *asker = sharing->askers, *next; asker; asker = next) {
                next = asker->next;
                if (asker->question == 0 && asker->asker == whom)
                        asker_free(sharing, asker);
        }
}

/* A queue that is there, but does not tell its workers this time, has those that it told last. */
static void recall_workers(const Sharing *sharing, FoundQueue *found, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!found[i].queue.workers)
                        found[i].queue.workers = worker_set_ref(
                                        sharing_cache_workers(&sharing->cache, &found[i].queue));
}

static int split(Sharing *sharing, FoundQueue *found, size_t n, const Moment *now) {
        const SharingOptions *options = &sharing->options;
        SharingQueue *queues;
        recall_workers(sharing, found, n);
        int r = take_queues(sharing, found, n, &queues);
        if (r < 0) {
                sharing_cache_abandon_scan(&sharing->cache);
                return r;
        }
        uint64_t epoch = sharing_epoch(
                        now->realtime_usec,
                        options->poll_interval_usec,
                        options->cache_ttl_usec,
                        options->lease_ttl_usec);
        r = sharing_cache_finish_scan(&sharing->cache, queues, n + 1, epoch);
        if (r < 0)
                options->hands->split_failed(r, n + 1, options->userdata);
        return r;
}

/* Those who wait are answered from a set that is no older than the look for them. When that has failed, so
 * would the next one: they are told so, and ask again by themselves. */
static void on_workers(Sharing *sharing, FoundQueue *found, size_t n, usec_t since_usec, const Moment *now) {
        const SharingCache *cache = &sharing->cache;
        usec_t known_usec = cache->is_scanning ? cache->running_scan_usec :
                        cache->is_filled       ? cache->scan_usec :
                                                 0;
        if (since_usec < known_usec)
                return;
        (void) sharing_cache_start_scan(&sharing->cache, since_usec);
        int r = split(sharing, found, n, now);
        for (SharingAsker *asker = sharing->askers, *next; asker; asker = next) {
                next = asker->next;
                if (r < 0)
                        asker_answer(sharing, asker, NULL, now);
                else
                        asker_ask(sharing, asker, now);
        }
}

static void on_told(
                DiscoveryDepth depth,
                FoundQueue *found,
                size_t n,
                usec_t since_usec,
                const Moment *now,
                void *userdata) {
        Sharing *sharing = userdata;
        size_t n_others = without_self(sharing, found, n);
        if (depth == DISCOVER_QUEUES)
                on_queues(sharing, found, n_others, since_usec, now);
        else
                on_workers(sharing, found, n_others, since_usec, now);
}

/* ── what there is to know ── */

usec_t sharing_deadline(const Sharing *sharing) {
        return sharing->poll.next_usec;
}

bool sharing_is_told(const Sharing *sharing) {
        return sharing->poll.is_told;
}

const WorkerSet *sharing_share(const Sharing *sharing) {
        return sharing->poll.permitted;
}

bool sharing_is_master(const Sharing *sharing) {
        return streq_null(sharing->master, sharing->options.address);
}

int sharing_new(const SharingOptions *options, const Moment *now, Sharing **ret) {
        _cleanup_(sharing_freep) Sharing *sharing = calloc(1, sizeof(*sharing));
        if (!sharing)
                return -ENOMEM;
        sharing->options = *options;
        sharing->options.configured = worker_set_ref(options->configured);
        sharing->cache.ttl_usec = options->cache_ttl_usec;
        sharing->cache.strict = options->strict;
        int r = sharing_poll_init(
                        &sharing->poll,
                        options->configured,
                        options->enabled,
                        options->poll_interval_usec,
                        now->boottime_usec);
        if (r < 0)
                return r;
        options->port->listen(options->discovery, on_told, sharing);
        *ret = TAKE_PTR(sharing);
        return 0;
}

Sharing *sharing_free(Sharing *sharing) {
        if (!sharing)
                return NULL;
        while (sharing->askers)
                asker_free(sharing, sharing->askers);
        sharing_poll_done(&sharing->poll);
        sharing_cache_done(&sharing->cache);
        worker_set_unref(sharing->options.configured);
        sharing_queues_free(sharing->seen, sharing->n_seen);
        free(sharing->master);
        free(sharing);
        return NULL;
}
