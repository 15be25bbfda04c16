/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which daemon to talk to, and what to show it. */
#pragma once

#include <json-c/json.h>

#include "ctl/options.h"
#include "io/http-client.h"

/* Where the daemons listen when nobody says otherwise. */
#define TARGET_RUNNER_PORT 2504
#define TARGET_QUEUE_PORT  2503

typedef struct Target {
        char *url;       /* "http://127.0.0.1:2504", without a slash at its end */
        char *unix_path; /* or NULL */
        char *token;     /* or NULL */
        HttpClientTls tls;
        bool has_tls;          /* files were named */
        const char *name;      /* for people: unix_path or url */
        json_object *contexts; /* whose strings may be in here; or NULL */
} Target;

void target_done(Target *target);

/* By --host and --queue, or else by --context, or else $DAGGYCTL_HOST, or else the context that is in use. A
 * place is a URL, HOST, HOST:PORT, :PORT or unix:/PATH; --queue makes 2503 the port of what names none,
 * instead of 2504. With none of these: /run/daggyr/daggyr.sock if this user may connect to it, else
 * $XDG_RUNTIME_DIR/daggyr.sock if there is one, else 127.0.0.1:2504. Never tries who answers: the same
 * command goes to the same place.
 *
 * Zero-initialise *ret. Negative errno, said on stderr. */
int target_resolve(const Options *options, Target *ret);

/* The same with HOST, or NULL, in place of --host and $DAGGYCTL_HOST, and with a token only if WITH_TOKEN. */
int target_resolve_at(const Options *options, const char *host, bool with_token, Target *ret);
