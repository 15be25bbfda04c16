/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/lease-journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/task/journal-entry.h"
#include "io/journal.h"
#include "io/loop.h"

/* What can become of a lease. The ids are explained in units/daggyr.catalog. */
typedef struct LeaseNews {
        const char *message_id, *text;
} LeaseNews;

static const LeaseNews granted = { "3561b56d548040968229eef2f0e63763", "was granted" },
                       released = { "04e227f7c52247778572f5729ca3c89d", "was released" },
                       expired = { "4833bdcdc4264daea57c2c6f4d7f13e3", "expired" };

/* journald's socket takes few entries at once where nobody has raised net.unix.max_dgram_qlen: 10 (Linux),
 * 512 once systemd has. */
#define RETRY_USEC (50 * USEC_PER_MSEC)

static int entry_compose(Text *entry, const Lease *lease, const LeaseNews *news, usec_t usec) {
        char epoch[24], when[USEC_RFC3339_SIZE], message[LEASE_QUEUE_MAX + 80];
        usec_t ago_usec = usec_subtract(usec_now(CLOCK_BOOTTIME), usec);
        usec_format_rfc3339(usec_subtract(usec_now(CLOCK_REALTIME), ago_usec), when);
        (void) snprintf(epoch, sizeof(epoch), "%" PRIu64, lease->epoch);
        (void) snprintf(message, sizeof(message), "Lease %s of queue %s %s", epoch, lease->queue, news->text);
        int r = journal_entry_add_string(entry, "PRIORITY", "6");
        if (r >= 0)
                r = journal_entry_add_string(entry, "SYSLOG_IDENTIFIER", "daggyr");
        if (r >= 0)
                r = journal_entry_add_string(entry, "MESSAGE_ID", news->message_id);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_LEASE_QUEUE", lease->queue);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_LEASE_EPOCH", epoch);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_LEASE_TIME", when);
        return r < 0 ? r : journal_entry_add_string(entry, "MESSAGE", message);
}

static void drop_oldest(LeaseJournal *journal) {
        text_done(&journal->entries[0]);
        journal->n_entries--;
        memmove(journal->entries, journal->entries + 1, journal->n_entries * sizeof(Text));
}

/* An entry that nobody can have is no reason to refuse a lease. */
static void journal_news(LeaseJournal *journal, const Lease *lease, const LeaseNews *news, usec_t usec) {
        Text entry = {};
        if (entry_compose(&entry, lease, news, usec) < 0) {
                text_done(&entry);
                return;
        }
        if (journal->n_entries == LEASE_ENTRIES_MAX)
                drop_oldest(journal);
        journal->entries[journal->n_entries++] = entry;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static void send_entries(LeaseJournal *journal) {
        while (journal->n_entries > 0 && journal_send(&journal->entries[0]) != -EAGAIN)
                drop_oldest(journal);
        (void) loop_set_timer(
                        journal->event,
                        &journal->retry_source,
                        journal->n_entries > 0 ? usec_add(usec_now(CLOCK_BOOTTIME), RETRY_USEC) :
                                                 USEC_INFINITY,
                        on_retry,
                        journal,
                        "lease-journal");
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        send_entries(userdata);
        return 0;
}

void lease_journal_done(LeaseJournal *journal) {
        while (journal->n_entries > 0)
                drop_oldest(journal);
        event_source_dropp(&journal->retry_source);
}

void lease_journal_update(LeaseJournal *journal, const Lease *lease) {
        Lease *told = &journal->told;
        usec_t now = usec_now(CLOCK_BOOTTIME);
        bool live = lease_is_live(lease, now);
        if (*told->id && (!live || told->epoch != lease->epoch)) {
                if (*lease->id) /* the timer may come later than the next who asks */
                        journal_news(journal, told, &expired, told->expires_usec);
                else
                        journal_news(journal, told, &released, now);
                *told->id = '\0';
        }
        if (live && !*told->id)
                journal_news(journal, lease, &granted, now);
        if (live)
                *told = *lease;
        send_entries(journal);
}
