/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How many requests were answered, by route and status. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "core/http/route.h"

#define REQUEST_STATUSES_MAX 24

typedef struct RequestMetrics {
        const Route *routes; /* weak */
        size_t n_routes;
        uint64_t (*counts)[REQUEST_STATUSES_MAX]; /* of each route; the last is for requests that matched none
                                                   */
} RequestMetrics;

/* ROUTES must stay. -ENOMEM. */
int request_metrics_init(RequestMetrics *metrics, const Route *routes, size_t n_routes);
void request_metrics_done(RequestMetrics *metrics);

/* ROUTE is one of the routes, or NULL when the request matched none. */
void request_metrics_count(RequestMetrics *metrics, const Route *route, int status);

/* Appends PROGRAM_http_requests_total; what is 0 is left out. -ENOMEM. */
int request_metrics_format(const RequestMetrics *metrics, const char *program, Text *text);
