/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>

#include "core/cluster/membership.h"
#include "test.h"

#define TTL_USEC (9 * USEC_PER_SEC)
#define T0_USEC  (1000 * USEC_PER_SEC)
#define NEVER    UINT64_MAX

/* What happens to a member. */
typedef enum Happening {
        STEP,   /* it is asked what to do, and says the step ARGUMENT */
        SENT,   /* what is under way was sent only now */
        LEAD,   /* answered: it leads, under the epoch ARGUMENT */
        OTHER,  /* answered: another one does, and lives for ARGUMENT ms */
        NOBODY, /* answered: nobody does */
        FAILED,
        HURRY,
        DRAIN,
        LEAVE,
        LEFT,
} Happening;

/* A line of its story: at which time after T0 it happens, and what is so afterwards. */
typedef struct Line {
        usec_t at_ms;
        Happening happening;
        uint64_t argument;
        int returned; /* a change; of LEAVE whether it led */
        MembershipState state;
        usec_t deadline_ms;
} Line;

static const MembershipState follows = MEMBERSHIP_FOLLOWING, leads = MEMBERSHIP_LEADING;

static int answer(Membership *membership, const Line *line, usec_t now_usec) {
        MembershipAnswer said = {
                .leads = line->happening == LEAD,
                .epoch = line->happening == LEAD ? line->argument : 7,
                .leader_left_usec = line->happening == LEAD ? TTL_USEC : line->argument * USEC_PER_MSEC,
        };
        return (int) membership_answered(membership, &said, now_usec);
}

static int happen(Membership *membership, const Line *line, usec_t now_usec) {
        switch (line->happening) {
        case STEP:
                return (int) membership_step(membership, now_usec) - (int) line->argument;
        case SENT:
                membership_sent(membership, now_usec);
                return 0;
        case LEAD:
        case OTHER:
        case NOBODY:
                return answer(membership, line, now_usec);
        case FAILED:
                membership_failed(membership, now_usec);
                return 0;
        case HURRY:
                membership_hurry(membership, now_usec);
                return 0;
        case DRAIN:
                membership_drain(membership, now_usec);
                return 0;
        case LEAVE:
                return membership_leave(membership, now_usec);
        case LEFT:
                membership_left(membership);
                return 0;
        }
        return -1;
}

static void tell(const Line *lines, size_t n) {
        Membership membership = membership_begin(TTL_USEC, T0_USEC);
        for (size_t i = 0; i < n; i++) {
                const Line *line = &lines[i];
                char label[32];
                (void) snprintf(label, sizeof(label), "line %zu", i + 1);
                usec_t now_usec = T0_USEC + line->at_ms * USEC_PER_MSEC;
                usec_t deadline_usec = line->deadline_ms == NEVER ?
                                USEC_INFINITY :
                                T0_USEC + line->deadline_ms * USEC_PER_MSEC;
                check_int(label, happen(&membership, line, now_usec), line->returned);
                check_int(label, membership.state, line->state);
                check_u64(label, membership_deadline(&membership), deadline_usec);
                check_true(label, membership_may_lead(&membership, now_usec) == (line->state == leads));
                check_true(label, (membership.epoch > 0) == (line->state == leads));
                check_true(label,
                           membership_may_take(&membership) ==
                                           (line->state == follows && !membership.is_draining));
        }
}

static void the_first_beat_is_due_at_once_and_takes_the_lead(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 1, STEP, MEMBERSHIP_WAIT, 0, follows, NEVER },
                { 10, LEAD, 1, MEMBERSHIP_LEADS, leads, 3000 },
                { 2999, STEP, MEMBERSHIP_WAIT, 0, leads, 3000 },
                { 3000, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 3020, LEAD, 1, MEMBERSHIP_SAME, leads, 6000 },
        };
        tell(lines, N_ELEMENTS(lines));
}

/* Connecting took its time: until when it leads counts from when the heartbeat went out. */
static void its_time_counts_from_when_the_beat_was_sent(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 500, SENT, 0, 0, follows, NEVER },
                { 2000, LEAD, 1, MEMBERSHIP_LEADS, leads, 3500 },
                { 3500, STEP, MEMBERSHIP_BEAT, 0, leads, 8600 },
                { 8599, STEP, MEMBERSHIP_WAIT, 0, leads, 8600 },
                { 8600, STEP, MEMBERSHIP_STOP_LEADING, 0, follows, NEVER },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void without_an_answer_it_stops_by_itself(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 0, LEAD, 1, MEMBERSHIP_LEADS, leads, 3000 },
                { 3000, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 5000, FAILED, 0, 0, leads, 5100 },
                { 5100, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 6000, FAILED, 0, 0, leads, 6200 },
                { 6200, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 8100, STEP, MEMBERSHIP_STOP_LEADING, 0, follows, NEVER },
                { 8100, STEP, MEMBERSHIP_WAIT, 0, follows, NEVER },
                { 8200, FAILED, 0, 0, follows, 8600 },
                { 8600, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
        };
        tell(lines, N_ELEMENTS(lines));
}

/* What it had on its way under that epoch may still arrive. */
static void it_never_leads_twice_under_one_epoch(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 0, LEAD, 4, MEMBERSHIP_LEADS, leads, 3000 },
                { 8000, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 8200, STEP, MEMBERSHIP_STOP_LEADING, 0, follows, NEVER },
                { 8300, LEAD, 4, MEMBERSHIP_SAME, follows, 8300 },
                { 8300, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 8310, LEAD, 3, MEMBERSHIP_SAME, follows, 8310 },
                { 8310, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 8320, LEAD, 5, MEMBERSHIP_LEADS, leads, 11310 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void an_answer_that_is_too_late_is_none(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 8100, LEAD, 1, MEMBERSHIP_SAME, follows, 8100 },
                { 8100, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 8200, LEAD, 2, MEMBERSHIP_LEADS, leads, 11100 },
                { 11100, STEP, MEMBERSHIP_BEAT, 0, leads, 16200 },
                { 19300, LEAD, 2, MEMBERSHIP_LOST, follows, 19300 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void another_one_leads_and_it_follows(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 10, LEAD, 1, MEMBERSHIP_LEADS, leads, 3000 },
                { 3000, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 3010, OTHER, 8000, MEMBERSHIP_LOST, follows, 6000 },
                { 6000, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 6010, OTHER, 7000, MEMBERSHIP_SAME, follows, 9000 },
                { 9000, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 9010, LEAD, 8, MEMBERSHIP_LEADS, leads, 12000 },
                { 12000, STEP, MEMBERSHIP_BEAT, 0, leads, 17100 },
                { 12010, LEAD, 9, MEMBERSHIP_LOST, follows, 12010 }, /* somebody has changed the rows */
                { 12010, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 12020, LEAD, 10, MEMBERSHIP_LEADS, leads, 15010 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void it_looks_again_when_the_leaders_time_is_over(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 10, OTHER, 2000, MEMBERSHIP_SAME, follows, 2020 },
                { 2020, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 2030, NOBODY, 0, MEMBERSHIP_SAME, follows, 2130 }, /* the lead could not be taken now */
                { 2130, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 2140, DRAIN, 0, 0, follows, NEVER },
                { 2150, OTHER, 1000, MEMBERSHIP_SAME, follows, 2150 }, /* the others are to be told */
                { 2150, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 2160, OTHER, 1000, MEMBERSHIP_SAME, follows, 5150 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void it_hurries_when_there_is_news(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 5, HURRY, 0, 0, follows, NEVER },
                { 10, OTHER, 9000, MEMBERSHIP_SAME, follows, 10 },
                { 10, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 20, OTHER, 9000, MEMBERSHIP_SAME, follows, 3010 },
                { 100, HURRY, 0, 0, follows, 100 },
                { 100, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 200, FAILED, 0, 0, follows, 300 },
                { 210, HURRY, 0, 0, follows, 300 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void it_comes_back_after_a_while_and_a_longer_one(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 0, FAILED, 0, 0, follows, 100 },
                { 100, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 100, FAILED, 0, 0, follows, 300 },
                { 300, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 300, FAILED, 0, 0, follows, 700 },
                { 700, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 700, FAILED, 0, 0, follows, 1500 },
                { 1500, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 1500, FAILED, 0, 0, follows, 2500 },
                { 2500, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 2500, FAILED, 0, 0, follows, 3500 },
                { 3500, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 3600, LEAD, 1, MEMBERSHIP_LEADS, leads, 6500 },
                { 6500, STEP, MEMBERSHIP_BEAT, 0, leads, 11600 },
                { 6500, FAILED, 0, 0, leads, 6600 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void one_that_drains_keeps_the_lead_that_it_has(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 10, LEAD, 1, MEMBERSHIP_LEADS, leads, 3000 },
                { 20, DRAIN, 0, 0, leads, 20 },
                { 20, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 30, LEAD, 1, MEMBERSHIP_SAME, leads, 3020 },
                { 3020, STEP, MEMBERSHIP_BEAT, 0, leads, 8120 },
                { 3030, OTHER, 5000, MEMBERSHIP_LOST, follows, 6020 },
                { 6020, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 6030, NOBODY, 0, MEMBERSHIP_SAME, follows, 9020 },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void one_that_has_left_never_leads_again(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 10, LEAD, 1, MEMBERSHIP_LEADS, leads, 3000 },
                { 3000, STEP, MEMBERSHIP_BEAT, 0, leads, 8100 },
                { 3005, LEAVE, 0, true, MEMBERSHIP_LEAVING, 3005 },
                { 3006, LEAD, 1, MEMBERSHIP_SAME, MEMBERSHIP_LEAVING, 3005 },
                { 3006, STEP, MEMBERSHIP_SAY_GOODBYE, 0, MEMBERSHIP_LEAVING, 4005 },
                { 3007, LEAD, 2, MEMBERSHIP_SAME, MEMBERSHIP_LEAVING, 4005 },
                { 3008, LEFT, 0, 0, MEMBERSHIP_LEFT, NEVER },
                { 3009, HURRY, 0, 0, MEMBERSHIP_LEFT, NEVER },
                { 3009, LEAD, 2, MEMBERSHIP_SAME, MEMBERSHIP_LEFT, NEVER },
                { 9999, STEP, MEMBERSHIP_WAIT, 0, MEMBERSHIP_LEFT, NEVER },
                { 9999, LEAVE, 0, false, MEMBERSHIP_LEFT, NEVER },
        };
        tell(lines, N_ELEMENTS(lines));
}

static void it_does_not_wait_long_for_its_goodbye(void **state) {
        static const Line lines[] = {
                { 0, STEP, MEMBERSHIP_BEAT, 0, follows, NEVER },
                { 1, LEAVE, 0, false, MEMBERSHIP_LEAVING, 1 },
                { 1, STEP, MEMBERSHIP_SAY_GOODBYE, 0, MEMBERSHIP_LEAVING, 1001 },
                { 500, FAILED, 0, 0, MEMBERSHIP_LEAVING, 600 },
                { 600, STEP, MEMBERSHIP_SAY_GOODBYE, 0, MEMBERSHIP_LEAVING, 1001 },
                { 1000, STEP, MEMBERSHIP_WAIT, 0, MEMBERSHIP_LEAVING, 1001 },
                { 1001, STEP, MEMBERSHIP_GONE, 0, MEMBERSHIP_LEFT, NEVER },
                { 1001, STEP, MEMBERSHIP_WAIT, 0, MEMBERSHIP_LEFT, NEVER },
                { 1002, FAILED, 0, 0, MEMBERSHIP_LEFT, NEVER },
        };
        tell(lines, N_ELEMENTS(lines));
}

/* Whatever the ttl: it beats more than once in the time that it may lead, and stops before its row expires.
 */
static void the_margin_fits_every_ttl(void **state) {
        for (usec_t ttl_sec = 1; ttl_sec <= 300; ttl_sec++) {
                usec_t ttl_usec = ttl_sec * USEC_PER_SEC;
                MembershipAnswer said = { .leads = true, .epoch = 1, .leader_left_usec = ttl_usec };
                Membership membership = membership_begin(ttl_usec, T0_USEC);
                assert_int_equal(membership_step(&membership, T0_USEC), MEMBERSHIP_BEAT);
                assert_int_equal(membership_answered(&membership, &said, T0_USEC), MEMBERSHIP_LEADS);
                assert_true(membership.until_usec > T0_USEC + 2 * (ttl_usec / 3));
                assert_true(membership.until_usec <= T0_USEC + ttl_usec - MEMBERSHIP_MARGIN_USEC_MIN);
                assert_true(membership_deadline(&membership) == T0_USEC + ttl_usec / 3);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_beat_is_due_at_once_and_takes_the_lead),
                cmocka_unit_test(its_time_counts_from_when_the_beat_was_sent),
                cmocka_unit_test(without_an_answer_it_stops_by_itself),
                cmocka_unit_test(it_never_leads_twice_under_one_epoch),
                cmocka_unit_test(an_answer_that_is_too_late_is_none),
                cmocka_unit_test(another_one_leads_and_it_follows),
                cmocka_unit_test(it_looks_again_when_the_leaders_time_is_over),
                cmocka_unit_test(it_hurries_when_there_is_news),
                cmocka_unit_test(it_comes_back_after_a_while_and_a_longer_one),
                cmocka_unit_test(one_that_drains_keeps_the_lead_that_it_has),
                cmocka_unit_test(one_that_has_left_never_leads_again),
                cmocka_unit_test(it_does_not_wait_long_for_its_goodbye),
                cmocka_unit_test(the_margin_fits_every_ttl),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
