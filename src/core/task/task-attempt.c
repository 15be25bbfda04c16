/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Formats what is known about a task. Nothing is decided here. */
#include "core/task/task-attempt.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/json/pairs.h"

static int add_resources(json_object *object, const Resources *resources) {
        json_object *value;

        int r = resources_to_json(resources, &value);
        if (r < 0)
                return r;

        return json_add(object, "resources", value);
}

static int add_identity(json_object *object, const TaskAttempt *attempt) {
        int r = json_add_string(object, "task_id", attempt->spec->task_id);
        if (r < 0)
                return r;
        r = json_add_string(object, "state", task_state_public(attempt->state, attempt->result));
        if (r < 0)
                return r;
        r = json_add_string(object, "result", task_result_to_string(attempt->result));
        if (r < 0)
                return r;
        r = json_add_string(object, "unit", attempt->unit);
        if (r < 0)
                return r;
        r = json_add_strings(object, "command", attempt->spec->command);
        if (r < 0)
                return r;
        r = add_resources(object, &attempt->spec->resources);
        if (r < 0)
                return r;

        return pairs_add(object, "labels", attempt->spec->labels);
}

static int add_times(json_object *object, const TaskAttempt *attempt) {
        int r = json_add_realtime(object, "submit_time", attempt->submit_usec);
        if (r < 0)
                return r;
        r = json_add_realtime(object, "start_time", attempt->start_usec);
        if (r < 0)
                return r;

        return json_add_realtime(
                        object, "stop_time", attempt->state == TASK_FINISHED ? attempt->stop_usec : 0);
}

void task_signal_name(int number, char buffer[static TASK_SIGNAL_NAME_SIZE]) {
        const char *abbreviation = sigabbrev_np(number);

        if (abbreviation)
                (void) snprintf(buffer, TASK_SIGNAL_NAME_SIZE, "SIG%s", abbreviation);
        else if (number >= SIGRTMIN && number <= SIGRTMAX)
                (void) snprintf(buffer, TASK_SIGNAL_NAME_SIZE, "SIGRTMIN+%d", number - SIGRTMIN);
        else
                (void) snprintf(buffer, TASK_SIGNAL_NAME_SIZE, "SIG%d", number);
}

static int add_signal(json_object *object, int number) {
        char name[TASK_SIGNAL_NAME_SIZE];

        if (number <= 0)
                return json_add_null(object, "signal");

        task_signal_name(number, name);
        return json_add_string(object, "signal", name);
}

static int add_end(json_object *object, const TaskAttempt *attempt) {
        bool finished = attempt->state == TASK_FINISHED;
        const TaskEnd *end = finished && attempt->end && attempt->end->main_exited ? attempt->end : NULL;

        int r = json_add_bool(object, "succeeded", finished && attempt->result == TASK_RESULT_SUCCESS);
        if (r < 0)
                return r;
        r = json_add_bool(object, "killed", finished && task_result_killed(attempt->result));
        if (r < 0)
                return r;
        r = end ? json_add_i64(object, "exit_code", end->signal > 0 ? -1 : end->exit_code) :
                  json_add_null(object, "exit_code");
        if (r < 0)
                return r;

        return add_signal(object, end ? end->signal : 0);
}

static int add_output(json_object *object, const char *key, const TaskOutputView *view) {
        _cleanup_(freep) char *shown = NULL;
        size_t size;

        int r = text_to_utf8_lossy(view->bytes, view->size, &shown, &size);
        if (r < 0)
                return r;

        return json_add(object, key, json_object_new_string_len(shown, (int) size));
}

static int add_outputs(json_object *object, const TaskAttempt *attempt) {
        int r;

        if (attempt->with_output) {
                r = add_output(object, "output", &attempt->output);
                if (r < 0)
                        return r;
                r = add_output(object, "error", &attempt->error);
                if (r < 0)
                        return r;
        }

        r = json_add_u64(object, "output_bytes", attempt->output.total_bytes);
        if (r < 0)
                return r;
        r = json_add_u64(object, "error_bytes", attempt->error.total_bytes);
        if (r < 0)
                return r;
        r = json_add_bool(object, "output_truncated", attempt->output.truncated);
        if (r < 0)
                return r;

        return json_add_bool(object, "error_truncated", attempt->error.truncated);
}

/* Percent of one core on the average, as a number that fits 32 bits: DaggyR reads it so. */
static uint64_t average_cpu(usec_t cpu_usec, usec_t run_usec) {
        if (run_usec == 0)
                return 0;

        double percent = 100.0 * (double) cpu_usec / (double) run_usec + 0.5;
        return percent < UINT32_MAX ? (uint64_t) percent : UINT32_MAX;
}

static int add_usage_object(json_object *object, const TaskUsage *usage) {
        _cleanup_(json_putp) json_object *value = json_object_new_object();

        if (!value)
                return -ENOMEM;

        int r = json_add_double(value, "cpu_time", (double) usage->cpu_usec / (double) USEC_PER_SEC);
        if (r < 0)
                return r;
        r = json_add_u64(value, "memory_peak", usage->memory_peak_bytes);
        if (r < 0)
                return r;
        r = json_add_u64(value, "io_read_bytes", usage->io_read_bytes);
        if (r < 0)
                return r;
        r = json_add_u64(value, "io_write_bytes", usage->io_write_bytes);
        if (r < 0)
                return r;
        r = json_add_u64(value, "tasks_peak", usage->tasks_peak);
        if (r < 0)
                return r;

        return json_add(object, "usage", TAKE_PTR(value));
}

static int add_usage(json_object *object, const TaskAttempt *attempt) {
        static const TaskUsage none = {};
        const TaskUsage *usage = attempt->usage ?: &none;

        int r = json_add_strings(object, "executor", attempt->notes);
        if (r < 0)
                return r;
        r = json_add_u64(object, "max_cpu", average_cpu(usage->cpu_usec, attempt->run_usec));
        if (r < 0)
                return r;
        r = json_add_u64(object, "max_rss", usage->memory_peak_bytes);
        if (r < 0)
                return r;

        return add_usage_object(object, usage);
}

static int add_devices(json_object *object, const TaskAttempt *attempt) {
        return device_grant_add(object, attempt->devices);
}

int task_attempt_to_json(const TaskAttempt *attempt, json_object **ret) {
        static int (*const parts[])(json_object *object, const TaskAttempt *attempt) = {
                add_identity, add_devices, add_times, add_end, add_outputs, add_usage,
        };
        _cleanup_(json_putp) json_object *object = NULL;

        assert(attempt);
        assert(attempt->spec);
        assert(ret);

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                int r = parts[i](object, attempt);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}

int task_attempt_to_json_daggyr(const TaskAttempt *attempt, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;

        assert(attempt);
        assert(ret);

        TaskAttempt complete = *attempt;
        if (complete.start_usec == 0)
                complete.start_usec = complete.submit_usec;
        if (complete.stop_usec == 0)
                complete.stop_usec = complete.submit_usec;

        int r = task_attempt_to_json(&complete, &object);
        if (r < 0)
                return r;

        if (!json_object_object_get(object, "exit_code")) {
                r = json_add_i64(object, "exit_code", -1);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}
