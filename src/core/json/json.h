/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Strict JSON in, checked JSON out.
 *
 * json-c holds the values, but does not read them: even with JSON_TOKENER_STRICT it accepts more than RFC
 * 8259 (0.16 and 0.17: duplicate keys, single quotes, NaN, leading zeros), and it does not survive a lack of
 * memory (0.16). */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/json/problem.h"

#define JSON_DEPTH_MAX      16
#define JSON_CONTAINERS_MAX 16384 /* objects and arrays in one text: json-c spends ~350 bytes on each */

static inline void json_putp(json_object **object) {
        json_object_put(*object);
}

/* Parses all SIZE bytes at TEXT. 400 and -EINVAL for everything that is not exactly one JSON value
 * in UTF-8 without duplicate keys and without NUL (raw or escaped) in strings. The caller puts *ret. */
int json_parse(const char *text, size_t size, json_object **ret, Problem *reterr_problem);

/* One member of an object that a table-driven reader accepts. PARSE stores what VALUE says at
 * TARGET (BASE + OFFSET of the dispatch) or fills the problem, naming FIELD_PATH, and returns a negative
 * errno. VALUE is never of type null: null is refused like any other wrong type. */
typedef struct JsonField JsonField;
typedef int (*JsonFieldParse)(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem);

struct JsonField {
        const char *name;
        JsonFieldParse parse;
        size_t offset;
        bool required;
        double min, max; /* used by the number parsers below and json_field_string (length in bytes) */
        const JsonField *included; /* the row stands for those of this table, whose offsets count from OFFSET
                                    */
};

typedef enum JsonUnknown {
        JSON_UNKNOWN_REFUSED,
        JSON_UNKNOWN_IGNORED,
} JsonUnknown;

/* Reads OBJECT by TABLE (ended by a row of zeros) into BASE. PATH is the JSON pointer of OBJECT
 * itself, "" for the document. 400 for anything but an object, an unknown key, a missing required one. */
int json_dispatch(
                json_object *object,
                const JsonField *table,
                JsonUnknown unknown,
                const char *path,
                void *base,
                Problem *reterr_problem);

/* Ready-made parsers; the target's type is in the name's comment. Strings are replaced (freed first). */
int json_field_bool(json_object *, const JsonField *, const char *, void *, Problem *); /* bool */
int json_field_u64(json_object *, const JsonField *, const char *, void *, Problem *);  /* uint64_t, integer
                                                                                           within min…max */
int json_field_seconds(
                json_object *,
                const JsonField *,
                const char *,
                void *,
                Problem *); /* usec_t, number of seconds within min…max */
int json_field_string(json_object *, const JsonField *, const char *, void *, Problem *); /* char *, min…max
                                                                                             bytes */
int json_field_strings(
                json_object *,
                const JsonField *,
                const char *,
                void *,
                Problem *); /* char **, array of min…max strings, NULL-terminated */

/* Reads VALUE as an integer (no fraction, no exponent, no clamping) or as a finite number.
 * -EINVAL for another type, -ERANGE when not within MIN…MAX. 2^64-1 and -2^63 are always out of range: what
 * becomes of an integer beyond them cannot be told from them. */
int json_get_u64(json_object *value, uint64_t min, uint64_t max, uint64_t *ret);
int json_get_double(json_object *value, double min, double max, double *ret);

/* Appends "/KEY" to the JSON pointer PATH, escaping "~" and "/"; cut when it does not fit. */
void json_pointer_join(char buffer[static PROBLEM_FIELD_SIZE], const char *path, const char *key);

/* The same for the element at INDEX of an array. */
void json_pointer_index(char buffer[static PROBLEM_FIELD_SIZE], const char *path, size_t index);

/* Building: each adds one member, takes no reference to strings, and returns 0 or -ENOMEM, in which
 * case OBJECT must be dropped. A NULL string becomes null. json_add() takes over VALUE in every case; a VALUE
 * of NULL is -ENOMEM, so that the outcome of json_object_new_…() can be passed on unchecked. */
int json_add(json_object *object, const char *key, json_object *value);
int json_add_null(json_object *object, const char *key);
int json_add_bool(json_object *object, const char *key, bool value);
int json_add_u64(json_object *object, const char *key, uint64_t value);
int json_add_i64(json_object *object, const char *key, int64_t value);
int json_add_double(
                json_object *object,
                const char *key,
                double value); /* shortest form that reads back equal; integral values without ".0" */
int json_add_string(json_object *object, const char *key, const char *value);
int json_add_strings(json_object *object, const char *key, char *const *list);
int json_add_realtime(
                json_object *object,
                const char *key,
                usec_t realtime_usec); /* as RFC 3339 writes it; 0: null */

/* Appends to an array as json_add() adds to an object. */
int json_append(json_object *array, json_object *value);

/* A number object in the form json_add_double() describes; NULL when out of memory. */
json_object *json_new_double(double value);

/* A value that is written as TEXT, which is JSON already and must outlive it; nothing can be read from it.
 * NULL when out of memory. */
json_object *json_new_written(const char *text);

/* The text of OBJECT, without spaces and without escaped slashes. The caller frees *ret; RET_SIZE may be
 * NULL. -ENOMEM. */
int json_format(json_object *object, char **ret, size_t *ret_size);
