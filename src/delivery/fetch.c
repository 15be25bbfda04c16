/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A finished attempt comes from its worker. First the attempt itself, of which the scheduler decides whether
 * it is final; then its output, where it did not come along. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

#define PAUSE_USEC (50 * USEC_PER_MSEC)

/* Above this the store is behind, and the worker has to wait. */
#define PENDING_BYTES_HIGH (16 * 1024 * 1024)

#define N_STREAMS 2

struct TaskFetch {
        Task *task; /* weak: owns it */
        PortCall *call;
        bool without_output; /* the attempt with its output is too large for one answer */
        bool paused;
        json_object *attempt;
        RunnerResult result; /* points into it */

        StoreBatch *batch;     /* what goes to disk with the result */
        unsigned stream;       /* that is being stored: a StoredStream */
        uint64_t stored_bytes; /* of it */
        Text piece;            /* of it, not yet in a batch */
        unsigned n_pieces;     /* on their way to the disk */
        bool piece_failed;     /* one of them did not get there */
        bool waits_for_pieces; /* before the result may follow */
        bool incomplete[N_STREAMS];
        usec_t give_up_usec; /* on the output, when the worker does not send it */
};

static const WorkerPort *port_of(const TaskFetch *fetch) {
        return fetch->task->delivery->worker_port;
}

TaskFetch *task_fetch_free(TaskFetch *fetch) {
        if (!fetch)
                return NULL;
        if (fetch->call)
                port_of(fetch)->cancel(fetch->call);
        json_object_put(fetch->attempt);
        store_batch_free(fetch->batch);
        text_done(&fetch->piece);
        free(fetch);
        return NULL;
}

json_object *task_fetch_attempt(const TaskFetch *fetch) {
        return fetch->attempt;
}

/* ── the attempt ── */

static int fetch_attempt(TaskFetch *fetch);

static void give_up(Task *task) {
        task->work.fetch = task_fetch_free(task->work.fetch);
}

/* In a while, for as long as the attempt is there. */
static void fetch_step(Task *task, int r, const Moment *now) {
        if (!task->work.fetch || fetch_attempt(task->work.fetch) >= 0)
                return;
        delivery_log(task->delivery,
                     PRIORITY_WARNING,
                     0,
                     "Cannot fetch the result of task \"%s\" yet",
                     task->task_id);
        task_again(task, fetch_step, usec_add(now->boottime_usec, AGAIN_USEC));
}

/* A worker that answers no more is found out by the scheduler, which ends all this with the attempt. */
static void fetch_again_later(TaskFetch *fetch, const Moment *now) {
        Task *task = fetch->task;
        scheduler_worker_suspect(task->worker->scheduled, now->boottime_usec);
        task_again(task, fetch_step, usec_add(now->boottime_usec, AGAIN_USEC));
}

static AttemptEnd attempt_end(const RunnerTask *task) {
        if (streq(task->state, "completed"))
                return ATTEMPT_SUCCEEDED;
        if (streq(task->state, "errored"))
                return ATTEMPT_ERRORED;
        return task->result && streq(task->result, "shutdown") ? ATTEMPT_SHUTDOWN : ATTEMPT_KILLED;
}

/* -EAGAIN: it is not finished. */
static int take_attempt(TaskFetch *fetch, json_object *attempt) {
        RunnerResult result;
        int r = runner_result_read(attempt, &result);
        if (r < 0)
                return r;
        if (!result.task.finished)
                return -EAGAIN;
        fetch->attempt = json_object_get(attempt);
        fetch->result = result;
        return 0;
}

static void report_end(Task *task, int r, const Moment *now) {
        if (task->scheduled->state != SCHEDULED_RUNNING || !task->work.fetch || !task->work.fetch->attempt)
                return;
        scheduler_attempt_ended(
                        task->delivery->scheduler,
                        task->scheduled,
                        attempt_end(&task->work.fetch->result.task),
                        now->boottime_usec);
        delivery_wake(task->delivery);
}

static void on_fetched(const FetchAnswer *answer, const Moment *now, void *userdata) {
        TaskFetch *fetch = userdata;
        Task *task = fetch->task;
        fetch->call = NULL;
        switch (answer->outcome) {
        case FETCH_GOT:
                if (take_attempt(fetch, answer->attempt) >= 0)
                        report_end(task, 0, now);
                else
                        fetch_again_later(fetch, now);
                break;
        case FETCH_TOO_LARGE:
                if (!fetch->without_output) {
                        fetch->without_output = true;
                        fetch_step(task, 0, now);
                } else
                        fetch_again_later(fetch, now);
                break;
        case FETCH_GONE: /* the listing tells whether the worker was restarted */
                give_up(task);
                worker_list(task->worker, now);
                break;
        case FETCH_FAILED:
                fetch_again_later(fetch, now);
                break;
        }
}

static int fetch_attempt(TaskFetch *fetch) {
        const Task *task = fetch->task;
        return port_of(fetch)->fetch(
                        task->worker->port,
                        task->attempt_id,
                        !fetch->without_output,
                        on_fetched,
                        fetch,
                        &fetch->call);
}

static void start_step(Task *task, int r, const Moment *now) {
        if (task->scheduled->state == SCHEDULED_RUNNING)
                task_fetch_start(task, task->work.seen, now);
}

void task_fetch_start(Task *task, json_object *attempt, const Moment *now) {
        if (task->work.fetch || !task->worker->port)
                return;
        TaskFetch *fetch = calloc(1, sizeof(*fetch));
        if (!fetch) {
                task_again(task, start_step, usec_add(now->boottime_usec, AGAIN_USEC));
                return;
        }
        task->work.fetch = fetch;
        fetch->task = task;
        if (attempt && take_attempt(fetch, attempt) >= 0)
                task_again(task, report_end, now->boottime_usec);
        else
                fetch_step(task, 0, now);
}

/* ── its output ── */

static int fetch_output(TaskFetch *fetch);
static void store_streams(TaskFetch *fetch, const Moment *now);
static void finish(TaskFetch *fetch, const Moment *now);

static void on_piece_stored(int r, const Moment *now, void *userdata) {
        Task *task = userdata;
        TaskFetch *fetch = task->work.fetch;
        task_written(task, r, now);
        fetch->n_pieces--;
        fetch->piece_failed |= r < 0;
        if (fetch->waits_for_pieces && fetch->n_pieces == 0)
                finish(fetch, now);
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

static bool store_is_behind(const TaskFetch *fetch) {
        const Delivery *delivery = fetch->task->delivery;
        return delivery->store_port->pending_bytes(delivery->store) > PENDING_BYTES_HIGH;
}

static void resume_step(Task *task, int r, const Moment *now) {
        TaskFetch *fetch = task->work.fetch;
        if (!fetch || !fetch->call || !fetch->paused)
                return;
        if (store_is_behind(fetch)) {
                task_again(task, resume_step, usec_add(now->boottime_usec, PAUSE_USEC));
                return;
        }
        fetch->paused = false;
        port_of(fetch)->resume(fetch->call);
}

static void hold_up_if_behind(TaskFetch *fetch, const Moment *now) {
        if (!fetch->call || fetch->paused || !store_is_behind(fetch))
                return;
        fetch->paused = true;
        port_of(fetch)->pause(fetch->call);
        task_again(fetch->task, resume_step, usec_add(now->boottime_usec, PAUSE_USEC));
}

/* A full piece goes to disk at once, so that memory is bounded however much there is. */
static int flush_piece(TaskFetch *fetch, const Moment *now) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        int r = store_batch_new(&batch);
        if (r >= 0)
                r = put_piece(fetch, batch, fetch->piece.data, fetch->piece.size);
        if (r >= 0)
                r = task_commit(fetch->task, TAKE_PTR(batch), on_piece_stored);
        if (r >= 0)
                fetch->n_pieces++;
        text_done(&fetch->piece);
        hold_up_if_behind(fetch, now);
        return r;
}

static int on_output_data(const void *bytes, size_t size, const Moment *now, void *userdata) {
        TaskFetch *fetch = userdata;
        while (size > 0) {
                size_t n = STORE_OUTPUT_PIECE_MAX - fetch->piece.size;
                if (n > size)
                        n = size;
                int r = text_append_bytes(&fetch->piece, bytes, n);
                if (r >= 0 && fetch->piece.size == STORE_OUTPUT_PIECE_MAX)
                        r = flush_piece(fetch, now);
                if (r < 0)
                        return r;
                bytes = (const char *) bytes + n;
                size -= n;
        }
        return 0;
}

static void next_stream(TaskFetch *fetch, uint64_t total_bytes) {
        fetch->incomplete[fetch->stream] = fetch->stored_bytes < total_bytes;
        fetch->stored_bytes = 0;
        fetch->stream++;
}

static void output_step(Task *task, int r, const Moment *now) {
        if (fetch_output(task->work.fetch) < 0)
                task_finish_later(task, now);
}

/* A worker that is away for a moment is asked for the rest when it is back. What it has forgotten nobody has.
 */
static bool fetch_rest_later(TaskFetch *fetch, OutputEnd end, const Moment *now) {
        Task *task = fetch->task;
        if (end != OUTPUT_BROKEN)
                return false;
        if (fetch->give_up_usec == 0)
                fetch->give_up_usec = usec_add(now->boottime_usec, task->delivery->output_patience_usec);
        if (now->boottime_usec >= fetch->give_up_usec)
                return false;
        text_done(&fetch->piece); /* pieces are cut alike, whenever they come */
        task_again(task, output_step, usec_add(now->boottime_usec, AGAIN_USEC));
        return true;
}

static void on_output_done(OutputEnd end, const Moment *now, void *userdata) {
        TaskFetch *fetch = userdata;
        fetch->call = NULL;
        fetch->paused = false;
        if (fetch_rest_later(fetch, end, now))
                return;
        if (fetch->piece.size > 0)
                (void) put_piece(fetch, fetch->batch, fetch->piece.data, fetch->piece.size);
        text_done(&fetch->piece);
        next_stream(fetch,
                    fetch->stream == STORED_STDOUT ? fetch->result.output_bytes : fetch->result.error_bytes);
        store_streams(fetch, now);
}

static int fetch_output(TaskFetch *fetch) {
        const Task *task = fetch->task;
        return port_of(fetch)->output(
                        task->worker->port,
                        &(OutputWanted) {
                                        .attempt_id = task->attempt_id,
                                        .stream = (StoredStream) fetch->stream,
                                        .offset = fetch->stored_bytes,
                        },
                        on_output_data,
                        on_output_done,
                        fetch,
                        &fetch->call);
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

static void store_streams(TaskFetch *fetch, const Moment *now) {
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
        if (fetch->n_pieces == 0)
                finish(fetch, now);
        else
                fetch->waits_for_pieces = true;
}

/* All that was fetched is in the batch, or on disk. */
static void finish(TaskFetch *fetch, const Moment *now) {
        Task *task = fetch->task;
        fetch->waits_for_pieces = false;
        if (fetch->piece_failed) {
                task_finish_later(task, now);
                return;
        }
        StoredAttempt row = task_attempt_row(task, STORED_ATTEMPT_FINISHED);
        row.finish_usec = now->realtime_usec;
        (void) store_batch_put_attempt(fetch->batch, task->seq, &row);
        int r = json_add_bool(fetch->attempt, "output_truncated", fetch->incomplete[STORED_STDOUT]);
        if (r >= 0)
                r = json_add_bool(fetch->attempt, "error_truncated", fetch->incomplete[STORED_STDERR]);
        if (r < 0)
                task_finish_later(task, now);
        else
                task_finish(task, fetch->attempt, TAKE_PTR(fetch->batch), now);
}

void task_fetch_finish(TaskFetch *fetch, const Moment *now) {
        assert(fetch->attempt);

        fetch->batch = store_batch_free(fetch->batch);
        fetch->stream = STORED_STDOUT;
        fetch->stored_bytes = 0;
        fetch->piece_failed = false;
        if (store_batch_new(&fetch->batch) < 0)
                task_finish_later(fetch->task, now);
        else
                store_streams(fetch, now);
}
