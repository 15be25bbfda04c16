/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A queue's whole part in the sharing of workers: it finds out who is master, asks that for its share, and is
 * asked itself when it is the master. docs/sharing.md has the rules. There is no I/O in here and no clock:
 * which queues there are is told by a discovery (discovery-port.h), and what is to be said to others goes
 * through a table of functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/sharing/discovery-port.h"
#include "core/sharing/sharing-master.h"
#include "core/sharing/sharing-poll.h"

#define SHARING_ASKERS_MAX 2048 /* who wait for a look */

typedef struct SharingAsker SharingAsker;

/* Who carries it out. Nothing may be reported back from within. */
typedef struct SharingHands {
        /* The version that this queue shows now. */
        const char *(*version)(void *userdata);

        /* Asks the queue at URL, the master, for this queue's share; sharing_answered() tells what comes of
         * that. A question before is given up. Negative errno. */
        int (*ask_master)(unsigned question, const char *url, void *userdata);

        /* ASKER, who waits no longer, gets SHARE. NULL: the queues could not be found out. */
        void (*answer)(void *asker, const WorkerSet *share, void *userdata);

        /* sharing_share() is another, or sharing_is_told(). */
        void (*share_changed)(void *userdata);

        /* sharing_deadline() may be another. */
        void (*deadline_changed)(void *userdata);

        /* The master is at ADDRESS now. NULL: there is none, as far as is known. */
        void (*master_changed)(const char *address, void *userdata);

        /* ASKER asks, but is not where queues are looked for. */
        void (*stranger_asked)(const SharingQueue *asker, void *userdata);

        /* The workers could not be split among N queues: the negative errno R. */
        void (*split_failed)(int r, size_t n, void *userdata);
} SharingHands;

typedef struct SharingOptions {
        char id[SHARING_QUEUE_ID_SIZE];
        const char *address;   /* by which others know this queue; weak */
        WorkerSet *configured; /* gets a reference */
        bool enabled, strict;
        usec_t poll_interval_usec, cache_ttl_usec, lease_ttl_usec;
        const DiscoveryPort *port;
        void *discovery; /* weak */
        const SharingHands *hands;
        void *userdata; /* the hands' */
} SharingOptions;

/* Others only read it. */
typedef struct Sharing {
        SharingOptions options;
        SharingPoll poll;
        bool is_looking; /* the question under way waits to be told who there is */

        /* the last set of queues that was told */
        char *master;       /* its address; NULL: nobody */
        SharingQueue *seen; /* this queue is the first */
        size_t n_seen;
        usec_t seen_usec; /* CLOCK_REALTIME; 0: none was told yet */

        /* the master's side */
        SharingCache cache;
        SharingAsker *askers;
        size_t n_askers;
} Sharing;

/* Begins at once: sharing_deadline() is NOW. -ENOMEM. */
int sharing_new(const SharingOptions *options, const Moment *now, Sharing **ret);

/* Nobody who waits is answered. */
Sharing *sharing_free(Sharing *sharing);
DEFINE_POINTER_CLEANUP(Sharing, sharing_free)

/* When to call sharing_run(). */
usec_t sharing_deadline(const Sharing *sharing);

/* Looks for the master and asks it, if it is time to. */
void sharing_run(Sharing *sharing, const Moment *now);

/* QUESTION, that the master was asked, is answered: with SHARE, or NULL for no answer. */
void sharing_answered(Sharing *sharing, unsigned question, const WorkerSet *share, const Moment *now);

/* QUEUE (emptied) asks for its share; WHOM is answered, as the hands' ASKER, now or after a look. -EBUSY: too
 * many wait. -ENOMEM.
 */
int sharing_ask(Sharing *sharing, void *whom, SharingQueue *queue, const Moment *now);

/* WHOM waits no longer. */
void sharing_forget_asker(Sharing *sharing, const void *whom);

/* The workers that this queue has are others now: it asks anew. */
void sharing_set_configured(Sharing *sharing, WorkerSet *configured, const Moment *now);

void sharing_toggle(Sharing *sharing, bool enabled, const Moment *now);

/* Whether this queue's share is known: not before it was answered for the first time. */
bool sharing_is_told(const Sharing *sharing);

/* The workers that this queue may use now. */
const WorkerSet *sharing_share(const Sharing *sharing);

bool sharing_is_master(const Sharing *sharing);

/* This queue; its strings and workers are borrowed. */
SharingQueue sharing_self(const Sharing *sharing);
