/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <syslog.h>

#include "base/log.h"
#include "core/upgrade/saved-values.h"
#include "io/loop.h"
#include "io/successor.h"
#include "runner/config-load.h"
#include "runner/runner-internal.h"
#include "runner/task-story.h"
#include "runner/task.h"
#include "runner/upgrade.h"
#include "service/config-file.h"
#include "service/listen.h"

/* ── the state, as it was inherited ── */

static int read_block(int fd, Text *block) {
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        for (off_t offset = 0; offset < st.st_size;) {
                static char piece[64 * 1024];
                ssize_t n = pread(fd, piece, sizeof(piece), offset);
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                int r = text_append_bytes(block, piece, (size_t) n);
                if (r < 0)
                        return r;
                offset += n;
        }
        return 0;
}

int upgrade_read_state(int fd, Text *block, RunnerState *ret, Problem *reterr_problem) {
        *ret = (RunnerState) {};
        int r = read_block(fd, block);
        (void) close(fd);
        return r < 0 ? problem_from_errno(reterr_problem, r) :
                       runner_state_decode(block->data ?: "", block->size, ret, reterr_problem);
}

static int set_inherited(int64_t fd, bool inherited) {
        if (fd < 0)
                return 0;
        return fcntl((int) fd, F_SETFD, inherited ? 0 : FD_CLOEXEC) < 0 ? -errno : 0;
}

static int capture_set_inherited(const RecordList *list, bool inherited) {
        const SavedCapture *capture = list->items;
        if (list->n == 0)
                return 0;
        int r = set_inherited(capture->pipe_fd, inherited);
        return r < 0 ? r : set_inherited(capture->file_fd, inherited);
}

static int task_set_inherited(const SavedTask *task, bool inherited) {
        const SavedLeader *leader = task->leader.items;
        int r = 0;
        if (task->leader.n > 0) {
                r = set_inherited(leader->pid_fd, inherited);
                if (r >= 0)
                        r = set_inherited(leader->control_fd, inherited);
                if (r >= 0)
                        r = set_inherited(leader->feed_fd, inherited);
        }
        if (r >= 0)
                r = capture_set_inherited(&task->output, inherited);
        return r < 0 ? r : capture_set_inherited(&task->error, inherited);
}

int state_set_inherited(const RunnerState *state, bool inherited) {
        const SavedListener *listeners = state->listeners.items;
        const SavedTask *tasks = state->tasks.items;
        int r = set_inherited(state->spawner.fd, inherited);
        if (r >= 0)
                r = set_inherited(state->broker.fd, inherited);
        for (size_t i = 0; r >= 0 && i < state->listeners.n; i++)
                r = set_inherited(listeners[i].fd, inherited);
        for (size_t i = 0; r >= 0 && i < state->tasks.n; i++)
                r = task_set_inherited(&tasks[i], inherited);
        return r;
}

/* ── the question whether ── */

static int check_specs(const RunnerState *state, Problem *problem) {
        const SavedTask *tasks = state->tasks.items;
        for (size_t i = 0; i < state->tasks.n; i++) {
                _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
                int r = saved_spec_to(&tasks[i].spec, &spec, problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Whether what listens may go on to, with this configuration. */
static int check_listeners(const RunnerState *state, const ServiceConfig *config, Problem *problem) {
        _cleanup_(freep) char *token = NULL;
        const SavedListener *listeners = state->listeners.items;
        int r = config_file_read_token(PROGRAM_NAME, config, &token);
        if (r < 0)
                return problem_set(problem, 409, NULL, "the token cannot be read");
        if (token || config->tls_client_ca || config->insecure)
                return 0;
        for (size_t i = 0; i < state->listeners.n; i++)
                if (!listeners[i].is_local)
                        return problem_set(
                                        problem,
                                        409,
                                        NULL,
                                        "what listens to other machines takes \"auth\", \"tls\" with "
                                        "\"client_ca\", or \"insecure\": true");
        return 0;
}

static int check_server(const char *config_path, const ServiceConfig *config, Problem *problem) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_server_freep) HttpServer *server = NULL;
        int r = sd_event_new(&event);
        if (r >= 0)
                r = listen_server_new(event, config_path, config, 1024, NULL, &server);
        return r < 0 ? problem_set(problem, 409, NULL, "it cannot listen with its configuration") : 0;
}

int upgrade_check_state(const CommandLine *command_line) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        _cleanup_(text_done) Text block = {};
        const char *path = command_line->config_path;
        RunnerState state;
        Problem problem = {};
        int r = upgrade_read_state(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), &block, &state, &problem);
        if (r >= 0)
                r = check_specs(&state, &problem);
        if (r >= 0 && runner_config_load(path, &config) < 0)
                r = problem_set(&problem, 409, NULL, "its configuration is not valid (see daggyr --check)");
        if (r >= 0 && !command_line->user_mode && runner_config_check_task_user(path, config) < 0)
                r = problem_set(&problem, 409, NULL, "its configuration names an account that will not do");
        if (r >= 0)
                r = check_listeners(&state, &config->service, &problem);
        if (r >= 0)
                r = check_server(path, &config->service, &problem);
        runner_state_done(&state);
        if (r < 0)
                (void) fprintf(stderr, "%s\n", problem.detail);
        else
                (void) fputs(SUCCESSOR_ASSENT, stdout);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ── a runner of it ── */

static TaskEnd end_of(const SavedEnd *saved) {
        return (TaskEnd) {
                .stop = (StopReason) saved->stop,
                .admitted = saved->admitted,
                .start_error = (int) saved->start_error,
                .exec_error = (int) saved->exec_error,
                .main_exited = saved->main_exited,
                .exit_code = (int) saved->exit_code,
                .signal = (int) saved->signal,
                .core_dumped = saved->core_dumped,
                .oom_kills = saved->oom_kills,
        };
}

static void take_values(Task *task, const SavedTask *saved) {
        task->lease_epoch = saved->lease_epoch;
        task->state = (TaskState) saved->state;
        task->result = (TaskResult) saved->result;
        task->end = end_of(&saved->end);
        task->usage = (TaskUsage) {
                .cpu_usec = saved->usage.cpu_usec,
                .memory_peak_bytes = saved->usage.memory_peak_bytes,
                .io_read_bytes = saved->usage.io_read_bytes,
                .io_write_bytes = saved->usage.io_write_bytes,
                .tasks_peak = saved->usage.tasks_peak,
        };
        task->submit_usec = saved->submit_usec;
        task->start_usec = saved->start_usec;
        task->stop_usec = saved->stop_usec;
        task->submit_boottime_usec = saved->submit_boottime_usec;
        task->start_boottime_usec = saved->start_boottime_usec;
        task->stop_boottime_usec = saved->stop_boottime_usec;
        task->scope = (TaskScope) saved->scope;
        task->scope_taken_until_usec = saved->scope_taken_until_usec;
        task->start_attempts = (unsigned) saved->start_attempts;
        task->shutdown_asked = saved->shutdown_asked;
        task->remains_interval_usec = saved->remains_interval_usec;
        task->killed_usec = saved->killed_usec;
        task->unkillable = saved->unkillable;
        task->waiting.since_usec = saved->waiting_since_usec;
        task->waiting.want = task->spec->resources;
        task->journal.rate = (JournalRate) {
                .interval_start_usec = saved->journal.interval_start_usec,
                .n_lines = (unsigned) saved->journal.n_lines,
                .n_bytes = saved->journal.n_bytes,
                .n_dropped = saved->journal.n_dropped,
        };
}

static int take_texts(Task *task, const SavedTask *saved) {
        for (size_t i = 0; saved->notes && saved->notes[i]; i++)
                task_note(task, "%s", saved->notes[i]);
        if (saved->queue)
                task->queue = strdup(saved->queue);
        if (saved->told)
                task->told = strdup(saved->told);
        if ((saved->queue && !task->queue) || (saved->told && !task->told))
                return -ENOMEM;
        int r = record_bytes_append(&saved->journal.output, &task->journal.output.partial);
        return r < 0 ? r : record_bytes_append(&saved->journal.error, &task->journal.error.partial);
}

static int take_capture(Task *task, const RecordList *list, Capture **ret) {
        return list->n == 0 ? 0 :
                              capture_restore(task->runner->daemon.event,
                                              task->runner->output_directory,
                                              list->items,
                                              task_on_output,
                                              task,
                                              ret);
}

static int take_processes(Task *task, const SavedTask *saved) {
        int r = take_capture(task, &saved->output, &task->output);
        if (r >= 0)
                r = take_capture(task, &saved->error, &task->error);
        if (r >= 0 && saved->leader.n > 0)
                r = leader_process_restore(
                                task->runner->daemon.event,
                                saved->leader.items,
                                &task_leader_handlers,
                                task,
                                &task->leader);
        return r;
}

/* A place among those that wait, or what it has of the capacity and of devices. */
static int take_place(Task *task, const SavedTask *saved) {
        Runner *runner = task->runner;
        int r = saved->devices.n == 0 ?
                        0 :
                        saved_grant_to(saved->devices.items, &runner->devices_in_use, &task->devices);
        if (r < 0)
                return r;
        if (task->state == TASK_QUEUED)
                admission_list_return(&runner->waiting, &task->waiting);
        else if (task->state != TASK_FINISHED)
                return capacity_charge_again(&runner->pool, &task->spec->resources, &task->charge);
        return 0;
}

static int restore_task(Runner *runner, const SavedTask *saved, Task **ret) {
        Problem problem = {};
        TaskSpec *spec = NULL;
        _cleanup_(task_freep) Task *task = NULL;
        int r = saved_spec_to(&saved->spec, &spec, &problem);
        if (r >= 0)
                r = task_new(runner, spec, &task);
        if (r < 0)
                return r;
        take_values(task, saved);
        r = take_texts(task, saved);
        if (r >= 0)
                r = take_place(task, saved);
        if (r >= 0)
                r = take_processes(task, saved);
        if (r >= 0 && task_table_find(&runner->tasks, task->spec->task_id))
                r = -EEXIST;
        runner->tasks.next_sequence = saved->sequence;
        if (r >= 0)
                r = task_table_add(&runner->tasks, task);
        if (r < 0)
                return r;
        runner->metrics.unkillable += task->unkillable;
        *ret = TAKE_PTR(task);
        return 0;
}

/* In the order in which they finished, which is that in which they are forgotten. */
static int restore_tasks(Runner *runner, const RunnerState *state) {
        const SavedTask *saved = state->tasks.items;
        _cleanup_(freep) Task **finished = calloc(state->tasks.n + 1, sizeof(Task *));
        _cleanup_(freep) Task **tasks = calloc(state->tasks.n + 1, sizeof(Task *));
        if (!finished || !tasks)
                return -ENOMEM;
        for (size_t i = 0; i < state->tasks.n; i++) {
                int r = restore_task(runner, &saved[i], &tasks[i]);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot go on with task %s", saved[i].spec.task_id);
                if (saved[i].finish_order > 0 && saved[i].finish_order <= state->tasks.n)
                        finished[saved[i].finish_order - 1] = tasks[i];
        }
        runner->tasks.next_sequence = state->next_sequence;
        for (size_t i = 0; i < state->tasks.n && finished[i]; i++)
                task_table_finished(&runner->tasks, finished[i]);
        for (size_t i = 0; i < state->tasks.n; i++)
                task_go_on(tasks[i], &saved[i]);
        return 0;
}

static void restore_metrics(Runner *runner, const SavedMetrics *saved) {
        Metrics *metrics = &runner->metrics;
        const SavedCount *ended = saved->ended.items;
        metrics->submitted = saved->submitted;
        metrics->output_bytes = saved->output_bytes;
        metrics->journal_lines_dropped = saved->journal_lines_dropped;
        metrics->bus_reconnects_before = saved->bus_reconnects;
        for (size_t i = 0; i < saved->ended.n && i < _TASK_RESULT_MAX; i++)
                metrics->ended[i] = ended[i].count;
        saved_histogram_to(&saved->start_latency, &metrics->start_latency);
        saved_histogram_to(&saved->run_time, &metrics->run_time);
        router_restore_metrics(runner->daemon.router, &saved->requests);
}

static int restore_lease(Runner *runner, const RunnerState *state) {
        const SavedEntry *entries = state->lease_entries.items;
        LeaseJournal *journal = &runner->lease_journal;
        saved_lease_to(&state->lease, &runner->lease);
        saved_lease_to(&state->lease_told, &journal->told);
        for (size_t i = 0; i < state->lease_entries.n && i < LEASE_ENTRIES_MAX; i++) {
                int r = record_bytes_append(&entries[i].bytes, &journal->entries[journal->n_entries]);
                if (r < 0)
                        return r;
                journal->n_entries++;
        }
        if (*journal->told.id && !lease_is_live(&runner->lease, usec_now(CLOCK_BOOTTIME)))
                runner_lease_changed(runner); /* it has expired just now */
        lease_journal_update(journal, &runner->lease);
        runner_arm_lease(runner);
        return 0;
}

static void restore_revision(Runner *runner, const RunnerState *state) {
        Resources before;
        saved_resources_to(&state->total, &before);
        runner->pool.revision = state->revision + !resources_equal(&before, &runner->pool.total);
        runner->told_revision = state->told_revision;
        daemon_status_changed(&runner->daemon);
}

int runner_restore_listeners(Runner *runner, const RunnerState *state) {
        const SavedListener *listeners = state->listeners.items;
        runner->daemon.port = (uint16_t) state->port;
        for (size_t i = 0; i < state->listeners.n; i++) {
                if (!listeners[i].is_local && !access_permits_open_socket(&runner->daemon.access)) {
                        log_line(LOG_ERR, "What listens to other machines may not, with this configuration");
                        return -EPERM;
                }
                int r = http_server_listen(runner->daemon.http, (int) listeners[i].fd);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot go on to listen");
        }
        return 0;
}

int runner_restore(Runner *runner, const RunnerState *state) {
        runner->daemon.draining = state->draining;
        runner->oom_watch.n_explained = state->oom_explained;
        runner->shortage_told_usec = state->shortage_told_usec;
        runner->pressure_watch.pressure.is_holding = state->pressure_holding;
        runner->pressure_watch.told_usec = state->pressure_told_usec;
        restore_metrics(runner, &state->metrics);
        int r = event_stream_restore(runner->daemon.events, &state->events);
        if (r >= 0)
                r = restore_lease(runner, state);
        if (r >= 0)
                r = restore_tasks(runner, state);
        if (r < 0)
                return log_errno(
                                LOG_ERR,
                                r,
                                "Cannot go on from the state of version %s",
                                state->program_version);
        restore_revision(runner, state);
        log_line(LOG_NOTICE,
                 "Upgraded in place from version %s to " VERSION ": %zu tasks go on",
                 state->program_version,
                 runner_n_live(runner));
        return 0;
}
