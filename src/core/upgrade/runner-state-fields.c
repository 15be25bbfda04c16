/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tables by which a runner's state becomes bytes: a row for each member of each structure. */
#include <stddef.h>

#include "core/upgrade/runner-state.h"

/* In the bytes a member has the name that it has here. */
#define FIELD(structure, member, kind)        { #member, kind, offsetof(structure, member), NULL }
#define NESTED(structure, member, kind, type) { #member, kind, offsetof(structure, member), type }

static const RecordField amount_fields[] = {
        FIELD(SavedAmount, name, RECORD_STRING),
        FIELD(SavedAmount, amount, RECORD_NUMBER),
        {},
};

static const RecordType amount_type = { "named amount", sizeof(SavedAmount), amount_fields };

static const RecordField resources_fields[] = {
        FIELD(SavedResources, cores_micro, RECORD_NUMBER),
        FIELD(SavedResources, memory_mb, RECORD_NUMBER),
        NESTED(SavedResources, named, RECORD_LIST, &amount_type),
        {},
};

static const RecordType resources_type = { "resources", sizeof(SavedResources), resources_fields };

static const RecordField spec_fields[] = {
        FIELD(SavedSpec, task_id, RECORD_STRING),
        FIELD(SavedSpec, working_directory, RECORD_STRING),
        FIELD(SavedSpec, user, RECORD_STRING),
        FIELD(SavedSpec, standard_input, RECORD_BYTES),
        FIELD(SavedSpec, properties, RECORD_STRING),
        FIELD(SavedSpec, command, RECORD_STRINGS),
        FIELD(SavedSpec, environment, RECORD_STRINGS),
        FIELD(SavedSpec, labels, RECORD_STRINGS),
        NESTED(SavedSpec, resources, RECORD_STRUCT, &resources_type),
        FIELD(SavedSpec, cores_by_default, RECORD_FLAG),
        FIELD(SavedSpec, memory_by_default, RECORD_FLAG),
        FIELD(SavedSpec, timeout_usec, RECORD_NUMBER),
        FIELD(SavedSpec, grace_usec, RECORD_NUMBER),
        FIELD(SavedSpec, umask, RECORD_NUMBER),
        FIELD(SavedSpec, tasks_max, RECORD_NUMBER),
        FIELD(SavedSpec, when_full, RECORD_NUMBER),
        {},
};

static const RecordType spec_type = { "specification", sizeof(SavedSpec), spec_fields };

static const RecordField end_fields[] = {
        FIELD(SavedEnd, stop, RECORD_NUMBER),         FIELD(SavedEnd, admitted, RECORD_FLAG),
        FIELD(SavedEnd, main_exited, RECORD_FLAG),    FIELD(SavedEnd, core_dumped, RECORD_FLAG),
        FIELD(SavedEnd, start_error, RECORD_INTEGER), FIELD(SavedEnd, exec_error, RECORD_INTEGER),
        FIELD(SavedEnd, exit_code, RECORD_INTEGER),   FIELD(SavedEnd, signal, RECORD_INTEGER),
        FIELD(SavedEnd, oom_kills, RECORD_NUMBER),    {},
};

static const RecordType end_type = { "end", sizeof(SavedEnd), end_fields };

static const RecordField usage_fields[] = {
        FIELD(SavedUsage, cpu_usec, RECORD_NUMBER),      FIELD(SavedUsage, memory_peak_bytes, RECORD_NUMBER),
        FIELD(SavedUsage, io_read_bytes, RECORD_NUMBER), FIELD(SavedUsage, io_write_bytes, RECORD_NUMBER),
        FIELD(SavedUsage, tasks_peak, RECORD_NUMBER),    {},
};

static const RecordType usage_type = { "usage", sizeof(SavedUsage), usage_fields };

static const RecordField capture_fields[] = {
        FIELD(SavedCapture, pipe_fd, RECORD_INTEGER),
        FIELD(SavedCapture, file_fd, RECORD_INTEGER),
        FIELD(SavedCapture, reading, RECORD_FLAG),
        FIELD(SavedCapture, bytes_max, RECORD_NUMBER),
        FIELD(SavedCapture, bytes_kept, RECORD_NUMBER),
        FIELD(SavedCapture, bytes_total, RECORD_NUMBER),
        FIELD(SavedCapture, memory, RECORD_BYTES),
        FIELD(SavedCapture, error, RECORD_INTEGER),
        {},
};

static const RecordType capture_type = { "stream", sizeof(SavedCapture), capture_fields };

static const RecordField leader_fields[] = {
        FIELD(SavedLeader, pid, RECORD_INTEGER),
        FIELD(SavedLeader, pid_fd, RECORD_INTEGER),
        FIELD(SavedLeader, control_fd, RECORD_INTEGER),
        FIELD(SavedLeader, feed_fd, RECORD_INTEGER),
        FIELD(SavedLeader, exited, RECORD_FLAG),
        FIELD(SavedLeader, finished, RECORD_FLAG),
        FIELD(SavedLeader, pending, RECORD_BYTES),
        FIELD(SavedLeader, sent, RECORD_NUMBER),
        {},
};

static const RecordType leader_type = { "leader", sizeof(SavedLeader), leader_fields };

static const RecordField journal_fields[] = {
        FIELD(SavedJournal, output, RECORD_BYTES),
        FIELD(SavedJournal, error, RECORD_BYTES),
        FIELD(SavedJournal, interval_start_usec, RECORD_NUMBER),
        FIELD(SavedJournal, n_lines, RECORD_NUMBER),
        FIELD(SavedJournal, n_bytes, RECORD_NUMBER),
        FIELD(SavedJournal, n_dropped, RECORD_NUMBER),
        {},
};

static const RecordType journal_type = { "journal", sizeof(SavedJournal), journal_fields };

static const RecordField grant_kind_fields[] = {
        FIELD(SavedGrantKind, name, RECORD_STRING),
        FIELD(SavedGrantKind, ids, RECORD_STRINGS),
        {},
};

static const RecordType grant_kind_type = { "kind of devices", sizeof(SavedGrantKind), grant_kind_fields };

static const RecordField grant_fields[] = {
        NESTED(SavedGrant, kinds, RECORD_LIST, &grant_kind_type),
        FIELD(SavedGrant, paths, RECORD_STRINGS),
        FIELD(SavedGrant, environment, RECORD_STRINGS),
        FIELD(SavedGrant, held, RECORD_FLAG),
        {},
};

static const RecordType grant_type = { "device grant", sizeof(SavedGrant), grant_fields };

static const RecordField task_fields[] = {
        NESTED(SavedTask, spec, RECORD_STRUCT, &spec_type),
        FIELD(SavedTask, queue, RECORD_STRING),
        FIELD(SavedTask, lease_epoch, RECORD_NUMBER),
        FIELD(SavedTask, sequence, RECORD_NUMBER),
        FIELD(SavedTask, state, RECORD_NUMBER),
        FIELD(SavedTask, result, RECORD_NUMBER),
        NESTED(SavedTask, end, RECORD_STRUCT, &end_type),
        NESTED(SavedTask, usage, RECORD_STRUCT, &usage_type),
        FIELD(SavedTask, submit_usec, RECORD_NUMBER),
        FIELD(SavedTask, start_usec, RECORD_NUMBER),
        FIELD(SavedTask, stop_usec, RECORD_NUMBER),
        FIELD(SavedTask, submit_boottime_usec, RECORD_NUMBER),
        FIELD(SavedTask, start_boottime_usec, RECORD_NUMBER),
        FIELD(SavedTask, stop_boottime_usec, RECORD_NUMBER),
        FIELD(SavedTask, waiting_since_usec, RECORD_NUMBER),
        FIELD(SavedTask, notes, RECORD_STRINGS),
        FIELD(SavedTask, scope, RECORD_NUMBER),
        FIELD(SavedTask, scope_asked, RECORD_FLAG),
        FIELD(SavedTask, scope_call_id, RECORD_NUMBER),
        FIELD(SavedTask, scope_taken_until_usec, RECORD_NUMBER),
        FIELD(SavedTask, start_attempts, RECORD_NUMBER),
        NESTED(SavedTask, leader, RECORD_LIST, &leader_type),
        NESTED(SavedTask, output, RECORD_LIST, &capture_type),
        NESTED(SavedTask, error, RECORD_LIST, &capture_type),
        NESTED(SavedTask, devices, RECORD_LIST, &grant_type),
        NESTED(SavedTask, journal, RECORD_STRUCT, &journal_type),
        FIELD(SavedTask, shutdown_asked, RECORD_FLAG),
        FIELD(SavedTask, timeout_usec, RECORD_NUMBER),
        FIELD(SavedTask, scope_retry_usec, RECORD_NUMBER),
        FIELD(SavedTask, slow_usec, RECORD_NUMBER),
        FIELD(SavedTask, overdue_usec, RECORD_NUMBER),
        FIELD(SavedTask, remains_usec, RECORD_NUMBER),
        FIELD(SavedTask, remains_interval_usec, RECORD_NUMBER),
        FIELD(SavedTask, killed_usec, RECORD_NUMBER),
        FIELD(SavedTask, unkillable, RECORD_FLAG),
        FIELD(SavedTask, finish_order, RECORD_NUMBER),
        FIELD(SavedTask, told, RECORD_STRING),
        {},
};

static const RecordType task_type = { "task", sizeof(SavedTask), task_fields };

static const RecordField lease_fields[] = {
        FIELD(SavedLease, id, RECORD_STRING),
        FIELD(SavedLease, queue, RECORD_STRING),
        FIELD(SavedLease, version, RECORD_STRING),
        FIELD(SavedLease, epoch, RECORD_NUMBER),
        FIELD(SavedLease, ttl_usec, RECORD_NUMBER),
        FIELD(SavedLease, expires_usec, RECORD_NUMBER),
        {},
};

static const RecordType lease_type = { "lease", sizeof(SavedLease), lease_fields };

static const RecordField event_fields[] = {
        FIELD(SavedEvent, text, RECORD_STRING),
        {},
};

static const RecordType event_type = { "event", sizeof(SavedEvent), event_fields };

static const RecordField events_fields[] = {
        FIELD(SavedEvents, first_id, RECORD_NUMBER),
        FIELD(SavedEvents, next_id, RECORD_NUMBER),
        NESTED(SavedEvents, log, RECORD_LIST, &event_type),
        {},
};

static const RecordType events_type = { "event log", sizeof(SavedEvents), events_fields };

static const RecordField count_fields[] = {
        FIELD(SavedCount, count, RECORD_NUMBER),
        {},
};

static const RecordType count_type = { "count", sizeof(SavedCount), count_fields };

static const RecordField histogram_fields[] = {
        NESTED(SavedHistogram, counts, RECORD_LIST, &count_type),
        FIELD(SavedHistogram, sum_usec, RECORD_NUMBER),
        {},
};

static const RecordType histogram_type = { "histogram", sizeof(SavedHistogram), histogram_fields };

static const RecordField requests_fields[] = {
        FIELD(SavedRequests, method, RECORD_STRING),
        FIELD(SavedRequests, pattern, RECORD_STRING),
        NESTED(SavedRequests, counts, RECORD_LIST, &count_type),
        {},
};

static const RecordType requests_type = { "request count", sizeof(SavedRequests), requests_fields };

static const RecordField metrics_fields[] = {
        FIELD(SavedMetrics, submitted, RECORD_NUMBER),
        FIELD(SavedMetrics, output_bytes, RECORD_NUMBER),
        FIELD(SavedMetrics, journal_lines_dropped, RECORD_NUMBER),
        FIELD(SavedMetrics, bus_reconnects, RECORD_NUMBER),
        NESTED(SavedMetrics, ended, RECORD_LIST, &count_type),
        NESTED(SavedMetrics, start_latency, RECORD_STRUCT, &histogram_type),
        NESTED(SavedMetrics, run_time, RECORD_STRUCT, &histogram_type),
        NESTED(SavedMetrics, requests, RECORD_LIST, &requests_type),
        {},
};

static const RecordType metrics_type = { "metric set", sizeof(SavedMetrics), metrics_fields };

static const RecordField spawner_fields[] = {
        FIELD(SavedSpawner, fd, RECORD_INTEGER),
        FIELD(SavedSpawner, pid, RECORD_INTEGER),
        FIELD(SavedSpawner, protocol, RECORD_STRING),
        FIELD(SavedSpawner, descriptors_soft, RECORD_NUMBER),
        FIELD(SavedSpawner, descriptors_hard, RECORD_NUMBER),
        {},
};

static const RecordType spawner_type = { "spawner", sizeof(SavedSpawner), spawner_fields };

static const RecordField broker_fields[] = {
        FIELD(SavedBroker, fd, RECORD_INTEGER),
        FIELD(SavedBroker, protocol, RECORD_STRING),
        FIELD(SavedBroker, answered, RECORD_FLAG),
        FIELD(SavedBroker, last_call_id, RECORD_NUMBER),
        {},
};

static const RecordType broker_type = { "broker", sizeof(SavedBroker), broker_fields };

static const RecordField listener_fields[] = {
        FIELD(SavedListener, fd, RECORD_INTEGER),
        FIELD(SavedListener, is_local, RECORD_FLAG),
        {},
};

static const RecordType listener_type = { "listener", sizeof(SavedListener), listener_fields };

static const RecordField entry_fields[] = {
        FIELD(SavedEntry, bytes, RECORD_BYTES),
        {},
};

static const RecordType entry_type = { "journal entry", sizeof(SavedEntry), entry_fields };

static const RecordField runner_state_fields[] = {
        FIELD(RunnerState, program_version, RECORD_STRING),
        FIELD(RunnerState, leader_protocol, RECORD_NUMBER),
        FIELD(RunnerState, instance_id, RECORD_STRING),
        FIELD(RunnerState, revision, RECORD_NUMBER),
        FIELD(RunnerState, told_revision, RECORD_NUMBER),
        NESTED(RunnerState, total, RECORD_STRUCT, &resources_type),
        FIELD(RunnerState, slice_cpus, RECORD_NUMBER),
        FIELD(RunnerState, slice_cpu_quota_usec, RECORD_NUMBER),
        FIELD(RunnerState, slice_memory_max_bytes, RECORD_NUMBER),
        FIELD(RunnerState, draining, RECORD_FLAG),
        FIELD(RunnerState, port, RECORD_NUMBER),
        FIELD(RunnerState, own_unit, RECORD_STRING),
        FIELD(RunnerState, own_unit_is_service, RECORD_FLAG),
        FIELD(RunnerState, oom_explained, RECORD_NUMBER),
        FIELD(RunnerState, shortage_told_usec, RECORD_NUMBER),
        FIELD(RunnerState, pressure_holding, RECORD_FLAG),
        FIELD(RunnerState, pressure_told_usec, RECORD_NUMBER),
        NESTED(RunnerState, lease, RECORD_STRUCT, &lease_type),
        NESTED(RunnerState, lease_told, RECORD_STRUCT, &lease_type),
        NESTED(RunnerState, lease_entries, RECORD_LIST, &entry_type),
        NESTED(RunnerState, events, RECORD_STRUCT, &events_type),
        NESTED(RunnerState, metrics, RECORD_STRUCT, &metrics_type),
        NESTED(RunnerState, listeners, RECORD_LIST, &listener_type),
        NESTED(RunnerState, spawner, RECORD_STRUCT, &spawner_type),
        NESTED(RunnerState, broker, RECORD_STRUCT, &broker_type),
        FIELD(RunnerState, next_sequence, RECORD_NUMBER),
        NESTED(RunnerState, tasks, RECORD_LIST, &task_type),
        {},
};

const RecordType runner_state_type = { "runner", sizeof(RunnerState), runner_state_fields };
