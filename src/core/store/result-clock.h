/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The clock by which results grow old. It goes on while the queue runs, and stands while the queue does not:
 * how long that was, only the wall clock could tell, and one that is ahead for a moment would make all
 * results too old at once, and one that was set back would make the newest ones the oldest. Its readings look
 * like CLOCK_REALTIME, where it began, but are compared only with each other. */
#pragma once

#include <stdbool.h>

#include "base/usec.h"

/* How often a reading goes to disk. So much is forgotten of an age at most, when the queue is started anew.
 */
#define RESULT_CLOCK_STORE_USEC (600 * USEC_PER_SEC)

typedef struct ResultClock {
        usec_t start_usec;          /* what it showed … */
        usec_t start_boottime_usec; /* … at this time */
        usec_t stored_usec;         /* the last reading on disk; 0: none */
} ResultClock;

/* STORED_USEC is the last reading on disk, 0: none, as with a store of an earlier version. NEWEST_USEC is
 * when the last result that is kept came by this clock, or by the wall clock in such a store; 0: there is
 * none. */
void result_clock_start(
                ResultClock *clock,
                usec_t stored_usec,
                usec_t newest_usec,
                usec_t realtime_usec,
                usec_t boottime_usec);

usec_t result_clock_now(const ResultClock *clock, usec_t boottime_usec);

/* Whether it is time for its reading to be stored; what is stored is noted in stored_usec. */
bool result_clock_is_due(const ResultClock *clock, usec_t boottime_usec);
