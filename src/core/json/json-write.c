/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

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

int json_add_realtime(json_object *object, const char *key, usec_t realtime_usec) {
        char text[USEC_RFC3339_SIZE];
        if (realtime_usec == 0)
                return json_add_null(object, key);
        usec_format_rfc3339(realtime_usec, text);
        return json_add_string(object, key, text);
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

json_object *json_new_written(const char *text) {
        json_object *object = json_object_new_object();
        if (object)
                json_object_set_serializer(object, json_object_userdata_to_json_string, (void *) text, NULL);
        return object;
}

int json_format(json_object *object, char **ret, size_t *ret_size) {
        size_t size;

        /* json-c 0.16 leaves out what it found no memory for, and says nothing. */
        errno = 0;
        const char *text = json_object_to_json_string_length(
                        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        if (!text || errno == ENOMEM)
                return -ENOMEM;
        char *copy = malloc(size + 1);
        if (!copy)
                return -ENOMEM;

        memcpy(copy, text, size + 1);
        *ret = copy;
        if (ret_size)
                *ret_size = size;
        return 0;
}
