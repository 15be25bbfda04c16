/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/histogram.h"
#include "test.h"

static void values_fall_below_the_right_bounds(void **state) {
        Histogram histogram = {};
        histogram_observe(&histogram, 0);
        histogram_observe(&histogram, 500);
        histogram_observe(&histogram, 501);
        histogram_observe(&histogram, USEC_PER_SEC * 3600);
        assert_int_equal(histogram.counts[0], 2);
        assert_int_equal(histogram.counts[1], 1);
        assert_int_equal(histogram.counts[HISTOGRAM_BUCKETS], 1);
}

static void the_text_counts_cumulatively(void **state) {
        Histogram histogram = {};
        Text text = {};
        histogram_observe(&histogram, 400);
        histogram_observe(&histogram, 600);
        assert_int_equal(histogram_format(&histogram, "x", &text), 0);
        assert_non_null(strstr(text.data, "x_bucket{le=\"0.0005\"} 1\nx_bucket{le=\"0.001\"} 2\n"));
        assert_non_null(strstr(text.data, "x_bucket{le=\"+Inf\"} 2\nx_sum 0.001000\nx_count 2\n"));
        text_done(&text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(values_fall_below_the_right_bounds),
                cmocka_unit_test(the_text_counts_cumulatively),
        };
        return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
