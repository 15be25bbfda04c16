/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How long a client may take, and how many connections it may have. libmicrohttpd's own time-out begins anew
 * with each byte, so a client could drip its way through a header for ever; and a limit alone would let the
 * silent lock out the others. */

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <linux/tcp.h> /* not netinet's, which does not count bytes */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <utlist.h>

#include "io/http-internal.h"
#include "io/loop.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
        #define SO_PEERPIDFD 77
#endif

#define CROWDED_TIMEOUT_SEC 2 /* when connections run short, silence is not tolerated for long */
#define CROWD_CHECK_USEC    (50 * USEC_PER_MSEC)
#define CROWD_CLOSE_MAX     16
/* Who has a connection when all are taken must have said what it wants by then; a handshake takes more. */
#define CROWD_PATIENCE_USEC     (250 * USEC_PER_MSEC)
#define CROWD_PATIENCE_TLS_USEC (1 * USEC_PER_SEC)
#define LAST_WORDS_MAX          64    /* connections that are looked at together */
#define PEER_GROUPS_MAX         65536 /* the kernel's own limit */

static const char *const drop_texts[_HTTP_DROP_MAX] = {
        [HTTP_DROP_SLOW_HEADER] = "took too long to send a request's header",
        [HTTP_DROP_SLOW_BODY] = "took too long to send a request's body",
        [HTTP_DROP_ENDLESS_BODY] = "sent far more than the largest body",
        [HTTP_DROP_CROWD] = "said nothing while others waited for a connection",
        [HTTP_DROP_TOO_MANY] = "has more connections than one client may have",
        [HTTP_DROP_UNREADABLE] = "sent no request that could be read",
};

const char *http_drop_text(HttpDrop why) {
        return drop_texts[why];
}

bool http_server_is_crowded(const HttpServer *server) {
        return server->n_connections > server->options.connections_max / 2;
}

static void connections_watch(HttpServer *server, usec_t when_usec);

/* In the client's own form of speech; whether it gets it is its own affair. */
static void connection_say(const HttpConnection *connection, int status, const char *detail) {
        char body[256], message[512];
        int size = snprintf(
                        body,
                        sizeof(body),
                        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"the client %s\"}",
                        problem_title(status),
                        status,
                        detail);
        size = snprintf(message,
                        sizeof(message),
                        "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
                        "Content-Length: %d\r\n\r\n%s",
                        status,
                        problem_title(status),
                        size,
                        body);
        if (size < 0 || (size_t) size >= sizeof(message))
                return;
        if (!connection->engine->is_tls) {
                (void) !send(connection->fd, message, (size_t) size, MSG_DONTWAIT | MSG_NOSIGNAL);
                return;
        }
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        if (info && info->tls_session && !connection->in_handshake)
                (void) gnutls_record_send(info->tls_session, message, (size_t) size);
}

static void tell_dropped(const HttpServer *server, HttpDrop why, const char *client) {
        if (server->handlers.on_dropped && !server->stopping)
                server->handlers.on_dropped(why, client, server->userdata);
}

/* libmicrohttpd notices that the socket is shut, and closes it in its own time. */
void http_connection_drop(HttpConnection *connection, HttpDrop why, int status) {
        if (!connection || connection->dropped)
                return;
        connection->dropped = true;
        bool is_idle = connection->phase == CONNECTION_AWAITING && connection->n_requests > 0;
        if (status > 0 && !is_idle && connection->phase != CONNECTION_WORKING)
                connection_say(connection, status, http_drop_text(why));
        (void) shutdown(connection->fd, SHUT_RDWR);
        tell_dropped(connection->server, why, connection->client);
        http_server_schedule_pump(connection->server);
}

void http_connection_end_if_silent(HttpConnection *connection, usec_t now_usec) {
        int unread = 0;
        bool is_new = connection->n_requests == 0;
        usec_t patience = is_new && connection->engine->is_tls ? CROWD_PATIENCE_TLS_USEC :
                        is_new                                 ? CROWD_PATIENCE_USEC :
                                                                 0;
        if (connection->phase != CONNECTION_AWAITING || connection->dropped ||
            now_usec < usec_add(connection->since_usec, patience) ||
            ioctl(connection->fd, FIONREAD, &unread) < 0 || unread > 0)
                return;
        connection->dropped = true;
        (void) shutdown(connection->fd, SHUT_RDWR);
}

static void connection_time_out(HttpConnection *connection) {
        if (connection->phase == CONNECTION_READING)
                http_connection_drop(connection, HTTP_DROP_SLOW_BODY, 408);
        else
                http_connection_drop(connection, HTTP_DROP_SLOW_HEADER, 408);
}

static bool anybody_waits(const HttpServer *server) {
        struct pollfd fds[HTTP_LISTENERS_MAX];
        for (size_t i = 0; i < server->n_listeners; i++)
                fds[i] = (struct pollfd) { .fd = server->listeners[i].fd, .events = POLLIN };
        return poll(fds, server->n_listeners, 0) > 0;
}

static HttpConnection *longest_silent(const HttpServer *server, usec_t now_usec) {
        HttpConnection *found = NULL;
        for (HttpConnection *c = server->connections; c; c = c->next) {
                usec_t patience = c->engine->is_tls && c->n_requests == 0 ? CROWD_PATIENCE_TLS_USEC :
                                                                            CROWD_PATIENCE_USEC;
                if (c->phase == CONNECTION_AWAITING && !c->dropped &&
                    usec_add(c->since_usec, patience) <= now_usec &&
                    (!found || c->since_usec < found->since_usec))
                        found = c;
        }
        return found;
}

static void server_thin_crowd(HttpServer *server, usec_t now_usec) {
        if (server->n_connections < server->options.connections_max)
                return;
        if (anybody_waits(server))
                for (unsigned i = 0; i < CROWD_CLOSE_MAX; i++) {
                        HttpConnection *silent = longest_silent(server, now_usec);
                        if (!silent)
                                break;
                        http_connection_drop(silent, HTTP_DROP_CROWD, 503);
                }
        connections_watch(server, usec_add(now_usec, CROWD_CHECK_USEC));
}

static int on_watch(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpServer *server = userdata;
        usec_t now = usec_now(CLOCK_BOOTTIME), next = USEC_INFINITY;
        server->watch_usec = USEC_INFINITY;
        for (HttpConnection *c = server->connections; c; c = c->next) {
                if (c->dropped)
                        continue;
                if (c->deadline_usec <= now)
                        connection_time_out(c);
                else if (c->deadline_usec < next)
                        next = c->deadline_usec;
        }
        server_thin_crowd(server, now);
        connections_watch(server, next);
        return 0;
}

/* The timer may fire for a deadline that was moved since: cheaper than to look for the next each time. */
static void connections_watch(HttpServer *server, usec_t when_usec) {
        if (when_usec >= server->watch_usec || server->stopping)
                return;
        server->watch_usec = when_usec;
        (void) loop_set_timer(
                        server->event,
                        &server->watch_source,
                        when_usec,
                        on_watch,
                        server,
                        "http-connections");
}

void http_server_watch_crowd(HttpServer *server) {
        connections_watch(server, usec_add(usec_now(CLOCK_BOOTTIME), CROWD_CHECK_USEC));
}

static usec_t phase_seconds(const HttpConnection *connection) {
        switch (connection->phase) {
        case CONNECTION_AWAITING:
                return connection->n_requests == 0 ?
                                HTTP_HEADER_TIMEOUT_SEC :
                                connection->server->options.idle_timeout_sec + HTTP_HEADER_TIMEOUT_SEC;
        case CONNECTION_READING:
                return HTTP_BODY_TIMEOUT_SEC;
        case CONNECTION_WORKING:
                break;
        }
        return 0;
}

void http_connection_set_phase(HttpConnection *connection, ConnectionPhase phase) {
        if (!connection || connection->dropped)
                return;
        connection->phase = phase;
        connection->since_usec = usec_now(CLOCK_BOOTTIME);
        usec_t seconds = phase_seconds(connection);
        connection->deadline_usec = seconds > 0 ? usec_add(connection->since_usec, seconds * USEC_PER_SEC) :
                                                  USEC_INFINITY;
        connections_watch(connection->server, connection->deadline_usec);
}

void http_connection_extend(HttpConnection *connection, uint64_t body_bytes) {
        if (connection && connection->phase == CONNECTION_READING)
                connection->deadline_usec = usec_add(
                                connection->deadline_usec, body_bytes * USEC_PER_SEC / HTTP_BODY_RATE_MIN);
}

/* An IPv4 address as such, of an IPv6 one the network, as a client has all of that; of a Unix socket the uid,
 * in a form that no address has. True when clients from there are to be limited: not this machine as such,
 * where all share one address, nor root. */
static bool source_of(
                const struct sockaddr *address,
                int fd,
                struct in6_addr *ret,
                char client[static HTTP_CLIENT_SIZE]) {
        struct in6_addr source = {};
        bool limited = true;
        (void) snprintf(client, HTTP_CLIENT_SIZE, "unknown");
        if (address->sa_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in *) address;
                source.s6_addr32[2] = htonl(0xffff);
                source.s6_addr32[3] = in->sin_addr.s_addr;
                limited = ntohl(in->sin_addr.s_addr) >> IN_CLASSA_NSHIFT != IN_LOOPBACKNET;
                (void) inet_ntop(AF_INET, &in->sin_addr, client, HTTP_CLIENT_SIZE);
        } else if (address->sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;
                source = in6->sin6_addr;
                limited = !IN6_IS_ADDR_LOOPBACK(&source);
                (void) inet_ntop(AF_INET6, &in6->sin6_addr, client, HTTP_CLIENT_SIZE);
                if (!IN6_IS_ADDR_V4MAPPED(&source))
                        source.s6_addr32[2] = source.s6_addr32[3] = 0;
        } else {
                struct ucred peer = { .uid = (uid_t) -1 };
                socklen_t size = sizeof(peer);
                (void) getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
                source.s6_addr32[3] = peer.uid;
                limited = peer.uid != 0 && peer.uid != geteuid();
                if (peer.uid != (uid_t) -1)
                        (void) snprintf(client, HTTP_CLIENT_SIZE, "uid %u", peer.uid);
        }
        *ret = source;
        return limited;
}

bool http_connection_is_one_too_many(
                const HttpServer *server,
                const struct sockaddr *address,
                int fd,
                char client[static HTTP_CLIENT_SIZE]) {
        struct in6_addr source;
        if (!source_of(address, fd, &source, client))
                return false;
        unsigned n = 0;
        for (const HttpConnection *c = server->connections; c; c = c->next)
                n += memcmp(&c->source, &source, sizeof(source)) == 0;
        if (n < server->options.connections_max / 2)
                return false;
        tell_dropped(server, HTTP_DROP_TOO_MANY, client);
        return true;
}

/* Not by getpeername(): a client that is gone again has no address any more. */
static void connection_identify(HttpConnection *connection) {
        static const struct sockaddr nothing = { .sa_family = AF_UNIX };
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        connection->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        (void) source_of(
                        info && info->client_addr ? info->client_addr : &nothing,
                        connection->fd,
                        &connection->source,
                        connection->client);
}

static void connection_started(Engine *engine, struct MHD_Connection *mhd, void **context) {
        HttpServer *server = engine->server;
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        HttpConnection *connection = calloc(1, sizeof(*connection));
        server->n_connections++;
        engine->n_connections++;
        if (!connection || !info) {
                if (info)
                        (void) shutdown(info->connect_fd, SHUT_RDWR);
                free(connection);
                return;
        }
        *connection = (HttpConnection) {
                .server = server,
                .engine = engine,
                .mhd = mhd,
                .fd = info->connect_fd,
        };
        DL_PREPEND2(server->connections, connection, previous, next);
        *context = connection;
        connection_identify(connection);
        http_connection_set_phase(connection, CONNECTION_AWAITING);
        if (engine->is_tls)
                http_tls_begin_handshake(connection);
        if (http_server_is_crowded(server))
                (void) MHD_set_connection_option(
                                mhd, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned) CROWDED_TIMEOUT_SEC);
}

/* Who merely knocks, as those do who ask whether a port is open, is not worth a word. Its end counts as one.
 */
static bool has_sent_something(const HttpConnection *connection) {
        struct tcp_info info = {};
        socklen_t size = sizeof(info);
        return getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &size) >= 0 &&
                        info.tcpi_bytes_received > 1;
}

static HttpConnection *connection_free(HttpConnection *connection) {
        if (!connection)
                return NULL;
        DL_DELETE2(connection->server->connections, connection, previous, next);
        if (connection->is_answered)
                LL_DELETE2(connection->server->answered, connection, next_answered);
        http_tls_forget_handshake(connection);
        free(connection->peer.groups);
        free(connection);
        return NULL;
}

static void connection_closed(Engine *engine, HttpConnection *connection) {
        HttpServer *server = engine->server;
        if (connection && !connection->dropped && connection->n_requests == 0 &&
            has_sent_something(connection))
                tell_dropped(server, HTTP_DROP_UNREADABLE, connection->client);
        (void) connection_free(connection);
        server->n_connections--;
        engine->n_connections--;
        if (engine->retired && engine->n_connections == 0)
                http_server_schedule_pump(server);
        if (!server->stopping && server->n_connections + 1 == server->options.connections_max)
                http_server_enable_accept(server, true);
}

void http_connection_answered(HttpConnection *connection) {
        if (!connection || connection->is_answered)
                return;
        connection->is_answered = true;
        LL_PREPEND2(connection->server->answered, connection, next_answered);
}

/* Those of the list that wait for a request, at most ROOM, which leave it as the others do. */
static size_t take_answered(HttpServer *server, struct pollfd *fds, size_t room) {
        size_t n = 0;
        while (server->answered && n < room) {
                HttpConnection *connection = server->answered;
                server->answered = connection->next_answered;
                connection->is_answered = false;
                if (connection->phase == CONNECTION_AWAITING && !connection->dropped)
                        fds[n++] = (struct pollfd) { .fd = connection->fd, .events = POLLRDHUP };
        }
        return n;
}

/* To libmicrohttpd (0.9.75) a read that brought less than there was room for is the last one until the kernel
 * tells of more. An end that came together with a request has been told of by then, and its connection would
 * stay open until the idle timeout. The kernel tells again of what is shut down on this side. */
void http_server_hear_last_words(HttpServer *server) {
        struct pollfd fds[LAST_WORDS_MAX];
        while (server->answered) {
                size_t n = take_answered(server, fds, LAST_WORDS_MAX);
                if (n == 0 || poll(fds, n, 0) <= 0)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int unread = 0;
                        if (fds[i].revents & POLLRDHUP && ioctl(fds[i].fd, FIONREAD, &unread) >= 0 &&
                            unread == 0)
                                (void) shutdown(fds[i].fd, SHUT_RD);
                }
        }
}

void http_on_connection(
                void *userdata,
                struct MHD_Connection *mhd,
                void **context,
                enum MHD_ConnectionNotificationCode code) {
        if (code == MHD_CONNECTION_NOTIFY_STARTED)
                connection_started(userdata, mhd, context);
        else {
                connection_closed(userdata, *context);
                *context = NULL;
        }
}

/* How many there are is only known from the kernel's refusal to give fewer. */
static int peer_ask_groups(int fd, HttpPeer *peer) {
        gid_t none;
        socklen_t size = 0;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &none, &size) >= 0)
                return 0;
        if (errno != ERANGE)
                return -errno;
        if (size / sizeof(gid_t) > PEER_GROUPS_MAX)
                return -E2BIG;
        peer->groups = malloc(size);
        if (!peer->groups)
                return -ENOMEM;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size) < 0)
                return -errno;
        peer->n_groups = size / sizeof(gid_t);
        return 0;
}

static int peer_ask(int fd, HttpPeer *peer) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);
        int domain;
        socklen_t domain_size = sizeof(domain);
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) < 0)
                return -errno;
        if (domain != AF_UNIX)
                return -EOPNOTSUPP;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        peer->uid = credentials.uid;
        peer->gid = credentials.gid;
        peer->pid = credentials.pid;
        return peer_ask_groups(fd, peer);
}

int http_request_peer(const HttpRequest *request, const HttpPeer **ret) {
        HttpConnection *connection = request->on;
        if (!connection)
                return -ENOMEM;
        if (!connection->peer_asked)
                connection->peer_error = peer_ask(connection->fd, &connection->peer);
        connection->peer_asked = true;
        if (connection->peer_error < 0)
                return connection->peer_error;
        *ret = &connection->peer;
        return 0;
}

int http_request_peer_pidfd(const HttpRequest *request) {
        int pidfd;
        socklen_t size = sizeof(pidfd);
        if (!request->on)
                return -ENOMEM;
        if (getsockopt(request->on->fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0)
                return -errno;
        return pidfd;
}
