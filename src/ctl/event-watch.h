/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The events of a daemon as they come, over connections that break: each goes on behind the last event of the
 * one before it. */
#pragma once

#include "core/http/event-parse.h"
#include "ctl/session.h"

typedef struct EventWatch EventWatch;

typedef struct EventWatchHandlers {
        ParsedEventHandler on_event; /* a negative errno ends the watch, with the status that was set */
        void (*on_connected)(void *userdata); /* may be NULL: again each time; all told so far has to be
                                                 looked at anew */
        void (*on_lost)(void *userdata);      /* may be NULL: the connection; another one is on its way */
        void *userdata;
} EventWatchHandlers;

/* HANDLERS are copied. Negative errno. */
int event_watch_new(Session *session, const EventWatchHandlers *handlers, EventWatch **ret);

/* Returns when what happens from now on will be heard. 0, or the exit status to end with, said. */
int event_watch_await_connection(EventWatch *watch);

/* NULL is fine; returns NULL. Not from within a handler. */
EventWatch *event_watch_free(EventWatch *watch);
DEFINE_POINTER_CLEANUP(EventWatch, event_watch_free)

/* Ends it, with the exit status to end with, which was said. From a handler, too. */
void event_watch_end(EventWatch *watch, int status);

/* Whether it has ended, for good: nobody answers any more, or as above. The other: with what exit status. */
const bool *event_watch_ended(const EventWatch *watch);
int event_watch_status(const EventWatch *watch);
