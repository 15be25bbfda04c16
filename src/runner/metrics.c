/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/metrics.h"

#include <inttypes.h>

#include "core/text/metrics-text.h"
#include "runner/runner.h"
#include "runner/task.h"

void metrics_count_submitted(Metrics *metrics) {
        metrics->submitted++;
}

void metrics_count_started(Metrics *metrics, const Task *task) {
        histogram_observe(
                        &metrics->start_latency,
                        usec_subtract(task->start_boottime_usec, task->waiting.since_usec));
}

static uint64_t bytes_written(const Capture *capture) {
        return capture ? capture_store(capture)->bytes_total : 0;
}

void metrics_count_ended(Metrics *metrics, const Task *task) {
        metrics->ended[task->result]++;
        metrics->output_bytes += bytes_written(task->output) + bytes_written(task->error);
        metrics->journal_lines_dropped += task->journal.rate.n_dropped;
        if (task->start_boottime_usec > 0)
                histogram_observe(
                                &metrics->run_time,
                                usec_subtract(task->stop_boottime_usec, task->start_boottime_usec));
}

static int format_resources(Text *text, const char *name, const char *help, const Resources *resources) {
        int r = metrics_text_head(text, name, "gauge", help);
        if (r >= 0)
                r = text_appendf(
                                text,
                                "%s{resource=\"cores\"} %.6g\n%s{resource=\"memory_mb\"} %" PRIu64 "\n",
                                name,
                                (double) resources->cores_micro / (double) CORES_MICRO_PER_CORE,
                                name,
                                resources->memory_mb);
        for (size_t i = 0; r >= 0 && i < resources->n_named; i++)
                r = text_appendf(
                                text,
                                "%s{resource=\"%s\"} %" PRIu64 "\n",
                                name,
                                resources->named[i].name,
                                resources->named[i].amount);
        return r;
}

static int format_tasks(const Runner *runner, Text *text) {
        const Metrics *metrics = &runner->metrics;
        size_t n_queued = runner->waiting.n_entries;
        size_t n_live = runner->tasks.n_tasks - runner->tasks.n_finished;
        int r = metrics_text_head(text, "daggyr_tasks", "gauge", "Tasks the runner knows, by state.");
        if (r >= 0)
                r = text_appendf(
                                text,
                                "daggyr_tasks{state=\"queued\"} %zu\ndaggyr_tasks{state=\"running\"} %zu\n"
                                "daggyr_tasks{state=\"finished\"} %zu\n",
                                n_queued,
                                n_live - n_queued,
                                runner->tasks.n_finished);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_tasks_submitted_total",
                                "counter",
                                "Tasks accepted.",
                                (double) metrics->submitted);
        if (r >= 0)
                r = metrics_text_head(
                                text, "daggyr_tasks_ended_total", "counter", "Tasks that ended, by result.");
        for (int result = TASK_RESULT_NONE + 1; r >= 0 && result < _TASK_RESULT_MAX; result++)
                r = text_appendf(
                                text,
                                "daggyr_tasks_ended_total{result=\"%s\"} %" PRIu64 "\n",
                                task_result_to_string((TaskResult) result),
                                metrics->ended[result]);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_tasks_unkillable",
                                "gauge",
                                "Tasks that wait for processes which SIGKILL does not end.",
                                (double) metrics->unkillable);
        return r;
}

static int format_pressure(const MemoryPressure *pressure, Text *text) {
        int r = 0;
        if (pressure->is_known)
                r = metrics_text_single(
                                text,
                                "daggyr_memory_pressure_ratio",
                                "gauge",
                                "Share of the last 10 s in which a task stood still for memory.",
                                pressure->percent / 100);
        return r < 0 ? r :
                       metrics_text_single(
                                       text,
                                       "daggyr_starts_held",
                                       "gauge",
                                       "1 while tasks wait for the memory pressure to go down.",
                                       pressure->is_holding);
}

static int format_durations(const Metrics *metrics, Text *text) {
        int r = metrics_text_head(
                        text, "daggyr_task_start_seconds", "histogram", "Time from submission to execution.");
        if (r >= 0)
                r = histogram_format(&metrics->start_latency, "daggyr_task_start_seconds", text);
        if (r >= 0)
                r = metrics_text_head(
                                text,
                                "daggyr_task_run_seconds",
                                "histogram",
                                "Time from execution to the end of the last process.");
        if (r >= 0)
                r = histogram_format(&metrics->run_time, "daggyr_task_run_seconds", text);
        return r;
}

static int format_process(const Runner *runner, Text *text) {
        const Metrics *metrics = &runner->metrics;
        int r = metrics_text_single(
                        text,
                        "daggyr_output_bytes_total",
                        "counter",
                        "Bytes that ended tasks wrote to stdout and stderr.",
                        (double) metrics->output_bytes);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_journal_lines_dropped_total",
                                "counter",
                                "Lines of output that were not passed on to the journal.",
                                (double) metrics->journal_lines_dropped);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_http_connections",
                                "gauge",
                                "Open connections.",
                                http_server_n_connections(runner->daemon.http));
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_bus_reconnects_total",
                                "counter",
                                "Times the connection to systemd was made anew.",
                                (double) (metrics->bus_reconnects_before +
                                          systemd1_n_reconnects(runner->systemd1)));
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_draining",
                                "gauge",
                                "1 while no new tasks are started.",
                                runner_is_draining(runner));
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                "daggyr_leased",
                                "gauge",
                                "1 while a queue holds the lease.",
                                lease_is_live(&runner->lease, usec_now(CLOCK_BOOTTIME)));
        return r;
}

int metrics_format(const Runner *runner, Text *text) {
        Resources free_amounts;
        capacity_pool_free_amounts(&runner->pool, &free_amounts);
        int r = format_tasks(runner, text);
        if (r >= 0)
                r = format_resources(text, "daggyr_capacity", "What the runner has.", &runner->pool.total);
        if (r >= 0)
                r = format_resources(text, "daggyr_capacity_free", "What of it no task has.", &free_amounts);
        if (r >= 0)
                r = format_pressure(&runner->pressure_watch.pressure, text);
        if (r >= 0)
                r = format_durations(&runner->metrics, text);
        return r < 0 ? r : format_process(runner, text);
}
