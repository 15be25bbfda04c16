/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The two bodies by which a task is submitted, each with its table of fields. Whether the account may be used
 * and whether the host could ever satisfy the request is judged elsewhere. */
#include "core/task/task-spec.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/json/pairs.h"
#include "core/task/trace-context.h"
#include "core/text/base64.h"
#include "core/text/unit-name.h"

#define USER_NAME_MAX         32
#define LABEL_KEY_MAX         63
#define LABEL_VALUE_MAX       255
#define WORKING_DIRECTORY_MAX 4095

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static const char *const when_full_names[] = {
        [WHEN_FULL_QUEUE] = "queue",
        [WHEN_FULL_REJECT] = "reject",
};
static_assert(sizeof(when_full_names) / sizeof(when_full_names[0]) == _WHEN_FULL_MAX, "each way has a name");

static bool environment_name_valid(const char *name) {
        return *name && !strchr(name, '=');
}

static bool label_key_valid(const char *key) {
        size_t n = strspn(key, LETTERS DIGITS "._/-");

        return n > 0 && n <= LABEL_KEY_MAX && key[n] == 0;
}

static bool user_name_valid(const char *name) {
        size_t n = strspn(name, LETTERS DIGITS "._-");

        if (n == 0 || strchr(DIGITS ".-", name[0]))
                return false;
        if (name[n] == '$')
                n++;

        return n <= USER_NAME_MAX && name[n] == 0;
}

static int parse_environment(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        static const PairsRules rules = {
                .n_pairs_max = TASK_ENVIRONMENT_MAX,
                .value_max = SIZE_MAX,
                .key_valid = environment_name_valid,
                .key_refusal = "the name of a variable must not be empty or hold \"=\"",
        };

        return pairs_parse(value, &rules, path, target, reterr_problem);
}

int task_labels_parse(
                json_object *value,
                size_t n_max,
                const char *path,
                char ***ret,
                Problem *reterr_problem) {
        const PairsRules rules = {
                .n_pairs_max = n_max,
                .value_max = LABEL_VALUE_MAX,
                .key_valid = label_key_valid,
                .key_refusal = "the key of a label must be 1 to 63 of A-Za-z0-9._/-",
        };

        return pairs_parse(value, &rules, path, ret, reterr_problem);
}

static int parse_labels(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        return task_labels_parse(value, TASK_LABELS_MAX, path, target, reterr_problem);
}

static int parse_timeout(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        usec_t *timeout_usec = target;
        double seconds;

        int r = json_field_seconds(value, field, path, timeout_usec, reterr_problem);
        if (r < 0)
                return r;

        /* Something above 0 that rounds to 0 is the shortest timeout there is, not none. */
        if (*timeout_usec == 0)
                *timeout_usec = json_get_double(value, 0, 0, &seconds) >= 0 ? USEC_INFINITY : 1;

        return 0;
}

static int parse_working_directory(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char **directory = target;

        int r = json_field_string(value, field, path, directory, reterr_problem);
        if (r < 0)
                return r;
        if ((*directory)[0] != '/')
                return problem_set(reterr_problem, 400, path, "must be an absolute path");

        return 0;
}

static int parse_user(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char **user = target;

        int r = json_field_string(value, field, path, user, reterr_problem);
        if (r < 0)
                return r;
        if (!user_name_valid(*user))
                return problem_set(reterr_problem, 400, path, "must be the name of an account");

        return 0;
}

/* Reads "0022". */
static int parse_octal(const char *s, mode_t *ret) {
        size_t n = strspn(s, "01234567");
        mode_t mode = 0;

        if (n < 1 || n > 4 || s[n])
                return -EINVAL;

        for (; *s; s++)
                mode = mode << 3 | (mode_t) (*s - '0');
        if (mode > 0777)
                return -ERANGE;

        *ret = mode;
        return 0;
}

static int parse_umask(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        mode_t *mode = target;
        uint64_t number;

        if (json_object_is_type(value, json_type_string) &&
            parse_octal(json_object_get_string(value), mode) >= 0)
                return 0;

        if (json_get_u64(value, 0, 0777, &number) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be octal digits in a string such as \"0022\", or an integer up to 511");

        *mode = (mode_t) number;
        return 0;
}

/* TARGET is the whole TaskSpec: there are two forms to keep. */
static int parse_properties(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        TaskSpec *spec = target;

        int r = task_properties_parse(value, path, &spec->parsed_properties, reterr_problem);
        if (r < 0)
                return r;

        spec->properties = json_object_get(value);
        return 0;
}

static int parse_when_full(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        WhenFull *when_full = target;

        if (json_object_is_type(value, json_type_string))
                for (size_t i = 0; i < _WHEN_FULL_MAX; i++)
                        if (streq(json_object_get_string(value), when_full_names[i])) {
                                *when_full = (WhenFull) i;
                                return 0;
                        }

        return problem_set(reterr_problem, 400, path, "must be \"queue\" or \"reject\"");
}

static int parse_stdin(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        if (!json_object_is_type(value, json_type_string))
                return problem_set(reterr_problem, 400, path, "must be a string");
        int r = text_append_bytes(
                        target, json_object_get_string(value), (size_t) json_object_get_string_len(value));
        return r < 0 ? problem_from_errno(reterr_problem, r) : 0;
}

static int parse_stdin_base64(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        int r = json_object_is_type(value, json_type_string) ?
                        base64_decode(json_object_get_string(value),
                                      (size_t) json_object_get_string_len(value),
                                      target) :
                        -EINVAL;
        if (r == -EINVAL)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be base64 with padding, without line breaks");
        return r < 0 ? problem_from_errno(reterr_problem, r) : 0;
}

/* What a task is when its body says nothing, but for the strings and lists that may be absent. */
static int task_spec_new(const TaskDefaults *defaults, TaskSpec **ret) {
        _cleanup_(task_spec_freep) TaskSpec *spec = calloc(1, sizeof(TaskSpec));
        if (!spec)
                return -ENOMEM;

        *spec = (TaskSpec) {
                .resources = defaults->resources,
                .cores_by_default = true,
                .memory_by_default = true,
                .timeout_usec = USEC_INFINITY,
                .grace_usec = TASK_GRACE_DEFAULT_USEC,
                .umask = TASK_UMASK_DEFAULT,
                .tasks_max = TASK_TASKS_MAX_DEFAULT,
                .when_full = WHEN_FULL_QUEUE,
        };

        *ret = TAKE_PTR(spec);
        return 0;
}

/* Settles which id counts: that of the path, or else the body's. */
static int settle_task_id(TaskSpec *spec, const char *task_id, Problem *reterr_problem) {
        const char *given = spec->task_id ?: task_id;

        if (!given)
                return 0;
        if (!task_id_valid(given))
                return problem_set(
                                reterr_problem,
                                400,
                                spec->task_id ? "/task_id" : NULL,
                                "a task id must be 1 to %d of A-Za-z0-9._:-, no \".\" or \"-\" first",
                                TASK_ID_MAX);
        if (spec->task_id && task_id && !streq(spec->task_id, task_id))
                return problem_set(reterr_problem, 400, "/task_id", "must be the id of the path");
        if (spec->task_id)
                return 0;

        spec->task_id = strdup(task_id);
        return spec->task_id ? 0 : problem_from_errno(reterr_problem, -ENOMEM);
}

int task_spec_parse(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                TaskSpec **ret,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "task_id", json_field_string, offsetof(TaskSpec, task_id), false, 1, TASK_ID_MAX },
                { "command", json_field_strings, offsetof(TaskSpec, command), true, 1, TASK_COMMAND_MAX },
                { "environment", parse_environment, offsetof(TaskSpec, environment), false, 0, 0 },
                { "resources", resources_field_request, offsetof(TaskSpec, resources), false, 0, 0 },
                { "timeout",
                  parse_timeout,
                  offsetof(TaskSpec, timeout_usec),
                  false,
                  0,
                  TASK_TIMEOUT_SEC_MAX },
                { "grace", json_field_seconds, offsetof(TaskSpec, grace_usec), false, 0, TASK_GRACE_SEC_MAX },
                { "working_directory",
                  parse_working_directory,
                  offsetof(TaskSpec, working_directory),
                  false,
                  1,
                  WORKING_DIRECTORY_MAX },
                { "user", parse_user, offsetof(TaskSpec, user), false, 1, USER_NAME_MAX },
                { "umask", parse_umask, offsetof(TaskSpec, umask), false, 0, 0 },
                { "stdin", parse_stdin, offsetof(TaskSpec, standard_input), false, 0, 0 },
                { "stdin_base64", parse_stdin_base64, offsetof(TaskSpec, standard_input), false, 0, 0 },
                { "tasks_max",
                  json_field_u64,
                  offsetof(TaskSpec, tasks_max),
                  false,
                  1,
                  TASK_TASKS_MAX_LIMIT },
                { "properties", parse_properties, 0, false, 0, 0 },
                { "labels", parse_labels, offsetof(TaskSpec, labels), false, 0, 0 },
                { "when_full", parse_when_full, offsetof(TaskSpec, when_full), false, 0, 0 },
                { 0 },
        };
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;

        assert(defaults);
        assert(ret);
        assert(reterr_problem);

        int r = task_spec_new(defaults, &spec);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);

        r = json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", spec, reterr_problem);
        if (r < 0)
                return r;

        if (json_object_object_get(body, "stdin") && json_object_object_get(body, "stdin_base64"))
                return problem_set(
                                reterr_problem,
                                400,
                                "/stdin_base64",
                                "stands in place of \"stdin\", not beside it");

        json_object *resources = json_object_object_get(body, "resources");
        spec->cores_by_default = !json_object_object_get(resources, "cores");
        spec->memory_by_default = !json_object_object_get(resources, "memory_mb");
        r = settle_task_id(spec, task_id, reterr_problem);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(spec);
        return 0;
}

static int parse_whole_seconds(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        usec_t *timeout_usec = target;
        uint64_t seconds;

        if (json_get_u64(value, 0, UINT64_MAX, &seconds) < 0)
                return problem_set(reterr_problem, 400, path, "must be an integer of at least 0");

        if (seconds == 0 || __builtin_mul_overflow(seconds, USEC_PER_SEC, timeout_usec))
                *timeout_usec = USEC_INFINITY;

        return 0;
}

/* Takes over one amount as the DaggyR server gives it. */
static int set_daggyr_amount(TaskSpec *spec, const char *name, json_object *value) {
        bool is_cores = streq(name, "cores"), is_memory = streq(name, "memory_mb");
        uint64_t amount;

        if (!is_cores && !is_memory && !resource_name_valid(name))
                return 0;

        int r = json_get_u64(value, 0, is_cores ? CORES_MAX : RESOURCE_AMOUNT_MAX, &amount);
        if (r < 0)
                return r;

        if (!is_cores && !is_memory)
                return resources_named_set(&spec->resources, name, amount);
        if (is_cores && amount > 0) {
                spec->resources.cores_micro = amount * CORES_MICRO_PER_CORE;
                spec->cores_by_default = false;
        }
        if (is_memory && amount > 0) {
                spec->resources.memory_mb = amount;
                spec->memory_by_default = false;
        }

        return 0;
}

static int parse_daggyr_resources(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char member_path[PROBLEM_FIELD_SIZE];

        if (!json_object_is_type(value, json_type_object))
                return problem_set(reterr_problem, 400, path, "must be an object of integers");

        json_object_object_foreach(value, name, amount) {
                int r = set_daggyr_amount(target, name, amount);
                if (r >= 0)
                        continue;

                json_pointer_join(member_path, path, name);
                if (r == -ENOSPC)
                        return problem_set(reterr_problem, 400, member_path, "is one name too many");
                return problem_set(
                                reterr_problem,
                                400,
                                member_path,
                                "must be an integer of at least 0 and not out of range");
        }

        return 0;
}

int task_spec_parse_daggyr(
                json_object *body,
                const char *task_id,
                const TaskDefaults *defaults,
                TaskSpec **ret,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "command", json_field_strings, offsetof(TaskSpec, command), false, 0, TASK_COMMAND_MAX },
                { "environment", parse_environment, offsetof(TaskSpec, environment), false, 0, 0 },
                { "resources", parse_daggyr_resources, 0, false, 0, 0 }, /* the whole TaskSpec */
                { "timeout", parse_whole_seconds, offsetof(TaskSpec, timeout_usec), false, 0, 0 },
                { 0 },
        };
        _cleanup_(task_spec_freep) TaskSpec *spec = NULL;

        assert(task_id);
        assert(defaults);
        assert(ret);
        assert(reterr_problem);

        int r = task_spec_new(defaults, &spec);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);

        r = json_dispatch(body, fields, JSON_UNKNOWN_IGNORED, "", spec, reterr_problem);
        if (r < 0)
                return r;

        spec->task_id = strdup(task_id);
        if (!spec->task_id)
                return problem_from_errno(reterr_problem, -ENOMEM);

        if (!spec->command) {
                spec->command = calloc(1, sizeof(char *));
                if (!spec->command)
                        return problem_from_errno(reterr_problem, -ENOMEM);
        }

        *ret = TAKE_PTR(spec);
        return 0;
}

TaskSpec *task_spec_free(TaskSpec *spec) {
        if (!spec)
                return NULL;

        free(spec->task_id);
        text_list_free(spec->command);
        text_list_free(spec->environment);
        free(spec->working_directory);
        free(spec->user);
        text_done(&spec->standard_input);
        json_object_put(spec->properties);
        task_properties_free(spec->parsed_properties);
        text_list_free(spec->labels);
        free(spec);
        return NULL;
}

static bool list_equal(char *const *a, char *const *b) {
        size_t n = text_list_count(a);

        if (n != text_list_count(b))
                return false;

        for (size_t i = 0; i < n; i++)
                if (!streq(a[i], b[i]))
                        return false;

        return true;
}

/* Variables of a trace do not count: they tell who asks, and a client that asks again is another span of it.
 */
static char *const *skip_trace(char *const *entry) {
        while (entry && *entry && trace_context_has(*entry))
                entry++;

        return entry && *entry ? entry : NULL;
}

static bool environment_equal(char *const *a, char *const *b) {
        for (a = skip_trace(a), b = skip_trace(b); a && b; a = skip_trace(a + 1), b = skip_trace(b + 1))
                if (!streq(*a, *b))
                        return false;

        return !a && !b;
}

static bool bytes_equal(const Text *a, const Text *b) {
        return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* What a task got at its submission is its specification, as long as nobody says otherwise. */
static bool requests_equal(const TaskSpec *a, const TaskSpec *b) {
        Resources other = b->resources;

        if (a->cores_by_default && b->cores_by_default)
                other.cores_micro = a->resources.cores_micro;
        if (a->memory_by_default && b->memory_by_default)
                other.memory_mb = a->resources.memory_mb;

        return resources_same_request(&a->resources, &other);
}

bool task_spec_equal(const TaskSpec *a, const TaskSpec *b) {
        assert(a);
        assert(b);

        return list_equal(a->command, b->command) && environment_equal(a->environment, b->environment) &&
                        requests_equal(a, b) && a->timeout_usec == b->timeout_usec &&
                        a->grace_usec == b->grace_usec &&
                        streq_null(a->working_directory, b->working_directory) &&
                        streq_null(a->user, b->user) && a->umask == b->umask &&
                        bytes_equal(&a->standard_input, &b->standard_input) && a->tasks_max == b->tasks_max &&
                        list_equal(a->labels, b->labels) &&
                        task_properties_equal(a->parsed_properties, b->parsed_properties);
}

static size_t string_size(const char *s) {
        return s ? strlen(s) + 1 : 0;
}

static size_t list_size(char *const *list) {
        size_t size = list ? sizeof(char *) : 0;

        for (; list && *list; list++)
                size += sizeof(char *) + string_size(*list);

        return size;
}

size_t task_spec_size(const TaskSpec *spec) {
        assert(spec);

        /* json-c's form of the properties is some times larger than ours: a guess is enough. */
        return sizeof(TaskSpec) + string_size(spec->task_id) + list_size(spec->command) +
                        list_size(spec->environment) + string_size(spec->working_directory) +
                        string_size(spec->user) + spec->standard_input.allocated +
                        4 * task_properties_size(spec->parsed_properties) + list_size(spec->labels);
}
