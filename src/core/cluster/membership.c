/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/cluster/membership.h"

#include <assert.h>

static usec_t earlier(usec_t a, usec_t b) {
        return a < b ? a : b;
}

static usec_t later(usec_t a, usec_t b) {
        return a > b ? a : b;
}

static void check(const Membership *membership) {
        assert(membership->ttl_usec > 0);
        assert((membership->epoch > 0) == (membership->state == MEMBERSHIP_LEADING));
        assert(membership->epoch <= membership->last_epoch);
        assert(membership->epoch == 0 || membership->epoch == membership->last_epoch);
        assert((membership->until_usec == USEC_INFINITY) ==
               (membership->state == MEMBERSHIP_FOLLOWING || membership->state == MEMBERSHIP_LEFT));
        assert(membership->state != MEMBERSHIP_LEFT || membership->sent_usec == USEC_INFINITY);
}

/* Until when it may lead by a heartbeat that was sent at SENT_USEC. */
static usec_t end_of_lead(const Membership *membership, usec_t sent_usec) {
        usec_t margin_usec = later(membership->ttl_usec / 10, MEMBERSHIP_MARGIN_USEC_MIN);
        return usec_add(sent_usec, usec_subtract(membership->ttl_usec, margin_usec));
}

static usec_t retry_usec(const Membership *membership) {
        usec_t most_usec = earlier(membership->ttl_usec / 3, MEMBERSHIP_RETRY_USEC_MAX),
               wait_usec = MEMBERSHIP_RETRY_USEC_MIN;
        for (uint64_t i = 1; i < membership->n_failures && wait_usec < most_usec; i++)
                wait_usec *= 2;
        return earlier(wait_usec, most_usec);
}

static void follow(Membership *membership) {
        membership->state = MEMBERSHIP_FOLLOWING;
        membership->epoch = 0;
        membership->until_usec = USEC_INFINITY;
}

Membership membership_begin(usec_t ttl_usec, usec_t now_usec) {
        Membership membership = { .ttl_usec = ttl_usec, .next_usec = now_usec, .sent_usec = USEC_INFINITY };
        follow(&membership);
        check(&membership);
        return membership;
}

static MembershipStep note_sent(Membership *membership, MembershipStep step, usec_t now_usec) {
        membership->sent_usec = now_usec;
        membership->is_hurried = false;
        check(membership);
        return step;
}

MembershipStep membership_step(Membership *membership, usec_t now_usec) {
        bool is_over = now_usec >= membership->until_usec;
        bool is_due = membership->sent_usec == USEC_INFINITY && now_usec >= membership->next_usec;
        switch (membership->state) {
        case MEMBERSHIP_LEADING:
                if (is_over) {
                        follow(membership);
                        membership_hurry(membership, now_usec);
                        return MEMBERSHIP_STOP_LEADING;
                }
                return is_due ? note_sent(membership, MEMBERSHIP_BEAT, now_usec) : MEMBERSHIP_WAIT;
        case MEMBERSHIP_FOLLOWING:
                return is_due ? note_sent(membership, MEMBERSHIP_BEAT, now_usec) : MEMBERSHIP_WAIT;
        case MEMBERSHIP_LEAVING:
                if (is_over) {
                        membership_left(membership);
                        return MEMBERSHIP_GONE;
                }
                return is_due ? note_sent(membership, MEMBERSHIP_SAY_GOODBYE, now_usec) : MEMBERSHIP_WAIT;
        case MEMBERSHIP_LEFT:
                break;
        }
        return MEMBERSHIP_WAIT;
}

usec_t membership_deadline(const Membership *membership) {
        bool is_under_way = membership->sent_usec != USEC_INFINITY;
        if (membership->state == MEMBERSHIP_LEFT)
                return USEC_INFINITY;
        return is_under_way ? membership->until_usec : earlier(membership->until_usec, membership->next_usec);
}

void membership_sent(Membership *membership, usec_t now_usec) {
        if (membership->sent_usec == USEC_INFINITY)
                return;
        membership->sent_usec = later(membership->sent_usec, now_usec);
}

/* When to look again after an answer to what was sent at SENT_USEC. */
static usec_t next_beat(
                const Membership *membership,
                const MembershipAnswer *answer,
                usec_t sent_usec,
                usec_t now_usec) {
        usec_t regular_usec = usec_add(sent_usec, membership->ttl_usec / 3);
        usec_t free_usec = usec_add(
                        now_usec,
                        answer->leader_left_usec > 0 ?
                                        usec_add(answer->leader_left_usec, MEMBERSHIP_LATER_USEC) :
                                        MEMBERSHIP_RETRY_USEC_MIN);
        if (membership->is_hurried)
                return now_usec;
        if (membership_may_take(membership) && free_usec < regular_usec)
                return free_usec;
        return later(regular_usec, now_usec);
}

/* The lead is this member's by the database. Under an epoch of before nothing is begun again. */
static MembershipChange take(Membership *membership, uint64_t epoch, usec_t until_usec, usec_t now_usec) {
        bool led = membership->state == MEMBERSHIP_LEADING, renewed = led && epoch == membership->epoch;
        if (now_usec < until_usec && (renewed || (!led && epoch > membership->last_epoch))) {
                membership->state = MEMBERSHIP_LEADING;
                membership->epoch = membership->last_epoch = epoch;
                membership->until_usec = until_usec;
                return led ? MEMBERSHIP_SAME : MEMBERSHIP_LEADS;
        }
        follow(membership);
        membership->is_hurried = true;
        return led ? MEMBERSHIP_LOST : MEMBERSHIP_SAME;
}

MembershipChange membership_answered(
                Membership *membership,
                const MembershipAnswer *answer,
                usec_t now_usec) {
        usec_t sent_usec = membership->sent_usec;
        bool led = membership->state == MEMBERSHIP_LEADING;
        if (sent_usec == USEC_INFINITY || (!led && membership->state != MEMBERSHIP_FOLLOWING))
                return MEMBERSHIP_SAME;
        membership->sent_usec = USEC_INFINITY;
        membership->n_failures = 0;
        MembershipChange change = led ? MEMBERSHIP_LOST : MEMBERSHIP_SAME;
        if (answer->leads)
                change = take(membership, answer->epoch, end_of_lead(membership, sent_usec), now_usec);
        else
                follow(membership);
        membership->next_usec = next_beat(membership, answer, sent_usec, now_usec);
        membership->is_hurried = false;
        check(membership);
        return change;
}

void membership_failed(Membership *membership, usec_t now_usec) {
        if (membership->state == MEMBERSHIP_LEFT)
                return;
        membership->sent_usec = USEC_INFINITY;
        membership->n_failures++;
        membership->next_usec = usec_add(now_usec, retry_usec(membership));
        check(membership);
}

void membership_hurry(Membership *membership, usec_t now_usec) {
        if (membership->sent_usec != USEC_INFINITY)
                membership->is_hurried = true;
        else if (membership->n_failures == 0) /* otherwise it comes again soon */
                membership->next_usec = earlier(membership->next_usec, now_usec);
}

void membership_drain(Membership *membership, usec_t now_usec) {
        membership->is_draining = true;
        membership_hurry(membership, now_usec);
}

/* A heartbeat that is under way stands before what is sent now, and its answer is of no interest. */
bool membership_leave(Membership *membership, usec_t now_usec) {
        bool led = membership->state == MEMBERSHIP_LEADING;
        if (membership->state == MEMBERSHIP_LEAVING || membership->state == MEMBERSHIP_LEFT)
                return false;
        membership->state = MEMBERSHIP_LEAVING;
        membership->epoch = 0;
        membership->until_usec = usec_add(
                        now_usec, earlier(membership->ttl_usec / 3, MEMBERSHIP_LEAVE_USEC_MAX));
        membership->sent_usec = USEC_INFINITY;
        membership->next_usec = now_usec;
        check(membership);
        return led;
}

void membership_left(Membership *membership) {
        membership->state = MEMBERSHIP_LEFT;
        membership->epoch = 0;
        membership->until_usec = membership->next_usec = membership->sent_usec = USEC_INFINITY;
        check(membership);
}

bool membership_may_take(const Membership *membership) {
        return membership->state == MEMBERSHIP_FOLLOWING && !membership->is_draining;
}

bool membership_may_lead(const Membership *membership, usec_t now_usec) {
        return membership->state == MEMBERSHIP_LEADING && now_usec < membership->until_usec;
}
