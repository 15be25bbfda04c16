/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How requests come in: libmicrohttpd's callbacks, in the order in which they fire. */

#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#include "base/text.h"
#include "io/http-internal.h"
#include "io/loop.h"

#define TOO_LARGE      "the request body is larger than this server accepts"
#define DISCARD_FACTOR 16 /* a body this many times too long is not even read to its end */

static void request_free(HttpRequest *request) {
        HttpServer *server = request->server;
        DL_DELETE2(server->requests, request, previous, next);

        server->bodies_bytes -= request->body.size;
        if (request->context_release)
                request->context_release(request->context);
        event_source_dropp(&request->hangup_source);
        if (request->awaits_suspension)
                LL_DELETE2(server->unsuspended, request, next_unsuspended);
        if (request->response)
                MHD_destroy_response(request->response);
        http_body_done(server, &request->kept);
        http_answer_unref(request->shared);
        if (request->stream_release)
                request->stream_release(request->stream_userdata);
        for (size_t i = 0; i < request->n_headers; i++) {
                free(request->header_names[i]);
                free(request->header_values[i]);
        }
        text_done(&request->body);
        free(request->target);
        free(request);
}

/* The first that is heard of a request: its target as it came. */
void *http_on_target(void *userdata, const char *target, struct MHD_Connection *connection) {
        HttpServer *server = userdata;
        HttpRequest *request = calloc(1, sizeof(*request));
        if (!request)
                return NULL;
        request->target = strdup(target);
        if (!request->target) {
                free(request);
                return NULL;
        }
        request->target_size = strlen(target);
        request->path = request->target;
        request->server = server;
        request->connection = connection;
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        request->on = info ? info->socket_context : NULL;
        DL_PREPEND2(server->requests, request, previous, next);
        return request;
}

void http_on_completed(
                void *userdata,
                struct MHD_Connection *connection,
                void **context,
                enum MHD_RequestTerminationCode code) {
        HttpRequest *request = *context;
        if (!request)
                return;
        if (request->state == REQUEST_HANDLED && request->on_hangup && !request->server->stopping)
                request->on_hangup(request, request->hangup_userdata);
        http_connection_set_phase(request->on, CONNECTION_AWAITING);
        http_connection_answered(request->on);
        request_free(request);
        *context = NULL;
}

static enum MHD_Result request_send(HttpRequest *request) {
        struct MHD_Response *response = request->shared ? request->shared->response : request->response;
        if (request->abort || !response)
                return MHD_NO;
        request->state = REQUEST_SENDING;
        return MHD_queue_response(request->connection, (unsigned) request->status, response);
}

void http_request_resume(HttpRequest *request) {
        event_source_dropp(&request->hangup_source);
        if (!request->suspended)
                return;
        request->suspended = false;
        MHD_resume_connection(request->connection);
        http_server_schedule_pump(request->server);
}

/* Over TCP, a client that has closed its connection looks the same as one that has only said its last word
 * ("nc -N"), until something is sent to it: the former's host refuses that at once. An interim answer may be
 * sent at any time before the final one, every client of HTTP/1.1 must bear it, and 100 is the one that all
 * know. */
static bool probe_client(int fd) {
        static const char probe[] = "HTTP/1.1 100 Continue\r\n\r\n";
        return send(fd, probe, sizeof(probe) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) sizeof(probe) - 1;
}

/* Whether a client that has closed its sending half may still be there to read. What ends it for good is told
 * as EPOLLHUP: over a Unix socket by the kernel, over TCP thanks to the probe. libmicrohttpd, which reads
 * nothing before the answer, does not mind. TLS has an end of its own, which comes with that of the client;
 * and between the pieces of an answer there is no room for a probe. */
static bool client_may_listen(const HttpRequest *request, int fd) {
        if (request->state != REQUEST_HANDLED || !request->on || request->on->engine->is_tls)
                return false;
        return !http_request_over_tcp(request) || (request->takes_interim && probe_client(fd));
}

static int on_hangup_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        HttpRequest *request = userdata;
        if (!(revents & (EPOLLHUP | EPOLLERR)) && client_may_listen(request, fd))
                return sd_event_source_set_io_events(
                                source, 0); /* but for those two, which are always told */
        if (request->on_hangup)
                request->on_hangup(request, request->hangup_userdata);
        request->on_hangup = NULL;
        request->abort = true;
        if (request->state == REQUEST_HANDLED)
                request->state = REQUEST_ANSWERED;
        http_request_resume(request);
        return 0;
}

/* The descriptor stays libmicrohttpd's; it cannot close it as long as the connection is suspended. */
static int request_watch_hangup(HttpRequest *request) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (!info)
                return -ENOTCONN;
        int r = sd_event_add_io(
                        request->server->event,
                        &request->hangup_source,
                        info->connect_fd,
                        EPOLLRDHUP,
                        on_hangup_io,
                        request);
        if (r < 0)
                return r;
        return sd_event_source_set_description(request->hangup_source, "http-hangup");
}

void http_request_suspend(HttpRequest *request) {
        request->suspended = true;
        MHD_suspend_connection(request->connection);
        (void) request_watch_hangup(request); /* without it a client that leaves is only noticed later */
}

static enum MHD_Result request_handle(HttpRequest *request) {
        request->state = REQUEST_HANDLED;
        http_connection_set_phase(request->on, CONNECTION_WORKING);
        request->server->handlers.on_request(request, request->server->userdata);
        if (request->state == REQUEST_ANSWERED)
                return request_send(request);
        request->awaits_suspension = true;
        LL_PREPEND2(request->server->unsuspended, request, next_unsuspended);
        return MHD_YES;
}

/* Inside of the callback it is too early: a connection that is suspended there is still held to be read from
 * once it is resumed, and the end of a client's sending half is found before its answer is sent. */
void http_server_suspend_requests(HttpServer *server) {
        while (server->unsuspended) {
                HttpRequest *request = server->unsuspended;
                server->unsuspended = request->next_unsuspended;
                request->awaits_suspension = false;
                bool is_answered = request->state == REQUEST_ANSWERED; /* while another was served */
                if (request->state == REQUEST_HANDLED || is_answered)
                        http_request_suspend(request);
                if (is_answered)
                        http_request_resume(request);
        }
}

static void request_refuse(HttpRequest *request, int status, const char *detail) {
        (void) problem_set(&request->problem, status, NULL, "%s", detail);
        if (status == 503)
                request->problem.retry_after_sec = 1;
        request->state = REQUEST_REFUSED;
        request->server->bodies_bytes -= request->body.size;
        text_done(&request->body);
        request->body = (Text) {};
}

static enum MHD_Result request_take_body(HttpRequest *request, const char *data, size_t size) {
        HttpServer *server = request->server;
        request->body_received += size;
        http_connection_extend(request->on, size);
        if (request->body_received / DISCARD_FACTOR > server->options.body_bytes_max) {
                http_connection_drop(request->on, HTTP_DROP_ENDLESS_BODY, 413);
                return MHD_NO;
        }
        if (request->state == REQUEST_REFUSED)
                return MHD_YES;

        if (request->body_received > server->options.body_bytes_max)
                request_refuse(request, 413, TOO_LARGE);
        else if (server->bodies_bytes + size > server->options.bodies_bytes_max)
                request_refuse(request, 503, "too many request bodies at once");
        else if (text_append_bytes(&request->body, data, size) < 0)
                request_refuse(request, 503, "out of memory");
        else
                server->bodies_bytes += size;
        return MHD_YES;
}

static bool announced_size(const HttpRequest *request, uint64_t *ret) {
        const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
        return length && text_parse_u64(length, 0, UINT64_MAX, ret) >= 0;
}

/* A client that is still sending when the connection is closed may never see the answer. So a body of
 * bearable size is read to its end and thrown away, unless the client waits for our word before it sends one.
 * Where there is none, there is nothing to wait for, and the connection is kept. */
static bool body_is_worth_reading(const HttpRequest *request) {
        uint64_t size;
        if (!http_request_has_body(request))
                return true;
        if (http_request_header(request, MHD_HTTP_HEADER_EXPECT))
                return false;
        return !announced_size(request, &size) ||
                        size / DISCARD_FACTOR <= request->server->options.body_bytes_max;
}

static void request_split_target(HttpRequest *request, size_t path_offset) {
        request->query = strchr(request->target + path_offset, '?');
        if (request->query)
                *request->query++ = '\0';
        request->path = request->target + path_offset;
        if (!*request->path)
                request->path = (char *) "/";
}

static int request_check_framing(
                HttpRequest *request,
                const char *url,
                const char *version,
                Problem *reterr_problem) {
        size_t path_offset = 0;
        int r = http_check_layout(request, url, request->method, version, reterr_problem);
        if (r >= 0)
                r = framing_check_target(
                                request->method,
                                request->target,
                                http_request_header(request, MHD_HTTP_HEADER_HOST),
                                &path_offset,
                                reterr_problem);
        if (r < 0)
                return r;
        request_split_target(request, path_offset);
        /* There are many ways to write chunks, and libmicrohttpd knows most: so no request is looked for
         * behind them. */
        request->must_close |= http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
        return 0;
}

static int request_check_header(HttpRequest *request, Problem *reterr_problem) {
        const HttpServer *server = request->server;
        uint64_t size;
        int r = server->handlers.on_header(request, server->userdata, reterr_problem);
        if (r >= 0 && announced_size(request, &size) && size > server->options.body_bytes_max)
                r = problem_set(reterr_problem, 413, NULL, TOO_LARGE);
        return r;
}

static enum MHD_Result request_take_header(
                HttpRequest *request,
                const char *url,
                const char *method,
                const char *version) {
        HttpServer *server = request->server;
        Problem problem = {};
        request->header_seen = true;
        request->takes_interim = streq(version, MHD_HTTP_VERSION_1_1);
        request->method = method;
        if (request->on)
                request->on->n_requests++;
        http_connection_set_phase(request->on, CONNECTION_READING);
        int framed = request_check_framing(request, url, version, &problem);
        if (framed >= 0 && request_check_header(request, &problem) >= 0)
                return MHD_YES;
        if (framed >= 0 && body_is_worth_reading(request)) {
                request->problem = problem;
                request->state = REQUEST_REFUSED;
                return MHD_YES;
        }
        request->must_close |= framed < 0;
        http_connection_set_phase(request->on, CONNECTION_WORKING);
        server->handlers.on_refused(request, &problem, server->userdata);
        return request_send(request);
}

/* Called for the header, for each piece of the body, at its end, and once more after each resumption. */
enum MHD_Result http_on_access(
                void *userdata,
                struct MHD_Connection *connection,
                const char *url,
                const char *method,
                const char *version,
                const char *upload_data,
                size_t *upload_data_size,
                void **context) {
        HttpRequest *request = *context;
        if (!request)
                return MHD_NO;
        if (!request->header_seen)
                return request_take_header(request, url, method, version);
        if (*upload_data_size > 0) {
                size_t size = *upload_data_size;
                *upload_data_size = 0;
                return request_take_body(request, upload_data, size);
        }

        switch (request->state) {
        case REQUEST_READING:
                return request_handle(request);
        case REQUEST_REFUSED:
                http_connection_set_phase(request->on, CONNECTION_WORKING);
                request->server->handlers.on_refused(request, &request->problem, request->server->userdata);
                return request_send(request);
        case REQUEST_ANSWERED:
                return request_send(request);
        case REQUEST_HANDLED:
        case REQUEST_SENDING:
                return MHD_YES;
        }
        return MHD_NO;
}
