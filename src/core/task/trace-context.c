/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/trace-context.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

#define HEX             "0123456789abcdef"
#define STATE_BYTES_MAX 1024 /* 512 are what one has to hand on at least */

/* Exactly N digits, not all of them zero unless MAY_BE_ZERO. Returns what follows, or NULL. */
static const char *skip_hex(const char *s, size_t n, bool may_be_zero) {
        if (!s || strspn(s, HEX) != n || (!may_be_zero && strspn(s, "0") == n))
                return NULL;
        return s + n;
}

static const char *skip_dash(const char *s) {
        return s && *s == '-' ? s + 1 : NULL;
}

bool trace_parent_is_valid(const char *trace_parent) {
        const char *rest = skip_dash(skip_hex(trace_parent, 2, true));
        rest = skip_dash(skip_hex(rest, 32, false));
        rest = skip_dash(skip_hex(rest, 16, false));
        rest = skip_hex(rest, 2, true);
        if (!rest || text_after(trace_parent, "ff"))
                return false;
        return *rest == 0 || (*rest == '-' && !text_after(trace_parent, "00"));
}

/* Nobody but the programs that are traced knows what it says. */
static bool trace_state_is_valid(const char *trace_state) {
        size_t size = trace_state ? strlen(trace_state) : 0;
        if (size == 0 || size > STATE_BYTES_MAX)
                return false;
        for (const char *c = trace_state; *c; c++)
                if (*c != '\t' && (*c < ' ' || *c > '~'))
                        return false;
        return true;
}

bool trace_context_has(const char *entry) {
        return text_after(entry, TRACE_PARENT_VARIABLE "=") || text_after(entry, TRACE_STATE_VARIABLE "=");
}

/* The environment of TASK, made if it has none; *ret is NULL when nothing is to be added. */
static int find_environment(json_object *task, size_t n_variables_max, json_object **ret) {
        json_object *environment = NULL;
        *ret = NULL;
        if (!json_object_is_type(task, json_type_object))
                return 0;
        if (!json_object_object_get_ex(task, "environment", &environment)) {
                environment = json_object_new_object();
                int r = json_add(task, "environment", environment);
                if (r < 0)
                        return r;
        }
        if (json_object_is_type(environment, json_type_object) &&
            !json_object_object_get_ex(environment, TRACE_PARENT_VARIABLE, NULL) &&
            (size_t) json_object_object_length(environment) + 2 <= n_variables_max)
                *ret = environment;
        return 0;
}

static int add_to_task(
                json_object *task,
                size_t n_variables_max,
                const char *trace_parent,
                const char *trace_state) {
        json_object *environment;
        int r = find_environment(task, n_variables_max, &environment);
        if (r < 0 || !environment)
                return r;
        r = json_add_string(environment, TRACE_PARENT_VARIABLE, trace_parent);
        if (r < 0)
                return r;
        /* The state of another parent says nothing of this one. */
        json_object_object_del(environment, TRACE_STATE_VARIABLE);
        return trace_state_is_valid(trace_state) ?
                        json_add_string(environment, TRACE_STATE_VARIABLE, trace_state) :
                        0;
}

int trace_context_add(
                json_object *body,
                size_t n_variables_max,
                const char *trace_parent,
                const char *trace_state) {
        if (!trace_parent_is_valid(trace_parent))
                return 0;
        if (!json_object_is_type(body, json_type_array))
                return add_to_task(body, n_variables_max, trace_parent, trace_state);
        int r = 0;
        for (size_t i = 0; r >= 0 && i < json_object_array_length(body); i++)
                r = add_to_task(json_object_array_get_idx(body, i),
                                n_variables_max,
                                trace_parent,
                                trace_state);
        return r;
}
