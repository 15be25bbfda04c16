/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/http-internal.h"

const char *http_request_method(const HttpRequest *request) {
        return request->method;
}

const char *http_request_path(const HttpRequest *request) {
        return request->target;
}

const char *http_request_query(const HttpRequest *request) {
        return request->query ?: "";
}

const char *http_request_header(const HttpRequest *request, const char *name) {
        return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_request_body(const HttpRequest *request, size_t *ret_size) {
        *ret_size = request->body.size;
        return request->body.data ?: "";
}

bool http_request_has_body(const HttpRequest *request) {
        const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
        return http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
                        (length && !streq(length, "0"));
}

bool http_request_over_tcp(const HttpRequest *request) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        return !info || !info->client_addr || info->client_addr->sa_family != AF_UNIX;
}

void http_request_set_context(HttpRequest *request, void *context, void (*release)(void *context)) {
        request->context = context;
        request->context_release = release;
}

void *http_request_context(const HttpRequest *request) {
        return request->context;
}

void http_request_on_hangup(HttpRequest *request, HttpHangupHandler handler, void *userdata) {
        request->on_hangup = handler;
        request->hangup_userdata = userdata;
}
