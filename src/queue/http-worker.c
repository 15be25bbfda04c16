/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/http-worker.h"

#include <string.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "io/loop.h"
#include "queue/http-worker-internal.h"

#define CALL_USEC        (10 * USEC_PER_SEC)
#define CONNECT_USEC     (5 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX (1024 * 1024)

int http_worker_configure(HttpWorker *worker, const WorkerConfig *config) {
        WorkerConfig copy;
        if (worker_config_copy(config, &copy) < 0) {
                worker_config_done(&copy);
                return -ENOMEM;
        }
        worker_config_done(&worker->config);
        worker->config = copy;
        worker->tls = (HttpClientTls) {
                .ca_file = copy.ca_file,
                .cert_file = copy.cert_file,
                .key_file = copy.key_file,
        };
        worker->mute = false;
        return 0;
}

int http_worker_new(const HttpWorkers *shared, const WorkerConfig *config, HttpWorker **ret) {
        _cleanup_(http_worker_freep) HttpWorker *worker = calloc(1, sizeof(*worker));
        if (!worker)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up worker \"%s\"", config->id);
        worker->shared = shared;
        if (http_worker_configure(worker, config) < 0)
                return log_errno(LOG_ERR, ENOMEM, "Cannot set up worker \"%s\"", config->id);
        *ret = TAKE_PTR(worker);
        return 0;
}

HttpWorker *http_worker_free(HttpWorker *worker) {
        if (!worker)
                return NULL;
        http_worker_stop_listening(worker);
        event_source_dropp(&worker->retry_source);
        while (worker->calls)
                port_call_free(worker->calls);
        worker_config_done(&worker->config);
        free(worker);
        return NULL;
}

bool http_worker_is_idle(const HttpWorker *worker) {
        return !worker->calls;
}

void http_worker_set_delivery(HttpWorker *worker, DeliveryWorker *delivery_worker) {
        worker->delivery = delivery_worker;
}

DeliveryWorker *http_worker_delivery(const HttpWorker *worker) {
        return worker->delivery;
}

ScheduledWorker *http_worker_scheduled(const HttpWorker *worker) {
        return delivery_worker_scheduled(worker->delivery);
}

const WorkerConfig *http_worker_config(const HttpWorker *worker) {
        return &worker->config;
}

int http_worker_prepare(
                HttpWorker *worker,
                const char *method,
                const char *path,
                HttpCallOptions *ret_options,
                char **ret_url) {
        if (text_format(ret_url, "%s%s", worker->config.url, path) < 0)
                return -ENOMEM;
        *ret_options = (HttpCallOptions) {
                .method = method,
                .url = *ret_url,
                .tls = &worker->tls,
                .token = worker->config.token,
                .total_usec = CALL_USEC,
                .connect_usec = CONNECT_USEC,
                .answer_bytes_max = ANSWER_BYTES_MAX,
                .userdata = worker,
        };
        return 0;
}

int http_worker_attempt_path(const char *attempt_id, const char *suffix, char **ret) {
        _cleanup_(freep) char *id = NULL;
        int r = text_percent_encode(attempt_id, "-._~:", &id);
        if (r < 0)
                return r;
        return text_format(ret, "/api/v1/task/%s%s", id, suffix);
}

void http_worker_log_strange(HttpWorker *worker, const char *what, const HttpOutcome *outcome) {
        if (worker->mute)
                return;
        worker->mute = true;
        if (outcome->error < 0)
                log_line(LOG_NOTICE,
                         "Worker \"%s\" does not answer (%s): %s",
                         worker->config.id,
                         what,
                         *outcome->error_text ? outcome->error_text : strerror(-outcome->error));
        else
                log_line(LOG_WARNING,
                         "Worker \"%s\" answers %s with status %d, which it should not",
                         worker->config.id,
                         what,
                         outcome->status);
}

void port_call_free(PortCall *call) {
        DL_DELETE2(call->worker->calls, call, previous, next);
        http_call_free(call->http);
        free(call);
}
