/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading goes in three steps. A scan of the text checks every token (strings, numbers, words) and all
 * limits, and counts the object members. json-c then checks the order of the tokens and builds the tree.
 * Last, a tree with fewer members than the text had tells of a duplicate key, of which json-c keeps the
 * last. */
#include "core/json.h"

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

DEFINE_POINTER_CLEANUP(json_tokener, json_tokener_free)

typedef struct JsonScan {
        const char *text;
        size_t size;
        size_t at;
        size_t n_members; /* colons outside of strings */
        size_t n_containers;
        size_t depth;
        bool after_scalar;  /* a string, number or word came last, so none may follow now */
        const char *reason; /* why the scan failed at AT */
} JsonScan;

static int scan_refuse(JsonScan *scan, const char *reason) {
        scan->reason = reason;
        return -EINVAL;
}

/* The character at AT, or NUL (which no token holds) at the end. */
static char scan_peek(const JsonScan *scan) {
        if (scan->at >= scan->size)
                return '\0';
        return scan->text[scan->at];
}

/* Reads "uXXXX" behind a backslash. */
static int scan_unicode_escape(JsonScan *scan, unsigned *ret) {
        unsigned code = 0;

        if (scan_peek(scan) != 'u')
                return scan_refuse(scan, "half of a surrogate pair");
        scan->at++;

        for (int i = 0; i < 4; i++, scan->at++) {
                char c = scan_peek(scan);

                if (c >= '0' && c <= '9')
                        code = code << 4 | (unsigned) (c - '0');
                else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
                        code = code << 4 | (unsigned) ((c | 0x20) - 'a' + 10);
                else
                        return scan_refuse(scan, "malformed \\u escape");
        }

        *ret = code;
        return 0;
}

/* AT is behind the backslash. */
static int scan_escape(JsonScan *scan) {
        unsigned code;
        int r;

        if (scan_peek(scan) != 'u') {
                if (scan_peek(scan) == '\0' || !strchr("\"\\/bfnrt", scan_peek(scan)))
                        return scan_refuse(scan, "unknown escape");
                scan->at++;
                return 0;
        }

        r = scan_unicode_escape(scan, &code);
        if (r < 0)
                return r;
        if (code == 0)
                return scan_refuse(scan, "NUL in a string");
        if (code < 0xd800 || code > 0xdfff)
                return 0;

        if (code >= 0xdc00 || scan_peek(scan) != '\\')
                return scan_refuse(scan, "half of a surrogate pair");
        scan->at++;
        r = scan_unicode_escape(scan, &code);
        if (r < 0)
                return r;
        if (code < 0xdc00 || code > 0xdfff)
                return scan_refuse(scan, "half of a surrogate pair");
        return 0;
}

/* AT is on the opening quote. */
static int scan_string(JsonScan *scan) {
        int r;

        scan->at++;
        while (scan->at < scan->size) {
                char c = scan->text[scan->at];

                if ((unsigned char) c < 0x20)
                        return scan_refuse(scan, c ? "control character in a string" : "NUL in a string");
                scan->at++;
                if (c == '"')
                        return 0;
                if (c != '\\')
                        continue;
                r = scan_escape(scan);
                if (r < 0)
                        return r;
        }

        return scan_refuse(scan, "string without end");
}

static int scan_digits(JsonScan *scan) {
        size_t start = scan->at;

        while (scan_peek(scan) >= '0' && scan_peek(scan) <= '9')
                scan->at++;
        return scan->at > start ? 0 : scan_refuse(scan, "malformed number");
}

/* AT is on the sign or the first digit. */
static int scan_number(JsonScan *scan) {
        int r;

        if (scan_peek(scan) == '-')
                scan->at++;
        if (scan_peek(scan) == '0')
                scan->at++; /* a digit that follows is refused as a second number in a row */
        else {
                r = scan_digits(scan);
                if (r < 0)
                        return r;
        }

        if (scan_peek(scan) == '.') {
                scan->at++;
                r = scan_digits(scan);
                if (r < 0)
                        return r;
        }

        if (scan_peek(scan) != 'e' && scan_peek(scan) != 'E')
                return 0;
        scan->at++;
        if (scan_peek(scan) == '+' || scan_peek(scan) == '-')
                scan->at++;
        return scan_digits(scan);
}

static int scan_word(JsonScan *scan) {
        static const char *const words[] = { "true", "false", "null" };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                size_t size = strlen(words[i]);

                if (scan->size - scan->at >= size && memcmp(scan->text + scan->at, words[i], size) == 0) {
                        scan->at += size;
                        return 0;
                }
        }

        return scan_refuse(scan, "unexpected character");
}

static int scan_scalar(JsonScan *scan) {
        char c = scan_peek(scan);

        if (scan->after_scalar)
                return scan_refuse(scan, "unexpected character");
        scan->after_scalar = true;

        if (c == '"')
                return scan_string(scan);
        if (c == '-' || (c >= '0' && c <= '9'))
                return scan_number(scan);
        return scan_word(scan);
}

static int scan_open(JsonScan *scan) {
        if (++scan->depth > JSON_DEPTH_MAX)
                return scan_refuse(scan, "nested too deeply");
        if (++scan->n_containers > JSON_CONTAINERS_MAX)
                return scan_refuse(scan, "too many objects and arrays");
        return 0;
}

static int scan_close(JsonScan *scan) {
        if (scan->depth == 0)
                return scan_refuse(scan, "unexpected character");
        scan->depth--;
        return 0;
}

static int scan_token(JsonScan *scan) {
        int r = 0;

        switch (scan_peek(scan)) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
                scan->at++;
                return 0;
        case '{':
        case '[':
                r = scan_open(scan);
                break;
        case '}':
        case ']':
                r = scan_close(scan);
                break;
        case ':':
                scan->n_members++;
                break;
        case ',':
                break;
        default:
                return scan_scalar(scan);
        }

        scan->after_scalar = false;
        scan->at += r >= 0;
        return r;
}

static int scan_text(JsonScan *scan) {
        int r;

        while (scan->at < scan->size) {
                r = scan_token(scan);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Says why TEXT is refused, and where for a person with an editor. */
static int refuse_text(Problem *reterr_problem, const char *text, size_t at, const char *reason) {
        size_t line = 1, column = 1;

        for (size_t i = 0; i < at; i++)
                if (text[i] == '\n') {
                        line++;
                        column = 1;
                } else if (((unsigned char) text[i] & 0xc0) != 0x80)
                        column++;

        return problem_set(
                        reterr_problem,
                        400,
                        NULL,
                        "not valid JSON: %s at line %zu, column %zu",
                        reason,
                        line,
                        column);
}

static int build_tree(const char *text, size_t size, json_object **ret, Problem *reterr_problem) {
        _cleanup_(json_tokener_freep) json_tokener *tokener = NULL;
        json_object *object;
        enum json_tokener_error error;
        size_t end;

        /* json-c counts scalars as a level of their own. */
        tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
        if (!tokener)
                return problem_from_errno(reterr_problem, -ENOMEM);
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);

        object = json_tokener_parse_ex(tokener, text, (int) size);
        error = json_tokener_get_error(tokener);
        end = json_tokener_get_parse_end(tokener);
        if (error == json_tokener_continue) {
                /* A NUL says that nothing follows: only then is a number at the end complete. */
                object = json_tokener_parse_ex(tokener, "", 1);
                error = json_tokener_get_error(tokener);
                end = size;
        }
        if (error == json_tokener_success) {
                *ret = object;
                return 0;
        }

        if (error == json_tokener_continue || error == json_tokener_error_parse_eof)
                return refuse_text(reterr_problem, text, size, "unexpected end");
        return refuse_text(reterr_problem, text, end < size ? end : size, json_tokener_error_desc(error));
}

/* Nesting is no deeper than JSON_DEPTH_MAX here. */
static size_t count_members(json_object *value) {
        size_t n = 0;

        if (json_object_is_type(value, json_type_object)) {
                json_object_object_foreach(value, key, member) {
                        (void) key;
                        n += 1 + count_members(member);
                }
        } else if (json_object_is_type(value, json_type_array))
                for (size_t i = 0; i < json_object_array_length(value); i++)
                        n += count_members(json_object_array_get_idx(value, i));

        return n;
}

int json_parse(const char *text, size_t size, json_object **ret, Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *object = NULL;
        JsonScan scan = { .text = text, .size = size };
        int r;

        if (size > INT_MAX)
                return problem_set(reterr_problem, 413, NULL, "JSON text of more than 2 GiB");
        if (!text_is_utf8(text, size))
                return problem_set(reterr_problem, 400, NULL, "not valid JSON: not UTF-8");

        r = scan_text(&scan);
        if (r < 0)
                return refuse_text(reterr_problem, text, scan.at, scan.reason);
        r = build_tree(text, size, &object, reterr_problem);
        if (r < 0)
                return r;
        if (count_members(object) != scan.n_members)
                return problem_set(
                                reterr_problem,
                                400,
                                NULL,
                                "not valid JSON: the same key twice in one object");

        *ret = TAKE_PTR(object);
        return 0;
}

static int dispatch_member(
                const char *key,
                json_object *value,
                const JsonField *table,
                JsonUnknown unknown,
                const char *path,
                void *base,
                Problem *reterr_problem) {
        char field_path[PROBLEM_FIELD_SIZE];
        const JsonField *field = table;

        while (field->name && !streq(field->name, key))
                field++;
        if (!field->name && unknown == JSON_UNKNOWN_IGNORED)
                return 0;

        json_pointer_join(field_path, path, key);
        if (!field->name)
                return problem_set(reterr_problem, 400, field_path, "unknown key");
        if (json_object_is_type(value, json_type_null))
                return problem_set(reterr_problem, 400, field_path, "must not be null");
        return field->parse(value, field, field_path, (char *) base + field->offset, reterr_problem);
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

        for (const JsonField *field = table; field->name; field++)
                if (field->required && !json_object_object_get_ex(object, field->name, NULL)) {
                        char field_path[PROBLEM_FIELD_SIZE];

                        json_pointer_join(field_path, path, field->name);
                        return problem_set(reterr_problem, 400, field_path, "is required");
                }

        return 0;
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
        int r;

        r = json_get_u64(value, min, max, target);
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
        int r;

        r = json_get_double(value, field->min, field->max, &seconds);
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
        size = (size_t) json_object_get_string_len(value);
        if (size == 0 && min == 1)
                return problem_set(reterr_problem, 400, field_path, "must not be empty");
        if (size < min || size > max)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be a string of %zu to %zu bytes",
                                min,
                                max);

        copy = strdup(json_object_get_string(value));
        if (!copy)
                return problem_from_errno(reterr_problem, -ENOMEM);

        free(*string);
        *string = copy;
        return 0;
}

static void text_list_freep(char ***list) {
        text_list_free(*list);
}

/* Copies the strings of ARRAY to LIST, which has room for them and is zeroed. */
static int copy_strings(json_object *array, const char *field_path, char **list, Problem *reterr_problem) {
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                json_object *item = json_object_array_get_idx(array, i);

                if (!json_object_is_type(item, json_type_string)) {
                        char index[sizeof("18446744073709551615")], item_path[PROBLEM_FIELD_SIZE];

                        (void) snprintf(index, sizeof(index), "%zu", i);
                        json_pointer_join(item_path, field_path, index);
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
        size_t n;
        int r;

        if (!json_object_is_type(value, json_type_array))
                return problem_set(reterr_problem, 400, field_path, "must be an array of strings");
        n = json_object_array_length(value);
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
        r = copy_strings(value, field_path, list, reterr_problem);
        if (r < 0)
                return r;

        text_list_free(*strings);
        *strings = TAKE_PTR(list);
        return 0;
}

/* json-c reads an integer beyond 64 bits as the nearest end of its range and tells nobody: these two
 * values therefore count as out of range themselves. */
static bool is_clamped(json_object *integer) {
        return json_object_get_uint64(integer) == UINT64_MAX || json_object_get_int64(integer) == INT64_MIN;
}

int json_get_u64(json_object *value, uint64_t min, uint64_t max, uint64_t *ret) {
        uint64_t integer;

        if (!json_object_is_type(value, json_type_int))
                return -EINVAL;
        if (json_object_get_int64(value) < 0 || is_clamped(value))
                return -ERANGE;
        integer = json_object_get_uint64(value);
        if (integer < min || integer > max)
                return -ERANGE;

        *ret = integer;
        return 0;
}

int json_get_double(json_object *value, double min, double max, double *ret) {
        double number;

        if (json_object_is_type(value, json_type_int)) {
                if (is_clamped(value))
                        return -ERANGE;
        } else if (!json_object_is_type(value, json_type_double))
                return -EINVAL;

        number = json_object_get_double(value);
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
        bool fits;

        memmove(buffer, path, at); /* PATH may be BUFFER */
        fits = pointer_append(buffer, &at, "/", 1);
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

int json_add(json_object *object, const char *key, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add(object, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_add_null(json_object *object, const char *key) {
        return json_object_object_add(object, key, NULL) < 0 ? -ENOMEM : 0;
}

int json_add_bool(json_object *object, const char *key, bool value) {
        return json_add(object, key, json_object_new_boolean(value));
}

int json_add_u64(json_object *object, const char *key, uint64_t value) {
        return json_add(object, key, json_object_new_uint64(value));
}

int json_add_i64(json_object *object, const char *key, int64_t value) {
        return json_add(object, key, json_object_new_int64(value));
}

int json_add_double(json_object *object, const char *key, double value) {
        return json_add(object, key, json_new_double(value));
}

int json_add_string(json_object *object, const char *key, const char *value) {
        if (!value)
                return json_add_null(object, key);
        return json_add(object, key, json_object_new_string(value));
}

int json_add_strings(json_object *object, const char *key, char *const *list) {
        _cleanup_(json_putp) json_object *array = NULL;
        int r;

        array = json_object_new_array();
        if (!array)
                return -ENOMEM;

        for (; list && *list; list++) {
                r = json_append(array, json_object_new_string(*list));
                if (r < 0)
                        return r;
        }

        return json_add(object, key, TAKE_PTR(array));
}

int json_append(json_object *array, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_array_add(array, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

json_object *json_new_double(double value) {
        char text[sizeof("-1.2345678901234567e-308")];

        assert(isfinite(value));

        /* Up to 2^53 every integer is a double of its own. */
        if (fabs(value) <= 9007199254740992.0 && !islessgreater(value, trunc(value)))
                return json_object_new_int64((int64_t) value);

        for (int digits = 15; digits <= 17; digits++) {
                (void) snprintf(text, sizeof(text), "%.*g", digits, value);
                if (!islessgreater(strtod(text, NULL), value))
                        break;
        }
        return json_object_new_double_s(value, text);
}

int json_format(json_object *object, char **ret, size_t *ret_size) {
        const char *text;
        char *copy;
        size_t size;

        text = json_object_to_json_string_length(
                        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        if (!text)
                return -ENOMEM;
        copy = malloc(size + 1);
        if (!copy)
                return -ENOMEM;

        memcpy(copy, text, size + 1);
        *ret = copy;
        if (ret_size)
                *ret_size = size;
        return 0;
}
