/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "raw-peer.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "../unit/test.h"
#include "base/cleanup.h"
#include "io/http-server.h"
#include "io/loop.h"

void raw_close(RawConnection *connection) {
        event_source_dropp(&connection->source);
        fd_close(&connection->fd);
}

void raw_send(RawConnection *connection, const char *text) {
        ssize_t n = send(connection->fd, text, strlen(text), MSG_NOSIGNAL);
        assert_int_equal(n, strlen(text));
}

static int on_connection_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        RawConnection *connection = userdata;
        char bytes[65536];
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n <= 0) {
                raw_close(connection);
                return 0;
        }
        assert_int_equal(text_append_bytes(&connection->request, bytes, (size_t) n), 0);
        if (!strstr(connection->request.data, "\r\n\r\n"))
                return 0;
        connection->n_requests++;
        connection->peer->handler(connection, connection->peer->userdata);
        connection->request.size = 0;
        return 0;
}

static int on_listener_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        RawPeer *peer = userdata;
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (accepted < 0)
                return 0;
        RawConnection *connection = calloc(1, sizeof(*connection));
        assert_non_null(connection);
        *connection = (RawConnection) { .peer = peer, .fd = accepted, .next = peer->connections };
        peer->connections = connection;
        peer->n_connections++;
        return sd_event_add_io(
                        peer->event, &connection->source, accepted, EPOLLIN, on_connection_io, connection);
}

void raw_peer_start(RawPeer *peer, sd_event *event, RawHandler handler, void *userdata) {
        *peer = (RawPeer) { .event = event, .handler = handler, .userdata = userdata };
        peer->fd = http_listen_tcp("127.0.0.1", 0, &peer->port);
        assert_true(peer->fd >= 0);
        int r = sd_event_add_io(event, &peer->source, peer->fd, EPOLLIN, on_listener_io, peer);
        assert_true(r >= 0);
}

void raw_peer_stop_listening(RawPeer *peer) {
        event_source_dropp(&peer->source);
        fd_close(&peer->fd);
}

void raw_peer_stop(RawPeer *peer) {
        if (!peer->event)
                return;
        raw_peer_stop_listening(peer);
        RawConnection *connection;
        while ((connection = peer->connections)) {
                peer->connections = connection->next;
                raw_close(connection);
                text_done(&connection->request);
                free(connection);
        }
        peer->event = NULL;
}
