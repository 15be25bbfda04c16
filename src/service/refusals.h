/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes to the log who was refused what, without letting clients fill it. */
#pragma once

#include <systemd/sd-event.h>

#include "core/http/refusal-log.h"
#include "io/http-server.h"

typedef struct Refusals {
        sd_event *event; /* weak */
        sd_event_source *source;
        RefusalLog log;
} Refusals;

void refusals_init(Refusals *refusals, sd_event *event);
void refusals_done(Refusals *refusals);

/* A request was answered with PROBLEM. Of the request, its client, method and path are written: neither query
 * nor headers nor body, where secrets may be. */
void refusals_request(Refusals *refusals, const HttpRequest *request, const Problem *problem);

/* A connection was broken off, as on_dropped() of the HTTP server tells it. */
void refusals_connection(Refusals *refusals, HttpDrop why, const char *client);
