/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* In the order in which things happen:
 *
 *   task_start            takes the capacity, spawns the leader (parked), asks systemd for the scope
 *   on_scope_started      the leader is in its scope: it may execute the command
 *   on_report STARTED     the command runs; its time limit starts
 *   on_output             as often as it writes
 *   on_report EXITED      the main process ended; the leader ends what it left behind
 *   on_report EMPTY       nobody is left to write: the pipes are drained, the journal hears the end
 *   on_report USAGE       the last reading
 *   on_leader_exit        the scope is empty: the result is decided, capacity returns, waiters hear
 *
 * Every failure leads to the same end: the leader is killed, and once it is gone systemd is asked to clear
 * the scope if the leader could not say that it was empty. */

#include "runner/task-run.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/text.h"
#include "io/loop.h"
#include "runner/runner.h"
#include "runner/task-journal.h"
#include "runner/task-order.h"
#include "runner/task-output.h"

#define MB UINT64_C(1048576)

/* The scope of an earlier task of the same name may take a moment to go. */
#define SCOPE_RETRY_USEC    (50 * USEC_PER_MSEC)
#define SCOPE_PATIENCE_USEC (5 * USEC_PER_SEC)

/* What a leader may take longer than the grace period before it is helped. */
#define OVERDUE_USEC (5 * USEC_PER_SEC)

/* What it may take to pass the last lines on (see src/leader). */
#define JOURNAL_USEC (5 * USEC_PER_SEC)

#define CLEAR_RETRY_USEC (1 * USEC_PER_SEC)

#define START_ATTEMPTS_MAX 5

static void task_event(Task *task, TaskEvent event) {
        int state = task_state_next(task->state, event);
        assert(state >= 0);
        task->state = (TaskState) state;
}

static void task_note_output_error(Task *task, const Capture *capture) {
        if (capture && capture_store(capture)->error > 0)
                task_note(task, "output is incomplete: %s", strerror(capture_store(capture)->error));
}

static void task_finish(Task *task) {
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
        event_source_dropp(&task->retry_source);
        event_source_dropp(&task->overdue_source);
        task->leader = leader_process_free(task->leader);
        task->shutdown_question = own_unit_question_free(task->shutdown_question);
        capacity_charge_release(&task->charge);
        metrics_count_ended(&runner->metrics, task);
        waiters_answer_all(&task->waiters);
        task_output_wake(task);
        task_send_event(task);
        task_table_finished(&runner->tasks, task);
        runner_task_finished(runner);
}

/* systemd stops the daemon and the scopes of its tasks all at once, and a task may be the first to notice:
 * its command was ended with the scope, or the scope is not started any more. That is an end by shutdown,
 * which a queue repeats elsewhere. Returns true when systemd was asked, and HANDLER will hear. */
static bool task_asks_for_shutdown(Task *task, OwnUnitStoppingHandler handler) {
        bool is_suspicious = task->stopped_from_outside ?
                        task->end.stop == STOP_REQUESTED :
                        task->end.stop == STOP_NONE && task->end.start_error > 0;
        if (!is_suspicious || task->shutdown_asked)
                return false;
        task->shutdown_asked = true;
        return own_unit_ask_stopping(task->runner->own_unit, handler, task, &task->shutdown_question) >= 0;
}

static void task_note_shutdown(Task *task, bool is_shutdown) {
        task->shutdown_question = own_unit_question_free(task->shutdown_question);
        if (is_shutdown && task->end.stop != STOP_SHUTDOWN) {
                task->end.stop = STOP_SHUTDOWN;
                task_note(task, "daggyr is shutting down");
        }
}

static void on_shutdown_known_at_conclusion(bool is_shutdown, void *userdata) {
        Task *task = userdata;
        task_note_shutdown(task, is_shutdown);
        task_finish(task);
}

static void task_start_over(Task *task);

/* Nothing is left of the task, or of an attempt to start it. */
static void task_conclude(Task *task) {
        if (task->start_again && task->end.stop == STOP_NONE) {
                task_start_over(task);
                return;
        }
        if (task->state == TASK_STARTING) {
                task_event(task, TASK_EVENT_START_FAILED);
                if (task->end.stop == STOP_NONE && task->end.start_error == 0) {
                        task->end.start_error = ECHILD;
                        task_note(task, "the scope was killed before the command was executed");
                }
        }
        if (!task_asks_for_shutdown(task, on_shutdown_known_at_conclusion))
                task_finish(task);
}

static void task_clear_scope(Task *task);

static int on_clear_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->retry_source);
        task_clear_scope(task);
        return 0;
}

static void on_scope_cleared(int error, const char *message, void *userdata) {
        Task *task = userdata;
        task->scope_call = NULL;
        if (error == -ENOTCONN || error == -ETIMEDOUT) {
                (void) loop_set_timer(
                                task->runner->event,
                                &task->retry_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), CLEAR_RETRY_USEC),
                                on_clear_retry,
                                task,
                                "task-clear-scope");
                return;
        }
        if (error < 0 && error != -ENOENT)
                task_note(task, "could not clear the scope: %s", message);
        task_conclude(task);
}

/* For as long as systemd is away nobody knows whether the scope is empty: the task waits, and keeps its
 * capacity. */
static void task_clear_scope(Task *task) {
        Runner *runner = task->runner;
        systemd1_kill_unit(runner->systemd1, task->unit, SIGKILL);
        int r = systemd1_stop_unit(runner->systemd1, task->unit, on_scope_cleared, task, &task->scope_call);
        if (r < 0)
                on_scope_cleared(r, "could not ask systemd", task);
}

/* A leader that was killed before it was told to go has executed nothing: no harm in another. systemd does
 * that when it re-executes itself in the middle of making a scope, and takes it for empty (seen on 252). */
static bool task_may_start_again(const Task *task) {
        return task->state == TASK_STARTING && !task->released && task->end.stop == STOP_NONE &&
                        task->end.start_error == 0 && task->start_attempts < START_ATTEMPTS_MAX;
}

/* The leader has ended and nothing is asked of systemd. */
static void task_settle(Task *task) {
        event_source_dropp(&task->overdue_source);
        task->leader = leader_process_free(task->leader);
        task->start_again = task_may_start_again(task);
        if (task->state == TASK_RUNNING) {
                /* Only SIGKILL to the whole scope can do that, so it hit the main process as well. */
                task_event(task, TASK_EVENT_LEADER_LOST);
                task->end.main_exited = true;
                task->end.exit_code = -1;
                task->end.signal = SIGKILL;
                task_note(task, "the scope was killed from outside");
        }
        if (task->scope_may_exist && !task->leader_reported_end)
                task_clear_scope(task);
        else
                task_conclude(task);
}

/* Starting is over without the command having run. The leader, if there is one, is on its way out. */
static void task_start_failed(Task *task, int error, const char *what) {
        task_event(task, TASK_EVENT_START_FAILED);
        task->end.start_error = -error;
        task_note(task, "%s: %s", what, strerror(-error));
        if (task->leader)
                leader_process_kill(task->leader);
        else
                task_finish(task);
}

static int on_overdue(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        task_note(task, "processes outlived the grace period: killed by systemd");
        systemd1_kill_unit(task->runner->systemd1, task->unit, SIGKILL);
        leader_process_kill(task->leader);
        return 0;
}

static void task_arm_overdue(Task *task, usec_t grace_usec) {
        if (task->overdue_source)
                return;
        (void) loop_set_timer(
                        task->runner->event,
                        &task->overdue_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), usec_add(grace_usec, OVERDUE_USEC)),
                        on_overdue,
                        task,
                        "task-overdue");
}

static int task_start_scope(Task *task);

static void on_scope_started(int error, const char *message, void *userdata);

static int on_scope_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->retry_source);
        int r = task_start_scope(task);
        if (r < 0)
                on_scope_started(r, "could not ask systemd for the scope", task);
        return 0;
}

/* For as long as systemd is away the leader stays parked: the task waits. */
static bool scope_is_worth_a_retry(Task *task, int error) {
        if (error == -EEXIST && task->scope_taken_until_usec == 0)
                task->scope_taken_until_usec = usec_add(usec_now(CLOCK_BOOTTIME), SCOPE_PATIENCE_USEC);
        return error == -ENOTCONN ||
                        (error == -EEXIST && usec_now(CLOCK_BOOTTIME) < task->scope_taken_until_usec);
}

static void on_scope_started(int error, const char *message, void *userdata) {
        Task *task = userdata;
        task->scope_call = NULL;
        /* Asked twice because the first answer was lost: it is our own scope that exists. */
        if (error == -EEXIST && !leader_process_has_exited(task->leader) &&
            leader_process_is_in(task->leader, TASK_SLICE, task->unit))
                error = 0;
        bool is_unclear = error == -ETIMEDOUT || error == -ENOTCONN;
        task->scope_may_exist = error >= 0 || is_unclear || (task->scope_may_exist && error != -EEXIST);
        if (leader_process_has_exited(task->leader)) { /* stopped meanwhile */
                task_settle(task);
                return;
        }
        if (task->end.stop != STOP_NONE)
                return; /* killed, and soon gone */
        if (scope_is_worth_a_retry(task, error))
                error = loop_set_timer(
                                task->runner->event,
                                &task->retry_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), SCOPE_RETRY_USEC),
                                on_scope_retry,
                                task,
                                "task-scope-retry");
        else if (error >= 0) {
                task->released = true;
                error = leader_process_go(task->leader);
        }
        if (error < 0)
                task_start_failed(task, error, message ?: "could not start in the scope");
}

static int task_start_scope(Task *task) {
        Runner *runner = task->runner;
        const TaskSpec *spec = task->spec;
        _cleanup_(freep) char *description = NULL;
        if (asprintf(&description, "daggyr task %s", spec->task_id) < 0) {
                description = NULL;
                return -ENOMEM;
        }
        return systemd1_start_scope(
                        runner->systemd1,
                        &(ScopeParameters){
                                        .name = task->unit,
                                        .slice = TASK_SLICE,
                                        .description = description,
                                        .bound_to = own_unit_name(runner->own_unit),
                                        .pid = leader_process_pid(task->leader),
                                        .cpu_quota_usec = spec->resources.cores_micro,
                                        .memory_max_bytes = spec->resources.memory_mb * MB,
                                        .tasks_max = spec->tasks_max + 1, /* the leader is one more */
                                        .stop_timeout_usec = usec_add(spec->grace_usec, OVERDUE_USEC),
                                        .properties = spec->parsed_properties,
                        },
                        on_scope_started,
                        task,
                        &task->scope_call);
}

static void task_note_started(Task *task) {
        const Resources *resources = &task->spec->resources;
        task_note(task,
                  "started in %s: CPUQuota=%g%% MemoryMax=%" PRIu64 "M",
                  task->unit,
                  (double) resources->cores_micro * 100 / (double) CORES_MICRO_PER_CORE,
                  resources->memory_mb);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        task_stop(task, STOP_TIMEOUT, task->spec->grace_usec);
        return 0;
}

static void on_command_started(Task *task) {
        task_event(task, TASK_EVENT_STARTED);
        (void) capture_start(task->output);
        (void) capture_start(task->error);
        task->start_boottime_usec = usec_now(CLOCK_BOOTTIME);
        task->start_usec = task_clock(task, task->start_boottime_usec);
        task_note_started(task);
        metrics_count_started(&task->runner->metrics, task);
        task_send_event(task);
        task_journal_started(task);
        (void) loop_set_timer(
                        task->runner->event,
                        &task->timeout_source,
                        usec_add(task->start_boottime_usec, task->spec->timeout_usec),
                        on_timeout,
                        task,
                        "task-timeout");
}

static void on_exec_failed(Task *task, const LeaderMessage *message) {
        task_event(task, TASK_EVENT_START_FAILED);
        const char *step = leader_step_to_string((LeaderStep) message->step);
        if (message->step == LEADER_STEP_SCOPE) {
                task->end.start_error = message->error;
                task_note(task, "could not %s", step);
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

static void on_main_exited(Task *task, const LeaderMessage *message) {
        task_event(task, TASK_EVENT_MAIN_EXITED);
        if (message->stopped_by_system && task->end.stop == STOP_NONE) {
                task_end_stop(&task->end, STOP_REQUESTED);
                task->stopped_from_outside = true;
        }
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

static void task_take_usage(Task *task, const LeaderUsage *usage) {
        task->usage = (TaskUsage){
                .cpu_usec = usage->cpu_usec,
                .memory_peak_bytes = usage->memory_peak_bytes,
                .io_read_bytes = usage->io_read_bytes,
                .io_write_bytes = usage->io_write_bytes,
                .tasks_peak = usage->tasks_peak,
        };
        task->end.oom_kills = usage->oom_kills;
}

static void on_output(Capture *capture, const char *bytes, size_t size, void *userdata) {
        Task *task = userdata;
        task_journal_output(
                        task, capture == task->error ? TASK_STREAM_ERROR : TASK_STREAM_OUTPUT, bytes, size);
        task_output_wake(task);
}

/* Nobody of the task is left: what the pipes hold is all there will be. */
static void task_end_output(Task *task) {
        capture_finish(task->output);
        capture_finish(task->error);
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

static void on_empty(Task *task, const LeaderMessage *message) {
        task_take_usage(task, &message->usage);
        event_source_dropp(&task->overdue_source);
        task_end_output(task);
        if (task->end.oom_kills > 0)
                task_note(task,
                          "the kernel killed %" PRIu64 " of its processes for memory",
                          task->end.oom_kills);
        if (!task_asks_for_shutdown(task, on_shutdown_known_at_dismissal))
                task_dismiss_leader(task);
}

static void on_report(const LeaderMessage *message, void *userdata) {
        Task *task = userdata;
        switch ((LeaderMessageType) message->type) {
        case LEADER_STARTED:
                on_command_started(task);
                break;
        case LEADER_EXEC_FAILED:
                on_exec_failed(task, message);
                break;
        case LEADER_EXITED:
                on_main_exited(task, message);
                break;
        case LEADER_EMPTY:
                on_empty(task, message);
                break;
        case LEADER_USAGE:
                task_take_usage(task, &message->usage);
                task->journal.rate.n_dropped += message->entries_lost + leader_process_unfed(task->leader);
                task->leader_reported_end = true;
                break;
        case LEADER_GO:
        case LEADER_STOP:
        case LEADER_FINISH:
        case _LEADER_MESSAGE_TYPE_MAX:
                break;
        }
}

static void on_leader_exit(void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->retry_source);
        event_source_dropp(&task->overdue_source);
        task_end_output(task);
        if (!task->scope_call) /* or else systemd might put whoever had its pid next into the scope */
                task_settle(task);
}

static int task_open_captures(Task *task, int *ret_output_fd, int *ret_error_fd) {
        Runner *runner = task->runner;
        int r = capture_new(
                        runner->event,
                        runner->output_directory,
                        runner->config->output_max_bytes,
                        on_output,
                        task,
                        &task->output,
                        ret_output_fd);
        if (r < 0)
                return r;
        return capture_new(
                        runner->event,
                        runner->output_directory,
                        runner->config->output_max_bytes,
                        on_output,
                        task,
                        &task->error,
                        ret_error_fd);
}

static int task_spawn_leader(Task *task, const Account *account) {
        static const LeaderHandlers handlers = { .on_report = on_report, .on_exit = on_leader_exit };
        const TaskSpec *spec = task->spec;
        _cleanup_(fd_close) int output_fd = -EBADF, error_fd = -EBADF;
        int r = task_open_captures(task, &output_fd, &error_fd);
        if (r < 0)
                return r;
        char **environment = NULL;
        r = task_environment(task->runner, spec, task->unit, account, &environment);
        if (r < 0)
                return r;
        bool is_user = task->runner->user_mode;
        LeaderOrder order = {
                .uid = is_user ? UINT32_MAX : account->uid,
                .gid = is_user ? UINT32_MAX : account->gid,
                .umask = spec->umask,
                .no_new_privileges = !is_user,
                .directory_optional = !spec->working_directory,
                .grace_usec = spec->grace_usec,
                .unit = task->unit,
                .directory = spec->working_directory ?: account->home,
                .command = spec->command,
                .environment = environment,
        };
        r = leader_process_spawn(
                        task->runner->event,
                        task->runner->spawner,
                        &order,
                        spec->standard_input,
                        output_fd,
                        error_fd,
                        &handlers,
                        task,
                        &task->leader);
        text_list_free(environment);
        return r;
}

bool task_error_is_shortage(int error) {
        return error == -EAGAIN || error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* A command of no strings at all, which only a DaggyR server can send: nothing to make a scope for. */
static void task_fail_without_command(Task *task) {
        admission_queue_remove(&task->waiting);
        task_event(task, TASK_EVENT_ADMITTED);
        task_event(task, TASK_EVENT_START_FAILED);
        task->end.admitted = true;
        task->end.exec_error = ENOENT;
        task_note(task, "could not execute the command: none was given");
        task_finish(task);
}

/* Pipes and leader of one attempt; nothing is left of them on failure. */
static int task_launch(Task *task, Problem *reterr_problem) {
        _cleanup_(account_done) Account account = {};
        task->start_attempts++;
        int r = task_account(task->runner, task->spec, &account, reterr_problem);
        if (r >= 0)
                r = task_spawn_leader(task, &account);
        if (r < 0) {
                task->output = capture_free(task->output);
                task->error = capture_free(task->error);
        }
        return r;
}

static void task_start_over(Task *task) {
        Problem problem = {};
        task->start_again = task->scope_may_exist = false;
        task->scope_taken_until_usec = 0;
        task->output = capture_free(task->output);
        task->error = capture_free(task->error);
        int r = task_launch(task, &problem);
        if (r >= 0)
                r = task_start_scope(task);
        if (r < 0)
                task_start_failed(
                                task, r, *problem.detail ? problem.detail : "could not start the task again");
}

int task_start(Task *task) {
        if (!task->spec->command[0]) {
                task_fail_without_command(task);
                return 0;
        }
        Problem problem = {};
        int r = task_launch(task, &problem);
        if (task_error_is_shortage(r))
                return -EAGAIN;

        admission_queue_remove(&task->waiting);
        task_event(task, TASK_EVENT_ADMITTED);
        task->end.admitted = true;
        int charged = capacity_charge(&task->runner->pool, &task->spec->resources, &task->charge);
        assert(charged >= 0);
        if (r >= 0)
                r = task_start_scope(task);
        if (r < 0)
                task_start_failed(task, r, *problem.detail ? problem.detail : "could not start the task");
        return 0;
}

void task_stop(Task *task, StopReason reason, usec_t grace_usec) {
        if (task->state == TASK_FINISHED)
                return;
        /* systemd stops the scopes and the daemon at once, and its word may have reached the leader first. */
        if (reason == STOP_SHUTDOWN && task->stopped_from_outside)
                task->end.stop = STOP_SHUTDOWN;
        if (task->end.stop == STOP_NONE && task->state != TASK_ENDING) {
                task_end_stop(&task->end, reason);
                task_note(task,
                          reason == STOP_TIMEOUT                  ? "exceeded its timeout" :
                                          reason == STOP_SHUTDOWN ? "daggyr is shutting down" :
                                                                    "stopped by request");
        }
        if (task->state == TASK_QUEUED) {
                admission_queue_remove(&task->waiting);
                task_finish(task);
                return;
        }
        if (!task->leader)
                return;
        if (task->state == TASK_STARTING)
                leader_process_kill(task->leader); /* parked: there is nothing to be gentle with */
        else
                (void) leader_process_stop(task->leader, grace_usec);
        task_arm_overdue(task, grace_usec);
}
