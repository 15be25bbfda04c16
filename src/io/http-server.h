/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* HTTP/1.1 by libmicrohttpd inside the sd-event loop. The rest of a program sees whole requests and
 * answers each once, now or later. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/problem.h"

typedef struct HttpServer HttpServer;
typedef struct HttpRequest HttpRequest;

typedef struct HttpServerOptions {
        size_t body_bytes_max;           /* of one request: 413 above */
        size_t bodies_bytes_max;         /* of all requests that are being read: 503 above */
        size_t answers_bytes_max;        /* of all answers that clients have not read yet, in memory … */
        uint64_t answers_file_bytes_max; /* … and beyond that in files without a name: 503 above */
        const char *answers_directory;   /* for these; must stay. NULL: no files */
        unsigned connections_max;
        unsigned idle_timeout_sec; /* a connection on which nothing moves; parked requests do not count */
} HttpServerOptions;

/* Times and rates that are the same for everybody. */
#define HTTP_HEADER_TIMEOUT_SEC \
        10                       /* from the connection, or its last answer's idle time, to a whole header */
#define HTTP_BODY_TIMEOUT_SEC 10 /* for a body, beyond what its bytes take at the slowest rate */
#define HTTP_BODY_RATE_MIN    (8 * 1024) /* bytes in each second */

/* PEM texts. CLIENT_CA may be NULL: then clients are not asked for certificates. */
typedef struct HttpTls {
        const char *cert, *key, *client_ca;
} HttpTls;

/* Why a connection was broken off, or never served. */
typedef enum HttpDrop {
        HTTP_DROP_SLOW_HEADER, /* no whole header in time (the TLS handshake included) */
        HTTP_DROP_SLOW_BODY,
        HTTP_DROP_ENDLESS_BODY,
        HTTP_DROP_CROWD,      /* it was silent when others waited for a connection */
        HTTP_DROP_TOO_MANY,   /* its client has more connections than one may have */
        HTTP_DROP_UNREADABLE, /* what it said was no HTTP, or no TLS that is spoken here */
        _HTTP_DROP_MAX,
} HttpDrop;

/* "took too long to send its header" and so on: what the client did. */
const char *http_drop_text(HttpDrop why);

typedef struct HttpHandlers {
        /* The header is there, the body is not. Returning a negative errno with the problem filled refuses
         * the request without reading its body. */
        int (*on_header)(HttpRequest *request, void *userdata, Problem *reterr_problem);
        /* The whole request is there. Answer it now, or keep the pointer and answer later; then
         * http_request_on_hangup() says when it became invalid instead. */
        void (*on_request)(HttpRequest *request, void *userdata);
        /* Answer a request that on_header() or the server itself refused (413, 503). */
        void (*on_refused)(HttpRequest *request, const Problem *problem, void *userdata);
        /* Called with every answer, for statistics; may be NULL. */
        void (*on_answered)(HttpRequest *request, int status, void *userdata);
        /* Called when a connection is broken off on which no request could be refused; CLIENT is as
         * http_request_client() has it. For the log; may be NULL. */
        void (*on_dropped)(HttpDrop why, const char *client, void *userdata);
} HttpHandlers;

int http_server_new(
                sd_event *event,
                const HttpServerOptions *options,
                const HttpHandlers *handlers,
                void *userdata,
                HttpServer **ret);

/* Drops every connection. Parked requests are gone without their hang-up handler being called. */
HttpServer *http_server_free(HttpServer *server);
DEFINE_POINTER_CLEANUP(HttpServer, http_server_free)

/* Serves TCP connections that come from now on by HTTPS instead of HTTP, or, where that was so before, by
 * other certificates; there, those of before are closed after their next answer. Unix sockets stay plain. On
 * failure everything stays as it was: -EBADMSG, with the problem's field one of "/tls/cert", "/tls/client_ca"
 * and
 * "/tls", when a text is no good; -ENOMEM. */
int http_server_set_tls(HttpServer *server, const HttpTls *tls, Problem *reterr_problem);

/* Serves FD, a listening stream socket (TCP or AF_UNIX), which the server owns from now on,
 * also on failure. */
int http_server_listen(HttpServer *server, int fd);

/* Starts to accept; until then clients wait in the kernel's backlog. */
void http_server_accept(HttpServer *server);

/* Before another process goes on with the listening sockets: no connection is accepted any more, so that new
 * clients wait in the backlog; answers are the last on their connections; and what is silent is closed. Call
 * again and again until http_server_is_idle(). http_server_accept() undoes it. */
void http_server_wind_down(HttpServer *server);
bool http_server_is_idle(const HttpServer *server);

/* Requests that are there, if not all of their bodies, and have no answer yet. */
size_t http_server_n_unanswered(const HttpServer *server);

/* The Ith listening socket, or -EBADF behind the last; the server's. */
int http_server_listener(const HttpServer *server, size_t i);

/* Creates a listening TCP socket. IP is a literal; PORT 0 lets the kernel choose, *RET_PORT says what it is.
 * Returns the descriptor. */
int http_listen_tcp(const char *ip, uint16_t port, uint16_t *ret_port);

/* The TCP port that the listening socket FD is bound to; 0: none. */
uint16_t http_socket_port(int fd);

/* Whether only this machine can connect to the listening socket FD: it is AF_UNIX, or bound to a loopback
 * address. */
bool http_socket_is_local(int fd);

/* Whether that is so for all the sockets that are served. */
bool http_server_is_local(const HttpServer *server);

unsigned http_server_n_connections(const HttpServer *server);

const char *http_request_method(const HttpRequest *request);
const char *http_request_path(const HttpRequest *request);                     /* still percent-encoded */
const char *http_request_query(const HttpRequest *request);                    /* what follows "?", or "" */
const char *http_request_header(const HttpRequest *request, const char *name); /* NULL when absent */
const char *http_request_body(const HttpRequest *request, size_t *ret_size); /* never NULL, NUL-terminated */
bool http_request_has_body(const HttpRequest *request);                      /* announced by its header */
bool http_request_over_tcp(const HttpRequest *request);
bool http_request_is_tls(const HttpRequest *request);

/* Whether certificates are asked for where the request came in, and whether the client showed one, valid now,
 * for clients, from CLIENT_CA. Who has none is served all the same unless the program refuses. */
bool http_request_asks_certificate(const HttpRequest *request);
bool http_request_has_certificate(const HttpRequest *request);

/* Whom a request is from, for the log: an IP address, "uid 1000", or "unknown". */
const char *http_request_client(const HttpRequest *request);

/* The process that connected to a Unix socket, as it was then. */
typedef struct HttpPeer {
        uid_t uid;
        gid_t gid;
        pid_t pid;     /* 0 when it is in a PID namespace that cannot be seen from here */
        gid_t *groups; /* supplementary ones */
        size_t n_groups;
} HttpPeer;

/* Asked of the kernel once for each connection, and valid as long as the request. -EOPNOTSUPP over TCP, or
 * whatever the kernel says. */
int http_request_peer(const HttpRequest *request, const HttpPeer **ret);

/* A new descriptor of that process, which the caller closes. -ENOPROTOOPT on kernels before 6.5; -ESRCH or
 * the like when it has ended. */
int http_request_peer_pidfd(const HttpRequest *request);

/* For the program's own use while it decides on the request; *RELEASE is called with it at the request's end.
 */
void http_request_set_context(HttpRequest *request, void *context, void (*release)(void *context));
void *http_request_context(const HttpRequest *request);

/* HANDLER is called once if the client goes away before the answer; REQUEST is invalid after it returns. */
typedef void (*HttpHangupHandler)(HttpRequest *request, void *userdata);
void http_request_on_hangup(HttpRequest *request, HttpHangupHandler handler, void *userdata);

/* Adds a header to the answer to come; at most eight. A Cache-Control takes the place of "no-store", which
 * all other answers have. -ENOMEM, -ENOSPC. */
int http_request_add_header(HttpRequest *request, const char *name, const char *value);

/* Answers. BODY may be NULL (empty) and is copied; a NULL CONTENT_TYPE leaves the header out. The request
 * must not be touched afterwards. Out of memory closes the connection. When all answers under way are too
 * much (HttpServerOptions), it is a 503 instead. */
void http_request_answer(
                HttpRequest *request,
                int status,
                const char *content_type,
                const void *body,
                size_t size);

/* The same with the content of TEXT, which it takes over. */
void http_request_answer_text(HttpRequest *request, int status, const char *content_type, Text *text);

/* Answers with OBJECT as application/json and drops it; NULL stands for "out of memory" and becomes a 503. */
void http_request_answer_json(HttpRequest *request, int status, json_object *object);

/* Answers with application/problem+json, Retry-After if the problem says so, and the members of EXTRA
 * (dropped; may be NULL). */
void http_request_answer_problem(HttpRequest *request, const Problem *problem, json_object *extra);

/* One answer to many requests: thousands may wait for the same, and each copy would count. */
typedef struct HttpAnswer HttpAnswer;

/* Makes an answer of OBJECT, which it drops; -ENOMEM, also for NULL; -ENOSPC when all answers are too much.
 * The caller unrefs it; so does each request in the end. */
int http_answer_new_json(HttpServer *server, json_object *object, HttpAnswer **ret);
HttpAnswer *http_answer_unref(HttpAnswer *answer);
DEFINE_POINTER_CLEANUP(HttpAnswer, http_answer_unref)

/* Answers with ANSWER; headers that were added to REQUEST are left out. */
void http_request_answer_shared(HttpRequest *request, int status, HttpAnswer *answer);

/* Gives up to SIZE more bytes of an answer: their number, 0 when there are none yet
 * (http_request_stream_wake() then asks again), -ENODATA at the end, another negative errno to break off. */
typedef ssize_t (*HttpStreamReader)(void *userdata, char *buffer, size_t size);

/* Answers piece by piece. RELEASE is called with USERDATA when the request is over, however that comes about;
 * until then http_request_stream_wake() may be called. */
void http_request_answer_stream(
                HttpRequest *request,
                int status,
                const char *content_type,
                HttpStreamReader read,
                void (*release)(void *userdata),
                void *userdata);
void http_request_stream_wake(HttpRequest *request);
