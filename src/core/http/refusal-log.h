/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which refusals are worth a line in the log. The first of each kind from each client is written at once;
 * those that follow within the interval are counted, and told in one line when it is over. However many
 * clients there are, the lines have a bound: beyond it, refusals of whatever kind are counted together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"

#define REFUSAL_LOG_INTERVAL_USEC (60 * USEC_PER_SEC)
#define REFUSAL_LOG_ENTRIES_MAX   32
#define REFUSAL_LOG_CLIENT_SIZE   64

/* What a line is about. */
typedef struct Refusal {
        int kind;                             /* the caller's: an HTTP status, say; 0 stands for all kinds */
        char client[REFUSAL_LOG_CLIENT_SIZE]; /* cut where it is longer; "" stands for many */
        uint64_t n_withheld;                  /* refusals since the last line that had none */
} Refusal;

/* All zeros to begin with; nothing is allocated. */
typedef struct RefusalLog {
        struct {
                Refusal refusal;
                usec_t until_usec; /* when the interval is over */
        } entries[REFUSAL_LOG_ENTRIES_MAX];
        size_t n_entries;
        uint64_t n_others; /* refusals for which there was no entry */
        usec_t others_until_usec;
} RefusalLog;

/* Counts a refusal. True when it is to be logged now. */
bool refusal_log_note(RefusalLog *log, int kind, const char *client, usec_t now_usec);

/* Takes out the next entry whose interval is over. True with *RET filled when there is something to tell;
 * call it until it returns false. */
bool refusal_log_next(RefusalLog *log, usec_t now_usec, Refusal *ret);

/* When refusal_log_next() is to be called again; USEC_INFINITY when there is no need. */
usec_t refusal_log_deadline(const RefusalLog *log);
