/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/task-fetch.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/runner-answer.h"
#include "io/loop.h"
#include "queue/queue.h"
#include "queue/task-finish.h"

#define ATTEMPT_BYTES_MAX (32 * 1024 * 1024)
#define ATTEMPT_USEC      (60 * USEC_PER_SEC)
#define OUTPUT_IDLE_USEC  (30 * USEC_PER_SEC)
#define RETRY_USEC        (1 * USEC_PER_SEC)
#define PAUSE_USEC        (50 * USEC_PER_MSEC)

/* Above this the disk is behind, and the runner has to wait. */
#define PENDING_BYTES_HIGH (STORE_PENDING_BYTES_MAX / 4)

#define N_STREAMS 2

struct TaskFetch {
        Task *task;       /* weak: owns it */
        WorkerLink *link; /* weak */
        HttpCall *call;
        sd_event_source *retry_source, *rest_source;
        bool waits_for_pieces; /* of output, before the result may follow */
        bool without_output;   /* the attempt with its output is too large for one answer */
        json_object *attempt;
        RunnerResult result; /* points into it */

        StoreBatch *batch;     /* what goes to disk with the result */
        unsigned stream;       /* that is being stored: a StoredStream */
        uint64_t stored_bytes; /* of it */
        Text piece;            /* of it, not yet in a batch */
        bool incomplete[N_STREAMS];
        usec_t give_up_usec; /* on the output, when the worker does not send it */
};

TaskFetch *task_fetch_free(TaskFetch *fetch) {
        if (!fetch)
                return NULL;
        http_call_free(fetch->call);
        event_source_dropp(&fetch->retry_source);
        event_source_dropp(&fetch->rest_source);
        json_object_put(fetch->attempt);
        store_batch_free(fetch->batch);
        text_done(&fetch->piece);
        free(fetch);
        return NULL;
}

json_object *task_fetch_attempt(const TaskFetch *fetch) {
        return fetch->attempt;
}

static int fetch_attempt(TaskFetch *fetch);
static int fetch_output(TaskFetch *fetch);
static void finish(TaskFetch *fetch);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        TaskFetch *fetch = userdata;
        if (fetch_attempt(fetch) < 0)
                fetch->task->fetch = task_fetch_free(fetch);
        return 0;
}

/* A worker that answers no more is found out by the scheduler, which ends all this with the attempt. */
static void fetch_again_later(TaskFetch *fetch) {
        scheduler_worker_suspect(worker_link_worker(fetch->link), usec_now(CLOCK_BOOTTIME));
        queue_run_soon(fetch->task->queue);
        if (loop_set_timer(fetch->task->queue->event,
                           &fetch->retry_source,
                           usec_add(usec_now(CLOCK_BOOTTIME), RETRY_USEC),
                           on_retry,
                           fetch,
                           "task-fetch") < 0)
                fetch->task->fetch = task_fetch_free(fetch);
}

static AttemptEnd attempt_end(const RunnerTask *task) {
        if (streq(task->state, "completed"))
                return ATTEMPT_SUCCEEDED;
        if (streq(task->state, "errored"))
                return ATTEMPT_ERRORED;
        return task->result && streq(task->result, "shutdown") ? ATTEMPT_SHUTDOWN : ATTEMPT_KILLED;
}

static void on_attempt_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        TaskFetch *fetch = userdata;
        Task *task = fetch->task;
        fetch->call = NULL;
        int r = outcome->error < 0 ? outcome->error : outcome->status == 200 ? 0 : -EIO;
        bool gone = outcome->error == 0 && outcome->status == 404;
        if (r >= 0)
                r = runner_object_parse(outcome->body, outcome->body_size, &fetch->attempt);
        if (r >= 0)
                r = runner_result_read(fetch->attempt, &fetch->result);
        http_call_free(call);
        if (r == -EMSGSIZE && !fetch->without_output) {
                fetch->without_output = true;
                r = fetch_attempt(fetch);
                if (r >= 0)
                        return;
        }
        if (gone) { /* the listing tells whether the worker was restarted */
                WorkerLink *link = fetch->link;
                task->fetch = task_fetch_free(fetch);
                worker_link_resync(link);
                return;
        }
        if (task->scheduled->state != SCHEDULED_RUNNING) /* given up in this very turn of the loop */
                return;
        if (r < 0 || !fetch->result.task.finished) {
                fetch->attempt = (json_object_put(fetch->attempt), NULL);
                fetch_again_later(fetch);
                return;
        }
        scheduler_attempt_ended(
                        task->queue->scheduler,
                        task->scheduled,
                        attempt_end(&fetch->result.task),
                        usec_now(CLOCK_BOOTTIME));
        queue_run_soon(task->queue);
}

static int start_call(
                TaskFetch *fetch,
                const char *suffix,
                HttpClient *client,
                const HttpCallOptions *wanted) {
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        int r = worker_link_attempt_path(fetch->task->attempt_id, suffix, &path);
        if (r >= 0)
                r = worker_link_prepare(fetch->link, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.total_usec = wanted->total_usec;
        options.idle_usec = wanted->idle_usec;
        options.answer_bytes_max = wanted->answer_bytes_max;
        options.on_done = wanted->on_done;
        options.on_data = wanted->on_data;
        options.userdata = fetch;
        return http_call_new(client, &options, &fetch->call);
}

static int fetch_attempt(TaskFetch *fetch) {
        return start_call(
                        fetch,
                        fetch->without_output ? "?output=none" : "?output=full",
                        fetch->task->queue->client,
                        &(HttpCallOptions){
                                        .total_usec = ATTEMPT_USEC,
                                        .answer_bytes_max = ATTEMPT_BYTES_MAX,
                                        .on_done = on_attempt_done,
                        });
}

void task_fetch_start(Task *task, WorkerLink *link) {
        if (task->fetch)
                return;
        _cleanup_(task_fetch_freep) TaskFetch *fetch = calloc(1, sizeof(*fetch));
        if (!fetch)
                return;
        fetch->task = task;
        fetch->link = link;
        if (fetch_attempt(fetch) < 0) {
                log_line(LOG_WARNING, "Cannot fetch the result of task \"%s\" yet", task->task_id);
                return;
        }
        task->fetch = TAKE_PTR(fetch);
}

/* Pieces are written before the result that they belong to, so the task is still there. */
static void on_piece_stored(int r, void *userdata) {
        Task *task = userdata;
        task->n_pieces--;
        task->piece_failed |= r < 0;
        if (task->fetch && task->fetch->waits_for_pieces && task->n_pieces == 0)
                finish(task->fetch);
}

static int put_piece(TaskFetch *fetch, StoreBatch *batch, const void *bytes, size_t size) {
        int r = store_batch_append_output(
                        batch,
                        fetch->task->seq,
                        fetch->task->attempt_number,
                        (StoredStream) fetch->stream,
                        fetch->stored_bytes,
                        bytes,
                        size);
        if (r >= 0)
                fetch->stored_bytes += size;
        return r;
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata);

static void hold_up(TaskFetch *fetch) {
        if (loop_set_timer(fetch->task->queue->event,
                           &fetch->retry_source,
                           usec_add(usec_now(CLOCK_BOOTTIME), PAUSE_USEC),
                           on_resume,
                           fetch,
                           "task-fetch") >= 0)
                http_call_pause(fetch->call);
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata) {
        TaskFetch *fetch = userdata;
        if (task_store_pending_bytes(fetch->task->queue->store) > PENDING_BYTES_HIGH)
                hold_up(fetch);
        else if (fetch->call)
                http_call_resume(fetch->call);
        return 0;
}

/* A full piece goes to disk at once, so that memory is bounded however much there is. */
static int flush_piece(TaskFetch *fetch) {
        Queue *queue = fetch->task->queue;
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        int r = store_batch_new(&batch);
        if (r >= 0)
                r = put_piece(fetch, batch, fetch->piece.data, fetch->piece.size);
        if (r >= 0)
                r = task_store_commit(queue->store, TAKE_PTR(batch), on_piece_stored, fetch->task);
        if (r >= 0)
                fetch->task->n_pieces++;
        text_done(&fetch->piece);
        if (r >= 0 && task_store_pending_bytes(queue->store) > PENDING_BYTES_HIGH)
                hold_up(fetch);
        return r;
}

static int on_output_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        TaskFetch *fetch = userdata;
        while (size > 0) {
                size_t n = STORE_OUTPUT_PIECE_MAX - fetch->piece.size;
                if (n > size)
                        n = size;
                int r = text_append_bytes(&fetch->piece, bytes, n);
                if (r >= 0 && fetch->piece.size == STORE_OUTPUT_PIECE_MAX)
                        r = flush_piece(fetch);
                if (r < 0)
                        return r;
                bytes = (const char *) bytes + n;
                size -= n;
        }
        return 0;
}

static void store_streams(TaskFetch *fetch);

static void next_stream(TaskFetch *fetch, uint64_t total_bytes) {
        fetch->incomplete[fetch->stream] = fetch->stored_bytes < total_bytes;
        fetch->stored_bytes = 0;
        fetch->stream++;
}

static int on_output_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        TaskFetch *fetch = userdata;
        if (fetch_output(fetch) < 0)
                task_finish_later(fetch->task);
        return 0;
}

/* A worker that is away for a moment is asked for the rest when it is back. What it has forgotten nobody has.
 */
static bool fetch_rest_later(TaskFetch *fetch, const HttpOutcome *outcome) {
        const Queue *queue = fetch->task->queue;
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        if (outcome->error == 0 && (outcome->status == 200 || outcome->status == 404))
                return false;
        if (fetch->give_up_usec == 0)
                fetch->give_up_usec = usec_add(now_usec, queue->config->lost_after_usec);
        if (now_usec >= fetch->give_up_usec)
                return false;
        text_done(&fetch->piece); /* pieces are cut alike, whenever they come */
        return loop_set_timer(queue->event,
                              &fetch->rest_source,
                              usec_add(now_usec, RETRY_USEC),
                              on_output_retry,
                              fetch,
                              "task-output") >= 0;
}

static void on_output_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        TaskFetch *fetch = userdata;
        fetch->call = NULL;
        bool later = fetch_rest_later(fetch, outcome);
        http_call_free(call);
        if (later)
                return;
        if (fetch->piece.size > 0)
                (void) put_piece(fetch, fetch->batch, fetch->piece.data, fetch->piece.size);
        text_done(&fetch->piece);
        next_stream(fetch,
                    fetch->stream == STORED_STDOUT ? fetch->result.output_bytes : fetch->result.error_bytes);
        store_streams(fetch);
}

static int fetch_output(TaskFetch *fetch) {
        char suffix[sizeof("/output?stream=stdout&offset=18446744073709551615")];
        (void) snprintf(suffix,
                        sizeof(suffix),
                        "/output?stream=%s&offset=%" PRIu64,
                        fetch->stream == STORED_STDOUT ? "stdout" : "stderr",
                        fetch->stored_bytes);
        return start_call(
                        fetch,
                        suffix,
                        fetch->task->queue->streams,
                        &(HttpCallOptions){
                                        .idle_usec = OUTPUT_IDLE_USEC,
                                        .answer_bytes_max = PROBLEM_DETAIL_SIZE * 4,
                                        .on_done = on_output_done,
                                        .on_data = on_output_data,
                        });
}

/* What came along with the attempt is cut into the pieces that the store takes. */
static int put_inline(TaskFetch *fetch, const char *bytes, size_t size) {
        for (size_t at = 0; at < size; at += STORE_OUTPUT_PIECE_MAX) {
                size_t n = size - at < STORE_OUTPUT_PIECE_MAX ? size - at : STORE_OUTPUT_PIECE_MAX;
                int r = put_piece(fetch, fetch->batch, bytes + at, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int finish_attempt(TaskFetch *fetch, json_object **ret) {
        Task *task = fetch->task;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *result = NULL;
        int r = task_read_spec(task, &spec);
        if (r < 0)
                return r;
        QueueAttempt frame = task_attempt_frame(task, spec);
        /* The fetch keeps its own, in case the disk fails and all this is done again. */
        r = json_object_deep_copy(fetch->attempt, &result, NULL) < 0 ? -ENOMEM : 0;
        if (r >= 0)
                r = queue_attempt_adopt(result, &frame);
        if (r >= 0)
                r = json_add_bool(result, "output_truncated", fetch->incomplete[STORED_STDOUT]);
        if (r >= 0)
                r = json_add_bool(result, "error_truncated", fetch->incomplete[STORED_STDERR]);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(result);
        return 0;
}

static int put_finished_attempt(TaskFetch *fetch) {
        const Task *task = fetch->task;
        return store_batch_put_attempt(
                        fetch->batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = task->attempt_number,
                                        .state = STORED_ATTEMPT_FINISHED,
                                        .worker_id = task->worker_id,
                                        .runner_task_id = task->attempt_id,
                                        .runner_instance = task->scheduled->instance,
                                        .finish_usec = usec_now(CLOCK_REALTIME),
                        });
}

static void store_streams(TaskFetch *fetch) {
        const RunnerResult *result = &fetch->result;
        while (fetch->stream < N_STREAMS) {
                bool is_output = fetch->stream == STORED_STDOUT;
                uint64_t total = is_output ? result->output_bytes : result->error_bytes;
                const char *text = is_output ? result->output : result->error;
                size_t size = is_output ? result->output_size : result->error_size;
                bool truncated = is_output ? result->output_truncated : result->error_truncated;
                if (runner_output_is_raw(text, size, total, truncated))
                        (void) put_inline(fetch, text, size);
                else if (total > 0 && fetch_output(fetch) >= 0)
                        return;
                next_stream(fetch, total);
        }
        if (fetch->task->n_pieces == 0)
                finish(fetch);
        else
                fetch->waits_for_pieces = true;
}

/* All that was fetched is in the batch, or on disk. */
static void finish(TaskFetch *fetch) {
        fetch->waits_for_pieces = false;
        if (fetch->task->piece_failed) {
                task_finish_later(fetch->task);
                return;
        }
        json_object *final = NULL;
        int r = put_finished_attempt(fetch);
        if (r >= 0)
                r = finish_attempt(fetch, &final);
        if (r < 0)
                task_finish_later(fetch->task);
        else
                task_finish(fetch->task, final, TAKE_PTR(fetch->batch));
}

void task_fetch_finish(TaskFetch *fetch) {
        assert(fetch->attempt);

        fetch->batch = store_batch_free(fetch->batch);
        fetch->stream = STORED_STDOUT;
        fetch->stored_bytes = 0;
        fetch->task->piece_failed = false;
        if (store_batch_new(&fetch->batch) < 0)
                task_finish_later(fetch->task);
        else
                store_streams(fetch);
}
