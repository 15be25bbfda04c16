/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/live-output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "io/loop.h"
#include "io/output-store.h"
#include "queue/queue.h"

#define CONTENT_TYPE    "application/octet-stream"
#define SPOOL_BYTES_MAX (UINT64_C(1024) * 1024 * 1024)
#define ERROR_BYTES_MAX 4096
#define RESTART_USEC    (1 * USEC_PER_SEC)

typedef struct Reader {
        LiveOutput *output; /* weak: lives while it has readers */
        struct Reader *previous, *next;
        HttpRequest *request;
        uint64_t offset;
} Reader;

/* An attempt that its worker may forget when the last output of it was read. */
typedef struct Leftover {
        WorkerLink *link; /* weak */
        unsigned n_outputs;
        char attempt_id[ATTEMPT_ID_MAX + 1];
} Leftover;

struct LiveOutput {
        Task *task;           /* weak; NULL once its attempt is over */
        Leftover *leftover;   /* shared; NULL: none */
        TaskStore *finished;  /* weak; where the rest is, once the task is in there; NULL: nowhere */
        uint64_t seq, number; /* in there */
        LiveOutput *previous, *next;
        StoredStream stream;
        bool follow;
        HttpCall *call;
        sd_event_source *restart_source;
        OutputStore store;
        bool ended;
        Reader *readers;
};

static void detach(LiveOutput *output) {
        if (!output->task)
                return;
        *(output->previous ? &output->previous->next : &output->task->outputs) = output->next;
        if (output->next)
                output->next->previous = output->previous;
        output->task = NULL;
        output->previous = output->next = NULL;
}

static void leftover_unref(LiveOutput *output) {
        Leftover *leftover = TAKE_PTR(output->leftover);
        if (!leftover || --leftover->n_outputs > 0)
                return;
        worker_link_forget(leftover->link, leftover->attempt_id);
        free(leftover);
}

static void output_free(LiveOutput *output) {
        detach(output);
        leftover_unref(output);
        http_call_free(output->call);
        event_source_dropp(&output->restart_source);
        output_store_done(&output->store);
        free(output);
}

static void wake_all(LiveOutput *output) {
        for (Reader *reader = output->readers; reader; reader = reader->next)
                http_request_stream_wake(reader->request);
}

static void end(LiveOutput *output) {
        output->call = http_call_free(output->call);
        output->ended = true;
        leftover_unref(output);
        wake_all(output);
}

static int start(LiveOutput *output);
static int restart_later(LiveOutput *output);

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        LiveOutput *output = userdata;
        output_store_append(&output->store, bytes, size);
        wake_all(output);
        return 0;
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        LiveOutput *output = userdata;
        /* While the task is live, a stream that breaks is no end. */
        bool broken = outcome->error < 0 || outcome->status != 200;
        if (output->task && output->follow && broken && restart_later(output) >= 0)
                output->call = http_call_free(call);
        else
                end(output);
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata) {
        LiveOutput *output = userdata;
        if (output->task && !output->call && !output->ended && start(output) < 0)
                end(output);
        return 0;
}

static int restart_later(LiveOutput *output) {
        return loop_set_timer(
                        output->task->queue->event,
                        &output->restart_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), RESTART_USEC),
                        on_restart,
                        output,
                        "live-output");
}

static int start(LiveOutput *output) {
        Task *task = output->task;
        WorkerLink *link = queue_find_link(task->queue, task->worker_id);
        _cleanup_(freep) char *path = NULL, *suffix = NULL, *url = NULL;
        HttpCallOptions options;
        if (!link)
                return -ENOENT;
        if (asprintf(&suffix,
                     "/output?stream=%s&follow=%s&offset=%" PRIu64,
                     output->stream == STORED_STDOUT ? "stdout" : "stderr",
                     output->follow ? "true" : "false",
                     output->store.bytes_total) < 0) {
                suffix = NULL;
                return -ENOMEM;
        }
        int r = worker_link_attempt_path(task->attempt_id, suffix, &path);
        if (r >= 0)
                r = worker_link_prepare(link, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.total_usec = 0; /* for as long as the task says nothing */
        options.answer_bytes_max = ERROR_BYTES_MAX;
        options.on_data = on_data;
        options.on_done = on_done;
        options.userdata = output;
        return http_call_new(task->queue->followers, &options, &output->call);
}

void live_output_task_started(Task *task) {
        for (LiveOutput *output = task->outputs; output; output = output->next)
                if (!output->call && !output->ended && start(output) < 0)
                        end(output);
}

void live_output_task_gone(Task *task) {
        while (task->outputs) {
                LiveOutput *output = task->outputs;
                detach(output);
                end(output);
        }
}

void live_output_task_stored(Task *task) {
        while (task->outputs) {
                LiveOutput *output = task->outputs;
                detach(output);
                output->finished = task->queue->store;
                output->seq = task->seq;
                output->number = task->attempt_number;
                end(output);
        }
}

void live_output_attempt_ended(Task *task, WorkerLink *link) {
        Leftover *leftover = task->outputs ? calloc(1, sizeof(*leftover)) : NULL;
        if (!leftover) {
                live_output_task_gone(task);
                worker_link_forget(link, task->attempt_id);
                return;
        }
        leftover->link = link;
        memcpy(leftover->attempt_id, task->attempt_id, sizeof(leftover->attempt_id));
        leftover->n_outputs = 1; /* us */
        LiveOutput us = { .leftover = leftover };
        while (task->outputs) {
                LiveOutput *output = task->outputs;
                detach(output);
                output->leftover = leftover;
                leftover->n_outputs++;
                if (!output->call)
                        end(output);
        }
        leftover_unref(&us);
}

static LiveOutput *find_followed(const Task *task, StoredStream stream) {
        for (LiveOutput *output = task->outputs; output; output = output->next)
                if (output->follow && output->stream == stream && !output->ended)
                        return output;
        return NULL;
}

static const char *spool_directory(void) {
        return getenv("CACHE_DIRECTORY") ?: getenv("TMPDIR") ?: "/var/tmp";
}

static LiveOutput *output_new(Task *task, StoredStream stream, bool follow) {
        LiveOutput *output = calloc(1, sizeof(*output));
        if (!output)
                return NULL;
        output->task = task;
        output->stream = stream;
        output->follow = follow;
        output_store_init(&output->store, spool_directory(), SPOOL_BYTES_MAX);
        output->next = task->outputs;
        if (output->next)
                output->next->previous = output;
        task->outputs = output;
        bool is_running = task_is_running(task);
        output->ended = is_running ? start(output) < 0 : !follow;
        return output;
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        Reader *reader = userdata;
        const LiveOutput *output = reader->output;
        if (reader->offset < output->store.bytes_kept) {
                ssize_t n = output_store_read(&output->store, reader->offset, buffer, size);
                if (n > 0)
                        reader->offset += (uint64_t) n;
                if (n != 0)
                        return n;
        }
        if (output->finished) {
                ssize_t n = task_store_read_output(
                                output->finished,
                                output->seq,
                                output->number,
                                output->stream,
                                reader->offset,
                                buffer,
                                size);
                if (n > 0)
                        reader->offset += (uint64_t) n;
                if (n != 0)
                        return n;
        }
        return output->ended ? -ENODATA : 0;
}

static void on_release(void *userdata) {
        Reader *reader = userdata;
        LiveOutput *output = reader->output;
        *(reader->previous ? &reader->previous->next : &output->readers) = reader->next;
        if (reader->next)
                reader->next->previous = reader->previous;
        free(reader);
        if (!output->readers)
                output_free(output);
}

void live_output_answer(Task *task, HttpRequest *request, StoredStream stream, uint64_t offset, bool follow) {
        Reader *reader = calloc(1, sizeof(*reader));
        LiveOutput *output = follow ? find_followed(task, stream) : NULL;
        if (reader && !output)
                output = output_new(task, stream, follow);
        if (!reader || !output) {
                free(reader);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *reader = (Reader){
                .output = output,
                .next = output->readers,
                .request = request,
                .offset = offset,
        };
        if (reader->next)
                reader->next->previous = reader;
        output->readers = reader;
        http_request_answer_stream(request, 200, CONTENT_TYPE, on_read, on_release, reader);
}

/* Of a finished task. */
typedef struct StoredReader {
        TaskStore *store; /* weak */
        uint64_t seq, number, offset;
        StoredStream stream;
} StoredReader;

static ssize_t on_stored_read(void *userdata, char *buffer, size_t size) {
        StoredReader *reader = userdata;
        ssize_t n = task_store_read_output(
                        reader->store,
                        reader->seq,
                        reader->number,
                        reader->stream,
                        reader->offset,
                        buffer,
                        size);
        if (n > 0)
                reader->offset += (uint64_t) n;
        return n == 0 ? -ENODATA : n;
}

void stored_output_answer(
                Queue *queue,
                HttpRequest *request,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset) {
        StoredReader *reader = malloc(sizeof(*reader));
        if (!reader) {
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *reader = (StoredReader){
                .store = queue->store,
                .seq = seq,
                .number = number,
                .offset = offset,
                .stream = stream,
        };
        http_request_answer_stream(request, 200, CONTENT_TYPE, on_stored_read, free, reader);
}
