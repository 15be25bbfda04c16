/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests that wait for the same thing (long polls), each for as long as its client likes. */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "base/usec.h"
#include "io/http-server.h"

#define WAITERS_FORMS_MAX 8

typedef struct Waiter Waiter;

/* What SUBJECT is now, in one of the FORMS that it can be told in (the program's own numbers); NULL when out
 * of memory. */
typedef json_object *(*WaitersDescribe)(const void *subject, unsigned form);

/* Answers REQUEST, which it takes over, with STATUS and what SUBJECT is now, at once or later, when SUBJECT
 * may be gone. */
typedef void (*WaitersAnswer)(const void *subject, HttpRequest *request, int status, unsigned form);

/* Belongs to what is waited for. All but FIRST is for whoever sets it up to fill in. */
typedef struct Waiters {
        sd_event *event;          /* weak */
        HttpServer *server;       /* weak */
        WaitersDescribe describe; /* this … */
        WaitersAnswer answer;     /* … or that */
        const void *subject;      /* weak */
        Waiter *first;
} Waiters;

/* Answers REQUEST with STATUS and the subject in FORM (below WAITERS_FORMS_MAX): after TIMEOUT_USEC (at once
 * with 0), or earlier with all others. Takes care of a client that goes away. */
void waiters_add(Waiters *waiters, HttpRequest *request, int status, unsigned form, usec_t timeout_usec);

/* Answers everybody; the subject is described once for each form. */
void waiters_answer_all(Waiters *waiters);

/* Forgets everybody, unanswered. */
void waiters_drop(Waiters *waiters);
