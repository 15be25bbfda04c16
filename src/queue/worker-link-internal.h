/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of a worker link share. worker-link.c: what it is, and the scheduler's calls;
 * worker-submit.c: submitting attempts and ending them; worker-listen.c: what the worker tells by itself. */
#pragma once

#include <systemd/sd-event.h>

#include "core/http/event-parse.h"
#include "io/http-client.h"
#include "queue/worker-link.h"

struct WorkerLink {
        Queue *queue; /* weak */
        const WorkerConfig *config;
        ScheduledWorker *worker; /* weak */
        HttpClientTls tls;
        char *token;

        HttpCall *call; /* the scheduler's */
        WorkerCall call_kind;

        HttpCall *stream;
        EventParser parser;
        sd_event_source *retry_source;
        bool connected;

        HttpCall *capacity_call, *list_call;
        sd_event_source *list_source; /* to list it later */
        usec_t asked_usec;            /* when the last listing was begun */
        usec_t listed_usec;           /* when its list was asked for */
        char *list_after;             /* of the page before; NULL: the first */
        bool list_again;              /* something may have been missed since the listing under way began */
};

static inline usec_t now_boottime(void) {
        return usec_now(CLOCK_BOOTTIME);
}

static inline bool is_success(const HttpOutcome *outcome) {
        return outcome->error == 0 && outcome->status >= 200 && outcome->status < 300;
}

/* Starts a call with a JSON body (may be NULL); what *RET holds is freed first. */
int worker_link_start_call(
                WorkerLink *link,
                const char *method,
                const char *path,
                const char *body,
                HttpCallDone on_done,
                HttpCall **ret);

/* Tells the scheduler what a worker says of itself; what it does not say this time stays. -EBADMSG, -ENOMEM.
 */
int worker_link_take_report(WorkerLink *link, const HttpOutcome *outcome);

/* Logs an answer that a worker should not give, or that it gives none. */
void worker_link_log_strange(const WorkerLink *link, const char *what, const HttpOutcome *outcome);

/* Closes the stream of events. */
void worker_link_stop_listening(WorkerLink *link);
