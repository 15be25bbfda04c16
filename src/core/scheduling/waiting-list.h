/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue's waiting tasks: higher priority first, then order of arrival. Tasks that ask for the same
 * amounts at the same priority wait in one line, and only the heads of lines are ever compared with what is
 * free: 100,000 tasks of a few shapes cost no more than a few. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/task/resources.h"

typedef struct WaitingList WaitingList;
typedef struct WaitingLine WaitingLine;
typedef struct WaitingEntry WaitingEntry;

/* Embedded in whatever waits; the list links entries, it does not own them. Zero-initialised = not waiting.
 */
struct WaitingEntry {
        uint64_t sequence; /* of arrival, unique; the entry's place among others is by this, also when it
                              comes back */
        usec_t since_usec; /* CLOCK_BOOTTIME since when it waits */
        WaitingLine *line;
        WaitingEntry *previous, *next;
};

/* Those that ask for WANT at PRIORITY. Lives while somebody stands in it. */
struct WaitingLine {
        Resources want;
        int64_t priority;
        WaitingEntry *first;
        size_t n_entries;
};

struct WaitingList {
        WaitingLine **lines; /* lines[first_line] on, in the order of their heads; room on both sides, as most
                                come at the back and go at the front */
        size_t first_line, n_lines, n_allocated;
        struct LineNode *by_shape;
        size_t n_entries;
};

/* The I-th line, I < n_lines, in the order in which they are to be served. */
const WaitingLine *waiting_list_line(const WaitingList *list, size_t i);

/* Entries still in it are forgotten. */
void waiting_list_done(WaitingList *list);

/* -ENOMEM: ENTRY does not wait. */
int waiting_list_add(
                WaitingList *list,
                WaitingEntry *entry,
                const Resources *want,
                int64_t priority,
                uint64_t sequence,
                usec_t now_usec);

/* Takes ENTRY out; does nothing when it does not wait. */
void waiting_list_remove(WaitingList *list, WaitingEntry *entry);
