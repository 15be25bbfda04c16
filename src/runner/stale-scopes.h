/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Task scopes that an earlier run left behind. `systemctl restart` is the case where systemd does not end
 * them by itself: the service never becomes inactive between the two halves of a restart job, so BindsTo=
 * never acts (seen on 252). */
#pragma once

#include "base/cleanup.h"
#include "io/systemd1.h"
#include "io/task-scopes.h"

typedef struct StaleScopes StaleScopes;

typedef void (*StaleScopesHandler)(int error, void *userdata);

/* Has SCOPES kill every task scope that is bound to OWN_UNIT and calls HANDLER once when they are gone. */
int stale_scopes_end(
                Systemd1 *systemd1,
                TaskScopes *scopes,
                const char *own_unit,
                StaleScopesHandler handler,
                void *userdata,
                StaleScopes **ret);
StaleScopes *stale_scopes_free(StaleScopes *stale);
DEFINE_POINTER_CLEANUP(StaleScopes, stale_scopes_free)
