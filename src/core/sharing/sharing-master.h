/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a scan of the queues means: which of them is master, and, for the master, what it answers to queues
 * that ask for their share.
 *
 * Who asks? Emcee's queues say their address and version, and are found under the address that the master's
 * scan came upon. If these are spelled differently (a host name here, an IP address there), Emcee's master
 * does not know the asker, and lets it have all its workers. A strict master must not: what it does not know
 * gets nothing. To guess (by port, version and workers, say) is not safe either: a queue on a host that is
 * not scanned would be taken for its like on one that is, and get the same share.
 *
 * Queues of ours have an id instead, 32 random digits for each process, which they send with what they ask
 * and what they answer (EMCEE_IDENTITY_HEADER), together with the one address they want to be called by. So
 * it does not matter how the scan spells it, and a queue that the scan came upon twice is seen to be one. */
#pragma once

#include <stdbool.h>

#include "base/usec.h"
#include "core/sharing/sharing-split.h"

#define SHARING_UNKNOWN_MAX 256 /* queues remembered as not found */

/* ---- after a scan ---- */

/* Whether queues of VERSION take part; "not_discoverable_…", as those that are about to end say, does not. */
bool sharing_version_is_discoverable(const char *version);

/* Where the master is among the N QUEUES: the highest version; of those the lowest address; of those the
 * lowest id; all by their bytes. -ENOENT when none is discoverable. */
int sharing_master_find(const SharingQueue *queues, size_t n, size_t *ret_index);

/* Drops (frees) from the *N QUEUES those that are not discoverable, and all but the first of those that are
 * the same: the same id, or none and the same address and version. The order of the others stays. */
void sharing_queues_tidy(SharingQueue *queues, size_t *n);

/* Where ASKER is among the N QUEUES, its workers aside. One with an id is found by that only; one without by
 * its address and version, if just one has them. -ENOENT otherwise. */
int sharing_queue_find(const SharingQueue *queues, size_t n, const SharingQueue *asker, size_t *ret_index);

/* The epoch for sharing_split_strict(): counts how often a turn has ended since 1970. A turn lasts as long as
 * it takes for a share to arrive everywhere: until the cache is renewed, the queues have asked again, and
 * leases of the last turn have ended. Masters with the same settings and the right time agree on it. */
uint64_t sharing_epoch(
                usec_t realtime_usec,
                usec_t poll_interval_usec,
                usec_t cache_ttl_usec,
                usec_t lease_ttl_usec);

/* ---- the master's cache ---- */

/* The last split. Valid for TTL from the beginning (not the end) of the scan it is made from, so that a queue
 * that died is in no split for longer than that after. All times CLOCK_BOOTTIME. */
typedef struct SharingCache {
        usec_t ttl_usec;
        bool strict;

        bool is_filled, is_scanning;
        usec_t scan_usec;         /* when the scan began that the split is made from */
        usec_t running_scan_usec; /* when the one began that is under way */
        size_t n_queues;
        SharingQueue *queues;
        WorkerSet **shares; /* in the order of queues */

        size_t n_unknown;
        char **unknown; /* who was not found; SHARING_UNKNOWN_MAX, then everybody who isn't counts */
} SharingCache;

typedef enum SharingAnswer {
        SHARING_ANSWER_SHARE, /* answer with the share */
        SHARING_ANSWER_SCAN,  /* start a scan and ask again when it has ended */
        SHARING_ANSWER_WAIT,  /* one is under way; ask again when it has ended */
        SHARING_ANSWER_LOST,  /* not among the queues; the share is what to answer all the same */
} SharingAnswer;

void sharing_cache_done(SharingCache *cache);

/* What to answer to ASKER, who asked at ASKED_USEC; it is NOW_USEC. For an asker that waited for a scan, the
 * same with the time at which it asked at first: the outcome of a scan that began after that is good for it,
 * however long it took.
 *
 * However many ask, one scan at a time is under way, and none is started for an asker that was not found in
 * one that began after it asked, until the cache is renewed anyway. A queue with an id that has other workers
 * than the split was made with is a reason for a scan, too: workers come and go while it runs. Does nothing
 * but note such askers and, for SHARING_ANSWER_SCAN, that the scan begins.
 *
 * *RET_SHARE is set for …_SHARE and …_LOST, with a reference for the caller: for those that were not found
 * and those without workers, nothing when strict, and otherwise what they said they have, as Emcee does.
 * Returns the SharingAnswer or -ENOMEM. */
int sharing_cache_ask(
                SharingCache *cache,
                const SharingQueue *asker,
                usec_t asked_usec,
                usec_t now_usec,
                WorkerSet **ret_share);

/* Notes that a scan begins without anyone having asked, unless one is under way already: returns whether
 * it is to be started. */
bool sharing_cache_start_scan(SharingCache *cache, usec_t now_usec);

/* What QUEUE said in the last scan it has configured, or NULL: for a queue that is there (/queueVersion) but
 * does not answer /workerIds this time. To leave the queue out would give its workers to others while it goes
 * on using them. The reference stays the cache's. */
WorkerSet *sharing_cache_workers(const SharingCache *cache, const SharingQueue *queue);

/* The scan has ended and found the N QUEUES, which are tidied up and split. Takes them over in any case. On
 * failure, that of the split (-ENOMEM, -E2BIG), it is as if the scan had failed: the old split stays, for as
 * long as it is valid. */
int sharing_cache_finish_scan(SharingCache *cache, SharingQueue *queues, size_t n, uint64_t epoch);

/* The scan has ended without result. Those who wait are to be told so: they keep what they have. */
void sharing_cache_abandon_scan(SharingCache *cache);
