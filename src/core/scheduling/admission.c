/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/admission.h"

#include <assert.h>
#include <utlist.h>

void admission_list_append(
                AdmissionList *list,
                AdmissionEntry *entry,
                const Resources *want,
                usec_t now_usec) {
        assert(!entry->list);

        *entry = (AdmissionEntry) {
                .want = *want,
                .since_usec = now_usec,
                .list = list,
        };
        DL_APPEND2(list->first, entry, previous, next);
        list->n_entries++;
}

/* NOLINTNEXTLINE(readability-function-size): how deep utlist's macro nests */
void admission_list_return(AdmissionList *list, AdmissionEntry *entry) {
        assert(!entry->list);

        AdmissionEntry *behind = list->first;
        while (behind && behind->since_usec <= entry->since_usec)
                behind = behind->next;
        entry->list = list;
        DL_PREPEND_ELEM2(list->first, behind, entry, previous, next);
        list->n_entries++;
}

void admission_list_remove(AdmissionEntry *entry) {
        AdmissionList *list = entry->list;

        if (!list)
                return;

        DL_DELETE2(list->first, entry, previous, next);
        assert(list->n_entries > 0);
        list->n_entries--;
        entry->list = NULL;
        entry->previous = entry->next = NULL;
}

static bool can_ever_start(const AdmissionEntry *entry, const CapacityPool *pool) {
        return resources_fit(&entry->want, &pool->total);
}

AdmissionEntry *admission_list_next(const AdmissionList *list, const CapacityPool *pool, usec_t now_usec) {
        Resources free_amounts;

        capacity_pool_free_amounts(pool, &free_amounts);
        for (AdmissionEntry *entry = list->first; entry; entry = entry->next) {
                if (entry->held || !can_ever_start(entry, pool))
                        continue;
                if (resources_fit(&entry->want, &free_amounts))
                        return entry;
                if (usec_subtract(now_usec, entry->since_usec) >= ADMISSION_PATIENCE_USEC)
                        return NULL;
        }
        return NULL;
}

bool admission_list_leaves(const AdmissionList *list, const CapacityPool *pool, const Resources *want) {
        Resources left;

        capacity_pool_free_amounts(pool, &left);
        for (const AdmissionEntry *entry = list->first; entry; entry = entry->next) {
                if (!can_ever_start(entry, pool))
                        continue;
                if (!resources_fit(&entry->want, &left))
                        return false;
                resources_subtract(&left, &entry->want, &left);
        }

        return resources_fit(want, &left);
}
