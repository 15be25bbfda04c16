/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-output.h"

#include <utlist.h>

struct TaskReader {
        Task *task; /* weak; NULL once the task was forgotten */
        TaskReader *previous, *next;
        HttpRequest *request;
        TaskStream stream;
        uint64_t offset;
        bool follow;
        bool is_last; /* what there is now: nothing that comes later is awaited */
};

static void reader_unlink(TaskReader *reader) {
        if (!reader->task)
                return;
        DL_DELETE2(reader->task->readers, reader, previous, next);
        reader->task = NULL;
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        TaskReader *reader = userdata;
        if (!reader->task)
                return -ECONNABORTED;
        const Capture *capture = reader->stream == TASK_STREAM_ERROR ? reader->task->error :
                                                                       reader->task->output;
        ssize_t n = capture ? output_store_read(capture_store(capture), reader->offset, buffer, size) : 0;
        if (n > 0)
                reader->offset += (uint64_t) n;
        if (n == 0 && (reader->is_last || !reader->follow || !task_is_live(reader->task)))
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
        *reader = (TaskReader){
                .task = task,
                .request = request,
                .stream = stream,
                .offset = offset,
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
                reader->is_last = true;
                http_request_stream_wake(reader->request);
        }
}
