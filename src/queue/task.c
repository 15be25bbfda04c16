/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/task.h"

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "queue/live-output.h"
#include "queue/queue.h"
#include "queue/task-fetch.h"

static json_object *describe(const void *subject, unsigned form) {
        return task_describe(subject, form);
}

int task_new(Queue *queue, const char *task_id, uint64_t seq, Task **ret) {
        _cleanup_(task_freep) Task *task = calloc(1, sizeof(*task));
        if (!task)
                return -ENOMEM;
        task->queue = queue;
        task->seq = seq;
        task->waiters = (Waiters){
                .event = queue->event,
                .server = queue->http,
                .describe = describe,
                .subject = task,
        };
        task->task_id = strdup(task_id);
        if (!task->task_id)
                return -ENOMEM;
        *ret = TAKE_PTR(task);
        return 0;
}

Task *task_free(Task *task) {
        if (!task)
                return NULL;
        waiters_drop(&task->waiters);
        live_output_task_gone(task);
        task->submit_call = http_call_free(task->submit_call);
        task->fetch = task_fetch_free(task->fetch);
        event_source_dropp(&task->retry_source);
        free(task->task_id);
        free(task->spec_text);
        free(task->unit);
        free(task->note);
        free(task);
        return NULL;
}

bool task_is_running(const Task *task) {
        return *task->attempt_id && task->scheduled &&
                        (task->scheduled->state == SCHEDULED_RUNNING ||
                         task->scheduled->state == SCHEDULED_ENDED);
}

static int on_spec_row(const StoredTask *row, void *userdata) {
        char **text = userdata;
        *text = strdup(row->spec);
        return *text ? 0 : -ENOMEM;
}

int task_parse_spec(const Queue *queue, const char *text, const char *task_id, QueueSpec **ret) {
        TaskDefaults defaults = { .resources = queue->config->default_resources };
        _cleanup_(json_putp) json_object *body = NULL;
        Problem problem = {};
        int r = json_parse(text, strlen(text), &body, &problem);
        return r < 0 ? r : queue_spec_parse_stored(body, task_id, &defaults, ret, &problem);
}

int task_read_spec(const Task *task, QueueSpec **ret) {
        _cleanup_(freep) char *text = NULL;
        if (!task->spec_text) {
                int r = task_store_get(task->queue->store, task->task_id, on_spec_row, &text);
                if (r < 0)
                        return r;
        }
        return task_parse_spec(task->queue, task->spec_text ?: text, task->task_id, ret);
}

int task_schedule(Task *task, const QueueSpec *spec) {
        int r = scheduler_add_task(
                        task->queue->scheduler,
                        &(ScheduledTaskOptions){
                                        .task_id = task->task_id,
                                        .resources = spec->task->resources,
                                        .sequence = task->seq,
                                        .priority = spec->priority,
                                        .retries_max = spec->retry_max,
                                        .retry_backoff_usec = spec->retry_backoff_usec,
                                        .retry_on_lost = spec->retry_on_lost,
                        },
                        usec_now(CLOCK_BOOTTIME),
                        &task->scheduled);
        if (r >= 0)
                task->scheduled->userdata = task;
        return r;
}

QueueAttempt task_attempt_frame(const Task *task, const QueueSpec *spec) {
        return (QueueAttempt){
                .task_id = task->task_id,
                .spec = spec,
                .worker = task->worker_id,
                .submit_usec = task->submit_usec,
                .queue_usec = task->queue_usec,
        };
}

static int on_attempt_row(const StoredAttempt *row, void *userdata) {
        json_object *list = userdata;
        if (!row->attempt || (row->state != STORED_ATTEMPT_FINISHED && row->state != STORED_ATTEMPT_LOST))
                return 0;
        _cleanup_(json_putp) json_object *attempt = NULL;
        Problem problem = {};
        int r = json_parse(row->attempt, strlen(row->attempt), &attempt, &problem);
        return r < 0 ? r : json_append(list, TAKE_PTR(attempt));
}

int task_add_earlier(const Task *task, json_object *object) {
        _cleanup_(json_putp) json_object *list = json_object_new_array();
        if (!list)
                return -ENOMEM;
        if (task->attempt_number > 0) {
                int r = task_store_attempts(task->queue->store, task->seq, on_attempt_row, list);
                if (r < 0)
                        return r;
        }
        return json_add(object, "attempts", TAKE_PTR(list));
}

static int add_empty_outputs(json_object *object, OutputMode mode) {
        if (mode == OUTPUT_NONE) {
                json_object_object_del(object, "output");
                json_object_object_del(object, "error");
                return 0;
        }
        int r = json_add_string(object, "output", "");
        return r < 0 ? r : json_add_string(object, "error", "");
}

json_object *task_describe(const Task *task, unsigned mode) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *object = NULL;
        if (task->is_stored)
                return task_describe_stored(task->queue, task->task_id, (OutputMode) mode, &object) < 0 ?
                                NULL :
                                TAKE_PTR(object);
        if (task_read_spec(task, &spec) < 0)
                return NULL;
        QueueAttempt frame = task_attempt_frame(task, spec);
        if (!task_is_running(task))
                frame.worker = NULL;
        if (queue_attempt_new(&frame, QUEUE_END_LIVE, task->unit, task->note, 0, &object) < 0 ||
            task_add_earlier(task, object) < 0 || add_empty_outputs(object, (OutputMode) mode) < 0)
                return NULL;
        return TAKE_PTR(object);
}

typedef struct StoredDescription {
        Queue *queue; /* weak */
        OutputMode mode;
        json_object *object;
} StoredDescription;

static int add_output(
                Queue *queue,
                json_object *object,
                const StoredTask *row,
                const char *key,
                StoredStream stream,
                OutputMode mode) {
        json_object *number_value, *truncated;
        uint64_t number = 0, size = 0, bytes_max = queue->config->inline_output_bytes;
        if (json_object_object_get_ex(object, "attempt_number", &number_value))
                (void) json_get_u64(number_value, 0, UINT64_MAX - 1, &number);
        int r = task_store_output_size(queue->store, row->seq, number, stream, &size);
        if (r < 0)
                return r;
        if (mode == OUTPUT_TAIL && bytes_max > OUTPUT_TAIL_BYTES)
                bytes_max = OUTPUT_TAIL_BYTES;
        uint64_t wanted = size < bytes_max ? size : bytes_max;
        uint64_t offset = mode == OUTPUT_TAIL ? size - wanted : 0;
        _cleanup_(freep) char *bytes = malloc((size_t) wanted + 1);
        if (!bytes)
                return -ENOMEM;
        size_t n = 0;
        while (n < wanted) {
                ssize_t k = task_store_read_output(
                                queue->store,
                                row->seq,
                                number,
                                stream,
                                offset + n,
                                bytes + n,
                                (size_t) wanted - n);
                if (k < 0)
                        return (int) k;
                if (k == 0)
                        break;
                n += (size_t) k;
        }
        bool is_error = stream == STORED_STDERR;
        bool is_whole = json_object_object_get_ex(
                                        object,
                                        is_error ? "error_truncated" : "output_truncated",
                                        &truncated) &&
                        !json_object_get_boolean(truncated);
        bool is_end = offset + n == size && is_whole;
        size_t begin = offset > 0 ? text_cut_off_begin(bytes, n) : 0;
        size_t end = is_end ? n : text_cut_off_end(bytes, n);
        return queue_attempt_add_output(object, key, bytes + begin, end - begin, n < size);
}

static int on_stored_row(const StoredTask *row, void *userdata) {
        StoredDescription *description = userdata;
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};
        if (!row->result) /* it is live, and on its way to the table */
                return -ENOENT;
        int r = json_parse(row->result, strlen(row->result), &object, &problem);
        if (r >= 0 && description->mode != OUTPUT_NONE)
                r = add_output(description->queue, object, row, "output", STORED_STDOUT, description->mode);
        if (r >= 0 && description->mode != OUTPUT_NONE)
                r = add_output(description->queue, object, row, "error", STORED_STDERR, description->mode);
        if (r < 0)
                return r;
        description->object = TAKE_PTR(object);
        return 0;
}

int task_describe_stored(Queue *queue, const char *task_id, OutputMode mode, json_object **ret) {
        StoredDescription description = { .queue = queue, .mode = mode };
        int r = task_store_get(queue->store, task_id, on_stored_row, &description);
        if (r < 0)
                return r;
        *ret = description.object;
        return 0;
}

int task_describe_any(Queue *queue, const char *task_id, OutputMode mode, json_object **ret) {
        const Task *task = task_table_find(&queue->tasks, task_id);
        if (!task)
                return task_describe_stored(queue, task_id, mode, ret);
        *ret = task_describe(task, mode);
        return *ret ? 0 : -ENOMEM;
}

void task_send_event(const Task *task, const char *state, const char *result) {
        json_object *object = json_object_new_object();
        if (object &&
            (json_add_string(object, "task_id", task->task_id) < 0 ||
             json_add_string(object, "unit", task->unit) < 0 ||
             json_add_string(object, "worker", task->worker_id) < 0 ||
             json_add_string(object, "state", state) < 0 || json_add_string(object, "result", result) < 0))
                object = (json_object_put(object), NULL);
        event_stream_send(task->queue->events, "task", object);
}
