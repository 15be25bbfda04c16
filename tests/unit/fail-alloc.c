/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fail-alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static size_t calls_left; /* until the one that fails; 0 when none is to fail */
static bool hit;

static bool fails_now(void) {
        if (calls_left == 0 || --calls_left > 0)
                return false;
        hit = true;
        errno = ENOMEM;
        return true;
}

void fail_alloc_loop(FailAllocTry try, void *userdata) {
        for (size_t n = 1;; n++) {
                int r;

                hit = false;
                calls_left = n;
                r = try(userdata);
                calls_left = 0;

                if (!hit) {
                        check_true("without failure", r >= 0);
                        check_true("something was allocated", n > 1);
                        return;
                }
                check_int("after a failed allocation", r, -ENOMEM);
        }
}

void fail_alloc_next(void) {
        calls_left = 1;
}

/* Defines what the linker calls instead of NAME. */
#define WRAP(type, failure, name, parameters, arguments) \
        type __real_##name parameters;                   \
        type __wrap_##name parameters;                   \
        type __wrap_##name parameters {                  \
                if (fails_now())                         \
                        return failure;                  \
                return __real_##name arguments;          \
        }

WRAP(void *, NULL, malloc, (size_t size), (size))
WRAP(void *, NULL, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, NULL, realloc, (void *memory, size_t size), (memory, size))
WRAP(void *, NULL, reallocarray, (void *memory, size_t n, size_t size), (memory, n, size))
WRAP(char *, NULL, strdup, (const char *s), (s))
WRAP(char *, NULL, strndup, (const char *s, size_t size), (s, size))
WRAP(json_object *, NULL, json_object_new_object, (void), ())
WRAP(json_object *, NULL, json_object_new_array, (void), ())
WRAP(json_object *, NULL, json_object_new_boolean, (json_bool value), (value))
WRAP(json_object *, NULL, json_object_new_int64, (int64_t value), (value))
WRAP(json_object *, NULL, json_object_new_uint64, (uint64_t value), (value))
WRAP(json_object *, NULL, json_object_new_double_s, (double value, const char *s), (value, s))
WRAP(json_object *, NULL, json_object_new_string, (const char *s), (s))
WRAP(json_object *, NULL, json_object_new_string_len, (const char *s, int size), (s, size))
WRAP(int, -1, json_object_array_add, (json_object * array, json_object *value), (array, value))
WRAP(int,
     -1,
     json_object_object_add,
     (json_object * object, const char *key, json_object *value),
     (object, key, value))

/* asprintf() cannot be passed on as it is; the second form is that of _FORTIFY_SOURCE. */
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
                __attribute__((format(printf, 3, 4)));

int __wrap_asprintf(char **ret, const char *format, ...) {
        va_list arguments;
        int n;

        if (fails_now())
                return -1;
        va_start(arguments, format);
        n = vasprintf(ret, format, arguments);
        va_end(arguments);
        return n;
}

int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...) {
        va_list arguments;
        int n;

        if (fails_now())
                return -1;
        va_start(arguments, format);
        n = vasprintf(ret, format, arguments);
        va_end(arguments);
        return n;
}
