/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include "core/scheduling/forget-list.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/hash-table.h"

struct ForgetEntry {
        Deadline deadline;
        void *where; /* weak */
        UT_hash_handle hh;
        char attempt_id[];
};

void forget_list_done(ForgetList *list) {
        ForgetEntry *entry = NULL, *next = NULL;
        HASH_ITER(hh, list->by_id, entry, next) {
                HASH_DELETE(hh, list->by_id, entry);
                free(entry);
        }
        free(TAKE_PTR(list->taken));
        deadline_heap_done(&list->heap);
}

int forget_list_add(ForgetList *list, const char *attempt_id, void *where, usec_t not_before_usec) {
        ForgetEntry *entry = NULL;
        size_t size = strlen(attempt_id);
        HASH_FIND(hh, list->by_id, attempt_id, size, entry);
        if (entry)
                return 0;
        int r = deadline_heap_reserve(&list->heap, list->heap.n_deadlines + 1);
        if (r < 0)
                return r;
        entry = calloc(1, sizeof(*entry) + size + 1);
        if (!entry)
                return -ENOMEM;
        memcpy(entry->attempt_id, attempt_id, size + 1);
        entry->where = where;
        HASH_ADD_KEYPTR(hh, list->by_id, entry->attempt_id, size, entry);
        if (!entry->hh.tbl) {
                free(entry);
                return -ENOMEM;
        }
        deadline_set(&list->heap, &entry->deadline, not_before_usec);
        return 1;
}

void forget_list_drop(ForgetList *list, const void *where) {
        ForgetEntry *entry = NULL, *next = NULL;
        HASH_ITER(hh, list->by_id, entry, next) {
                if (entry->where != where)
                        continue;
                HASH_DELETE(hh, list->by_id, entry);
                deadline_clear(&list->heap, &entry->deadline);
                free(entry);
        }
}

usec_t forget_list_due(const ForgetList *list) {
        const Deadline *first = deadline_first(&list->heap);
        return first ? first->when_usec : USEC_INFINITY;
}

bool forget_list_take(ForgetList *list, usec_t now_usec, const char **ret_attempt_id, void **ret_where) {
        Deadline *first = deadline_first(&list->heap);
        free(TAKE_PTR(list->taken));
        if (!first || first->when_usec > now_usec)
                return false;
        ForgetEntry *entry = container_of(first, ForgetEntry, deadline);
        deadline_clear(&list->heap, first);
        HASH_DELETE(hh, list->by_id, entry);
        list->taken = entry;
        *ret_attempt_id = entry->attempt_id;
        *ret_where = entry->where;
        return true;
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
