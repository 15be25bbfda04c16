/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/admission.h"

#include <assert.h>
#include <utlist.h>

void admission_queue_append(
                AdmissionQueue *queue,
                AdmissionEntry *entry,
                const Resources *want,
                usec_t now_usec) {
        assert(!entry->queue);

        *entry = (AdmissionEntry){
                .want = *want,
                .since_usec = now_usec,
                .queue = queue,
        };
        DL_APPEND2(queue->first, entry, previous, next);
        queue->n_entries++;
}

/* NOLINTNEXTLINE(readability-function-size): how deep utlist's macro nests */
void admission_queue_return(AdmissionQueue *queue, AdmissionEntry *entry) {
        assert(!entry->queue);

        AdmissionEntry *behind = queue->first;
        while (behind && behind->since_usec <= entry->since_usec)
                behind = behind->next;
        entry->queue = queue;
        DL_PREPEND_ELEM2(queue->first, behind, entry, previous, next);
        queue->n_entries++;
}

void admission_queue_remove(AdmissionEntry *entry) {
        AdmissionQueue *queue = entry->queue;

        if (!queue)
                return;

        DL_DELETE2(queue->first, entry, previous, next);
        assert(queue->n_entries > 0);
        queue->n_entries--;
        entry->queue = NULL;
        entry->previous = entry->next = NULL;
}

AdmissionEntry *admission_queue_next(
                const AdmissionQueue *queue,
                const Resources *free_amounts,
                usec_t now_usec) {
        for (AdmissionEntry *entry = queue->first; entry; entry = entry->next) {
                if (entry->held)
                        continue;
                if (resources_fit(&entry->want, free_amounts))
                        return entry;
                if (usec_subtract(now_usec, entry->since_usec) >= ADMISSION_PATIENCE_USEC)
                        return NULL;
        }
        return NULL;
}

bool admission_queue_leaves(
                const AdmissionQueue *queue,
                const Resources *free_amounts,
                const Resources *want) {
        Resources left = *free_amounts;

        for (const AdmissionEntry *entry = queue->first; entry; entry = entry->next) {
                if (!resources_fit(&entry->want, &left))
                        return false;
                resources_subtract(&left, &entry->want, &left);
        }

        return resources_fit(want, &left);
}
