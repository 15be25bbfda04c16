/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The side of the queue that asks: when it asks the master for its share, and which workers it may use until
 * it hears more. May use means may try to lease; what it holds leases for and may no longer use it gives
 * back.
 *
 * With sharing it starts with no workers. No answer changes nothing: what it has it keeps until others are
 * granted it. Without sharing it may use all its workers. All times CLOCK_BOOTTIME. */
#pragma once

#include <stdbool.h>

#include "base/usec.h"
#include "core/sharing/worker-set.h"

typedef struct SharingPoll {
        bool is_enabled;
        usec_t interval_usec;
        usec_t next_usec;      /* when to ask; USEC_INFINITY while it is asking, or not enabled */
        usec_t asked_usec;     /* when it last did */
        unsigned question;     /* the one under way; 0 when none is */
        unsigned n_questions;  /* how many there were */
        bool is_outdated;      /* the one under way was asked with another set configured */
        WorkerSet *configured; /* what it ever may use */
        WorkerSet *permitted;  /* what it may use now, of those */
        bool is_told; /* that is by an answer, or without sharing, and not because it has just begun */
} SharingPoll;

/* POLL is zeroed. CONFIGURED gets a reference. -ENOMEM. sharing_poll_done() in any case. */
int sharing_poll_init(
                SharingPoll *poll,
                WorkerSet *configured,
                bool enabled,
                usec_t interval_usec,
                usec_t now_usec);
void sharing_poll_done(SharingPoll *poll);

/* Whether it is time to find the master and ask. Returns a number for the question, which is under way from
 * now on, or 0. Otherwise next_usec says when to come again. */
unsigned sharing_poll_start(SharingPoll *poll, usec_t now_usec);

/* How QUESTION ended: with SHARE, or NULL when there was no (good) answer. The answer to another question
 * than that under way (sharing was switched off and on meanwhile) counts for nothing. Returns 1 when
 * permitted is another set now, or the first one that it was told, else 0; -ENOMEM counts as no answer. */
int sharing_poll_finish(SharingPoll *poll, unsigned question, const WorkerSet *share, usec_t now_usec);

/* CONFIGURED (gets a reference) is what it ever may use from now on. What it may use now and has no more goes
 * at once; what is new is asked for at once, or as soon as the question under way is answered. Returns like
 * sharing_poll_toggle(). */
int sharing_poll_configure(SharingPoll *poll, WorkerSet *configured, usec_t now_usec);

/* There is another master: it is time to ask, unless that is under way. */
void sharing_poll_hurry(SharingPoll *poll, usec_t now_usec);

/* Switches sharing on or off (/toggleWorkersSharing). Off: all that is configured is permitted, at once, and
 * an answer that is still to come counts for nothing. On: it asks at once, and until there is an answer
 * nothing changes. Asked to do what is so already, it does nothing. Returns 1 when permitted is another set
 * now, else 0. */
int sharing_poll_toggle(SharingPoll *poll, bool enabled, usec_t now_usec);
