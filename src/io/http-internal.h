/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Inside the HTTP server: what http-server.c (connections), http-receive.c (requests coming in) and
 * http-answer.c (answers going out) share. Nobody else includes this. */
#pragma once

#include <microhttpd.h>
#include <netinet/in.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/http/request-framing.h"
#include "io/http-server.h"

#define HTTP_LISTENERS_MAX      16
#define HTTP_ANSWER_HEADERS_MAX 8
#define HTTP_CLIENT_SIZE        64

typedef struct Listener {
        HttpServer *server;
        int fd;
        sd_event_source *source;
        bool is_tcp;
} Listener;

/* One daemon in libmicrohttpd's sense: all its connections are of one kind. There is one for plain HTTP, one
 * for HTTPS, and, after a change of certificates, those of before until their last connection is gone. */
typedef struct Engine Engine;
typedef struct HttpConnection HttpConnection;

struct Engine {
        HttpServer *server;
        Engine *next;
        struct MHD_Daemon *mhd;
        sd_event_source *io_source, *timer_source;
        usec_t timer_usec; /* when the timer fires, of CLOCK_MONOTONIC; USEC_INFINITY: not */
        unsigned n_connections;
        bool is_tls, asks_certificate, retired;
        HttpConnection *handshaking;  /* those that libmicrohttpd has in hand, not those that wait */
        char *cert, *key, *client_ca; /* libmicrohttpd keeps pointers to them */
};

typedef enum ConnectionPhase {
        CONNECTION_AWAITING, /* the header of a request, or the handshake before the first */
        CONNECTION_READING,  /* a request's body */
        CONNECTION_WORKING,  /* on a request, or on sending its answer */
} ConnectionPhase;

struct HttpConnection {
        HttpServer *server;
        Engine *engine;
        HttpConnection *previous, *next;
        struct MHD_Connection *mhd;
        int fd; /* weak: libmicrohttpd's */
        ConnectionPhase phase;
        usec_t since_usec, deadline_usec; /* of the phase; CLOCK_BOOTTIME */
        unsigned n_requests;              /* with a header that could be read */
        HttpConnection *next_answered;
        bool is_answered; /* is in the list of those */
        HttpConnection *next_handshaking;
        sd_event_source *handshake_source; /* set while it is suspended */
        bool in_handshake;
        bool dropped; /* its end is on the way, and was told about */
        bool certificate_checked, certificate_accepted;
        bool peer_asked;
        int peer_error;
        HttpPeer peer;
        char client[HTTP_CLIENT_SIZE];
        struct in6_addr source; /* what its limit counts by */
};

struct HttpServer {
        sd_event *event;
        HttpServerOptions options;
        HttpHandlers handlers;
        void *userdata;
        Engine *engines;
        Engine *plain, *tls; /* of ENGINES, those that get new connections; TLS may be NULL */
        sd_event_source *pump_source, *accept_pause_source, *watch_source;
        usec_t watch_usec; /* when watch_source fires */
        Listener listeners[HTTP_LISTENERS_MAX];
        size_t n_listeners;
        HttpRequest *unsuspended; /* those that are not answered at once, until libmicrohttpd returns */
        HttpConnection *connections;
        HttpConnection *answered; /* since libmicrohttpd was called */
        unsigned n_connections;
        size_t bodies_bytes;
        size_t answers_bytes, answers_file_bytes; /* of all answers that are not sent yet */
        HttpAnswer *empty;                        /* what most say who have nothing to say; NULL until then */
        HttpRequest *requests;                    /* all there are, for tear-down */
        bool accepting, winding_down, stopping;
};

/* The bytes of an answer, as far as they are counted; they are the response's. */
typedef struct HttpBody {
        const char *text;         /* weak; NULL when they are in a file */
        int fd;                   /* weak: of that file */
        size_t bytes, file_bytes; /* in memory, in a file */
} HttpBody;

typedef enum RequestState {
        REQUEST_READING,
        REQUEST_REFUSED,  /* refused while its body was still coming */
        REQUEST_HANDLED,  /* given to the program, not yet answered */
        REQUEST_ANSWERED, /* the response is ready to be queued */
        REQUEST_SENDING,  /* libmicrohttpd has it */
} RequestState;

struct HttpRequest {
        HttpServer *server;
        HttpRequest *previous, *next;
        struct MHD_Connection *connection;
        HttpConnection *on; /* NULL only while the server runs out of memory */
        RequestState state;
        bool header_seen, suspended, abort;
        bool awaits_suspension; /* is in the list of those */
        HttpRequest *next_unsuspended;
        bool takes_interim; /* answers before the final one, as HTTP/1.1 has them */
        bool must_close;    /* what follows on the connection is not to be trusted */
        bool stream_idle;   /* the stream's reader had nothing to give */
        char *target, *path, *query;
        size_t target_size; /* as it came, query and all */
        const char *method; /* libmicrohttpd's, as long as the request */
        Text body;
        uint64_t body_received;
        Problem problem; /* with REQUEST_REFUSED */
        int status;
        struct MHD_Response *response;
        HttpBody kept;      /* RESPONSE's, unless it is a stream */
        HttpAnswer *shared; /* instead of RESPONSE, where many get the same */
        size_t n_headers;
        char *header_names[HTTP_ANSWER_HEADERS_MAX], *header_values[HTTP_ANSWER_HEADERS_MAX];
        HttpHangupHandler on_hangup;
        void *hangup_userdata;
        sd_event_source *hangup_source;
        HttpStreamReader stream_read;
        void (*stream_release)(void *userdata);
        void *stream_userdata;
        void *context;
        void (*context_release)(void *context);
};

struct HttpAnswer {
        HttpServer *server; /* weak */
        struct MHD_Response *response;
        HttpBody kept;
        unsigned n_references;
};

/* Lets libmicrohttpd work in a later turn of the loop, never from inside one of its own callbacks. */
void http_server_schedule_pump(HttpServer *server);

/* Starts and stops a daemon of libmicrohttpd; TLS may be NULL. The latter drops what connections it has. */
int http_engine_new(HttpServer *server, const HttpTls *tls, Engine **ret);
Engine *http_engine_free(Engine *engine);
DEFINE_POINTER_CLEANUP(Engine, http_engine_free)
void http_engine_pump(Engine *engine);

/* libmicrohttpd's callback about connections, with the Engine as USERDATA. */
void http_on_connection(
                void *userdata,
                struct MHD_Connection *mhd,
                void **context,
                enum MHD_ConnectionNotificationCode code);

/* What a connection is doing from now on; each phase has its time. NULL is accepted. */
void http_connection_set_phase(HttpConnection *connection, ConnectionPhase phase);

/* The request whose body is awaited has more of it: gives it more time. NULL is accepted. */
void http_connection_extend(HttpConnection *connection, uint64_t body_bytes);

/* Breaks a connection off. STATUS is said to the client if no answer is on its way yet and it is not 0; the
 * program is told. NULL is accepted. */
void http_connection_drop(HttpConnection *connection, HttpDrop why, int status);

/* Whether one more connection from ADDRESS (of the socket FD) would be more than one client may have. */
bool http_connection_is_one_too_many(
                const HttpServer *server,
                const struct sockaddr *address,
                int fd,
                char client[static HTTP_CLIENT_SIZE]);

/* No more connections are accepted until some are closed: those that have nothing to show for it are, while
 * others wait. */
void http_server_watch_crowd(HttpServer *server);

/* Starts or stops to accept, as far as http_server_accept() allows it. */
void http_server_enable_accept(HttpServer *server, bool enable);

/* Ends a connection on which nothing is under way. Of a client that is new a first word is awaited for a
 * moment. */
void http_connection_end_if_silent(HttpConnection *connection, usec_t now_usec);

/* Whether connections run short, so that each is given back after its answer. */
bool http_server_is_crowded(const HttpServer *server);

/* Whether the texts are what they should be; as http_server_set_tls() has it. */
int http_tls_check(const HttpTls *tls, Problem *reterr_problem);

/* Takes connections out of libmicrohttpd's hands whose clients are to go on with the handshake: 0.9.75 would
 * ask for that without a pause. Call after each MHD_run(). */
void http_tls_park_handshakes(Engine *engine);
void http_tls_begin_handshake(HttpConnection *connection);
void http_tls_resume_handshake(HttpConnection *connection);
void http_tls_forget_handshake(HttpConnection *connection);

/* Whether the client at the other end has shown a certificate that CLIENT_CA vouches for. */
bool http_tls_accepts_client(struct MHD_Connection *mhd);

/* Whether libmicrohttpd is one that takes what it should not. */
bool http_library_is_lenient(void);

/* Whether the header that was just read is free of what libmicrohttpd should not have accepted. 400. */
int http_check_layout(
                const HttpRequest *request,
                const char *url,
                const char *method,
                const char *version,
                Problem *reterr_problem);

/* Makes a response of the SIZE bytes at *BODY, from malloc(), in memory or, when there is not enough left for
 * answers, in a file. *BODY is NULL afterwards when it was taken over. -ENOSPC when the files are too much as
 * well; -ENOMEM and so on. */
int http_body_new(
                HttpServer *server,
                char **body,
                size_t size,
                HttpBody *ret,
                struct MHD_Response **ret_response);

/* Another response with the same bytes. */
int http_body_respond_again(const HttpBody *body, struct MHD_Response **ret);

/* Counts it no more; its response is the caller's to destroy. */
void http_body_done(HttpServer *server, HttpBody *body);

/* Notes that CONNECTION, which may be NULL, has got an answer. */
void http_connection_answered(HttpConnection *connection);

/* Lets libmicrohttpd hear that clients have said their last word behind a request that is answered now. Call
 * whenever it has run. */
void http_server_hear_last_words(HttpServer *server);

/* libmicrohttpd's callbacks about a request, with the HttpServer as USERDATA. */
void *http_on_target(void *userdata, const char *target, struct MHD_Connection *connection);
enum MHD_Result http_on_access(
                void *userdata,
                struct MHD_Connection *connection,
                const char *url,
                const char *method,
                const char *version,
                const char *upload_data,
                size_t *upload_data_size,
                void **context);
void http_on_completed(
                void *userdata,
                struct MHD_Connection *connection,
                void **context,
                enum MHD_RequestTerminationCode code);

/* Lets libmicrohttpd go on with the request in a later turn of the loop. */
void http_request_resume(HttpRequest *request);

/* Suspends requests that are not answered at once. Call whenever libmicrohttpd has run. */
void http_server_suspend_requests(HttpServer *server);

/* Takes the connection out of libmicrohttpd's hands until http_request_resume(), and watches whether the
 * client goes away. */
void http_request_suspend(HttpRequest *request);
