/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How the tasks are, or how they ended, that another one is to wait for. Those that are not live the store is
 * asked about. Meanwhile others may end, and go there: so it is looked again until all are known at one
 * moment, at which is decided. */
#pragma once

#include "delivery/delivery.h"
#include "queue/task-sources.h"

typedef struct AfterLookup AfterLookup;

/* AFTER, NULL-terminated, is weak. DONE is called when nothing is looked up any more. -ENOMEM. */
int after_lookup_new(
                const TaskSources *sources,
                char *const *after,
                void (*done)(void *userdata),
                void *userdata,
                AfterLookup **ret);

/* Not while something is looked up. NULL is fine; returns NULL. */
AfterLookup *after_lookup_free(AfterLookup *lookup);
DEFINE_POINTER_CLEANUP(AfterLookup, after_lookup_free)

/* Begins to look up what is neither live nor known. 0: all are known, and DONE is not called; 1: it will be;
 * or a negative errno. */
int after_lookup_begin(AfterLookup *lookup);

/* When all are known: what delivery_put_task() is to be told of each, valid until LOOKUP is freed. NULL where
 * one is not there, with *RET_MISSING its place in the list. */
const AfterState *after_lookup_states(const AfterLookup *lookup, size_t *ret_missing);

/* For one that is tried again: those that are not there are known to have failed if they are in ENTRY's
 * dependencies, and else have completed. */
const AfterState *after_lookup_states_again(AfterLookup *lookup, const StoreEntry *entry);
