/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From the turn of a waiting task to the order to execute its command. */
#include <assert.h>
#include <inttypes.h>

#include "base/text.h"
#include "io/loop.h"
#include "runner/runner.h"
#include "runner/task-order.h"
#include "runner/task-story.h"

#define MB UINT64_C(1048576)

/* The scope of an earlier task of the same name may take a moment to go. */
#define SCOPE_RETRY_USEC    (50 * USEC_PER_MSEC)
#define SCOPE_PATIENCE_USEC (5 * USEC_PER_SEC)

/* A command that has not begun by then is worth a word. */
#define EXECUTION_SLOW_USEC (5 * USEC_PER_SEC)

bool task_error_is_shortage(int error) {
        return error == -EAGAIN || error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static int task_open_capture(Task *task, Capture **ret, int *ret_write_fd) {
        Runner *runner = task->runner;
        return capture_new(
                        runner->daemon.event,
                        runner->output_directory,
                        runner->config->output_max_bytes,
                        task_on_output,
                        task,
                        ret,
                        ret_write_fd);
}

static void on_leader_spawned(int error, void *userdata);

const LeaderHandlers task_leader_handlers = {
        .on_spawned = on_leader_spawned,
        .on_report = task_on_report,
        .on_exit = task_on_leader_exit,
};

static int task_spawn_leader(Task *task, const Account *account) {
        const TaskSpec *spec = task->spec;
        _cleanup_(fd_close) int output_fd = -EBADF, error_fd = -EBADF;
        int r = task_open_capture(task, &task->output, &output_fd);
        if (r >= 0)
                r = task_open_capture(task, &task->error, &error_fd);
        if (r < 0)
                return r;
        char **environment = NULL;
        r = task_environment(
                        task->runner, spec, task->unit, account, task->devices->environment, &environment);
        if (r < 0)
                return r;
        bool is_user = task->runner->daemon.user_mode;
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
                .devices = task->devices->paths,
        };
        r = leader_process_spawn(
                        task->runner->daemon.event,
                        task->runner->spawner,
                        &order,
                        spec->standard_input,
                        output_fd,
                        error_fd,
                        &task_leader_handlers,
                        task,
                        &task->leader);
        text_list_free(environment);
        return r;
}

static void task_drop_launch(Task *task) {
        task->leader = leader_process_free(task->leader);
        task->output = capture_free(task->output);
        task->error = capture_free(task->error);
}

/* Pipes and leader of one attempt; nothing is left of them on failure. */
static int task_launch(Task *task, Problem *reterr_problem) {
        _cleanup_(account_done) Account account = {};
        task->start_attempts++;
        int r = task_account(task->runner, task->spec, &account, reterr_problem);
        if (r >= 0)
                r = task_spawn_leader(task, &account);
        if (r < 0)
                task_drop_launch(task);
        return r;
}

/* A command of no strings at all, which only a DaggyR server can send: nothing to make a scope for. */
static void task_fail_without_command(Task *task) {
        task->end.exec_error = ENOENT;
        task_note(task, "could not execute the command: none was given");
        task_event(task, TASK_EVENT_START_FAILED);
        task_finish(task);
}

static void task_give_back(Task *task) {
        capacity_charge_release(&task->charge);
        task->devices = device_grant_free(task->devices);
}

/* Of each kind of devices as many items are free as the capacity says. */
static int task_take_what_it_needs(Task *task) {
        Runner *runner = task->runner;
        const Resources *want = &task->spec->resources;
        int r = capacity_charge(&runner->pool, want, &task->charge);
        if (r < 0)
                return r;
        r = device_grants_take(&runner->devices_in_use, &runner->config->devices, want, &task->devices);
        assert(r != -EDQUOT);
        if (r < 0)
                task_give_back(task);
        return r;
}

int task_start(Task *task) {
        Problem problem = {};
        bool has_command = task->spec->command[0] != NULL;
        int r = task_take_what_it_needs(task);
        if (r == -EDQUOT)
                return r;
        if (r >= 0 && has_command)
                r = task_launch(task, &problem);
        if (task_error_is_shortage(r)) {
                task_give_back(task);
                return -EAGAIN;
        }

        admission_list_remove(&task->waiting);
        task->end.admitted = true;
        task_event(task, TASK_EVENT_ADMITTED);
        if (!has_command)
                task_fail_without_command(task);
        else if (r < 0)
                task_start_failed(task, r, *problem.detail ? problem.detail : "could not start the task");
        return 0;
}

void task_start_over(Task *task) {
        Problem problem = {};
        task->scope = TASK_SCOPE_NONE;
        task->scope_taken_until_usec = 0;
        task->killed_usec = 0;
        task_drop_launch(task);
        int r = task_launch(task, &problem);
        task_event(task, TASK_EVENT_UNDONE);
        if (r < 0)
                task_start_failed(
                                task, r, *problem.detail ? problem.detail : "could not start the task again");
}

/* The host is short of processes, or no spawner answers: the task waits again, in its old place. */
static void task_postpone(Task *task) {
        Runner *runner = task->runner;
        task_drop_launch(task);
        task_give_back(task);
        task->end.admitted = false;
        task->start_attempts--;
        admission_list_return(&runner->waiting, &task->waiting);
        task_event(task, TASK_EVENT_POSTPONED);
        runner_shortage(runner);
}

static void on_scope_started(int error, const char *message, void *userdata);

static int task_order_scope(Task *task) {
        Runner *runner = task->runner;
        TaskSpec *spec = task->spec;
        ScopeOrder order = {
                .task_id = spec->task_id,
                .cpu_quota_usec = spec->resources.cores_micro,
                .memory_max_bytes = spec->resources.memory_mb * MB,
                .tasks_max = spec->tasks_max + 1, /* the leader is one more */
                .stop_timeout_usec = usec_add(spec->grace_usec, TASK_OVERDUE_USEC),
                .device_paths = task->devices->paths,
                .properties = spec->parsed_properties,
        };
        ScopeLeader leader = {
                .pid = leader_process_pid(task->leader),
                .pid_fd = leader_process_pid_fd(task->leader),
        };
        return task_scopes_start(
                        runner->scopes,
                        &order,
                        task->unit,
                        own_unit_name(runner->own_unit),
                        &leader,
                        on_scope_started,
                        task,
                        &task->scope_call);
}

static void task_ask_for_scope(Task *task) {
        int r = task_order_scope(task);
        if (r < 0)
                on_scope_started(r, "could not ask for the scope", task);
}

static void on_leader_spawned(int error, void *userdata) {
        Task *task = userdata;
        if (error < 0 && task->end.stop == STOP_NONE && task_error_is_shortage(error)) {
                task_postpone(task);
                return;
        }
        runner_shortage_over(task->runner);
        if (error < 0) {
                task->leader = leader_process_free(task->leader);
                task_start_failed(task, error, "could not start the task");
                return;
        }
        task_event(task, TASK_EVENT_SPAWNED);
        if (task->end.stop == STOP_NONE)
                task_ask_for_scope(task);
}

static int on_scope_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->scope_source);
        task_ask_for_scope(task);
        return 0;
}

/* For as long as systemd is away, or there is no descriptor to ask with, the leader stays parked: the task
 * waits. */
static bool scope_is_worth_a_retry(Task *task, int error) {
        if (error == -EEXIST && task->scope_taken_until_usec == 0)
                task->scope_taken_until_usec = usec_add(usec_now(CLOCK_BOOTTIME), SCOPE_PATIENCE_USEC);
        return error == -ENOTCONN || error == -EMFILE || error == -ENFILE || error == -EAGAIN ||
                        (error == -EEXIST && usec_now(CLOCK_BOOTTIME) < task->scope_taken_until_usec);
}

/* What the answer says of the scope. Somebody else's scope of the same name is none of this task's. */
static TaskScope scope_after_answer(TaskScope before, int error) {
        if (error >= 0 || error == -ETIMEDOUT || error == -ENOTCONN)
                return TASK_SCOPE_POSSIBLE;
        return error == -EEXIST ? TASK_SCOPE_NONE : before;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        task_stop(task, STOP_TIMEOUT, task->spec->grace_usec);
        return 0;
}

static int on_slow_execution(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        event_source_dropp(&task->slow_source);
        task_note(task,
                  "the command has not begun %d s after it was to be executed: a file server, or a scanner of files, "
                  "may be holding it up",
                  (int) (EXECUTION_SLOW_USEC / USEC_PER_SEC));
        return 0;
}

static int task_arm_limits(Task *task, usec_t timeout_usec, usec_t slow_usec) {
        sd_event *event = task->runner->daemon.event;
        int r = loop_set_timer(event, &task->timeout_source, timeout_usec, on_timeout, task, "task-timeout");
        return r < 0 ? r :
                       loop_set_timer(event,
                                      &task->slow_source,
                                      slow_usec,
                                      on_slow_execution,
                                      task,
                                      "task-slow-execution");
}

static int task_arm_scope_retry(Task *task, usec_t when_usec) {
        return loop_set_timer(
                        task->runner->daemon.event,
                        &task->scope_source,
                        when_usec,
                        on_scope_retry,
                        task,
                        "task-scope-retry");
}

/* The kernel may take any time to execute a command, or never come to it: for a file server that does not
 * answer, or a scanner that is asked first. The leader waits for that, so the limits are kept from here. */
static int task_release(Task *task) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        task_event(task, TASK_EVENT_RELEASED);
        int r = task_arm_limits(
                        task, usec_add(now, task->spec->timeout_usec), usec_add(now, EXECUTION_SLOW_USEC));
        return r < 0 ? r : leader_process_go(task->leader);
}

static void on_scope_started(int error, const char *message, void *userdata) {
        Task *task = userdata;
        task->scope_call = NULL;
        /* Asked twice because the first answer was lost: it is our own scope that exists (systemd's answer),
         * or our own leader that is in one (the broker's). */
        if ((error == -EEXIST || error == -EPERM) && !leader_process_has_exited(task->leader) &&
            leader_process_is_in(task->leader, TASK_SLICE, task->unit))
                error = 0;
        task->scope = scope_after_answer(task->scope, error);
        if (leader_process_has_exited(task->leader)) { /* stopped meanwhile */
                task_leader_gone(task);
                return;
        }
        if (task->end.stop != STOP_NONE)
                return; /* killed, and soon gone */
        if (scope_is_worth_a_retry(task, error))
                error = task_arm_scope_retry(task, usec_add(usec_now(CLOCK_BOOTTIME), SCOPE_RETRY_USEC));
        else if (error >= 0)
                error = task_release(task);
        if (error < 0)
                task_start_failed(task, error, message ?: "could not start in the scope");
}

void task_start_failed(Task *task, int error, const char *what) {
        task->end.start_error = -error;
        task_event(task, TASK_EVENT_START_FAILED);
        task_note(task, "%s: %s", what, strerror(-error));
        if (task->leader)
                task_kill_leader(task);
        else
                task_finish(task);
}

/* Where no answer will come any more, systemd may have made the scope or not: it is asked again. */
void task_go_on_starting(Task *task, const SavedTask *saved) {
        usec_t retry_usec = saved->scope_retry_usec;
        (void) task_arm_limits(task, saved->timeout_usec, saved->slow_usec);
        if (!task->leader)
                return;
        if (saved->scope_asked &&
            task_scopes_resume(
                            task->runner->scopes,
                            saved->scope_call_id,
                            on_scope_started,
                            task,
                            &task->scope_call) < 0) {
                task->scope = TASK_SCOPE_POSSIBLE;
                retry_usec = usec_now(CLOCK_BOOTTIME);
        }
        (void) task_arm_scope_retry(task, retry_usec);
}
