/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/stale-scopes.h"

#include <signal.h>

#include "base/text.h"
#include "core/text/unit-name.h"

typedef struct StaleScope {
        StaleScopes *stale; /* weak */
        struct StaleScope *next;
        char *name;
        sd_bus_slot *slot;
        Systemd1Call *stop_call;
} StaleScope;

struct StaleScopes {
        Systemd1 *systemd1; /* weak */
        char *own_unit;
        StaleScopesHandler handler;
        void *userdata;
        sd_bus_slot *slot;
        StaleScope *scopes;
        size_t n_pending; /* scopes that are being asked about or stopped */
};

StaleScopes *stale_scopes_free(StaleScopes *stale) {
        if (!stale)
                return NULL;
        while (stale->scopes) {
                StaleScope *scope = stale->scopes;
                stale->scopes = scope->next;
                sd_bus_slot_unref(scope->slot);
                systemd1_call_cancel(scope->stop_call);
                free(scope->name);
                free(scope);
        }
        sd_bus_slot_unref(stale->slot);
        free(stale->own_unit);
        free(stale);
        return NULL;
}

static void scope_settled(StaleScope *scope) {
        StaleScopes *stale = scope->stale;
        if (--stale->n_pending == 0)
                stale->handler(0, stale->userdata);
}

static void on_stopped(int error, const char *message, void *userdata) {
        StaleScope *scope = userdata;
        scope->stop_call = NULL;
        scope_settled(scope); /* one that cannot be stopped must not keep the runner from its work */
}

static int read_is_bound(sd_bus_message *reply, const char *own_unit) {
        int r = sd_bus_message_enter_container(reply, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "s");
        if (r < 0)
                return r;
        const char *unit;
        while ((r = sd_bus_message_read(reply, "s", &unit)) > 0)
                if (streq(unit, own_unit))
                        return 1;
        return r;
}

static int on_binds_to(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        StaleScope *scope = userdata;
        StaleScopes *stale = scope->stale;
        int r = sd_bus_message_is_method_error(reply, NULL) ? 0 : read_is_bound(reply, stale->own_unit);
        if (r > 0) {
                systemd1_kill_unit(stale->systemd1, scope->name, SIGKILL);
                r = systemd1_stop_unit(stale->systemd1, scope->name, on_stopped, scope, &scope->stop_call);
                if (r >= 0)
                        return 0;
        }
        scope_settled(scope);
        return 0;
}

static int ask_scope(StaleScopes *stale, const char *name, const char *path) {
        StaleScope *scope = calloc(1, sizeof(*scope));
        if (!scope)
                return -ENOMEM;
        *scope = (StaleScope){ .stale = stale, .next = stale->scopes, .name = strdup(name) };
        stale->scopes = scope;
        if (!scope->name)
                return -ENOMEM;
        int r = sd_bus_call_method_async(
                        systemd1_bus(stale->systemd1),
                        &scope->slot,
                        SYSTEMD1_SERVICE,
                        path,
                        "org.freedesktop.DBus.Properties",
                        "Get",
                        on_binds_to,
                        scope,
                        "ss",
                        "org.freedesktop.systemd1.Unit",
                        "BindsTo");
        if (r >= 0)
                stale->n_pending++;
        return r;
}

static int read_units(StaleScopes *stale, sd_bus_message *reply) {
        int r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        if (r < 0)
                return r;
        const char *name, *path;
        while ((r = sd_bus_message_read(
                                reply,
                                "(ssssssouso)",
                                &name,
                                NULL,
                                NULL,
                                NULL,
                                NULL,
                                NULL,
                                &path,
                                NULL,
                                NULL,
                                NULL)) > 0) {
                r = ask_scope(stale, name, path);
                if (r < 0)
                        return r;
        }
        return r;
}

static int on_units(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        StaleScopes *stale = userdata;
        int r = sd_bus_message_is_method_error(reply, NULL) ? -sd_bus_message_get_errno(reply) :
                                                              read_units(stale, reply);
        if (r < 0 || stale->n_pending == 0)
                stale->handler(r, stale->userdata);
        return 0;
}

int stale_scopes_end(
                Systemd1 *systemd1,
                const char *own_unit,
                StaleScopesHandler handler,
                void *userdata,
                StaleScopes **ret) {
        _cleanup_(stale_scopes_freep) StaleScopes *stale = calloc(1, sizeof(*stale));
        if (!stale)
                return -ENOMEM;
        *stale = (StaleScopes){
                .systemd1 = systemd1,
                .own_unit = strdup(own_unit),
                .handler = handler,
                .userdata = userdata,
        };
        if (!stale->own_unit)
                return -ENOMEM;
        int r = sd_bus_call_method_async(
                        systemd1_bus(systemd1),
                        &stale->slot,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "ListUnitsByPatterns",
                        on_units,
                        stale,
                        "asas",
                        0,
                        1,
                        TASK_UNIT_PATTERN);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(stale);
        return 0;
}
