/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Asking other queues in Emcee's protocol, over HTTP. */
#pragma once

#include <json-c/json.h>

#include "base/usec.h"
#include "io/http-client.h"
#include "service/access.h"

/* Who asks. Weak. */
typedef struct EmceeCaller {
        HttpClient *client;
        const Access *access; /* its token is shown to others, too */
        const char *identity; /* "Daggyr-Queue: …" */
} EmceeCaller;

/* Asks the queue at URL for PATH ("/queueVersion") with BODY; no answer within TOTAL_USEC is -ETIMEDOUT. */
int emcee_call_new(
                const EmceeCaller *caller,
                const char *url,
                const char *path,
                const char *body,
                usec_t total_usec,
                HttpCallDone on_done,
                void *userdata,
                HttpCall **ret);

/* The answer as JSON. -EIO when there is none. The caller puts *ret. */
int emcee_call_parse(const HttpOutcome *outcome, json_object **ret);
