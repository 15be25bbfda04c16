/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/queue-spec.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/text/unit-name.h"

#define RETRY_BACKOFF_DEFAULT_USEC (2 * USEC_PER_SEC)

/* Members that only stored bodies have, in which resources are resolved. */
#define CORES_BY_DEFAULT  "cores_by_default"
#define MEMORY_BY_DEFAULT "memory_by_default"

/* The members that are the queue's. */
static const char *const queue_members[] = { "retry", "priority", "retry_on_lost", "after" };

QueueSpec *queue_spec_free(QueueSpec *spec) {
        if (!spec)
                return NULL;
        task_spec_free(spec->task);
        text_list_free(spec->after);
        free(spec);
        return NULL;
}

static int parse_priority(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        double number;
        if (json_get_double(value, -QUEUE_PRIORITY_MAX, QUEUE_PRIORITY_MAX, &number) < 0 ||
            floor(number) < number)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be an integer between -%d and %d",
                                QUEUE_PRIORITY_MAX,
                                QUEUE_PRIORITY_MAX);
        *(int64_t *) target = (int64_t) number;
        return 0;
}

static int parse_retry(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "max", json_field_u64, offsetof(QueueSpec, retry_max), .max = QUEUE_RETRY_MAX },
                { "backoff",
                  json_field_seconds,
                  offsetof(QueueSpec, retry_backoff_usec),
                  .max = QUEUE_BACKOFF_SEC_MAX },
                {},
        };
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, path, target, reterr_problem);
}

static int compare_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool has_doubles(char *const *list, size_t n) {
        char *sorted[QUEUE_AFTER_MAX];
        memcpy(sorted, list, n * sizeof(char *));
        qsort(sorted, n, sizeof(char *), compare_text);
        for (size_t i = 1; i < n; i++)
                if (streq(sorted[i - 1], sorted[i]))
                        return true;
        return false;
}

static int check_after(char *const *after, const char *path, Problem *problem) {
        size_t n = text_list_count(after);
        for (size_t i = 0; i < n; i++) {
                char element[PROBLEM_FIELD_SIZE];
                json_pointer_index(element, path, i);
                if (!task_id_valid(after[i]))
                        return problem_set(problem, 400, element, "is no id of a task");
        }
        return has_doubles(after, n) ? problem_set(problem, 400, path, "names a task twice") : 0;
}

static int parse_after(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char ***after = target;
        int r = json_field_strings(value, field, path, target, reterr_problem);
        return r < 0 ? r : check_after(*after, path, reterr_problem);
}

static const JsonField queue_fields[] = {
        { "retry", parse_retry, 0 },
        { "priority", parse_priority, offsetof(QueueSpec, priority) },
        { "retry_on_lost", json_field_bool, offsetof(QueueSpec, retry_on_lost) },
        { "after", parse_after, offsetof(QueueSpec, after), .min = 1, .max = QUEUE_AFTER_MAX },
        {},
};

/* Moves the queue's members from BODY to an object of their own. */
static int split_body(json_object *body, json_object *ret_own) {
        for (size_t i = 0; i < sizeof(queue_members) / sizeof(*queue_members); i++) {
                json_object *value;
                if (!json_object_object_get_ex(body, queue_members[i], &value))
                        continue;
                if (json_object_object_add(ret_own, queue_members[i], json_object_get(value)) < 0) {
                        json_object_put(value);
                        return -ENOMEM;
                }
                json_object_object_del(body, queue_members[i]);
        }
        return 0;
}

static int refuse_own_labels(const TaskSpec *spec, Problem *problem) {
        for (char *const *label = spec->labels; label && *label; label++)
                if (text_after(*label, QUEUE_LABEL_PREFIX))
                        return problem_set(
                                        problem,
                                        400,
                                        "/labels",
                                        "labels that begin with \"" QUEUE_LABEL_PREFIX "\" are the queue's");
        if (text_list_count(spec->labels) == TASK_LABELS_MAX) /* one more goes to the runner */
                return problem_set(
                                problem, 400, "/labels", "must have at most %d members", TASK_LABELS_MAX - 1);
        return 0;
}

int queue_spec_parse(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                QueueSpec **ret,
                Problem *reterr_problem) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = calloc(1, sizeof(*spec));
        _cleanup_(json_putp) json_object *own = json_object_new_object();
        if (!spec || !own)
                return problem_from_errno(reterr_problem, ENOMEM);
        spec->retry_backoff_usec = RETRY_BACKOFF_DEFAULT_USEC;
        spec->retry_on_lost = true;

        if (!json_object_is_type(body, json_type_object))
                return problem_set(reterr_problem, 400, "", "must be an object");
        int r = split_body(body, own);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = json_dispatch(own, queue_fields, JSON_UNKNOWN_REFUSED, "", spec, reterr_problem);
        if (r >= 0)
                r = task_spec_parse(body, task_id, defaults, &spec->task, reterr_problem);
        if (r >= 0)
                r = refuse_own_labels(spec->task, reterr_problem);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(spec);
        return 0;
}

static bool after_equal(char *const *a, char *const *b) {
        size_t n = text_list_count(a);
        if (text_list_count(b) != n)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!streq(a[i], b[i]))
                        return false;
        return true;
}

bool queue_spec_equal(const QueueSpec *a, const QueueSpec *b) {
        return a->retry_max == b->retry_max && a->retry_backoff_usec == b->retry_backoff_usec &&
                        a->priority == b->priority && a->retry_on_lost == b->retry_on_lost &&
                        after_equal(a->after, b->after) && task_spec_equal(a->task, b->task);
}

static int add_retry(json_object *object, const QueueSpec *spec) {
        _cleanup_(json_putp) json_object *retry = json_object_new_object();
        int r = retry ? json_add_u64(retry, "max", spec->retry_max) : -ENOMEM;
        if (r >= 0)
                r = json_add_double(
                                retry, "backoff", (double) spec->retry_backoff_usec / (double) USEC_PER_SEC);
        return r < 0 ? r : json_add(object, "retry", TAKE_PTR(retry));
}

int queue_spec_to_stored(const QueueSpec *spec, json_object *body, char **ret) {
        json_object *resources;
        json_object_object_del(body, "task_id");
        json_object_object_del(body, "when_full");
        int r = resources_to_json(&spec->task->resources, &resources);
        if (r >= 0)
                r = json_add(body, "resources", resources);
        if (r >= 0)
                r = add_retry(body, spec);
        if (r >= 0)
                r = json_add_i64(body, "priority", spec->priority);
        if (r >= 0)
                r = json_add_bool(body, "retry_on_lost", spec->retry_on_lost);
        if (r >= 0 && spec->after)
                r = json_add_strings(body, "after", spec->after);
        if (r >= 0 && spec->task->cores_by_default)
                r = json_add_bool(body, CORES_BY_DEFAULT, true);
        if (r >= 0 && spec->task->memory_by_default)
                r = json_add_bool(body, MEMORY_BY_DEFAULT, true);
        return r < 0 ? r : json_format(body, ret, NULL);
}

static int add_queue_label(json_object *body, const char *queue_id) {
        json_object *labels;
        if (json_object_object_get_ex(body, "labels", &labels))
                return json_add_string(labels, QUEUE_LABEL, queue_id);
        labels = json_object_new_object();
        int r = labels ? json_add_string(labels, QUEUE_LABEL, queue_id) : -ENOMEM;
        if (r < 0) {
                json_object_put(labels);
                return r;
        }
        return json_add(body, "labels", labels);
}

/* Whether BODY has NAME set, which is taken out. */
static bool take_flag(json_object *body, const char *name) {
        bool is_set = json_object_get_boolean(json_object_object_get(body, name));
        json_object_object_del(body, name);
        return is_set;
}

static int parse_stored_body(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                QueueSpec **ret,
                Problem *reterr_problem) {
        if (!json_object_is_type(body, json_type_object))
                return -EINVAL;
        bool cores_by_default = take_flag(body, CORES_BY_DEFAULT);
        bool memory_by_default = take_flag(body, MEMORY_BY_DEFAULT);
        QueueSpec *spec = NULL;
        int r = queue_spec_parse(body, task_id, defaults, &spec, reterr_problem);
        if (r < 0)
                return r;
        assert(spec);
        spec->task->cores_by_default = cores_by_default;
        spec->task->memory_by_default = memory_by_default;
        *ret = spec;
        return 0;
}

static int format_for_runner(json_object *body, const char *queue_id, char **ret) {
        int r = add_queue_label(body, queue_id);
        if (r >= 0)
                r = json_add_string(body, "when_full", "reject");
        return r < 0 ? r : json_format(body, ret, NULL);
}

int queue_spec_parse_stored(
                const char *stored,
                const char *task_id,
                const TaskDefaults *defaults,
                const char *queue_id,
                QueueSpec **ret,
                char **ret_body) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *body = NULL;
        Problem problem = {};
        int r = json_parse(stored, strlen(stored), &body, &problem);
        if (r >= 0)
                r = parse_stored_body(body, task_id, defaults, &spec, &problem);
        if (r >= 0 && ret_body)
                r = format_for_runner(body, queue_id, ret_body);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(spec);
        return 0;
}
