/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/http-internal.h"

const char *http_request_method(const HttpRequest *request) {
        return request->method;
}

const char *http_request_path(const HttpRequest *request) {
        return request->path;
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

bool http_request_is_tls(const HttpRequest *request) {
        return request->on && request->on->engine->is_tls;
}

bool http_request_asks_certificate(const HttpRequest *request) {
        return !request->on || request->on->engine->asks_certificate; /* not known: then no way in without */
}

bool http_request_has_certificate(const HttpRequest *request) {
        HttpConnection *connection = request->on;
        if (!connection || !connection->engine->asks_certificate)
                return false;
        if (!connection->certificate_checked)
                connection->certificate_accepted = http_tls_accepts_client(request->connection);
        connection->certificate_checked = true;
        return connection->certificate_accepted;
}

const char *http_request_client(const HttpRequest *request) {
        return request->on ? request->on->client : "unknown";
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
