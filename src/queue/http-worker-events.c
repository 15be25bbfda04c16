/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a runner tells by itself: the stream of its events. */

#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "queue/http-worker-internal.h"
#include "queue/moment.h"

#define STREAM_IDLE_USEC  (40 * USEC_PER_SEC) /* runners send a comment every 15 s */
#define STREAM_RETRY_USEC (1 * USEC_PER_SEC)
#define EVENT_BYTES_MAX   (256 * 1024)

void http_worker_stop_listening(HttpWorker *worker) {
        worker->stream = http_call_free(worker->stream);
        event_parser_done(&worker->parser);
        worker->connected = false;
}

/* The end of an attempt may bring all of it along, as "attempt". */
static void on_task_event(const HttpWorker *worker, const ParsedEvent *event, const Moment *now) {
        _cleanup_(json_putp) json_object *object = NULL;
        json_object *attempt = NULL;
        RunnerTask seen;
        if (runner_object_parse(event->data, event->data_size, &object) < 0 ||
            runner_task_read(object, &seen) < 0)
                return;
        (void) json_object_object_get_ex(object, "attempt", &attempt);
        delivery_worker_seen(worker->delivery, &seen, attempt, now);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        const HttpWorker *worker = userdata;
        WorkerReport report = {};
        Moment now = moment_now();
        if (streq(event->type, "task"))
                on_task_event(worker, event, &now);
        else if (streq(event->type, "capacity") &&
                 runner_capacity_parse(event->data, event->data_size, &report) >= 0)
                delivery_worker_reported(worker->delivery, &report, &now);
        return 0;
}

static int on_stream_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        HttpWorker *worker = userdata;
        if (!worker->connected) {
                Moment now = moment_now();
                worker->connected = true;
                delivery_worker_connected(worker->delivery, &now);
        }
        return event_parser_feed(&worker->parser, bytes, size, on_event, worker);
}

static void open_stream(HttpWorker *worker);

static int on_stream_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        open_stream(userdata);
        return 0;
}

static void on_stream_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        HttpWorker *worker = userdata;
        Moment now = moment_now();
        http_worker_stop_listening(worker);
        (void) loop_set_timer(
                        worker->shared->event,
                        &worker->retry_source,
                        usec_add(now.boottime_usec, STREAM_RETRY_USEC),
                        on_stream_retry,
                        worker,
                        "worker-stream");
        delivery_worker_disconnected(worker->delivery, &now);
}

static bool is_retry_pending(const HttpWorker *worker) {
        int enabled = SD_EVENT_OFF;
        return worker->retry_source && sd_event_source_get_enabled(worker->retry_source, &enabled) > 0;
}

/* One that is silent is left alone until it answers a probe. */
static void open_stream(HttpWorker *worker) {
        bool silent = delivery_worker_scheduled(worker->delivery)->worker.silent;
        if (!worker->listening || worker->stream || silent || is_retry_pending(worker))
                return;
        _cleanup_(freep) char *url = NULL;
        HttpCallOptions options;
        if (http_worker_prepare(worker, "GET", "/api/v1/events", &options, &url) < 0)
                return;
        worker->parser = (EventParser) {
                .line_bytes_max = EVENT_BYTES_MAX,
                .event_bytes_max = EVENT_BYTES_MAX,
        };
        options.total_usec = 0;
        options.idle_usec = STREAM_IDLE_USEC;
        options.on_data = on_stream_data;
        options.on_done = on_stream_done;
        (void) http_call_new(worker->shared->streams, &options, &worker->stream);
}

/* What was tried in vain before may be tried at once where it is now. */
void http_worker_listen_anew(HttpWorker *worker) {
        http_worker_stop_listening(worker);
        event_source_dropp(&worker->retry_source);
        open_stream(worker);
}

void http_worker_listen(void *userdata_worker, bool wanted) {
        HttpWorker *worker = userdata_worker;
        worker->listening = wanted;
        if (wanted)
                open_stream(worker);
        else
                http_worker_stop_listening(worker);
}
