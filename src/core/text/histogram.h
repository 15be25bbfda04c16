/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A Prometheus histogram of durations: cumulative counts of what took no longer than each bound. */
#pragma once

#include <stdint.h>

#include "base/text.h"
#include "base/usec.h"

#define HISTOGRAM_BUCKETS 20

typedef struct Histogram {
        uint64_t counts[HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last is for what is above all bounds */
        usec_t sum_usec;
} Histogram;

/* Bounds are 0.5 ms, 1 ms, 2 ms, … doubling, about 4 minutes at last. */
void histogram_observe(Histogram *histogram, usec_t value_usec);

/* Appends NAME_bucket{le="…"}, NAME_sum and NAME_count. -ENOMEM. */
int histogram_format(const Histogram *histogram, const char *name, Text *text);
