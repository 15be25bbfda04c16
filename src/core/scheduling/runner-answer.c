/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/runner-answer.h"

#include <math.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

int runner_object_parse(const char *text, size_t size, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};
        int r = json_parse(text, size, &object, &problem);
        if (r < 0)
                return r == -ENOMEM ? r : -EBADMSG;
        if (!json_object_is_type(object, json_type_object))
                return -EBADMSG;
        *ret = TAKE_PTR(object);
        return 0;
}

static json_object *get(json_object *object, const char *key, json_type type) {
        json_object *value;
        return json_object_object_get_ex(object, key, &value) && json_object_is_type(value, type) ? value :
                                                                                                    NULL;
}

static const char *get_string(json_object *object, const char *key) {
        json_object *value = get(object, key, json_type_string);
        return value ? json_object_get_string(value) : NULL;
}

static bool get_bool(json_object *object, const char *key) {
        json_object *value = get(object, key, json_type_boolean);
        return value && json_object_get_boolean(value);
}

static int read_amounts(json_object *object, Resources *ret) {
        Resources resources = {};
        if (!object)
                return -EBADMSG;
        json_object_object_foreach(object, name, value) {
                double cores;
                uint64_t amount;
                if (streq(name, "cores")) {
                        if (json_get_double(value, 0, CORES_MAX, &cores) < 0)
                                return -EBADMSG;
                        resources.cores_micro = (uint64_t) llround(cores * (double) CORES_MICRO_PER_CORE);
                        continue;
                }
                if (json_get_u64(value, 0, UINT64_MAX - 1, &amount) < 0)
                        return -EBADMSG;
                if (streq(name, "memory_mb"))
                        resources.memory_mb = amount;
                else if (resources_named_set(&resources, name, amount) < 0)
                        return -EBADMSG;
        }
        *ret = resources;
        return 0;
}

static void read_instance(json_object *object, char ret[static WORKER_INSTANCE_SIZE]) {
        json_object *facts = get(object, "facts", json_type_object);
        const char *instance = facts ? get_string(facts, "instance_id") : NULL;
        if (instance && strlen(instance) < WORKER_INSTANCE_SIZE)
                memcpy(ret, instance, strlen(instance) + 1);
}

int runner_capacity_parse(const char *text, size_t size, WorkerReport *ret) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r = runner_object_parse(text, size, &object);
        if (r < 0)
                return r;
        WorkerReport report = *ret;
        r = read_amounts(get(object, "total", json_type_object), &report.total);
        if (r >= 0)
                r = read_amounts(get(object, "free", json_type_object), &report.free_amounts);
        if (r < 0)
                return r;
        json_object *pressure = get(object, "pressure", json_type_object);
        if (pressure && get_bool(pressure, "holding"))
                report.free_amounts = (Resources) {}; /* what is sent there would wait */
        report.draining = get_bool(object, "draining");
        read_instance(object, report.instance);
        *ret = report;
        return 0;
}

int runner_lease_parse(
                const char *text,
                size_t size,
                char ret_id[static LEASE_ID_SIZE],
                usec_t *ret_ttl_usec) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r = runner_object_parse(text, size, &object);
        if (r < 0)
                return r;
        const char *id = get_string(object, "lease_id");
        json_object *ttl_value;
        double ttl;
        if (!id || strlen(id) != LEASE_ID_SIZE - 1 || !json_object_object_get_ex(object, "ttl", &ttl_value) ||
            json_get_double(ttl_value, 0, LEASE_TTL_SEC_MAX, &ttl) < 0 ||
            usec_from_seconds(ttl, LEASE_TTL_SEC_MAX, ret_ttl_usec) < 0)
                return -EBADMSG;
        memcpy(ret_id, id, LEASE_ID_SIZE);
        return 0;
}

void runner_holder_parse(const char *text, size_t size, char ret_holder[static LEASE_QUEUE_MAX + 1]) {
        _cleanup_(json_putp) json_object *object = NULL;
        *ret_holder = '\0';
        if (runner_object_parse(text, size, &object) < 0)
                return;
        const char *holder = get_string(object, "holder");
        if (holder && strlen(holder) <= LEASE_QUEUE_MAX)
                memcpy(ret_holder, holder, strlen(holder) + 1);
}

void runner_problem_parse(const char *text, size_t size, char *ret_detail, size_t detail_size) {
        _cleanup_(json_putp) json_object *object = NULL;
        *ret_detail = '\0';
        if (runner_object_parse(text, size, &object) < 0)
                return;
        const char *detail = get_string(object, "detail") ?: "";
        size_t n = text_cut(detail, detail_size - 1);
        memcpy(ret_detail, detail, n);
        ret_detail[n] = '\0';
}

bool runner_problem_blames_task(const char *text, size_t size) {
        _cleanup_(json_putp) json_object *object = NULL;
        if (runner_object_parse(text, size, &object) < 0)
                return false;
        const char *field = get_string(object, "field");
        return field && !text_after(field, "/resources");
}

SubmitOutcome runner_submit_outcome(int status, const char *text, size_t size, WorkerReport *ret_report) {
        switch (status) {
        case 200:
        case 202:
                return SUBMIT_ACCEPTED;
        case 409: /* one whose reason is the runner's capacity shows it */
                *ret_report = (WorkerReport) {};
                return runner_capacity_parse(text, size, ret_report) >= 0 ? SUBMIT_FULL : SUBMIT_INVALID;
        case 423:
                return SUBMIT_NO_LEASE;
        case 400:
        case 413:
        case 415:
                return SUBMIT_INVALID;
        case 429:
        case 503:
        case 401:
        case 421:
                return SUBMIT_BUSY;
        case 422: /* its capacity has shrunk below what was reported, or it knows no such user */
        case 403: /* it runs no tasks as that user, or we may not submit there at all */
                return runner_problem_blames_task(text, size) ? SUBMIT_INVALID : SUBMIT_BUSY;
        default:
                return SUBMIT_STRANGE;
        }
}

int runner_task_read(json_object *object, RunnerTask *ret) {
        if (!json_object_is_type(object, json_type_object))
                return -EBADMSG;
        RunnerTask task = {
                .task_id = get_string(object, "task_id"),
                .state = get_string(object, "state"),
                .result = get_string(object, "result"),
                .unit = get_string(object, "unit"),
        };
        if (!task.task_id || !task.state)
                return -EBADMSG;
        task.finished = !streq(task.state, "queued") && !streq(task.state, "running");
        *ret = task;
        return 0;
}

static int read_output(
                json_object *object,
                const char *key,
                const char *bytes_key,
                const char **ret,
                size_t *ret_size,
                uint64_t *ret_bytes) {
        json_object *bytes, *text = get(object, key, json_type_string);
        if (!json_object_object_get_ex(object, bytes_key, &bytes) ||
            json_get_u64(bytes, 0, UINT64_MAX - 1, ret_bytes) < 0)
                return -EBADMSG;
        *ret = text ? json_object_get_string(text) : NULL;
        *ret_size = text ? (size_t) json_object_get_string_len(text) : 0;
        return 0;
}

int runner_result_read(json_object *object, RunnerResult *ret) {
        RunnerResult result = {};
        int r = runner_task_read(object, &result.task);
        if (r >= 0)
                r = read_output(object,
                                "output",
                                "output_bytes",
                                &result.output,
                                &result.output_size,
                                &result.output_bytes);
        if (r >= 0)
                r = read_output(object,
                                "error",
                                "error_bytes",
                                &result.error,
                                &result.error_size,
                                &result.error_bytes);
        if (r < 0)
                return r;
        result.output_truncated = get_bool(object, "output_truncated");
        result.error_truncated = get_bool(object, "error_truncated");
        *ret = result;
        return 0;
}

bool runner_output_is_raw(const char *text, size_t size, uint64_t total_bytes, bool truncated) {
        return text && !truncated && size == total_bytes &&
                        !memmem(text, size, REPLACEMENT, strlen(REPLACEMENT));
}
