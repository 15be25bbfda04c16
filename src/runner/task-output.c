/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-output.h"

#include <utlist.h>

struct TaskReader {
        Task *task; /* weak; NULL once the task was forgotten */
        TaskReader *previous, *next;
        HttpRequest *request;
        TaskStream stream;
        uint64_t offset, end; /* END: where to stop in any case */
        bool follow;
};

static void reader_unlink(TaskReader *reader) {
        if (!reader->task)
                return;
        DL_DELETE2(reader->task->readers, reader, previous, next);
        reader->task = NULL;
}

static const OutputStore *reader_store(const TaskReader *reader) {
        const Task *task = reader->task;
        const Capture *capture = reader->stream == TASK_STREAM_ERROR ? task->error : task->output;
        return capture ? capture_store(capture) : NULL;
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        TaskReader *reader = userdata;
        if (!reader->task)
                return -ECONNABORTED;
        uint64_t left = reader->end - reader->offset;
        if (left == 0)
                return -ENODATA;
        const OutputStore *store = reader_store(reader);
        ssize_t n = store ? output_store_read(store, reader->offset, buffer, size < left ? size : left) : 0;
        if (n > 0)
                reader->offset += (uint64_t) n;
        if (n == 0 && (!reader->follow || !task_is_live(reader->task)))
                return -ENODATA;
        return n;
}

static void on_release(void *userdata) {
        reader_unlink(userdata);
        free(userdata);
}

void task_output_answer(Task *task, HttpRequest *request, TaskStream stream, uint64_t offset, bool follow) {
        TaskReader *reader = calloc(1, sizeof(*reader));
        if (!reader) {
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *reader = (TaskReader) {
                .task = task,
                .request = request,
                .stream = stream,
                .offset = offset,
                .end = UINT64_MAX,
                .follow = follow,
        };
        DL_PREPEND2(task->readers, reader, previous, next);
        http_request_answer_stream(request, 200, "application/octet-stream", on_read, on_release, reader);
}

void task_output_wake(Task *task) {
        for (TaskReader *reader = task->readers; reader; reader = reader->next)
                http_request_stream_wake(reader->request);
}

void task_output_drop(Task *task) {
        while (task->readers) {
                HttpRequest *request = task->readers->request;
                reader_unlink(task->readers);
                http_request_stream_wake(request);
        }
}

void task_output_end_readers(Task *task) {
        for (TaskReader *reader = task->readers; reader; reader = reader->next) {
                const OutputStore *store = reader_store(reader);
                uint64_t kept = store ? store->bytes_kept : 0;
                if (reader->end == UINT64_MAX)
                        reader->end = kept > reader->offset ? kept : reader->offset;
                http_request_stream_wake(reader->request);
        }
}
