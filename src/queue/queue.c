/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "queue/config-load.h"
#include "queue/moment.h"
#include "queue/queue-internal.h"
#include "queue/routes.h"

#define CALLS_MAX     100000
#define STOP_USEC     (2 * USEC_PER_SEC)
#define END_LOOK_USEC (10 * USEC_PER_MSEC)

/* ── start ── */

static const DaemonProgram queue_program;
static int on_run(sd_event_source *source, void *userdata);

static int init_clients(Queue *queue) {
        uint64_t connections = queue->daemon.n_descriptors / 4;
        HttpClientOptions options = {
                .connections_max = (unsigned) (connections < 4096 ? connections : 4096),
                .connections_per_host_max = 8,
                .calls_max = CALLS_MAX,
                .user_agent = PROGRAM_NAME "/" VERSION,
        };
        int r = http_client_new(queue->daemon.event, &options, &queue->client);
        if (r < 0)
                return r;
        options.connections_per_host_max = 64;
        r = http_client_new(queue->daemon.event, &options, &queue->streams);
        if (r >= 0)
                r = http_client_new(queue->daemon.event, &options, &queue->followers);
        return r;
}

/* Nothing else is in the loop yet that could come in between, but signals. */
static int take_up_file(Queue *queue) {
        int r = queue_take_up(queue);
        while (r >= 0 && queue->loaded == 0)
                r = sd_event_run(queue->daemon.event, UINT64_MAX);
        return r < 0 ? r : queue->loaded;
}

static int queue_init(Queue *queue, sd_event *event, const char *config_path, bool user_mode) {
        /* The daemon first: libcurl and the store start threads, which inherit the mask of signals. */
        int r = daemon_init(
                        &queue->daemon,
                        &queue_program,
                        queue,
                        event,
                        config_path,
                        user_mode,
                        &queue->config->service);
        if (r >= 0)
                r = init_clients(queue);
        if (r >= 0)
                r = task_lists_new(&queue->sources, &queue->lists);
        if (r >= 0)
                r = sd_event_add_defer(event, &queue->run_source, on_run, queue);
        if (r >= 0)
                r = sd_event_source_set_enabled(queue->run_source, SD_EVENT_OFF);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        r = workers_read_tokens(queue->config);
        if (r < 0 || queue->config->postgres.conninfo)
                return r;
        r = queue_open_file(queue);
        return r < 0 ? r : take_up_file(queue);
}

int queue_new(sd_event *event, const char *config_path, QueueConfig *config, bool user_mode, Queue **ret) {
        _cleanup_(queue_config_freep) QueueConfig *owned = config;
        _cleanup_(queue_freep) Queue *queue = calloc(1, sizeof(*queue));
        if (!queue)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up");
        queue->config = TAKE_PTR(owned);
        int r = queue_init(queue, event, config_path, user_mode);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(queue);
        return 0;
}

int queue_start(Queue *queue) {
        int r = queue_listen(queue);
        if (r >= 0)
                r = queue->config->postgres.conninfo ? queue_join_members(queue) : queue_begin_leading(queue);
        if (r < 0)
                return r;
        http_server_accept(queue->daemon.http);
        return 0;
}

/* ── run ── */

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        queue_run_soon(userdata);
        return 0;
}

/* Nothing is left to do, or the last member of several ends. */
static void end_leading(Queue *queue) {
        if (queue->members)
                members_leave(queue->members);
        else
                (void) sd_event_exit(queue->daemon.event, 0);
}

static int on_run(sd_event_source *source, void *userdata) {
        Queue *queue = userdata;
        Moment now = moment_now();
        if (!queue_may_lead(queue))
                return 0;
        delivery_run(queue->delivery, &now);
        workers_sweep(&queue->workers);
        if (queue->daemon.stopping && !workers_hold_leases(&queue->workers)) {
                end_leading(queue);
                return 0;
        }
        daemon_status_changed(&queue->daemon);
        int r = loop_set_timer(
                        queue->daemon.event,
                        &queue->deadline_source,
                        delivery_deadline(queue->delivery, &now),
                        on_deadline,
                        queue,
                        "queue-deadline");
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set a timer") : 0;
}

void queue_run_soon(Queue *queue) {
        (void) sd_event_source_set_enabled(queue->run_source, SD_EVENT_ONESHOT);
}

bool queue_leads(const Queue *queue) {
        return queue->role == QUEUE_LEADS;
}

bool queue_is_draining(const Queue *queue) {
        return queue->daemon.draining || queue->daemon.stopping;
}

void queue_update_permissions(Queue *queue) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        bool draining = queue_is_draining(queue);
        if (!draining && !http_sharing_is_told(queue->sharing))
                return;
        for (size_t i = 0; i < queue->workers.n_workers; i++) {
                const QueueWorker *worker = queue->workers.workers[i];
                bool permitted = !draining &&
                                http_sharing_permits(queue->sharing, queue_worker_config(worker)->id);
                scheduler_set_permitted(http_worker_scheduled(worker->http), permitted, now_usec);
        }
        queue_run_soon(queue);
}

const char *queue_version(const Queue *queue) {
        return queue->config->version ?: VERSION;
}

static const char *why_not_ready(const void *userdata) {
        const Queue *queue = userdata;
        if (queue_is_draining(queue))
                return "this queue is draining";
        if (!queue->members)
                return NULL;
        const char *trouble = forwarder_trouble(queue->forwarder);
        return trouble ? members_trouble(queue->members) ?: trouble : NULL;
}

/* A queue hears of its workers' capacity now and then, and tells when that has made a difference. */
static void tell_capacity(Queue *queue) {
        _cleanup_(json_putp) json_object *capacity = queue_capacity_json(queue);
        _cleanup_(freep) char *text = NULL;
        if (!capacity || json_format(capacity, &text, NULL) < 0 || streq_null(text, queue->told_capacity))
                return;
        free(queue->told_capacity);
        queue->told_capacity = TAKE_PTR(text);
        event_stream_send(queue->daemon.events, "capacity", TAKE_PTR(capacity));
}

static void tell_membership(const Queue *queue) {
        const Member *leader = members_leader(queue->members);
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%s%s",
                        queue->daemon.stopping ? "stopping: " : "",
                        leader                                          ? "follows " :
                                        members_trouble(queue->members) ?:
                                                                          "nobody leads",
                        leader ? leader->address : "");
}

static void tell_status(void *userdata) {
        Queue *queue = userdata;
        if (!queue_leads(queue)) {
                tell_membership(queue);
                return;
        }
        tell_capacity(queue);
        const Scheduler *scheduler = delivery_scheduler(queue->delivery);
        size_t n_waiting = scheduler_n_waiting(scheduler);
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%zu placed, %zu waiting, %zu of %zu workers in use",
                        queue->daemon.stopping                 ? "stopping: " :
                                        queue->daemon.draining ? "draining: " :
                                                                 "",
                        scheduler_n_tasks(scheduler) - n_waiting,
                        n_waiting,
                        workers_n_usable(&queue->workers, usec_now(CLOCK_BOOTTIME)),
                        queue->workers.n_workers);
}

static void on_draining_stored(int r, const Moment *now, void *userdata) {
        daemon_drained(userdata, r);
}

/* Also after a restart. */
static void set_draining(void *userdata, bool draining, DrainChange *change) {
        Queue *queue = userdata;
        int r = queue_store_draining(queue, draining, on_draining_stored, change);
        if (r < 0) {
                daemon_drained(change, r);
                return;
        }
        queue->daemon.draining = draining;
        queue_update_permissions(queue);
}

static json_object *capacity(const void *userdata) {
        return queue_leads(userdata) ? queue_capacity_json(userdata) : NULL;
}

static int format_metrics(const void *userdata, Text *text) {
        const Queue *queue = userdata;
        bool leads = queue_leads(queue);
        int r = metrics_format_members(queue->members, queue->forwarder, leads, text);
        if (r < 0 || !leads)
                return r;
        size_t pending_bytes = queue->store_port->pending_bytes(queue->store);
        return metrics_format(&queue->metrics, queue->delivery, &queue->workers, pending_bytes, text);
}

/* ── reload ── */

/* The new configuration's workers, in place of the old one's. */
static void swap_workers(QueueConfig *a, QueueConfig *b) {
        WorkerConfig *workers = a->workers;
        size_t n = a->n_workers;
        a->workers = b->workers;
        a->n_workers = b->n_workers;
        b->workers = workers;
        b->n_workers = n;
}

/* Sharing and what listens stay as they are until a restart. */
static int reload(void *userdata) {
        Queue *queue = userdata;
        _cleanup_(queue_config_freep) QueueConfig *config = NULL;
        int r = queue_config_load(queue->daemon.config_path, &config);
        if (r >= 0)
                r = workers_read_tokens(config);
        if (r >= 0)
                r = daemon_reconfigure(&queue->daemon, &config->service);
        if (r < 0)
                return r;
        queue->config->queue_max = config->queue_max;
        queue->config->results_max = config->results_max;
        queue->config->result_ttl_usec = config->result_ttl_usec;
        queue->config->inline_output_bytes = config->inline_output_bytes;
        swap_workers(queue->config, config);
        return queue_leads(queue) ? workers_apply_file(&queue->workers, queue->config) : 0;
}

/* ── stop ── */

static int on_end_look(sd_event_source *source, uint64_t usec, void *userdata);

static void look_for_end(Queue *queue) {
        int r = loop_set_timer(
                        queue->daemon.event,
                        &queue->end_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), END_LOOK_USEC),
                        on_end_look,
                        queue,
                        "queue-end");
        if (r < 0)
                (void) sd_event_exit(queue->daemon.event, 0);
}

static int on_end_look(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        if (http_server_n_unanswered(queue->daemon.http) == 0)
                return sd_event_exit(queue->daemon.event, 0);
        look_for_end(queue);
        return 0;
}

static int on_stop_late(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        return sd_event_exit(queue->daemon.event, 0);
}

static void end_within(Queue *queue, usec_t within_usec) {
        (void) loop_set_timer(
                        queue->daemon.event,
                        &queue->stop_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), within_usec),
                        on_stop_late,
                        queue,
                        "queue-stop");
}

void queue_end(Queue *queue, usec_t within_usec) {
        end_within(queue, within_usec);
        look_for_end(queue); /* not at once: what was answered is still to be sent */
}

/* Gives leases back as far as nothing runs under them, and ends the loop. Tasks go on at their runners. */
static void stop(void *userdata, bool again) {
        Queue *queue = userdata;
        if (again) {
                (void) sd_event_exit(queue->daemon.event, 0);
                return;
        }
        log_line(LOG_INFO, "Stopping: running tasks go on at their workers");
        if (queue->members)
                queue_hand_over(queue);
        else
                queue_update_permissions(queue);
        end_within(queue, STOP_USEC);
}

static const DaemonProgram queue_program = {
        .name = PROGRAM_NAME,
        .endpoints = queue_endpoints,
        .stop = stop,
        .reload = reload,
        .why_not_ready = why_not_ready,
        .set_draining = set_draining,
        .capacity = capacity,
        .format_metrics = format_metrics,
        .tell_status = tell_status,
        .divert = queue_divert,
        .vouched = queue_vouched,
};

Queue *queue_free(Queue *queue) {
        if (!queue)
                return NULL;
        daemon_disconnect(&queue->daemon); /* before all that requests point to */
        forwarder_free(queue->forwarder);
        members_free(queue->members);
        http_client_free(queue->client);
        http_client_free(queue->streams);
        http_client_free(queue->followers);
        http_sharing_free(queue->sharing);
        sqlite_store_free(queue->sqlite); /* writes what was handed to it */
        postgres_store_free(queue->postgres);
        task_lists_free(queue->lists);
        delivery_free(queue->delivery);
        workers_done(&queue->workers);
        event_source_dropp(&queue->run_source);
        event_source_dropp(&queue->deadline_source);
        event_source_dropp(&queue->prune_source);
        event_source_dropp(&queue->stop_source);
        event_source_dropp(&queue->end_source);
        free(queue->told_capacity);
        free(queue->address);
        free(queue->member_address);
        queue_config_free(queue->config);
        daemon_done(&queue->daemon);
        free(queue);
        return NULL;
}
