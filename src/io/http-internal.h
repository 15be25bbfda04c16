/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Inside the HTTP server: what http-server.c (connections), http-receive.c (requests coming in) and
 * http-answer.c (answers going out) share. Nobody else includes this. */
#pragma once

#include <microhttpd.h>

#include "base/text.h"
#include "io/http-server.h"

#define HTTP_LISTENERS_MAX      16
#define HTTP_ANSWER_HEADERS_MAX 8

typedef struct Listener {
        HttpServer *server;
        int fd;
        sd_event_source *source;
} Listener;

struct HttpServer {
        sd_event *event;
        HttpServerOptions options;
        HttpHandlers handlers;
        void *userdata;
        struct MHD_Daemon *mhd;
        sd_event_source *mhd_source, *timer_source, *pump_source, *accept_pause_source;
        Listener listeners[HTTP_LISTENERS_MAX];
        size_t n_listeners;
        unsigned n_connections;
        size_t bodies_bytes;
        HttpRequest *requests; /* all there are, for tear-down */
        bool accepting, stopping;
};

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
        RequestState state;
        bool header_seen, suspended, abort;
        bool stream_idle; /* the stream's reader had nothing to give */
        char *target, *query;
        const char *method; /* libmicrohttpd's, as long as the request */
        Text body;
        uint64_t body_received;
        Problem problem; /* with REQUEST_REFUSED */
        int status;
        struct MHD_Response *response;
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
        struct MHD_Response *response;
        unsigned n_references;
};

/* Lets libmicrohttpd work in a later turn of the loop, never from inside one of its own callbacks. */
void http_server_schedule_pump(HttpServer *server);

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

/* Takes the connection out of libmicrohttpd's hands until http_request_resume(), and watches whether the
 * client goes away. */
void http_request_suspend(HttpRequest *request);
