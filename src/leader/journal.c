/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The native protocol's socket is spoken to directly rather than through libsystemd: the entries
 * come ready-made, and linking it would double the start-up time of every task. */

#include "leader/journal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FLUSH_POLL_MSEC 1

/* journald has read what a leader sent within some tenths of a millisecond, unless it is busy. */
#define FLUSH_WAIT_MIN_USEC 50
#define FLUSH_WAIT_MAX_USEC 2000

static const union {
        struct sockaddr_un un;
        struct sockaddr generic;
} journal_address = { .un = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" } };

/* -EAGAIN when there is no room; anything else is final for this entry. */
static int send_entry(JournalRelay *relay, const char *entry, size_t size) {
        if (relay->fd < 0)
                relay->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (relay->fd < 0)
                return -errno;
        ssize_t n = sendto(
                        relay->fd,
                        entry,
                        size,
                        MSG_NOSIGNAL,
                        &journal_address.generic,
                        sizeof(journal_address.un));
        return n < 0 ? -errno : 0;
}

/* The entry at the start of the buffer, or NULL when not all of it has come. */
static const char *next_entry(const JournalRelay *relay, size_t *ret_size) {
        uint32_t size;
        if (relay->end - relay->start < sizeof(size))
                return NULL;
        memcpy(&size, relay->buffer + relay->start, sizeof(size));
        if (relay->end - relay->start - sizeof(size) < size)
                return NULL;
        *ret_size = size;
        return relay->buffer + relay->start + sizeof(size);
}

static int pass_on(JournalRelay *relay) {
        const char *entry;
        size_t size;
        while ((entry = next_entry(relay, &size))) {
                int r = send_entry(relay, entry, size);
                if (r == -EAGAIN)
                        return r;
                relay->n_lost += r < 0;
                relay->start += sizeof(uint32_t) + size;
        }
        return 0;
}

int journal_relay(JournalRelay *relay, int feed_fd) {
        for (;;) {
                int r = pass_on(relay);
                if (r < 0)
                        return r;
                memmove(relay->buffer, relay->buffer + relay->start, relay->end - relay->start);
                relay->end -= relay->start;
                relay->start = 0;
                ssize_t n = recv(
                                feed_fd,
                                relay->buffer + relay->end,
                                sizeof(relay->buffer) - relay->end,
                                MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0)
                        return -EPIPE;
                relay->end += (size_t) n;
        }
}

static bool relay_is_flushed(const JournalRelay *relay) {
        int unread = 0;
        return relay->fd < 0 || ioctl(relay->fd, SIOCOUTQ, &unread) < 0 || unread == 0;
}

static void count_rest_as_lost(JournalRelay *relay, int feed_fd) {
        size_t size;
        while (next_entry(relay, &size)) {
                relay->n_lost++;
                relay->start += sizeof(uint32_t) + size;
                ssize_t n = 0;
                if (relay->start > LEADER_ENTRY_MAX) {
                        memmove(relay->buffer, relay->buffer + relay->start, relay->end - relay->start);
                        relay->end -= relay->start;
                        relay->start = 0;
                }
                if (relay->end < sizeof(relay->buffer))
                        n = recv(feed_fd,
                                 relay->buffer + relay->end,
                                 sizeof(relay->buffer) - relay->end,
                                 MSG_DONTWAIT);
                relay->end += n > 0 ? (size_t) n : 0;
        }
}

/* The feed's end, not its being empty, says that daggyr has nothing more. */
void journal_relay_finish(JournalRelay *relay, int feed_fd, usec_t deadline_usec) {
        int r;
        while ((r = journal_relay(relay, feed_fd)) != -EPIPE && usec_now(CLOCK_BOOTTIME) < deadline_usec) {
                struct pollfd awaited = { .fd = feed_fd, .events = POLLIN };
                if (r == -EAGAIN)
                        awaited = (struct pollfd) { .fd = relay->fd, .events = POLLOUT };
                (void) poll(&awaited, 1, FLUSH_POLL_MSEC);
        }
        (void) shutdown(feed_fd, SHUT_RD); /* what daggyr cannot send from now on, it counts itself */
        count_rest_as_lost(relay, feed_fd);
        for (long wait_usec = FLUSH_WAIT_MIN_USEC;
             !relay_is_flushed(relay) && usec_now(CLOCK_BOOTTIME) < deadline_usec;
             wait_usec = wait_usec < FLUSH_WAIT_MAX_USEC ? 2 * wait_usec : wait_usec)
                (void) nanosleep(&(struct timespec) { .tv_nsec = wait_usec * 1000 }, NULL);
}
