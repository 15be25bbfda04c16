/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One request on its way to the member that leads, and the answer on its way back. A short answer is
 * collected, so that nobody has seen any of it if the rest does not come; of a long one no more is read than
 * the client takes. */

#include <errno.h>
#include <stdlib.h>

#include "io/http-client.h"
#include "queue/forward-internal.h"

#define CONNECT_USEC      (2 * USEC_PER_SEC)
#define COLLECT_BYTES_MAX (256 * 1024)
#define PROBLEM_BYTES_MAX ((size_t) 1024 * 1024)
#define HEADERS_MAX       16

/* ── the answer ── */

static void copy_headers(HttpCall *call, HttpRequest *request) {
        for (const char *const *name = forward_answer_headers; *name; name++) {
                const char *value = http_call_answer_header(call, *name);
                if (value)
                        (void) http_request_add_header(request, *name, value);
        }
}

static ssize_t on_read(void *userdata, char *buffer, size_t size) {
        Forwarded *forwarded = userdata;
        size_t left = forwarded->bytes.size - forwarded->offset;
        if (left == 0)
                return !forwarded->ended ? 0 : forwarded->error < 0 ? forwarded->error : -ENODATA;
        if (size > left)
                size = left;
        memcpy(buffer, forwarded->bytes.data + forwarded->offset, size);
        forwarded->offset += size;
        if (size < left)
                return (ssize_t) size;
        forwarded->offset = forwarded->bytes.size = 0;
        http_call_resume(forwarded->call);
        return (ssize_t) size;
}

static void on_release(void *userdata) {
        forwarded_free(userdata);
}

static void begin_stream(Forwarded *forwarded) {
        HttpRequest *request = forwarded->request;
        forwarded->state = FORWARDED_STREAMED;
        http_request_on_hangup(request, NULL, NULL);
        copy_headers(forwarded->call, request);
        http_request_answer_stream(
                        request,
                        http_call_status(forwarded->call),
                        http_call_answer_header(forwarded->call, "Content-Type"),
                        on_read,
                        on_release,
                        forwarded);
}

static void end_stream(Forwarded *forwarded, int error) {
        forwarded->ended = true;
        forwarded->error = error;
        http_request_stream_wake(forwarded->request);
}

void forwarded_break_off(Forwarded *forwarded) {
        forwarded->deadline_usec = USEC_INFINITY;
        http_call_pause(forwarded->call);
        end_stream(forwarded, -ECONNRESET);
}

static bool is_short(HttpCall *call) {
        const char *length = http_call_answer_header(call, "Content-Length");
        uint64_t size;
        return length && text_parse_u64(length, 0, COLLECT_BYTES_MAX, &size) >= 0;
}

static void on_header(HttpCall *call, void *userdata) {
        Forwarded *forwarded = userdata;
        if (is_short(call))
                forwarded->state = FORWARDED_COMING;
        else
                begin_stream(forwarded);
        forwarded_was_answered(forwarded);
}

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Forwarded *forwarded = userdata;
        if (forwarded->ended) /* broken off */
                return -ECONNRESET;
        int r = text_append_bytes(&forwarded->bytes, bytes, size);
        if (r < 0 || forwarded->state != FORWARDED_STREAMED)
                return r;
        http_call_pause(call);
        http_request_stream_wake(forwarded->request);
        return 0;
}

/* All of an answer that is not streamed: of one that succeeded, what was collected here. */
static void pass_answer(Forwarded *forwarded, HttpCall *call, const HttpOutcome *outcome) {
        HttpRequest *request = forwarded->request;
        bool collected = forwarded->state == FORWARDED_COMING;
        http_request_on_hangup(request, NULL, NULL);
        copy_headers(call, request);
        http_request_answer(
                        request,
                        outcome->status,
                        outcome->content_type,
                        collected ? forwarded->bytes.data : outcome->body,
                        collected ? forwarded->bytes.size : outcome->body_size);
        forwarded_free(forwarded);
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Forwarded *forwarded = userdata;
        if (forwarded->state == FORWARDED_STREAMED)
                end_stream(forwarded, forwarded->ended ? forwarded->error : outcome->error);
        else if (outcome->error < 0)
                forwarded_was_lost(forwarded, outcome->not_sent, outcome->error_text);
        else if (http_call_answer_header(call, FORWARD_HEADER))
                forwarded_was_declined(forwarded);
        else {
                if (forwarded->state == FORWARDED_SENT)
                        forwarded_was_answered(forwarded);
                pass_answer(forwarded, call, outcome);
        }
}

/* ── the request ── */

static void lines_done(char *(*lines)[HEADERS_MAX]) {
        for (size_t i = 0; (*lines)[i]; i++)
                free((*lines)[i]);
}

static int make_lines(const HttpRequest *request, char *lines[static HEADERS_MAX]) {
        size_t n = 0;
        for (const char *const *name = forward_request_headers; *name; name++) {
                const char *value = http_request_header(request, *name);
                if (!value)
                        continue;
                int r = text_format(&lines[n], "%s: %s", *name, value);
                if (r < 0) {
                        lines[n] = NULL;
                        return r;
                }
                n++;
        }
        return 0;
}

static int make_url(const HttpRequest *request, const Member *leader, char **ret) {
        const char *query = http_request_query(request);
        return text_format(
                        ret, "%s%s%s%s", leader->url, http_request_path(request), *query ? "?" : "", query);
}

static int start_call(Forwarded *forwarded, const char *url, const char *const *headers) {
        const Forwarder *forwarder = forwarded->forwarder;
        const HttpRequest *request = forwarded->request;
        const ServiceConfig *config = forwarder->options.config;
        const char *method = http_request_method(request);
        size_t size;
        const char *body = http_request_body(request, &size);
        return http_call_new(
                        forwarded->waits ? forwarder->waits : forwarder->client,
                        &(HttpCallOptions) {
                                        /* The server leaves the body out of what it answers to HEAD. */
                                        .method = streq(method, "HEAD") ? "GET" : method,
                                        .url = url,
                                        .tls =
                                                        &(HttpClientTls) {
                                                                        .ca_file = config->tls_client_ca,
                                                                        .cert_file = config->tls_cert,
                                                                        .key_file = config->tls_key,
                                                        },
                                        .content_type = http_request_header(request, "Content-Type"),
                                        .headers = headers,
                                        .keepalive = true,
                                        .fresh_connection = !forwarded->repeatable,
                                        .body = size > 0 ? body : NULL,
                                        .body_size = size,
                                        .connect_usec = CONNECT_USEC,
                                        .answer_bytes_max = PROBLEM_BYTES_MAX,
                                        .on_done = on_done,
                                        .on_header = on_header,
                                        .on_data = on_data,
                                        .userdata = forwarded,
                        },
                        &forwarded->call);
}

int forwarded_send(Forwarded *forwarded, const Member *leader) {
        Forwarder *forwarder = forwarded->forwarder;
        _cleanup_(freep) char *url = NULL;
        _cleanup_(lines_done) char *lines[HEADERS_MAX] = {};
        const char *headers[HEADERS_MAX + 1] = { forwarder->header };
        int r = make_url(forwarded->request, leader, &url);
        if (r >= 0)
                r = make_lines(forwarded->request, lines);
        for (size_t i = 0; lines[i]; i++)
                headers[i + 1] = lines[i];
        if (r >= 0)
                r = start_call(forwarded, url, headers);
        if (r < 0)
                return r;
        (void) strncpy(forwarded->leader_id, leader->id, MEMBER_ID_MAX);
        forwarder->n_forwarded++;
        return 0;
}
