/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/histogram.h"

#include <inttypes.h>

#define FIRST_BOUND_USEC UINT64_C(500)

static usec_t bound_usec(unsigned bucket) {
        return FIRST_BOUND_USEC << bucket;
}

void histogram_observe(Histogram *histogram, usec_t value_usec) {
        unsigned bucket = 0;
        while (bucket < HISTOGRAM_BUCKETS && value_usec > bound_usec(bucket))
                bucket++;
        histogram->counts[bucket]++;
        histogram->sum_usec = usec_add(histogram->sum_usec, value_usec);
}

static double seconds(usec_t usec) {
        return (double) usec / (double) USEC_PER_SEC;
}

int histogram_format(const Histogram *histogram, const char *name, Text *text) {
        uint64_t total = 0;
        int r = 0;
        for (unsigned bucket = 0; r >= 0 && bucket < HISTOGRAM_BUCKETS; bucket++) {
                total += histogram->counts[bucket];
                r = text_appendf(
                                text,
                                "%s_bucket{le=\"%g\"} %" PRIu64 "\n",
                                name,
                                seconds(bound_usec(bucket)),
                                total);
        }
        total += histogram->counts[HISTOGRAM_BUCKETS];
        if (r >= 0)
                r = text_appendf(
                                text,
                                "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n",
                                name,
                                total,
                                name,
                                seconds(histogram->sum_usec),
                                name,
                                total);
        return r;
}
