/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/emcee.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/worker-id.h"

/* ---- addresses ---- */

/* The next part of *AT between colons, or NULL. */
static const char *next_part(const char **at, size_t *ret_size) {
        const char *part = *at + strspn(*at, ":");
        *ret_size = strcspn(part, ":");
        *at = part + *ret_size;
        return *ret_size > 0 ? part : NULL;
}

/* A Swift Int: an optional sign and decimal digits, in 64 bits. */
static int parse_int(const char *text, size_t size, int64_t *ret) {
        bool negative = *text == '-';
        int64_t value = 0;
        size_t i = negative || *text == '+';
        if (i == size)
                return -EINVAL;
        for (; i < size; i++) {
                int digit = text[i] - '0';
                if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, negative ? -digit : digit, &value))
                        return -EINVAL;
        }
        *ret = value;
        return 0;
}

int emcee_address_parse(const char *text, char **ret, int64_t *ret_port) {
        size_t host_size, port_size, more_size;
        const char *host = next_part(&text, &host_size), *port_text = next_part(&text, &port_size);
        int64_t port;
        char *address;
        if (!host || !port_text || next_part(&text, &more_size) || host_size > EMCEE_ADDRESS_MAX ||
            parse_int(port_text, port_size, &port) < 0)
                return -EINVAL;
        if (text_format(&address, "%.*s:%" PRId64, (int) host_size, host, port) < 0)
                return -ENOMEM;
        *ret = address;
        if (ret_port)
                *ret_port = port;
        return 0;
}

static int json_field_address(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        char **address = target, *parsed;
        _cleanup_(freep) char *text = NULL;
        int r = json_field_string(value, field, field_path, &text, reterr_problem);
        if (r < 0)
                return r;
        r = emcee_address_parse(text, &parsed, NULL);
        if (r == -EINVAL)
                return problem_set(reterr_problem, 400, field_path, "must be host:port");
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        free(*address);
        *address = parsed;
        return 0;
}

/* ---- sets ---- */

/* The string at I in ARRAY; NULL, and the problem filled, when there is none that could be an id. */
static const char *get_id(json_object *array, size_t i, const char *field_path, Problem *reterr_problem) {
        json_object *item = json_object_array_get_idx(array, i);
        if (json_object_is_type(item, json_type_string) && json_object_get_string_len(item) <= WORKER_ID_MAX)
                return json_object_get_string(item);

        char item_path[PROBLEM_FIELD_SIZE];
        json_pointer_index(item_path, field_path, i);
        (void) problem_set(
                        reterr_problem,
                        400,
                        item_path,
                        "must be a string of at most %d bytes",
                        WORKER_ID_MAX);
        return NULL;
}

static int json_field_worker_set(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        (void) field;
        WorkerSet **set = target, *parsed;
        if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) > WORKER_SET_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be an array of at most %d strings",
                                WORKER_SET_MAX);
        size_t n = json_object_array_length(value);
        _cleanup_(freep) const char **ids = calloc(n + 1, sizeof(char *));
        if (!ids)
                return problem_from_errno(reterr_problem, -ENOMEM);
        for (size_t i = 0; i < n; i++) {
                ids[i] = get_id(value, i, field_path, reterr_problem);
                if (!ids[i])
                        return -EINVAL;
        }
        int r = worker_set_new(ids, n, &parsed);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        worker_set_unref(*set);
        *set = parsed;
        return 0;
}

static int add_worker_set(json_object *object, const char *key, const WorkerSet *set) {
        _cleanup_(json_putp) json_object *array = json_object_new_array();
        if (!array)
                return -ENOMEM;
        for (size_t i = 0; i < set->n_ids; i++) {
                int r = json_append(array, json_object_new_string(set->ids[i]));
                if (r < 0)
                        return r;
        }
        return json_add(object, key, TAKE_PTR(array));
}

/* ---- bodies in general ---- */

int emcee_error_format(const char *path, const Problem *problem, char **ret) {
        const char *field = problem->field, *separator = *field ? ": " : "";
        return text_format(
                        ret,
                        "Failed to process request with path \"%s\", error: \"%s%s%s\"",
                        path,
                        field,
                        separator,
                        problem->detail);
}

int emcee_void_format(json_object **ret) {
        *ret = json_object_new_object();
        return *ret ? 0 : -ENOMEM;
}

/* What answers hold. KIND says which of several it is; only one is right in each place. */
typedef struct Answer {
        char *kind;
        char *version;
        WorkerSet *workers;
} Answer;

static void answer_done(Answer *answer) {
        free(answer->kind);
        free(answer->version);
        worker_set_unref(answer->workers);
}

static int answer_parse(
                json_object *object,
                const JsonField *fields,
                const char *want,
                Answer *answer,
                Problem *reterr_problem) {
        int r = json_dispatch(object, fields, JSON_UNKNOWN_IGNORED, "", answer, reterr_problem);
        if (r < 0)
                return r;
        if (!streq(answer->kind, want)) {
                char field_path[PROBLEM_FIELD_SIZE];
                json_pointer_join(field_path, "", fields[0].name);
                return problem_set(reterr_problem, 400, field_path, "must be \"%s\"", want);
        }
        return 0;
}

/* ---- /queueVersion ---- */

int emcee_queue_version_format(const char *version, json_object **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object)
                return -ENOMEM;
        int r = json_add_string(object, "responseType", "queueVersion");
        if (r >= 0)
                r = json_add_string(object, "version", version);
        if (r >= 0)
                *ret = TAKE_PTR(object);
        return r;
}

int emcee_queue_version_parse(json_object *answer, char **ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "responseType", json_field_string, offsetof(Answer, kind), true, 0, 64 },
                { "version", json_field_string, offsetof(Answer, version), true, 0, EMCEE_VERSION_MAX },
                {},
        };
        _cleanup_(answer_done) Answer parsed = {};
        int r = answer_parse(answer, fields, "queueVersion", &parsed, reterr_problem);
        if (r >= 0)
                *ret = TAKE_PTR(parsed.version);
        return r;
}

/* ---- /workerIds ---- */

int emcee_worker_ids_format(const WorkerSet *workers, json_object **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object)
                return -ENOMEM;
        int r = add_worker_set(object, "workerIds", workers);
        if (r >= 0)
                *ret = TAKE_PTR(object);
        return r;
}

int emcee_worker_ids_parse(json_object *answer, WorkerSet **ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "workerIds", json_field_worker_set, 0, true },
                {},
        };
        _cleanup_(worker_set_unrefp) WorkerSet *workers = NULL;
        int r = json_dispatch(answer, fields, JSON_UNKNOWN_IGNORED, "", &workers, reterr_problem);
        if (r >= 0)
                *ret = TAKE_PTR(workers);
        return r;
}

/* ---- /workersToUtilize ---- */

int emcee_workers_to_utilize_format(const SharingQueue *asker, json_object **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *info = json_object_new_object();
        int r = object && info ? 0 : -ENOMEM;
        if (r >= 0)
                r = json_add_string(info, "queueAddress", asker->address);
        if (r >= 0)
                r = json_add_string(info, "queueVersion", asker->version);
        if (r >= 0)
                r = json_add(object, "queueInfo", TAKE_PTR(info));
        if (r >= 0)
                r = add_worker_set(object, "workerIds", asker->workers);
        if (r >= 0)
                *ret = TAKE_PTR(object);
        return r;
}

static int json_field_queue_info(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "queueAddress",
                  json_field_address,
                  offsetof(SharingQueue, address),
                  true,
                  0,
                  EMCEE_ADDRESS_MAX },
                { "queueVersion",
                  json_field_string,
                  offsetof(SharingQueue, version),
                  true,
                  0,
                  EMCEE_VERSION_MAX },
                {},
        };
        (void) field;
        return json_dispatch(value, fields, JSON_UNKNOWN_IGNORED, field_path, target, reterr_problem);
}

int emcee_workers_to_utilize_parse(json_object *request, SharingQueue *ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "queueInfo", json_field_queue_info, 0, true },
                { "workerIds", json_field_worker_set, offsetof(SharingQueue, workers), true },
                {},
        };
        _cleanup_(sharing_queue_done) SharingQueue asker = {};
        int r = json_dispatch(request, fields, JSON_UNKNOWN_IGNORED, "", &asker, reterr_problem);
        if (r < 0)
                return r;
        *ret = asker;
        asker = (SharingQueue) {};
        return 0;
}

int emcee_share_format(const WorkerSet *share, json_object **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object)
                return -ENOMEM;
        int r = json_add_string(object, "caseId", "workersToUtilize");
        if (r >= 0)
                r = add_worker_set(object, "workerIds", share);
        if (r >= 0)
                *ret = TAKE_PTR(object);
        return r;
}

int emcee_share_parse(json_object *answer, WorkerSet **ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "caseId", json_field_string, offsetof(Answer, kind), true, 0, 64 },
                { "workerIds", json_field_worker_set, offsetof(Answer, workers), true },
                {},
        };
        _cleanup_(answer_done) Answer parsed = {};
        int r = answer_parse(answer, fields, "workersToUtilize", &parsed, reterr_problem);
        if (r >= 0)
                *ret = TAKE_PTR(parsed.workers);
        return r;
}

/* ---- /toggleWorkersSharing ---- */

int emcee_toggle_parse(json_object *request, bool *ret_enabled, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "status", json_field_string, 0, true, 0, 64 },
                {},
        };
        _cleanup_(freep) char *status = NULL;
        int r = json_dispatch(request, fields, JSON_UNKNOWN_IGNORED, "", &status, reterr_problem);
        if (r < 0)
                return r;
        if (!streq(status, "enabled") && !streq(status, "disabled"))
                return problem_set(reterr_problem, 400, "/status", "must be \"enabled\" or \"disabled\"");
        *ret_enabled = streq(status, "enabled");
        return 0;
}

/* ---- /workerStatus ---- */

EmceeWorkerStatus *emcee_worker_status_free(EmceeWorkerStatus *workers, size_t n) {
        for (size_t i = 0; workers && i < n; i++) {
                free(workers[i].id);
                text_list_free(workers[i].buckets);
        }
        free(workers);
        return NULL;
}

static int append_status(json_object *array, const EmceeWorkerStatus *worker) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object)
                return -ENOMEM;
        int r = json_add_bool(object, "registered", worker->registered);
        if (r >= 0)
                r = json_add_bool(object, "disabled", worker->disabled);
        if (r >= 0)
                r = json_add_bool(object, "silent", worker->silent);
        if (r >= 0)
                r = json_add_string(
                                object,
                                "workerUtilizationPermission",
                                worker->permitted ? "allowedToUtilize" : "notAllowedToUtilize");
        if (r >= 0)
                r = json_add_strings(object, "bucketIdsBeingProcessed", worker->buckets);
        if (r >= 0)
                r = json_append(array, json_object_new_string(worker->id));
        if (r >= 0)
                r = json_append(array, TAKE_PTR(object));
        return r;
}

int emcee_worker_status_format(const EmceeWorkerStatus *workers, size_t n, json_object **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *array = json_object_new_array();
        if (!object || !array)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int r = append_status(array, &workers[i]);
                if (r < 0)
                        return r;
        }
        int r = json_add(object, "workerAliveness", TAKE_PTR(array));
        if (r >= 0)
                *ret = TAKE_PTR(object);
        return r;
}

/* ---- who daggyds are ---- */

int emcee_identity_format(const char *id, const char *address, char **ret) {
        return text_format(ret, "%s %s", id, address);
}

int emcee_identity_parse(const char *value, char ret_id[static SHARING_QUEUE_ID_SIZE], char **ret_address) {
        size_t n = strspn(value, "0123456789abcdef");
        if (n != SHARING_QUEUE_ID_SIZE - 1 || value[n] != ' ' || strlen(value + n + 1) > EMCEE_ADDRESS_MAX)
                return -EINVAL;
        int r = emcee_address_parse(value + n + 1, ret_address, NULL);
        if (r < 0)
                return r;
        memcpy(ret_id, value, n);
        ret_id[n] = '\0';
        return 0;
}
