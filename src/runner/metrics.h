/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What GET /metrics tells, in Prometheus' text format: counters kept here, gauges read off the runner. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "core/histogram.h"
#include "core/route.h"
#include "core/task-state.h"

typedef struct Runner Runner;
typedef struct Task Task;

#define METRICS_ROUTES_MAX   32
#define METRICS_STATUSES_MAX 24

typedef struct Metrics {
        uint64_t submitted;
        uint64_t ended[_TASK_RESULT_MAX];
        uint64_t output_bytes, journal_lines_dropped;
        Histogram start_latency; /* from submission to execution */
        Histogram run_time;
        uint64_t requests[METRICS_ROUTES_MAX][METRICS_STATUSES_MAX];
} Metrics;

void metrics_count_submitted(Metrics *metrics);
void metrics_count_started(Metrics *metrics, const Task *task);
void metrics_count_ended(Metrics *metrics, const Task *task);

/* ROUTE is the place of a route in the table that metrics_format() is given, or the one after the last for
 * requests that matched none. */
void metrics_count_request(Metrics *metrics, size_t route, int status);

/* Appends everything; ROUTES are what requests are counted by. -ENOMEM. */
int metrics_format(const Runner *runner, const Route *routes, size_t n_routes, Text *text);
