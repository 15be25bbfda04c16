/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What GET /metrics tells, in Prometheus' text format: counters kept here, gauges read off the runner. */
#pragma once

#include <stdint.h>

#include "base/text.h"
#include "core/task/task-state.h"
#include "core/text/histogram.h"

typedef struct Runner Runner;
typedef struct Task Task;

typedef struct Metrics {
        uint64_t submitted;
        uint64_t ended[_TASK_RESULT_MAX];
        uint64_t unkillable; /* tasks that SIGKILL did not end, and that have not ended since */
        uint64_t output_bytes, journal_lines_dropped;
        uint64_t bus_reconnects_before; /* an upgrade in place */
        Histogram start_latency;        /* from submission to execution */
        Histogram run_time;
} Metrics;

void metrics_count_submitted(Metrics *metrics);
void metrics_count_started(Metrics *metrics, const Task *task);
void metrics_count_ended(Metrics *metrics, const Task *task);

/* Appends everything. -ENOMEM. */
int metrics_format(const Runner *runner, Text *text);
