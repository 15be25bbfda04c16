/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/config-devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/pairs.h"
#include "core/task/devices.h"
#include "core/wire/task-property.h"

#define ITEMS_MAX    64 /* of a kind */
#define PATHS_MAX    8  /* of an item, and of a kind besides */
#define ID_MAX       64
#define VARIABLE_MAX 16
#define VALUE_MAX    4096

static bool variable_valid(const char *name) {
        return *name && !strchr(name, '=') && !text_after(name, DEVICES_VARIABLE_PREFIX);
}

static int field_environment(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        static const PairsRules rules = {
                .n_pairs_max = VARIABLE_MAX,
                .value_max = VALUE_MAX,
                .key_valid = variable_valid,
                .key_refusal = "the name of a variable must not be empty, hold \"=\" or begin with "
                               "\"" DEVICES_VARIABLE_PREFIX "\"",
        };
        return pairs_parse(value, &rules, path, target, reterr_problem);
}

static int field_id(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char **id = target;
        int r = json_field_string(value, field, path, id, reterr_problem);
        if (r < 0)
                return r;
        /* Ids stand in a variable, with commas between them. */
        for (const char *c = *id; *c; c++)
                if (*c <= ' ' || *c == ',' || *c > '~')
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        path,
                                        "must be of ASCII letters, digits and signs, without spaces and \",\"");
        return 0;
}

static int field_paths(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        char ***paths = target;
        int r = json_field_strings(value, field, path, paths, reterr_problem);
        for (char **p = *paths; r >= 0 && p && *p; p++)
                if (!task_device_path_valid(*p))
                        r = problem_set(reterr_problem,
                                        400,
                                        path,
                                        "must be paths of device nodes below /dev, such as \"/dev/dri/card0\"");
        return r;
}

static int parse_item(json_object *value, const char *path, DeviceItem *item, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "id", field_id, offsetof(DeviceItem, id), .required = true, .min = 1, .max = ID_MAX },
                { "paths", field_paths, offsetof(DeviceItem, paths), .max = PATHS_MAX },
                { "environment", field_environment, offsetof(DeviceItem, environment) },
                {},
        };
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, path, item, reterr_problem);
}

static bool has_id(const DeviceKind *kind, const char *id) {
        for (size_t i = 0; i < kind->n_items; i++)
                if (streq_null(kind->items[i].id, id))
                        return true;
        return false;
}

/* What was read of an item that is refused is freed with its kind. */
static int add_item(DeviceKind *kind, json_object *value, const char *path, Problem *reterr_problem) {
        DeviceItem item = {};
        int r = parse_item(value, path, &item, reterr_problem);
        bool is_double = r >= 0 && has_id(kind, item.id);
        kind->items[kind->n_items++] = item;
        return is_double ? problem_set(reterr_problem, 400, path, "has the \"id\" of another item") : r;
}

static int field_items(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        DeviceKind *kind = target;
        size_t n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
        if (n < 1 || n > ITEMS_MAX)
                return problem_set(reterr_problem, 400, path, "must be an array of 1 to %d items", ITEMS_MAX);
        kind->items = calloc(n, sizeof(DeviceItem));
        if (!kind->items)
                return problem_from_errno(reterr_problem, -ENOMEM);
        for (size_t i = 0; i < n; i++) {
                char item_path[PROBLEM_FIELD_SIZE];
                json_pointer_index(item_path, path, i);
                int r = add_item(kind, json_object_array_get_idx(value, i), item_path, reterr_problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_kind(
                json_object *value,
                const char *name,
                const char *path,
                DeviceKind *kind,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "paths", field_paths, offsetof(DeviceKind, paths), .max = PATHS_MAX },
                { "items", field_items, 0, .required = true },
                {},
        };
        if (!resource_name_valid(name))
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "the name of devices must be 1 to %d of a-z, 0-9 and \"_\", begin with a letter, "
                                "and be neither \"cores\" nor \"memory_mb\"",
                                RESOURCE_NAME_MAX);
        kind->name = strdup(name);
        if (!kind->name)
                return problem_from_errno(reterr_problem, -ENOMEM);
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, path, kind, reterr_problem);
}

static int compare_kinds(const void *a, const void *b) {
        return strcmp(((const DeviceKind *) a)->name, ((const DeviceKind *) b)->name);
}

int config_field_devices(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        Devices *devices = target;
        if (!json_object_is_type(value, json_type_object))
                return problem_set(reterr_problem, 400, path, "must be an object");
        if (json_object_object_length(value) > RESOURCES_NAMED_MAX)
                return problem_set(
                                reterr_problem, 400, path, "must not name more than %d", RESOURCES_NAMED_MAX);
        devices->kinds = calloc(RESOURCES_NAMED_MAX, sizeof(DeviceKind));
        if (!devices->kinds)
                return problem_from_errno(reterr_problem, -ENOMEM);
        json_object_object_foreach(value, key, kind) {
                char kind_path[PROBLEM_FIELD_SIZE];
                json_pointer_join(kind_path, path, key);
                int r = parse_kind(kind, key, kind_path, &devices->kinds[devices->n_kinds++], reterr_problem);
                if (r < 0)
                        return r;
        }
        qsort(devices->kinds, devices->n_kinds, sizeof(DeviceKind), compare_kinds);
        return 0;
}
