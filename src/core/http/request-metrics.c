/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/request-metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "core/text/metrics-text.h"

/* What our servers answer with; the place after the last is for anything else. */
static const int statuses[] = {
        200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 423, 429, 503,
};

#define N_STATUSES (sizeof(statuses) / sizeof(*statuses))
static_assert(N_STATUSES < REQUEST_STATUSES_MAX, "no place for other statuses");

int request_metrics_init(RequestMetrics *metrics, const Route *routes, size_t n_routes) {
        *metrics = (RequestMetrics) {
                .routes = routes,
                .n_routes = n_routes,
                .counts = calloc(n_routes + 1, sizeof(*metrics->counts)),
        };
        return metrics->counts ? 0 : -ENOMEM;
}

void request_metrics_done(RequestMetrics *metrics) {
        free(metrics->counts);
        *metrics = (RequestMetrics) {};
}

void request_metrics_count(RequestMetrics *metrics, const Route *route, int status) {
        size_t row = route ? (size_t) (route - metrics->routes) : metrics->n_routes, i = 0;
        assert(row <= metrics->n_routes);
        while (i < N_STATUSES && statuses[i] != status)
                i++;
        metrics->counts[row][i]++;
}

static int format_row(const RequestMetrics *metrics, size_t row, const char *name, Text *text) {
        const Route *route = row < metrics->n_routes ? &metrics->routes[row] : NULL;
        int r = 0;
        for (size_t i = 0; r >= 0 && i <= N_STATUSES; i++) {
                if (metrics->counts[row][i] == 0)
                        continue;
                r = text_appendf(
                                text,
                                "%s{method=\"%s\",route=\"%s\",status=\"",
                                name,
                                route ? route->method : "none",
                                route ? route->pattern : "none");
                if (r >= 0)
                        r = i < N_STATUSES ? text_appendf(text, "%d", statuses[i]) :
                                             text_append(text, "other");
                if (r >= 0)
                        r = text_appendf(text, "\"} %" PRIu64 "\n", metrics->counts[row][i]);
        }
        return r;
}

int request_metrics_format(const RequestMetrics *metrics, const char *program, Text *text) {
        _cleanup_(text_done) Text name = {};
        int r = text_appendf(&name, "%s_http_requests_total", program);
        if (r >= 0)
                r = metrics_text_head(text, name.data, "counter", "Requests answered, by route and status.");
        for (size_t row = 0; r >= 0 && row <= metrics->n_routes; row++)
                r = format_row(metrics, row, name.data, text);
        return r;
}
