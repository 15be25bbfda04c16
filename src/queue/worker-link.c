/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/worker-link.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/event-parse.h"
#include "core/json.h"
#include "core/runner-answer.h"
#include "core/token.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/task-store.h"
#include "queue/live-output.h"
#include "queue/queue.h"
#include "queue/task-fetch.h"

#define CALL_USEC         (10 * USEC_PER_SEC)
#define CONNECT_USEC      (5 * USEC_PER_SEC)
#define STREAM_IDLE_USEC  (40 * USEC_PER_SEC) /* runners send a comment every 15 s */
#define STREAM_RETRY_USEC (1 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX  (1024 * 1024)
#define LIST_BYTES_MAX    (64 * 1024 * 1024)
#define EVENT_BYTES_MAX   (64 * 1024)
#define LIST_LIMIT        "200"
#define LIST_PAUSE_USEC   (1 * USEC_PER_SEC) /* between two listings, however much goes wrong */

struct WorkerLink {
        Queue *queue; /* weak */
        const WorkerConfig *config;
        ScheduledWorker *worker; /* weak */
        HttpClientTls tls;
        char *token;

        HttpCall *call; /* the scheduler's */
        WorkerCall call_kind;

        HttpCall *stream;
        EventParser parser;
        sd_event_source *retry_source;
        bool stream_wanted, connected;

        HttpCall *capacity_call, *list_call;
        sd_event_source *list_source; /* to list it later */
        usec_t asked_usec;            /* when the last listing was begun */
        usec_t listed_usec;           /* when its list was asked for */
        char *list_after;             /* of the page before; NULL: the first */
        bool list_again;              /* something may have been missed since the listing under way began */
};

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

static void stream_close(WorkerLink *link) {
        link->stream = http_call_free(link->stream);
        event_parser_done(&link->parser);
        link->connected = false;
}

WorkerLink *worker_link_free(WorkerLink *link) {
        if (!link)
                return NULL;
        stream_close(link);
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
static int start_call(
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

static usec_t now_boottime(void) {
        return usec_now(CLOCK_BOOTTIME);
}

static bool is_success(const HttpOutcome *outcome) {
        return outcome->error == 0 && outcome->status >= 200 && outcome->status < 300;
}

/* What a worker says of itself; what it does not say this time stays. */
static int take_report(WorkerLink *link, const HttpOutcome *outcome) {
        WorkerReport report = link->worker->worker.report;
        int r = runner_capacity_parse(outcome->body, outcome->body_size, &report);
        if (r >= 0)
                scheduler_worker_reported(link->queue->scheduler, link->worker, &report, now_boottime());
        return r;
}

static void log_strange_answer(const WorkerLink *link, const char *what, const HttpOutcome *outcome) {
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
                log_strange_answer(link, "when asked for its capacity", outcome);
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
                log_strange_answer(link, "when asked for a lease", outcome);
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
                        r = start_call(link, "GET", "/api/v1/capacity", NULL, on_call_done, &link->call);
                        break;
                case WORKER_CALL_ACQUIRE:
                        r = lease_body(link->queue, &body);
                        if (r >= 0)
                                r = start_call(link,
                                               "POST",
                                               "/api/v1/lease",
                                               body,
                                               on_call_done,
                                               &link->call);
                        break;
                case WORKER_CALL_RENEW:
                        r = start_call(link, "PUT", path, NULL, on_call_done, &link->call);
                        break;
                case WORKER_CALL_RELEASE:
                        r = start_call(link, "DELETE", path, NULL, on_call_done, &link->call);
                        break;
                }
        if (r < 0)
                scheduler_call_failed(link->queue->scheduler, link->worker, now_boottime());
}

/* A refusal whose reason is the worker's capacity shows it. */
static SubmitOutcome conflict_outcome(WorkerLink *link, const HttpOutcome *outcome) {
        return take_report(link, outcome) >= 0 ? SUBMIT_FULL : SUBMIT_INVALID;
}

static SubmitOutcome submit_outcome(WorkerLink *link, const HttpOutcome *outcome) {
        if (outcome->error < 0)
                return outcome->not_sent ? SUBMIT_UNSENT : SUBMIT_UNKNOWN;
        switch (outcome->status) {
        case 200:
        case 202:
                return SUBMIT_ACCEPTED;
        case 409:
                return conflict_outcome(link, outcome);
        case 423:
                return SUBMIT_NO_LEASE;
        case 400:
        case 413:
        case 415:
                return SUBMIT_INVALID;
        case 429:
        case 503:
                return SUBMIT_BUSY;
        case 422: /* its capacity has shrunk below what was reported, or it knows no such user */
                return runner_problem_blames_task(outcome->body, outcome->body_size) ? SUBMIT_INVALID :
                                                                                       SUBMIT_BUSY;
        case 403: /* it runs no tasks as that user, or we may not submit there at all */
                if (runner_problem_blames_task(outcome->body, outcome->body_size))
                        return SUBMIT_INVALID;
                log_strange_answer(link, "a submission", outcome);
                return SUBMIT_BUSY;
        case 401:
        case 421:
                log_strange_answer(link, "a submission", outcome);
                return SUBMIT_BUSY;
        default:
                log_strange_answer(link, "a submission", outcome);
                return SUBMIT_UNKNOWN;
        }
}

static void note_refusal(WorkerLink *link, Task *task, const HttpOutcome *outcome) {
        char detail[PROBLEM_DETAIL_SIZE];
        runner_problem_parse(outcome->body, outcome->body_size, detail, sizeof(detail));
        free(TAKE_PTR(task->note));
        if (asprintf(&task->note, "worker %s refused it: %s", link->config->id, detail) < 0)
                task->note = NULL;
}

/* The attempt that came with an acceptance may be over already. */
static void look_at_accepted(Task *task, const HttpOutcome *outcome) {
        _cleanup_(json_putp) json_object *object = NULL;
        RunnerTask accepted;
        if (runner_object_parse(outcome->body, outcome->body_size, &object) < 0 ||
            runner_task_read(object, &accepted) < 0)
                return;
        free(TAKE_PTR(task->unit));
        task->unit = accepted.unit ? strdup(accepted.unit) : NULL;
        task->finish_seen |= accepted.finished;
}

/* Only a hint for the next start, so nobody waits for it. */
static void store_acceptance(const WorkerLink *link, const Task *task) {
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        (void) store_batch_update_task(
                        batch,
                        &(StoredTask){
                                        .seq = task->seq,
                                        .state = STORED_RUNNING,
                                        .priority = task->scheduled->priority,
                                        .retries = task->scheduled->n_retries,
                                        .stop_reason = task->scheduled->stop_requested,
                                        .queue_usec = task->queue_usec,
                        });
        (void) store_batch_put_attempt(
                        batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = task->attempt_number,
                                        .state = STORED_ATTEMPT_RUNNING,
                                        .worker_id = link->config->id,
                                        .runner_task_id = task->attempt_id,
                                        .runner_instance = task->scheduled->instance,
                                        .place_usec = usec_now(CLOCK_REALTIME),
                        });
        (void) task_store_commit(link->queue->store, batch, NULL, NULL);
}

static void on_submit_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Task *task = userdata;
        Queue *queue = task->queue;
        task->submit_call = NULL;
        if (task->scheduled->state != SCHEDULED_SENDING) { /* given up in this very turn of the loop */
                http_call_free(call);
                return;
        }
        WorkerLink *link = task->scheduled->worker->userdata;
        SubmitOutcome result = submit_outcome(link, outcome);
        if (result == SUBMIT_INVALID)
                note_refusal(link, task, outcome);
        metrics_count_submission(&queue->metrics, result);
        scheduler_submit_done(queue->scheduler, task->scheduled, result, now_boottime());
        if (task->scheduled->state == SCHEDULED_RUNNING) {
                store_acceptance(link, task);
                task_send_event(task, "running", NULL);
                look_at_accepted(task, outcome);
                live_output_task_started(task);
                if (task->finish_seen)
                        task_fetch_start(task, link);
        }
        http_call_free(call);
        queue_run_soon(queue);
}

/* What is read of the store for a submission. */
typedef struct SubmissionBody {
        const char *queue_id;
        char *text;
        size_t size;
} SubmissionBody;

static int on_submission_row(const StoredTask *row, void *userdata) {
        SubmissionBody *body = userdata;
        return queue_spec_to_runner(row->spec, body->queue_id, &body->text, &body->size);
}

static int submit(WorkerLink *link, Task *task) {
        Queue *queue = link->queue;
        SubmissionBody body = { .queue_id = task_store_queue_id(queue->store) };
        _cleanup_(freep) char *path = NULL, *url = NULL;
        int r = task_store_get(queue->store, task->task_id, on_submission_row, &body);
        _cleanup_(freep) char *text = body.text;
        if (r >= 0)
                r = worker_link_attempt_path(task->attempt_id, "", &path);
        HttpCallOptions options;
        if (r >= 0)
                r = worker_link_prepare(link, "POST", path, &options, &url);
        if (r < 0)
                return r;
        options.lease_id = task->scheduled->lease_id;
        options.content_type = "application/json";
        options.body = text;
        options.body_size = body.size;
        options.on_done = on_submit_done;
        options.userdata = task;
        return http_call_new(queue->client, &options, &task->submit_call);
}

void worker_link_submit(WorkerLink *link, Task *task) {
        assert(!task->submit_call);

        int r = submit(link, task);
        if (r < 0) {
                log_errno(LOG_WARNING, r, "Cannot submit task \"%s\"", task->task_id);
                scheduler_submit_done(link->queue->scheduler, task->scheduled, SUBMIT_BUSY, now_boottime());
                queue_run_soon(link->queue);
        }
}

static void on_delete_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        WorkerLink *link = userdata;
        if (outcome->error < 0 || outcome->status >= 500) /* what is still there is found by listing */
                worker_link_resync(link);
}

static void delete_attempt(WorkerLink *link, const char *attempt_id, const char *query) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        if (worker_link_attempt_path(attempt_id, query, &path) < 0 ||
            worker_link_prepare(link, "DELETE", path, &options, &url) < 0)
                return;
        options.on_done = on_delete_done;
        (void) http_call_new(link->queue->client, &options, NULL);
}

void worker_link_stop(WorkerLink *link, const char *attempt_id) {
        delete_attempt(link, attempt_id, "?keep=true");
}

void worker_link_forget(WorkerLink *link, const char *attempt_id) {
        delete_attempt(link, attempt_id, "");
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
        int r = is_success(outcome) ? take_report(link, outcome) : -EIO;
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
        (void) start_call(link, "GET", "/api/v1/capacity", NULL, on_capacity_done, &link->capacity_call);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        WorkerLink *link = userdata;
        if (streq(event->type, "task")) {
                _cleanup_(json_putp) json_object *object = NULL;
                if (runner_object_parse(event->data, event->data_size, &object) >= 0)
                        on_attempt_seen(link, object, false);
        } else if (streq(event->type, "capacity")) {
                HttpOutcome capacity = { .body = event->data, .body_size = event->data_size };
                (void) take_report(link, &capacity);
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
        stream_close(link);
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
                stream_close(link);
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
