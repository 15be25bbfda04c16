/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What http-client.c (connections and the loop) and http-call.c (one request and its answer) share. */
#pragma once

#include <curl/curl.h>

#include "base/text.h"
#include "io/http-client.h"

typedef struct HttpHost HttpHost;

typedef struct CallList {
        HttpCall *first, *last;
} CallList;

typedef enum CallState {
        CALL_WAITING,  /* for a connection; in host->waiting */
        CALL_ACTIVE,   /* libcurl has it; in client->active */
        CALL_ENDED,    /* its outcome is to be told; in client->ended */
        CALL_REPORTED, /* the caller knows; in client->reported until it frees it */
        CALL_ORPHANED, /* the client is gone; in no list */
} CallState;

struct HttpCall {
        HttpClient *client; /* weak */
        HttpHost *host;     /* weak; while waiting or active */
        CallState state;
        HttpCall *previous, *next; /* in the list of its state */

        CURL *easy;
        struct curl_slist *headers;
        bool tls_unreadable; /* a file of HttpTls */
        char *body;          /* of the request */
        char error_buffer[CURL_ERROR_SIZE];

        HttpCallDone on_done;
        HttpCallData on_data;
        void *userdata;
        bool floating; /* nobody but us will free it */
        bool in_callback;
        bool freed; /* by the caller, in that callback */

        Text answer;
        size_t answer_bytes_max;
        bool paused;  /* by the caller */
        bool blocked; /* libcurl was told to wait, as enough is there */

        usec_t total_deadline_usec, idle_usec, progress_usec; /* CLOCK_BOOTTIME */
        usec_t suspected_usec, grace_deadline_usec;           /* the progress after which it seems idle */
        sd_event_source *timer_source;

        bool header_complete;
        int error;
        bool not_sent;
        int status;
};

/* A place to connect to, while there are calls for it. */
struct HttpHost {
        char *key;
        unsigned n_active;
        CallList waiting;
        HttpHost *previous, *next;
};

struct HttpClient {
        sd_event *event;
        HttpClientOptions options;
        char *user_agent;
        CURLM *multi;
        sd_event_source *timer_source; /* libcurl's */
        sd_event_source *pump_source;
        bool kicked; /* libcurl wants to be called at once */
        bool in_callback;

        HttpHost *hosts, *hosts_last;
        CallList active, ended, reported;
        unsigned n_calls, n_active;
};

void call_list_append(CallList *list, HttpCall *call);
void call_list_remove(CallList *list, HttpCall *call);

/* Lets the client look after its calls in the next turn of the loop. */
void http_client_schedule(HttpClient *client);

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

/* These call back; the call may be marked as freed afterwards. */
int http_call_deliver_data(HttpCall *call);
void http_call_deliver_outcome(HttpCall *call);
