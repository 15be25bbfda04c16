/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/admission.h"

#include <assert.h>

void admission_list_append(
                AdmissionList *list,
                AdmissionEntry *entry,
                const Resources *want,
                usec_t now_usec) {
        assert(!entry->list);

        *entry = (AdmissionEntry){
                .want = *want,
                .since_usec = now_usec,
                .list = list,
                .previous = list->last,
        };
        if (list->last)
                list->last->next = entry;
        else
                list->first = entry;
        list->last = entry;
        list->n_entries++;
}

void admission_list_return(AdmissionList *list, AdmissionEntry *entry) {
        assert(!entry->list);

        AdmissionEntry *before = NULL, *behind = list->first;
        while (behind && behind->since_usec <= entry->since_usec) {
                before = behind;
                behind = behind->next;
        }

        entry->list = list;
        entry->previous = before;
        entry->next = behind;
        *(before ? &before->next : &list->first) = entry;
        *(behind ? &behind->previous : &list->last) = entry;
        list->n_entries++;
}

void admission_list_remove(AdmissionEntry *entry) {
        AdmissionList *list = entry->list;

        if (!list)
                return;

        if (entry->previous)
                entry->previous->next = entry->next;
        else
                list->first = entry->next;
        if (entry->next)
                entry->next->previous = entry->previous;
        else
                list->last = entry->previous;

        assert(list->n_entries > 0);
        list->n_entries--;
        entry->list = NULL;
        entry->previous = entry->next = NULL;
}

AdmissionEntry *admission_list_next(
                const AdmissionList *list,
                const Resources *free_amounts,
                usec_t now_usec) {
        for (AdmissionEntry *entry = list->first; entry; entry = entry->next) {
                if (entry->held)
                        continue;
                if (resources_fit(&entry->want, free_amounts))
                        return entry;
                if (usec_subtract(now_usec, entry->since_usec) >= ADMISSION_PATIENCE_USEC)
                        return NULL;
        }
        return NULL;
}

bool admission_list_leaves(const AdmissionList *list, const Resources *free_amounts, const Resources *want) {
        Resources left = *free_amounts;

        for (const AdmissionEntry *entry = list->first; entry; entry = entry->next) {
                if (!resources_fit(&entry->want, &left))
                        return false;
                resources_subtract(&left, &entry->want, &left);
        }

        return resources_fit(want, &left);
}
