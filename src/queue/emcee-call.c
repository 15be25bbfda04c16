/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/emcee-call.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

#define CONNECT_USEC     (1 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX (32 * 1024 * 1024) /* 100,000 worker ids */

int emcee_call_new(
                const EmceeCaller *caller,
                const char *url,
                const char *path,
                const char *body,
                usec_t total_usec,
                HttpCallDone on_done,
                void *userdata,
                HttpCall **ret) {
        _cleanup_(text_done) Text whole = {};
        int r = text_appendf(&whole, "%s%s", url, path);
        if (r < 0)
                return r;
        return http_call_new(
                        caller->client,
                        &(HttpCallOptions) {
                                        .method = "POST",
                                        .url = whole.data,
                                        .token = caller->access->token,
                                        .content_type = "application/json",
                                        .headers = (const char *const[]) { caller->identity, NULL },
                                        .body = body,
                                        .body_size = strlen(body),
                                        .total_usec = total_usec,
                                        .connect_usec = CONNECT_USEC,
                                        .answer_bytes_max = ANSWER_BYTES_MAX,
                                        .on_done = on_done,
                                        .userdata = userdata,
                        },
                        ret);
}

int emcee_call_parse(const HttpOutcome *outcome, json_object **ret) {
        Problem problem = {};
        if (outcome->error < 0 || outcome->status < 200 || outcome->status >= 300)
                return -EIO;
        return json_parse(outcome->body, outcome->body_size, ret, &problem);
}
