/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The order in which waiting tasks start. Arrival order; a later task may pass an earlier one only
 * while that one does not fit, and never once it has waited ADMISSION_PATIENCE_USEC: from then on
 * capacity is left to drain for it. Nobody waits for a task that is larger than all there is, since that
 * became less: it would be for ever. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/usec.h"
#include "core/scheduling/capacity.h"
#include "core/task/resources.h"

#define ADMISSION_PATIENCE_USEC (30 * USEC_PER_SEC)

typedef struct AdmissionList AdmissionList;
typedef struct AdmissionEntry AdmissionEntry;

/* Embedded in whatever waits; the list links entries, it does not own them. Zero-initialised = in no list.
 */
struct AdmissionEntry {
        Resources want;
        usec_t since_usec; /* CLOCK_BOOTTIME of arrival */
        bool held;         /* cannot start for reasons of its own: nobody waits for it */
        AdmissionList *list;
        AdmissionEntry *previous, *next;
};

struct AdmissionList {
        AdmissionEntry *first;
        size_t n_entries;
};

void admission_list_append(
                AdmissionList *list,
                AdmissionEntry *entry,
                const Resources *want,
                usec_t now_usec);

/* Puts an entry that was taken out back to where its time of arrival belongs. */
void admission_list_return(AdmissionList *list, AdmissionEntry *entry);

/* Takes ENTRY out; does nothing when it is in no list. */
void admission_list_remove(AdmissionEntry *entry);

/* Whether WANT fits into what the entries of LIST, once they have all started, leave free of POOL. */
bool admission_list_leaves(const AdmissionList *list, const CapacityPool *pool, const Resources *want);

/* The entry that may start now with what is free of POOL, still in the list, or NULL. Call again after each
 * start. */
AdmissionEntry *admission_list_next(const AdmissionList *list, const CapacityPool *pool, usec_t now_usec);
