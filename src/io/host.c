/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/host.h"

#include <stdio.h>
#include <sys/sysinfo.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "io/file.h"

#define CGROUP_ROOT          "/sys/fs/cgroup"
#define EVENTS_SIZE_MAX      4096
#define CONTROLLERS_SIZE_MAX 4096
#define PRESSURE_SIZE_MAX    4096

#define DAGGYR_APPLICATION_ID SD_ID128_MAKE(5d, 0e, 7c, 86, f1, 4b, 4c, 0a, 9b, 6e, 35, c5, 3c, 2e, 9d, 71)

int host_facts_read(HostFacts *ret) {
        HostFacts facts = {};
        sd_id128_t id;
        int r = sd_id128_get_machine_app_specific(DAGGYR_APPLICATION_ID, &id);
        if (r >= 0) /* a container without machine-id still runs tasks */
                (void) sd_id128_to_string(id, facts.machine_id);
        r = sd_id128_get_boot(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, facts.boot_id);
        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, facts.instance_id);

        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        struct sysinfo info;
        if (cpus < 1 || sysinfo(&info) < 0)
                return -EIO;
        facts.cpus = (uint64_t) cpus;
        facts.memory_mb = (uint64_t) info.totalram * info.mem_unit / (1024 * 1024);
        *ret = facts;
        return 0;
}

/* v1: each has a hierarchy of its own, which only the system's manager may use. */
static int host_controllers_v1(bool is_users, Text *ret) {
        static const char *const names[] = { "cpu", "memory", "pids" };
        for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !is_users; i++) {
                char path[sizeof(CGROUP_ROOT) + 16];
                (void) snprintf(path, sizeof(path), CGROUP_ROOT "/%s", names[i]);
                if (access(path, F_OK) < 0)
                        continue;
                int r = text_append(ret, names[i]);
                if (r >= 0)
                        r = text_append(ret, " ");
                if (r < 0)
                        return r;
        }
        return 0;
}

int host_controllers(const char *control_group, bool is_users, Text *ret) {
        if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) < 0)
                return host_controllers_v1(is_users, ret);
        _cleanup_(freep) char *path = NULL;
        if (text_format(&path, CGROUP_ROOT "%s/cgroup.controllers", control_group) < 0)
                return -ENOMEM;
        int r = file_read_all(path, CONTROLLERS_SIZE_MAX, ret);
        return r == -ENOMEM ? r : 0;
}

int host_slice_oom_kills(const char *control_group, const char *slice, uint64_t *ret) {
        if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) < 0)
                return -EOPNOTSUPP;
        _cleanup_(text_done) Text path = {}, events = {};
        int r = text_appendf(&path, CGROUP_ROOT "%s/%s/memory.events", control_group, slice);
        if (r >= 0)
                r = file_read_all(path.data, EVENTS_SIZE_MAX, &events);
        if (r < 0)
                return r;
        const char *line = strstr(events.data ?: "", "\noom_kill ");
        *ret = line ? strtoull(line + strlen("\noom_kill "), NULL, 10) : 0;
        return 0;
}

int host_slice_memory_pressure(const char *control_group, const char *slice, Text *ret) {
        const char *mount = access(CGROUP_ROOT "/cgroup.controllers", F_OK) < 0 ? "/unified" : "";
        _cleanup_(text_done) Text managers = {}, slices = {};
        int r = text_appendf(&managers, CGROUP_ROOT "%s%s/memory.pressure", mount, control_group);
        if (r >= 0)
                r = text_appendf(&slices, CGROUP_ROOT "%s%s/%s/memory.pressure", mount, control_group, slice);
        if (r >= 0)
                r = file_read_all(slices.data, PRESSURE_SIZE_MAX, ret);
        if (r == -ENOENT)
                return access(managers.data, F_OK) < 0 ? -EOPNOTSUPP : 0;
        return r;
}
