/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/upgrade/runner-state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/event-log.h"
#include "core/scheduling/lease.h"
#include "core/task/resources.h"
#include "core/task/task-attempt.h"
#include "core/task/task-spec.h"
#include "core/task/task-state.h"
#include "core/wire/leader-protocol.h"

#define HEAD_SIZE (sizeof(RUNNER_STATE_HEAD) - 1)

/* ── the fields ── */

static const RecordType amount_type = {
        .name = "named amount",
        .size = sizeof(SavedAmount),
        .fields =
                        (const RecordField[]){
                                        { "name", RECORD_STRING, offsetof(SavedAmount, name), NULL },
                                        { "amount", RECORD_NUMBER, offsetof(SavedAmount, amount), NULL },
                                        {},
                        },
};

static const RecordType resources_type = {
        .name = "resources",
        .size = sizeof(SavedResources),
        .fields =
                        (const RecordField[]){
                                        { "cores_micro",
                                          RECORD_NUMBER,
                                          offsetof(SavedResources, cores_micro),
                                          NULL },
                                        { "memory_mb",
                                          RECORD_NUMBER,
                                          offsetof(SavedResources, memory_mb),
                                          NULL },
                                        { "named",
                                          RECORD_LIST,
                                          offsetof(SavedResources, named),
                                          &amount_type },
                                        {},
                        },
};

static const RecordType spec_type = {
        .name = "specification",
        .size = sizeof(SavedSpec),
        .fields =
                        (const RecordField[]){
                                        { "task_id", RECORD_STRING, offsetof(SavedSpec, task_id), NULL },
                                        { "working_directory",
                                          RECORD_STRING,
                                          offsetof(SavedSpec, working_directory),
                                          NULL },
                                        { "user", RECORD_STRING, offsetof(SavedSpec, user), NULL },
                                        { "standard_input",
                                          RECORD_STRING,
                                          offsetof(SavedSpec, standard_input),
                                          NULL },
                                        { "properties",
                                          RECORD_STRING,
                                          offsetof(SavedSpec, properties),
                                          NULL },
                                        { "command", RECORD_STRINGS, offsetof(SavedSpec, command), NULL },
                                        { "environment",
                                          RECORD_STRINGS,
                                          offsetof(SavedSpec, environment),
                                          NULL },
                                        { "labels", RECORD_STRINGS, offsetof(SavedSpec, labels), NULL },
                                        { "resources",
                                          RECORD_STRUCT,
                                          offsetof(SavedSpec, resources),
                                          &resources_type },
                                        { "cores_by_default",
                                          RECORD_FLAG,
                                          offsetof(SavedSpec, cores_by_default),
                                          NULL },
                                        { "memory_by_default",
                                          RECORD_FLAG,
                                          offsetof(SavedSpec, memory_by_default),
                                          NULL },
                                        { "timeout_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedSpec, timeout_usec),
                                          NULL },
                                        { "grace_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedSpec, grace_usec),
                                          NULL },
                                        { "umask", RECORD_NUMBER, offsetof(SavedSpec, umask), NULL },
                                        { "tasks_max", RECORD_NUMBER, offsetof(SavedSpec, tasks_max), NULL },
                                        { "when_full", RECORD_NUMBER, offsetof(SavedSpec, when_full), NULL },
                                        {},
                        },
};

static const RecordType end_type = {
        .name = "end",
        .size = sizeof(SavedEnd),
        .fields =
                        (const RecordField[]){
                                        { "stop", RECORD_NUMBER, offsetof(SavedEnd, stop), NULL },
                                        { "admitted", RECORD_FLAG, offsetof(SavedEnd, admitted), NULL },
                                        { "main_exited", RECORD_FLAG, offsetof(SavedEnd, main_exited), NULL },
                                        { "core_dumped", RECORD_FLAG, offsetof(SavedEnd, core_dumped), NULL },
                                        { "start_error",
                                          RECORD_INTEGER,
                                          offsetof(SavedEnd, start_error),
                                          NULL },
                                        { "exec_error",
                                          RECORD_INTEGER,
                                          offsetof(SavedEnd, exec_error),
                                          NULL },
                                        { "exit_code", RECORD_INTEGER, offsetof(SavedEnd, exit_code), NULL },
                                        { "signal", RECORD_INTEGER, offsetof(SavedEnd, signal), NULL },
                                        { "oom_kills", RECORD_NUMBER, offsetof(SavedEnd, oom_kills), NULL },
                                        {},
                        },
};

static const RecordType usage_type = {
        .name = "usage",
        .size = sizeof(SavedUsage),
        .fields =
                        (const RecordField[]){
                                        { "cpu_usec", RECORD_NUMBER, offsetof(SavedUsage, cpu_usec), NULL },
                                        { "memory_peak_bytes",
                                          RECORD_NUMBER,
                                          offsetof(SavedUsage, memory_peak_bytes),
                                          NULL },
                                        { "io_read_bytes",
                                          RECORD_NUMBER,
                                          offsetof(SavedUsage, io_read_bytes),
                                          NULL },
                                        { "io_write_bytes",
                                          RECORD_NUMBER,
                                          offsetof(SavedUsage, io_write_bytes),
                                          NULL },
                                        { "tasks_peak",
                                          RECORD_NUMBER,
                                          offsetof(SavedUsage, tasks_peak),
                                          NULL },
                                        {},
                        },
};

static const RecordType capture_type = {
        .name = "stream",
        .size = sizeof(SavedCapture),
        .fields =
                        (const RecordField[]){
                                        { "pipe_fd", RECORD_INTEGER, offsetof(SavedCapture, pipe_fd), NULL },
                                        { "file_fd", RECORD_INTEGER, offsetof(SavedCapture, file_fd), NULL },
                                        { "reading", RECORD_FLAG, offsetof(SavedCapture, reading), NULL },
                                        { "bytes_max",
                                          RECORD_NUMBER,
                                          offsetof(SavedCapture, bytes_max),
                                          NULL },
                                        { "bytes_kept",
                                          RECORD_NUMBER,
                                          offsetof(SavedCapture, bytes_kept),
                                          NULL },
                                        { "bytes_total",
                                          RECORD_NUMBER,
                                          offsetof(SavedCapture, bytes_total),
                                          NULL },
                                        { "memory", RECORD_BYTES, offsetof(SavedCapture, memory), NULL },
                                        { "error", RECORD_INTEGER, offsetof(SavedCapture, error), NULL },
                                        {},
                        },
};

static const RecordType leader_type = {
        .name = "leader",
        .size = sizeof(SavedLeader),
        .fields =
                        (const RecordField[]){
                                        { "pid", RECORD_INTEGER, offsetof(SavedLeader, pid), NULL },
                                        { "pid_fd", RECORD_INTEGER, offsetof(SavedLeader, pid_fd), NULL },
                                        { "control_fd",
                                          RECORD_INTEGER,
                                          offsetof(SavedLeader, control_fd),
                                          NULL },
                                        { "feed_fd", RECORD_INTEGER, offsetof(SavedLeader, feed_fd), NULL },
                                        { "exited", RECORD_FLAG, offsetof(SavedLeader, exited), NULL },
                                        { "finished", RECORD_FLAG, offsetof(SavedLeader, finished), NULL },
                                        { "pending", RECORD_BYTES, offsetof(SavedLeader, pending), NULL },
                                        { "sent", RECORD_NUMBER, offsetof(SavedLeader, sent), NULL },
                                        {},
                        },
};

static const RecordType journal_type = {
        .name = "journal",
        .size = sizeof(SavedJournal),
        .fields =
                        (const RecordField[]){
                                        { "output", RECORD_BYTES, offsetof(SavedJournal, output), NULL },
                                        { "error", RECORD_BYTES, offsetof(SavedJournal, error), NULL },
                                        { "interval_start_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedJournal, interval_start_usec),
                                          NULL },
                                        { "n_lines", RECORD_NUMBER, offsetof(SavedJournal, n_lines), NULL },
                                        { "n_bytes", RECORD_NUMBER, offsetof(SavedJournal, n_bytes), NULL },
                                        { "n_dropped",
                                          RECORD_NUMBER,
                                          offsetof(SavedJournal, n_dropped),
                                          NULL },
                                        {},
                        },
};

static const RecordType grant_kind_type = {
        .name = "kind of devices",
        .size = sizeof(SavedGrantKind),
        .fields =
                        (const RecordField[]){
                                        { "name", RECORD_STRING, offsetof(SavedGrantKind, name), NULL },
                                        { "ids", RECORD_STRINGS, offsetof(SavedGrantKind, ids), NULL },
                                        {},
                        },
};

static const RecordType grant_type = {
        .name = "device grant",
        .size = sizeof(SavedGrant),
        .fields =
                        (const RecordField[]){
                                        { "kinds",
                                          RECORD_LIST,
                                          offsetof(SavedGrant, kinds),
                                          &grant_kind_type },
                                        { "paths", RECORD_STRINGS, offsetof(SavedGrant, paths), NULL },
                                        { "environment",
                                          RECORD_STRINGS,
                                          offsetof(SavedGrant, environment),
                                          NULL },
                                        { "held", RECORD_FLAG, offsetof(SavedGrant, held), NULL },
                                        {},
                        },
};

static const RecordType task_type = {
        .name = "task",
        .size = sizeof(SavedTask),
        .fields =
                        (const RecordField[]){
                                        { "spec", RECORD_STRUCT, offsetof(SavedTask, spec), &spec_type },
                                        { "queue", RECORD_STRING, offsetof(SavedTask, queue), NULL },
                                        { "lease_epoch",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, lease_epoch),
                                          NULL },
                                        { "sequence", RECORD_NUMBER, offsetof(SavedTask, sequence), NULL },
                                        { "state", RECORD_NUMBER, offsetof(SavedTask, state), NULL },
                                        { "result", RECORD_NUMBER, offsetof(SavedTask, result), NULL },
                                        { "end", RECORD_STRUCT, offsetof(SavedTask, end), &end_type },
                                        { "usage", RECORD_STRUCT, offsetof(SavedTask, usage), &usage_type },
                                        { "submit_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, submit_usec),
                                          NULL },
                                        { "start_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, start_usec),
                                          NULL },
                                        { "stop_usec", RECORD_NUMBER, offsetof(SavedTask, stop_usec), NULL },
                                        { "submit_boottime_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, submit_boottime_usec),
                                          NULL },
                                        { "start_boottime_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, start_boottime_usec),
                                          NULL },
                                        { "stop_boottime_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, stop_boottime_usec),
                                          NULL },
                                        { "waiting_since_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, waiting_since_usec),
                                          NULL },
                                        { "notes", RECORD_STRINGS, offsetof(SavedTask, notes), NULL },
                                        { "scope", RECORD_NUMBER, offsetof(SavedTask, scope), NULL },
                                        { "scope_asked",
                                          RECORD_FLAG,
                                          offsetof(SavedTask, scope_asked),
                                          NULL },
                                        { "scope_call_id",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, scope_call_id),
                                          NULL },
                                        { "scope_taken_until_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, scope_taken_until_usec),
                                          NULL },
                                        { "start_attempts",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, start_attempts),
                                          NULL },
                                        { "leader", RECORD_LIST, offsetof(SavedTask, leader), &leader_type },
                                        { "output", RECORD_LIST, offsetof(SavedTask, output), &capture_type },
                                        { "error", RECORD_LIST, offsetof(SavedTask, error), &capture_type },
                                        { "devices", RECORD_LIST, offsetof(SavedTask, devices), &grant_type },
                                        { "journal",
                                          RECORD_STRUCT,
                                          offsetof(SavedTask, journal),
                                          &journal_type },
                                        { "shutdown_asked",
                                          RECORD_FLAG,
                                          offsetof(SavedTask, shutdown_asked),
                                          NULL },
                                        { "timeout_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, timeout_usec),
                                          NULL },
                                        { "scope_retry_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, scope_retry_usec),
                                          NULL },
                                        { "slow_usec", RECORD_NUMBER, offsetof(SavedTask, slow_usec), NULL },
                                        { "overdue_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, overdue_usec),
                                          NULL },
                                        { "remains_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, remains_usec),
                                          NULL },
                                        { "remains_interval_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, remains_interval_usec),
                                          NULL },
                                        { "killed_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, killed_usec),
                                          NULL },
                                        { "unkillable", RECORD_FLAG, offsetof(SavedTask, unkillable), NULL },
                                        { "finish_order",
                                          RECORD_NUMBER,
                                          offsetof(SavedTask, finish_order),
                                          NULL },
                                        { "told", RECORD_STRING, offsetof(SavedTask, told), NULL },
                                        {},
                        },
};

static const RecordType lease_type = {
        .name = "lease",
        .size = sizeof(SavedLease),
        .fields =
                        (const RecordField[]){
                                        { "id", RECORD_STRING, offsetof(SavedLease, id), NULL },
                                        { "queue", RECORD_STRING, offsetof(SavedLease, queue), NULL },
                                        { "version", RECORD_STRING, offsetof(SavedLease, version), NULL },
                                        { "epoch", RECORD_NUMBER, offsetof(SavedLease, epoch), NULL },
                                        { "ttl_usec", RECORD_NUMBER, offsetof(SavedLease, ttl_usec), NULL },
                                        { "expires_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedLease, expires_usec),
                                          NULL },
                                        {},
                        },
};

static const RecordType event_type = {
        .name = "event",
        .size = sizeof(SavedEvent),
        .fields =
                        (const RecordField[]){
                                        { "text", RECORD_STRING, offsetof(SavedEvent, text), NULL },
                                        {},
                        },
};

static const RecordType events_type = {
        .name = "event log",
        .size = sizeof(SavedEvents),
        .fields =
                        (const RecordField[]){
                                        { "first_id", RECORD_NUMBER, offsetof(SavedEvents, first_id), NULL },
                                        { "next_id", RECORD_NUMBER, offsetof(SavedEvents, next_id), NULL },
                                        { "log", RECORD_LIST, offsetof(SavedEvents, log), &event_type },
                                        {},
                        },
};

static const RecordType count_type = {
        .name = "count",
        .size = sizeof(SavedCount),
        .fields =
                        (const RecordField[]){
                                        { "count", RECORD_NUMBER, offsetof(SavedCount, count), NULL },
                                        {},
                        },
};

static const RecordType histogram_type = {
        .name = "histogram",
        .size = sizeof(SavedHistogram),
        .fields =
                        (const RecordField[]){
                                        { "counts",
                                          RECORD_LIST,
                                          offsetof(SavedHistogram, counts),
                                          &count_type },
                                        { "sum_usec",
                                          RECORD_NUMBER,
                                          offsetof(SavedHistogram, sum_usec),
                                          NULL },
                                        {},
                        },
};

static const RecordType requests_type = {
        .name = "request count",
        .size = sizeof(SavedRequests),
        .fields =
                        (const RecordField[]){
                                        { "method", RECORD_STRING, offsetof(SavedRequests, method), NULL },
                                        { "pattern", RECORD_STRING, offsetof(SavedRequests, pattern), NULL },
                                        { "counts",
                                          RECORD_LIST,
                                          offsetof(SavedRequests, counts),
                                          &count_type },
                                        {},
                        },
};

static const RecordType metrics_type = {
        .name = "metric set",
        .size = sizeof(SavedMetrics),
        .fields =
                        (const RecordField[]){
                                        { "submitted",
                                          RECORD_NUMBER,
                                          offsetof(SavedMetrics, submitted),
                                          NULL },
                                        { "output_bytes",
                                          RECORD_NUMBER,
                                          offsetof(SavedMetrics, output_bytes),
                                          NULL },
                                        { "journal_lines_dropped",
                                          RECORD_NUMBER,
                                          offsetof(SavedMetrics, journal_lines_dropped),
                                          NULL },
                                        { "bus_reconnects",
                                          RECORD_NUMBER,
                                          offsetof(SavedMetrics, bus_reconnects),
                                          NULL },
                                        { "ended", RECORD_LIST, offsetof(SavedMetrics, ended), &count_type },
                                        { "start_latency",
                                          RECORD_STRUCT,
                                          offsetof(SavedMetrics, start_latency),
                                          &histogram_type },
                                        { "run_time",
                                          RECORD_STRUCT,
                                          offsetof(SavedMetrics, run_time),
                                          &histogram_type },
                                        { "requests",
                                          RECORD_LIST,
                                          offsetof(SavedMetrics, requests),
                                          &requests_type },
                                        {},
                        },
};

static const RecordType spawner_type = {
        .name = "spawner",
        .size = sizeof(SavedSpawner),
        .fields =
                        (const RecordField[]){
                                        { "fd", RECORD_INTEGER, offsetof(SavedSpawner, fd), NULL },
                                        { "pid", RECORD_INTEGER, offsetof(SavedSpawner, pid), NULL },
                                        { "protocol", RECORD_STRING, offsetof(SavedSpawner, protocol), NULL },
                                        { "descriptors_soft",
                                          RECORD_NUMBER,
                                          offsetof(SavedSpawner, descriptors_soft),
                                          NULL },
                                        { "descriptors_hard",
                                          RECORD_NUMBER,
                                          offsetof(SavedSpawner, descriptors_hard),
                                          NULL },
                                        {},
                        },
};

static const RecordType broker_type = {
        .name = "broker",
        .size = sizeof(SavedBroker),
        .fields =
                        (const RecordField[]){
                                        { "fd", RECORD_INTEGER, offsetof(SavedBroker, fd), NULL },
                                        { "protocol", RECORD_STRING, offsetof(SavedBroker, protocol), NULL },
                                        { "answered", RECORD_FLAG, offsetof(SavedBroker, answered), NULL },
                                        { "last_call_id",
                                          RECORD_NUMBER,
                                          offsetof(SavedBroker, last_call_id),
                                          NULL },
                                        {},
                        },
};

static const RecordType listener_type = {
        .name = "listener",
        .size = sizeof(SavedListener),
        .fields =
                        (const RecordField[]){
                                        { "fd", RECORD_INTEGER, offsetof(SavedListener, fd), NULL },
                                        { "is_local", RECORD_FLAG, offsetof(SavedListener, is_local), NULL },
                                        {},
                        },
};

static const RecordType entry_type = {
        .name = "journal entry",
        .size = sizeof(SavedEntry),
        .fields =
                        (const RecordField[]){
                                        { "bytes", RECORD_BYTES, offsetof(SavedEntry, bytes), NULL },
                                        {},
                        },
};

const RecordType runner_state_type = {
        .name = "runner",
        .size = sizeof(RunnerState),
        .fields =
                        (const RecordField[]){
                                        { "program_version",
                                          RECORD_STRING,
                                          offsetof(RunnerState, program_version),
                                          NULL },
                                        { "leader_protocol",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, leader_protocol),
                                          NULL },
                                        { "instance_id",
                                          RECORD_STRING,
                                          offsetof(RunnerState, instance_id),
                                          NULL },
                                        { "revision", RECORD_NUMBER, offsetof(RunnerState, revision), NULL },
                                        { "told_revision",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, told_revision),
                                          NULL },
                                        { "total",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, total),
                                          &resources_type },
                                        { "slice_cpus",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, slice_cpus),
                                          NULL },
                                        { "slice_cpu_quota_usec",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, slice_cpu_quota_usec),
                                          NULL },
                                        { "slice_memory_max_bytes",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, slice_memory_max_bytes),
                                          NULL },
                                        { "draining", RECORD_FLAG, offsetof(RunnerState, draining), NULL },
                                        { "port", RECORD_NUMBER, offsetof(RunnerState, port), NULL },
                                        { "own_unit", RECORD_STRING, offsetof(RunnerState, own_unit), NULL },
                                        { "own_unit_is_service",
                                          RECORD_FLAG,
                                          offsetof(RunnerState, own_unit_is_service),
                                          NULL },
                                        { "oom_explained",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, oom_explained),
                                          NULL },
                                        { "shortage_told_usec",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, shortage_told_usec),
                                          NULL },
                                        { "lease", RECORD_STRUCT, offsetof(RunnerState, lease), &lease_type },
                                        { "lease_told",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, lease_told),
                                          &lease_type },
                                        { "lease_entries",
                                          RECORD_LIST,
                                          offsetof(RunnerState, lease_entries),
                                          &entry_type },
                                        { "events",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, events),
                                          &events_type },
                                        { "metrics",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, metrics),
                                          &metrics_type },
                                        { "listeners",
                                          RECORD_LIST,
                                          offsetof(RunnerState, listeners),
                                          &listener_type },
                                        { "spawner",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, spawner),
                                          &spawner_type },
                                        { "broker",
                                          RECORD_STRUCT,
                                          offsetof(RunnerState, broker),
                                          &broker_type },
                                        { "next_sequence",
                                          RECORD_NUMBER,
                                          offsetof(RunnerState, next_sequence),
                                          NULL },
                                        { "tasks", RECORD_LIST, offsetof(RunnerState, tasks), &task_type },
                                        {},
                        },
};

/* ── what must be true of a state ── */

static bool resources_are_sound(const SavedResources *resources) {
        const SavedAmount *named = resources->named.items;
        for (size_t i = 0; i < resources->named.n; i++)
                if (!named[i].name || !resource_name_valid(named[i].name) ||
                    (i > 0 && strcmp(named[i - 1].name, named[i].name) >= 0))
                        return false;
        return resources->named.n <= RESOURCES_NAMED_MAX;
}

static bool spec_is_sound(const SavedSpec *spec) {
        return spec->task_id && spec->command && spec->standard_input && spec->when_full < _WHEN_FULL_MAX &&
                        spec->umask <= 0777 && resources_are_sound(&spec->resources);
}

static bool captures_are_sound(const RecordList *list) {
        const SavedCapture *capture = list->items;
        if (list->n != 1)
                return list->n == 0;
        bool in_memory = capture->file_fd < 0;
        return capture->bytes_kept <= capture->bytes_total &&
                        capture->memory.size == (in_memory ? capture->bytes_kept : 0) &&
                        (!capture->reading || capture->pipe_fd >= 0);
}

static bool leaders_are_sound(const RecordList *list) {
        const SavedLeader *leader = list->items;
        if (list->n != 1)
                return list->n == 0;
        return leader->pid > 0 && leader->pid_fd >= 0 && leader->control_fd >= 0 && leader->feed_fd >= 0 &&
                        leader->sent <= leader->pending.size;
}

/* A task holds devices from its start to its end. */
static bool devices_are_sound(const SavedTask *task) {
        const SavedGrant *grant = task->devices.items;
        bool holds = task->state != TASK_QUEUED && task->state != TASK_FINISHED;
        if (task->devices.n != 1)
                return task->devices.n == 0 && !holds;
        const SavedGrantKind *kinds = grant->kinds.items;
        for (size_t i = 0; i < grant->kinds.n; i++)
                if (!kinds[i].name || !kinds[i].ids)
                        return false;
        return grant->held == holds && (grant->environment || !holds);
}

static size_t count_strings(const char *const *strings) {
        size_t n = 0;
        while (strings && strings[n])
                n++;
        return n;
}

/* What a task in this state has, and has not. */
static bool phase_is_sound(const SavedTask *task) {
        bool has_leader = task->leader.n == 1, has_output = task->output.n == 1 && task->error.n == 1;
        switch ((TaskState) task->state) {
        case TASK_QUEUED:
                return !has_leader && !task->scope_asked;
        case TASK_PARKED:
                return has_output;
        case TASK_RELEASED:
        case TASK_RUNNING:
                return has_output && has_leader && !task->scope_asked && task->scope == TASK_SCOPE_POSSIBLE;
        case TASK_UNDOING:
                return !has_leader;
        case TASK_ENDING:
                return true;
        case TASK_FINISHED:
                return !has_leader && !task->scope_asked;
        case TASK_SPAWNING: /* a moment that no state is written in */
        case _TASK_STATE_MAX:
                break;
        }
        return false;
}

static bool task_is_sound(const SavedTask *task) {
        bool in_range = task->state < _TASK_STATE_MAX && task->result < _TASK_RESULT_MAX &&
                        task->end.stop <= STOP_SHUTDOWN && task->scope < _TASK_SCOPE_MAX;
        bool is_finished = task->state == TASK_FINISHED;
        return in_range && spec_is_sound(&task->spec) && captures_are_sound(&task->output) &&
                        captures_are_sound(&task->error) && leaders_are_sound(&task->leader) &&
                        count_strings(task->notes) <= TASK_NOTES_MAX && phase_is_sound(task) &&
                        devices_are_sound(task) && is_finished == (task->finish_order > 0) &&
                        is_finished == (task->result != TASK_RESULT_NONE);
}

static bool lease_is_sound(const SavedLease *lease) {
        return lease->id && lease->queue && lease->version && strlen(lease->id) < LEASE_ID_SIZE &&
                        strlen(lease->queue) <= LEASE_QUEUE_MAX &&
                        strlen(lease->version) <= LEASE_VERSION_MAX;
}

static bool events_are_sound(const SavedEvents *events) {
        return events->first_id > 0 && events->first_id <= events->next_id &&
                        events->next_id - events->first_id == events->log.n && events->log.n <= EVENT_LOG_MAX;
}

static bool runner_is_sound(const RunnerState *state) {
        return state->program_version && state->instance_id && strlen(state->instance_id) == 32 &&
                        state->own_unit && resources_are_sound(&state->total) &&
                        lease_is_sound(&state->lease) && lease_is_sound(&state->lease_told) &&
                        events_are_sound(&state->events) && state->spawner.protocol &&
                        state->broker.protocol && state->port <= UINT16_MAX;
}

static int refuse_unsound(Problem *problem, const char *what, const char *which) {
        return problem_set(problem, 409, NULL, "the state of %s%.100s is one that cannot be", what, which);
}

static int check_tasks(const RunnerState *state, Problem *problem) {
        const SavedTask *tasks = state->tasks.items;
        for (size_t i = 0; i < state->tasks.n; i++) {
                const SavedTask *task = &tasks[i];
                if (!task_is_sound(task) || task->sequence >= state->next_sequence ||
                    (i > 0 && task->sequence <= tasks[i - 1].sequence))
                        return refuse_unsound(problem, "task ", task->spec.task_id ?: "");
                /* The broker puts those into scopes only whose spawner lives. */
                if (task->state == TASK_PARKED && task->leader.n > 0 &&
                    !streq(state->spawner.protocol, SPAWN_REQUEST))
                        return problem_set(
                                        problem,
                                        409,
                                        NULL,
                                        "busy: a task is being started by a spawner of another version");
                if (task->leader.n > 0 && state->leader_protocol != LEADER_PROTOCOL)
                        return problem_set(
                                        problem,
                                        409,
                                        NULL,
                                        "tasks run by leaders that speak in version %llu, and not %d",
                                        (unsigned long long) state->leader_protocol,
                                        LEADER_PROTOCOL);
        }
        return 0;
}

/* ── to bytes and back ── */

int runner_state_encode(const RunnerState *state, Text *bytes) {
        int r = text_append(bytes, RUNNER_STATE_HEAD);
        return r < 0 ? r : record_encode(&runner_state_type, state, bytes);
}

/* The head of another version is told from what is no state at all. */
static int refuse_head(const char *block, size_t size, Problem *problem) {
        static const char begin[] = "daggyr runner state ";
        const char *end = memchr(block, '\n', size < 64 ? size : 64);
        if (!end || size < sizeof(begin) || memcmp(block, begin, sizeof(begin) - 1) != 0)
                return problem_set(problem, 409, NULL, "this is no state of a runner");
        const char *version = block + sizeof(begin) - 1;
        const char *own = &RUNNER_STATE_HEAD[sizeof(begin) - 1];
        return problem_set(
                        problem,
                        409,
                        NULL,
                        "the state is of version %.*s, and this program knows version %.*s",
                        (int) (end - version),
                        version,
                        (int) strcspn(own, "\n"),
                        own);
}

int runner_state_decode(const void *block, size_t size, RunnerState *ret, Problem *reterr_problem) {
        *ret = (RunnerState){};
        if (size < HEAD_SIZE || memcmp(block, RUNNER_STATE_HEAD, HEAD_SIZE) != 0)
                return refuse_head(block, size, reterr_problem);
        int r = record_decode(
                        &runner_state_type,
                        (const char *) block + HEAD_SIZE,
                        size - HEAD_SIZE,
                        ret,
                        reterr_problem);
        if (r < 0)
                return r;
        r = runner_is_sound(ret) ? check_tasks(ret, reterr_problem) :
                                   refuse_unsound(reterr_problem, "the runner", "");
        if (r < 0)
                runner_state_done(ret);
        return r;
}

void runner_state_done(RunnerState *state) {
        record_done(&runner_state_type, state);
}

int record_list_new(RecordList *list, size_t n, size_t size) {
        *list = (RecordList){};
        if (n == 0)
                return 0;
        list->items = calloc(n, size);
        if (!list->items)
                return -ENOMEM;
        list->n = n;
        return 0;
}
