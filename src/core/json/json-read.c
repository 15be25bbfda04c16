/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/json/json.h"

/* The row for KEY in TABLE or a table that it includes. Moves *BASE to where that row's offset counts from.
 */
static const JsonField *find_field(const JsonField *table, const char *key, char **base) {
        for (const JsonField *row = table; row->name || row->included; row++) {
                char *included_base = *base + row->offset;
                const JsonField *found;

                if (!row->included) {
                        if (streq(row->name, key))
                                return row;
                        continue;
                }
                found = find_field(row->included, key, &included_base);
                if (found) {
                        *base = included_base;
                        return found;
                }
        }
        return NULL;
}

static int dispatch_member(
                const char *key,
                json_object *value,
                const JsonField *table,
                JsonUnknown unknown,
                const char *path,
                void *base,
                Problem *reterr_problem) {
        char field_path[PROBLEM_FIELD_SIZE], *field_base = base;
        const JsonField *field = find_field(table, key, &field_base);

        if (!field && unknown == JSON_UNKNOWN_IGNORED)
                return 0;

        json_pointer_join(field_path, path, key);
        if (!field)
                return problem_set(reterr_problem, 400, field_path, "unknown key");
        if (json_object_is_type(value, json_type_null))
                return problem_set(reterr_problem, 400, field_path, "must not be null");
        return field->parse(value, field, field_path, field_base + field->offset, reterr_problem);
}

static int check_required(
                json_object *object,
                const JsonField *table,
                const char *path,
                Problem *reterr_problem) {
        for (const JsonField *row = table; row->name || row->included; row++) {
                char field_path[PROBLEM_FIELD_SIZE];

                if (row->included) {
                        int r = check_required(object, row->included, path, reterr_problem);
                        if (r < 0)
                                return r;
                } else if (row->required && !json_object_object_get_ex(object, row->name, NULL)) {
                        json_pointer_join(field_path, path, row->name);
                        return problem_set(reterr_problem, 400, field_path, "is required");
                }
        }
        return 0;
}

int json_dispatch(
                json_object *object,
                const JsonField *table,
                JsonUnknown unknown,
                const char *path,
                void *base,
                Problem *reterr_problem) {
        int r;

        if (!json_object_is_type(object, json_type_object))
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                path[0] ? "must be an object" : "must be a JSON object");

        json_object_object_foreach(object, key, value) {
                r = dispatch_member(key, value, table, unknown, path, base, reterr_problem);
                if (r < 0)
                        return r;
        }

        return check_required(object, table, path, reterr_problem);
}

int json_field_bool(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        if (!json_object_is_type(value, json_type_boolean))
                return problem_set(reterr_problem, 400, field_path, "must be true or false");

        *(bool *) target = json_object_get_boolean(value);
        return 0;
}

/* A table's bound, which is a double, as an integer. */
static uint64_t bound_to_u64(double bound) {
        return bound < 18446744073709551616.0 ? (uint64_t) bound : UINT64_MAX;
}

int json_field_u64(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        uint64_t min = bound_to_u64(field->min), max = bound_to_u64(field->max);

        int r = json_get_u64(value, min, max, target);
        if (r >= 0)
                return 0;
        return problem_set(
                        reterr_problem,
                        400,
                        field_path,
                        "must be an integer between %" PRIu64 " and %" PRIu64,
                        min,
                        max);
}

int json_field_seconds(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        double seconds;

        int r = json_get_double(value, field->min, field->max, &seconds);
        if (r >= 0)
                r = usec_from_seconds(seconds, field->max, target);
        if (r >= 0)
                return 0;
        return problem_set(
                        reterr_problem,
                        400,
                        field_path,
                        "must be a number of seconds between %.15g and %.15g",
                        field->min,
                        field->max);
}

int json_field_string(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        size_t min = (size_t) bound_to_u64(field->min), max = (size_t) bound_to_u64(field->max), size;
        char **string = target, *copy;

        if (!json_object_is_type(value, json_type_string))
                return problem_set(reterr_problem, 400, field_path, "must be a string");
        size = text_n_characters(json_object_get_string(value));
        if (size == 0 && min == 1)
                return problem_set(reterr_problem, 400, field_path, "must not be empty");
        if (size < min || size > max)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be a string of %zu to %zu characters",
                                min,
                                max);

        copy = strdup(json_object_get_string(value));
        if (!copy)
                return problem_from_errno(reterr_problem, -ENOMEM);

        free(*string);
        *string = copy;
        return 0;
}

/* Copies the strings of ARRAY to LIST, which has room for them and is zeroed. */
static int copy_strings(json_object *array, const char *field_path, char **list, Problem *reterr_problem) {
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                json_object *item = json_object_array_get_idx(array, i);

                if (!json_object_is_type(item, json_type_string)) {
                        char item_path[PROBLEM_FIELD_SIZE];
                        json_pointer_index(item_path, field_path, i);
                        return problem_set(reterr_problem, 400, item_path, "must be a string");
                }

                list[i] = strdup(json_object_get_string(item));
                if (!list[i])
                        return problem_from_errno(reterr_problem, -ENOMEM);
        }
        return 0;
}

int json_field_strings(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        _cleanup_(text_list_freep) char **list = NULL;
        uint64_t min = bound_to_u64(field->min), max = bound_to_u64(field->max);
        char ***strings = target;

        if (!json_object_is_type(value, json_type_array))
                return problem_set(reterr_problem, 400, field_path, "must be an array of strings");
        size_t n = json_object_array_length(value);
        if (n < min || n > max)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be an array of %" PRIu64 " to %" PRIu64 " strings",
                                min,
                                max);

        assert(n < SIZE_MAX);
        list = calloc(n + 1, sizeof(char *));
        if (!list)
                return problem_from_errno(reterr_problem, -ENOMEM);
        int r = copy_strings(value, field_path, list, reterr_problem);
        if (r < 0)
                return r;

        text_list_free(*strings);
        *strings = TAKE_PTR(list);
        return 0;
}

/* json_parse() reads an integer beyond 64 bits as the nearest end of its range and tells nobody: these two
 * values therefore count as out of range themselves. */
static bool is_clamped(json_object *integer) {
        return json_object_get_uint64(integer) == UINT64_MAX || json_object_get_int64(integer) == INT64_MIN;
}

/* To JSON Schema "16.0" and "1.6e1" are integers, too. */
static int double_to_u64(double number, uint64_t *ret) {
        if (floor(number) < number)
                return -EINVAL;
        if (!isfinite(number) || number < 0 || number >= 18446744073709551616.0)
                return -ERANGE;

        *ret = (uint64_t) number;
        return 0;
}

int json_get_u64(json_object *value, uint64_t min, uint64_t max, uint64_t *ret) {
        uint64_t integer;
        int r;

        if (json_object_is_type(value, json_type_double)) {
                r = double_to_u64(json_object_get_double(value), &integer);
                if (r < 0)
                        return r;
        } else if (!json_object_is_type(value, json_type_int))
                return -EINVAL;
        else if (json_object_get_int64(value) < 0 || is_clamped(value))
                return -ERANGE;
        else
                integer = json_object_get_uint64(value);
        if (integer < min || integer > max)
                return -ERANGE;

        *ret = integer;
        return 0;
}

int json_get_double(json_object *value, double min, double max, double *ret) {
        if (json_object_is_type(value, json_type_int)) {
                if (is_clamped(value))
                        return -ERANGE;
        } else if (!json_object_is_type(value, json_type_double))
                return -EINVAL;

        double number = json_object_get_double(value);
        if (!isfinite(number) || number < min || number > max)
                return -ERANGE;

        *ret = number;
        return 0;
}

/* Adds the SIZE bytes at BYTES to BUFFER if all of them fit, or none. */
static bool pointer_append(
                char buffer[static PROBLEM_FIELD_SIZE],
                size_t *at,
                const char *bytes,
                size_t size) {
        if (size > PROBLEM_FIELD_SIZE - 1 - *at)
                return false;
        memcpy(buffer + *at, bytes, size);
        *at += size;
        return true;
}

void json_pointer_join(char buffer[static PROBLEM_FIELD_SIZE], const char *path, const char *key) {
        size_t at = text_cut(path, PROBLEM_FIELD_SIZE - 1);

        memmove(buffer, path, at); /* PATH may be BUFFER */
        bool fits = pointer_append(buffer, &at, "/", 1);
        while (fits && *key) {
                size_t size = 1;

                while (((unsigned char) key[size] & 0xc0) == 0x80)
                        size++;
                if (*key == '~')
                        fits = pointer_append(buffer, &at, "~0", 2);
                else if (*key == '/')
                        fits = pointer_append(buffer, &at, "~1", 2);
                else
                        fits = pointer_append(buffer, &at, key, size);
                key += size;
        }
        buffer[at] = '\0';
}

void json_pointer_index(char buffer[static PROBLEM_FIELD_SIZE], const char *path, size_t index) {
        char key[sizeof("18446744073709551615")];

        (void) snprintf(key, sizeof(key), "%zu", index);
        json_pointer_join(buffer, path, key);
}
