/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The message by which systemd makes a scope. */
#include "io/systemd1-internal.h"

/* What every task's scope has. There is no ordering to the unit it is bound to: with After= a scope would
 * wait for a daemon that is not READY yet, with Before= a daemon that is being stopped would wait in vain for
 * a scope it stops itself (both seen on 252). An OOM kill is the leader's to answer ("continue"), the same
 * way on cgroup v1, where systemd never hears of it. */
static int append_scope_properties(sd_bus_message *m, const ScopeParameters *p) {
        int r = sd_bus_message_append(
                        m,
                        "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)",
                        "Description",
                        "s",
                        p->description,
                        "CollectMode",
                        "s",
                        "inactive-or-failed",
                        "OOMPolicy",
                        "s",
                        "continue",
                        "TimeoutStopUSec",
                        "t",
                        p->stop_timeout_usec,
                        "CPUAccounting",
                        "b",
                        1,
                        "MemoryAccounting",
                        "b",
                        1,
                        "TasksAccounting",
                        "b",
                        1,
                        "IOAccounting",
                        "b",
                        1,
                        "TasksMax",
                        "t",
                        p->tasks_max);
        if (r >= 0 && p->cpu_quota_usec != UINT64_MAX)
                r = sd_bus_message_append(m, "(sv)", "CPUQuotaPerSecUSec", "t", p->cpu_quota_usec);
        if (r >= 0 && p->memory_max_bytes != UINT64_MAX)
                r = sd_bus_message_append(
                                m,
                                "(sv)(sv)",
                                "MemoryMax",
                                "t",
                                p->memory_max_bytes,
                                "MemorySwapMax",
                                "t",
                                UINT64_C(0));
        if (r >= 0 && p->bound_to)
                r = sd_bus_message_append(m, "(sv)", "BindsTo", "as", 1, p->bound_to);
        if (r >= 0 && p->slice)
                r = sd_bus_message_append(m, "(sv)", "Slice", "s", p->slice);
        return r;
}

/* A number is safe as long as the process is a child that nobody has reaped; a descriptor always is. */
static int append_process(const Systemd1 *systemd1, sd_bus_message *m, const ScopeParameters *p) {
        if (p->pid_fd >= 0 && systemd1->version >= SYSTEMD1_VERSION_PID_FDS)
                return sd_bus_message_append(m, "(sv)", "PIDFDs", "ah", 1, p->pid_fd);
        return sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, (uint32_t) p->pid);
}

static int append_addresses(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "a(iayu)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(iayu)");
        for (size_t i = 0; r >= 0 && i < property->n_addresses; i++) {
                const TaskAddress *address = &property->addresses[i];
                r = sd_bus_message_open_container(m, 'r', "iayu");
                if (r >= 0)
                        r = sd_bus_message_append(m, "i", (int32_t) address->family);
                if (r >= 0)
                        r = sd_bus_message_append_array(m, 'y', address->bytes, address->size);
                if (r >= 0)
                        r = sd_bus_message_append(m, "u", address->n_bits);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_device_limits(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "a(st)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(st)");
        for (size_t i = 0; r >= 0 && i < property->n_limits; i++)
                r = sd_bus_message_append(m, "(st)", property->limits[i].path, property->limits[i].limit);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* "closed" leaves what every program needs, /dev/null and the like. */
static int append_device_paths(sd_bus_message *m, char *const *paths) {
        int r = sd_bus_message_append(m, "(sv)", "DevicePolicy", "s", "closed");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "DeviceAllow");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(ss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(ss)");
        for (; r >= 0 && *paths; paths++)
                r = sd_bus_message_append(m, "(ss)", *paths, "rw");
        for (int depth = 0; r >= 0 && depth < 3; depth++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_mask(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', property->mask, property->mask_size);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_property_value(sd_bus_message *m, const TaskProperty *property) {
        switch (property->kind) {
        case TASK_PROPERTY_NUMBER:
                return sd_bus_message_append(m, "v", "t", property->number);
        case TASK_PROPERTY_MASK:
                return append_mask(m, property);
        case TASK_PROPERTY_ADDRESSES:
                return append_addresses(m, property);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return append_device_limits(m, property);
        }
        return -EINVAL;
}

static int append_task_properties(sd_bus_message *m, const TaskProperties *properties) {
        int r = 0;
        for (size_t i = 0; properties && r >= 0 && i < properties->n_items; i++) {
                r = sd_bus_message_open_container(m, 'r', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", properties->items[i].name);
                if (r >= 0)
                        r = append_property_value(m, &properties->items[i]);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r;
}

static int scope_message(Systemd1 *systemd1, const ScopeParameters *parameters, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = systemd1_manager_message(systemd1, "StartTransientUnit", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", parameters->name, "fail");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r < 0)
                return r;
        r = append_scope_properties(m, parameters);
        if (r < 0)
                return r;
        r = append_process(systemd1, m, parameters);
        if (r < 0)
                return r;
        if (parameters->device_paths)
                r = append_device_paths(m, parameters->device_paths);
        if (r < 0)
                return r;
        r = append_task_properties(m, parameters->properties);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

int systemd1_start_scope(
                Systemd1 *systemd1,
                const ScopeParameters *parameters,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        sd_bus_message *message = NULL;
        int r = scope_message(systemd1, parameters, &message);
        if (r < 0)
                return r;
        return systemd1_call_job(systemd1, message, parameters->name, done, userdata, ret);
}
