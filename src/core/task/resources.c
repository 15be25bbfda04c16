/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/resources.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/json.h"

#define CORES_MIN 0.01

bool resource_name_valid(const char *name) {
        size_t size = strlen(name);

        if (size > RESOURCE_NAME_MAX || name[0] < 'a' || name[0] > 'z')
                return false;
        if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != size)
                return false;
        return !streq(name, "cores") && !streq(name, "memory_mb");
}

/* Index of NAME, or of where it would be inserted. */
static size_t named_find(const Resources *resources, const char *name, bool *ret_found) {
        size_t i = 0;

        while (i < resources->n_named && strcmp(resources->named[i].name, name) < 0)
                i++;
        *ret_found = i < resources->n_named && streq(resources->named[i].name, name);
        return i;
}

uint64_t resources_named_get(const Resources *resources, const char *name) {
        bool found;

        size_t i = named_find(resources, name, &found);
        return found ? resources->named[i].amount : 0;
}

int resources_named_set(Resources *resources, const char *name, uint64_t amount) {
        bool found;

        if (!resource_name_valid(name))
                return -EINVAL;

        size_t i = named_find(resources, name, &found);
        if (!found) {
                if (resources->n_named == RESOURCES_NAMED_MAX)
                        return -ENOSPC;
                memmove(resources->named + i + 1,
                        resources->named + i,
                        (resources->n_named - i) * sizeof(NamedAmount));
                resources->n_named++;
                resources->named[i] = (NamedAmount) {};
                memcpy(resources->named[i].name, name, strlen(name));
        }

        resources->named[i].amount = amount;
        return 0;
}

bool resources_equal(const Resources *a, const Resources *b) {
        if (a->cores_micro != b->cores_micro || a->memory_mb != b->memory_mb || a->n_named != b->n_named)
                return false;

        for (size_t i = 0; i < a->n_named; i++)
                if (!streq(a->named[i].name, b->named[i].name) || a->named[i].amount != b->named[i].amount)
                        return false;
        return true;
}

static bool named_fit(const Resources *want, const Resources *have) {
        for (size_t i = 0; i < want->n_named; i++)
                if (want->named[i].amount > resources_named_get(have, want->named[i].name))
                        return false;
        return true;
}

bool resources_same_request(const Resources *a, const Resources *b) {
        return a->cores_micro == b->cores_micro && a->memory_mb == b->memory_mb && named_fit(a, b) &&
                        named_fit(b, a);
}

bool resources_fit(const Resources *want, const Resources *have) {
        if (want->cores_micro > have->cores_micro || want->memory_mb > have->memory_mb)
                return false;

        return named_fit(want, have);
}

static uint64_t add_saturating(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t subtract_to_zero(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

int resources_add(const Resources *a, const Resources *b, Resources *ret) {
        Resources sum = *a;
        int r;

        sum.cores_micro = add_saturating(a->cores_micro, b->cores_micro);
        sum.memory_mb = add_saturating(a->memory_mb, b->memory_mb);
        for (size_t i = 0; i < b->n_named; i++) {
                const char *name = b->named[i].name;

                r = resources_named_set(
                                &sum, name, add_saturating(resources_named_get(a, name), b->named[i].amount));
                if (r < 0)
                        return r;
        }

        *ret = sum;
        return 0;
}

void resources_subtract(const Resources *a, const Resources *b, Resources *ret) {
        Resources rest = *a;

        rest.cores_micro = subtract_to_zero(a->cores_micro, b->cores_micro);
        rest.memory_mb = subtract_to_zero(a->memory_mb, b->memory_mb);
        for (size_t i = 0; i < rest.n_named; i++)
                rest.named[i].amount = subtract_to_zero(
                                rest.named[i].amount, resources_named_get(b, rest.named[i].name));

        *ret = rest;
}

static int parse_cores(
                json_object *value,
                const char *field_path,
                Resources *resources,
                Problem *reterr_problem) {
        double cores;

        int r = json_get_double(value, CORES_MIN, CORES_MAX, &cores);
        if (r < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be a number between %g and %d",
                                CORES_MIN,
                                CORES_MAX);

        resources->cores_micro = (uint64_t) (cores * (double) CORES_MICRO_PER_CORE + 0.5);
        return 0;
}

static int parse_integer(
                json_object *value,
                uint64_t min,
                const char *field_path,
                uint64_t *ret,
                Problem *reterr_problem) {
        int r = json_get_u64(value, min, RESOURCE_AMOUNT_MAX, ret);
        if (r < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be an integer between %" PRIu64 " and %" PRIu64,
                                min,
                                RESOURCE_AMOUNT_MAX);
        return 0;
}

int resources_parse_amount(
                const char *key,
                json_object *value,
                const char *field_path,
                Resources *resources,
                Problem *reterr_problem) {
        uint64_t amount;

        if (streq(key, "cores"))
                return parse_cores(value, field_path, resources, reterr_problem);
        if (streq(key, "memory_mb"))
                return parse_integer(value, 1, field_path, &resources->memory_mb, reterr_problem);

        if (!resource_name_valid(key))
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be named with up to %d of a-z, 0-9 and \"_\", a letter first",
                                RESOURCE_NAME_MAX);
        int r = parse_integer(value, 0, field_path, &amount, reterr_problem);
        if (r < 0)
                return r;
        r = resources_named_set(resources, key, amount);
        if (r < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "is one name too many, at most %d are possible",
                                RESOURCES_NAMED_MAX);
        return 0;
}

int resources_parse_request(
                json_object *object,
                const char *path,
                Resources *resources,
                Problem *reterr_problem) {
        Resources parsed = *resources;
        int r;

        if (!json_object_is_type(object, json_type_object))
                return problem_set(reterr_problem, 400, path, "must be an object");

        json_object_object_foreach(object, key, value) {
                char field_path[PROBLEM_FIELD_SIZE];

                json_pointer_join(field_path, path, key);
                r = resources_parse_amount(key, value, field_path, &parsed, reterr_problem);
                if (r < 0)
                        return r;
        }

        *resources = parsed;
        return 0;
}

int resources_field_request(
                json_object *object,
                const JsonField *field,
                const char *path,
                void *resources,
                Problem *reterr_problem) {
        return resources_parse_request(object, path, resources, reterr_problem);
}

int resources_to_json(const Resources *resources, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        int r = json_add_double(
                        object, "cores", (double) resources->cores_micro / (double) CORES_MICRO_PER_CORE);
        if (r < 0)
                return r;
        r = json_add_u64(object, "memory_mb", resources->memory_mb);
        if (r < 0)
                return r;
        for (size_t i = 0; i < resources->n_named; i++) {
                r = json_add_u64(object, resources->named[i].name, resources->named[i].amount);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}
