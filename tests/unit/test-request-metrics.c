/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/request-metrics.h"
#include "core/text/metrics-text.h"
#include "fail-alloc.h"
#include "test.h"

static const Route routes[] = {
        { "GET", "/ready", 0 },
        { "GET", "/task/{id}", 1 },
        { "POST", "/task/{id}", 2 },
};

static void requests_are_counted_by_route_and_status(void **state) {
        RequestMetrics metrics;
        Text text = {};

        assert_int_equal(request_metrics_init(&metrics, routes, N_ELEMENTS(routes)), 0);
        request_metrics_count(&metrics, &routes[2], 202);
        request_metrics_count(&metrics, &routes[2], 202);
        request_metrics_count(&metrics, &routes[2], 503);
        request_metrics_count(&metrics, &routes[0], 299);
        request_metrics_count(&metrics, NULL, 404);
        assert_int_equal(request_metrics_format(&metrics, "x", &text), 0);
        assert_string_equal(
                        text.data,
                        "# HELP x_http_requests_total Requests answered, by route and status.\n"
                        "# TYPE x_http_requests_total counter\n"
                        "x_http_requests_total{method=\"GET\",route=\"/ready\",status=\"other\"} 1\n"
                        "x_http_requests_total{method=\"POST\",route=\"/task/{id}\",status=\"202\"} 2\n"
                        "x_http_requests_total{method=\"POST\",route=\"/task/{id}\",status=\"503\"} 1\n"
                        "x_http_requests_total{method=\"none\",route=\"none\",status=\"404\"} 1\n");
        text_done(&text);
        request_metrics_done(&metrics);
}

static void single_values_are_exact(void **state) {
        Text text = {};

        assert_int_equal(metrics_text_single(&text, "x_total", "counter", "All x.", 9007199254740991.0), 0);
        assert_string_equal(
                        text.data,
                        "# HELP x_total All x.\n# TYPE x_total counter\nx_total 9007199254740991\n");
        text_done(&text);
}

static int try_format(void *userdata) {
        RequestMetrics metrics;
        Text text = {};

        int r = request_metrics_init(&metrics, routes, N_ELEMENTS(routes));
        if (r >= 0) {
                request_metrics_count(&metrics, &routes[1], 200);
                r = request_metrics_format(&metrics, "x", &text);
        }
        text_done(&text);
        request_metrics_done(&metrics);
        return r;
}

static void failing_allocations_are_reported(void **state) {
        fail_alloc_loop(try_format, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_are_counted_by_route_and_status),
                cmocka_unit_test(single_values_are_exact),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("request-metrics", tests, NULL, NULL);
}
