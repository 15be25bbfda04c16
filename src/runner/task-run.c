/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* While the command runs, until nothing of it is left but its leader. */
#include "runner/task-run.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>

#include "base/text.h"
#include "io/loop.h"
#include "runner/runner.h"
#include "runner/task-effects.h"
#include "runner/task-journal.h"
#include "runner/task-output.h"
#include "runner/task-story.h"

/* What must be true of a task in its state, whatever has happened to it. */
static void task_check(const Task *task) {
        bool has_charge = task->charge.pool != NULL, waits = task->waiting.list != NULL;
        switch (task->state) {
        case TASK_QUEUED:
                assert(!has_charge && waits && !task->leader && !task->scope_call);
                break;
        case TASK_SPAWNING:
        case TASK_PARKED:
        case TASK_ENDING:
                assert(has_charge && !waits);
                break;
        case TASK_UNDOING:
                assert(has_charge && !waits && !task->leader && !task->scope_call);
                break;
        case TASK_RELEASED:
        case TASK_RUNNING:
                assert(has_charge && !waits && !task->scope_call && task->scope == TASK_SCOPE_POSSIBLE);
                break;
        case TASK_FINISHED:
                assert(!waits && !task->scope_call);
                break;
        case _TASK_STATE_MAX:
                assert(false);
        }
}

void task_event(Task *task, TaskEvent event) {
        int state = task_state_next(task->state, event);
        assert(state >= 0);
        task->state = (TaskState) state;
        task_check(task);
}

static void task_note_started(Task *task) {
        const Resources *resources = &task->spec->resources;
        task_note(task,
                  "started in %s: CPUQuota=%g%% MemoryMax=%" PRIu64 "M",
                  task->unit,
                  (double) resources->cores_micro * 100 / (double) CORES_MICRO_PER_CORE,
                  resources->memory_mb);
}

static void on_started(Task *task) {
        task_event(task, TASK_EVENT_STARTED);
        event_source_dropp(&task->slow_source);
        (void) capture_start(task->output);
        (void) capture_start(task->error);
        task->start_boottime_usec = usec_now(CLOCK_BOOTTIME);
        task->start_usec = task_clock(task, task->start_boottime_usec);
        task_note_started(task);
        task_note_effects(task);
        metrics_count_started(&task->runner->metrics, task);
        task_send_event(task);
        task_journal_started(task);
}

static const char *missing_device(const Task *task, const LeaderMessage *message) {
        char *const *paths = task->devices ? task->devices->paths : NULL;
        bool is_known = paths && message->exit_code >= 0 &&
                        (size_t) message->exit_code < text_list_count(paths);
        return is_known ? paths[message->exit_code] : "one of several";
}

static void on_exec_failed(Task *task, const LeaderMessage *message) {
        task_event(task, TASK_EVENT_START_FAILED);
        event_source_dropp(&task->slow_source);
        event_source_dropp(&task->timeout_source);
        task_arm_overdue(task, task->spec->grace_usec);
        const char *step = leader_step_to_string((LeaderStep) message->step);
        if (message->step == LEADER_STEP_SCOPE) {
                task->end.start_error = message->error;
                task_note(task, "could not %s", step);
                return;
        }
        if (message->step == LEADER_STEP_DEVICE) {
                task->end.start_error = message->error;
                task_note(task,
                          "could not %s: %s: %s",
                          step,
                          missing_device(task, message),
                          strerror(message->error));
                return;
        }
        task->end.exec_error = message->error;
        if (message->error == EAGAIN) { /* of fork or, for the account's limit, of exec */
                task_note(task,
                          "could not %s: a limit on processes is reached, TasksMax= of " TASK_SLICE
                          " or above it, or that of the account (%s)",
                          step,
                          strerror(EAGAIN));
                return;
        }
        const char *subject = message->step == LEADER_STEP_EXEC ? task->spec->command[0] :
                        message->step == LEADER_STEP_DIRECTORY  ? task->spec->working_directory ?: "/" :
                                                                  "";
        task_note(task, "could not %s \"%s\": %s", step, subject, strerror(message->error));
}

void task_on_output(Capture *capture, const char *bytes, size_t size, void *userdata) {
        Task *task = userdata;
        task_journal_output(
                        task, capture == task->error ? TASK_STREAM_ERROR : TASK_STREAM_OUTPUT, bytes, size);
        task_output_wake(task);
}

static void on_main_exited(Task *task, const LeaderMessage *message) {
        task_event(task, TASK_EVENT_MAIN_EXITED);
        if (message->stopped_by_system)
                task_end_stop(&task->end, STOP_OUTSIDE);
        task->end.main_exited = true;
        task->end.exit_code = message->exit_code;
        task->end.signal = message->signal;
        task->end.core_dumped = message->core_dumped;
        char signal_name[TASK_SIGNAL_NAME_SIZE];
        if (message->signal > 0) {
                task_signal_name(message->signal, signal_name);
                task_note(task, "ended by signal %s", signal_name);
        } else
                task_note(task, "exited with status %d", message->exit_code);
        if (message->leftovers)
                task_note(task, "left processes behind, which were stopped");
        event_source_dropp(&task->timeout_source);
        task_arm_overdue(task, task->spec->grace_usec);
}

void task_on_report(const LeaderMessage *message, void *userdata) {
        Task *task = userdata;
        switch ((LeaderMessageType) message->type) {
        case LEADER_STARTED:
                on_started(task);
                break;
        case LEADER_EXEC_FAILED:
                on_exec_failed(task, message);
                break;
        case LEADER_EXITED:
                on_main_exited(task, message);
                break;
        case LEADER_EMPTY:
                task_empty(task, &message->usage);
                break;
        case LEADER_USAGE:
                task_take_usage(task, &message->usage);
                task->journal.rate.n_dropped += message->entries_lost + leader_process_unfed(task->leader);
                task->scope = TASK_SCOPE_EMPTY;
                break;
        case LEADER_GO:
        case LEADER_STOP:
        case LEADER_FINISH:
        case _LEADER_MESSAGE_TYPE_MAX:
                break;
        }
}

static int on_overdue(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        task_note(task, "processes outlived the grace period: killed by systemd");
        task_scopes_kill(task->runner->scopes, task->unit);
        task_kill_leader(task);
        return 0;
}

static void task_set_overdue(Task *task, usec_t when_usec) {
        (void) loop_set_timer(
                        task->runner->daemon.event,
                        &task->overdue_source,
                        when_usec,
                        on_overdue,
                        task,
                        "task-overdue");
}

void task_arm_overdue(Task *task, usec_t grace_usec) {
        if (!task->overdue_source)
                task_set_overdue(
                                task,
                                usec_add(usec_now(CLOCK_BOOTTIME), usec_add(grace_usec, TASK_OVERDUE_USEC)));
}

void task_stop(Task *task, StopReason reason, usec_t grace_usec) {
        if (task->state == TASK_FINISHED)
                return;
        /* systemd stops the scopes and the daemon at once, and its word may have reached the leader first. */
        if (reason == STOP_SHUTDOWN && task->end.stop == STOP_OUTSIDE)
                task->end.stop = STOP_SHUTDOWN;
        if (task->end.stop == STOP_NONE && task->state != TASK_ENDING) {
                task_end_stop(&task->end, reason);
                task_note(task,
                          reason == STOP_TIMEOUT                  ? "exceeded its timeout" :
                                          reason == STOP_SHUTDOWN ? "daggyr is shutting down" :
                                                                    "stopped by request");
        }
        if (task->state == TASK_QUEUED) {
                admission_list_remove(&task->waiting);
                task_finish(task);
                return;
        }
        if (!task->leader)
                return;
        if (task->state < TASK_RUNNING)
                task_kill_leader(task); /* there is no command to be gentle with */
        else
                (void) leader_process_stop(task->leader, grace_usec);
        task_arm_overdue(task, grace_usec);
}

void task_go_on(Task *task, const SavedTask *saved) {
        task_set_overdue(task, saved->overdue_usec);
        task_go_on_starting(task, saved);
        task_go_on_ending(task, saved);
}
