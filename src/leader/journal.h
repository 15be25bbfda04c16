/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Passes finished journal entries from the feed on to journald. */
#pragma once

#include <stdint.h>

#include "base/usec.h"
#include "core/wire/leader-protocol.h"

typedef struct JournalRelay {
        int fd;            /* datagram socket to journald, opened with the first entry */
        uint64_t n_lost;   /* entries that could not be passed on */
        size_t start, end; /* what of BUFFER is still to go */
        char buffer[2 * LEADER_ENTRY_MAX];
} JournalRelay;

/* Passes on what the feed holds until it is empty (returns 0), at its end (returns -EPIPE), or while journald
 * has no room (returns -EAGAIN: poll relay->fd for POLLOUT and call again). Entries that find no journald are
 * dropped: a log must not hold up a task. */
int journal_relay(JournalRelay *relay, int feed_fd);

/* Goes on until the feed has ended and journald has taken everything off its socket, DEADLINE_USEC
 * (CLOCK_BOOTTIME) at most, and counts what is then left as lost. journald looks up the sender's cgroup only
 * when it reads, so a leader that exited earlier would lose its entries' unit. */
void journal_relay_finish(JournalRelay *relay, int feed_fd, usec_t deadline_usec);
