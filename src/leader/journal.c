/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The native protocol's socket is spoken to directly rather than through libsystemd: the entries
 * come ready-made, and linking it would double the start-up time of every task. */

#include "leader/journal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FLUSH_POLL_MSEC 1

static const union {
        struct sockaddr_un un;
        struct sockaddr generic;
} journal_address = { .un = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" } };

static int relay_open(JournalRelay *relay) {
        if (relay->fd >= 0)
                return 0;
        relay->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return relay->fd < 0 ? -errno : 0;
}

/* -EAGAIN when there is no room; anything else is final for this entry. */
static int relay_send_held(JournalRelay *relay) {
        int r = relay_open(relay);
        if (r < 0)
                return r;
        ssize_t n = sendto(
                        relay->fd,
                        relay->held,
                        relay->held_size,
                        MSG_NOSIGNAL,
                        &journal_address.generic,
                        sizeof(journal_address.un));
        return n < 0 ? -errno : 0;
}

int journal_relay(JournalRelay *relay, int feed_fd) {
        for (;;) {
                if (relay->held_size > 0) {
                        if (relay_send_held(relay) == -EAGAIN)
                                return -EAGAIN;
                        relay->held_size = 0;
                }
                ssize_t n = recv(feed_fd, relay->held, sizeof(relay->held), MSG_DONTWAIT);
                if (n < 0)
                        return errno == EAGAIN ? 0 : -EPIPE;
                if (n == 0)
                        return -EPIPE;
                relay->held_size = (size_t) n;
        }
}

static bool relay_is_flushed(const JournalRelay *relay) {
        int unread = 0;
        return relay->fd < 0 || ioctl(relay->fd, SIOCOUTQ, &unread) < 0 || unread == 0;
}

void journal_relay_flush(JournalRelay *relay, usec_t deadline_usec) {
        while (!relay_is_flushed(relay) && usec_now(CLOCK_BOOTTIME) < deadline_usec)
                (void) poll(NULL, 0, FLUSH_POLL_MSEC);
}
