/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/lease-journal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/journal-entry.h"
#include "io/journal.h"
#include "runner/runner.h"

/* Explained in units/daggyr.catalog. */
#define MESSAGE_ID_LEASE_GRANTED  "3561b56d548040968229eef2f0e63763"
#define MESSAGE_ID_LEASE_RELEASED "04e227f7c52247778572f5729ca3c89d"
#define MESSAGE_ID_LEASE_EXPIRED  "4833bdcdc4264daea57c2c6f4d7f13e3"

/* A lost entry is no reason to refuse a lease. */
static void message_send(const Lease *lease, const char *message_id, const char *what) {
        _cleanup_(text_done) Text entry = {};
        char epoch[24], message[LEASE_QUEUE_MAX + 80];
        (void) snprintf(epoch, sizeof(epoch), "%" PRIu64, lease->epoch);
        (void) snprintf(message, sizeof(message), "Lease %s of queue %s %s", epoch, lease->queue, what);
        int r = journal_entry_add_string(&entry, "PRIORITY", "6");
        if (r >= 0)
                r = journal_entry_add_string(&entry, "SYSLOG_IDENTIFIER", "daggyr");
        if (r >= 0)
                r = journal_entry_add_string(&entry, "MESSAGE_ID", message_id);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "DAGGYR_LEASE_QUEUE", lease->queue);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "DAGGYR_LEASE_EPOCH", epoch);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "MESSAGE", message);
        if (r >= 0)
                (void) journal_send(&entry);
}

void lease_journal_update(Runner *runner) {
        const Lease *lease = &runner->lease;
        Lease *told = &runner->told_lease;
        bool live = lease_is_live(lease, usec_now(CLOCK_BOOTTIME));
        if (*told->id && (!live || told->epoch != lease->epoch)) {
                if (*lease->id) /* the timer may come later than the next who asks */
                        message_send(told, MESSAGE_ID_LEASE_EXPIRED, "expired");
                else
                        message_send(told, MESSAGE_ID_LEASE_RELEASED, "was released");
                *told->id = '\0';
        }
        if (live && !*told->id) {
                *told = *lease;
                message_send(told, MESSAGE_ID_LEASE_GRANTED, "was granted");
        }
}
