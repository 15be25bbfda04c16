/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The transition table of tasks, and the judgement over their ends. What leads to an event, and what is to be
 * done upon it, is the business of whoever runs the task. */
#include "core/task/task-state.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

/* The diagram of the header, edge by edge. */
static const struct {
        TaskState state;
        TaskEvent event;
        TaskState next;
} transitions[] = {
        { TASK_QUEUED, TASK_EVENT_ADMITTED, TASK_SPAWNING },
        { TASK_QUEUED, TASK_EVENT_CANCELED, TASK_FINISHED },
        { TASK_SPAWNING, TASK_EVENT_POSTPONED, TASK_QUEUED },
        { TASK_SPAWNING, TASK_EVENT_SPAWNED, TASK_PARKED },
        { TASK_SPAWNING, TASK_EVENT_START_FAILED, TASK_ENDING },
        { TASK_PARKED, TASK_EVENT_RELEASED, TASK_RELEASED },
        { TASK_PARKED, TASK_EVENT_START_FAILED, TASK_ENDING },
        { TASK_PARKED, TASK_EVENT_LEADER_LOST, TASK_UNDOING },
        { TASK_UNDOING, TASK_EVENT_UNDONE, TASK_SPAWNING },
        { TASK_UNDOING, TASK_EVENT_START_FAILED, TASK_ENDING },
        { TASK_RELEASED, TASK_EVENT_STARTED, TASK_RUNNING },
        { TASK_RELEASED, TASK_EVENT_START_FAILED, TASK_ENDING },
        { TASK_RUNNING, TASK_EVENT_MAIN_EXITED, TASK_ENDING },
        { TASK_RUNNING, TASK_EVENT_LEADER_LOST, TASK_ENDING },
        { TASK_ENDING, TASK_EVENT_GONE, TASK_FINISHED },
};

static const char *const result_names[] = {
        [TASK_RESULT_NONE] = NULL,
        [TASK_RESULT_SUCCESS] = "success",
        [TASK_RESULT_EXIT_CODE] = "exit-code",
        [TASK_RESULT_SIGNAL] = "signal",
        [TASK_RESULT_CORE_DUMP] = "core-dump",
        [TASK_RESULT_OOM_KILL] = "oom-kill",
        [TASK_RESULT_EXEC_FAILED] = "exec-failed",
        [TASK_RESULT_START_FAILED] = "start-failed",
        [TASK_RESULT_TIMEOUT] = "timeout",
        [TASK_RESULT_STOPPED] = "stopped",
        [TASK_RESULT_CANCELED] = "canceled",
        [TASK_RESULT_SHUTDOWN] = "shutdown",
};
static_assert(sizeof(result_names) / sizeof(result_names[0]) == _TASK_RESULT_MAX, "every result has a name");

int task_state_next(TaskState state, TaskEvent event) {
        for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++)
                if (transitions[i].state == state && transitions[i].event == event)
                        return (int) transitions[i].next;

        return -EPROTO;
}

void task_end_stop(TaskEnd *end, StopReason reason) {
        assert(end);
        assert(reason != STOP_NONE);

        if (end->stop != STOP_NONE || end->start_error > 0 || end->exec_error > 0 || end->main_exited)
                return;

        end->stop = reason;
}

static TaskResult result_of_exit(const TaskEnd *end) {
        if (end->oom_kills > 0)
                return TASK_RESULT_OOM_KILL;
        if (!end->main_exited)
                return TASK_RESULT_SIGNAL;
        if (end->core_dumped)
                return TASK_RESULT_CORE_DUMP;
        if (end->signal > 0)
                return TASK_RESULT_SIGNAL;
        if (end->exit_code != 0)
                return TASK_RESULT_EXIT_CODE;

        return TASK_RESULT_SUCCESS;
}

static TaskResult result_of_own_end(const TaskEnd *end) {
        if (end->start_error > 0)
                return TASK_RESULT_START_FAILED;
        if (end->exec_error > 0)
                return TASK_RESULT_EXEC_FAILED;

        return result_of_exit(end);
}

TaskResult task_result_decide(const TaskEnd *end) {
        assert(end);

        if (!end->admitted)
                return TASK_RESULT_CANCELED;

        switch (end->stop) {
        case STOP_NONE:
                return result_of_own_end(end);
        case STOP_REQUESTED:
        case STOP_OUTSIDE:
                return TASK_RESULT_STOPPED;
        case STOP_TIMEOUT:
                return TASK_RESULT_TIMEOUT;
        case STOP_SHUTDOWN:
                return TASK_RESULT_SHUTDOWN;
        }

        return result_of_own_end(end);
}

static const char *finished_public(TaskResult result) {
        if (result == TASK_RESULT_SUCCESS)
                return "completed";

        return task_result_killed(result) ? "killed" : "errored";
}

const char *task_state_public(TaskState state, TaskResult result) {
        switch (state) {
        case TASK_QUEUED:
        case TASK_SPAWNING:
                return "queued";
        case TASK_PARKED:
        case TASK_UNDOING:
        case TASK_RELEASED:
        case TASK_RUNNING:
        case TASK_ENDING:
                return "running";
        case TASK_FINISHED:
        case _TASK_STATE_MAX:
                break;
        }

        assert(state == TASK_FINISHED);
        assert(result != TASK_RESULT_NONE);
        return finished_public(result);
}

const char *task_result_to_string(TaskResult result) {
        assert(result < _TASK_RESULT_MAX);

        return result_names[result];
}

bool task_result_killed(TaskResult result) {
        return result >= TASK_RESULT_TIMEOUT && result <= TASK_RESULT_SHUTDOWN;
}
