/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libmicrohttpd runs without a thread and without a listening socket of its own: connections are accepted
 * here (several sockets, own limits) and handed over.
 *
 * What took others time to find out (0.9.75):
 * - A suspended connection neither times out nor reports that its client went away: we watch it ourselves.
 * - MHD_resume_connection() has no effect before the next MHD_run(). */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/usec.h"
#include "io/http-internal.h"
#include "io/loop.h"

#define ACCEPT_BATCH        16
#define ACCEPT_PAUSE_USEC   (100 * USEC_PER_MSEC)
#define LINGER_USEC         (1 * USEC_PER_SEC)
#define RETIRED_ENGINES_MAX 4

void http_server_schedule_pump(HttpServer *server) {
        (void) sd_event_source_set_enabled(server->pump_source, SD_EVENT_ONESHOT);
}

/* Never from inside a callback of libmicrohttpd. */
static void server_reap_engines(HttpServer *server) {
        for (Engine **at = &server->engines; *at;) {
                Engine *engine = *at;
                if (engine->retired && engine->n_connections == 0) {
                        *at = engine->next;
                        http_engine_free(engine);
                } else
                        at = &engine->next;
        }
}

static int on_pump(sd_event_source *source, void *userdata) {
        HttpServer *server = userdata;
        for (Engine *engine = server->engines; engine; engine = engine->next)
                http_engine_pump(engine);
        server_reap_engines(server);
        return 0;
}

/* Waiting clients stay in the kernel's backlog. */
void http_server_enable_accept(HttpServer *server, bool enable) {
        enable &= server->accepting;
        for (size_t i = 0; i < server->n_listeners; i++)
                (void) sd_event_source_set_enabled(
                                server->listeners[i].source, enable ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_accept_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpServer *server = userdata;
        http_server_enable_accept(server, server->n_connections < server->options.connections_max);
        return 0;
}

static void server_pause_accept(HttpServer *server) {
        http_server_enable_accept(server, false);
        (void) loop_set_timer(
                        server->event,
                        &server->accept_pause_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), ACCEPT_PAUSE_USEC),
                        on_accept_pause_over,
                        server,
                        "http-accept-pause");
}

/* 1 when there may be more to accept. */
static int listener_accept(const Listener *listener) {
        HttpServer *server = listener->server;
        struct sockaddr_storage address = {};
        socklen_t size = sizeof(address);
        _cleanup_(fd_close) int fd = accept4(
                        listener->fd, (struct sockaddr *) &address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
                return -errno;
        char client[HTTP_CLIENT_SIZE];
        if (http_connection_is_one_too_many(server, (struct sockaddr *) &address, fd, client))
                return 1;
        const Engine *engine = listener->is_tcp && server->tls ? server->tls : server->plain;
        /* On failure libmicrohttpd has closed it. */
        (void) MHD_add_connection(engine->mhd, TAKE_FD(fd), (struct sockaddr *) &address, size);
        return 1;
}

static int on_listener_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Listener *listener = userdata;
        HttpServer *server = listener->server;
        int r = 1;
        for (unsigned i = 0;
             i < ACCEPT_BATCH && r > 0 && server->n_connections < server->options.connections_max;
             i++)
                r = listener_accept(listener);
        if (r == -EMFILE || r == -ENFILE || r == -ENOBUFS || r == -ENOMEM)
                server_pause_accept(server);
        if (server->n_connections >= server->options.connections_max) {
                http_server_enable_accept(server, false);
                http_server_watch_crowd(server);
        }
        http_server_schedule_pump(server);
        return 0;
}

static void server_add_engine(HttpServer *server, Engine *engine) {
        engine->next = server->engines;
        server->engines = engine;
}

int http_server_new(
                sd_event *event,
                const HttpServerOptions *options,
                const HttpHandlers *handlers,
                void *userdata,
                HttpServer **ret) {
        _cleanup_(http_server_freep) HttpServer *server = calloc(1, sizeof(*server));
        if (!server)
                return -ENOMEM;
        server->event = sd_event_ref(event);
        server->options = *options;
        server->handlers = *handlers;
        server->userdata = userdata;
        server->watch_usec = USEC_INFINITY;
        int r = sd_event_add_defer(server->event, &server->pump_source, on_pump, server);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(server->pump_source, "http-pump");
        r = http_engine_new(server, NULL, &server->plain);
        if (r < 0)
                return r;
        server_add_engine(server, server->plain);
        *ret = TAKE_PTR(server);
        return 0;
}

static void engine_drop_connections(const Engine *engine) {
        for (HttpConnection *connection = engine->server->connections; connection;
             connection = connection->next)
                if (connection->engine == engine)
                        (void) shutdown(connection->fd, SHUT_RDWR);
}

/* Its connections end with their next answer; those that live on by one long answer have the time of a few
 * more changes. */
static void server_retire(HttpServer *server, Engine *retired) {
        unsigned n_retired = 0;
        retired->retired = true;
        for (const Engine *engine = server->engines; engine; engine = engine->next)
                if (engine->retired && ++n_retired > RETIRED_ENGINES_MAX)
                        engine_drop_connections(engine);
        http_server_schedule_pump(server);
}

int http_server_set_tls(HttpServer *server, const HttpTls *tls, Problem *reterr_problem) {
        Engine *engine, *before = server->tls;
        int r = http_tls_check(tls, reterr_problem);
        if (r < 0)
                return r;
        r = http_engine_new(server, tls, &engine);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        server_add_engine(server, engine);
        server->tls = engine;
        if (before)
                server_retire(server, before);
        return 0;
}

static bool server_has_answers_to_send(const HttpServer *server) {
        for (const HttpRequest *request = server->requests; request; request = request->next)
                if (!request->abort &&
                    (request->state == REQUEST_ANSWERED || request->state == REQUEST_SENDING))
                        return true;
        return false;
}

/* What was answered should arrive, or clients would take an orderly end for a crash; everything else is
 * broken off, streams that wait for more among it. */
static void server_finish_requests(HttpServer *server) {
        for (HttpRequest *request = server->requests; request; request = request->next) {
                bool is_sending = request->state == REQUEST_ANSWERED || request->state == REQUEST_SENDING;
                request->abort |= !is_sending || request->stream_idle;
                http_request_resume(request);
        }
        for (HttpConnection *connection = server->connections; connection; connection = connection->next)
                http_tls_resume_handshake(connection);
        usec_t deadline = usec_add(usec_now(CLOCK_BOOTTIME), LINGER_USEC);
        do
                for (const Engine *engine = server->engines; engine; engine = engine->next)
                        (void) MHD_run(engine->mhd);
        while (server_has_answers_to_send(server) && usec_now(CLOCK_BOOTTIME) < deadline &&
               poll(NULL, 0, 1) == 0);
}

HttpServer *http_server_free(HttpServer *server) {
        if (!server)
                return NULL;
        server->stopping = true;
        for (size_t i = 0; i < server->n_listeners; i++) {
                event_source_dropp(&server->listeners[i].source);
                fd_close(&server->listeners[i].fd);
        }
        server_finish_requests(server);
        while (server->engines) {
                Engine *engine = server->engines;
                server->engines = engine->next;
                http_engine_free(engine);
        }
        http_answer_unref(server->empty);
        event_source_dropp(&server->watch_source);
        event_source_dropp(&server->pump_source);
        event_source_dropp(&server->accept_pause_source);
        sd_event_unref(server->event);
        free(server);
        return NULL;
}

static bool is_tcp_socket(int fd) {
        int domain;
        socklen_t size = sizeof(domain);
        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != AF_UNIX;
}

/* A client that says nothing is left to the kernel, without a descriptor of ours. Where that cannot be had,
 * the time for the header is what ends it. */
static void socket_defer_accept(int fd) {
        int seconds = HTTP_HEADER_TIMEOUT_SEC;
        (void) setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

int http_server_listen(HttpServer *server, int fd) {
        _cleanup_(fd_close) int owned = fd;
        if (server->n_listeners >= HTTP_LISTENERS_MAX)
                return -ENOSPC;
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) /* systemd passes blocking ones */
                return -errno;
        Listener *listener = &server->listeners[server->n_listeners];
        *listener = (Listener) { .server = server, .fd = fd, .is_tcp = is_tcp_socket(fd) };
        if (listener->is_tcp)
                socket_defer_accept(fd);
        int r = sd_event_add_io(server->event, &listener->source, fd, EPOLLIN, on_listener_io, listener);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(listener->source, server->accepting ? SD_EVENT_ON : SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(listener->source, "http-accept");
        server->n_listeners++;
        (void) TAKE_FD(owned);
        return 0;
}

void http_server_accept(HttpServer *server) {
        server->accepting = true;
        server->winding_down = false;
        http_server_enable_accept(server, true);
}

static int bind_and_listen(int fd, const struct sockaddr *address, socklen_t size) {
        int yes = 1;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
                return -errno;
        if (bind(fd, address, size) < 0)
                return -errno;
        return listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

int http_listen_tcp(const char *ip, uint16_t port, uint16_t *ret_port) {
        union {
                struct sockaddr generic;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } address = {};
        socklen_t size;
        if (inet_pton(AF_INET, ip, &address.in.sin_addr) == 1) {
                address.in.sin_family = AF_INET;
                address.in.sin_port = htons(port);
                size = sizeof(address.in);
        } else if (inet_pton(AF_INET6, ip, &address.in6.sin6_addr) == 1) {
                address.in6.sin6_family = AF_INET6;
                address.in6.sin6_port = htons(port);
                size = sizeof(address.in6);
        } else
                return -EINVAL;

        _cleanup_(fd_close) int fd = socket(
                        address.generic.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        int r = bind_and_listen(fd, &address.generic, size);
        if (r < 0)
                return r;
        if (getsockname(fd, &address.generic, &size) < 0)
                return -errno;
        *ret_port = ntohs(address.generic.sa_family == AF_INET ? address.in.sin_port : address.in6.sin6_port);
        return TAKE_FD(fd);
}

typedef union SocketAddress {
        struct sockaddr generic;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} SocketAddress;

static int socket_address(int fd, SocketAddress *ret) {
        socklen_t size = sizeof(*ret);
        *ret = (SocketAddress) {};
        return getsockname(fd, &ret->generic, &size) < 0 ? -errno : 0;
}

uint16_t http_socket_port(int fd) {
        SocketAddress address;
        if (socket_address(fd, &address) < 0)
                return 0;
        return address.generic.sa_family == AF_INET           ? ntohs(address.in.sin_port) :
                        address.generic.sa_family == AF_INET6 ? ntohs(address.in6.sin6_port) :
                                                                0;
}

bool http_socket_is_local(int fd) {
        SocketAddress address;
        if (socket_address(fd, &address) < 0)
                return false;
        if (address.generic.sa_family == AF_INET)
                return ntohl(address.in.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
        if (address.generic.sa_family == AF_INET6)
                return IN6_IS_ADDR_LOOPBACK(&address.in6.sin6_addr);
        return address.generic.sa_family == AF_UNIX;
}

bool http_server_is_local(const HttpServer *server) {
        for (size_t i = 0; i < server->n_listeners; i++)
                if (!http_socket_is_local(server->listeners[i].fd))
                        return false;
        return true;
}

unsigned http_server_n_connections(const HttpServer *server) {
        return server->n_connections;
}

void http_server_wind_down(HttpServer *server) {
        usec_t now = usec_now(CLOCK_BOOTTIME);
        server->accepting = false;
        server->winding_down = true;
        http_server_enable_accept(server, false);
        for (HttpConnection *connection = server->connections; connection; connection = connection->next)
                http_connection_end_if_silent(connection, now);
        http_server_schedule_pump(server);
}

bool http_server_is_idle(const HttpServer *server) {
        return server->n_connections == 0;
}

size_t http_server_n_unanswered(const HttpServer *server) {
        size_t n = 0;
        for (const HttpRequest *request = server->requests; request; request = request->next)
                n += request->header_seen && request->state != REQUEST_ANSWERED &&
                                request->state != REQUEST_SENDING;
        return n;
}

int http_server_listener(const HttpServer *server, size_t i) {
        return i < server->n_listeners ? server->listeners[i].fd : -EBADF;
}
