/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may do what. Web pages are kept out by what their requests look like; others over TCP by what they can
 * show, a token, a certificate or both; at a Unix socket by who they are. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "core/config/config-service.h"
#include "core/http/peer-access.h"
#include "core/http/session-table.h"
#include "core/json/problem.h"
#include "io/http-server.h"
#include "io/polkit.h"

#define ACCESS_GROUP "daggyr" /* whose members may do everything at the system's Unix sockets */

/* What a route needs of its client; the later ones mean more. */
typedef enum AccessLevel {
        ACCESS_PUBLIC, /* nothing: it tells no more than a port scan would */
        ACCESS_READ,
        ACCESS_SUBMIT, /* run and stop tasks */
        ACCESS_MANAGE, /* decide what the daemon does at all */
        _ACCESS_LEVEL_MAX,
} AccessLevel;

/* Whether the bearer of SECRET has decided already about the rights of whom it asks for; told in a time that
 * says nothing of how much of it was right. */
typedef bool (*AccessVouched)(const char *secret, void *userdata);

typedef struct AccessInquiry AccessInquiry;

typedef struct Access {
        sd_event *event;             /* weak */
        const char *program;         /* its name, told to those who show no token */
        const char *host_name;       /* weak: the machine's, short or full */
        const ServiceConfig *config; /* weak */
        char *token;                 /* that clients over TCP must show, or NULL */
        AccessVouched vouched;       /* NULL: nobody vouches for others */
        void *vouched_userdata;
        SessionTable sessions; /* of browsers, that show a cookie in its place, to read */
        PeerPolicy peers;
        Polkit *polkit;           /* NULL where it is not to be asked */
        AccessInquiry *inquiries; /* what polkit was asked and has not answered yet */
        bool polkit_is_silent;    /* it was told in the log that it gives no answers */
} Access;

/* Before anything else. EVENT and the names must stay. USER_MODE: the daemon is a user's own, so that nobody
 * but him and root has any business with it. Negative errno. */
int access_init(Access *access, sd_event *event, const char *program, const char *host_name, bool user_mode);

/* Goes by CONFIG (weak) and TOKEN (taken over; may be NULL) from now on. Another token ends the sessions that
 * came of the one before. */
void access_configure(Access *access, const ServiceConfig *config, char *token);

/* From now on a request over TCP that shows a secret (FORWARD_HEADER) is let in by VOUCHED alone, and refused
 * if that does not know the secret. */
void access_trust(Access *access, AccessVouched vouched, void *userdata);

/* The HTTP server must be gone before. */
void access_done(Access *access);

/* Whether a socket that other machines can reach may be listened on: something keeps strangers out, or
 * letting them in is meant. */
bool access_permits_open_socket(const Access *access);

/* The first word, when only the header of REQUEST is there: a negative errno with the problem (and a header
 * of the answer, where one belongs) when nothing that comes later could let it in. */
int access_check_header(
                const Access *access,
                HttpRequest *request,
                AccessLevel level,
                Problem *reterr_problem);

/* The last word, before REQUEST is handled, once it is there as a whole: calls DECIDED, with NULL or why it
 * is refused. That may be at once or later. Whoever takes its time here registers a hang-up handler, which
 * takes the place of the call, and takes it back before the call. */
typedef void (*AccessDecided)(HttpRequest *request, const Problem *refusal, void *userdata);
void access_decide(
                Access *access,
                HttpRequest *request,
                AccessLevel level,
                AccessDecided decided,
                void *userdata);

/* Makes a code for somebody who may read, which begins one session. Negative errno. */
int access_add_code(Access *access, char ret[static SESSION_SECRET_SIZE]);

/* Begins a session for CODE, and sets the cookie that stands for it in the answer to REQUEST. A negative
 * errno with the problem, 403 for a code that is not good. */
int access_begin_session(Access *access, HttpRequest *request, const char *code, Problem *reterr_problem);
