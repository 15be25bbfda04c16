/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/devices.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <utlist.h>

#include "base/text.h"
#include "core/json/json.h"

static void device_kind_done(DeviceKind *kind) {
        for (size_t i = 0; i < kind->n_items; i++) {
                DeviceItem *item = &kind->items[i];
                free(item->id);
                text_list_free(item->paths);
                text_list_free(item->environment);
        }
        free(kind->items);
        free(kind->name);
        text_list_free(kind->paths);
}

void devices_done(Devices *devices) {
        for (size_t i = 0; i < devices->n_kinds; i++)
                device_kind_done(&devices->kinds[i]);
        free(devices->kinds);
        *devices = (Devices) {};
}

int devices_count(const Devices *devices, Resources *total) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < devices->n_kinds; i++)
                r = resources_named_set(total, devices->kinds[i].name, devices->kinds[i].n_items);
        return r;
}

size_t devices_n_paths(const Devices *devices) {
        size_t n = 0;
        for (size_t i = 0; i < devices->n_kinds; i++) {
                const DeviceKind *kind = &devices->kinds[i];
                n += text_list_count(kind->paths);
                for (size_t k = 0; k < kind->n_items; k++)
                        n += text_list_count(kind->items[k].paths);
        }
        return n;
}

static bool is_held(const DeviceGrants *grants, const char *kind, const char *id) {
        const DeviceGrant *grant;
        DL_FOREACH(grants->first, grant)
        for (size_t i = 0; i < grant->n_kinds; i++)
                if (streq(grant->kinds[i].name, kind) && text_list_has(grant->kinds[i].ids, id))
                        return true;
        return false;
}

static int grant_paths(DeviceGrant *grant, char *const *paths) {
        int r = 0;
        for (; r >= 0 && paths && *paths; paths++)
                if (!text_list_has(grant->paths, *paths))
                        r = text_list_append(&grant->paths, *paths);
        return r;
}

/* Adds ENTRY, "NAME=value". A value that NAME has already keeps its place, with a comma behind it. */
static int grant_variable(DeviceGrant *grant, const char *entry) {
        size_t name_size = strcspn(entry, "=") + 1;
        for (char **set = grant->environment; *set; set++) {
                if (strncmp(*set, entry, name_size) != 0)
                        continue;
                char *joined = NULL;
                int r = text_format(&joined, "%s,%s", *set, entry + name_size);
                if (r < 0)
                        return r;
                free(*set);
                *set = joined;
                return 0;
        }
        return text_list_append(&grant->environment, entry);
}

static int grant_item(DeviceGrant *grant, GrantedKind *kind, const DeviceItem *item) {
        int r = text_list_append(&kind->ids, item->id);
        if (r >= 0)
                r = grant_paths(grant, item->paths);
        for (char **entry = item->environment; r >= 0 && entry && *entry; entry++)
                r = grant_variable(grant, *entry);
        return r;
}

/* The variable that says which: its name is the kind's in capital letters. */
static int grant_names(DeviceGrant *grant, const GrantedKind *kind) {
        _cleanup_(text_done) Text entry = {};
        int r = text_append(&entry, DEVICES_VARIABLE_PREFIX);
        for (const char *c = kind->name; r >= 0 && *c; c++)
                r = text_appendf(&entry, "%c", toupper((unsigned char) *c));
        for (char **id = kind->ids; r >= 0 && *id; id++)
                r = text_appendf(&entry, "%c%s", id == kind->ids ? '=' : ',', *id);
        return r < 0 ? r : text_list_append(&grant->environment, entry.data);
}

static int grant_kind(
                DeviceGrant *grant,
                const DeviceGrants *grants,
                const DeviceKind *kind,
                uint64_t n_wanted) {
        GrantedKind *granted = &grant->kinds[grant->n_kinds++];
        granted->name = strdup(kind->name);
        if (!granted->name)
                return -ENOMEM;
        for (size_t i = 0; n_wanted > 0 && i < kind->n_items; i++) {
                if (is_held(grants, kind->name, kind->items[i].id))
                        continue;
                int r = grant_item(grant, granted, &kind->items[i]);
                if (r < 0)
                        return r;
                n_wanted--;
        }
        if (n_wanted > 0)
                return -EDQUOT;
        int r = grant_names(grant, granted);
        return r < 0 ? r : grant_paths(grant, kind->paths);
}

static int grant_new(const Devices *devices, DeviceGrant **ret) {
        _cleanup_(device_grant_freep) DeviceGrant *grant = calloc(1, sizeof(*grant));
        if (!grant)
                return -ENOMEM;
        grant->kinds = calloc(devices->n_kinds + 1, sizeof(GrantedKind));
        grant->environment = calloc(1, sizeof(char *));
        if (!grant->kinds || !grant->environment)
                return -ENOMEM;
        if (devices_n_paths(devices) > 0) {
                grant->paths = calloc(1, sizeof(char *));
                if (!grant->paths)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(grant);
        return 0;
}

void device_grants_hold(DeviceGrants *grants, DeviceGrant *grant) {
        grant->grants = grants;
        DL_APPEND2(grants->first, grant, previous, next);
}

int device_grants_take(
                DeviceGrants *grants,
                const Devices *devices,
                const Resources *want,
                DeviceGrant **ret) {
        _cleanup_(device_grant_freep) DeviceGrant *grant = NULL;
        int r = grant_new(devices, &grant);
        for (size_t i = 0; r >= 0 && i < devices->n_kinds; i++) {
                const DeviceKind *kind = &devices->kinds[i];
                uint64_t n_wanted = resources_named_get(want, kind->name);
                if (n_wanted > 0)
                        r = grant_kind(grant, grants, kind, n_wanted);
        }
        if (r < 0)
                return r;
        device_grants_hold(grants, grant);
        *ret = TAKE_PTR(grant);
        return 0;
}

void device_grant_release(DeviceGrant *grant) {
        DeviceGrants *grants = TAKE_PTR(grant->grants);
        if (!grants)
                return;
        DL_DELETE2(grants->first, grant, previous, next);
        grant->paths = text_list_free(grant->paths);
        grant->environment = text_list_free(grant->environment);
}

DeviceGrant *device_grant_free(DeviceGrant *grant) {
        if (!grant)
                return NULL;
        device_grant_release(grant);
        for (size_t i = 0; grant->kinds && i < grant->n_kinds; i++) {
                free(grant->kinds[i].name);
                text_list_free(grant->kinds[i].ids);
        }
        free(grant->kinds);
        text_list_free(grant->paths);
        text_list_free(grant->environment);
        free(grant);
        return NULL;
}

int device_grant_add(json_object *object, const DeviceGrant *grant) {
        if (!grant || grant->n_kinds == 0)
                return 0;
        json_object *kinds = json_object_new_object();
        int r = kinds ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < grant->n_kinds; i++)
                r = json_add_strings(kinds, grant->kinds[i].name, grant->kinds[i].ids);
        if (r < 0) {
                json_object_put(kinds);
                return r;
        }
        return json_add(object, "devices", kinds);
}
