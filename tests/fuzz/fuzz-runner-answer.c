/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whatever a runner answers, only what fits is taken. */
#include <string.h>

#include "base/text.h"
#include "core/scheduling/runner-answer.h"
#include "fuzz.h"

static void check_result(const char *text, size_t size) {
        _cleanup_(json_putp) json_object *object = NULL;
        RunnerResult result;
        if (runner_object_parse(text, size, &object) < 0 || runner_result_read(object, &result) < 0)
                return;
        FUZZ_CHECK(result.task.task_id && result.task.state);
        FUZZ_CHECK(result.output || result.output_size == 0);
        if (runner_output_is_raw(
                            result.output, result.output_size, result.output_bytes, result.output_truncated))
                FUZZ_CHECK(result.output_size == result.output_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = malloc(size + 1);
        char id[LEASE_ID_SIZE], holder[LEASE_QUEUE_MAX + 1], detail[16];
        usec_t ttl_usec;
        WorkerReport report = {};
        FUZZ_CHECK(text);
        memcpy(text, data, size);
        text[size] = '\0';
        if (runner_capacity_parse(text, size, &report) >= 0) {
                FUZZ_CHECK(report.total.n_named <= RESOURCES_NAMED_MAX);
                FUZZ_CHECK(memchr(report.instance, '\0', sizeof(report.instance)));
        }
        if (runner_lease_parse(text, size, id, &ttl_usec) >= 0)
                FUZZ_CHECK(strlen(id) == LEASE_ID_SIZE - 1);
        runner_holder_parse(text, size, holder);
        FUZZ_CHECK(memchr(holder, '\0', sizeof(holder)));
        runner_problem_parse(text, size, detail, sizeof(detail));
        FUZZ_CHECK(memchr(detail, '\0', sizeof(detail)));
        (void) runner_problem_blames_task(text, size);
        check_result(text, size);
        return 0;
}
