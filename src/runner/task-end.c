/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From the word that nobody is left in the scope to the result. */
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "io/loop.h"
#include "io/unit-cgroup.h"
#include "runner/runner.h"
#include "runner/task-journal.h"
#include "runner/task-output.h"
#include "runner/task-story.h"

/* What it may take to pass the last lines on (see src/leader). */
#define JOURNAL_USEC (5 * USEC_PER_SEC)

#define CLEAR_RETRY_USEC (1 * USEC_PER_SEC)

/* Within this, what SIGKILL was sent to ends, or something is wrong that people want to know of. */
#define SIGKILL_PATIENCE_USEC (5 * USEC_PER_SEC)

/* Looks at what SIGKILL was sent to are this far apart at first and at last. */
#define REMAINS_INTERVAL_MIN_USEC (20 * USEC_PER_MSEC)
#define REMAINS_INTERVAL_MAX_USEC (5 * USEC_PER_SEC)

#define START_ATTEMPTS_MAX 5

void task_take_usage(Task *task, const LeaderUsage *usage) {
        task->usage = (TaskUsage) {
                .cpu_usec = usage->cpu_usec,
                .memory_peak_bytes = usage->memory_peak_bytes,
                .io_read_bytes = usage->io_read_bytes,
                .io_write_bytes = usage->io_write_bytes,
                .tasks_peak = usage->tasks_peak,
        };
        task->end.oom_kills = usage->oom_kills;
}

/* Nobody of the task is left: what the pipes hold is all there will be. */
static void task_end_output(Task *task) {
        capture_finish(task->output);
        capture_finish(task->error);
}

/* systemd stops the daemon and the scopes of its tasks all at once, and a task may be the first to notice:
 * its command was ended with the scope, or the scope is not started any more. That is an end by shutdown,
 * which a queue repeats elsewhere. Returns true when systemd was asked, and HANDLER will hear. */
static bool task_asks_for_shutdown(Task *task, OwnUnitStoppingHandler handler) {
        bool is_suspicious = task->end.stop == STOP_OUTSIDE ||
                        (task->end.stop == STOP_NONE && task->end.start_error > 0);
        if (!is_suspicious || task->shutdown_question || task->shutdown_asked)
                return false;
        return own_unit_ask_stopping(task->runner->own_unit, handler, task, &task->shutdown_question) >= 0;
}

static void task_note_shutdown(Task *task, bool is_shutdown) {
        if (is_shutdown && task->end.stop != STOP_SHUTDOWN) {
                task->end.stop = STOP_SHUTDOWN;
                task_note(task, "daggyr is shutting down");
                runner_unit_stopping(task->runner);
        }
}

/* Once the journal has heard the end, which may take what a journal that hangs takes. */
static void task_dismiss_leader(Task *task) {
        if (!task->leader) /* gone while systemd was asked */
                return;
        task_arm_overdue(task, JOURNAL_USEC);
        task_journal_finished(task);
        (void) leader_process_finish(task->leader);
}

static void on_shutdown_known_at_dismissal(bool is_shutdown, void *userdata) {
        Task *task = userdata;
        task_note_shutdown(task, is_shutdown);
        task_dismiss_leader(task);
}

void task_empty(Task *task, const LeaderUsage *usage) {
        task_take_usage(task, usage);
        oom_watch_explain(&task->runner->oom_watch, task->end.oom_kills);
        event_source_dropp(&task->overdue_source);
        task_end_output(task);
        if (task->end.oom_kills > 0)
                task_note(task,
                          "the kernel killed %" PRIu64 " of its processes for memory",
                          task->end.oom_kills);
        if (!task_asks_for_shutdown(task, on_shutdown_known_at_dismissal))
                task_dismiss_leader(task);
}

void task_on_leader_exit(void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->scope_source);
        event_source_dropp(&task->slow_source);
        event_source_dropp(&task->overdue_source);
        task_end_output(task);
        if (!task->scope_call) /* or else systemd might put whoever had its pid next into the scope */
                task_leader_gone(task);
}

static void task_clear_scope(Task *task);

static void task_conclude(Task *task);

static void task_look_at_remains(Task *task);

static int on_look_at_remains(sd_event_source *source, uint64_t usec, void *userdata) {
        task_look_at_remains(userdata);
        return 0;
}

static void task_set_remains(Task *task, usec_t when_usec) {
        (void) loop_set_timer(
                        task->runner->daemon.event,
                        &task->remains_source,
                        when_usec,
                        on_look_at_remains,
                        task,
                        "task-remains");
}

static void task_arm_remains(Task *task) {
        task_set_remains(task, usec_add(usec_now(CLOCK_BOOTTIME), task->remains_interval_usec));
}

static void task_note_kill(Task *task) {
        if (task->killed_usec > 0)
                return;
        task->killed_usec = usec_now(CLOCK_BOOTTIME);
        task->remains_interval_usec = SIGKILL_PATIENCE_USEC;
        task_arm_remains(task);
}

void task_kill_leader(Task *task) {
        task_note_kill(task);
        leader_process_kill(task->leader);
}

/* Once for each task. */
static void task_tell_unkillable(Task *task) {
        if (task->unkillable)
                return;
        task->unkillable = true;
        task->runner->metrics.unkillable++;
        task_note(task,
                  "waits for processes that SIGKILL has not ended: frozen, or in an uninterruptible sleep");
        log_line(LOG_WARNING,
                 "Task %s: processes of %s outlive SIGKILL, its resources stay taken until they end",
                 task->spec->task_id,
                 task->unit);
}

/* Whether there may still be a process of the task, as far as can be told just now. */
static bool task_has_remains(const Task *task) {
        if (task->leader && !leader_process_has_exited(task->leader))
                return true;
        if (task->scope != TASK_SCOPE_POSSIBLE && task->scope != TASK_SCOPE_STOPPED)
                return false;
        int r = unit_cgroup_is_populated(TASK_SLICE, task->unit);
        return r > 0 || task_error_is_shortage(r);
}

/* SIGKILL is no end yet: a process that is frozen, or sleeps in the kernel for a disk or a server that does
 * not answer, lives on and holds what it has. So the task is not over either. Only a daemon that is stopped
 * does not wait: what it keeps account of ends with it. */
static void task_look_at_remains(Task *task) {
        bool has_remains = task_has_remains(task);
        if (has_remains && usec_now(CLOCK_BOOTTIME) >= usec_add(task->killed_usec, SIGKILL_PATIENCE_USEC))
                task_tell_unkillable(task);
        bool is_given_up = has_remains && task->unkillable && task->runner->daemon.stopping;
        if (task->leader && is_given_up && !task->scope_call) {
                task_leader_gone(task);
                return;
        }
        if (!task->leader && task->scope == TASK_SCOPE_STOPPED && (is_given_up || !has_remains)) {
                task_conclude(task);
                return;
        }
        usec_t twice = 2 * task->remains_interval_usec;
        task_arm_remains(task);
        task->remains_interval_usec = twice < REMAINS_INTERVAL_MAX_USEC ? twice : REMAINS_INTERVAL_MAX_USEC;
}

/* A leader that was killed before it was told to go has executed nothing: no harm in another. systemd does
 * that when it re-executes itself in the middle of making a scope, and takes it for empty (seen on 252). */
static bool task_may_start_again(const Task *task) {
        return task->state == TASK_PARKED && task->end.stop == STOP_NONE &&
                        task->start_attempts < START_ATTEMPTS_MAX;
}

/* Only SIGKILL can do that to a leader: somebody's to the whole scope, so that it hit the main process as
 * well, or the OOM killer's. */
static void task_leader_lost(Task *task) {
        const char *control_group = capacity_watch_facts(task->runner->capacity_watch)->control_group;
        uint64_t n_kills = oom_watch_take(&task->runner->oom_watch, control_group);
        task->end.oom_kills += n_kills;
        if (n_kills > 0)
                task_note(task,
                          "the kernel killed %" PRIu64
                          " processes for memory, the one that watched the task among them",
                          n_kills);
        if (task->state != TASK_RUNNING)
                return;
        task_event(task, TASK_EVENT_LEADER_LOST);
        task->end.main_exited = true;
        task->end.exit_code = -1;
        task->end.signal = SIGKILL;
        if (n_kills == 0 && task->killed_usec == 0)
                task_note(task, "the scope was killed from outside");
}

void task_leader_gone(Task *task) {
        event_source_dropp(&task->overdue_source);
        event_source_dropp(&task->scope_source);
        event_source_dropp(&task->slow_source);
        task->leader = leader_process_free(task->leader);
        if (task_may_start_again(task))
                task_event(task, TASK_EVENT_LEADER_LOST);
        else if (task->state == TASK_RUNNING ||
                 (task->state == TASK_ENDING && task->end.main_exited && task->scope != TASK_SCOPE_EMPTY))
                task_leader_lost(task);
        if (task->scope == TASK_SCOPE_POSSIBLE)
                task_clear_scope(task);
        else
                task_conclude(task);
}

static int on_clear_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->scope_source);
        task_clear_scope(task);
        return 0;
}

static void task_set_clear_retry(Task *task, usec_t when_usec) {
        (void) loop_set_timer(
                        task->runner->daemon.event,
                        &task->scope_source,
                        when_usec,
                        on_clear_retry,
                        task,
                        "task-clear-scope");
}

static void on_scope_cleared(int error, const char *message, void *userdata) {
        Task *task = userdata;
        task->scope_call = NULL;
        if (error == -ENOTCONN || error == -ETIMEDOUT) {
                task_set_clear_retry(task, usec_add(usec_now(CLOCK_BOOTTIME), CLEAR_RETRY_USEC));
                return;
        }
        if (error < 0 && error != -ENOENT)
                task_note(task, "could not clear the scope: %s", message);
        task->scope = TASK_SCOPE_STOPPED;
        task->remains_interval_usec = REMAINS_INTERVAL_MIN_USEC;
        task_look_at_remains(task);
}

/* For as long as systemd is away nobody knows whether the scope is empty: the task waits, and keeps its
 * capacity. */
static void task_clear_scope(Task *task) {
        Runner *runner = task->runner;
        task_note_kill(task);
        task_scopes_kill(runner->scopes, task->unit);
        int r = task_scopes_stop(runner->scopes, task->unit, on_scope_cleared, task, &task->scope_call);
        if (r < 0)
                on_scope_cleared(r, "could not ask systemd", task);
}

static void on_shutdown_known_at_conclusion(bool is_shutdown, void *userdata) {
        Task *task = userdata;
        task_note_shutdown(task, is_shutdown);
        task_finish(task);
}

/* Nothing is left of the task, or of an attempt to start it. */
static void task_conclude(Task *task) {
        event_source_dropp(&task->remains_source);
        if (task->state == TASK_UNDOING && task->end.stop == STOP_NONE) {
                task_start_over(task);
                return;
        }
        if (task->state != TASK_ENDING) {
                task_event(task, TASK_EVENT_START_FAILED);
                if (task->end.stop == STOP_NONE && task->end.start_error == 0) {
                        task->end.start_error = ECHILD;
                        task_note(task, "the scope was killed before the command was executed");
                }
        }
        if (!task_asks_for_shutdown(task, on_shutdown_known_at_conclusion))
                task_finish(task);
}

static void task_note_output_error(Task *task, const Capture *capture) {
        if (capture && capture_store(capture)->error > 0)
                task_note(task, "output is incomplete: %s", strerror(capture_store(capture)->error));
}

void task_finish(Task *task) {
        Runner *runner = task->runner;
        task_event(task, task->state == TASK_QUEUED ? TASK_EVENT_CANCELED : TASK_EVENT_GONE);
        task->result = task_result_decide(&task->end);
        task->stop_boottime_usec = usec_now(CLOCK_BOOTTIME);
        task->stop_usec = task_clock(task, task->stop_boottime_usec);
        if (task->journal.rate.n_dropped > 0)
                task_note(task,
                          "%" PRIu64 " lines of output were not logged to the journal",
                          task->journal.rate.n_dropped);
        task_note_output_error(task, task->output);
        task_note_output_error(task, task->error);

        event_source_dropp(&task->timeout_source);
        event_source_dropp(&task->scope_source);
        event_source_dropp(&task->slow_source);
        event_source_dropp(&task->overdue_source);
        event_source_dropp(&task->remains_source);
        task->leader = leader_process_free(task->leader);
        task->shutdown_question = own_unit_question_free(task->shutdown_question);
        capacity_charge_release(&task->charge);
        if (task->devices)
                device_grant_release(task->devices);
        runner->metrics.unkillable -= task->unkillable;
        metrics_count_ended(&runner->metrics, task);
        task_write_down(task);
        waiters_answer_all(&task->waiters);
        task_output_wake(task);
        task_send_event(task);
        task_table_finished(&runner->tasks, task);
        runner_task_finished(runner);
}

/* Without a leader, what systemd was asked for is to clear the scope. */
void task_go_on_ending(Task *task, const SavedTask *saved) {
        usec_t retry_usec = saved->scope_retry_usec;
        task_set_remains(task, saved->remains_usec);
        if (task->leader)
                return;
        if (saved->scope_asked &&
            task_scopes_resume(
                            task->runner->scopes,
                            saved->scope_call_id,
                            on_scope_cleared,
                            task,
                            &task->scope_call) < 0)
                retry_usec = usec_now(CLOCK_BOOTTIME);
        task_set_clear_retry(task, retry_usec);
}
