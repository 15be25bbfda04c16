/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/worker-link.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/http/token.h"
#include "core/json/json.h"
#include "core/scheduling/runner-answer.h"
#include "io/file.h"
#include "io/loop.h"
#include "queue/queue.h"
#include "queue/worker-link-internal.h"

#define CALL_USEC        (10 * USEC_PER_SEC)
#define CONNECT_USEC     (5 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX (1024 * 1024)

static int read_token(const WorkerConfig *config, char **ret) {
        _cleanup_(text_done) Text text = {};
        if (!config->token_file)
                return 0;
        int r = file_read_all(config->token_file, TOKEN_MAX + 1, &text);
        if (r >= 0)
                r = token_parse(text.data, text.size, ret);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot use the token file %s", config->token_file);
        return 0;
}

int worker_link_new(Queue *queue, const WorkerConfig *config, ScheduledWorker *worker, WorkerLink **ret) {
        _cleanup_(worker_link_freep) WorkerLink *link = calloc(1, sizeof(*link));
        if (!link)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up worker \"%s\"", config->id);
        link->queue = queue;
        link->config = config;
        link->worker = worker;
        link->tls = (HttpClientTls){
                .ca_file = config->ca_file,
                .cert_file = config->cert_file,
                .key_file = config->key_file,
        };
        int r = read_token(config, &link->token);
        if (r < 0)
                return r;
        worker->userdata = link;
        *ret = TAKE_PTR(link);
        return 0;
}

WorkerLink *worker_link_free(WorkerLink *link) {
        if (!link)
                return NULL;
        worker_link_stop_listening(link);
        event_source_dropp(&link->retry_source);
        event_source_dropp(&link->list_source);
        http_call_free(link->call);
        http_call_free(link->capacity_call);
        http_call_free(link->list_call);
        free(link->list_after);
        free(link->token);
        free(link);
        return NULL;
}

ScheduledWorker *worker_link_worker(const WorkerLink *link) {
        return link->worker;
}

const WorkerConfig *worker_link_config(const WorkerLink *link) {
        return link->config;
}

int worker_link_prepare(
                WorkerLink *link,
                const char *method,
                const char *path,
                HttpCallOptions *ret_options,
                char **ret_url) {
        if (asprintf(ret_url, "%s%s", link->config->url, path) < 0) {
                *ret_url = NULL;
                return -ENOMEM;
        }
        *ret_options = (HttpCallOptions){
                .method = method,
                .url = *ret_url,
                .tls = &link->tls,
                .token = link->token,
                .total_usec = CALL_USEC,
                .connect_usec = CONNECT_USEC,
                .answer_bytes_max = ANSWER_BYTES_MAX,
                .userdata = link,
        };
        return 0;
}

int worker_link_attempt_path(const char *attempt_id, const char *suffix, char **ret) {
        _cleanup_(freep) char *id = NULL;
        int r = text_percent_encode(attempt_id, "-._~:", &id);
        if (r < 0)
                return r;
        if (asprintf(ret, "/api/v1/task/%s%s", id, suffix) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* Starts a call with a JSON body (may be NULL). */
int worker_link_start_call(
                WorkerLink *link,
                const char *method,
                const char *path,
                const char *body,
                HttpCallDone on_done,
                HttpCall **ret) {
        _cleanup_(freep) char *url = NULL;
        HttpCallOptions options;
        int r = worker_link_prepare(link, method, path, &options, &url);
        if (r < 0)
                return r;
        options.on_done = on_done;
        if (body) {
                options.content_type = "application/json";
                options.body = body;
                options.body_size = strlen(body);
        }
        *ret = http_call_free(*ret);
        return http_call_new(link->queue->client, &options, ret);
}

/* What a worker says of itself; what it does not say this time stays. */
int worker_link_take_report(WorkerLink *link, const HttpOutcome *outcome) {
        WorkerReport report = link->worker->worker.report;
        int r = runner_capacity_parse(outcome->body, outcome->body_size, &report);
        if (r >= 0)
                scheduler_worker_reported(link->queue->scheduler, link->worker, &report, now_boottime());
        return r;
}

void worker_link_log_strange(const WorkerLink *link, const char *what, const HttpOutcome *outcome) {
        if (link->worker->worker.silent) /* it was said when it became so */
                return;
        if (outcome->error < 0)
                log_line(LOG_NOTICE,
                         "Worker \"%s\" does not answer (%s): %s",
                         link->config->id,
                         what,
                         *outcome->error_text ? outcome->error_text : strerror(-outcome->error));
        else
                log_line(LOG_WARNING,
                         "Worker \"%s\" answers %s with status %d, which it should not",
                         link->config->id,
                         what,
                         outcome->status);
}

static void on_probe_done(WorkerLink *link, const HttpOutcome *outcome) {
        Scheduler *scheduler = link->queue->scheduler;
        bool was_silent = link->worker->worker.silent || !link->worker->worker.heard;
        WorkerReport report = link->worker->worker.report;
        if (!is_success(outcome) || runner_capacity_parse(outcome->body, outcome->body_size, &report) < 0) {
                worker_link_log_strange(link, "when asked for its capacity", outcome);
                scheduler_call_failed(scheduler, link->worker, now_boottime());
                return;
        }
        if (was_silent)
                log_line(LOG_INFO, "Worker \"%s\" answers", link->config->id);
        scheduler_call_answered(scheduler, link->worker, now_boottime());
        scheduler_worker_reported(scheduler, link->worker, &report, now_boottime());
        if (was_silent)
                worker_link_resync(link);
}

static void on_grant_done(WorkerLink *link, const HttpOutcome *outcome) {
        Scheduler *scheduler = link->queue->scheduler;
        char id[LEASE_ID_SIZE], holder[LEASE_QUEUE_MAX + 1];
        usec_t ttl_usec;
        bool refused = outcome->error == 0 &&
                        (outcome->status == 409 || outcome->status == 404 || outcome->status == 503);
        if (is_success(outcome) && runner_lease_parse(outcome->body, outcome->body_size, id, &ttl_usec) >= 0)
                scheduler_call_granted(scheduler, link->worker, id, ttl_usec, now_boottime());
        else if (refused) {
                runner_holder_parse(outcome->body, outcome->body_size, holder);
                scheduler_call_refused(scheduler, link->worker, holder, now_boottime());
        } else {
                worker_link_log_strange(link, "when asked for a lease", outcome);
                scheduler_call_failed(scheduler, link->worker, now_boottime());
        }
}

static void on_release_done(WorkerLink *link, const HttpOutcome *outcome) {
        if (is_success(outcome) || (outcome->error == 0 && outcome->status == 404))
                scheduler_call_answered(link->queue->scheduler, link->worker, now_boottime());
        else
                scheduler_call_failed(link->queue->scheduler, link->worker, now_boottime());
}

static void on_call_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        link->call = NULL;
        switch (link->call_kind) {
        case WORKER_CALL_PROBE:
                on_probe_done(link, outcome);
                break;
        case WORKER_CALL_ACQUIRE:
        case WORKER_CALL_RENEW:
                on_grant_done(link, outcome);
                break;
        case WORKER_CALL_RELEASE:
                on_release_done(link, outcome);
                break;
        }
        http_call_free(call);
        queue_run_soon(link->queue);
}

static int lease_body(const Queue *queue, char **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "queue", queue->address) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "version", queue_version(queue));
        if (r >= 0)
                r = json_add_double(
                                object,
                                "ttl",
                                (double) queue->config->lease_ttl_usec / (double) USEC_PER_SEC);
        return r < 0 ? r : json_format(object, ret, NULL);
}

void worker_link_call(WorkerLink *link, WorkerCall call) {
        _cleanup_(freep) char *path = NULL, *body = NULL;
        int r = 0;
        link->call_kind = call;
        if (call == WORKER_CALL_RENEW || call == WORKER_CALL_RELEASE)
                r = asprintf(&path, "/api/v1/lease/%s", link->worker->worker.lease_id) < 0 ? -ENOMEM : 0;
        if (r >= 0)
                switch (call) {
                case WORKER_CALL_PROBE:
                        r = worker_link_start_call(
                                        link, "GET", "/api/v1/capacity", NULL, on_call_done, &link->call);
                        break;
                case WORKER_CALL_ACQUIRE:
                        r = lease_body(link->queue, &body);
                        if (r >= 0)
                                r = worker_link_start_call(
                                                link,
                                                "POST",
                                                "/api/v1/lease",
                                                body,
                                                on_call_done,
                                                &link->call);
                        break;
                case WORKER_CALL_RENEW:
                        r = worker_link_start_call(link, "PUT", path, NULL, on_call_done, &link->call);
                        break;
                case WORKER_CALL_RELEASE:
                        r = worker_link_start_call(link, "DELETE", path, NULL, on_call_done, &link->call);
                        break;
                }
        if (r < 0)
                scheduler_call_failed(link->queue->scheduler, link->worker, now_boottime());
}
