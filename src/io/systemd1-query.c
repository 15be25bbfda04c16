/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/systemd1-query.h"

#include <assert.h>

#include "base/text.h"
#include "io/systemd1-internal.h"

#define UNITS_MAX 100000 /* as many as systemd would ever have of ours */

struct Systemd1Query {
        Systemd1 *systemd1; /* weak */
        sd_bus_slot *slot;
        char *subject; /* the unit in question */
        char *other;   /* the unit it may be bound to */
        union {
                Systemd1UnitOfHandler unit_of;
                Systemd1UnitsHandler units;
                Systemd1BoundHandler bound;
                Systemd1StringHandler string;
                Systemd1LimitsHandler limits;
        } handler;
        void *userdata;
};

Systemd1Query *systemd1_query_free(Systemd1Query *query) {
        if (!query)
                return NULL;
        sd_bus_slot_unref(query->slot);
        free(query->subject);
        free(query->other);
        free(query);
        return NULL;
}

static int query_new(Systemd1 *systemd1, const char *subject, void *userdata, Systemd1Query **ret) {
        if (!systemd1->connected)
                return -ENOTCONN;
        _cleanup_(systemd1_query_freep) Systemd1Query *query = calloc(1, sizeof(*query));
        if (!query)
                return -ENOMEM;
        *query = (Systemd1Query) {
                .systemd1 = systemd1,
                .subject = strdup(subject),
                .userdata = userdata,
        };
        if (!query->subject)
                return -ENOMEM;
        *ret = TAKE_PTR(query);
        return 0;
}

static int reply_errno(sd_bus_message *reply) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        return error ? systemd1_reply_errno(error) : 0;
}

/* Asks for a property of the unit that is the query's subject, or of the manager without one. */
static int ask_property(
                Systemd1Query *query,
                const char *interface,
                const char *property,
                sd_bus_message_handler_t on_reply) {
        _cleanup_(freep) char *path = NULL;
        if (*query->subject) {
                int r = sd_bus_path_encode(SYSTEMD1_UNIT_PATH, query->subject, &path);
                if (r < 0)
                        return r;
        }
        query->slot = sd_bus_slot_unref(query->slot);
        int r = sd_bus_call_method_async(
                        query->systemd1->bus,
                        &query->slot,
                        SYSTEMD1_SERVICE,
                        path ?: SYSTEMD1_MANAGER_PATH,
                        "org.freedesktop.DBus.Properties",
                        "Get",
                        on_reply,
                        query,
                        "ss",
                        interface,
                        property);
        return systemd1_send_errno(r);
}

/* Something that is no service has no main process. */
static int on_main_pid(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Query *query = userdata;
        uint32_t main_pid = 0;
        int r = reply_errno(reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "v", "u", &main_pid);
        if (r == -EBADR) /* no such interface, as it is no service */
                r = 0;
        query->handler.unit_of(
                        r < 0 ? r : 0, r < 0 ? NULL : query->subject, (pid_t) main_pid, query->userdata);
        return 0;
}

static int take_unit_name(Systemd1Query *query, sd_bus_message *reply) {
        const char *path;
        int r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        free(query->subject);
        query->subject = NULL;
        r = sd_bus_path_decode(path, SYSTEMD1_UNIT_PATH, &query->subject);
        return r == 0 ? -EBADMSG : r;
}

static int on_unit_of(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Query *query = userdata;
        if (sd_bus_message_is_method_error(reply, "org.freedesktop.systemd1.NoUnitForPID")) {
                query->handler.unit_of(0, NULL, 0, query->userdata);
                return 0;
        }
        int r = reply_errno(reply);
        if (r >= 0)
                r = take_unit_name(query, reply);
        if (r >= 0)
                r = ask_property(query, "org.freedesktop.systemd1.Service", "MainPID", on_main_pid);
        if (r < 0)
                query->handler.unit_of(r, NULL, 0, query->userdata);
        return 0;
}

int systemd1_ask_unit_of(
                Systemd1 *systemd1,
                pid_t pid,
                Systemd1UnitOfHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        _cleanup_(systemd1_query_freep) Systemd1Query *query = NULL;
        int r = query_new(systemd1, "", userdata, &query);
        if (r < 0)
                return r;
        query->handler.unit_of = handler;
        r = sd_bus_call_method_async(
                        systemd1->bus,
                        &query->slot,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "GetUnitByPID",
                        on_unit_of,
                        query,
                        "u",
                        (uint32_t) pid);
        if (r < 0)
                return systemd1_send_errno(r);
        *ret = TAKE_PTR(query);
        return 0;
}

static int read_unit(sd_bus_message *reply, UnitStatus *ret) {
        return sd_bus_message_read(
                        reply,
                        "(ssssssouso)",
                        &ret->name,
                        NULL,
                        NULL,
                        &ret->active_state,
                        NULL,
                        NULL,
                        NULL,
                        NULL,
                        &ret->job_type,
                        NULL);
}

static int read_units(sd_bus_message *reply, UnitStatus **ret, size_t *ret_n) {
        _cleanup_(freep) UnitStatus *units = NULL;
        size_t n = 0;
        int r = reply_errno(reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        if (r < 0)
                return r;
        UnitStatus unit;
        while ((r = read_unit(reply, &unit)) > 0) {
                UnitStatus *more = n < UNITS_MAX ? reallocarray(units, n + 1, sizeof(*units)) : NULL;
                if (!more)
                        return -ENOMEM;
                units = more;
                units[n++] = unit;
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(units);
        *ret_n = n;
        return 0;
}

static int on_units(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Query *query = userdata;
        _cleanup_(freep) UnitStatus *units = NULL;
        size_t n = 0;
        int r = read_units(reply, &units, &n);
        query->handler.units(r, units, n, query->userdata);
        return 0;
}

/* METHOD lists units by names or patterns; BY_STATE: it takes a list of states first, of which none is every
 * one. */
static int ask_list(
                Systemd1 *systemd1,
                const char *method,
                bool by_state,
                const char *name,
                Systemd1UnitsHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        _cleanup_(systemd1_query_freep) Systemd1Query *query = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = query_new(systemd1, "", userdata, &query);
        if (r >= 0)
                r = systemd1_manager_message(systemd1, method, &m);
        if (r >= 0 && by_state)
                r = sd_bus_message_append(m, "as", 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "as", 1, name);
        if (r < 0)
                return r;
        query->handler.units = handler;
        r = sd_bus_call_async(systemd1->bus, &query->slot, m, on_units, query, 0);
        if (r < 0)
                return systemd1_send_errno(r);
        *ret = TAKE_PTR(query);
        return 0;
}

int systemd1_ask_units(
                Systemd1 *systemd1,
                const char *pattern,
                Systemd1UnitsHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        return ask_list(systemd1, "ListUnitsByPatterns", true, pattern, handler, userdata, ret);
}

int systemd1_ask_unit(
                Systemd1 *systemd1,
                const char *name,
                Systemd1UnitsHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        return ask_list(systemd1, "ListUnitsByNames", false, name, handler, userdata, ret);
}

static int read_is_bound(sd_bus_message *reply, const char *to, bool *ret) {
        int r = reply_errno(reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "s");
        if (r < 0)
                return r;
        const char *unit;
        while ((r = sd_bus_message_read(reply, "s", &unit)) > 0)
                *ret |= streq(unit, to);
        return r;
}

static int on_binds_to(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Query *query = userdata;
        bool is_bound = false;
        int r = read_is_bound(reply, query->other, &is_bound);
        query->handler.bound(r, is_bound, query->userdata);
        return 0;
}

int systemd1_ask_bound(
                Systemd1 *systemd1,
                const char *unit,
                const char *to,
                Systemd1BoundHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        _cleanup_(systemd1_query_freep) Systemd1Query *query = NULL;
        int r = query_new(systemd1, unit, userdata, &query);
        if (r < 0)
                return r;
        query->handler.bound = handler;
        query->other = strdup(to);
        if (!query->other)
                return -ENOMEM;
        r = ask_property(query, "org.freedesktop.systemd1.Unit", "BindsTo", on_binds_to);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(query);
        return 0;
}

static int on_string(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Query *query = userdata;
        const char *value = NULL;
        int r = reply_errno(reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "v", "s", &value);
        query->handler.string(r < 0 ? r : 0, value, query->userdata);
        return 0;
}

int systemd1_ask_string(
                Systemd1 *systemd1,
                const char *property,
                Systemd1StringHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        _cleanup_(systemd1_query_freep) Systemd1Query *query = NULL;
        int r = query_new(systemd1, "", userdata, &query);
        if (r < 0)
                return r;
        query->handler.string = handler;
        r = ask_property(query, SYSTEMD1_MANAGER_INTERFACE, property, on_string);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(query);
        return 0;
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
        if (streq(name, "EffectiveCPUs"))
                return read_cpus(m, &limits->cpus);
        if (streq(name, "CPUQuotaPerSecUSec"))
                return read_number(m, &limits->cpu_quota_usec);
        if (!streq(name, "MemoryMax") && !streq(name, "EffectiveMemoryMax"))
                return sd_bus_message_skip(m, "v");
        int r = read_number(m, &memory);
        if (r >= 0 && memory < limits->memory_max_bytes)
                limits->memory_max_bytes = memory;
        return r;
}

static int read_limits(sd_bus_message *m, SliceLimits *limits) {
        int r = reply_errno(m);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
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
        Systemd1Query *query = userdata;
        SliceLimits limits = { .cpu_quota_usec = UINT64_MAX, .memory_max_bytes = UINT64_MAX };
        int r = read_limits(reply, &limits);
        query->handler.limits(r, &limits, query->userdata);
        return 0;
}

int systemd1_ask_limits(
                Systemd1 *systemd1,
                const char *slice,
                Systemd1LimitsHandler handler,
                void *userdata,
                Systemd1Query **ret) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(systemd1_query_freep) Systemd1Query *query = NULL;
        int r = sd_bus_path_encode(SYSTEMD1_UNIT_PATH, slice, &path);
        if (r >= 0)
                r = query_new(systemd1, slice, userdata, &query);
        if (r < 0)
                return r;
        query->handler.limits = handler;
        r = sd_bus_call_method_async(
                        systemd1->bus,
                        &query->slot,
                        SYSTEMD1_SERVICE,
                        path,
                        "org.freedesktop.DBus.Properties",
                        "GetAll",
                        on_limits,
                        query,
                        "s",
                        "org.freedesktop.systemd1.Slice");
        if (r < 0)
                return systemd1_send_errno(r);
        *ret = TAKE_PTR(query);
        return 0;
}
