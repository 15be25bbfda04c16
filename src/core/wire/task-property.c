/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/wire/task-property.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

#define NO_LIMIT (UINT64_MAX - 1) /* UINT64_MAX itself is "infinity" */

static const TaskPropertyForm forms[] = {
        { "CPUWeight", TASK_PROPERTY_NUMBER, 1, 10000, 0 },
        { "IOWeight", TASK_PROPERTY_NUMBER, 1, 10000, 0 },
        { "MemoryMin", TASK_PROPERTY_NUMBER, 0, NO_LIMIT, 1024 },
        { "MemoryLow", TASK_PROPERTY_NUMBER, 0, NO_LIMIT, 1024 },
        { "MemoryHigh", TASK_PROPERTY_NUMBER, 1, NO_LIMIT, 1024 },
        { "AllowedCPUs", TASK_PROPERTY_MASK, 0, 0, 0 },
        { "AllowedMemoryNodes", TASK_PROPERTY_MASK, 0, 0, 0 },
        { "IPAddressAllow", TASK_PROPERTY_ADDRESSES, 0, 0, 0 },
        { "IPAddressDeny", TASK_PROPERTY_ADDRESSES, 0, 0, 0 },
        { "IOReadBandwidthMax", TASK_PROPERTY_DEVICE_LIMITS, 1, NO_LIMIT, 1000 },
        { "IOWriteBandwidthMax", TASK_PROPERTY_DEVICE_LIMITS, 1, NO_LIMIT, 1000 },
        { "IOReadIOPSMax", TASK_PROPERTY_DEVICE_LIMITS, 1, NO_LIMIT, 1000 },
        { "IOWriteIOPSMax", TASK_PROPERTY_DEVICE_LIMITS, 1, NO_LIMIT, 1000 },
};

#define N_FORMS (sizeof(forms) / sizeof(forms[0]))

void task_property_done(TaskProperty *property) {
        free(property->mask);
        free(property->addresses);
        for (size_t i = 0; i < property->n_limits; i++)
                free(property->limits[i].path);
        free(property->limits);
}

TaskProperties *task_properties_free(TaskProperties *properties) {
        if (!properties)
                return NULL;

        for (size_t i = 0; i < properties->n_items; i++)
                task_property_done(&properties->items[i]);
        free(properties->items);
        free(properties);
        return NULL;
}

size_t task_properties_size(const TaskProperties *properties) {
        size_t size = 0;

        if (!properties)
                return 0;

        for (size_t i = 0; i < properties->n_items; i++) {
                const TaskProperty *property = &properties->items[i];

                size += sizeof(TaskProperty) + property->mask_size;
                size += property->n_addresses * sizeof(TaskAddress);
                for (size_t j = 0; j < property->n_limits; j++)
                        size += sizeof(TaskDeviceLimit) + strlen(property->limits[j].path) + 1;
        }

        return size;
}

const TaskPropertyForm *task_property_form(size_t index) {
        return index < N_FORMS ? &forms[index] : NULL;
}

const TaskPropertyForm *task_property_find(const char *name, size_t *ret_index) {
        assert(name);

        for (size_t i = 0; i < N_FORMS; i++)
                if (streq(name, forms[i].name)) {
                        if (ret_index)
                                *ret_index = i;
                        return &forms[i];
                }

        return NULL;
}

/* Whether every component is a plain name. */
static bool path_is_normal(const char *path) {
        while (*path == '/') {
                size_t n = strcspn(++path, "/");

                if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
                        return false;
                path += n;
        }

        return *path == 0;
}

/* What follows "/dev/" in PATH; NULL when PATH lies elsewhere or holds what must not reach a unit's file. */
static const char *name_below_dev(const char *path) {
        static const char characters[] = "/0123456789._:+@=-"
                                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        size_t size = strspn(path, characters);
        if (path[size] || size > TASK_PROPERTY_DEVICE_PATH_MAX || !path_is_normal(path))
                return NULL;

        return text_after(path, "/dev/");
}

static bool begins_with_one_of(const char *name, const char *const *directories) {
        for (; *directories; directories++)
                if (text_after(name, *directories))
                        return true;

        return false;
}

bool task_property_device_path_valid(const char *path) {
        static const char *const directories[] = { "disk/", "mapper/", "block/", NULL };

        assert(path);

        const char *name = name_below_dev(path);
        return name && (!strchr(name, '/') || begins_with_one_of(name, directories));
}

bool task_device_path_valid(const char *path) {
        static const char *const open_to_others[] = { "shm/", "mqueue/", "hugepages/", "pts/", "fd/", NULL };

        assert(path);

        const char *name = name_below_dev(path);
        return name && !begins_with_one_of(name, open_to_others);
}

static bool number_valid(const TaskPropertyForm *form, uint64_t number) {
        return (number >= form->min && number <= form->max) ||
                        (number == UINT64_MAX && form->suffix_base > 0);
}

static bool address_valid(const TaskAddress *address) {
        if (address->size != (address->family == AF_INET6 ? 16U : 4U) || address->n_bits > address->size * 8)
                return false;

        return address->family == AF_INET || address->family == AF_INET6;
}

static bool addresses_valid(const TaskProperty *property) {
        if (property->n_addresses < 1 || property->n_addresses > 2 * TASK_PROPERTY_ADDRESSES_MAX)
                return false;

        for (size_t i = 0; i < property->n_addresses; i++)
                if (!address_valid(&property->addresses[i]))
                        return false;

        return true;
}

static bool limits_valid(const TaskPropertyForm *form, const TaskProperty *property) {
        if (property->n_limits < 1 || property->n_limits > TASK_PROPERTY_DEVICE_LIMITS_MAX)
                return false;

        for (size_t i = 0; i < property->n_limits; i++)
                if (!task_property_device_path_valid(property->limits[i].path) ||
                    !number_valid(form, property->limits[i].limit))
                        return false;

        return true;
}

bool task_property_valid(const TaskProperty *property) {
        assert(property);
        assert(property->name);

        const TaskPropertyForm *form = task_property_find(property->name, NULL);
        if (!form || form->kind != property->kind)
                return false;

        switch (form->kind) {
        case TASK_PROPERTY_NUMBER:
                return number_valid(form, property->number);
        case TASK_PROPERTY_MASK:
                return property->mask_size >= 1 && property->mask_size <= TASK_PROPERTY_MASK_MAX &&
                                property->mask[property->mask_size - 1] != 0;
        case TASK_PROPERTY_ADDRESSES:
                return addresses_valid(property);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return limits_valid(form, property);
        }
        return false;
}
