/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/worker-set.h"

#include "base/text.h"

static int compare_ids(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Sorts the ids and drops those that are there more than once; returns the size of their texts. */
static size_t tidy(WorkerSet *set) {
        size_t n = set->n_ids, size = 0;
        qsort(set->ids, n, sizeof(char *), compare_ids);
        set->n_ids = 0;
        for (size_t i = 0; i < n; i++) {
                if (set->n_ids > 0 && streq(set->ids[set->n_ids - 1], set->ids[i]))
                        continue;
                set->ids[set->n_ids++] = set->ids[i];
                size += strlen(set->ids[i]) + 1;
        }
        set->ids[set->n_ids] = NULL;
        return size;
}

int worker_set_new(const char *const *list, size_t n, WorkerSet **ret) {
        _cleanup_(worker_set_unrefp) WorkerSet *set = calloc(1, sizeof(WorkerSet));
        if (!set)
                return -ENOMEM;
        set->n_refs = 1;
        set->ids = calloc(n + 1, sizeof(char *));
        if (!set->ids)
                return -ENOMEM;
        if (n > 0)
                memcpy(set->ids, list, n * sizeof(char *));
        set->n_ids = n;

        char *text = set->text = malloc(tidy(set) + 1);
        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < set->n_ids; i++) {
                size_t size = strlen(set->ids[i]) + 1;
                set->fingerprint = (set->fingerprint ^ text_hash(set->ids[i])) * UINT64_C(0x9e3779b97f4a7c15);
                set->ids[i] = memcpy(text, set->ids[i], size);
                text += size;
        }
        *ret = TAKE_PTR(set);
        return 0;
}

WorkerSet *worker_set_ref(WorkerSet *set) {
        if (set)
                set->n_refs++;
        return set;
}

WorkerSet *worker_set_unref(WorkerSet *set) {
        if (!set || --set->n_refs > 0)
                return NULL;
        free(set->ids);
        free(set->text);
        free(set);
        return NULL;
}

bool worker_set_has(const WorkerSet *set, const char *id) {
        return set->n_ids > 0 && bsearch(&id, set->ids, set->n_ids, sizeof(char *), compare_ids);
}

bool worker_set_equal(const WorkerSet *a, const WorkerSet *b) {
        if (a == b)
                return true;
        if (a->n_ids != b->n_ids || a->fingerprint != b->fingerprint)
                return false;
        for (size_t i = 0; i < a->n_ids; i++)
                if (!streq(a->ids[i], b->ids[i]))
                        return false;
        return true;
}

int worker_set_intersect(const WorkerSet *a, const WorkerSet *b, WorkerSet **ret) {
        size_t n = 0;
        _cleanup_(freep) const char **both = calloc(a->n_ids + 1, sizeof(char *));
        if (!both)
                return -ENOMEM;
        for (size_t i = 0; i < a->n_ids; i++)
                if (worker_set_has(b, a->ids[i]))
                        both[n++] = a->ids[i];
        return worker_set_new(both, n, ret);
}
