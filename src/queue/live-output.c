/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/live-output.h"

#include <string.h>
#include <utlist.h>

#include "base/text.h"
#include "io/loop.h"
#include "io/output-store.h"
#include "queue/describe.h"
#include "queue/http-worker.h"
#include "queue/moment.h"
#include "queue/stored-output.h"
#include "queue/watched-task.h"
#include "service/process.h"

#define CONTENT_TYPE    "application/octet-stream"
#define SPOOL_BYTES_MAX (UINT64_C(1024) * 1024 * 1024)
#define RESTART_USEC    (1 * USEC_PER_SEC)

typedef struct Reader {
        LiveOutput *output; /* weak: lives while it has readers */
        struct Reader *previous, *next;
        HttpRequest *request;
        uint64_t offset;
        StoredOutput *rest; /* what is read from the store; NULL: nothing yet */
} Reader;

/* An attempt that its worker may forget when the last output of it was read. */
typedef struct Leftover {
        DeliveryWorker *worker; /* weak */
        unsigned n_outputs;
        char *task_id, *attempt_id;
} Leftover;

struct LiveOutput {
        const TaskSources *sources; /* weak */
        WatchedTask *watched;       /* weak; NULL once its attempt is over */
        Leftover *leftover;         /* shared; NULL: none */
        bool is_stored;             /* the rest is in the store */
        uint64_t seq, number;       /* in there */
        LiveOutput *previous, *next;
        StoredStream stream;
        bool follow;
        PortCall *call;
        sd_event_source *restart_source;
        OutputStore store;
        bool ended;
        Reader *readers;
};

static void detach(LiveOutput *output) {
        if (!output->watched)
                return;
        DL_DELETE2(output->watched->outputs, output, previous, next);
        output->watched = NULL;
        output->previous = output->next = NULL;
}

static void leftover_unref(LiveOutput *output) {
        Leftover *leftover = TAKE_PTR(output->leftover);
        if (!leftover || --leftover->n_outputs > 0)
                return;
        Moment now = moment_now();
        delivery_release_attempt(leftover->worker, leftover->task_id, leftover->attempt_id, &now);
        free(leftover->task_id);
        free(leftover->attempt_id);
        free(leftover);
}

static void cancel(LiveOutput *output) {
        if (output->call)
                http_worker_port.cancel(TAKE_PTR(output->call));
}

static void output_free(LiveOutput *output) {
        detach(output);
        leftover_unref(output);
        cancel(output);
        event_source_dropp(&output->restart_source);
        output_store_done(&output->store);
        free(output);
}

static void wake_all(LiveOutput *output) {
        for (Reader *reader = output->readers; reader; reader = reader->next)
                http_request_stream_wake(reader->request);
}

static void end(LiveOutput *output) {
        cancel(output);
        output->ended = true;
        leftover_unref(output);
        wake_all(output);
}

static int start(LiveOutput *output);
static int restart_later(LiveOutput *output);

static int on_data(const void *bytes, size_t size, const Moment *now, void *userdata) {
        LiveOutput *output = userdata;
        output_store_append(&output->store, bytes, size);
        wake_all(output);
        return 0;
}

static void on_done(OutputEnd how, const Moment *now, void *userdata) {
        LiveOutput *output = userdata;
        output->call = NULL;
        /* While the task is live, a stream that ends or breaks is no end: its runner may have been upgraded.
         */
        bool later = output->watched && output->follow && restart_later(output) >= 0;
        if (!later)
                end(output);
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata) {
        LiveOutput *output = userdata;
        if (output->watched && !output->call && !output->ended && start(output) < 0)
                end(output);
        return 0;
}

static int restart_later(LiveOutput *output) {
        return loop_set_timer(
                        output->sources->event,
                        &output->restart_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), RESTART_USEC),
                        on_restart,
                        output,
                        "live-output");
}

static int start(LiveOutput *output) {
        const Task *task = output->watched->task;
        void *worker = task->worker ? delivery_worker_port(task->worker) : NULL;
        if (!worker)
                return -ENOENT;
        return http_worker_port.output(
                        worker,
                        &(OutputWanted) {
                                        .attempt_id = task->attempt_id,
                                        .stream = output->stream,
                                        .offset = output->store.bytes_total,
                                        .follow = output->follow,
                                        .for_clients = true,
                        },
                        on_data,
                        on_done,
                        output,
                        &output->call);
}

void live_output_task_started(WatchedTask *watched) {
        for (LiveOutput *output = watched->outputs; output; output = output->next)
                if (!output->call && !output->ended && start(output) < 0)
                        end(output);
}

void live_output_task_gone(WatchedTask *watched) {
        while (watched->outputs) {
                LiveOutput *output = watched->outputs;
                detach(output);
                end(output);
        }
}

void live_output_task_stored(WatchedTask *watched) {
        while (watched->outputs) {
                LiveOutput *output = watched->outputs;
                output->seq = watched->task->seq;
                output->number = watched->task->attempt_number;
                output->is_stored = true;
                detach(output);
                end(output);
        }
}

static Leftover *leftover_new(const Task *task) {
        Leftover *leftover = calloc(1, sizeof(*leftover));
        if (!leftover)
                return NULL;
        leftover->worker = task->worker;
        leftover->task_id = strdup(task->task_id);
        leftover->attempt_id = strdup(task->attempt_id);
        if (leftover->task_id && leftover->attempt_id)
                return leftover;
        free(leftover->task_id);
        free(leftover->attempt_id);
        free(leftover);
        return NULL;
}

/* What nobody fetches any more ends here and now; the others go on without the task. */
bool live_output_attempt_ended(WatchedTask *watched) {
        Leftover *leftover = NULL;
        while (watched->outputs) {
                LiveOutput *output = watched->outputs;
                if (!output->call && !output->ended)
                        (void) start(output); /* for what there is behind the end of the stream */
                if (output->call && !leftover)
                        leftover = leftover_new(watched->task);
                detach(output);
                if (!output->call || !leftover) {
                        end(output);
                        continue;
                }
                output->leftover = leftover;
                leftover->n_outputs++;
        }
        return leftover;
}

static LiveOutput *find_followed(const WatchedTask *watched, StoredStream stream) {
        for (LiveOutput *output = watched->outputs; output; output = output->next)
                if (output->follow && output->stream == stream && !output->ended)
                        return output;
        return NULL;
}

static LiveOutput *output_new(WatchedTask *watched, StoredStream stream, bool follow) {
        LiveOutput *output = calloc(1, sizeof(*output));
        if (!output)
                return NULL;
        output->sources = watched->sources;
        output->watched = watched;
        output->stream = stream;
        output->follow = follow;
        output_store_init(&output->store, process_spool_directory(), SPOOL_BYTES_MAX);
        DL_PREPEND2(watched->outputs, output, previous, next);
        output->ended = task_is_running(watched->task) ? start(output) < 0 : !follow;
        return output;
}

static int begin_rest(Reader *reader) {
        const LiveOutput *output = reader->output;
        return stored_output_new(
                        output->sources->store_port,
                        output->sources->store,
                        reader->request,
                        output->seq,
                        output->number,
                        output->stream,
                        reader->offset,
                        &reader->rest);
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        Reader *reader = userdata;
        const LiveOutput *output = reader->output;
        if (!reader->rest && reader->offset < output->store.bytes_kept) {
                ssize_t n = output_store_read(&output->store, reader->offset, buffer, size);
                if (n > 0)
                        reader->offset += (uint64_t) n;
                if (n != 0)
                        return n;
        }
        if (!output->is_stored)
                return output->ended ? -ENODATA : 0;
        int r = reader->rest ? 0 : begin_rest(reader);
        return r < 0 ? r : stored_output_read(reader->rest, buffer, size);
}

static void on_release(void *userdata) {
        Reader *reader = userdata;
        LiveOutput *output = reader->output;
        DL_DELETE2(output->readers, reader, previous, next);
        stored_output_free(reader->rest);
        free(reader);
        if (!output->readers)
                output_free(output);
}

void live_output_answer(
                const TaskSources *sources,
                Task *task,
                HttpRequest *request,
                StoredStream stream,
                uint64_t offset,
                bool follow) {
        WatchedTask *watched;
        Reader *reader = watched_task_get(sources, task, &watched) >= 0 ? calloc(1, sizeof(*reader)) : NULL;
        LiveOutput *output = reader && follow ? find_followed(watched, stream) : NULL;
        if (reader && !output)
                output = output_new(watched, stream, follow);
        if (!reader || !output) {
                free(reader);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *reader = (Reader) {
                .output = output,
                .request = request,
                .offset = offset,
        };
        DL_PREPEND2(output->readers, reader, previous, next);
        http_request_answer_stream(request, 200, CONTENT_TYPE, on_read, on_release, reader);
}

/* ── of a finished task ── */

/* A request that waits to be told where it is. */
typedef struct PendingOutput {
        const TaskSources *sources; /* weak */
        HttpRequest *request;       /* NULL: the client is gone */
        StoredStream stream;
        uint64_t offset;
} PendingOutput;

static void on_hangup(HttpRequest *request, void *userdata) {
        PendingOutput *pending = userdata;
        pending->request = NULL;
}

static ssize_t on_stored_read(void *userdata, char *buffer, size_t size) {
        return stored_output_read(userdata, buffer, size);
}

static void on_stored_release(void *userdata) {
        stored_output_free(userdata);
}

static void answer_stored(const PendingOutput *pending, int r, const StoreEntry *entry) {
        StoredOutput *output = NULL;
        http_request_on_hangup(pending->request, NULL, NULL);
        if (r >= 0 && !entry->task.result)
                r = -ENOENT;
        if (r >= 0)
                r = stored_output_new(
                                pending->sources->store_port,
                                pending->sources->store,
                                pending->request,
                                entry->task.seq,
                                entry->n_attempts > 0 ? entry->attempts[entry->n_attempts - 1].number : 0,
                                pending->stream,
                                pending->offset,
                                &output);
        if (r < 0)
                describe_answer_error(pending->request, r);
        else
                http_request_answer_stream(
                                pending->request,
                                200,
                                CONTENT_TYPE,
                                on_stored_read,
                                on_stored_release,
                                output);
}

static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        PendingOutput *pending = userdata;
        if (pending->request)
                answer_stored(pending, r, entry);
        free(pending);
}

void stored_output_answer(
                const TaskSources *sources,
                HttpRequest *request,
                const char *task_id,
                StoredStream stream,
                uint64_t offset) {
        PendingOutput *pending = malloc(sizeof(*pending));
        int r = -ENOMEM;
        if (pending) {
                *pending = (PendingOutput) {
                        .sources = sources, .request = request, .stream = stream, .offset = offset
                };
                r = sources->store_port->get(
                                sources->store,
                                task_id,
                                &(StoreWanted) { .attempts = true },
                                on_got,
                                pending);
        }
        if (r >= 0) {
                http_request_on_hangup(request, on_hangup, pending);
                return;
        }
        free(pending);
        describe_answer_error(request, r);
}
