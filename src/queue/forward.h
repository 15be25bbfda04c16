/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a member does with requests while it does not lead: it passes each on to the member that does, and the
 * answer back to the client. While nobody leads they are held, and go on as soon as somebody does.
 *
 * A request is sent on a second time only if it was certainly not acted on, or if that would make no
 * difference (core/http/forward-rule.h). None goes further than once: a member that is passed one and does
 * not lead says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/config/config-service.h"
#include "queue/members.h"
#include "service/router.h"

typedef struct Forwarder Forwarder;

typedef struct ForwarderOptions {
        sd_event *event;             /* weak, as the following */
        const ServiceConfig *config; /* whose "tls" is shown and trusted when members' urls are https */
        const char *secret;          /* of this member; copied */
        usec_t hold_usec;            /* the longest that a request is held */
        size_t held_max;             /* requests at once */
        unsigned connections_max;    /* to other members */

        /* The member that leads, if it is another one and is known; else NULL. */
        const Member *(*leader)(void *userdata);
        /* Whether this one does, and can serve requests. */
        bool (*leads)(void *userdata);
        /* Whether it is about to: what others pass on is held here until then. */
        bool (*leads_soon)(void *userdata);
        void *userdata;
} ForwarderOptions;

/* Negative errno. */
int forwarder_new(const ForwarderOptions *options, Forwarder **ret);

/* The HTTP server must be gone before. NULL is fine; returns NULL. */
Forwarder *forwarder_free(Forwarder *forwarder);
DEFINE_POINTER_CLEANUP(Forwarder, forwarder_free)

/* A RouterDivert: true when this member does not lead, so that REQUEST is passed on, held or refused; false:
 * it is to be served here. USERDATA is the Forwarder, or NULL where there are no members. */
bool forwarder_take(void *userdata, HttpRequest *request, const RequestContext *context);

/* Another member leads, or this one, or nobody, or the one that leads can be reached elsewhere: what is held
 * goes on, and what the former leader has not answered is not waited for much longer. */
void forwarder_leader_changed(Forwarder *forwarder);

/* This member has left, and will not hear who leads: what is held is refused, as is what comes from now on.
 */
void forwarder_end(Forwarder *forwarder);

/* Why requests cannot be passed on now, for people; NULL: they can, as far as is known, or this member leads.
 */
const char *forwarder_trouble(const Forwarder *forwarder);

uint64_t forwarder_n_forwarded(const Forwarder *forwarder); /* sent to a leader, so far */
size_t forwarder_n_held(const Forwarder *forwarder);
