/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The TaskAttempt: what clients read about a task, from submission to result. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/task/devices.h"
#include "core/task/task-spec.h"
#include "core/task/task-state.h"

/* What a task used, its whole scope together. A reading that the host cannot give is 0. */
typedef struct TaskUsage {
        usec_t cpu_usec;
        uint64_t memory_peak_bytes;
        uint64_t io_read_bytes;
        uint64_t io_write_bytes;
        uint64_t tasks_peak;
} TaskUsage;

/* Captured output as shown: BYTES/SIZE is what is to be embedded (all of it, or its tail), TOTAL
 * what the task wrote. */
typedef struct TaskOutputView {
        const void *bytes; /* NULL with SIZE 0 */
        size_t size;
        uint64_t total_bytes;
        bool truncated; /* not everything the task wrote was captured, or is embedded */
} TaskOutputView;

#define TASK_NOTES_MAX 16 /* lines of explanation that an attempt has at most */

/* Borrows everything; lives only as long as one formatting. */
typedef struct TaskAttempt {
        const TaskSpec *spec;
        const char *unit;
        TaskState state;
        TaskResult result;
        const TaskEnd *end;                        /* NULL while nothing is known */
        usec_t submit_usec, start_usec, stop_usec; /* CLOCK_REALTIME; 0: not yet, null in JSON */
        usec_t run_usec;                           /* span of start to stop, for max_cpu; 0 when unknown */
        const TaskUsage *usage;                    /* NULL: all 0 */
        char *const *notes;                        /* "executor": NULL-terminated, or NULL */
        const DeviceGrant *devices;                /* NULL: none */
        TaskOutputView output, error;
        bool with_output; /* false in lists and for ?output=none: "output" and "error" are left out */
} TaskAttempt;

#define TASK_SIGNAL_NAME_SIZE sizeof("SIGRTMIN+2147483647")

/* "SIGKILL", "SIGRTMIN+1", or "SIG32" for one without a name. */
void task_signal_name(int number, char buffer[static TASK_SIGNAL_NAME_SIZE]);

/* The object of docs/openapi.yaml, schema TaskAttempt. While the task is live there is no result: exit_code,
 * signal and stop_time are null. Then exit_code is -1 after a signal, and still null when the command never
 * ran or nobody saw how it ended; signal is its name ("SIGKILL", "SIGRTMIN+1") or null. max_cpu is the
 * average percentage of one core, rounded; max_rss is usage.memory_peak. Output that is not UTF-8 is shown
 * with U+FFFD. -ENOMEM. The caller puts *ret. */
int task_attempt_to_json(const TaskAttempt *attempt, json_object **ret);

/* The same of a finished task for a DaggyR server, which fails on null in a member it knows: exit_code is -1
 * where there is none, and a start or stop that never came is put at the time of submission. */
int task_attempt_to_json_daggyr(const TaskAttempt *attempt, json_object **ret);
