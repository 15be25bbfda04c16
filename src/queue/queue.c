/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "queue/config-load.h"
#include "queue/dispatch.h"
#include "queue/routes.h"
#include "service/config-file.h"
#include "service/listen.h"

#define STATE_DIRECTORY      "/var/lib/daggyd"
#define CALLS_MAX            100000
#define STATUS_INTERVAL_USEC (200 * USEC_PER_MSEC)
#define PRUNE_INTERVAL_USEC  (10 * USEC_PER_SEC)
#define PRUNE_LIMIT          500
#define STOP_USEC            (2 * USEC_PER_SEC)

const char *queue_version(const Queue *queue) {
        return queue->config->version ?: VERSION;
}

WorkerLink *queue_find_link(const Queue *queue, const char *worker_id) {
        for (size_t i = 0; i < queue->n_links; i++)
                if (streq(worker_link_config(queue->links[i])->id, worker_id))
                        return queue->links[i];
        return NULL;
}

static int on_status(sd_event_source *source, uint64_t usec, void *userdata) {
        const Queue *queue = userdata;
        size_t n_waiting = scheduler_n_waiting(queue->scheduler), n_usable = 0;
        for (size_t i = 0; i < queue->n_links; i++)
                n_usable += worker_is_usable(
                                &worker_link_worker(queue->links[i])->worker, usec_now(CLOCK_BOOTTIME));
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%zu placed, %zu waiting, %zu of %zu workers in use",
                        queue->stopping                 ? "stopping: " :
                                        queue->draining ? "draining: " :
                                                          "",
                        scheduler_n_tasks(queue->scheduler) - n_waiting,
                        n_waiting,
                        n_usable,
                        queue->n_links);
        return 0;
}

static void status_changed(Queue *queue) {
        int enabled = SD_EVENT_OFF;
        if (queue->status_source && sd_event_source_get_enabled(queue->status_source, &enabled) > 0)
                return;
        (void) loop_set_timer(
                        queue->event,
                        &queue->status_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), STATUS_INTERVAL_USEC),
                        on_status,
                        queue,
                        "queue-status");
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        queue_run_soon(userdata);
        return 0;
}

static bool holds_leases(const Queue *queue) {
        for (size_t i = 0; i < queue->n_links; i++) {
                const Worker *worker = &worker_link_worker(queue->links[i])->worker;
                if (*worker->lease_id && worker->n_attempts == 0 && !worker->silent)
                        return true;
        }
        return false;
}

static int on_run(sd_event_source *source, void *userdata) {
        Queue *queue = userdata;
        SchedulerAction action;
        scheduler_run(queue->scheduler, usec_now(CLOCK_BOOTTIME));
        while (scheduler_next_action(queue->scheduler, &action))
                dispatch_action(queue, &action);
        for (size_t i = 0; i < queue->n_links; i++)
                worker_link_update(queue->links[i]);
        if (queue->stopping && !holds_leases(queue))
                return sd_event_exit(queue->event, 0);
        status_changed(queue);
        int r = loop_set_timer(
                        queue->event,
                        &queue->deadline_source,
                        scheduler_deadline(queue->scheduler, usec_now(CLOCK_BOOTTIME)),
                        on_deadline,
                        queue,
                        "queue-deadline");
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set a timer") : 0;
}

void queue_run_soon(Queue *queue) {
        (void) sd_event_source_set_enabled(queue->run_source, SD_EVENT_ONESHOT);
}

void queue_update_permissions(Queue *queue) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        for (size_t i = 0; i < queue->n_links; i++) {
                WorkerLink *link = queue->links[i];
                bool permitted = !queue->draining && !queue->stopping &&
                                sharing_permits(queue->sharing, worker_link_config(link)->id);
                scheduler_set_permitted(worker_link_worker(link), permitted, now_usec);
        }
        queue_run_soon(queue);
}

void queue_set_draining(Queue *queue, bool draining) {
        queue->draining = draining;
        queue_update_permissions(queue);
}

/* Results that are too many or too old go. */
static int on_prune(sd_event_source *source, uint64_t usec, void *userdata);

static void prune_after(Queue *queue, usec_t after_usec) {
        (void) loop_set_timer(
                        queue->event,
                        &queue->prune_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), after_usec),
                        on_prune,
                        queue,
                        "queue-prune");
}

static void on_pruned(int r, void *userdata) {
        prune_after(userdata, r == PRUNE_LIMIT ? 0 : PRUNE_INTERVAL_USEC);
}

static int on_prune(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        int r = task_store_prune(
                        queue->store,
                        usec_subtract(usec_now(CLOCK_REALTIME), queue->config->result_ttl_usec),
                        queue->config->results_max,
                        PRUNE_LIMIT,
                        on_pruned,
                        queue);
        if (r < 0)
                prune_after(queue, PRUNE_INTERVAL_USEC);
        return 0;
}

static int on_stop_late(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        return sd_event_exit(queue->event, 0);
}

void queue_stop(Queue *queue) {
        if (queue->stopping) {
                (void) sd_event_exit(queue->event, 0);
                return;
        }
        queue->stopping = true;
        log_line(LOG_INFO, "Stopping: running tasks go on at their workers");
        (void) sd_notify(false, "STOPPING=1");
        queue_update_permissions(queue);
        (void) loop_set_timer(
                        queue->event,
                        &queue->stop_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), STOP_USEC),
                        on_stop_late,
                        queue,
                        "queue-stop");
}

static void on_stop(void *userdata) {
        queue_stop(userdata);
}

/* Workers, sharing and what listens stay as they are until a restart. */
static int on_reload(void *userdata) {
        Queue *queue = userdata;
        _cleanup_(queue_config_freep) QueueConfig *config = NULL;
        _cleanup_(freep) char *token = NULL;
        int r = queue_config_load(queue->config_path, &config);
        if (r >= 0)
                r = config_file_read_token(PROGRAM_NAME, &config->service, &token);
        if (r >= 0)
                r = listen_reload(
                                queue->http,
                                queue->config_path,
                                &config->service,
                                &queue->config->service,
                                token != NULL);
        if (r < 0)
                return r;
        listen_keep(&config->service, &queue->config->service);
        queue->config->queue_max = config->queue_max;
        queue->config->results_max = config->results_max;
        queue->config->result_ttl_usec = config->result_ttl_usec;
        queue->config->inline_output_bytes = config->inline_output_bytes;
        ServiceConfig service = queue->config->service;
        queue->config->service = config->service;
        config->service = service;
        access_configure(&queue->access, &queue->config->service, TAKE_PTR(token));
        return 0;
}

static const ProcessHandlers process_handlers = {
        .stop = on_stop,
        .reload = on_reload,
};

static int open_store(Queue *queue) {
        const char *directory = queue->config->state_directory ?:
                        getenv("STATE_DIRECTORY")              ?:
                                                                 STATE_DIRECTORY;
        _cleanup_(freep) char *message = NULL;
        int r = task_store_open(queue->event, directory, &queue->store, &message);
        if (r < 0)
                log_line(LOG_ERR, "%s", message ?: strerror(-r));
        return r;
}

static int add_workers(Queue *queue) {
        const QueueConfig *config = queue->config;
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        queue->links = calloc(config->n_workers + 1, sizeof(WorkerLink *));
        if (!queue->links)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up");
        for (size_t i = 0; i < config->n_workers; i++) {
                ScheduledWorker *worker;
                int r = scheduler_add_worker(queue->scheduler, config->workers[i].id, now_usec, &worker);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot set up worker \"%s\"", config->workers[i].id);
                r = worker_link_new(queue, &config->workers[i], worker, &queue->links[i]);
                if (r < 0)
                        return r;
                queue->n_links++;
        }
        return 0;
}

static int on_worker_row(const StoredWorker *row, void *userdata) {
        const Queue *queue = userdata;
        WorkerLink *link = queue_find_link(queue, row->worker_id);
        if (link)
                scheduler_set_disabled(worker_link_worker(link), row->disabled, usec_now(CLOCK_BOOTTIME));
        return 0;
}

/* A task of an earlier run: where it was is where it is taken up. */
static int on_live_row(const StoredTask *row, const StoredAttempt *attempt, void *userdata) {
        return task_restore(userdata, row, attempt);
}

static int load(Queue *queue) {
        int r = task_store_load_workers(queue->store, on_worker_row, queue);
        if (r >= 0)
                r = task_store_load_live(queue->store, on_live_row, queue);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot take up the tasks that are stored");
        size_t n = task_table_count(&queue->tasks);
        if (n > 0)
                log_line(LOG_INFO, "Took up %zu tasks", n);
        return 0;
}

static int init_clients(Queue *queue) {
        uint64_t n_descriptors = process_raise_descriptor_limit();
        HttpClientOptions options = {
                .connections_max = (unsigned) (n_descriptors / 4 < 4096 ? n_descriptors / 4 : 4096),
                .connections_per_host_max = 8,
                .calls_max = CALLS_MAX,
                .user_agent = PROGRAM_NAME "/" VERSION,
        };
        int r = http_client_new(queue->event, &options, &queue->client);
        if (r < 0)
                return r;
        options.connections_per_host_max = 64;
        r = http_client_new(queue->event, &options, &queue->streams);
        if (r >= 0)
                r = http_client_new(queue->event, &options, &queue->followers);
        if (r < 0)
                return r;
        return listen_server_new(
                        queue->event,
                        queue->config_path,
                        &queue->config->service,
                        n_descriptors,
                        queue->router,
                        &queue->http);
}

static int init_access(Queue *queue) {
        char *token;
        if (gethostname(queue->host_name, sizeof(queue->host_name) - 1) < 0)
                return -errno;
        int r = access_init(&queue->access, queue->event, PROGRAM_NAME, queue->host_name, queue->user_mode);
        if (r >= 0)
                r = config_file_read_token(PROGRAM_NAME, &queue->config->service, &token);
        if (r < 0)
                return r;
        access_configure(&queue->access, &queue->config->service, token);
        return router_new(queue_endpoints, queue_n_endpoints, &queue->access, queue, &queue->router);
}

static int queue_init(Queue *queue) {
        /* Signals first: libcurl and the store start threads, which inherit the mask. */
        int r = process_watch_signals(queue->event, &process_handlers, queue, &queue->signals);
        if (r >= 0)
                r = init_access(queue);
        if (r >= 0)
                r = event_stream_new(queue->event, &queue->events);
        if (r >= 0)
                r = init_clients(queue);
        if (r >= 0)
                r = sd_event_add_defer(queue->event, &queue->run_source, on_run, queue);
        if (r >= 0)
                r = sd_event_source_set_enabled(queue->run_source, SD_EVENT_OFF);
        if (r >= 0)
                r = scheduler_new(
                                &(SchedulerConfig){
                                                .lease_ttl_usec = queue->config->lease_ttl_usec,
                                                .lost_after_usec = queue->config->lost_after_usec,
                                },
                                &queue->scheduler);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        r = open_store(queue);
        if (r >= 0)
                r = add_workers(queue);
        if (r >= 0)
                r = load(queue);
        return r;
}

int queue_new(sd_event *event, const char *config_path, QueueConfig *config, bool user_mode, Queue **ret) {
        _cleanup_(queue_config_freep) QueueConfig *owned = config;
        _cleanup_(queue_freep) Queue *queue = calloc(1, sizeof(*queue));
        if (!queue)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up");
        queue->event = sd_event_ref(event);
        queue->config_path = config_path;
        queue->user_mode = user_mode;
        queue->config = TAKE_PTR(owned);
        int r = queue_init(queue);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(queue);
        return 0;
}

Queue *queue_free(Queue *queue) {
        if (!queue)
                return NULL;
        event_stream_end(queue->events);
        http_server_free(queue->http); /* before all that requests point to */
        http_client_free(queue->client);
        http_client_free(queue->streams);
        http_client_free(queue->followers);
        sharing_free(queue->sharing);
        router_free(queue->router);
        task_store_free(queue->store); /* writes what was handed to it */
        task_table_done(&queue->tasks);
        for (size_t i = 0; i < queue->n_links; i++)
                worker_link_free(queue->links[i]);
        free(queue->links);
        scheduler_free(queue->scheduler);
        event_stream_free(queue->events);
        event_source_dropp(&queue->run_source);
        event_source_dropp(&queue->deadline_source);
        event_source_dropp(&queue->prune_source);
        event_source_dropp(&queue->status_source);
        event_source_dropp(&queue->stop_source);
        process_signals_free(queue->signals);
        access_done(&queue->access);
        free(queue->address);
        queue_config_free(queue->config);
        sd_event_unref(queue->event);
        free(queue);
        return NULL;
}

/* The first port of "port_range" that is free, else "port". */
static int listen_in_range(Queue *queue) {
        ServiceConfig *service = &queue->config->service;
        const PortRange *ports = &queue->config->ports;
        if (ports->from == 0 || sd_listen_fds(false) > 0)
                return listen_start(queue->http, &queue->access, &queue->port);
        for (service->port = ports->from; service->port <= ports->to; service->port++) {
                uint16_t port;
                int fd = http_listen_tcp(service->ip, (uint16_t) service->port, &port);
                if (fd == -EADDRINUSE)
                        continue;
                int r = fd < 0 ? fd : http_server_listen(queue->http, fd);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot listen on %s port %u", service->ip, port);
                queue->port = port;
                return 0;
        }
        log_line(LOG_ERR, "Every port from %" PRIu64 " to %" PRIu64 " is taken", ports->from, ports->to);
        return -EADDRINUSE;
}

static bool is_loopback_name(const char *host) {
        const char *rest = text_after(host, "localhost");
        return text_after(host, "127.") || (rest && (!*rest || *rest == ':'));
}

/* Workers know queues by their address: two on different hosts that both call themselves 127.0.0.1 would have
 * one lease, and use a worker at the same time. */
static bool ip_tells_hosts_apart(const QueueConfig *config) {
        const char *ip = config->service.ip;
        if (streq(ip, "0.0.0.0") || strchr(ip, ':')) /* "host:port" of Emcee knows no IPv6 */
                return false;
        bool local = is_loopback_name(ip);
        for (size_t i = 0; i < config->n_workers && local; i++) {
                const char *host = strstr(config->workers[i].url, "://") + strlen("://");
                if (!is_loopback_name(host) && !text_after(host, "[::1]"))
                        return false;
        }
        return true;
}

static int find_address(Queue *queue) {
        const QueueConfig *config = queue->config;
        const char *host = ip_tells_hosts_apart(config) ? config->service.ip : queue->host_name;
        if (config->advertise)
                queue->address = strdup(config->advertise);
        else if (asprintf(&queue->address, "%s:%u", host, queue->port ?: (unsigned) config->service.port) < 0)
                queue->address = NULL;
        return queue->address ? 0 : log_errno(LOG_ERR, ENOMEM, "Cannot set up");
}

int queue_start(Queue *queue) {
        int r = listen_in_range(queue);
        if (r >= 0)
                r = find_address(queue);
        if (r >= 0) {
                r = sharing_new(queue, &queue->sharing);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot set up worker sharing");
        }
        if (r < 0)
                return r;
        queue_update_permissions(queue);
        prune_after(queue, 0);
        http_server_accept(queue->http);
        return 0;
}
