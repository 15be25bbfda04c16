/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/text/unit-name.h"
#include "io/loop.h"
#include "runner/routes.h"
#include "runner/runner.h"
#include "runner/task-output.h"
#include "service/event-stream.h"

/* Of a finished task that is written down: it stays in memory, and so does the event with it for a while. */
#define TOLD_OUTPUT_BYTES_MAX 2048
#define TOLD_BYTES_MAX        8192

static json_object *describe(const void *subject, unsigned form) {
        return task_to_json(subject, (OutputMode) form);
}

int task_new(Runner *runner, TaskSpec *spec, Task **ret) {
        _cleanup_(task_spec_freep) TaskSpec *owned = spec;
        _cleanup_(task_freep) Task *task = calloc(1, sizeof(*task));
        if (!task)
                return -ENOMEM;
        task->runner = runner;
        task->waiters = (Waiters) {
                .event = runner->daemon.event,
                .server = runner->daemon.http,
                .describe = describe,
                .subject = task,
        };
        int r = unit_name_from_task_id(owned->task_id, &task->unit);
        if (r < 0)
                return r;
        task->spec = TAKE_PTR(owned);
        task->state = TASK_QUEUED;
        task->submit_usec = usec_now(CLOCK_REALTIME);
        task->submit_boottime_usec = usec_now(CLOCK_BOOTTIME);
        *ret = TAKE_PTR(task);
        return 0;
}

Task *task_free(Task *task) {
        if (!task)
                return NULL;
        waiters_drop(&task->waiters);
        task_output_drop(task);
        admission_list_remove(&task->waiting);
        queued_call_cancel(task->scope_call);
        task->leader = leader_process_free(task->leader);
        task->shutdown_question = own_unit_question_free(task->shutdown_question);
        capture_free(task->output);
        capture_free(task->error);
        capacity_charge_release(&task->charge);
        device_grant_free(task->devices);
        free(task->queue);
        line_splitter_done(&task->journal.output);
        line_splitter_done(&task->journal.error);
        event_source_dropp(&task->timeout_source);
        event_source_dropp(&task->scope_source);
        event_source_dropp(&task->slow_source);
        event_source_dropp(&task->overdue_source);
        event_source_dropp(&task->remains_source);
        for (size_t i = 0; i < TASK_NOTES_MAX; i++)
                free(task->notes[i]);
        task_spec_free(task->spec);
        free(task->unit);
        free(task->told);
        free(task);
        return NULL;
}

void task_note(Task *task, const char *format, ...) {
        size_t n = text_list_count(task->notes);
        if (n >= TASK_NOTES_MAX)
                return;
        va_list arguments;
        va_start(arguments, format);
        (void) text_vformat(&task->notes[n], format, arguments);
        va_end(arguments);
}

bool task_is_live(const Task *task) {
        return task->state != TASK_FINISHED;
}

bool task_matches(const Task *task, const char *state, const char *const *labels) {
        if (state && !streq(state, task_state_public(task->state, task->result)))
                return false;
        for (const char *const *label = labels; label && *label; label++)
                if (!text_list_has(task->spec->labels, *label))
                        return false;
        return true;
}

usec_t task_clock(const Task *task, usec_t now_boottime_usec) {
        return usec_add(task->submit_usec, usec_subtract(now_boottime_usec, task->submit_boottime_usec));
}

/* Copies what MODE embeds of a stream to *RET_BYTES, which the caller frees, and describes it. Characters
 * that the cuts at its ends go through, or that the task has not written to their ends, are left out. */
static int output_view(
                const Task *task,
                const Capture *capture,
                OutputMode mode,
                uint64_t bytes_max,
                void **ret_bytes,
                TaskOutputView *ret) {
        *ret_bytes = NULL;
        *ret = (TaskOutputView) {};
        if (!capture)
                return 0;
        const OutputStore *store = capture_store(capture);
        ret->total_bytes = store->bytes_total;
        ret->truncated = output_store_is_truncated(store);
        if (mode == OUTPUT_NONE)
                return 0;

        if (mode == OUTPUT_DAGGYR)
                bytes_max = UINT64_MAX;
        uint64_t wanted = mode == OUTPUT_TAIL && bytes_max > OUTPUT_TAIL_BYTES ? OUTPUT_TAIL_BYTES :
                                                                                 bytes_max;
        uint64_t size = store->bytes_kept < wanted ? store->bytes_kept : wanted;
        uint64_t offset = mode == OUTPUT_TAIL ? store->bytes_kept - size : 0;
        ret->truncated |= size < store->bytes_kept;
        char *bytes = malloc((size_t) size + 1);
        if (!bytes)
                return -ENOMEM;
        *ret_bytes = bytes;
        while (ret->size < size) {
                ssize_t n = output_store_read(
                                store, offset + ret->size, bytes + ret->size, (size_t) size - ret->size);
                if (n <= 0) {
                        ret->truncated = true;
                        break;
                }
                ret->size += (size_t) n;
        }
        bool is_end = !task_is_live(task) && offset + ret->size == store->bytes_total;
        size_t begin = offset > 0 ? text_cut_off_begin(bytes, ret->size) : 0;
        ret->bytes = bytes + begin;
        ret->size = (is_end ? ret->size : text_cut_off_end(bytes, ret->size)) - begin;
        return 0;
}

static json_object *describe_anew(const Task *task, OutputMode mode) {
        const RunnerConfig *config = task->runner->config;
        _cleanup_(freep) void *output = NULL, *error = NULL;
        TaskAttempt attempt = {
                .spec = task->spec,
                .unit = task->unit,
                .state = task->state,
                .result = task->result,
                .end = &task->end,
                .submit_usec = task->submit_usec,
                .start_usec = task->start_usec,
                .stop_usec = task->stop_usec,
                .run_usec = usec_subtract(task->stop_boottime_usec, task->start_boottime_usec),
                .usage = &task->usage,
                .notes = task->notes,
                .devices = task->devices,
                .with_output = mode != OUTPUT_NONE,
        };
        if (output_view(task, task->output, mode, config->inline_output_bytes, &output, &attempt.output) <
                            0 ||
            output_view(task, task->error, mode, config->inline_output_bytes, &error, &attempt.error) < 0)
                return NULL;
        json_object *object = NULL;
        int r = mode == OUTPUT_DAGGYR ? task_attempt_to_json_daggyr(&attempt, &object) :
                                        task_attempt_to_json(&attempt, &object);
        return r < 0 ? NULL : object;
}

void task_write_down(Task *task) {
        _cleanup_(json_putp) json_object *attempt = NULL;
        uint64_t bytes = 0;
        assert(!task_is_live(task) && !task->told);
        for (int i = 0; i < 2; i++) {
                const Capture *capture = i == 0 ? task->output : task->error;
                bytes += capture ? capture_store(capture)->bytes_total : 0;
        }
        if (bytes > TOLD_OUTPUT_BYTES_MAX || bytes > task->runner->config->inline_output_bytes)
                return;
        attempt = describe_anew(task, OUTPUT_FULL);
        size_t size;
        if (attempt && json_format(attempt, &task->told, &size) >= 0 && size > TOLD_BYTES_MAX) {
                free(task->told);
                task->told = NULL;
        }
}

json_object *task_to_json(const Task *task, OutputMode mode) {
        return mode == OUTPUT_FULL && task->told ? json_new_written(task->told) : describe_anew(task, mode);
}

void task_wait_add(Task *task, HttpRequest *request, int status, OutputMode mode, usec_t timeout_usec) {
        if (mode == OUTPUT_FULL && task->told)
                http_request_answer(request, status, "application/json", task->told, strlen(task->told));
        else
                waiters_add(&task->waiters, request, status, mode, task_is_live(task) ? timeout_usec : 0);
}

void task_send_event(const Task *task) {
        json_object *object = json_object_new_object();
        if (object &&
            (json_add_string(object, "task_id", task->spec->task_id) < 0 ||
             json_add_string(object, "unit", task->unit) < 0 ||
             json_add_string(object, "state", task_state_public(task->state, task->result)) < 0 ||
             json_add_string(object, "result", task_result_to_string(task->result)) < 0 ||
             (task->told && json_add(object, "attempt", json_new_written(task->told)) < 0)))
                object = (json_object_put(object), NULL);
        event_stream_send(task->runner->daemon.events, "task", object);
}

static void answer_before_the_end(const void *subject, HttpRequest *request, int status, unsigned form) {
        if (form == OUTPUT_DAGGYR) /* whose clients take any attempt for the last word */
                daggyr_answer_later(request);
        else
                http_request_answer_json(request, status, describe(subject, form));
}

/* Only this time: at the task's end all who wait share one answer. */
void task_end_waits(Task *task) {
        task->waiters.answer = answer_before_the_end;
        waiters_answer_all(&task->waiters);
        task->waiters.answer = NULL;
}
