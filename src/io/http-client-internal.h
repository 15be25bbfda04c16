/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the files of the client share: http-client.c (the life of calls, and who is called back when),
 * http-client-hosts.c (whose call is next), http-client-multi.c (libcurl and the loop) and http-call.c (one
 * request and its answer). */
#pragma once

#include <curl/curl.h>
#include <sys/epoll.h>

#include "base/hash-table.h"
#include "base/text.h"
#include "io/http-client.h"

#define SOCKETS_PER_TURN_MAX 64
#define SPARE_HANDLES_MAX    64

typedef struct HttpHost HttpHost;

typedef enum CallState {
        CALL_WAITING,  /* for a connection; in host->waiting */
        CALL_ACTIVE,   /* libcurl has it */
        CALL_ENDED,    /* its outcome is to be told */
        CALL_REPORTED, /* the caller knows, and has still to free it */
        CALL_ORPHANED, /* the client is gone, and the caller has still to free it */
} CallState;

struct HttpCall {
        HttpClient *client; /* weak */
        HttpHost *host;     /* weak; while waiting or active */
        CallState state;
        bool is_ready;                         /* there is something to call back about */
        HttpCall *prev, *next;                 /* in client->calls, or in no list when orphaned */
        HttpCall *prev_in_line, *next_in_line; /* in host->waiting, or in client->ready */

        CURL *easy;
        struct curl_slist *headers;
        bool tls_unreadable; /* a file of HttpTls */
        char *body;          /* of the request */
        char error_buffer[CURL_ERROR_SIZE];

        HttpCallDone on_done;
        HttpCallHeader on_header;
        HttpCallData on_data;
        void *userdata;
        bool floating; /* nobody but us will free it */
        bool in_callback;
        bool freed; /* by the caller, in that callback */

        Text answer;
        size_t answer_bytes_max;
        bool streamed; /* what came of the answer is for on_data */
        bool paused;   /* by the caller */
        bool blocked;  /* libcurl was told to wait, as enough is there */

        usec_t total_deadline_usec, idle_usec, progress_usec; /* CLOCK_BOOTTIME */
        usec_t suspected_usec, grace_deadline_usec;           /* the progress after which it seems idle */
        sd_event_source *timer_source;

        bool header_complete, header_news; /* it is to be told that it is */
        int error;
        bool not_sent;
        int status;
};

/* A place to connect to, while there are calls for it. */
struct HttpHost {
        char *key;
        unsigned n_active;
        HttpCall *waiting;
        bool in_line;          /* has calls that wait, and room for one of them */
        HttpHost *prev, *next; /* in client->line */
        UT_hash_handle hh;
};

struct HttpClient {
        sd_event *event;
        HttpClientOptions options;
        char *user_agent;
        sd_event_source *pump_source;
        bool in_callback;

        CURLM *multi;
        sd_event_source *timer_source; /* libcurl's */
        bool kicked;                   /* libcurl wants to be called at once */
        int epoll_fd;                  /* of all its sockets */
        sd_event_source *epoll_source;
        struct epoll_event sockets[SOCKETS_PER_TURN_MAX]; /* that are being served */
        int n_sockets;

        HttpHost *hosts; /* by key */
        HttpHost *line;  /* of those whose turn it may be, the next one first */
        HttpCall *calls; /* all of them */
        HttpCall *ready; /* in the order in which there was something to tell */
        unsigned n_calls, n_active, n_ready;

        CURL *spare[SPARE_HANDLES_MAX]; /* of calls that are over: they have their buffers already */
        unsigned n_spare;
};

/* http-client.c */

/* Lets the client look after its calls in the next turn of the loop. */
void http_client_schedule(HttpClient *client);

/* Starts what may start, and calls back about what is there. */
void http_client_turn(HttpClient *client);

/* Takes note of what libcurl is done with. */
void http_client_collect(HttpClient *client);

bool http_client_is_exiting(const HttpClient *client);

/* Puts the call among the ready ones or takes it out: to be called after each change to what there is to tell
 * of it. */
void http_call_settle(HttpCall *call);

/* http-client-hosts.c */

/* The host of that key, made if there is none yet. -ENOMEM. */
int http_host_find_or_add(HttpClient *client, const char *key, HttpHost **ret);

/* Queues the host where it belongs, or frees it: to be called after each change to it. One that is in line
 * keeps its place. */
void http_host_settle(HttpClient *client, HttpHost *host);

/* To be called before http_host_settle() when its turn is over. */
void http_host_leave_line(HttpClient *client, HttpHost *host);

/* http-client-multi.c */

/* Makes what libcurl needs. On failure http_multi_free() undoes the rest. Negative errno. */
int http_multi_new(HttpClient *client);
void http_multi_free(HttpClient *client);

/* Lets libcurl do what it wanted to do at once. */
void http_multi_kick(HttpClient *client);

/* http-call.c */

/* Makes a call of OPTIONS that is in no list yet; *RET_HOST_KEY says whom it goes to and is freed by the
 * caller. */
int http_call_prepare(
                HttpClient *client,
                const HttpCallOptions *options,
                HttpCall **ret,
                char **ret_host_key);

/* Frees what a call that is in no list owns. */
HttpCall *http_call_destroy(HttpCall *call);
DEFINE_POINTER_CLEANUP(HttpCall, http_call_destroy)

/* The negative errno for what libcurl said of the call. */
int http_call_error(const HttpCall *call, CURLcode code);

/* Notes what will be wanted of the transfer that ends with ERROR. */
void http_call_note_end(HttpCall *call, int error);

/* Whether there is something for on_data. */
bool http_call_has_data(const HttpCall *call);

/* Whether the header is to be told before anything else. */
bool http_call_has_header(const HttpCall *call);

/* These call back; the call may be marked as freed afterwards. */
void http_call_deliver_header(HttpCall *call);
int http_call_deliver_data(HttpCall *call);
void http_call_deliver_outcome(HttpCall *call);
