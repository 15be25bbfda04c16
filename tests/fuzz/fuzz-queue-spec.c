/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a queue accepts is stored so that it is read back the same, and its runner takes it. */
#include <string.h>

#include "base/text.h"
#include "core/task/queue-spec.h"
#include "fuzz.h"

static const TaskDefaults defaults = { .resources = { .cores_micro = 1000000, .memory_mb = 512 } };

static QueueSpec *parse_stored(const char *text) {
        QueueSpec *spec = NULL;
        FUZZ_CHECK(queue_spec_parse_stored(text, "id", &defaults, NULL, &spec, NULL) >= 0);
        return spec;
}

static void check_runner_takes(const char *stored) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        TaskSpec *task = NULL;
        Problem problem = {};
        FUZZ_CHECK(queue_spec_parse_stored(stored, "id", &defaults, "queue", &spec, &text) >= 0);
        FUZZ_CHECK(json_parse(text, strlen(text), &body, &problem) >= 0);
        FUZZ_CHECK(task_spec_parse(body, "id", &defaults, &task, &problem) >= 0);
        FUZZ_CHECK(task->when_full == WHEN_FULL_REJECT);
        task_spec_free(task);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL, *again = NULL;
        _cleanup_(freep) char *stored = NULL;
        Problem problem = {};
        if (json_parse((const char *) data, size, &body, &problem) < 0)
                return 0;
        problem = (Problem) {};
        int r = queue_spec_parse(body, "id", &defaults, &spec, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
        if (r < 0)
                return 0;
        FUZZ_CHECK(queue_spec_to_stored(spec, body, &stored) >= 0);
        again = parse_stored(stored);
        FUZZ_CHECK(queue_spec_equal(spec, again));
        check_runner_takes(stored);
        return 0;
}
