/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/store/result-clock.h"

static usec_t min_usec(usec_t a, usec_t b) {
        return a < b ? a : b;
}

/* Results that came after the last reading that is on disk tell the time better, but no later time than was
 * possible: they may be older than this clock. */
static usec_t go_on(usec_t stored_usec, usec_t newest_usec) {
        usec_t latest_usec = usec_add(stored_usec, RESULT_CLOCK_STORE_USEC);
        usec_t known_usec = min_usec(newest_usec, latest_usec);
        return known_usec > stored_usec ? known_usec : stored_usec;
}

void result_clock_start(
                ResultClock *clock,
                usec_t stored_usec,
                usec_t newest_usec,
                usec_t realtime_usec,
                usec_t boottime_usec) {
        usec_t start_usec = stored_usec > 0 ? go_on(stored_usec, newest_usec) :
                        newest_usec > 0     ? min_usec(newest_usec, realtime_usec) :
                                              realtime_usec;
        *clock = (ResultClock) {
                .start_usec = start_usec,
                .start_boottime_usec = boottime_usec,
                .stored_usec = stored_usec,
        };
}

usec_t result_clock_now(const ResultClock *clock, usec_t boottime_usec) {
        return usec_add(clock->start_usec, usec_subtract(boottime_usec, clock->start_boottime_usec));
}

bool result_clock_is_due(const ResultClock *clock, usec_t boottime_usec) {
        return clock->stored_usec == 0 ||
                        result_clock_now(clock, boottime_usec) >=
                        usec_add(clock->stored_usec, RESULT_CLOCK_STORE_USEC);
}
