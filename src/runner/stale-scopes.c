/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/stale-scopes.h"

#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "core/text/unit-name.h"
#include "io/systemd1-query.h"
#include "io/unit-cgroup.h"

typedef struct StaleScope {
        StaleScopes *stale; /* weak */
        struct StaleScope *next;
        char *name;
        Systemd1Query *query;
        QueuedCall *stop_call;
} StaleScope;

struct StaleScopes {
        Systemd1 *systemd1; /* weak */
        TaskScopes *scopes; /* weak */
        char *own_unit;
        StaleScopesHandler handler;
        void *userdata;
        Systemd1Query *query;
        StaleScope *found;
        size_t n_pending; /* scopes that are being asked about or stopped */
};

StaleScopes *stale_scopes_free(StaleScopes *stale) {
        if (!stale)
                return NULL;
        while (stale->found) {
                StaleScope *scope = stale->found;
                stale->found = scope->next;
                systemd1_query_free(scope->query);
                queued_call_cancel(scope->stop_call);
                free(scope->name);
                free(scope);
        }
        systemd1_query_free(stale->query);
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
        if (unit_cgroup_is_populated(TASK_SLICE, scope->name) > 0)
                log_line(LOG_WARNING,
                         "Processes of %s, a task of an earlier run, outlive SIGKILL; what they use is not accounted for",
                         scope->name);
        scope_settled(scope); /* one that cannot be stopped must not keep the runner from its work */
}

static void on_bound(int error, bool is_bound, void *userdata) {
        StaleScope *scope = userdata;
        StaleScopes *stale = scope->stale;
        if (error >= 0 && is_bound) {
                task_scopes_kill(stale->scopes, scope->name);
                if (task_scopes_stop(stale->scopes, scope->name, on_stopped, scope, &scope->stop_call) >= 0)
                        return;
        }
        scope_settled(scope);
}

static int ask_scope(StaleScopes *stale, const char *name) {
        StaleScope *scope = calloc(1, sizeof(*scope));
        if (!scope)
                return -ENOMEM;
        *scope = (StaleScope) { .stale = stale, .name = strdup(name) };
        LL_PREPEND(stale->found, scope);
        if (!scope->name)
                return -ENOMEM;
        int r = systemd1_ask_bound(stale->systemd1, name, stale->own_unit, on_bound, scope, &scope->query);
        if (r >= 0)
                stale->n_pending++;
        return r;
}

static void on_units(int error, const UnitStatus *units, size_t n, void *userdata) {
        StaleScopes *stale = userdata;
        int r = error;
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = ask_scope(stale, units[i].name);
        if (r < 0 || stale->n_pending == 0)
                stale->handler(r, stale->userdata);
}

int stale_scopes_end(
                Systemd1 *systemd1,
                TaskScopes *scopes,
                const char *own_unit,
                StaleScopesHandler handler,
                void *userdata,
                StaleScopes **ret) {
        _cleanup_(stale_scopes_freep) StaleScopes *stale = calloc(1, sizeof(*stale));
        if (!stale)
                return -ENOMEM;
        *stale = (StaleScopes) {
                .systemd1 = systemd1,
                .scopes = scopes,
                .own_unit = strdup(own_unit),
                .handler = handler,
                .userdata = userdata,
        };
        if (!stale->own_unit)
                return -ENOMEM;
        int r = systemd1_ask_units(systemd1, TASK_UNIT_PATTERN, on_units, stale, &stale->query);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(stale);
        return 0;
}
