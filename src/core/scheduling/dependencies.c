/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/dependencies.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct DependencyEdge {
        Dependent *dependent;
        Awaited *awaited;
        DependencyEdge *previous_of_awaited, *next_of_awaited;
        DependencyEdge *previous_of_dependent, *next_of_dependent;
};

struct Awaited {
        DependencyEdge *edges;
        bool completed;
        Awaited *next_settled;
        char id[];
};

static void edge_free(DependencyGraph *graph, DependencyEdge *edge) {
        DL_DELETE2(edge->awaited->edges, edge, previous_of_awaited, next_of_awaited);
        DL_DELETE2(edge->dependent->edges, edge, previous_of_dependent, next_of_dependent);
        edge->dependent->n_edges--;
        graph->n_edges--;
        free(edge);
}

static void drop_first_settled(DependencyGraph *graph) {
        Awaited *awaited = graph->first_settled;
        graph->first_settled = awaited->next_settled;
        if (!graph->first_settled)
                graph->last_settled = NULL;
        free(awaited);
}

void dependency_graph_done(DependencyGraph *graph) {
        assert(graph->n_edges == 0);
        while (graph->first_settled)
                drop_first_settled(graph);
}

static Awaited *awaited_new(const char *id) {
        size_t size = strlen(id) + 1;
        Awaited *awaited = calloc(1, sizeof(*awaited) + size);
        if (awaited)
                memcpy(awaited->id, id, size);
        return awaited;
}

int dependency_add(DependencyGraph *graph, Dependent *dependent, Awaited **awaited, const char *id) {
        DependencyEdge *edge = malloc(sizeof(*edge));
        if (edge && !*awaited)
                *awaited = awaited_new(id);
        if (!edge || !*awaited) {
                free(edge);
                return -ENOMEM;
        }
        *edge = (DependencyEdge) { .dependent = dependent, .awaited = *awaited };
        DL_APPEND2((*awaited)->edges, edge, previous_of_awaited, next_of_awaited);
        DL_APPEND2(dependent->edges, edge, previous_of_dependent, next_of_dependent);
        dependent->n_edges++;
        graph->n_edges++;
        return 0;
}

void dependency_drop(DependencyGraph *graph, Dependent *dependent) {
        while (dependent->edges)
                edge_free(graph, dependent->edges);
}

void dependency_settle(DependencyGraph *graph, Awaited **awaited, bool completed) {
        Awaited *settled = *awaited;
        *awaited = NULL;
        if (!settled)
                return;
        if (!settled->edges) {
                free(settled);
                return;
        }
        settled->completed = completed;
        *(graph->last_settled ? &graph->last_settled->next_settled : &graph->first_settled) = settled;
        graph->last_settled = settled;
}

bool dependency_take(DependencyGraph *graph, Dependent **ret, const char **ret_failed_id) {
        while (graph->first_settled && !graph->first_settled->edges)
                drop_first_settled(graph);
        const Awaited *settled = graph->first_settled;
        if (!settled)
                return false;
        Dependent *dependent = settled->edges->dependent;
        edge_free(graph, settled->edges);
        *ret_failed_id = settled->completed ? NULL : settled->id;
        if (!settled->completed)
                dependency_drop(graph, dependent);
        *ret = dependent->edges ? NULL : dependent;
        return true;
}

bool dependency_is_due(const DependencyGraph *graph) {
        return graph->first_settled;
}

const char *dependency_first_id(const Dependent *dependent) {
        return dependent->edges->awaited->id;
}
