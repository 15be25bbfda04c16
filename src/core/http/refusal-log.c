/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/refusal-log.h"

#include <assert.h>
#include <string.h>

static Refusal *find(RefusalLog *log, int kind, const char *client) {
        for (size_t i = 0; i < log->n_entries; i++) {
                Refusal *refusal = &log->entries[i].refusal;
                if (refusal->kind == kind &&
                    strncmp(refusal->client, client, sizeof(refusal->client) - 1) == 0)
                        return refusal;
        }
        return NULL;
}

static void note_other(RefusalLog *log, usec_t now_usec) {
        if (log->n_others++ == 0)
                log->others_until_usec = usec_add(now_usec, REFUSAL_LOG_INTERVAL_USEC);
}

bool refusal_log_note(RefusalLog *log, int kind, const char *client, usec_t now_usec) {
        assert(log);
        assert(client);
        Refusal *known = find(log, kind, client);
        if (known) {
                known->n_withheld++;
                return false;
        }
        if (log->n_entries >= REFUSAL_LOG_ENTRIES_MAX) {
                note_other(log, now_usec);
                return false;
        }
        Refusal *refusal = &log->entries[log->n_entries].refusal;
        *refusal = (Refusal) { .kind = kind };
        memcpy(refusal->client, client, strnlen(client, sizeof(refusal->client) - 1));
        log->entries[log->n_entries++].until_usec = usec_add(now_usec, REFUSAL_LOG_INTERVAL_USEC);
        return true;
}

/* An entry that has told something stays for another interval: who goes on gets a line for each. */
static bool entry_expire(RefusalLog *log, size_t i, usec_t now_usec, Refusal *ret) {
        Refusal *refusal = &log->entries[i].refusal;
        if (refusal->n_withheld > 0) {
                *ret = *refusal;
                refusal->n_withheld = 0;
                log->entries[i].until_usec = usec_add(now_usec, REFUSAL_LOG_INTERVAL_USEC);
                return true;
        }
        log->n_entries--;
        log->entries[i] = log->entries[log->n_entries];
        return false;
}

bool refusal_log_next(RefusalLog *log, usec_t now_usec, Refusal *ret) {
        assert(log);
        assert(ret);
        for (size_t i = 0; i < log->n_entries;) {
                size_t before = log->n_entries;
                if (log->entries[i].until_usec <= now_usec && entry_expire(log, i, now_usec, ret))
                        return true;
                if (log->n_entries == before)
                        i++;
        }
        if (log->n_others == 0 || log->others_until_usec > now_usec)
                return false;
        *ret = (Refusal) { .n_withheld = log->n_others };
        log->n_others = 0;
        return true;
}

usec_t refusal_log_deadline(const RefusalLog *log) {
        assert(log);
        usec_t deadline = log->n_others > 0 ? log->others_until_usec : USEC_INFINITY;
        for (size_t i = 0; i < log->n_entries; i++)
                if (log->entries[i].until_usec < deadline)
                        deadline = log->entries[i].until_usec;
        return deadline;
}
