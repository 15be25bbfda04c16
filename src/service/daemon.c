/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/text/metrics-text.h"
#include "io/loop.h"
#include "service/capacity-history.h"
#include "service/config-file.h"
#include "service/listen.h"
#include "service/page.h"

#define STATUS_INTERVAL_USEC (200 * USEC_PER_MSEC)
#define RETRY_SOON_SEC       1
#define METRIC_NAME_MAX      64

/* ── the routes of every daemon; their userdata is the Daemon ── */

static void route_ready(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Daemon *daemon = userdata;
        const char *reason = daemon->program->why_not_ready(daemon->userdata);
        if (!reason) {
                http_request_answer(request, 200, NULL, NULL, 0);
                return;
        }
        Problem problem = {};
        (void) problem_set_for_now(&problem, 503, RETRY_SOON_SEC, reason);
        http_request_answer_problem(request, &problem, NULL);
}

static int format_metrics(const Daemon *daemon, Text *text) {
        const DaemonProgram *program = daemon->program;
        char name[METRIC_NAME_MAX];
        (void) snprintf(name, sizeof(name), "%s_open_descriptors", program->name);
        int r = program->format_metrics(daemon->userdata, text);
        if (r >= 0)
                r = router_format_metrics(daemon->router, program->name, text);
        if (r >= 0)
                r = metrics_text_single(
                                text,
                                name,
                                "gauge",
                                "Descriptors the process has open.",
                                (double) process_count_descriptors());
        return r;
}

static void route_metrics(void *userdata, HttpRequest *request, const RequestContext *context) {
        _cleanup_(text_done) Text text = {};
        int r = format_metrics(userdata, &text);
        if (r < 0)
                http_request_answer_json(request, 200, NULL);
        else
                http_request_answer(
                                request,
                                200,
                                "text/plain; version=0.0.4; charset=utf-8",
                                text.data,
                                text.size);
}

static void route_events(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Daemon *daemon = userdata;
        event_stream_answer(daemon->events, request);
}

static void note_capacity(Daemon *daemon) {
        (void) capacity_history_note(&daemon->capacity_history, daemon->program->capacity(daemon->userdata));
}

static void route_history(void *userdata, HttpRequest *request, const RequestContext *context) {
        Daemon *daemon = userdata;
        note_capacity(daemon);
        capacity_history_answer(&daemon->capacity_history, request);
}

struct DrainChange {
        const Daemon *daemon; /* weak */
        HttpRequest *request; /* NULL: the client is gone */
};

static void on_drain_hangup(HttpRequest *request, void *userdata) {
        DrainChange *change = userdata;
        change->request = NULL;
}

void daemon_drained(DrainChange *change, int error) {
        const Daemon *daemon = change->daemon;
        HttpRequest *request = change->request;
        free(change);
        if (!request)
                return;
        http_request_on_hangup(request, NULL, NULL);
        if (error >= 0) {
                http_request_answer_json(request, 200, daemon->program->capacity(daemon->userdata));
                return;
        }
        Problem problem = {};
        (void) problem_from_errno(&problem, error);
        http_request_answer_problem(request, &problem, NULL);
}

static void route_drain(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Daemon *daemon = userdata;
        Problem problem = {};
        bool drain = false;
        if (request_parse_switch(request, "drain", &drain, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        DrainChange *change = malloc(sizeof(*change));
        if (!change) {
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *change = (DrainChange) { .daemon = daemon, .request = request };
        http_request_on_hangup(request, on_drain_hangup, change);
        daemon->program->set_draining(daemon->userdata, drain, change);
}

static const Endpoint daemon_endpoints[] = {
        { "GET", "/ready", ACCESS_PUBLIC, route_ready, .everywhere = true },
        { "GET", "/metrics", ACCESS_READ, route_metrics, .everywhere = true },
        { "GET", "/api/v1/events", ACCESS_READ, route_events },
        { "GET", "/api/v1/capacity/history", ACCESS_READ, route_history },
        { "PUT", "/api/v1/drain", ACCESS_MANAGE, route_drain },
        {},
};

/* ── start ── */

static int init_router(Daemon *daemon) {
        const DaemonProgram *program = daemon->program;
        const EndpointTable tables[] = {
                { daemon_endpoints, daemon },
                { page_endpoints, &daemon->access },
                { program->endpoints, daemon->userdata },
        };
        int r = router_new(tables, sizeof(tables) / sizeof(*tables), &daemon->access, &daemon->router);
        if (r >= 0)
                router_divert(daemon->router, program->divert, daemon->userdata);
        return r;
}

static int init_access(Daemon *daemon) {
        const char *name = daemon->program->name;
        char *token;
        int r = access_init(&daemon->access, daemon->event, name, daemon->host_name, daemon->user_mode);
        if (r >= 0)
                r = config_file_read_token(name, &daemon->config, &token);
        if (r >= 0)
                access_configure(&daemon->access, &daemon->config, token);
        if (r >= 0 && daemon->program->vouched)
                access_trust(&daemon->access, daemon->program->vouched, daemon->userdata);
        return r;
}

static void on_stop(void *userdata) {
        Daemon *daemon = userdata;
        bool again = daemon->stopping;
        daemon->stopping = true;
        (void) sd_notify(false, "STOPPING=1");
        daemon_status_changed(daemon);
        daemon->program->stop(daemon->userdata, again);
}

static int on_reload(void *userdata) {
        const Daemon *daemon = userdata;
        return daemon->program->reload(daemon->userdata);
}

static void on_upgrade(void *userdata) {
        const Daemon *daemon = userdata;
        daemon->program->upgrade(daemon->userdata);
}

static const ProcessHandlers process_handlers = {
        .stop = on_stop,
        .reload = on_reload,
};

static const ProcessHandlers process_handlers_with_upgrade = {
        .stop = on_stop,
        .reload = on_reload,
        .upgrade = on_upgrade,
};

int daemon_init(Daemon *daemon,
                const DaemonProgram *program,
                void *userdata,
                sd_event *event,
                const char *config_path,
                bool user_mode,
                ServiceConfig *config) {
        *daemon = (Daemon) {
                .program = program,
                .userdata = userdata,
                .event = sd_event_ref(event),
                .config_path = config_path,
                .config = *config,
                .user_mode = user_mode,
        };
        *config = (ServiceConfig) {};
        if (gethostname(daemon->host_name, sizeof(daemon->host_name) - 1) < 0)
                return -errno;
        int r = process_watch_signals(
                        event,
                        program->upgrade ? &process_handlers_with_upgrade : &process_handlers,
                        daemon,
                        &daemon->signals);
        if (r >= 0)
                r = init_access(daemon);
        if (r >= 0)
                r = init_router(daemon);
        if (r >= 0)
                r = event_stream_new(event, &daemon->events);
        if (r >= 0)
                r = long_jobs_new(event, &daemon->long_jobs);
        if (r < 0)
                return r;
        daemon->n_descriptors = process_raise_descriptor_limit();
        return listen_server_new(
                        event,
                        config_path,
                        &daemon->config,
                        daemon->n_descriptors,
                        daemon->router,
                        &daemon->http);
}

int daemon_listen(Daemon *daemon) {
        return listen_start(daemon->http, &daemon->access, &daemon->port);
}

/* ── run ── */

static int on_status(sd_event_source *source, uint64_t usec, void *userdata) {
        Daemon *daemon = userdata;
        daemon->program->tell_status(daemon->userdata);
        note_capacity(daemon);
        return 0;
}

void daemon_status_changed(Daemon *daemon) {
        int enabled = SD_EVENT_OFF;
        if (daemon->status_source)
                (void) sd_event_source_get_enabled(daemon->status_source, &enabled);
        if (enabled == SD_EVENT_OFF)
                (void) loop_set_timer(
                                daemon->event,
                                &daemon->status_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), STATUS_INTERVAL_USEC),
                                on_status,
                                daemon,
                                "daemon-status");
}

/* ── reload ── */

int daemon_reconfigure(Daemon *daemon, ServiceConfig *config) {
        _cleanup_(freep) char *token = NULL;
        int r = config_file_read_token(daemon->program->name, config, &token);
        if (r >= 0)
                r = listen_reload(daemon->http, daemon->config_path, config, &daemon->config, token != NULL);
        if (r < 0)
                return r;
        listen_keep(config, &daemon->config);
        service_config_done(&daemon->config);
        daemon->config = *config;
        *config = (ServiceConfig) {};
        access_configure(&daemon->access, &daemon->config, TAKE_PTR(token));
        return 0;
}

/* ── begin anew ── */

int daemon_begin_anew(const Daemon *daemon, char *const *arguments) {
        size_t n = 0;
        while (http_server_listener(daemon->http, n) >= 0)
                n++;
        _cleanup_(freep) int *sockets = calloc(n + 1, sizeof(int));
        if (!sockets)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                sockets[i] = http_server_listener(daemon->http, i);
        return process_execute_anew(arguments, sockets, n);
}

/* ── stop ── */

void daemon_disconnect(Daemon *daemon) {
        event_stream_end(daemon->events);
        daemon->http = http_server_free(daemon->http);
        daemon->router = router_free(daemon->router);
}

void daemon_done(Daemon *daemon) {
        long_jobs_free(daemon->long_jobs);
        course_done(&daemon->capacity_history);
        event_stream_free(daemon->events);
        event_source_dropp(&daemon->status_source);
        process_signals_free(daemon->signals);
        access_done(&daemon->access);
        service_config_done(&daemon->config);
        sd_event_unref(daemon->event);
        *daemon = (Daemon) {};
}
