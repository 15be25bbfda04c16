/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/usec.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The last second of the year 9999, and of what four digits can say. */
#define REALTIME_SEC_MAX UINT64_C(253402300799)

/* Some 30 000 years: keeps the product below within 64 bits. */
#define SECONDS_LIMIT 1e12

usec_t usec_now(clockid_t clock) {
        struct timespec now;

        int r = clock_gettime(clock, &now);
        assert(r == 0);

        return (usec_t) now.tv_sec * USEC_PER_SEC + (usec_t) now.tv_nsec / 1000;
}

usec_t usec_add(usec_t a, usec_t b) {
        usec_t sum;

        return __builtin_add_overflow(a, b, &sum) ? USEC_INFINITY : sum;
}

usec_t usec_subtract(usec_t a, usec_t b) {
        if (b == USEC_INFINITY)
                return 0;
        if (a == USEC_INFINITY)
                return USEC_INFINITY;
        return a > b ? a - b : 0;
}

int usec_from_seconds(double seconds, double seconds_max, usec_t *ret) {
        /* Written so that NaN fails it. */
        if (!(seconds >= 0 && seconds <= seconds_max && seconds <= SECONDS_LIMIT))
                return -ERANGE;

        uint64_t whole = (uint64_t) seconds;
        *ret = whole * USEC_PER_SEC + (usec_t) ((seconds - (double) whole) * (double) USEC_PER_SEC + 0.5);
        return 0;
}

void usec_format_rfc3339(usec_t realtime_usec, char buffer[static USEC_RFC3339_SIZE]) {
        time_t seconds = (time_t) (realtime_usec / USEC_PER_SEC);
        unsigned fraction = (unsigned) (realtime_usec % USEC_PER_SEC);
        struct tm tm = {};

        if (realtime_usec / USEC_PER_SEC > REALTIME_SEC_MAX) {
                seconds = (time_t) REALTIME_SEC_MAX;
                fraction = USEC_PER_SEC - 1;
        }

        (void) gmtime_r(&seconds, &tm);
        size_t n = strftime(buffer, USEC_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
        assert(n == strlen("2026-11-21T22:12:00"));
        (void) snprintf(buffer + n, USEC_RFC3339_SIZE - n, ".%06uZ", fraction);
}
