/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the journal says of leases: who was granted one, and how it ended, in their order. Renewals are not
 * told. */
#pragma once

#include <systemd/sd-event.h>

#include "base/text.h"
#include "core/scheduling/lease.h"

#define LEASE_ENTRIES_MAX 64

typedef struct LeaseJournal {
        sd_event *event;                 /* weak */
        Lease told;                      /* as the journal has it, or will */
        Text entries[LEASE_ENTRIES_MAX]; /* for which journald has had no room, the oldest first */
        size_t n_entries;
        sd_event_source *retry_source;
} LeaseJournal;

void lease_journal_done(LeaseJournal *journal);

/* Tells what has changed about LEASE since the last call. */
void lease_journal_update(LeaseJournal *journal, const Lease *lease);
