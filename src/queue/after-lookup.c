/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/after-lookup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/text.h"

typedef enum AfterFound {
        AFTER_UNKNOWN, /* live, or to be looked up */
        AFTER_MISSING,
        AFTER_FOUND, /* ended: see the state */
} AfterFound;

/* One of the list, as userdata of the store. */
typedef struct AfterItem {
        AfterLookup *lookup; /* weak */
        AfterFound found;
} AfterItem;

struct AfterLookup {
        const TaskSources *sources; /* weak */
        char *const *after;         /* weak */
        void (*done)(void *userdata);
        void *userdata;
        size_t n, n_open;
        int error;
        AfterState *states;
        AfterItem items[];
};

int after_lookup_new(
                const TaskSources *sources,
                char *const *after,
                void (*done)(void *userdata),
                void *userdata,
                AfterLookup **ret) {
        size_t n = text_list_count(after);
        AfterLookup *lookup = calloc(1, sizeof(*lookup) + n * sizeof(AfterItem));
        AfterState *states = calloc(n + 1, sizeof(AfterState));
        if (!lookup || !states) {
                free(lookup);
                free(states);
                return -ENOMEM;
        }
        lookup->sources = sources;
        lookup->after = after;
        lookup->done = done;
        lookup->userdata = userdata;
        lookup->n = n;
        lookup->states = states;
        for (size_t i = 0; i < n; i++)
                lookup->items[i].lookup = lookup;
        *ret = lookup;
        return 0;
}

AfterLookup *after_lookup_free(AfterLookup *lookup) {
        if (!lookup)
                return NULL;
        assert(lookup->n_open == 0);
        free(lookup->states);
        free(lookup);
        return NULL;
}

/* Of one that is being finished the store may know already. */
static bool is_live(const AfterLookup *lookup, size_t i) {
        const Task *task = delivery_find_task(lookup->sources->delivery, lookup->after[i]);
        return task && !task->is_stored;
}

/* One that is not finished there either is just being tried again, or was: it is looked at anew. */
static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        AfterItem *item = userdata;
        AfterLookup *lookup = item->lookup;
        if (r == -ENOENT)
                item->found = AFTER_MISSING;
        else if (r < 0)
                lookup->error = r;
        else if (entry->task.result) {
                item->found = AFTER_FOUND;
                lookup->states[item - lookup->items] = entry->task.state == STORED_COMPLETED ?
                                AFTER_COMPLETED :
                                AFTER_FAILED;
        }
        if (--lookup->n_open == 0)
                lookup->done(lookup->userdata);
}

int after_lookup_begin(AfterLookup *lookup) {
        const TaskSources *sources = lookup->sources;
        assert(lookup->n_open == 0);
        int r = lookup->error;
        for (size_t i = 0; r >= 0 && i < lookup->n; i++) {
                AfterItem *item = &lookup->items[i];
                if (is_live(lookup, i) || item->found != AFTER_UNKNOWN)
                        continue;
                r = sources->store_port->get(
                                sources->store, lookup->after[i], &(StoreWanted) {}, on_got, item);
                if (r >= 0)
                        lookup->n_open++;
                else
                        lookup->error = r;
        }
        return lookup->n_open > 0 ? 1 : r;
}

const AfterState *after_lookup_states(const AfterLookup *lookup, size_t *ret_missing) {
        for (size_t i = 0; i < lookup->n; i++) {
                *ret_missing = i;
                if (!is_live(lookup, i) && lookup->items[i].found == AFTER_MISSING)
                        return NULL;
        }
        return lookup->states;
}

static bool has_failed(const StoreEntry *entry, const char *id) {
        for (size_t i = 0; i < entry->n_dependencies; i++)
                if (streq(entry->dependencies[i].on_id, id))
                        return true;
        return false;
}

const AfterState *after_lookup_states_again(AfterLookup *lookup, const StoreEntry *entry) {
        for (size_t i = 0; i < lookup->n; i++)
                if (lookup->items[i].found == AFTER_MISSING)
                        lookup->states[i] = has_failed(entry, lookup->after[i]) ? AFTER_FAILED :
                                                                                  AFTER_COMPLETED;
        return lookup->states;
}
