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
#include "io/random-id.h"
#include "queue/config-load.h"
#include "queue/live-output.h"
#include "queue/moment.h"
#include "queue/routes.h"
#include "queue/watched-task.h"
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

HttpWorker *queue_find_worker(const Queue *queue, const char *worker_id) {
        for (size_t i = 0; i < queue->n_workers; i++)
                if (streq(http_worker_config(queue->workers[i])->id, worker_id))
                        return queue->workers[i];
        return NULL;
}

ScheduledWorker *queue_scheduled_worker(const HttpWorker *worker) {
        return delivery_worker_scheduled(http_worker_delivery(worker));
}

static int on_status(sd_event_source *source, uint64_t usec, void *userdata) {
        const Queue *queue = userdata;
        size_t n_waiting = scheduler_n_waiting(delivery_scheduler(queue->delivery)), n_usable = 0;
        for (size_t i = 0; i < queue->n_workers; i++)
                n_usable += worker_is_usable(
                                &queue_scheduled_worker(queue->workers[i])->worker, usec_now(CLOCK_BOOTTIME));
        (void) sd_notifyf(
                        false,
                        "STATUS=%s%zu placed, %zu waiting, %zu of %zu workers in use",
                        queue->stopping                 ? "stopping: " :
                                        queue->draining ? "draining: " :
                                                          "",
                        scheduler_n_tasks(delivery_scheduler(queue->delivery)) - n_waiting,
                        n_waiting,
                        n_usable,
                        queue->n_workers);
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
        for (size_t i = 0; i < queue->n_workers; i++) {
                const Worker *worker = &queue_scheduled_worker(queue->workers[i])->worker;
                if (*worker->lease_id && worker->n_attempts == 0 && !worker->silent)
                        return true;
        }
        return false;
}

static int on_run(sd_event_source *source, void *userdata) {
        Queue *queue = userdata;
        Moment now = moment_now();
        delivery_run(queue->delivery, &now);
        if (queue->stopping && !holds_leases(queue))
                return sd_event_exit(queue->event, 0);
        status_changed(queue);
        int r = loop_set_timer(
                        queue->event,
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

void queue_update_permissions(Queue *queue) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        for (size_t i = 0; i < queue->n_workers; i++) {
                const HttpWorker *worker = queue->workers[i];
                bool permitted = !queue->draining && !queue->stopping &&
                                sharing_permits(queue->sharing, http_worker_config(worker)->id);
                scheduler_set_permitted(queue_scheduled_worker(worker), permitted, now_usec);
        }
        queue_run_soon(queue);
}

int queue_set_draining(Queue *queue, bool draining, StoreDone done, void *userdata) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        (void) store_batch_put_fact(batch, STORED_FACT_DRAINING, draining ? "1" : "0");
        r = queue->store_port->commit(queue->store, batch, done, userdata);
        if (r < 0)
                return r;
        queue->draining = draining;
        queue_update_permissions(queue);
        return 0;
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

static void on_pruned(int r, const Moment *now, void *userdata) {
        prune_after(userdata, r == PRUNE_LIMIT ? 0 : PRUNE_INTERVAL_USEC);
}

static void on_result_clock_stored(int r, const Moment *now, void *userdata) {
}

/* What cannot be stored now can be later. */
static void store_result_clock(Queue *queue, usec_t now_usec) {
        char text[sizeof("18446744073709551615")];
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        (void) snprintf(text, sizeof(text), "%" PRIu64, now_usec);
        (void) store_batch_put_fact(batch, STORED_FACT_RESULT_CLOCK, text);
        if (queue->store_port->commit(queue->store, batch, on_result_clock_stored, NULL) >= 0)
                queue->result_clock.stored_usec = now_usec;
}

static int on_prune(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        usec_t boottime_usec = usec_now(CLOCK_BOOTTIME);
        usec_t now_usec = result_clock_now(&queue->result_clock, boottime_usec);
        if (result_clock_is_due(&queue->result_clock, boottime_usec))
                store_result_clock(queue, now_usec);
        int r = queue->store_port->prune(
                        queue->store,
                        usec_subtract(now_usec, queue->config->result_ttl_usec),
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
        queue->store_port = &sqlite_store_port;
        int r = sqlite_store_open(queue->event, directory, &queue->store, &message);
        if (r < 0)
                log_line(LOG_ERR, "%s", message ?: strerror(-r));
        return r;
}

/* ── what the delivery tells ── */

static void on_wake(void *userdata) {
        queue_run_soon(userdata);
}

static void on_log(int priority, int r, const char *text, void *userdata) {
        if (r < 0)
                (void) log_errno(priority, r, "%s", text);
        else
                log_line(priority, "%s", text);
}

static void send_event(const Queue *queue, const Task *task, const char *state, const char *result) {
        json_object *object = json_object_new_object();
        const char *worker_id = task->worker ? delivery_worker_id(task->worker) : NULL;
        if (object &&
            (json_add_string(object, "task_id", task->task_id) < 0 ||
             json_add_string(object, "unit", task->unit) < 0 ||
             json_add_string(object, "worker", worker_id) < 0 ||
             json_add_string(object, "state", state) < 0 || json_add_string(object, "result", result) < 0))
                object = (json_object_put(object), NULL);
        event_stream_send(queue->events, "task", object);
}

static void on_queued(Task *task, ScheduledReason reason, void *userdata) {
        Queue *queue = userdata;
        if (reason == REASON_NONE)
                metrics_count_submitted(&queue->metrics);
        else
                metrics_count_requeue(&queue->metrics, reason);
        send_event(queue, task, "queued", NULL);
}

static void on_submitted(Task *task, SubmitOutcome outcome, void *userdata) {
        Queue *queue = userdata;
        metrics_count_submission(&queue->metrics, outcome);
}

static void on_running(Task *task, void *userdata) {
        send_event(userdata, task, "running", NULL);
        if (task->userdata)
                live_output_task_started(task->userdata);
}

static bool on_attempt_ended(Task *task, void *userdata) {
        return task->userdata && live_output_attempt_ended(task->userdata);
}

static void on_attempt_gone(Task *task, void *userdata) {
        if (task->userdata)
                live_output_task_gone(task->userdata);
}

static void on_finished(Task *task, const char *state, const char *result, void *userdata) {
        Queue *queue = userdata;
        WatchedTask *watched = task->userdata;
        metrics_count_finished(&queue->metrics, state, result);
        send_event(queue, task, state, result);
        if (!watched)
                return;
        live_output_task_stored(watched);
        waiters_answer_all(&watched->waiters);
}

static void on_freed(Task *task, void *userdata) {
        watched_task_free(TAKE_PTR(task->userdata));
}

static int on_random(char ret[static DELIVERY_ID_SIZE], void *userdata) {
        _cleanup_(freep) char *id = NULL;
        int r = random_id_new(&id);
        if (r < 0)
                return r;
        const char *digits = id + strlen(id) - ATTEMPT_RANDOM;
        memcpy(ret, digits, DELIVERY_ID_SIZE);
        return 0;
}

static const DeliveryListener delivery_listener = {
        .wake = on_wake,
        .log = on_log,
        .queued = on_queued,
        .submitted = on_submitted,
        .running = on_running,
        .attempt_ended = on_attempt_ended,
        .attempt_gone = on_attempt_gone,
        .finished = on_finished,
        .freed = on_freed,
        .random = on_random,
};

static int init_delivery(Queue *queue) {
        int r = delivery_new(
                        &(DeliveryOptions){
                                        .scheduler = {
                                                .lease_ttl_usec = queue->config->lease_ttl_usec,
                                                .lost_after_usec = queue->config->lost_after_usec,
                                        },
                                        .default_resources = queue->config->default_resources,
                                        .body_bytes_max = queue->config->service.body_max_bytes,
                                        .worker_port = &http_worker_port,
                                        .store_port = queue->store_port,
                                        .store = queue->store,
                                        .result_clock = &queue->result_clock,
                                        .queue_id = sqlite_store_queue_id(queue->store),
                                        .listener = &delivery_listener,
                                        .listener_userdata = queue,
                        },
                        &queue->delivery);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set up") : 0;
}

static int add_worker(Queue *queue, const WorkerConfig *config) {
        HttpWorker *worker;
        int r = http_worker_new(&queue->worker_options, config, &worker);
        if (r < 0)
                return r;
        queue->workers[queue->n_workers++] = worker;
        DeliveryWorker *delivery_worker;
        Moment now = moment_now();
        r = delivery_add_worker(queue->delivery, config->id, worker, &now, &delivery_worker);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up worker \"%s\"", config->id);
        http_worker_set_delivery(worker, delivery_worker);
        return 0;
}

static int add_workers(Queue *queue) {
        const QueueConfig *config = queue->config;
        queue->worker_options = (HttpWorkers){
                .event = queue->event,
                .client = queue->client,
                .streams = queue->streams,
                .followers = queue->followers,
                .queue_id = sqlite_store_queue_id(queue->store),
                .address = (const char *const *) &queue->address,
                .version = queue_version(queue),
                .lease_ttl_usec = config->lease_ttl_usec,
        };
        queue->workers = calloc(config->n_workers + 1, sizeof(HttpWorker *));
        if (!queue->workers)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up");
        int r = 0;
        for (size_t i = 0; r >= 0 && i < config->n_workers; i++)
                r = add_worker(queue, &config->workers[i]);
        return r;
}

/* ── what an earlier run left ── */

static int on_fact(const char *key, const char *value, void *userdata) {
        Queue *queue = userdata;
        if (streq(key, STORED_FACT_DRAINING))
                queue->draining = streq(value, "1");
        if (streq(key, STORED_FACT_RESULT_CLOCK)) /* as if there were none, if it cannot be read */
                (void) text_parse_u64(value, 1, INT64_MAX, &queue->result_clock.stored_usec);
        return 0;
}

static int on_newest_result(usec_t finish_usec, void *userdata) {
        Queue *queue = userdata;
        Moment now = moment_now();
        result_clock_start(
                        &queue->result_clock,
                        queue->result_clock.stored_usec,
                        finish_usec,
                        now.realtime_usec,
                        now.boottime_usec);
        return 0;
}

static int on_worker_row(const StoredWorker *row, void *userdata) {
        const Queue *queue = userdata;
        const HttpWorker *worker = queue_find_worker(queue, row->worker_id);
        if (worker)
                scheduler_set_disabled(
                                queue_scheduled_worker(worker), row->disabled, usec_now(CLOCK_BOOTTIME));
        return 0;
}

static int on_task_row(
                const StoredTask *row,
                const StoredAttempt *attempt,
                const Moment *now,
                void *userdata) {
        Queue *queue = userdata;
        return delivery_restore(queue->delivery, row, attempt, now);
}

static void on_loaded(int r, const Moment *now, void *userdata) {
        Queue *queue = userdata;
        queue->loaded = r < 0 ? r : 1;
}

/* Nothing else is in the loop yet that could come in between, but signals. */
static int load(Queue *queue) {
        int r = queue->store_port->load(
                        queue->store,
                        &(StoreLoader){
                                        .on_fact = on_fact,
                                        .on_newest_result = on_newest_result,
                                        .on_worker = on_worker_row,
                                        .on_task = on_task_row,
                                        .done = on_loaded,
                                        .userdata = queue,
                        });
        while (r >= 0 && queue->loaded == 0)
                r = sd_event_run(queue->event, UINT64_MAX);
        if (r >= 0)
                r = queue->loaded;
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot take up the tasks that are stored");
        size_t n = delivery_n_tasks(queue->delivery);
        if (n > 0)
                log_line(LOG_INFO, "Took up %zu tasks", n);
        if (queue->draining)
                log_line(LOG_NOTICE, "This queue drains, as it did before it was restarted");
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
                r = task_lists_new(queue, &queue->lists);
        if (r >= 0)
                r = long_jobs_new(queue->event, &queue->long_jobs);
        if (r >= 0)
                r = init_clients(queue);
        if (r >= 0)
                r = sd_event_add_defer(queue->event, &queue->run_source, on_run, queue);
        if (r >= 0)
                r = sd_event_source_set_enabled(queue->run_source, SD_EVENT_OFF);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        r = open_store(queue);
        if (r >= 0)
                r = init_delivery(queue);
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
        sqlite_store_free(queue->store); /* writes what was handed to it */
        task_lists_free(queue->lists);
        long_jobs_free(queue->long_jobs);
        delivery_free(queue->delivery);
        for (size_t i = 0; i < queue->n_workers; i++)
                http_worker_free(queue->workers[i]);
        free(queue->workers);
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
