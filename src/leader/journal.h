/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Passes finished journal entries from the feed on to journald. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/usec.h"
#include "core/leader-protocol.h"

typedef struct JournalRelay {
        int fd;           /* datagram socket, opened with the first entry */
        size_t held_size; /* an entry that journald had no room for yet */
        char held[LEADER_MESSAGE_MAX];
} JournalRelay;

/* Passes on what the feed holds until it is empty (returns 0), at its end (returns -EPIPE), or
 * journald has no room (returns -EAGAIN: poll relay->fd for POLLOUT and call again). Entries that journald
 * refuses, or that find no journald, are dropped: a log must not hold up a task. */
int journal_relay(JournalRelay *relay, int feed_fd);

/* Waits until journald has taken everything off its socket, or DEADLINE (CLOCK_BOOTTIME). It looks up
 * the sender's cgroup only then, so a leader that exited earlier would lose its entries' unit. */
void journal_relay_flush(JournalRelay *relay, usec_t deadline_usec);
