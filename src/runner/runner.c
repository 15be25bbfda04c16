/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/runner.h"

#include <assert.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/container.h"
#include "base/log.h"
#include "base/text.h"
#include "io/leader-process.h"
#include "io/loop.h"
#include "runner/config-load.h"
#include "runner/lease-journal.h"
#include "runner/routes.h"
#include "runner/task-order.h"
#include "runner/task-run.h"
#include "runner/task.h"
#include "service/config-file.h"
#include "service/listen.h"

#define RESULTS_BYTES_MAX     (UINT64_C(256) * 1024 * 1024)
#define SHORTAGE_PAUSE_USEC   (200 * USEC_PER_MSEC)
#define SHORTAGE_TOLD_USEC    (60 * USEC_PER_SEC)
#define CAPACITY_RECHECK_USEC (1 * USEC_PER_SEC)
#define ACCEPT_ANYWAY_USEC    (3 * USEC_PER_SEC)
#define STATUS_INTERVAL_USEC  (200 * USEC_PER_MSEC)

static void runner_update_capacity(Runner *runner) {
        HostCapacity host = {
                .cores_micro = runner->facts.cpus * CORES_MICRO_PER_CORE,
                .memory_mb = runner->facts.memory_mb,
        };
        Resources total;
        host_capacity_limit(&host, &runner->slice_limits);
        capacity_effective(&host, &runner->config->capacity_overrides, &total);
        if (resources_equal(&total, &runner->pool.total))
                return;
        capacity_pool_set_total(&runner->pool, &total);
        runner_admit_soon(runner);
        runner_status_changed(runner);
}

static void on_capacity(const SliceLimits *limits, void *userdata) {
        Runner *runner = userdata;
        runner->slice_limits = *limits;
        runner_update_capacity(runner);
}

bool runner_is_draining(const Runner *runner) {
        return runner->draining || runner->host_going_down || runner->stopping;
}

bool runner_is_ready(const Runner *runner) {
        return runner->systemd_ready && !runner_is_draining(runner);
}

static size_t n_live(const Runner *runner) {
        return runner->tasks.n_tasks - runner->tasks.n_finished;
}

static int on_status(sd_event_source *source, uint64_t usec, void *userdata) {
        Runner *runner = userdata;
        Resources free_amounts;
        capacity_pool_free_amounts(&runner->pool, &free_amounts);
        const char *state = runner->stopping       ? "stopping: " :
                        runner_is_draining(runner) ? "draining: " :
                        !runner->systemd_ready     ? "no connection to systemd: " :
                                                     "";
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%zu running, %zu waiting, %.1f of %.1f cores free",
                        state,
                        n_live(runner) - runner->waiting.n_entries,
                        runner->waiting.n_entries,
                        (double) free_amounts.cores_micro / (double) CORES_MICRO_PER_CORE,
                        (double) runner->pool.total.cores_micro / (double) CORES_MICRO_PER_CORE);
        if (runner->told_revision != runner->pool.revision) {
                runner->told_revision = runner->pool.revision;
                event_stream_send(runner->events, "capacity", capacity_brief(runner));
        }
        return 0;
}

void runner_status_changed(Runner *runner) {
        int enabled = SD_EVENT_OFF;
        if (runner->status_source)
                (void) sd_event_source_get_enabled(runner->status_source, &enabled);
        if (enabled == SD_EVENT_OFF)
                (void) loop_set_timer(
                                runner->event,
                                &runner->status_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), STATUS_INTERVAL_USEC),
                                on_status,
                                runner,
                                "runner-status");
}

void runner_admit_soon(Runner *runner) {
        (void) sd_event_source_set_enabled(runner->admit_source, SD_EVENT_ONESHOT);
}

static int on_time_to_admit(sd_event_source *source, uint64_t usec, void *userdata) {
        runner_admit_soon(userdata);
        return 0;
}

static void admit_later(
                Runner *runner,
                sd_event_source **source,
                usec_t delay_usec,
                const char *description) {
        (void) loop_set_timer(
                        runner->event,
                        source,
                        usec_add(usec_now(CLOCK_BOOTTIME), delay_usec),
                        on_time_to_admit,
                        runner,
                        description);
}

static void runner_expire(Runner *runner);

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata) {
        runner_expire(userdata);
        return 0;
}

static void runner_expire(Runner *runner) {
        usec_t next = task_table_expire(&runner->tasks, usec_now(CLOCK_BOOTTIME));
        (void) loop_set_timer(
                        runner->event, &runner->expiry_source, next, on_expiry, runner, "runner-expiry");
}

/* Not at every attempt, of which there may be many. */
static void runner_tell_shortage(Runner *runner) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (runner->shortage_told_usec > 0 && now < usec_add(runner->shortage_told_usec, SHORTAGE_TOLD_USEC))
                return;
        runner->shortage_told_usec = now;
        log_line(LOG_WARNING,
                 "Tasks wait though there is room for them: out of processes, descriptors or memory, or no spawner "
                 "answers; trying again");
}

void runner_shortage(Runner *runner) {
        runner_tell_shortage(runner);
        runner->shortage_until_usec = usec_add(usec_now(CLOCK_BOOTTIME), SHORTAGE_PAUSE_USEC);
        admit_later(runner, &runner->shortage_source, SHORTAGE_PAUSE_USEC, "runner-shortage");
}

static void on_account_news(void *userdata) {
        runner_admit_soon(userdata);
}

static void release_held(AdmissionQueue *queue) {
        for (AdmissionEntry *entry = queue->first; entry; entry = entry->next)
                entry->held = false;
}

void runner_shortage_over(Runner *runner) {
        if (runner->shortage_until_usec == 0)
                return;
        runner->shortage_until_usec = 0;
        runner_admit_soon(runner);
}

void runner_admit(Runner *runner) {
        if (!runner_is_ready(runner) || runner->waiting.n_entries == 0 ||
            usec_now(CLOCK_BOOTTIME) < runner->shortage_until_usec)
                return;
        release_held(&runner->waiting);
        for (;;) {
                Resources free_amounts;
                capacity_pool_free_amounts(&runner->pool, &free_amounts);
                AdmissionEntry *entry = admission_queue_next(
                                &runner->waiting, &free_amounts, usec_now(CLOCK_BOOTTIME));
                if (!entry)
                        break;
                Task *task = container_of(entry, Task, waiting);
                if (!task_account_is_settled(runner, task->spec)) {
                        entry->held = true; /* until there is news of accounts, or at the next look */
                        continue;
                }
                if (task_start(task) == -EAGAIN) {
                        runner_shortage(runner);
                        return;
                }
                if (runner->shortage_until_usec > 0 &&
                    task->state == TASK_SPAWNING) { /* what becomes of this one tells about the others */
                        runner->shortage_until_usec = USEC_INFINITY;
                        return;
                }
        }
        /* What waits may come to fit when an administrator gives the slice more. */
        if (runner->waiting.n_entries > 0) {
                capacity_watch_refresh(runner->capacity_watch);
                admit_later(runner, &runner->patience_source, CAPACITY_RECHECK_USEC, "runner-recheck");
        }
        runner_status_changed(runner);
}

static int on_admit(sd_event_source *source, void *userdata) {
        Runner *runner = userdata;
        assert(runner->tasks.n_finished <= runner->tasks.n_tasks);
        assert(runner->waiting.n_entries <= n_live(runner));
        runner_expire(runner);
        if (runner->stopping && n_live(runner) == 0)
                return sd_event_exit(runner->event, EXIT_SUCCESS);
        if (runner->host_going_down && n_live(runner) == runner->waiting.n_entries)
                login1_release_delay(runner->login1); /* nothing runs any more */
        runner_admit(runner);
        return 0;
}

static void runner_drain_changed(Runner *runner) {
        runner->pool.revision++;
        runner_admit_soon(runner);
        runner_status_changed(runner);
}

void runner_set_draining(Runner *runner, bool draining) {
        if (runner->draining == draining)
                return;
        runner->draining = draining;
        log_line(LOG_INFO, draining ? "Draining: no new tasks are started" : "Taking tasks again");
        runner_drain_changed(runner);
}

static int on_lease_expired(sd_event_source *source, uint64_t usec, void *userdata) {
        runner_lease_changed(userdata);
        return 0;
}

void runner_lease_changed(Runner *runner) {
        bool live = lease_is_live(&runner->lease, usec_now(CLOCK_BOOTTIME));
        event_stream_send(runner->events, "lease", runner_lease_json(runner));
        lease_journal_update(&runner->lease_journal, &runner->lease);
        (void) loop_set_timer(
                        runner->event,
                        &runner->lease_source,
                        live ? runner->lease.expires_usec : USEC_INFINITY,
                        on_lease_expired,
                        runner,
                        "runner-lease");
}

void runner_task_finished(Runner *runner) {
        runner->pool.revision++;
        runner_admit_soon(runner);
        runner_status_changed(runner);
}

static void runner_systemd_ready(Runner *runner) {
        bool first = runner->on_ready != NULL;
        runner->systemd_ready = true;
        http_server_accept(runner->http);
        runner_admit_soon(runner);
        runner_status_changed(runner);
        if (first) {
                RunnerReady on_ready = runner->on_ready;
                runner->on_ready = NULL;
                on_ready(runner->ready_userdata);
        }
}

static void on_capacity_known(void *userdata) {
        Runner *runner = userdata;
        const char *control_group = capacity_watch_facts(runner->capacity_watch)->control_group;
        if (runner->on_ready && control_group) /* the first time: no task has run yet */
                oom_watch_begin(&runner->oom_watch, control_group);
        runner_systemd_ready(runner);
}

static void runner_find_capacity(Runner *runner) {
        CapacityWaiter *waiter;
        capacity_watch_reset(runner->capacity_watch);
        int r = capacity_watch_when_fresh(runner->capacity_watch, on_capacity_known, runner, &waiter);
        if (r < 0)
                (void) log_errno(LOG_ERR, r, "Cannot find out the capacity");
}

static void on_stale_scopes_gone(int error, void *userdata) {
        Runner *runner = userdata;
        if (error < 0)
                (void) log_errno(LOG_WARNING, error, "Cannot look for scopes of an earlier run, ignoring");
        runner_find_capacity(runner);
}

static void on_own_unit(int error, const char *message, void *userdata) {
        Runner *runner = userdata;
        if (error < 0) {
                (void) log_errno(LOG_ERR, error, "Cannot have a unit of daggyr's own (%s)", message);
                (void) sd_event_exit(runner->event, EXIT_FAILURE);
                return;
        }
        int r = own_unit_is_service(runner->own_unit) ? stale_scopes_end(
                                                                        runner->systemd1,
                                                                        runner->scopes,
                                                                        own_unit_name(runner->own_unit),
                                                                        on_stale_scopes_gone,
                                                                        runner,
                                                                        &runner->stale_scopes) :
                                                        0;
        if (r < 0 || !own_unit_is_service(runner->own_unit))
                on_stale_scopes_gone(r, runner);
}

static void on_connected(void *userdata) {
        Runner *runner = userdata;
        if (runner->checking || runner->own_unit) { /* a connection made anew: everything else is known */
                runner_find_capacity(runner);
                return;
        }
        int r = own_unit_find(runner->event, runner->systemd1, on_own_unit, runner, &runner->own_unit);
        if (r < 0)
                on_own_unit(r, "cannot ask systemd", runner);
}

static void on_disconnected(int error, void *userdata) {
        Runner *runner = userdata;
        if (runner->checking) {
                (void) log_errno(LOG_WARNING, error, "Cannot ask systemd, going by what the host says");
                runner_systemd_ready(runner);
                return;
        }
        if (runner->systemd_ready || runner->on_ready)
                (void) log_errno(LOG_WARNING, error, "No connection to systemd, trying again");
        if (runner->on_ready && runner->own_unit) { /* lost in the middle of the start */
                runner->stale_scopes = stale_scopes_free(runner->stale_scopes);
                runner->own_unit = own_unit_free(runner->own_unit);
        }
        runner->systemd_ready = false;
        runner_status_changed(runner);
}

void runner_stop(Runner *runner) {
        bool again = runner->stopping;
        runner->stopping = true;
        (void) sd_notify(false, "STOPPING=1");
        runner_status_changed(runner);
        for (Task *task = runner->tasks.first; task; task = task->next)
                task_stop(task, STOP_SHUTDOWN, again ? 0 : task->spec->grace_usec);
        runner_admit_soon(runner);
}

static void runner_apply_limits(Runner *runner) {
        runner->tasks.limits = (TaskLimits){
                .finished_max = runner->config->results_max,
                .finished_bytes_max = RESULTS_BYTES_MAX,
                .finished_files_max = runner->n_descriptors / 4,
                .finished_ttl_usec = runner->config->result_ttl_usec,
        };
}

/* What listens, and how, stays as it is until a restart. Tasks are not touched. CONFIG is taken over. */
static int runner_take_config(Runner *runner, RunnerConfig *new_config) {
        _cleanup_(runner_config_freep) RunnerConfig *config = new_config;
        _cleanup_(freep) char *token = NULL;
        int r = config_file_read_token(PROGRAM_NAME, &config->service, &token);
        if (r >= 0)
                r = listen_reload(
                                runner->http,
                                runner->config_path,
                                &config->service,
                                &runner->config->service,
                                token != NULL);
        if (r < 0)
                return r;
        listen_keep(&config->service, &runner->config->service);
        access_configure(&runner->access, &config->service, TAKE_PTR(token));
        runner_config_free(runner->config);
        runner->config = TAKE_PTR(config);
        runner_apply_limits(runner);
        runner_update_capacity(runner);
        runner_admit_soon(runner);
        return 0;
}

static int runner_take_next_config(Runner *runner) {
        _cleanup_(runner_config_freep) RunnerConfig *config = TAKE_PTR(runner->next_config);
        if (!runner->user_mode) {
                _cleanup_(account_done) Account account = {};
                int r = task_accounts_get(runner->accounts, config->task_user, &account);
                r = runner_config_check_account(runner->config_path, config, r, &account);
                if (r < 0)
                        return r;
        }
        return runner_take_config(runner, TAKE_PTR(config));
}

static void on_next_account(void *userdata) {
        Runner *runner = userdata;
        runner->next_account = NULL;
        process_reload_done(runner_take_next_config(runner));
}

static int on_reload(void *userdata) {
        Runner *runner = userdata;
        runner->next_account = accounts_wait_free(runner->next_account);
        runner->next_config = runner_config_free(runner->next_config);
        int r = runner_config_load(runner->config_path, &runner->next_config);
        if (r < 0)
                return r;
        const char *name = runner->next_config->task_user;
        r = runner->user_mode ? -EALREADY :
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
        return r == -EALREADY ? runner_take_next_config(runner) : r;
}

static void on_going_down(bool going_down, void *userdata) {
        Runner *runner = userdata;
        runner->host_going_down = going_down;
        log_line(LOG_INFO,
                 going_down ? "The host is going down: no new tasks are started" : "The host stays up");
        runner_drain_changed(runner);
}

static char *choose_output_directory(void) {
        const char *directory = getenv("CACHE_DIRECTORY") ?: getenv("TMPDIR") ?: "/var/tmp";
        return strdup(directory);
}

static void on_stop(void *userdata) {
        runner_stop(userdata);
}

static const ProcessHandlers process_handlers = {
        .stop = on_stop,
        .reload = on_reload,
};

static int runner_init_access(Runner *runner) {
        const ServiceConfig *config = &runner->config->service;
        char *token;
        int r = access_init(
                        &runner->access,
                        runner->event,
                        PROGRAM_NAME,
                        runner->facts.host_name,
                        runner->user_mode);
        if (r >= 0)
                r = config_file_read_token(PROGRAM_NAME, config, &token);
        if (r < 0)
                return r;
        access_configure(&runner->access, config, token);
        return router_new(runner_endpoints, runner_n_endpoints, &runner->access, runner, &runner->router);
}

static int runner_init(Runner *runner) {
        int r = host_facts_read(&runner->facts);
        if (r < 0)
                return r;
        r = account_by_uid(geteuid(), &runner->daemon_account);
        if (r < 0)
                return r;
        r = task_accounts_new(runner->event, ACCOUNT_PATH, on_account_news, runner, &runner->accounts);
        if (r < 0)
                return r;
        const char *spawner_path = runner->user_mode ? NULL : getenv("DAGGYR_SPAWNER");
        r = spawner_new(runner->event, LEADER_PATH, spawner_path, &runner->spawner);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot reach the spawner at %s", spawner_path ?: LEADER_PATH);
        runner->output_directory = choose_output_directory();
        if (!runner->output_directory)
                return -ENOMEM;
        r = runner_init_access(runner);
        if (r < 0)
                return r;
        r = event_stream_new(runner->event, &runner->events);
        if (r < 0)
                return r;
        r = long_jobs_new(runner->event, &runner->long_jobs);
        if (r < 0)
                return r;
        r = process_watch_signals(runner->event, &process_handlers, runner, &runner->signals);
        if (r < 0)
                return r;
        r = sd_event_add_defer(runner->event, &runner->admit_source, on_admit, runner);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(runner->admit_source, LOOP_PRIORITY_PROCESS + 2);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(runner->admit_source, SD_EVENT_OFF);
        if (r < 0)
                return r;

        runner->n_descriptors = process_raise_descriptor_limit();
        runner_apply_limits(runner);
        runner->slice_limits = (SliceLimits){ .cpu_quota_usec = UINT64_MAX, .memory_max_bytes = UINT64_MAX };
        runner_update_capacity(runner);
        return listen_server_new(
                        runner->event,
                        runner->config_path,
                        &runner->config->service,
                        runner->n_descriptors,
                        runner->router,
                        &runner->http);
}

int runner_new(sd_event *event,
               const char *config_path,
               RunnerConfig *config,
               bool user_mode,
               RunnerReady on_ready,
               void *userdata,
               Runner **ret) {
        _cleanup_(runner_config_freep) RunnerConfig *owned = config;
        _cleanup_(runner_freep) Runner *runner = calloc(1, sizeof(*runner));
        if (!runner)
                return -ENOMEM;
        runner->event = sd_event_ref(event);
        runner->lease_journal.event = event;
        runner->config_path = config_path;
        runner->config = TAKE_PTR(owned);
        runner->user_mode = user_mode;
        runner->on_ready = on_ready;
        runner->ready_userdata = userdata;
        int r = runner_init(runner);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(runner);
        return 0;
}

Runner *runner_free(Runner *runner) {
        if (!runner)
                return NULL;
        event_stream_end(runner->events);
        http_server_free(runner->http); /* before all that requests point to */
        long_jobs_free(runner->long_jobs);
        router_free(runner->router);
        task_table_done(&runner->tasks);
        event_stream_free(runner->events);
        task_accounts_free(runner->accounts);
        stale_scopes_free(runner->stale_scopes);
        own_unit_free(runner->own_unit);
        capacity_watch_free(runner->capacity_watch);
        task_scopes_free(runner->scopes);
        systemd1_free(runner->systemd1);
        login1_free(runner->login1);
        event_source_dropp(&runner->admit_source);
        event_source_dropp(&runner->patience_source);
        event_source_dropp(&runner->shortage_source);
        event_source_dropp(&runner->status_source);
        event_source_dropp(&runner->expiry_source);
        event_source_dropp(&runner->accept_source);
        event_source_dropp(&runner->lease_source);
        lease_journal_done(&runner->lease_journal);
        process_signals_free(runner->signals);
        account_done(&runner->daemon_account);
        spawner_free(runner->spawner);
        free(runner->output_directory);
        access_done(&runner->access);
        runner_config_free(runner->config);
        runner_config_free(runner->next_config);
        sd_event_unref(runner->event);
        free(runner);
        return NULL;
}

static int runner_connect(Runner *runner) {
        static const Systemd1Handlers handlers = {
                .on_connected = on_connected,
                .on_disconnected = on_disconnected,
        };
        const char *broker_path = runner->user_mode ? NULL : getenv("DAGGYR_BROKER");
        Systemd1Mode mode = runner->user_mode ? SYSTEMD1_USER :
                        broker_path           ? SYSTEMD1_SYSTEM_READ :
                                                SYSTEMD1_SYSTEM;
        int r = systemd1_new(runner->event, mode, &handlers, runner, &runner->systemd1);
        if (r >= 0)
                r = broker_path ? task_scopes_new_broker(runner->event, broker_path, &runner->scopes) :
                                  task_scopes_new_direct(runner->systemd1, &runner->scopes);
        if (r >= 0)
                r = capacity_watch_new(
                                runner->systemd1,
                                runner->user_mode,
                                TASK_SLICE,
                                on_capacity,
                                runner,
                                &runner->capacity_watch);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot connect to systemd") : 0;
}

static int on_accept_anyway(sd_event_source *source, uint64_t usec, void *userdata) {
        Runner *runner = userdata;
        http_server_accept(runner->http);
        return 0;
}

int runner_start(Runner *runner) {
        int r = listen_start(runner->http, &runner->access, &runner->port);
        if (r >= 0)
                r = runner_connect(runner);
        if (r >= 0)
                r = login1_new(runner->event, on_going_down, runner, &runner->login1);
        if (r < 0)
                return r;
        /* The first client of an activated daggyr should not see a half-started one; but where systemd stays
         * away, clients are told so. */
        return loop_set_timer(
                        runner->event,
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
