/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/database-check.h"

#include <syslog.h>

#include "base/log.h"
#include "io/loop.h"
#include "io/postgres.h"
#include "queue/postgres-schema.h"

#define CHECK_USEC (10 * USEC_PER_SEC)

static void on_connected(void *userdata) {
        (void) sd_event_exit(userdata, 0);
}

static void on_lost(int r, const char *message, void *userdata) {
        log_line(LOG_ERR, "The database cannot be used: %s", message);
        (void) sd_event_exit(userdata, r);
}

int database_check(const PostgresConfig *config) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(postgres_freep) Postgres *postgres = NULL;
        _cleanup_(freep) char *setup = NULL;
        int r = loop_new(&event);
        if (r >= 0)
                r = postgres_schema_check(&setup);
        if (r >= 0)
                r = postgres_new(
                                event,
                                &(PostgresOptions) {
                                                .conninfo = config->conninfo,
                                                .password_file = config->password_file,
                                                .application_name = "daggyd --check",
                                                .setup = setup,
                                                .connect_usec = CHECK_USEC,
                                                .answer_usec = CHECK_USEC,
                                                .connected = on_connected,
                                                .lost = on_lost,
                                                .userdata = event,
                                },
                                &postgres);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot set up") : sd_event_loop(event);
}
