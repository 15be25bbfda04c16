/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libmicrohttpd runs without a thread and without a listening socket of its own: connections are accepted
 * here (several sockets, own limits) and handed over; its epoll descriptor is one source of our loop, its
 * timeout one timer.
 *
 * What took others time to find out (0.9.75):
 * - MHD_get_timeout() must be obeyed: the epoll set inside is edge-triggered, and data that was read ahead
 *   raises no further event.
 * - A suspended connection neither times out nor reports that its client went away: we watch it ourselves.
 * - MHD_resume_connection() has no effect before the next MHD_run().
 * - MHD_stop_daemon() aborts while a connection is suspended.
 * - The path is percent-decoded before the handler sees it, so that "%2F" would read as "/": the
 *   raw target is taken from the log callback instead. */

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

#define ACCEPT_BATCH         16
#define ACCEPT_PAUSE_USEC    (100 * USEC_PER_MSEC)
#define CROWDED_TIMEOUT_SEC  2 /* when connections run short, silence is not tolerated for long */
#define LINGER_USEC          (1 * USEC_PER_SEC)
#define REQUEST_HEADER_BYTES (32 * 1024)

void http_server_schedule_pump(HttpServer *server) {
        (void) sd_event_source_set_enabled(server->pump_source, SD_EVENT_ONESHOT);
}

static void server_pump(HttpServer *server) {
        (void) MHD_run(server->mhd);

        MHD_UNSIGNED_LONG_LONG timeout_msec;
        if (MHD_get_timeout(server->mhd, &timeout_msec) != MHD_YES) {
                (void) sd_event_source_set_enabled(server->timer_source, SD_EVENT_OFF);
                return;
        }
        usec_t when = usec_add(usec_now(CLOCK_MONOTONIC), (usec_t) timeout_msec * USEC_PER_MSEC);
        (void) sd_event_source_set_time(server->timer_source, when);
        (void) sd_event_source_set_enabled(server->timer_source, SD_EVENT_ONESHOT);
}

static int on_mhd_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        server_pump(userdata);
        return 0;
}

static int on_mhd_time(sd_event_source *source, uint64_t usec, void *userdata) {
        server_pump(userdata);
        return 0;
}

static int on_pump(sd_event_source *source, void *userdata) {
        server_pump(userdata);
        return 0;
}

/* Accepting stops while there are too many connections or no descriptors; waiting clients stay in the
 * kernel's backlog. */
static void server_enable_accept(HttpServer *server, bool enable) {
        enable &= server->accepting;
        for (size_t i = 0; i < server->n_listeners; i++)
                (void) sd_event_source_set_enabled(
                                server->listeners[i].source, enable ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_accept_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpServer *server = userdata;
        server_enable_accept(server, server->n_connections < server->options.connections_max);
        return 0;
}

static void server_pause_accept(HttpServer *server) {
        server_enable_accept(server, false);
        (void) loop_set_timer(
                        server->event,
                        &server->accept_pause_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), ACCEPT_PAUSE_USEC),
                        on_accept_pause_over,
                        server,
                        "http-accept-pause");
}

static int on_listener_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Listener *listener = userdata;
        HttpServer *server = listener->server;
        for (unsigned i = 0; i < ACCEPT_BATCH && server->n_connections < server->options.connections_max;
             i++) {
                union {
                        struct sockaddr generic;
                        struct sockaddr_storage storage;
                } address = {};
                socklen_t size = sizeof(address);
                int connection = accept4(fd, &address.generic, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (connection < 0) {
                        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                                server_pause_accept(server);
                        break;
                }
                /* On failure libmicrohttpd has closed it. */
                (void) MHD_add_connection(server->mhd, connection, &address.generic, size);
        }
        if (server->n_connections >= server->options.connections_max)
                server_enable_accept(server, false);
        http_server_schedule_pump(server);
        return 0;
}

static void on_connection(
                void *userdata,
                struct MHD_Connection *connection,
                void **socket_context,
                enum MHD_ConnectionNotificationCode code) {
        HttpServer *server = userdata;
        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                server->n_connections++;
                if (server->n_connections > server->options.connections_max / 2)
                        (void) MHD_set_connection_option(
                                        connection,
                                        MHD_CONNECTION_OPTION_TIMEOUT,
                                        (unsigned) CROWDED_TIMEOUT_SEC);
                return;
        }
        server->n_connections--;
        if (!server->stopping && server->n_connections + 1 == server->options.connections_max)
                server_enable_accept(server, true);
}

static size_t on_unescape(void *userdata, struct MHD_Connection *connection, char *s) {
        return strlen(s);
}

static void on_mhd_message(void *userdata, const char *format, va_list arguments)
                __attribute__((format(printf, 2, 0)));

/* Complaints about clients, one per broken connection: not worth a line in anybody's log. */
static void on_mhd_message(void *userdata, const char *format, va_list arguments) {
}

static int server_start_mhd(HttpServer *server) {
        server->mhd = MHD_start_daemon(
                        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
                                        MHD_USE_ERROR_LOG,
                        0,
                        NULL,
                        NULL,
                        http_on_access,
                        server,
                        MHD_OPTION_EXTERNAL_LOGGER,
                        on_mhd_message,
                        NULL,
                        MHD_OPTION_URI_LOG_CALLBACK,
                        http_on_target,
                        server,
                        MHD_OPTION_UNESCAPE_CALLBACK,
                        on_unescape,
                        NULL,
                        MHD_OPTION_NOTIFY_COMPLETED,
                        http_on_completed,
                        server,
                        MHD_OPTION_NOTIFY_CONNECTION,
                        on_connection,
                        server,
                        MHD_OPTION_CONNECTION_TIMEOUT,
                        server->options.idle_timeout_sec,
                        MHD_OPTION_CONNECTION_LIMIT,
                        server->options.connections_max + 1,
                        MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                        (size_t) REQUEST_HEADER_BYTES,
                        MHD_OPTION_STRICT_FOR_CLIENT,
                        1,
                        MHD_OPTION_END);
        return server->mhd ? 0 : -ENOMEM;
}

static int server_attach(HttpServer *server) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        if (!info)
                return -EOPNOTSUPP;
        int r = sd_event_add_io(
                        server->event, &server->mhd_source, info->epoll_fd, EPOLLIN, on_mhd_io, server);
        if (r < 0)
                return r;
        r = sd_event_add_time(
                        server->event,
                        &server->timer_source,
                        CLOCK_MONOTONIC,
                        UINT64_MAX,
                        1,
                        on_mhd_time,
                        server);
        if (r < 0)
                return r;
        r = sd_event_add_defer(server->event, &server->pump_source, on_pump, server);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(server->mhd_source, "http");
        (void) sd_event_source_set_description(server->timer_source, "http-timeout");
        (void) sd_event_source_set_description(server->pump_source, "http-pump");
        return 0;
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
        int r = server_start_mhd(server);
        if (r < 0)
                return r;
        r = server_attach(server);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(server);
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
 * broken off. */
static void server_finish_requests(HttpServer *server) {
        for (HttpRequest *request = server->requests; request; request = request->next) {
                bool is_sending = request->state == REQUEST_ANSWERED || request->state == REQUEST_SENDING;
                request->abort |= !is_sending || request->stream_idle;
                http_request_resume(request);
        }
        usec_t deadline = usec_add(usec_now(CLOCK_BOOTTIME), LINGER_USEC);
        while (server->mhd && MHD_run(server->mhd) == MHD_YES && server_has_answers_to_send(server) &&
               usec_now(CLOCK_BOOTTIME) < deadline)
                (void) poll(NULL, 0, 1);
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
        if (server->mhd)
                MHD_stop_daemon(server->mhd);
        event_source_dropp(&server->mhd_source);
        event_source_dropp(&server->timer_source);
        event_source_dropp(&server->pump_source);
        event_source_dropp(&server->accept_pause_source);
        sd_event_unref(server->event);
        free(server);
        return NULL;
}

int http_server_listen(HttpServer *server, int fd) {
        _cleanup_(fd_close) int owned = fd;
        if (server->n_listeners >= HTTP_LISTENERS_MAX)
                return -ENOSPC;
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) /* systemd passes blocking ones */
                return -errno;
        Listener *listener = &server->listeners[server->n_listeners];
        *listener = (Listener){ .server = server, .fd = fd };
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
        server_enable_accept(server, true);
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

bool http_socket_is_local(int fd) {
        union {
                struct sockaddr generic;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } address = {};
        socklen_t size = sizeof(address);
        if (getsockname(fd, &address.generic, &size) < 0)
                return false;
        if (address.generic.sa_family == AF_INET)
                return ntohl(address.in.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
        if (address.generic.sa_family == AF_INET6)
                return IN6_IS_ADDR_LOOPBACK(&address.in6.sin6_addr);
        return address.generic.sa_family == AF_UNIX;
}

unsigned http_server_n_connections(const HttpServer *server) {
        return server->n_connections;
}
