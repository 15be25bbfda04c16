/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/capacity-watch.h"

#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "io/host.h"

#define FRESH_USEC (1 * USEC_PER_SEC)

struct CapacityWaiter {
        CapacityWatch *watch; /* weak */
        CapacityWaiter *previous, *next;
        CapacityFresh fresh;
        void *userdata;
};

struct CapacityWatch {
        Systemd1 *systemd1; /* weak */
        bool is_users;
        char *path;
        CapacityHandler handler;
        void *userdata;
        SystemdFacts facts;
        usec_t answered_usec; /* 0: never */
        sd_bus_slot *slot;    /* of the question under way */
        CapacityWaiter *waiters;
};

int capacity_watch_new(
                Systemd1 *systemd1,
                bool is_users,
                const char *slice,
                CapacityHandler handler,
                void *userdata,
                CapacityWatch **ret) {
        _cleanup_(capacity_watch_freep) CapacityWatch *watch = calloc(1, sizeof(*watch));
        if (!watch)
                return -ENOMEM;
        *watch = (CapacityWatch){
                .systemd1 = systemd1, .is_users = is_users, .handler = handler, .userdata = userdata
        };
        int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", slice, &watch->path);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}

CapacityWatch *capacity_watch_free(CapacityWatch *watch) {
        if (!watch)
                return NULL;
        while (watch->waiters)
                capacity_waiter_cancel(watch->waiters);
        sd_bus_slot_unref(watch->slot);
        free(watch->facts.version);
        free(watch->facts.virtualization);
        free(watch->facts.system_state);
        free(watch->path);
        free(watch);
        return NULL;
}

const SystemdFacts *capacity_watch_facts(const CapacityWatch *watch) {
        return &watch->facts;
}

void capacity_waiter_cancel(CapacityWaiter *waiter) {
        if (!waiter)
                return;
        *(waiter->previous ? &waiter->previous->next : &waiter->watch->waiters) = waiter->next;
        if (waiter->next)
                waiter->next->previous = waiter->previous;
        free(waiter);
}

static void watch_answered(CapacityWatch *watch) {
        watch->slot = sd_bus_slot_unref(watch->slot);
        watch->answered_usec = usec_now(CLOCK_BOOTTIME);
        while (watch->waiters) {
                CapacityFresh fresh = watch->waiters->fresh;
                void *userdata = watch->waiters->userdata;
                capacity_waiter_cancel(watch->waiters);
                fresh(userdata);
        }
}

static int ask(CapacityWatch *watch,
               sd_bus_message_handler_t handler,
               const char *path,
               const char *method,
               const char *interface,
               const char *property) {
        watch->slot = sd_bus_slot_unref(watch->slot);
        sd_bus *bus = systemd1_bus(watch->systemd1);
        if (!bus)
                return -ENOTCONN;
        const char *properties = "org.freedesktop.DBus.Properties";
        if (property)
                return sd_bus_call_method_async(
                                bus,
                                &watch->slot,
                                SYSTEMD1_SERVICE,
                                path,
                                properties,
                                method,
                                handler,
                                watch,
                                "ss",
                                interface,
                                property);
        return sd_bus_call_method_async(
                        bus,
                        &watch->slot,
                        SYSTEMD1_SERVICE,
                        path,
                        properties,
                        method,
                        handler,
                        watch,
                        "s",
                        interface);
}

static int read_number(sd_bus_message *m, uint64_t *ret) {
        return sd_bus_message_read(m, "v", "t", ret);
}

static int read_cpus(sd_bus_message *m, uint64_t *ret) {
        const void *mask;
        size_t size;
        int r = sd_bus_message_enter_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 'y', &mask, &size);
        if (r < 0)
                return r;
        *ret = 0;
        for (size_t i = 0; i < size; i++)
                *ret += (uint64_t) __builtin_popcount(((const uint8_t *) mask)[i]);
        return sd_bus_message_exit_container(m);
}

static int read_limit(sd_bus_message *m, const char *name, SliceLimits *limits) {
        uint64_t memory;
        int r;
        if (streq(name, "EffectiveCPUs"))
                return read_cpus(m, &limits->cpus);
        if (streq(name, "CPUQuotaPerSecUSec"))
                return read_number(m, &limits->cpu_quota_usec);
        if (!streq(name, "MemoryMax") && !streq(name, "EffectiveMemoryMax"))
                return sd_bus_message_skip(m, "v");
        r = read_number(m, &memory);
        if (r >= 0 && memory < limits->memory_max_bytes)
                limits->memory_max_bytes = memory;
        return r;
}

static int read_limits(sd_bus_message *m, SliceLimits *limits) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = read_limit(m, name, limits);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static int on_limits(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        CapacityWatch *watch = userdata;
        SliceLimits limits = { .cpu_quota_usec = UINT64_MAX, .memory_max_bytes = UINT64_MAX };
        if (!sd_bus_message_is_method_error(reply, NULL) && read_limits(reply, &limits) >= 0)
                watch->handler(&limits, watch->userdata);
        watch_answered(watch);
        return 0;
}

static void take_string(sd_bus_message *reply, char **target) {
        const char *value;
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "v", "s", &value) < 0)
                return;
        char *copy = strdup(value);
        if (!copy)
                return;
        free(*target);
        *target = copy;
}

static int on_system_state(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        CapacityWatch *watch = userdata;
        take_string(reply, &watch->facts.system_state);
        if (ask(watch, on_limits, watch->path, "GetAll", "org.freedesktop.systemd1.Slice", NULL) < 0)
                watch_answered(watch);
        return 0;
}

static int ask_manager(CapacityWatch *watch, sd_bus_message_handler_t handler, const char *property) {
        return ask(watch, handler, SYSTEMD1_MANAGER_PATH, "Get", SYSTEMD1_MANAGER_INTERFACE, property);
}

static void watch_find_warnings(CapacityWatch *watch, const char *control_group) {
        _cleanup_(text_done) Text controllers = {};
        if (host_controllers(control_group, watch->is_users, &controllers) < 0)
                return;
        size_t n_before = watch->facts.n_warnings;
        watch->facts.n_warnings = controllers_warnings(controllers.data ?: "", watch->facts.warnings);
        for (size_t i = 0; i < watch->facts.n_warnings && n_before == 0; i++)
                log_line(LOG_WARNING, "Limits: %s", watch->facts.warnings[i]);
}

static int on_control_group(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        CapacityWatch *watch = userdata;
        const char *control_group;
        if (!sd_bus_message_is_method_error(reply, NULL) &&
            sd_bus_message_read(reply, "v", "s", &control_group) >= 0)
                watch_find_warnings(watch, control_group);
        if (ask_manager(watch, on_system_state, "SystemState") < 0)
                watch_answered(watch);
        return 0;
}

static int on_virtualization(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        CapacityWatch *watch = userdata;
        take_string(reply, &watch->facts.virtualization);
        if (ask_manager(watch, on_control_group, "ControlGroup") < 0)
                watch_answered(watch);
        return 0;
}

static int on_version(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        CapacityWatch *watch = userdata;
        take_string(reply, &watch->facts.version);
        if (ask_manager(watch, on_virtualization, "Virtualization") < 0)
                watch_answered(watch);
        return 0;
}

void capacity_watch_reset(CapacityWatch *watch) {
        watch->slot = sd_bus_slot_unref(watch->slot);
        watch->answered_usec = 0;
}

static bool is_fresh(const CapacityWatch *watch) {
        return watch->answered_usec > 0 &&
                        usec_now(CLOCK_BOOTTIME) < usec_add(watch->answered_usec, FRESH_USEC);
}

void capacity_watch_refresh(CapacityWatch *watch) {
        if (watch->slot || is_fresh(watch))
                return;
        int r;
        if (watch->answered_usec == 0) /* the manager is new to us */
                r = ask_manager(watch, on_version, "Version");
        else
                r = ask_manager(watch, on_system_state, "SystemState");
        if (r < 0)
                watch->slot = sd_bus_slot_unref(watch->slot);
}

int capacity_watch_when_fresh(
                CapacityWatch *watch,
                CapacityFresh fresh,
                void *userdata,
                CapacityWaiter **ret) {
        capacity_watch_refresh(watch);
        if (!watch->slot) {
                *ret = NULL;
                fresh(userdata);
                return 0;
        }
        CapacityWaiter *waiter = calloc(1, sizeof(*waiter));
        if (!waiter)
                return -ENOMEM;
        *waiter = (CapacityWaiter){
                .watch = watch,
                .next = watch->waiters,
                .fresh = fresh,
                .userdata = userdata,
        };
        if (waiter->next)
                waiter->next->previous = waiter;
        watch->waiters = waiter;
        *ret = waiter;
        return 0;
}
