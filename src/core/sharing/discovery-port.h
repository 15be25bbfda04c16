/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What sharing needs of whatever knows which queues there are: a scan of ports is one, a table in
 * a database could be another, the unit tests' is a third. A kind of discovery is a table of these functions;
 * DISCOVERY is the port's own.
 *
 * A discovery tells its listener the set of queues, always all of it: each time it was asked to look, once,
 * and besides that whenever it comes to know by itself that the set has changed. It says as of when that is
 * so. It tells nothing from within the functions here. */
#pragma once

#include <stddef.h>

#include "base/usec.h"
#include "core/sharing/sharing-split.h"

typedef enum DiscoveryDepth {
        DISCOVER_QUEUES,  /* who there is; workers need not be told */
        DISCOVER_WORKERS, /* and which workers each of them has configured */
        _DISCOVERY_DEPTH_MAX,
} DiscoveryDepth;

typedef struct FoundQueue {
        SharingQueue queue; /* without workers: it is there, but has not told them this time */
        char *url;          /* where it answers in Emcee's protocol: "http://10.0.0.1:2503" */
} FoundQueue;

/* The N queues FOUND at SINCE_USEC (CLOCK_BOOTTIME) or later; the queue that listens may be among them, or
 * not, and one queue there under several addresses. FOUND is NULL when the set could not be found out. What
 * is taken out of them is left zeroed; the rest stays the port's. */
typedef void (*DiscoveryTold)(
                DiscoveryDepth depth,
                FoundQueue *found,
                size_t n,
                usec_t since_usec,
                const Moment *now,
                void *userdata);

typedef struct DiscoveryPort {
        /* Whom to tell; before anything else, once. */
        void (*listen)(void *discovery, DiscoveryTold told, void *userdata);

        /* Has the set told as it is at NOW or later. A look of the same depth that is under way is given up.
         * Negative errno: nothing will be told. */
        int (*look)(void *discovery, DiscoveryDepth depth, const Moment *now);
} DiscoveryPort;

void found_queue_done(FoundQueue *found);
