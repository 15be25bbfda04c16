/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/upgrade/saved-values.h"
#include "io/loop.h"
#include "runner/runner.h"
#include "runner/task.h"
#include "runner/upgrade.h"

static RecordBytes bytes_of(const Text *text) {
        return (RecordBytes) { text->data, text->size };
}

static int save_capture(const Capture *capture, RecordList *ret) {
        int r = record_list_new(ret, capture ? 1 : 0, sizeof(SavedCapture));
        if (r >= 0 && capture)
                *(SavedCapture *) ret->items = capture_save(capture);
        return r;
}

static int save_leader(const LeaderProcess *leader, RecordList *ret) {
        int r = record_list_new(ret, leader ? 1 : 0, sizeof(SavedLeader));
        if (r >= 0 && leader)
                *(SavedLeader *) ret->items = leader_process_save(leader);
        return r;
}

static int save_devices(const DeviceGrant *grant, RecordList *ret) {
        int r = record_list_new(ret, grant ? 1 : 0, sizeof(SavedGrant));
        return r >= 0 && grant ? saved_grant_from(grant, ret->items) : r;
}

static SavedEnd save_end(const TaskEnd *end) {
        return (SavedEnd) {
                .stop = end->stop,
                .admitted = end->admitted,
                .main_exited = end->main_exited,
                .core_dumped = end->core_dumped,
                .start_error = end->start_error,
                .exec_error = end->exec_error,
                .exit_code = end->exit_code,
                .signal = end->signal,
                .oom_kills = end->oom_kills,
        };
}

static SavedUsage save_usage(const TaskUsage *usage) {
        return (SavedUsage) {
                .cpu_usec = usage->cpu_usec,
                .memory_peak_bytes = usage->memory_peak_bytes,
                .io_read_bytes = usage->io_read_bytes,
                .io_write_bytes = usage->io_write_bytes,
                .tasks_peak = usage->tasks_peak,
        };
}

static SavedJournal save_journal(const TaskJournal *journal) {
        return (SavedJournal) {
                .output = bytes_of(&journal->output.partial),
                .error = bytes_of(&journal->error.partial),
                .interval_start_usec = journal->rate.interval_start_usec,
                .n_lines = journal->rate.n_lines,
                .n_bytes = journal->rate.n_bytes,
                .n_dropped = journal->rate.n_dropped,
        };
}

static int save_task(const Task *task, SavedTask *ret) {
        *ret = (SavedTask) {
                .queue = task->queue,
                .lease_epoch = task->lease_epoch,
                .sequence = task->sequence,
                .state = task->state,
                .result = task->result,
                .end = save_end(&task->end),
                .usage = save_usage(&task->usage),
                .submit_usec = task->submit_usec,
                .start_usec = task->start_usec,
                .stop_usec = task->stop_usec,
                .submit_boottime_usec = task->submit_boottime_usec,
                .start_boottime_usec = task->start_boottime_usec,
                .stop_boottime_usec = task->stop_boottime_usec,
                .waiting_since_usec = task->waiting.since_usec,
                .scope = task->scope,
                .scope_asked = task->scope_call != NULL,
                .scope_call_id = task->scope_call ?
                                task_scopes_call_id(task->runner->scopes, task->scope_call) :
                                0,
                .scope_taken_until_usec = task->scope_taken_until_usec,
                .start_attempts = task->start_attempts,
                .journal = save_journal(&task->journal),
                .shutdown_asked = task->shutdown_asked || task->shutdown_question,
                .timeout_usec = loop_timer_usec(task->timeout_source),
                .scope_retry_usec = loop_timer_usec(task->scope_source),
                .slow_usec = loop_timer_usec(task->slow_source),
                .overdue_usec = loop_timer_usec(task->overdue_source),
                .remains_usec = loop_timer_usec(task->remains_source),
                .remains_interval_usec = task->remains_interval_usec,
                .killed_usec = task->killed_usec,
                .unkillable = task->unkillable,
                .told = task->told,
        };
        int r = saved_spec_from(task->spec, &ret->spec);
        if (r >= 0)
                r = saved_strings_from((char *const *) task->notes, &ret->notes);
        if (r >= 0)
                r = save_leader(task->leader, &ret->leader);
        if (r >= 0)
                r = save_devices(task->devices, &ret->devices);
        if (r >= 0)
                r = save_capture(task->output, &ret->output);
        return r < 0 ? r : save_capture(task->error, &ret->error);
}

/* A number for each that is finished, in their order; the tasks' numbers of submission lead to their places.
 */
static void number_finished(const Runner *runner, const RecordList *saved) {
        SavedTask *tasks = saved->items;
        uint64_t order = 0;
        for (const Task *task = runner->tasks.oldest_finished; task; task = task->next_finished) {
                size_t low = 0, high = saved->n;
                while (high - low > 1) {
                        size_t middle = low + (high - low) / 2;
                        if (tasks[middle].sequence <= task->sequence)
                                low = middle;
                        else
                                high = middle;
                }
                tasks[low].finish_order = ++order;
        }
}

static int save_tasks(const Runner *runner, RecordList *ret) {
        int r = record_list_new(ret, runner->tasks.n_tasks, sizeof(SavedTask));
        SavedTask *saved = ret->items;
        for (const Task *task = runner->tasks.first; r >= 0 && task; task = task->next)
                r = save_task(task, saved++);
        if (r >= 0)
                number_finished(runner, ret);
        return r;
}

static int save_metrics(const Runner *runner, SavedMetrics *ret) {
        const Metrics *metrics = &runner->metrics;
        *ret = (SavedMetrics) {
                .submitted = metrics->submitted,
                .output_bytes = metrics->output_bytes,
                .journal_lines_dropped = metrics->journal_lines_dropped,
                .bus_reconnects = metrics->bus_reconnects_before + systemd1_n_reconnects(runner->systemd1),
        };
        int r = record_list_new(&ret->ended, _TASK_RESULT_MAX, sizeof(SavedCount));
        SavedCount *ended = ret->ended.items;
        for (size_t i = 0; r >= 0 && i < _TASK_RESULT_MAX; i++)
                ended[i].count = metrics->ended[i];
        if (r >= 0)
                r = saved_histogram_from(&metrics->start_latency, &ret->start_latency);
        if (r >= 0)
                r = saved_histogram_from(&metrics->run_time, &ret->run_time);
        return r < 0 ? r : router_save_metrics(runner->daemon.router, &ret->requests);
}

static int save_listeners(const HttpServer *server, RecordList *ret) {
        size_t n = 0;
        while (http_server_listener(server, n) >= 0)
                n++;
        int r = record_list_new(ret, n, sizeof(SavedListener));
        SavedListener *listeners = ret->items;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                int fd = http_server_listener(server, i);
                listeners[i] = (SavedListener) { .fd = fd, .is_local = http_socket_is_local(fd) };
        }
        return r;
}

static int save_lease_entries(const LeaseJournal *journal, RecordList *ret) {
        int r = record_list_new(ret, journal->n_entries, sizeof(SavedEntry));
        SavedEntry *entries = ret->items;
        for (size_t i = 0; r >= 0 && i < ret->n; i++)
                entries[i].bytes = bytes_of(&journal->entries[i]);
        return r;
}

int runner_save(const Runner *runner, RunnerState *ret) {
        *ret = (RunnerState) {
                .program_version = VERSION,
                .leader_protocol = LEADER_PROTOCOL,
                .instance_id = runner->facts.instance_id,
                .revision = runner->pool.revision,
                .told_revision = runner->told_revision,
                .slice_cpus = runner->slice_limits.cpus,
                .slice_cpu_quota_usec = runner->slice_limits.cpu_quota_usec,
                .slice_memory_max_bytes = runner->slice_limits.memory_max_bytes,
                .draining = runner->daemon.draining,
                .port = runner->daemon.port,
                .own_unit = own_unit_name(runner->own_unit),
                .own_unit_is_service = own_unit_is_service(runner->own_unit),
                .oom_explained = runner->oom_watch.n_explained,
                .shortage_told_usec = runner->shortage_told_usec,
                .pressure_holding = runner->pressure_watch.pressure.is_holding,
                .pressure_told_usec = runner->pressure_watch.told_usec,
                .lease = saved_lease_from(&runner->lease),
                .lease_told = saved_lease_from(&runner->lease_journal.told),
                .spawner = spawner_save(runner->spawner),
                .broker = task_scopes_save(runner->scopes),
                .next_sequence = runner->tasks.next_sequence,
        };
        int r = saved_resources_from(&runner->pool.total, &ret->total);
        if (r >= 0)
                r = save_lease_entries(&runner->lease_journal, &ret->lease_entries);
        if (r >= 0)
                r = event_stream_save(runner->daemon.events, &ret->events);
        if (r >= 0)
                r = save_metrics(runner, &ret->metrics);
        if (r >= 0)
                r = save_listeners(runner->daemon.http, &ret->listeners);
        return r < 0 ? r : save_tasks(runner, &ret->tasks);
}
