/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who waits for whom. A task that has others to wait for is a Dependent, with an edge to each Awaited that
 * has not ended yet. When an awaited task has ended, its edges are taken one by one, so that one for which
 * 100,000 wait holds nobody up: the last one that has completed lets its dependent go on, one that has ended
 * otherwise fails it at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct Awaited Awaited;
typedef struct DependencyEdge DependencyEdge;

/* Embedded in what waits. Zero-initialised = waits for nobody. */
typedef struct Dependent {
        DependencyEdge *edges; /* owned, to those that have not ended, or whose end was not taken yet */
        size_t n_edges;
} Dependent;

typedef struct DependencyGraph {
        Awaited *first_settled, *last_settled; /* ended, and their edges are to be taken */
        size_t n_edges;
} DependencyGraph;

/* All dependents must have been dropped. */
void dependency_graph_done(DependencyGraph *graph);

/* DEPENDENT waits for what *AWAITED stands for: NULL when nobody waits for it yet. ID is what
 * dependency_take() names it by; copied. -ENOMEM. */
int dependency_add(DependencyGraph *graph, Dependent *dependent, Awaited **awaited, const char *id);

/* It waits for nobody any more. */
void dependency_drop(DependencyGraph *graph, Dependent *dependent);

/* What *AWAITED stands for has ended, and *AWAITED is NULL afterwards. Does nothing when nobody waits for it.
 */
void dependency_settle(DependencyGraph *graph, Awaited **awaited, bool completed);

/* Takes one edge to somebody who has ended. False: there is none. *RET is the dependent if this ends its
 * waiting, else NULL; *RET_FAILED_ID is NULL, or names who has not completed, valid until the next call: then
 * the dependent waits for nobody any more. */
bool dependency_take(DependencyGraph *graph, Dependent **ret, const char **ret_failed_id);

/* Whether there is something to be taken. */
bool dependency_is_due(const DependencyGraph *graph);

/* The id of one that DEPENDENT waits for, which waits for somebody. */
const char *dependency_first_id(const Dependent *dependent);
