/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a runner answers, as a queue reads it. Members that are not known are ignored, since the runner may be
 * of a later version; those that are needed must be there and of their type. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/scheduling/lease.h"
#include "core/scheduling/scheduler.h"
#include "core/scheduling/worker.h"

/* GET /api/v1/capacity; the capacity that a refusal or an event carries, which has no instance: *RET keeps
 * what it has. -EBADMSG, -ENOMEM. */
int runner_capacity_parse(const char *text, size_t size, WorkerReport *ret);

/* POST and PUT /api/v1/lease…, granted. -EBADMSG, -ENOMEM. */
int runner_lease_parse(
                const char *text,
                size_t size,
                char ret_id[static LEASE_ID_SIZE],
                usec_t *ret_ttl_usec);

/* Who holds the lease that was refused; "" where the answer does not tell. */
void runner_holder_parse(const char *text, size_t size, char ret_holder[static LEASE_QUEUE_MAX + 1]);

/* The "detail" of a problem, or "". Cut to fit. */
void runner_problem_parse(const char *text, size_t size, char *ret_detail, size_t detail_size);

/* Whether a problem blames the task itself: a field of it, and not "/resources", of which the runner may have
 * more another time. */
bool runner_problem_blames_task(const char *text, size_t size);

/* What the answer to a submission, STATUS with the SIZE bytes at TEXT, means. With SUBMIT_FULL *RET_REPORT is
 * what the runner says of itself. */
SubmitOutcome runner_submit_outcome(int status, const char *text, size_t size, WorkerReport *ret_report);

/* A task as a listing, an event or an attempt shows it. Strings live as long as the object they are from. */
typedef struct RunnerTask {
        const char *task_id, *state;
        const char *result; /* NULL while live */
        const char *unit;   /* NULL when not told */
        bool finished;
} RunnerTask;

/* -EBADMSG. */
int runner_task_read(json_object *object, RunnerTask *ret);

/* A finished attempt: what it says of its output, apart from the rest. */
typedef struct RunnerResult {
        RunnerTask task;
        uint64_t output_bytes, error_bytes;
        bool output_truncated, error_truncated;
        const char *output,
                        *error; /* as shown, so U+FFFD stands for what was not UTF-8; NULL when left out */
        size_t output_size, error_size;
} RunnerResult;

/* -EBADMSG. */
int runner_result_read(json_object *object, RunnerResult *ret);

/* Whether TEXT, the shown form of TOTAL_BYTES of output, is these bytes. */
bool runner_output_is_raw(const char *text, size_t size, uint64_t total_bytes, bool truncated);

/* Any JSON object. -EBADMSG, -ENOMEM. The caller puts *ret. */
int runner_object_parse(const char *text, size_t size, json_object **ret);
