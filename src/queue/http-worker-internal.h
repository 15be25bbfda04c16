/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of an HTTP worker share. http-worker.c: what it is, and the beginning and end of calls;
 * http-worker-calls.c: each kind of call; http-worker-events.c: what the runner tells by itself. */
#pragma once

#include "core/http/event-parse.h"
#include "queue/http-worker.h"

/* One request under way. */
struct PortCall {
        HttpWorker *worker;        /* weak: owns it */
        PortCall *previous, *next; /* of the worker's */
        HttpCall *http;
        WorkerCall kind;
        union {
                WorkerCallDone call;
                WorkerSubmitDone submit;
                WorkerEndDone end;
                WorkerListDone list;
                WorkerFetchDone fetch;
                WorkerOutputDone output;
        } done;
        WorkerOutputData data;
        void *userdata;
};

struct HttpWorker {
        const HttpWorkers *shared;
        WorkerConfig config;
        DeliveryWorker *delivery;
        HttpClientTls tls; /* points into the configuration */
        PortCall *calls;
        bool mute; /* what is wrong with it was logged, and it has not answered since */

        bool listening; /* its events are wanted */
        HttpCall *stream;
        EventParser parser;
        sd_event_source *retry_source;
        bool connected;
};

static inline bool is_success(const HttpOutcome *outcome) {
        return outcome->error == 0 && outcome->status >= 200 && outcome->status < 300;
}

/* A call to the worker's URL and PATH behind it, that the caller completes: its token, TLS and deadlines are
 * filled in. RET_URL is the caller's to free after http_call_new(). -ENOMEM. */
int http_worker_prepare(
                HttpWorker *worker,
                const char *method,
                const char *path,
                HttpCallOptions *ret_options,
                char **ret_url);

/* "/api/v1/task/ID" and SUFFIX. -ENOMEM. The caller frees *ret. */
int http_worker_attempt_path(const char *attempt_id, const char *suffix, char **ret);

/* Logs an answer that a worker should not give, or that it gives none. */
void http_worker_log_strange(HttpWorker *worker, const char *what, const HttpOutcome *outcome);

void http_worker_stop_listening(HttpWorker *worker);

void port_call_free(PortCall *call);

/* http-worker-events.c */
void http_worker_listen(void *worker, bool wanted);
