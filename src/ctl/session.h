/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One run of daggyctl: the loop, the daemon it talks to, and requests that are carried to their end, one at a
 * time. What broke off is asked again for as long as patience lasts, unless it must not happen twice. */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "base/usec.h"
#include "ctl/options.h"
#include "ctl/target.h"
#include "io/http-client.h"

/* For how long a daemon that has answered before may be away. */
#define PATIENCE_USEC (30 * USEC_PER_SEC)

typedef struct Session {
        Options options;
        Target target;
        sd_event *event;
        HttpClient *client;
        bool json;      /* --json */
        bool connected; /* the daemon has been reached once */
        unsigned n_interrupts;
        bool leave; /* a second signal: end at once */
        void (*on_interrupt)(void *userdata);
        void *interrupt_userdata;
        sd_event_source *signal_sources[3];
} Session;

/* Negative errno, said. Zero-initialise it with options parsed. */
int session_start(Session *session);
void session_done(Session *session);

/* What is asked from now on is asked of the daemon at HOST, as --host has it, a queue with IS_QUEUE; NULL: of
 * the one on this host. WITH_TOKEN: it is shown the token that --token-file names. Negative errno, said. */
int session_turn_to(Session *session, const char *host, bool is_queue, bool with_token);

/* From now on SIGINT, SIGTERM and SIGHUP call HANDLER the first time, and end what is waited for the second
 * time. -errno. */
int session_catch_signals(Session *session, void (*handler)(void *userdata), void *userdata);

/* Runs the loop until *DONE or the session is to be left (-EINTR). -errno. */
int session_run_until(Session *session, const bool *done);

/* Lets SPAN pass in the loop. -EINTR as above. */
int session_pause(Session *session, usec_t span_usec);

/* How long to wait before the next attempt, after N that failed. */
usec_t session_retry_delay(unsigned n_failures);

/* Everything of HttpCallOptions that is the same for all calls; PATH begins with a slash. *ret_url is to be
 * freed after the call was made. -ENOMEM. */
int session_prepare(
                Session *session,
                const char *method,
                const char *path,
                HttpCallOptions *ret,
                char **ret_url);

typedef struct Ask {
        const char *method;
        const char *path;
        const char *body;  /* JSON, or NULL */
        usec_t extra_usec; /* the daemon may take that long on purpose */
        bool once;         /* must not happen twice: not asked again if it may have arrived */
        int expected;      /* a status other than 2xx that is no failure, or 0 */
        bool may_be_busy;  /* nor are 429 and 503 */
} Ask;

typedef struct Answer {
        int status;
        unsigned retry_after_sec; /* 0: nothing was said */
        char *body;
        size_t body_size;
        json_object *json; /* of the body, or NULL when it is none or empty */
} Answer;

void answer_done(Answer *answer);

/* Carries a request to its end. Returns 0 with the answer (2xx or the expected status), else the exit status
 * to end with, when it was said why. Zero-initialise *ret. */
int session_ask(Session *session, const Ask *ask, Answer *ret);

/* The same, printing the answer as it came if --json was given and there is one. */
int session_print_json(Session *session, const Answer *answer);

/* A queue's workers. Refused, and said, where a runner answers. */
int session_ask_for_workers(Session *session, Answer *ret);

/* Says why the daemon refused, in the words of its problem. */
void session_say_problem(Session *session, int status, const char *body, size_t size);
