/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A specification that was accepted reads back as equal when it is written as a body. */
#include <string.h>

#include "base/text.h"
#include "core/json/pairs.h"
#include "core/task/task-spec.h"
#include "core/text/base64.h"
#include "fuzz.h"

static const TaskDefaults defaults = {
        .resources = { .cores_micro = 1000000, .memory_mb = 512 },
};

static void add_pairs(json_object *body, const char *key, char *const *list) {
        json_object *value = NULL;

        FUZZ_CHECK(pairs_to_json(list, &value) == 0);
        FUZZ_CHECK(json_add(body, key, value) == 0);
}

static double seconds_of(usec_t usec) {
        return usec == USEC_INFINITY ? 0 : (double) usec / (double) USEC_PER_SEC;
}

static void add_stdin(json_object *body, const Text *bytes) {
        _cleanup_(text_done) Text text = {};

        FUZZ_CHECK(base64_encode(bytes->data, bytes->size, &text) == 0);
        FUZZ_CHECK(json_add_string(body, "stdin_base64", text.data ?: "") == 0);
}

static json_object *body_of(const TaskSpec *spec) {
        json_object *body = json_object_new_object(), *resources = NULL;

        FUZZ_CHECK(body);
        FUZZ_CHECK(json_add_strings(body, "command", spec->command) == 0);
        FUZZ_CHECK(resources_to_json(&spec->resources, &resources) == 0);
        FUZZ_CHECK(json_add(body, "resources", resources) == 0);
        FUZZ_CHECK(json_add_double(body, "timeout", seconds_of(spec->timeout_usec)) == 0);
        FUZZ_CHECK(json_add_double(body, "grace", seconds_of(spec->grace_usec)) == 0);
        FUZZ_CHECK(json_add_u64(body, "umask", spec->umask) == 0);
        add_stdin(body, &spec->standard_input);
        FUZZ_CHECK(json_add_u64(body, "tasks_max", spec->tasks_max) == 0);
        add_pairs(body, "environment", spec->environment);
        add_pairs(body, "labels", spec->labels);
        if (spec->task_id)
                FUZZ_CHECK(json_add_string(body, "task_id", spec->task_id) == 0);
        if (spec->working_directory)
                FUZZ_CHECK(json_add_string(body, "working_directory", spec->working_directory) == 0);
        if (spec->user)
                FUZZ_CHECK(json_add_string(body, "user", spec->user) == 0);
        if (spec->properties)
                FUZZ_CHECK(json_add(body, "properties", json_object_get(spec->properties)) == 0);

        return body;
}

static void fuzz_task_spec(json_object *object, const char *task_id) {
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL, *again = NULL;
        _cleanup_(json_putp) json_object *body = NULL;
        Problem problem = {};
        int r;

        r = task_spec_parse(object, task_id, &defaults, &spec, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
        FUZZ_CHECK((r < 0) == !spec);
        if (!spec)
                return;

        FUZZ_CHECK(spec->command[0] != NULL);
        FUZZ_CHECK(!task_id || streq(spec->task_id, task_id));
        FUZZ_CHECK(task_spec_size(spec) >= sizeof(TaskSpec));

        body = body_of(spec);
        fuzz_check_round_trip(body);
        FUZZ_CHECK(task_spec_parse(body, task_id, &defaults, &again, &problem) == 0);
        FUZZ_CHECK(task_spec_equal(spec, again));
        FUZZ_CHECK(streq_null(spec->task_id, again->task_id));
}

static void fuzz_daggyr(json_object *object) {
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL, *again = NULL;
        Problem problem = {};
        int r;

        r = task_spec_parse_daggyr(object, "1:%2F", &defaults, &spec, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
        FUZZ_CHECK((r < 0) == !spec);
        if (!spec)
                return;

        FUZZ_CHECK(spec->command != NULL);
        FUZZ_CHECK(streq(spec->task_id, "1:%2F"));
        FUZZ_CHECK(spec->resources.cores_micro > 0 && spec->resources.memory_mb > 0);
        FUZZ_CHECK(task_spec_parse_daggyr(object, "x", &defaults, &again, &problem) == 0);
        FUZZ_CHECK(task_spec_equal(spec, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};

        if (json_parse((const char *) data, size, &object, &problem) < 0)
                return 0;

        fuzz_task_spec(object, NULL);
        fuzz_task_spec(object, "build-7");
        fuzz_daggyr(object);
        return 0;
}
