/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Points in time and spans, always in microseconds, always unsigned. USEC_INFINITY means never. */
#pragma once

#include <stdint.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_INFINITY UINT64_MAX
#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

/* "2026-11-21T22:12:00.000001Z" and its NUL; years up to 9999. */
#define USEC_RFC3339_SIZE sizeof("2026-11-21T22:12:00.000001Z")

/* Now, by the two clocks: what is compared, and what is kept and shown. */
typedef struct Moment {
        usec_t boottime_usec, realtime_usec;
} Moment;

/* The clock's present reading. CLOCK_BOOTTIME for everything that is compared, CLOCK_REALTIME for
 * what is shown to people. */
usec_t usec_now(clockid_t clock);

/* a + b, or USEC_INFINITY where that would overflow or either already is infinite. */
usec_t usec_add(usec_t a, usec_t b);

/* a - b, or 0 where b is later; infinity minus anything finite stays infinite. */
usec_t usec_subtract(usec_t a, usec_t b);

/* Converts a number of seconds, as clients give them, to microseconds, rounded to the nearest.
 * -ERANGE when SECONDS is negative, not finite, or above SECONDS_MAX. */
int usec_from_seconds(double seconds, double seconds_max, usec_t *ret);

/* Writes the wall clock time REALTIME_USEC as RFC 3339 UTC with six fraction digits and "Z". */
void usec_format_rfc3339(usec_t realtime_usec, char buffer[static USEC_RFC3339_SIZE]);
