/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One way to read a value for each kind of property; the bounds are those of its form. */
#include "core/task/task-properties.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

#define AMOUNT_DIGITS_MAX 19

/* Reads the first SIZE bytes at S as a decimal number. */
static int parse_digits(const char *s, size_t size, uint64_t max, uint64_t *ret) {
        char digits[sizeof("18446744073709551615")];

        if (size >= sizeof(digits))
                return -ERANGE;

        memcpy(digits, s, size);
        digits[size] = 0;
        return text_parse_u64(digits, 0, max, ret);
}

/* Reads "infinity", or digits with K, M, G, T or nothing behind them: at most 19, or 3 fewer for each power,
 * which is what fits in any case. */
static int parse_amount(const char *s, uint64_t base, uint64_t *ret) {
        static const char suffixes[] = "KMGT";
        size_t n_digits = strspn(s, "0123456789");
        uint64_t amount;

        if (streq(s, "infinity")) {
                *ret = UINT64_MAX;
                return 0;
        }

        if (n_digits > AMOUNT_DIGITS_MAX)
                return -ERANGE;
        int r = parse_digits(s, n_digits, UINT64_MAX - 1, &amount);
        if (r < 0)
                return r;

        const char *rest = s + n_digits;
        if (*rest) {
                const char *suffix = strchr(suffixes, *rest);
                if (!suffix || rest[1])
                        return -EINVAL;
                if (n_digits + 3 * (size_t) (suffix - suffixes + 1) > AMOUNT_DIGITS_MAX)
                        return -ERANGE;

                for (const char *p = suffixes; p <= suffix; p++)
                        if (__builtin_mul_overflow(amount, base, &amount))
                                return -ERANGE;
        }

        *ret = amount;
        return 0;
}

/* An integer, or a string that parse_amount() reads. */
static int get_amount(
                json_object *value,
                const TaskPropertyForm *form,
                const char *path,
                uint64_t *ret,
                Problem *reterr_problem) {
        uint64_t amount;
        int r;

        if (json_object_is_type(value, json_type_string))
                r = parse_amount(json_object_get_string(value), form->suffix_base, &amount);
        else
                r = json_get_u64(value, 0, INT64_MAX, &amount);
        if (r < 0 || amount < form->min)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be an integer of at least %u, or a string such as \"512M\"",
                                (unsigned) form->min);

        *ret = amount;
        return 0;
}

static int parse_property_amount(
                json_object *value,
                const TaskPropertyForm *form,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        return get_amount(value, form, path, &property->number, reterr_problem);
}

static int parse_property_weight(
                json_object *value,
                const TaskPropertyForm *form,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        if (json_get_u64(value, form->min, form->max, &property->number) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be an integer between %u and %u",
                                (unsigned) form->min,
                                (unsigned) form->max);

        return 0;
}

/* Reads the first SIZE bytes at S, "5" or "0-3", and sets their bits. */
static int mask_add_range(uint8_t mask[static TASK_PROPERTY_MASK_MAX], const char *s, size_t size) {
        const char *dash = memchr(s, '-', size);
        uint64_t first, last;

        int r = parse_digits(s, dash ? (size_t) (dash - s) : size, TASK_PROPERTY_CPU_MAX, &first);
        if (r < 0)
                return r;

        last = first;
        if (dash) {
                r = parse_digits(dash + 1, size - (size_t) (dash + 1 - s), TASK_PROPERTY_CPU_MAX, &last);
                if (r < 0)
                        return r;
        }
        if (first > last)
                return -EINVAL;

        for (uint64_t i = first; i <= last; i++)
                mask[i / 8] |= (uint8_t) (1U << (i % 8));

        return 0;
}

/* Reads ranges with commas, spaces or both between them. */
static int mask_parse(const char *s, uint8_t mask[static TASK_PROPERTY_MASK_MAX], size_t *ret_size) {
        size_t size = TASK_PROPERTY_MASK_MAX;

        for (s += strspn(s, ", "); *s; s += strspn(s, ", ")) {
                size_t n = strcspn(s, ", ");

                int r = mask_add_range(mask, s, n);
                if (r < 0)
                        return r;
                s += n;
        }

        while (size > 0 && mask[size - 1] == 0)
                size--;
        if (size == 0)
                return -EINVAL;

        *ret_size = size;
        return 0;
}

static int parse_property_mask(
                json_object *value,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        uint8_t mask[TASK_PROPERTY_MASK_MAX] = {};
        size_t size;

        if (!json_object_is_type(value, json_type_string) ||
            mask_parse(json_object_get_string(value), mask, &size) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be a string such as \"0-3,5\" of numbers up to %d",
                                TASK_PROPERTY_CPU_MAX);

        property->mask = malloc(size);
        if (!property->mask)
                return problem_from_errno(reterr_problem, -ENOMEM);

        memcpy(property->mask, mask, size);
        property->mask_size = size;
        return 0;
}

static void address_clear_beyond_prefix(TaskAddress *address) {
        for (uint32_t bit = address->n_bits; bit < address->size * 8; bit++)
                address->bytes[bit / 8] &= (uint8_t) ~(0x80U >> (bit % 8));
}

/* Reads "10.0.0.0/8", "::1"; without a length the prefix is the whole address. */
static int address_parse(const char *s, TaskAddress *ret) {
        char literal[INET6_ADDRSTRLEN];
        size_t n = strcspn(s, "/");
        TaskAddress address = { .family = memchr(s, ':', n) ? AF_INET6 : AF_INET };
        int r;

        if (n >= sizeof(literal))
                return -EINVAL;
        memcpy(literal, s, n);
        literal[n] = 0;
        if (inet_pton(address.family, literal, address.bytes) != 1)
                return -EINVAL;

        address.size = address.family == AF_INET6 ? 16 : 4;
        uint64_t n_bits = address.size * 8;
        if (s[n] == '/') {
                r = text_parse_u64(s + n + 1, 0, address.size * 8, &n_bits);
                if (r < 0)
                        return r;
        }

        address.n_bits = (uint32_t) n_bits;
        address_clear_beyond_prefix(&address);
        *ret = address;
        return 0;
}

/* Appends what S stands for: one prefix, or the two of a word. There is room. */
static int addresses_add(TaskProperty *property, const char *s) {
        static const struct {
                const char *name, *ipv4, *ipv6;
        } words[] = {
                { "any", "0.0.0.0/0", "::/0" },
                { "localhost", "127.0.0.0/8", "::1/128" },
                { "link-local", "169.254.0.0/16", "fe80::/64" },
                { "multicast", "224.0.0.0/4", "ff00::/8" },
        };
        TaskAddress *end = property->addresses + property->n_addresses;
        int r;

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                if (!streq(s, words[i].name))
                        continue;

                r = address_parse(words[i].ipv4, &end[0]);
                if (r < 0)
                        return r;
                r = address_parse(words[i].ipv6, &end[1]);
                if (r < 0)
                        return r;
                property->n_addresses += 2;
                return 0;
        }

        r = address_parse(s, end);
        if (r < 0)
                return r;
        property->n_addresses++;
        return 0;
}

static int parse_address_item(
                json_object *item,
                size_t index,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        char index_text[sizeof("18446744073709551615")], item_path[PROBLEM_FIELD_SIZE];

        if (json_object_is_type(item, json_type_string) &&
            addresses_add(property, json_object_get_string(item)) >= 0)
                return 0;

        (void) snprintf(index_text, sizeof(index_text), "%zu", index);
        json_pointer_join(item_path, path, index_text);
        return problem_set(
                        reterr_problem,
                        400,
                        item_path,
                        "must be an address, a prefix such as \"10.0.0.0/8\", or \"any\", \"localhost\", "
                        "\"link-local\" or \"multicast\"");
}

static int parse_property_addresses(
                json_object *value,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        size_t n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;

        if (n < 1 || n > TASK_PROPERTY_ADDRESSES_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be an array of 1 to %d strings",
                                TASK_PROPERTY_ADDRESSES_MAX);

        property->addresses = calloc(2 * n, sizeof(TaskAddress));
        if (!property->addresses)
                return problem_from_errno(reterr_problem, -ENOMEM);

        for (size_t i = 0; i < n; i++) {
                int r = parse_address_item(
                                json_object_array_get_idx(value, i), i, path, property, reterr_problem);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int add_device_limit(
                const char *device,
                json_object *value,
                const TaskPropertyForm *form,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        TaskDeviceLimit *limit = &property->limits[property->n_limits];
        char member_path[PROBLEM_FIELD_SIZE];

        json_pointer_join(member_path, path, device);
        if (!task_property_device_path_valid(device))
                return problem_set(
                                reterr_problem,
                                400,
                                member_path,
                                "must be the path of a device such as \"/dev/vda\"");

        int r = get_amount(value, form, member_path, &limit->limit, reterr_problem);
        if (r < 0)
                return r;

        limit->path = strdup(device);
        if (!limit->path)
                return problem_from_errno(reterr_problem, -ENOMEM);

        property->n_limits++;
        return 0;
}

static int parse_property_device_limits(
                json_object *value,
                const TaskPropertyForm *form,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        size_t n = json_object_is_type(value, json_type_object) ? (size_t) json_object_object_length(value) :
                                                                  0;

        if (n < 1 || n > TASK_PROPERTY_DEVICE_LIMITS_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must be an object of 1 to %d devices and their limits",
                                TASK_PROPERTY_DEVICE_LIMITS_MAX);

        property->limits = calloc(n, sizeof(TaskDeviceLimit));
        if (!property->limits)
                return problem_from_errno(reterr_problem, -ENOMEM);

        json_object_object_foreach(value, device, limit) {
                int r = add_device_limit(device, limit, form, path, property, reterr_problem);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Names a client might try, and what to tell it. */
static const struct {
        const char *name, *advice;
} refusals[] = {
        { "CPUQuota", "set by daggyr: use \"resources\" with \"cores\"" },
        { "CPUQuotaPerSecUSec", "set by daggyr: use \"resources\" with \"cores\"" },
        { "MemoryMax", "set by daggyr: use \"resources\" with \"memory_mb\"" },
        { "MemoryLimit", "set by daggyr: use \"resources\" with \"memory_mb\"" },
        { "MemorySwapMax", "set by daggyr: tasks have no swap, use \"resources\" with \"memory_mb\"" },
        { "TasksMax", "set by daggyr: use \"tasks_max\"" },
        { "RuntimeMaxSec", "set by daggyr: use \"timeout\"" },
        { "RuntimeMaxUSec", "set by daggyr: use \"timeout\"" },
        { "TimeoutStopSec", "set by daggyr: use \"grace\"" },
        { "TimeoutStopUSec", "set by daggyr: use \"grace\"" },
        { "User", "not a property of scopes: use \"user\"" },
        { "UMask", "not a property of scopes: use \"umask\"" },
        { "WorkingDirectory", "not a property of scopes: use \"working_directory\"" },
        { "Environment", "not a property of scopes: use \"environment\"" },
        { "Slice", "set by daggyr: all tasks are in its slice" },
        { "KillMode", "set by daggyr: every process of a task ends with it" },
        { "KillSignal", "set by daggyr: SIGTERM, then SIGKILL after \"grace\"" },
        { "SendSIGKILL", "set by daggyr: SIGTERM, then SIGKILL after \"grace\"" },
        { "OOMPolicy", "set by daggyr" },
        { "Delegate", "set by daggyr" },
        { "Description", "set by daggyr: use \"labels\"" },
};

static int refuse(const char *name, const char *path, Problem *reterr_problem) {
        for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
                if (streq(name, refusals[i].name))
                        return problem_set(reterr_problem, 400, path, "%s", refusals[i].advice);

        return problem_set(reterr_problem, 400, path, "not a property that tasks may set");
}

static int parse_property(
                const char *name,
                json_object *value,
                const char *path,
                TaskProperty *property,
                Problem *reterr_problem) {
        char member_path[PROBLEM_FIELD_SIZE];

        json_pointer_join(member_path, path, name);

        const TaskPropertyForm *form = task_property_find(name, NULL);
        if (!form)
                return refuse(name, member_path, reterr_problem);

        property->name = form->name;
        property->kind = form->kind;
        switch (form->kind) {
        case TASK_PROPERTY_NUMBER:
                return form->suffix_base > 0 ?
                                parse_property_amount(value, form, member_path, property, reterr_problem) :
                                parse_property_weight(value, form, member_path, property, reterr_problem);
        case TASK_PROPERTY_MASK:
                return parse_property_mask(value, member_path, property, reterr_problem);
        case TASK_PROPERTY_ADDRESSES:
                return parse_property_addresses(value, member_path, property, reterr_problem);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return parse_property_device_limits(value, form, member_path, property, reterr_problem);
        }
        return -EINVAL;
}

int task_properties_parse(
                json_object *object,
                const char *path,
                TaskProperties **ret,
                Problem *reterr_problem) {
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;

        assert(path);
        assert(ret);
        assert(reterr_problem);

        if (!json_object_is_type(object, json_type_object))
                return problem_set(reterr_problem, 400, path, "must be an object");

        size_t n = (size_t) json_object_object_length(object);
        if (n > TASK_PROPERTIES_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must not have more than %d members",
                                TASK_PROPERTIES_MAX);

        properties = calloc(1, sizeof(TaskProperties));
        if (!properties)
                return problem_from_errno(reterr_problem, -ENOMEM);

        properties->items = calloc(n + 1, sizeof(TaskProperty));
        if (!properties->items)
                return problem_from_errno(reterr_problem, -ENOMEM);

        json_object_object_foreach(object, name, value) {
                TaskProperty *property = &properties->items[properties->n_items++];

                int r = parse_property(name, value, path, property, reterr_problem);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(properties);
        return 0;
}

static bool address_is_in(const TaskAddress *wanted, const TaskProperty *property) {
        for (size_t i = 0; i < property->n_addresses; i++) {
                const TaskAddress *address = &property->addresses[i];

                if (address->family == wanted->family && address->n_bits == wanted->n_bits &&
                    memcmp(address->bytes, wanted->bytes, wanted->size) == 0)
                        return true;
        }
        return false;
}

static bool limit_is_in(const TaskDeviceLimit *wanted, const TaskProperty *property) {
        for (size_t i = 0; i < property->n_limits; i++)
                if (streq(property->limits[i].path, wanted->path))
                        return property->limits[i].limit == wanted->limit;
        return false;
}

/* Whether all that A says is said by B as well; addresses may be said twice. */
static bool property_is_in(const TaskProperty *a, const TaskProperty *b) {
        if (!streq(a->name, b->name) || a->number != b->number || a->mask_size != b->mask_size ||
            (a->mask_size > 0 && memcmp(a->mask, b->mask, a->mask_size) != 0))
                return false;
        for (size_t i = 0; i < a->n_addresses; i++)
                if (!address_is_in(&a->addresses[i], b))
                        return false;
        for (size_t i = 0; i < a->n_limits; i++)
                if (!limit_is_in(&a->limits[i], b))
                        return false;
        return true;
}

static bool properties_are_in(const TaskProperties *a, const TaskProperties *b) {
        for (size_t i = 0; a && i < a->n_items; i++) {
                bool found = false;

                for (size_t j = 0; b && j < b->n_items && !found; j++)
                        found = property_is_in(&a->items[i], &b->items[j]);
                if (!found)
                        return false;
        }
        return true;
}

bool task_properties_equal(const TaskProperties *a, const TaskProperties *b) {
        return properties_are_in(a, b) && properties_are_in(b, a);
}
