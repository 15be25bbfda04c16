/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A peer on a TCP port of 127.0.0.1 that does with each connection exactly what a test says, however wrong.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/text.h"

typedef struct RawPeer RawPeer;

typedef struct RawConnection {
        RawPeer *peer;
        int fd;
        sd_event_source *source;
        Text request;        /* since the last answer */
        unsigned n_requests; /* whose header is complete, this one included */
        struct RawConnection *next;
} RawConnection;

/* The header of a request is there. */
typedef void (*RawHandler)(RawConnection *connection, void *userdata);

struct RawPeer {
        sd_event *event;
        int fd;
        uint16_t port;
        sd_event_source *source;
        RawConnection *connections;
        unsigned n_connections; /* so far */
        RawHandler handler;
        void *userdata;
};

void raw_peer_start(RawPeer *peer, sd_event *event, RawHandler handler, void *userdata);
void raw_peer_stop(RawPeer *peer);

/* Nobody listens any more; connections stay. */
void raw_peer_stop_listening(RawPeer *peer);

void raw_send(RawConnection *connection, const char *text);
void raw_close(RawConnection *connection);
