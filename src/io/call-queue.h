/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls to somebody outside who answers each of them once what was asked for is done: sent in order of
 * arrival, a bounded number under way at a time, each with a deadline. How a call is sent is the owner's to
 * say. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/usec.h"

typedef struct CallQueue CallQueue;
typedef struct QueuedCall QueuedCall;

/* How a call ended: ERROR is 0 or a negative errno, MESSAGE a sentence with it. The call is gone when this is
 * called. */
typedef void (*CallDone)(int error, const char *message, void *userdata);

typedef struct CallCarrier {
        /* Sends PAYLOAD of CALL; a negative errno ends the call. -EAGAIN: not now, call_queue_resume() will
         * tell when. */
        int (*send)(QueuedCall *call, void *payload, void *userdata);
        void (*payload_free)(void *payload);
} CallCarrier;

struct QueuedCall {
        CallQueue *queue; /* weak */
        QueuedCall *prev, *next;
        bool under_way; /* sent, and not answered yet */
        usec_t deadline_usec;
        void *payload;
        CallDone done;
        void *userdata;
};

struct CallQueue {
        sd_event *event;
        const CallCarrier *carrier;
        void *userdata; /* the carrier's */
        size_t n_under_way, n_under_way_max;
        usec_t timeout_usec;
        QueuedCall *calls; /* in order of arrival, and so of their deadlines */
        sd_event_source *send_source, *deadline_source;
};

/* Makes *QUEUE, which stays where it is, ready. Every call has TIMEOUT_USEC from its arrival. */
int call_queue_init(
                CallQueue *queue,
                sd_event *event,
                const CallCarrier *carrier,
                void *userdata,
                size_t n_under_way_max,
                usec_t timeout_usec);

/* Forgets all calls without a word to those who made them. A queue of zeros is fine. */
void call_queue_done(CallQueue *queue);

/* Adds a call with PAYLOAD, which the queue takes over in every case, and sends it if it is its turn. DONE is
 * called in a later turn of the loop, unless this fails: -ENOMEM, or what the carrier said. */
int call_queue_add(CallQueue *queue, void *payload, CallDone done, void *userdata, QueuedCall **ret);

/* Adds a call with PAYLOAD, taken over in every case, that was sent by an earlier process; its time begins
 * anew. -ENOMEM. */
int call_queue_add_sent(CallQueue *queue, void *payload, CallDone done, void *userdata, QueuedCall **ret);

/* Gives up on CALL: its DONE will not be called. NULL is fine; always returns NULL. What was asked for may
 * still happen. */
QueuedCall *queued_call_cancel(QueuedCall *call);

/* The carrier has heard how CALL ended. */
void queued_call_finish(QueuedCall *call, int error, const char *message);

/* Ends all calls with ERROR: nobody will hear of them any more. */
void call_queue_fail(CallQueue *queue, int error, const char *message);

/* Sends what waits, in a turn of the loop of its own. */
void call_queue_resume(CallQueue *queue);
