/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/queue-attempt.h"

#include "base/text.h"
#include "core/json/json.h"
#include "core/json/pairs.h"
#include "core/task/task-attempt.h"

static int add_own(json_object *object, const QueueAttempt *attempt) {
        int r = json_add_string(object, "worker", attempt->worker);
        if (r >= 0)
                r = json_add_realtime(object, "queue_time", attempt->queue_usec);
        if (r >= 0)
                r = json_add_i64(object, "priority", attempt->spec->priority);
        return r;
}

int queue_attempt_adopt(json_object *runner_attempt, const QueueAttempt *attempt) {
        json_object_object_del(runner_attempt, "output");
        json_object_object_del(runner_attempt, "error");
        int r = json_add_string(runner_attempt, "task_id", attempt->task_id);
        if (r >= 0)
                r = pairs_add(runner_attempt, "labels", attempt->spec->task->labels);
        if (r >= 0)
                r = json_add_realtime(runner_attempt, "submit_time", attempt->submit_usec);
        return r < 0 ? r : add_own(runner_attempt, attempt);
}

static TaskState task_state_of(QueueEnd end, const char *worker) {
        if (end != QUEUE_END_LIVE)
                return TASK_FINISHED;
        return worker ? TASK_RUNNING : TASK_QUEUED;
}

static TaskResult task_result_of(QueueEnd end) {
        switch (end) {
        case QUEUE_END_LIVE:
                return TASK_RESULT_NONE;
        case QUEUE_END_CANCELED:
                return TASK_RESULT_CANCELED;
        case QUEUE_END_LOST: /* errored, too; its own name is put in afterwards */
        case QUEUE_END_INVALID:
        case QUEUE_END_DEPENDENCY:
                return TASK_RESULT_START_FAILED;
        }
        return TASK_RESULT_NONE;
}

int queue_attempt_new(
                const QueueAttempt *attempt,
                QueueEnd end,
                const char *unit,
                const char *note,
                usec_t stop_usec,
                json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;
        char *notes[] = { (char *) note, NULL };
        TaskAttempt form = {
                .spec = attempt->spec->task,
                .unit = unit,
                .state = task_state_of(end, attempt->worker),
                .result = task_result_of(end),
                .submit_usec = attempt->submit_usec,
                .stop_usec = stop_usec,
                .notes = notes,
        };
        int r = task_attempt_to_json(&form, &object);
        if (r >= 0)
                r = json_add_string(object, "task_id", attempt->task_id);
        if (r >= 0 && end == QUEUE_END_LOST)
                r = json_add_string(object, "result", "worker-lost");
        if (r >= 0 && end == QUEUE_END_DEPENDENCY)
                r = json_add_string(object, "result", "dependency-failed");
        if (r >= 0)
                r = add_own(object, attempt);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

void queue_attempt_make_earlier(json_object *object) {
        json_object_object_del(object, "command");
        json_object_object_del(object, "labels");
}

void queue_attempt_make_retried(json_object *finished) {
        queue_attempt_make_earlier(finished);
        json_object_object_del(finished, "attempts");
        json_object_object_del(finished, "attempt_number");
}

int queue_attempt_add_output(json_object *object, const char *key, const void *bytes, size_t size, bool cut) {
        _cleanup_(freep) char *shown = NULL;
        size_t shown_size;
        int r = text_to_utf8_lossy(bytes, size, &shown, &shown_size);
        if (r < 0)
                return r;
        if (cut) {
                r = json_add_bool(object, *key == 'o' ? "output_truncated" : "error_truncated", true);
                if (r < 0)
                        return r;
        }
        return json_add(object, key, json_object_new_string_len(shown, (int) shown_size));
}
