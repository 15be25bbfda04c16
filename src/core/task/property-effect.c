/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/property-effect.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* The kernel's v1 limits operations of a device, too, but systemd does not ask it to. */
static const struct {
        const char *name;
        PropertyPlace place;
} places[] = {
        { "CPUWeight", { "cpu", { "cpu.shares" }, { "cpu.weight" } } },
        { "IOWeight", { "blkio", { "blkio.bfq.weight", "blkio.weight" }, { "io.weight", "io.bfq.weight" } } },
        { "MemoryMin", { "memory", {}, { "memory.min" } } },
        { "MemoryLow", { "memory", {}, { "memory.low" } } },
        { "MemoryHigh", { "memory", {}, { "memory.high" } } },
        { "AllowedCPUs", { "cpuset", {}, { "cpuset.cpus" } } },
        { "AllowedMemoryNodes", { "cpuset", {}, { "cpuset.mems" } } },
        { "IOReadBandwidthMax", { "blkio", { "blkio.throttle.read_bps_device" }, { "io.max" } } },
        { "IOWriteBandwidthMax", { "blkio", { "blkio.throttle.write_bps_device" }, { "io.max" } } },
        { "IOReadIOPSMax", { "blkio", {}, { "io.max" } } },
        { "IOWriteIOPSMax", { "blkio", {}, { "io.max" } } },
};

const PropertyPlace *property_place(const char *name) {
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
                if (streq(places[i].name, name))
                        return &places[i].place;
        return NULL;
}

/* The key of a limit in a line of io.max, "8:0 rbps=1000 wbps=max riops=max wiops=max". */
static const char *limit_key(const char *name) {
        if (streq(name, "IOReadBandwidthMax"))
                return " rbps=";
        if (streq(name, "IOWriteBandwidthMax"))
                return " wbps=";
        return streq(name, "IOReadIOPSMax") ? " riops=" : " wiops=";
}

/* Lines of v1 are "8:0 1000", and only of devices that have a limit. */
static bool line_has_limit(const char *line, size_t size, const char *key) {
        const char *equals = memchr(line, '=', size);
        if (!equals)
                return size > 0;
        for (const char *p = line; p + strlen(key) < line + size; p++)
                if (strncmp(p, key, strlen(key)) == 0)
                        return strncmp(p + strlen(key), "max", 3) != 0;
        return false;
}

static PropertyEffect device_limits_effect(const TaskProperty *property, const char *content) {
        size_t n_wanted = 0, n_found = 0;
        for (size_t i = 0; i < property->n_limits; i++)
                n_wanted += property->limits[i].limit != UINT64_MAX;
        for (const char *line = content; *line;) {
                size_t size = strcspn(line, "\n");
                n_found += line_has_limit(line, size, limit_key(property->name));
                line += size + (line[size] == '\n');
        }
        if (n_found >= n_wanted)
                return PROPERTY_IN_FORCE;
        return n_found > 0 ? PROPERTY_PARTLY : PROPERTY_WITHOUT_EFFECT;
}

PropertyEffect property_effect(const TaskProperty *property, const char *content) {
        assert(property);

        switch (property->kind) {
        case TASK_PROPERTY_ADDRESSES: /* no file tells */
                return PROPERTY_IN_FORCE;
        case TASK_PROPERTY_NUMBER:
                return content ? PROPERTY_IN_FORCE : PROPERTY_WITHOUT_EFFECT;
        case TASK_PROPERTY_MASK: /* an empty list is that of the cgroup above */
                return content && content[strspn(content, " \n")] ? PROPERTY_IN_FORCE :
                                                                    PROPERTY_WITHOUT_EFFECT;
        case TASK_PROPERTY_DEVICE_LIMITS:
                return device_limits_effect(property, content ?: "");
        }
        return PROPERTY_IN_FORCE;
}

const char *property_complaint(const TaskProperty *property, const CgroupSetup *setup, const char *content) {
        if (property->kind == TASK_PROPERTY_ADDRESSES)
                return !setup->has_v2           ? "takes cgroup v2" :
                                setup->is_users ? "takes the system's service manager" :
                                                  NULL;
        switch (property_effect(property, content)) {
        case PROPERTY_IN_FORCE:
                return NULL;
        case PROPERTY_PARTLY:
                return "not every device is there";
        case PROPERTY_WITHOUT_EFFECT:
                break;
        }
        const PropertyPlace *place = property_place(property->name);
        if (!setup->is_unified && place && !place->legacy[0])
                return "takes cgroup v2";
        return property->kind == TASK_PROPERTY_DEVICE_LIMITS && content ? "no such device" :
                                                                          "no cgroup controller for it";
}
