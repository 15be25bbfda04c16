/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The part of one member in a queue on several hosts: when it tells the database that it lives, and how long
 * it may act as the one that leads. It is told what was answered and what time it is, and says what to do.
 *
 * A member sends a heartbeat every third of the ttl, which says until when it counts as living, by the
 * database's clock: for one ttl from when the database took it. That is never before it was sent, so that by
 * the member's own clock nobody else can lead until a ttl after it was sent. It stops leading by itself a
 * margin earlier, for clocks that do not run equally fast and for what it has begun then. A database whose
 * clock is set forward lets another member lead too early: that one's epoch keeps the first one from writing.
 *
 * Each time that a member begins to lead, it does so under a higher epoch than whoever led before, itself
 * included: what it had on its way when it stopped cannot be told from another's then, and is kept out as
 * that is.
 *
 * A heartbeat takes the lead where nobody has it who lives. Those who follow know from each answer how long
 * the one that leads has left, and look again when that is over. All times are CLOCK_BOOTTIME. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/usec.h"

#define MEMBERSHIP_MARGIN_USEC_MIN (300 * USEC_PER_MSEC)
#define MEMBERSHIP_RETRY_USEC_MIN  (100 * USEC_PER_MSEC)
#define MEMBERSHIP_RETRY_USEC_MAX  (1 * USEC_PER_SEC)
#define MEMBERSHIP_LEAVE_USEC_MAX  (1 * USEC_PER_SEC)   /* afterwards the others are left to find out */
#define MEMBERSHIP_LATER_USEC      (10 * USEC_PER_MSEC) /* than the end of another's time: look again */

typedef enum MembershipState {
        MEMBERSHIP_FOLLOWING, /* another one leads, or none, or it is not known */
        MEMBERSHIP_LEADING,
        MEMBERSHIP_LEAVING, /* it never leads again, and the database is to be told */
        MEMBERSHIP_LEFT,
} MembershipState;

typedef struct Membership {
        usec_t ttl_usec;
        MembershipState state;
        uint64_t epoch;      /* under which it leads; 0: it does not */
        uint64_t last_epoch; /* under which it did last; 0: never */
        usec_t until_usec;   /* when it stops leading, or counts as having left; USEC_INFINITY: neither */
        usec_t next_usec;    /* when to send what is due, if nothing is under way */
        usec_t sent_usec;    /* of what is under way; USEC_INFINITY: nothing is */
        bool is_hurried;     /* there is reason for another heartbeat as soon as this one is answered */
        bool is_draining;    /* it does not take the lead; if it has it, it keeps it */
        uint64_t n_failures; /* in a row */
} Membership;

typedef enum MembershipStep {
        MEMBERSHIP_WAIT,         /* until membership_deadline() */
        MEMBERSHIP_BEAT,         /* send a heartbeat; counts as under way from now on */
        MEMBERSHIP_STOP_LEADING, /* it could not renew in time; it follows now */
        MEMBERSHIP_SAY_GOODBYE,  /* tell that it has left; counts as under way from now on */
        MEMBERSHIP_GONE,         /* it has left, but the database may not know; once */
} MembershipStep;

/* What the database says to a heartbeat. */
typedef struct MembershipAnswer {
        bool leads;              /* this member does */
        uint64_t epoch;          /* of whoever leads, or led last */
        usec_t leader_left_usec; /* how long whoever leads counts as living; 0: nobody leads who does */
} MembershipAnswer;

typedef enum MembershipChange {
        MEMBERSHIP_SAME,
        MEMBERSHIP_LEADS, /* from now on */
        MEMBERSHIP_LOST,  /* it led until now, and does not any more */
} MembershipChange;

/* It follows, and its first heartbeat is due. */
Membership membership_begin(usec_t ttl_usec, usec_t now_usec);

/* What to do now; to be asked again until it says MEMBERSHIP_WAIT. Each thing that is under way is to be told
 * the end of, by what comes after the next function. */
MembershipStep membership_step(Membership *membership, usec_t now_usec);

/* When to ask again. */
usec_t membership_deadline(const Membership *membership);

/* What is under way was in fact sent NOW: the database had to be connected to before. */
void membership_sent(Membership *membership, usec_t now_usec);

/* The heartbeat that was under way was answered. */
MembershipChange membership_answered(Membership *membership, const MembershipAnswer *answer, usec_t now_usec);

/* What was under way had no answer, and will not have one; the database may have it nevertheless. */
void membership_failed(Membership *membership, usec_t now_usec);

/* Something has happened that is worth a heartbeat: the lead may be free, or another member has it. */
void membership_hurry(Membership *membership, usec_t now_usec);

/* It is about to end: it does not take the lead any more. */
void membership_drain(Membership *membership, usec_t now_usec);

/* It ends. What is under way may be left to itself. Returns whether it led. */
bool membership_leave(Membership *membership, usec_t now_usec);

/* The database knows that it has left. */
void membership_left(Membership *membership);

/* Whether a heartbeat that is sent now may take the lead. */
bool membership_may_take(const Membership *membership);

/* Whether it leads, and nobody else can yet. */
bool membership_may_lead(const Membership *membership, usec_t now_usec);
