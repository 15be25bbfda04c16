/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/capacity-watch.h"

#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "io/host.h"
#include "io/systemd1-query.h"

#define FRESH_USEC (1 * USEC_PER_SEC)

struct CapacityWaiter {
        CapacityWatch *watch; /* weak */
        CapacityWaiter *prev, *next;
        CapacityFresh fresh;
        void *userdata;
};

struct CapacityWatch {
        Systemd1 *systemd1; /* weak */
        bool is_users;
        char *slice;
        CapacityHandler handler;
        void *userdata;
        SystemdFacts facts;
        usec_t answered_usec; /* 0: never */
        Systemd1Query *query; /* under way */
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
        *watch = (CapacityWatch) {
                .systemd1 = systemd1,
                .is_users = is_users,
                .slice = strdup(slice),
                .handler = handler,
                .userdata = userdata,
        };
        if (!watch->slice)
                return -ENOMEM;
        *ret = TAKE_PTR(watch);
        return 0;
}

CapacityWatch *capacity_watch_free(CapacityWatch *watch) {
        if (!watch)
                return NULL;
        while (watch->waiters)
                capacity_waiter_cancel(watch->waiters);
        systemd1_query_free(watch->query);
        free(watch->facts.version);
        free(watch->facts.virtualization);
        free(watch->facts.system_state);
        free(watch->facts.control_group);
        free(watch->slice);
        free(watch);
        return NULL;
}

const SystemdFacts *capacity_watch_facts(const CapacityWatch *watch) {
        return &watch->facts;
}

void capacity_waiter_cancel(CapacityWaiter *waiter) {
        if (!waiter)
                return;
        DL_DELETE(waiter->watch->waiters, waiter);
        free(waiter);
}

static void watch_answered(CapacityWatch *watch) {
        watch->query = systemd1_query_free(watch->query);
        watch->answered_usec = usec_now(CLOCK_BOOTTIME);
        while (watch->waiters) {
                CapacityFresh fresh = watch->waiters->fresh;
                void *userdata = watch->waiters->userdata;
                capacity_waiter_cancel(watch->waiters);
                fresh(userdata);
        }
}

static int ask_manager(CapacityWatch *watch, const char *property, Systemd1StringHandler handler) {
        watch->query = systemd1_query_free(watch->query);
        return systemd1_ask_string(watch->systemd1, property, handler, watch, &watch->query);
}

static void on_limits(int error, const SliceLimits *limits, void *userdata) {
        CapacityWatch *watch = userdata;
        if (error >= 0)
                watch->handler(limits, watch->userdata);
        watch_answered(watch);
}

static void ask_limits(CapacityWatch *watch) {
        watch->query = systemd1_query_free(watch->query);
        if (systemd1_ask_limits(watch->systemd1, watch->slice, on_limits, watch, &watch->query) < 0)
                watch_answered(watch);
}

static void take_string(int error, const char *value, char **target) {
        char *copy = error < 0 ? NULL : strdup(value);
        if (!copy)
                return;
        free(*target);
        *target = copy;
}

static void on_system_state(int error, const char *value, void *userdata) {
        CapacityWatch *watch = userdata;
        take_string(error, value, &watch->facts.system_state);
        ask_limits(watch);
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

static void on_control_group(int error, const char *value, void *userdata) {
        CapacityWatch *watch = userdata;
        take_string(error, value, &watch->facts.control_group);
        if (error >= 0)
                watch_find_warnings(watch, value);
        if (ask_manager(watch, "SystemState", on_system_state) < 0)
                watch_answered(watch);
}

static void on_virtualization(int error, const char *value, void *userdata) {
        CapacityWatch *watch = userdata;
        take_string(error, value, &watch->facts.virtualization);
        if (ask_manager(watch, "ControlGroup", on_control_group) < 0)
                watch_answered(watch);
}

static void on_version(int error, const char *value, void *userdata) {
        CapacityWatch *watch = userdata;
        take_string(error, value, &watch->facts.version);
        if (ask_manager(watch, "Virtualization", on_virtualization) < 0)
                watch_answered(watch);
}

void capacity_watch_reset(CapacityWatch *watch) {
        watch->query = systemd1_query_free(watch->query);
        watch->answered_usec = 0;
}

static bool is_fresh(const CapacityWatch *watch) {
        return watch->answered_usec > 0 &&
                        usec_now(CLOCK_BOOTTIME) < usec_add(watch->answered_usec, FRESH_USEC);
}

void capacity_watch_refresh(CapacityWatch *watch) {
        if (watch->query || is_fresh(watch))
                return;
        int r;
        if (watch->answered_usec == 0) /* the manager is new to us */
                r = ask_manager(watch, "Version", on_version);
        else
                r = ask_manager(watch, "SystemState", on_system_state);
        if (r < 0)
                watch->query = systemd1_query_free(watch->query);
}

int capacity_watch_when_fresh(
                CapacityWatch *watch,
                CapacityFresh fresh,
                void *userdata,
                CapacityWaiter **ret) {
        capacity_watch_refresh(watch);
        if (!watch->query) {
                *ret = NULL;
                fresh(userdata);
                return 0;
        }
        CapacityWaiter *waiter = calloc(1, sizeof(*waiter));
        if (!waiter)
                return -ENOMEM;
        *waiter = (CapacityWaiter) {
                .watch = watch,
                .fresh = fresh,
                .userdata = userdata,
        };
        DL_APPEND(watch->waiters, waiter);
        *ret = waiter;
        return 0;
}
