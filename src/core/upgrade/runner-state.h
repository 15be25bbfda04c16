/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All that a runner hands over to the program that is executed in its place (upgrade in place), as plain
 * values: what it knows of tasks, results, the lease and events, and the numbers of the descriptors that stay
 * open. Strings and bytes are weak: the runner's own when it is written, the block's when it was read.
 *
 * Times are of CLOCK_BOOTTIME in microseconds unless said otherwise; those of timers are USEC_INFINITY where
 * none is set. Descriptors are -EBADF where there is none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "core/json/problem.h"
#include "core/upgrade/record.h"

/* Grows with every change of what follows, and of what its values mean. */
#define RUNNER_STATE_HEAD "daggyr runner state 1\n"

typedef struct SavedAmount {
        const char *name;
        uint64_t amount;
} SavedAmount;

typedef struct SavedResources {
        uint64_t cores_micro, memory_mb;
        RecordList named; /* of SavedAmount */
} SavedResources;

typedef struct SavedSpec {
        const char *task_id, *working_directory, *user;
        RecordBytes standard_input;
        const char *properties; /* JSON, or NULL */
        const char **command, **environment, **labels;
        SavedResources resources;
        bool cores_by_default, memory_by_default;
        uint64_t timeout_usec, grace_usec, umask, tasks_max, when_full;
} SavedSpec;

typedef struct SavedEnd {
        uint64_t stop; /* StopReason */
        bool admitted, main_exited, core_dumped;
        int64_t start_error, exec_error, exit_code, signal;
        uint64_t oom_kills;
} SavedEnd;

typedef struct SavedUsage {
        uint64_t cpu_usec, memory_peak_bytes, io_read_bytes, io_write_bytes, tasks_peak;
} SavedUsage;

/* A stream of a task. */
typedef struct SavedCapture {
        int64_t pipe_fd, file_fd;
        bool reading;
        uint64_t bytes_max, bytes_kept, bytes_total;
        RecordBytes memory; /* while there is no file */
        int64_t error;
} SavedCapture;

typedef struct SavedLeader {
        int64_t pid, pid_fd, control_fd, feed_fd;
        bool exited, finished;
        RecordBytes pending; /* entries on their way into the feed … */
        uint64_t sent;       /* … less so many bytes */
} SavedLeader;

/* How a task's lines get into the journal. */
typedef struct SavedJournal {
        RecordBytes output, error;    /* the beginnings of lines */
        uint64_t interval_start_usec; /* CLOCK_MONOTONIC */
        uint64_t n_lines, n_bytes, n_dropped;
} SavedJournal;

typedef struct SavedGrantKind {
        const char *name;
        const char **ids;
} SavedGrantKind;

/* What devices a task has, or had when it is not held any more. */
typedef struct SavedGrant {
        RecordList kinds; /* of SavedGrantKind */
        const char **paths, **environment;
        bool held;
} SavedGrant;

typedef struct SavedTask {
        SavedSpec spec;
        const char *queue; /* whose lease it came under, or NULL */
        uint64_t lease_epoch, sequence;
        uint64_t state, result; /* TaskState, TaskResult */
        SavedEnd end;
        SavedUsage usage;
        uint64_t submit_usec, start_usec, stop_usec; /* of the day */
        uint64_t submit_boottime_usec, start_boottime_usec, stop_boottime_usec;
        uint64_t waiting_since_usec;
        const char **notes;
        uint64_t scope;                  /* TaskScope */
        bool scope_asked;                /* somebody has not answered yet whom its scope was asked of … */
        uint64_t scope_call_id;          /* … over a connection that stays, by this number; 0: it does not */
        uint64_t scope_taken_until_usec; /* 0: its name is not taken */
        uint64_t start_attempts;
        RecordList leader;        /* of SavedLeader, none or one */
        RecordList output, error; /* of SavedCapture, none or one */
        RecordList devices;       /* of SavedGrant, none or one */
        SavedJournal journal;
        bool shutdown_asked;
        uint64_t timeout_usec, scope_retry_usec, slow_usec, overdue_usec, remains_usec; /* timers */
        uint64_t remains_interval_usec, killed_usec;
        bool unkillable;
        uint64_t finish_order; /* among those that are finished; 0: it is not */
        const char *told;      /* the attempt as it is shown, or NULL */
} SavedTask;

typedef struct SavedLease {
        const char *id, *queue, *version;
        uint64_t epoch, ttl_usec, expires_usec;
} SavedLease;

typedef struct SavedEvent {
        const char *text; /* NULL: it came to nothing */
} SavedEvent;

typedef struct SavedEvents {
        uint64_t first_id, next_id;
        RecordList log; /* of SavedEvent, from first_id on */
} SavedEvents;

typedef struct SavedCount {
        uint64_t count;
} SavedCount;

typedef struct SavedHistogram {
        RecordList counts; /* of SavedCount */
        uint64_t sum_usec;
} SavedHistogram;

/* Answers to requests, by what they were to. METHOD is NULL for those that were for nothing we have. */
typedef struct SavedRequests {
        const char *method, *pattern;
        RecordList counts; /* of SavedCount, by status */
} SavedRequests;

typedef struct SavedMetrics {
        uint64_t submitted, output_bytes, journal_lines_dropped, bus_reconnects;
        RecordList ended; /* of SavedCount, by TaskResult */
        SavedHistogram start_latency, run_time;
        RecordList requests; /* of SavedRequests */
} SavedMetrics;

/* A connection to a process of ours, and the words that are spoken on it. */
typedef struct SavedSpawner {
        int64_t fd, pid; /* pid: of a spawner of daggyr's own, or 0 */
        const char *protocol;
        uint64_t descriptors_soft, descriptors_hard; /* limits for the tasks */
} SavedSpawner;

typedef struct SavedBroker {
        int64_t fd;
        const char *protocol;
        bool answered;
        uint64_t last_call_id;
} SavedBroker;

typedef struct SavedListener {
        int64_t fd;
        bool is_local;
} SavedListener;

typedef struct SavedEntry {
        RecordBytes bytes;
} SavedEntry;

typedef struct RunnerState {
        const char *program_version; /* of who wrote it, for the log */
        uint64_t leader_protocol;    /* LEADER_PROTOCOL: how the leaders speak */
        const char *instance_id;
        uint64_t revision, told_revision;
        SavedResources total;
        uint64_t slice_cpus, slice_cpu_quota_usec, slice_memory_max_bytes;
        bool draining;
        uint64_t port;
        const char *own_unit;
        bool own_unit_is_service;
        uint64_t oom_explained;
        uint64_t shortage_told_usec;
        bool pressure_holding;       /* starts, for want of memory */
        uint64_t pressure_told_usec; /* in the log; 0: never */
        SavedLease lease, lease_told;
        RecordList lease_entries; /* of SavedEntry, for the journal */
        SavedEvents events;
        SavedMetrics metrics;
        RecordList listeners; /* of SavedListener */
        SavedSpawner spawner;
        SavedBroker broker;
        uint64_t next_sequence;
        RecordList tasks; /* of SavedTask, in order of submission */
} RunnerState;

/* Appends STATE to BYTES. -ENOMEM. */
int runner_state_encode(const RunnerState *state, Text *bytes);

/* Reads a state, which must be such that a runner can go on from it; the strings point into BLOCK, the rest
 * is for runner_state_done(). Otherwise 409 with a sentence on why not, or 503 when memory is short. */
int runner_state_decode(const void *block, size_t size, RunnerState *ret, Problem *reterr_problem);

/* Frees the lists, of whatever origin. */
void runner_state_done(RunnerState *state);

/* For lists that are about to be written: N items of SIZE bytes each, zeroed. -ENOMEM. */
int record_list_new(RecordList *list, size_t n, size_t size);

/* The types of all of it, for tests. */
extern const RecordType runner_state_type;
