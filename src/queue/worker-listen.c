/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a worker tells by itself: the stream of its events, and, where something may have been missed, the
 * list of what it has. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/runner-answer.h"
#include "io/loop.h"
#include "io/task-store.h"
#include "queue/queue.h"
#include "queue/task-fetch.h"
#include "queue/worker-link-internal.h"

#define STREAM_IDLE_USEC  (40 * USEC_PER_SEC) /* runners send a comment every 15 s */
#define STREAM_RETRY_USEC (1 * USEC_PER_SEC)
#define LIST_BYTES_MAX    (64 * 1024 * 1024)
#define EVENT_BYTES_MAX   (64 * 1024)
#define LIST_LIMIT        "200"
#define LIST_PAUSE_USEC   (1 * USEC_PER_SEC) /* between two listings, however much goes wrong */

void worker_link_stop_listening(WorkerLink *link) {
        link->stream = http_call_free(link->stream);
        event_parser_done(&link->parser);
        link->connected = false;
}

/* An attempt that the worker has; OBJECT shows it. */
static void on_attempt_seen(WorkerLink *link, json_object *object, bool listed) {
        Scheduler *scheduler = link->queue->scheduler;
        RunnerTask seen;
        if (runner_task_read(object, &seen) < 0)
                return;
        Task *task = task_table_find_attempt(&link->queue->tasks, seen.task_id);
        if (task && task->scheduled && task->scheduled->state == SCHEDULED_ENDED)
                return; /* its result is on the way to the disk */
        if (!task || !task->scheduled || task->scheduled->worker != link->worker) {
                if (listed) /* has our label: one that was given up, or whose result is on disk */
                        worker_link_forget(link, seen.task_id);
                return;
        }
        if (listed)
                scheduler_listing_has(scheduler, task->scheduled, now_boottime());
        task->finish_seen |= seen.finished;
        if (task->scheduled->state != SCHEDULED_RUNNING)
                return;
        if (seen.finished)
                task_fetch_start(task, link);
        else if (listed && task->scheduled->stop_requested)
                worker_link_stop(link, seen.task_id);
}

static void list_page(WorkerLink *link);

/* A worker that answers again after a silence is listed anyway; this is for one that goes on answering. */
static void listing_failed(WorkerLink *link) {
        scheduler_worker_suspect(link->worker, now_boottime());
        if (!link->worker->worker.silent)
                worker_link_resync(link);
}

/* 1 when there is another page. */
static int read_page(WorkerLink *link, const HttpOutcome *outcome) {
        _cleanup_(json_putp) json_object *object = NULL;
        json_object *tasks, *next;
        if (!is_success(outcome))
                return -EIO;
        int r = runner_object_parse(outcome->body, outcome->body_size, &object);
        if (r < 0)
                return r;
        if (!json_object_object_get_ex(object, "tasks", &tasks) ||
            !json_object_is_type(tasks, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(tasks); i++)
                on_attempt_seen(link, json_object_array_get_idx(tasks, i), true);
        free(TAKE_PTR(link->list_after));
        if (!json_object_object_get_ex(object, "next", &next) || !json_object_is_type(next, json_type_string))
                return 0;
        link->list_after = strdup(json_object_get_string(next));
        return link->list_after ? 1 : -ENOMEM;
}

static void on_list_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        link->list_call = NULL;
        int r = read_page(link, outcome);
        http_call_free(call);
        if (r > 0) {
                list_page(link);
                return;
        }
        free(TAKE_PTR(link->list_after));
        if (r < 0)
                listing_failed(link);
        else
                scheduler_listing_finish(
                                link->queue->scheduler, link->worker, link->listed_usec, now_boottime());
        if (link->list_again)
                worker_link_resync(link);
        queue_run_soon(link->queue);
}

static void list_page(WorkerLink *link) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        if (asprintf(&path,
                     "/api/v1/tasks?limit=" LIST_LIMIT "&label=" QUEUE_LABEL "%%3D%s%s%s",
                     task_store_queue_id(link->queue->store),
                     link->list_after ? "&after=" : "",
                     link->list_after ?: "") < 0)
                path = NULL;
        if (path && worker_link_prepare(link, "GET", path, &options, &url) >= 0) {
                options.answer_bytes_max = LIST_BYTES_MAX;
                options.on_done = on_list_done;
                (void) http_call_new(link->queue->client, &options, &link->list_call);
        }
        if (!link->list_call)
                listing_failed(link);
}

/* First who it is, then what it has: attempts of an earlier start of the worker are lost by then. */
static void on_capacity_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        link->capacity_call = NULL;
        int r = is_success(outcome) ? worker_link_take_report(link, outcome) : -EIO;
        http_call_free(call);
        if (r >= 0) {
                link->listed_usec = now_boottime();
                scheduler_listing_begin(link->worker);
                list_page(link);
        } else
                listing_failed(link);
        queue_run_soon(link->queue);
}

static int on_list_due(sd_event_source *source, uint64_t usec, void *userdata) {
        worker_link_resync(userdata);
        return 0;
}

void worker_link_resync(WorkerLink *link) {
        usec_t now_usec = now_boottime(), due_usec = usec_add(link->asked_usec, LIST_PAUSE_USEC);
        link->list_again = link->capacity_call || link->list_call;
        if (link->list_again)
                return;
        if (link->asked_usec > 0 && now_usec < due_usec) {
                (void) loop_set_timer(
                                link->queue->event,
                                &link->list_source,
                                due_usec,
                                on_list_due,
                                link,
                                "worker-list");
                return;
        }
        link->asked_usec = now_usec;
        (void) worker_link_start_call(
                        link, "GET", "/api/v1/capacity", NULL, on_capacity_done, &link->capacity_call);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        WorkerLink *link = userdata;
        if (streq(event->type, "task")) {
                _cleanup_(json_putp) json_object *object = NULL;
                if (runner_object_parse(event->data, event->data_size, &object) >= 0)
                        on_attempt_seen(link, object, false);
        } else if (streq(event->type, "capacity")) {
                HttpOutcome capacity = { .body = event->data, .body_size = event->data_size };
                (void) worker_link_take_report(link, &capacity);
                queue_run_soon(link->queue);
        }
        return 0;
}

static int on_stream_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        WorkerLink *link = userdata;
        if (!link->connected) {
                link->connected = true;
                worker_link_resync(link); /* whatever happened before the stream began */
        }
        return event_parser_feed(&link->parser, bytes, size, on_event, link);
}

static int on_stream_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        worker_link_update(userdata);
        return 0;
}

static void on_stream_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        worker_link_stop_listening(link);
        scheduler_worker_suspect(link->worker, now_boottime());
        (void) loop_set_timer(
                        link->queue->event,
                        &link->retry_source,
                        usec_add(now_boottime(), STREAM_RETRY_USEC),
                        on_stream_retry,
                        link,
                        "worker-stream");
        queue_run_soon(link->queue);
}

static bool is_retry_pending(const WorkerLink *link) {
        int enabled = SD_EVENT_OFF;
        return link->retry_source && sd_event_source_get_enabled(link->retry_source, &enabled) > 0;
}

void worker_link_update(WorkerLink *link) {
        const Worker *worker = &link->worker->worker;
        bool wanted = worker->heard && (*worker->lease_id || worker->n_attempts > 0);
        if (!wanted)
                worker_link_stop_listening(link);
        if (!wanted || link->stream || worker->silent || is_retry_pending(link))
                return;
        _cleanup_(freep) char *url = NULL;
        HttpCallOptions options;
        if (worker_link_prepare(link, "GET", "/api/v1/events", &options, &url) < 0)
                return;
        link->parser = (EventParser){
                .line_bytes_max = EVENT_BYTES_MAX,
                .event_bytes_max = EVENT_BYTES_MAX,
        };
        options.total_usec = 0;
        options.idle_usec = STREAM_IDLE_USEC;
        options.on_data = on_stream_data;
        options.on_done = on_stream_done;
        (void) http_call_new(link->queue->streams, &options, &link->stream);
}
