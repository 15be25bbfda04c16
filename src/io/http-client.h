/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* HTTP/1.1 calls by libcurl inside the sd-event loop. Each call has its deadlines, its limits, one callback
 * at its end, and can be dropped at any time; what is not there to be set is not done: no redirects, no
 * proxies, no cookies, no other protocols.
 *
 * A library of its own, so that only who calls others links libcurl. Host names (other than literals and
 * "localhost") are looked up by a thread that libcurl starts: block the signals that are to be handled, and
 * ignore SIGPIPE, before the first call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"

typedef struct HttpClient HttpClient;
typedef struct HttpCall HttpCall;

typedef struct HttpClientOptions {
        unsigned connections_max;          /* in total, idle ones included */
        unsigned connections_per_host_max; /* to one scheme, host and port, or one socket path */
        unsigned calls_max;                /* unfinished ones, those that wait for a connection included */
        const char *user_agent;            /* copied; NULL: none is sent */
} HttpClientOptions;

/* A call that waits for an event occupies a connection all the while: streams and long polls had better have
 * a client of their own, so that they do not hold up the rest. Negative errno. */
int http_client_new(sd_event *event, const HttpClientOptions *options, HttpClient **ret);

/* Drops all calls without calling back; pointers to them stay good for http_call_free() only. Not from within
 * a callback of this client. NULL is fine; returns NULL. */
HttpClient *http_client_free(HttpClient *client);
DEFINE_POINTER_CLEANUP(HttpClient, http_client_free)

unsigned http_client_n_calls(const HttpClient *client);

/* How a call ended. Pointers are valid during the callback only. */
typedef struct HttpOutcome {
        /* 0: there is an answer, whatever its status. Otherwise
         * -ETIMEDOUT     a deadline passed
         * -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH, -ENOENT (socket path), …: no connection
         * -EHOSTUNREACH  also: the name is not known
         * -ECONNRESET    the peer went away before the end of its answer
         * -EMSGSIZE      the answer is larger than answer_bytes_max
         * -EPROTO        not HTTP, or the TLS handshake failed
         * -EKEYREJECTED  the peer's certificate is not one we trust, or not for this host
         * -ENOKEY        a file of HttpClientTls cannot be used
         * -ENOMEM, or what on_data returned */
        int error;
        const char *error_text; /* for people; "" when there is none */

        /* With an error: not a byte of the request left this machine, so the peer has certainly not acted
         * on it. Otherwise it may have. */
        bool not_sent;

        int status;               /* 100…999; of a stream that broke also set, if it had come; else 0 */
        const char *content_type; /* as sent; NULL when there was none */
        unsigned retry_after_sec; /* from now on, if it was given as a date; 0: none given */
        const char *body;         /* never NULL, NUL-terminated; "" of a stream with status 2xx */
        size_t body_size;
} HttpOutcome;

/* Called once, from the loop and never from within http_call_new(). CALL may be freed in here. */
typedef void (*HttpCallDone)(HttpCall *call, const HttpOutcome *outcome, void *userdata);

/* The next SIZE bytes of an answer with status 2xx, in any pieces; answers with another status are collected
 * for the outcome. A negative errno ends the call with it. CALL may be paused or freed in here. */
typedef int (*HttpCallData)(HttpCall *call, const void *bytes, size_t size, void *userdata);

/* The header of an answer with status 2xx is there, before any of it goes to on_data: http_call_status() and
 * http_call_answer_header() tell of it. CALL may be paused or freed in here. */
typedef void (*HttpCallHeader)(HttpCall *call, void *userdata);

/* PEM files; read anew for each connection. */
typedef struct HttpClientTls {
        const char *ca_file;   /* NULL: the system's */
        const char *cert_file; /* ours; NULL: none */
        const char *key_file;  /* NULL: in cert_file */
} HttpClientTls;

/* Everything is copied. Zero-initialise it. */
typedef struct HttpCallOptions {
        const char *method;       /* "GET", "POST", "PUT", "DELETE", … */
        const char *url;          /* "http://…" or "https://…", without user or fragment */
        const char *unix_path;    /* connects to this socket instead of the URL's host; or NULL */
        const HttpClientTls *tls; /* NULL: the system's certificate authorities, none of ours */

        const char *token;          /* sent as "Authorization: Bearer …"; or NULL */
        const char *lease_id;       /* sent as "Daggyr-Lease: …"; or NULL */
        const char *content_type;   /* of the body; or NULL */
        const char *const *headers; /* further ones, each "Name: value", NULL-terminated; or NULL */
        bool keepalive;        /* the system asks whether a silent peer is still there, for calls that wait
                                  without an end: else a host that is gone would not be noticed */
        bool fresh_connection; /* not one that was used before: libcurl (7.88) sends a request of any method
                                  again by itself when a reused connection closes before the answer */
        const void *body;      /* NULL: none; sent with Content-Length always */
        size_t body_size;

        usec_t total_usec;   /* from now to the end of the answer, waiting for a connection included; 0: for
                                ever */
        usec_t connect_usec; /* to establish a connection, TLS included; 0: as long as total_usec */
        usec_t idle_usec;    /* without any byte of the answer, once started; not while paused; 0: for ever */
        size_t answer_bytes_max; /* of a body that is collected */

        HttpCallDone on_done;
        HttpCallHeader on_header; /* NULL: not told; with on_data only */
        HttpCallData on_data;     /* NULL: the answer is collected */
        void *userdata;
} HttpCallOptions;

/* Starts a call, now or as soon as there is a connection for it: in order of arrival for each host, hosts
 * taking turns. With a NULL RET_CALL nobody can cancel it and it frees itself after on_done; otherwise the
 * caller owns it, during and after on_done. -EINVAL (URL, header), -EBUSY (calls_max), -ENOMEM. */
int http_call_new(HttpClient *client, const HttpCallOptions *options, HttpCall **ret_call);

/* The status of the answer and a header of it, during on_header, on_data and on_done; NULL when there is none
 * of that name. */
int http_call_status(HttpCall *call);
const char *http_call_answer_header(HttpCall *call, const char *name);

/* Cancels it unless it is done: no callback any more. At any time, also from within a callback. NULL is fine;
 * returns NULL. */
HttpCall *http_call_free(HttpCall *call);
DEFINE_POINTER_CLEANUP(HttpCall, http_call_free)

/* Flow control of a stream: while paused nothing is read, and the peer is held up by TCP; what was already
 * read (at most some 100 KiB) waits. on_data is never called from within http_call_resume(). */
void http_call_pause(HttpCall *call);
void http_call_resume(HttpCall *call);
