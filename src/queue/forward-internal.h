/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the two halves of the forwarder share: forward.c decides where a request goes and how long it is
 * waited for, forward-call.c takes it there and brings the answer back. */
#pragma once

#include "base/text.h"
#include "core/http/forward-rule.h"
#include "io/http-client.h"
#include "queue/forward.h"

#define MEMBER_ID_MAX 64

typedef struct Forwarded Forwarded;

typedef enum ForwardedState {
        FORWARDED_HELD,     /* in forwarder->held */
        FORWARDED_SENT,     /* from here on in forwarder->sent: no answer yet */
        FORWARDED_COMING,   /* a short answer is under way, of which the client has seen nothing */
        FORWARDED_STREAMED, /* the client gets what comes, as it comes */
} ForwardedState;

/* A request of a client, from forwarder_take() to its answer's end. */
struct Forwarded {
        Forwarder *forwarder;
        Forwarded *previous, *next;
        ForwardedState state;
        HttpRequest *request;
        const RequestContext *context; /* the request's */
        bool is_passed_on;             /* by another member: it goes no further */
        bool waits;                    /* the answer may take as long as the client likes to wait */
        bool repeatable;               /* it may have been acted on, and be sent again all the same */
        unsigned n_repeats;            /* how often that was done */
        usec_t held_until_usec;        /* since it was held first, or last after it had arrived; else never */
        usec_t deadline_usec;          /* sent to one that leads no more: of the answer's end; else never */

        HttpCall *call;
        char leader_id[MEMBER_ID_MAX + 1]; /* whom it was sent to */
        Text bytes;                        /* of the answer, not yet passed on */
        size_t offset;                     /* in there: what was */
        bool ended;                        /* a stream, with: */
        int error;
};

struct Forwarder {
        ForwarderOptions options;
        char *header;       /* "Daggyd-Member: …" */
        HttpClient *client; /* calls that end soon */
        HttpClient *waits;  /* those that do not */
        Forwarded *held, *sent;
        size_t n_held;
        uint64_t n_forwarded;
        bool unreachable; /* the leader, when last tried; so it was told in the log */
        size_t burst;     /* of those that are held, how many try it next */
        bool is_over;     /* this member has left, and does not hear any more who leads */
        sd_event_source *tick_source;
};

/* Frees it, its call included; whoever has the request may have it for good. */
void forwarded_free(Forwarded *forwarded);

/* forward.c, for what a call came to. Each may free FORWARDED. */

/* The member that leads has answered, whatever it said. */
void forwarded_was_answered(Forwarded *forwarded);

/* The member that it was sent to has not looked at it: it does not lead, or does not know us yet. */
void forwarded_was_declined(Forwarded *forwarded);

/* There is no answer, and there will be none. NOT_SENT: it did not even get there. */
void forwarded_was_lost(Forwarded *forwarded, bool not_sent, const char *reason);

/* forward-call.c */

/* Sends FORWARDED, which is not held, to LEADER. Negative errno: nothing was sent. */
int forwarded_send(Forwarded *forwarded, const Member *leader);

/* Breaks the stream off that the client gets. */
void forwarded_break_off(Forwarded *forwarded);
