/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A set of worker ids: sorted by their bytes, each once, never changed once it is made, so that it can be
 * shared by counting references. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define WORKER_SET_MAX 100000 /* ids in a set that came from outside */

typedef struct WorkerSet {
        size_t n_refs;
        size_t n_ids;
        const char **ids;     /* ended by NULL */
        char *text;           /* what they point into: one piece of memory, in their order */
        uint64_t fingerprint; /* equal sets have the same; different ones hardly ever */
} WorkerSet;

/* A set of the first N strings of LIST, which are copied. -ENOMEM. */
int worker_set_new(const char *const *list, size_t n, WorkerSet **ret);

/* Both accept NULL. worker_set_unref() returns NULL. */
WorkerSet *worker_set_ref(WorkerSet *set);
WorkerSet *worker_set_unref(WorkerSet *set);
DEFINE_POINTER_CLEANUP(WorkerSet, worker_set_unref)

bool worker_set_has(const WorkerSet *set, const char *id);
bool worker_set_equal(const WorkerSet *a, const WorkerSet *b);

/* What is in both. -ENOMEM. */
int worker_set_intersect(const WorkerSet *a, const WorkerSet *b, WorkerSet **ret);
