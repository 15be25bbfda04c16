/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The life of a task at a runner, and what its end is called.
 *
 *          admitted          spawned        released          started       main exited         gone
 *   QUEUED ────────▶ SPAWNING ───────▶ PARKED ───────▶ RELEASED ──────▶ RUNNING ──────────▶ ENDING ────▶
 * FINISHED │   ◀────────── │   │ ▲            │    │ failed     │ failed         │ leader lost     ▲ │
 * postponed      │ │            │    └────────────┴────────────────┴─────────────────┤ │ canceled   failed │
 * │ undone     │ leader lost                                        │ ▼                   │ └─ UNDOING ◀─┘ │
 *   FINISHED             │       │ failed                                                    │
 *                        └───────┴───────────────────────────────────────────────────────────┘
 *
 * A stop (DELETE, timeout, shutdown) is no state of its own: it is remembered as the reason and
 * hastens the edges above. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum TaskState {
        TASK_QUEUED,   /* waits for capacity */
        TASK_SPAWNING, /* has its capacity; its leader is being forked, or turns out not to be to be had now
                        */
        TASK_PARKED,   /* its leader waits until systemd has made the scope */
        TASK_UNDOING,  /* the leader was killed while it waited: what is left is cleared for another start */
        TASK_RELEASED, /* the leader is in the scope and was told to execute the command */
        TASK_RUNNING,  /* command executed */
        TASK_ENDING,   /* main process gone (or never there), leftovers and accounting outstanding */
        TASK_FINISHED,
        _TASK_STATE_MAX,
} TaskState;

typedef enum TaskEvent {
        TASK_EVENT_ADMITTED,
        TASK_EVENT_POSTPONED,    /* no leader can be had just now: it waits again */
        TASK_EVENT_CANCELED,     /* stopped before it was admitted */
        TASK_EVENT_SPAWNED,      /* there is a leader */
        TASK_EVENT_RELEASED,     /* the scope is there, and the leader was told */
        TASK_EVENT_STARTED,      /* the command was executed */
        TASK_EVENT_START_FAILED, /* scope, fork or exec failed, or a stop came first */
        TASK_EVENT_MAIN_EXITED,
        TASK_EVENT_LEADER_LOST, /* our process died without a report */
        TASK_EVENT_UNDONE,      /* nothing is left of the start that came to nothing */
        TASK_EVENT_GONE,        /* the last process of the scope is gone */
        _TASK_EVENT_MAX,
} TaskEvent;

/* What is known of a task's scope. */
typedef enum TaskScope {
        TASK_SCOPE_NONE,     /* systemd has made none */
        TASK_SCOPE_POSSIBLE, /* it is there, or nobody knows: systemd did not answer */
        TASK_SCOPE_STOPPED,  /* by systemd, which gives up on processes that SIGKILL does not end */
        TASK_SCOPE_EMPTY,    /* the leader said that it is the last process in it */
        _TASK_SCOPE_MAX,
} TaskScope;

/* The state after EVENT, or -EPROTO when the event cannot happen in STATE (a bug of the caller). */
int task_state_next(TaskState state, TaskEvent event);

typedef enum TaskResult {
        TASK_RESULT_NONE,      /* live: null in JSON */
        TASK_RESULT_SUCCESS,   /* completed */
        TASK_RESULT_EXIT_CODE, /* errored from here … */
        TASK_RESULT_SIGNAL,
        TASK_RESULT_CORE_DUMP,
        TASK_RESULT_OOM_KILL,
        TASK_RESULT_EXEC_FAILED,
        TASK_RESULT_START_FAILED, /* … to here */
        TASK_RESULT_TIMEOUT,      /* killed from here … */
        TASK_RESULT_STOPPED,
        TASK_RESULT_CANCELED,
        TASK_RESULT_SHUTDOWN, /* … to here */
        _TASK_RESULT_MAX,
} TaskResult;

typedef enum StopReason {
        STOP_NONE,
        STOP_REQUESTED, /* DELETE */
        STOP_OUTSIDE,   /* systemd ended the scope: by systemctl stop, or with the daemon */
        STOP_TIMEOUT,
        STOP_SHUTDOWN,
} StopReason;

/* What is known about how a task ended. */
typedef struct TaskEnd {
        StopReason stop;  /* why we stopped it; see task_end_stop() */
        bool admitted;    /* false: it never left the queue */
        int start_error;  /* > 0: errno of fork, scope or leader */
        int exec_error;   /* > 0: errno of what led to exec(), or exec itself */
        bool main_exited; /* exit_code/signal below are known */
        int exit_code;    /* 0…255, when signal is 0 */
        int signal;       /* > 0: ended by this signal */
        bool core_dumped;
        uint64_t oom_kills; /* processes of the scope that the kernel killed for memory */
} TaskEnd;

/* Notes that the task is being stopped for REASON. The first reason counts, and only if it came before the
 * task ended by itself: once a start or exec failure or the main process's exit is noted in END, a stop
 * merely hastens the end of what is left and changes no result. */
void task_end_stop(TaskEnd *end, StopReason reason);

/* Order of judgement: canceled; the stop's reason; start and exec failures; oom-kill when any process was
 * killed for memory; core-dump, signal, exit-code, success. A task whose main process exit is unknown and
 * that nobody stopped ended by signal. */
TaskResult task_result_decide(const TaskEnd *end);

/* "queued" "running" "completed" "errored" "killed". A task is queued until it has a leader, since it may
 * have to wait again. One that starts or ends is running: its resources are taken. */
const char *task_state_public(TaskState state, TaskResult result);

/* "exit-code", …; NULL for TASK_RESULT_NONE. */
const char *task_result_to_string(TaskResult result);

bool task_result_killed(TaskResult result);
