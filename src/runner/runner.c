/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/runner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "io/leader-process.h"
#include "io/loop.h"
#include "runner/config-load.h"
#include "runner/routes.h"
#include "runner/runner-internal.h"
#include "runner/task-run.h"
#include "runner/task.h"

#define RESULTS_BYTES_MAX   (UINT64_C(256) * 1024 * 1024)
#define ACCEPT_ANYWAY_USEC  (3 * USEC_PER_SEC)
#define STILL_STOPPING_USEC (1 * USEC_PER_SEC)

/* ── start ── */

static const DaemonProgram runner_program;

static void on_account_news(void *userdata) {
        runner_admit_soon(userdata);
}

static void apply_limits(Runner *runner) {
        runner->tasks.limits = (TaskLimits) {
                .finished_max = runner->config->results_max,
                .finished_bytes_max = RESULTS_BYTES_MAX,
                .finished_files_max = runner->daemon.n_descriptors / 4,
                .finished_ttl_usec = runner->config->result_ttl_usec,
        };
}

static int runner_init(Runner *runner, sd_event *event, const char *config_path, bool user_mode) {
        /* The spawner first: tasks get the limit of descriptors that it finds. */
        const RunnerState *state = runner->restored;
        const char *spawner_path = user_mode ? NULL : getenv("DAGGYR_SPAWNER");
        int r = state ? spawner_restore(event, LEADER_PATH, spawner_path, &state->spawner, &runner->spawner) :
                        spawner_new(event, LEADER_PATH, spawner_path, &runner->spawner);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot reach the spawner at %s", spawner_path ?: LEADER_PATH);
        r = daemon_init(&runner->daemon,
                        &runner_program,
                        runner,
                        event,
                        config_path,
                        user_mode,
                        &runner->config->service);
        if (r >= 0)
                r = host_facts_read(&runner->facts);
        if (r >= 0)
                r = account_by_uid(geteuid(), &runner->daemon_account);
        if (r >= 0)
                r = task_accounts_new(event, ACCOUNT_PATH, on_account_news, runner, &runner->accounts);
        if (r >= 0)
                r = runner_init_admission(runner);
        if (r < 0)
                return r;
        runner->output_directory = process_spool_directory();
        runner->lease_journal.event = event;
        runner->slice_limits = (SliceLimits) { .cpu_quota_usec = UINT64_MAX, .memory_max_bytes = UINT64_MAX };
        if (state) {
                memcpy(runner->facts.instance_id, state->instance_id, sizeof(runner->facts.instance_id));
                runner->slice_limits = (SliceLimits) {
                        .cpus = state->slice_cpus,
                        .cpu_quota_usec = state->slice_cpu_quota_usec,
                        .memory_max_bytes = state->slice_memory_max_bytes,
                };
        }
        apply_limits(runner);
        runner_update_capacity(runner);
        return 0;
}

int runner_new(sd_event *event,
               const CommandLine *command_line,
               RunnerConfig *config,
               const RunnerState *state,
               RunnerReady on_ready,
               void *userdata,
               Runner **ret) {
        _cleanup_(runner_config_freep) RunnerConfig *owned = config;
        _cleanup_(runner_freep) Runner *runner = calloc(1, sizeof(*runner));
        if (!runner)
                return -ENOMEM;
        runner->config = TAKE_PTR(owned);
        runner->on_ready = on_ready;
        runner->ready_userdata = userdata;
        runner->arguments = command_line->arguments;
        runner->restored = state;
        runner->goes_on = state != NULL;
        int r = runner_init(runner, event, command_line->config_path, command_line->user_mode);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(runner);
        return 0;
}

static void drain_changed(Runner *runner) {
        runner->pool.revision++;
        runner_admit_soon(runner);
        daemon_status_changed(&runner->daemon);
}

static void on_going_down(bool going_down, void *userdata) {
        Runner *runner = userdata;
        runner->host_going_down = going_down;
        log_line(LOG_INFO,
                 going_down ? "The host is going down: no new tasks are started" : "The host stays up");
        drain_changed(runner);
}

static int on_accept_anyway(sd_event_source *source, uint64_t usec, void *userdata) {
        Runner *runner = userdata;
        http_server_accept(runner->daemon.http);
        return 0;
}

int runner_start(Runner *runner) {
        const RunnerState *state = runner->restored;
        int r = state ? runner_restore_listeners(runner, state) : daemon_listen(&runner->daemon);
        if (r >= 0)
                r = runner_connect(runner);
        if (r >= 0)
                r = login1_new(runner->daemon.event, on_going_down, runner, &runner->login1);
        if (r >= 0 && state)
                r = runner_restore(runner, state);
        if (r < 0)
                return r;
        runner->restored = NULL;
        /* The first client of an activated daggyr should not see a half-started one; but where systemd stays
         * away, clients are told so. */
        return loop_set_timer(
                        runner->daemon.event,
                        &runner->accept_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), ACCEPT_ANYWAY_USEC),
                        on_accept_anyway,
                        runner,
                        "runner-accept");
}

int runner_check(Runner *runner) {
        runner->checking = true;
        return runner_connect(runner);
}

/* ── run ── */

void runner_update_capacity(Runner *runner) {
        HostCapacity host = {
                .cores_micro = runner->facts.cpus * CORES_MICRO_PER_CORE,
                .memory_mb = runner->facts.memory_mb,
        };
        Resources total;
        host_capacity_limit(&host, &runner->slice_limits);
        capacity_effective(&host, &runner->config->capacity_overrides, &total);
        int r = devices_count(&runner->config->devices, &total);
        assert(r >= 0); /* the configuration was checked */
        if (resources_equal(&total, &runner->pool.total))
                return;
        capacity_pool_set_total(&runner->pool, &total);
        runner_admit_soon(runner);
        daemon_status_changed(&runner->daemon);
}

bool runner_is_stopping(const Runner *runner) {
        return runner->unit_stopping || runner->daemon.stopping;
}

bool runner_is_draining(const Runner *runner) {
        return runner->daemon.draining || runner->host_going_down || runner_is_stopping(runner);
}

bool runner_is_ready(const Runner *runner) {
        return runner->systemd_ready && !runner_is_draining(runner);
}

static const char *why_not_ready(const void *userdata) {
        const Runner *runner = userdata;
        return !runner->systemd_ready              ? "not yet connected to systemd" :
                        runner_is_draining(runner) ? "this runner is draining" :
                                                     NULL;
}

static void tell_status(void *userdata) {
        Runner *runner = userdata;
        Resources free_amounts;
        capacity_pool_free_amounts(&runner->pool, &free_amounts);
        const char *state = runner_is_stopping(runner)             ? "stopping: " :
                        runner_is_draining(runner)                 ? "draining: " :
                        !runner->systemd_ready                     ? "no connection to systemd: " :
                        runner->pressure_watch.pressure.is_holding ? "short of memory: " :
                                                                     "";
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%zu running, %zu waiting, %.1f of %.1f cores free",
                        state,
                        runner_n_live(runner) - runner->waiting.n_entries,
                        runner->waiting.n_entries,
                        (double) free_amounts.cores_micro / (double) CORES_MICRO_PER_CORE,
                        (double) runner->pool.total.cores_micro / (double) CORES_MICRO_PER_CORE);
        if (runner->told_revision != runner->pool.revision) {
                runner->told_revision = runner->pool.revision;
                event_stream_send(runner->daemon.events, "capacity", capacity_brief(runner));
        }
}

static void set_draining(void *userdata, bool draining, DrainChange *change) {
        Runner *runner = userdata;
        if (runner->daemon.draining != draining) {
                runner->daemon.draining = draining;
                log_line(LOG_INFO, draining ? "Draining: no new tasks are started" : "Taking tasks again");
                drain_changed(runner);
        }
        daemon_drained(change, 0);
}

static json_object *capacity(const void *userdata) {
        return capacity_brief(userdata);
}

static int format_metrics(const void *userdata, Text *text) {
        return metrics_format(userdata, text);
}

static int on_lease_expired(sd_event_source *source, uint64_t usec, void *userdata) {
        runner_lease_changed(userdata);
        return 0;
}

void runner_arm_lease(Runner *runner) {
        bool live = lease_is_live(&runner->lease, usec_now(CLOCK_BOOTTIME));
        (void) loop_set_timer(
                        runner->daemon.event,
                        &runner->lease_source,
                        live ? runner->lease.expires_usec : USEC_INFINITY,
                        on_lease_expired,
                        runner,
                        "runner-lease");
}

void runner_lease_changed(Runner *runner) {
        event_stream_send(runner->daemon.events, "lease", runner_lease_json(runner));
        lease_journal_update(&runner->lease_journal, &runner->lease);
        runner_arm_lease(runner);
}

void runner_task_finished(Runner *runner) {
        runner->pool.revision++;
        runner_admit_soon(runner);
        daemon_status_changed(&runner->daemon);
}

/* ── reload ── */

/* Tasks are not touched. CONFIG is taken over. */
static int take_config(Runner *runner, RunnerConfig *new_config) {
        _cleanup_(runner_config_freep) RunnerConfig *config = new_config;
        int r = daemon_reconfigure(&runner->daemon, &config->service);
        if (r < 0)
                return r;
        runner_config_free(runner->config);
        runner->config = TAKE_PTR(config);
        apply_limits(runner);
        runner_update_capacity(runner);
        pressure_watch_update(runner);
        runner_admit_soon(runner);
        return 0;
}

static int take_next_config(Runner *runner) {
        _cleanup_(runner_config_freep) RunnerConfig *config = TAKE_PTR(runner->next_config);
        if (!runner->daemon.user_mode) {
                _cleanup_(account_done) Account account = {};
                int r = task_accounts_get(runner->accounts, config->task_user, &account);
                r = runner_config_check_account(runner->daemon.config_path, config, r, &account);
                if (r < 0)
                        return r;
        }
        return take_config(runner, TAKE_PTR(config));
}

static void on_next_account(void *userdata) {
        Runner *runner = userdata;
        runner->next_account = NULL;
        process_reload_done(take_next_config(runner));
}

static int reload(void *userdata) {
        Runner *runner = userdata;
        runner->next_account = accounts_wait_free(runner->next_account);
        runner->next_config = runner_config_free(runner->next_config);
        int r = runner_config_load(runner->daemon.config_path, &runner->next_config);
        if (r < 0)
                return r;
        const char *name = runner->next_config->task_user;
        r = runner->daemon.user_mode ? -EALREADY :
                                       task_accounts_wait(
                                                       runner->accounts,
                                                       &name,
                                                       1,
                                                       on_next_account,
                                                       NULL,
                                                       runner,
                                                       &runner->next_account);
        if (r >= 0)
                return -EINPROGRESS;
        return r == -EALREADY ? take_next_config(runner) : r;
}

/* ── stop ── */

static void ask_whether_still_stopping(Runner *runner);

static void on_stopping_known(bool is_stopping, void *userdata) {
        Runner *runner = userdata;
        runner->stopping_question = own_unit_question_free(runner->stopping_question);
        if (is_stopping) {
                ask_whether_still_stopping(runner);
                return;
        }
        runner->unit_stopping = false;
        log_line(LOG_INFO, "systemd does not stop daggyr any more: taking tasks again");
        drain_changed(runner);
}

static int on_time_to_ask(sd_event_source *source, uint64_t usec, void *userdata) {
        Runner *runner = userdata;
        if (runner->daemon.stopping) /* no longer a question */
                return 0;
        int r = own_unit_ask_stopping(
                        runner->own_unit, on_stopping_known, runner, &runner->stopping_question);
        if (r < 0)
                ask_whether_still_stopping(runner);
        return 0;
}

static void ask_whether_still_stopping(Runner *runner) {
        (void) loop_set_timer(
                        runner->daemon.event,
                        &runner->stopping_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), STILL_STOPPING_USEC),
                        on_time_to_ask,
                        runner,
                        "runner-stopping");
}

void runner_unit_stopping(Runner *runner) {
        if (runner_is_stopping(runner))
                return;
        runner->unit_stopping = true;
        log_line(LOG_INFO, "systemd is about to stop daggyr: no new tasks are started");
        upgrade_give_up(runner, "daggyr is stopping");
        drain_changed(runner);
        ask_whether_still_stopping(runner);
}

/* Ends all tasks and then the loop; the second time without waiting for their grace periods. */
static void stop(void *userdata, bool again) {
        Runner *runner = userdata;
        upgrade_give_up(runner, "daggyr is stopping");
        for (Task *task = runner->tasks.first; task; task = task->next)
                task_stop(task, STOP_SHUTDOWN, again ? 0 : task->spec->grace_usec);
        runner_admit_soon(runner);
}

static void upgrade(void *userdata) {
        upgrade_begin(userdata, NULL);
}

static const DaemonProgram runner_program = {
        .name = PROGRAM_NAME,
        .endpoints = runner_endpoints,
        .stop = stop,
        .reload = reload,
        .upgrade = upgrade,
        .why_not_ready = why_not_ready,
        .set_draining = set_draining,
        .capacity = capacity,
        .format_metrics = format_metrics,
        .tell_status = tell_status,
};

Runner *runner_free(Runner *runner) {
        if (!runner)
                return NULL;
        runner->upgrade = upgrade_free(runner->upgrade);
        daemon_disconnect(&runner->daemon); /* before all that requests point to */
        task_table_done(&runner->tasks);
        task_accounts_free(runner->accounts);
        stale_scopes_free(runner->stale_scopes);
        own_unit_question_free(runner->stopping_question);
        own_unit_free(runner->own_unit);
        capacity_watch_free(runner->capacity_watch);
        task_scopes_free(runner->scopes);
        systemd1_free(runner->systemd1);
        login1_free(runner->login1);
        event_source_dropp(&runner->admit_source);
        event_source_dropp(&runner->patience_source);
        event_source_dropp(&runner->shortage_source);
        event_source_dropp(&runner->expiry_source);
        event_source_dropp(&runner->accept_source);
        event_source_dropp(&runner->lease_source);
        event_source_dropp(&runner->stopping_source);
        pressure_watch_done(&runner->pressure_watch);
        lease_journal_done(&runner->lease_journal);
        account_done(&runner->daemon_account);
        spawner_free(runner->spawner);
        runner_config_free(runner->config);
        runner_config_free(runner->next_config);
        daemon_done(&runner->daemon);
        free(runner);
        return NULL;
}
