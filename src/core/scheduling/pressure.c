/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/pressure.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

int memory_pressure_parse(const char *text, double *ret_percent) {
        const char *value = text_after(text, "some avg10=");
        char number[16];
        size_t size = value ? strcspn(value, " ") : 0;
        double percent;

        if (size == 0 || size >= sizeof(number) || value[size] != ' ')
                return -EBADMSG;
        memcpy(number, value, size);
        number[size] = '\0';
        if (text_parse_double(number, &percent) < 0 || percent < 0 || percent > 100)
                return -EBADMSG;

        *ret_percent = percent;
        return 0;
}

bool memory_pressure_holds(const MemoryPressure *pressure, size_t n_running) {
        return pressure->is_known && pressure->max_percent > 0 &&
                        pressure->percent >= (double) pressure->max_percent && n_running > 0;
}

int memory_pressure_add(json_object *object, const MemoryPressure *pressure) {
        if (!pressure->is_known)
                return json_add_null(object, "pressure");
        json_object *value = json_object_new_object(); /* weak, once it is added */
        int r = json_add(object, "pressure", value);
        if (r >= 0)
                r = json_add_double(value, "memory_percent", pressure->percent);
        if (r >= 0)
                r = json_add_u64(value, "memory_max_percent", pressure->max_percent);
        return r < 0 ? r : json_add_bool(value, "holding", pressure->is_holding);
}
