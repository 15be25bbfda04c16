/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/amount-tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void amount_tree_done(AmountTree *tree) {
        free(tree->nodes);
        *tree = (AmountTree) {};
}

static size_t level_above(size_t n) {
        return (n + AMOUNT_TREE_FANOUT - 1) / AMOUNT_TREE_FANOUT;
}

static size_t count_nodes(size_t n_places) {
        size_t n_nodes = n_places;
        for (size_t n = n_places; n > 1; n_nodes += n)
                n = level_above(n);
        return n_nodes;
}

int amount_tree_resize(AmountTree *tree, size_t n) {
        size_t n_nodes = count_nodes(n);
        if (n_nodes > tree->n_allocated) {
                Amounts *nodes = reallocarray(tree->nodes, n_nodes, sizeof(Amounts));
                if (!nodes)
                        return -ENOMEM;
                tree->nodes = nodes;
                tree->n_allocated = n_nodes;
        }
        if (n_nodes > 0)
                memset(tree->nodes, 0, n_nodes * sizeof(Amounts));
        tree->n_levels = 0;
        Amounts *level = tree->nodes;
        for (size_t size = n; size > 0; size = size > 1 ? level_above(size) : 0) {
                assert(tree->n_levels < AMOUNT_TREE_LEVELS_MAX);
                tree->levels[tree->n_levels] = level;
                tree->sizes[tree->n_levels++] = size;
                level += size;
        }
        return 0;
}

const Amounts *amount_tree_get(const AmountTree *tree, size_t place) {
        assert(tree->n_levels > 0 && place < tree->sizes[0]);
        return &tree->levels[0][place];
}

size_t amount_tree_root_level(const AmountTree *tree) {
        assert(tree->n_levels > 0);
        return tree->n_levels - 1;
}

size_t amount_tree_children(const AmountTree *tree, size_t level, size_t node, size_t *ret_first) {
        assert(level > 0 && level < tree->n_levels && node < tree->sizes[level]);
        size_t first = node * AMOUNT_TREE_FANOUT, size = tree->sizes[level - 1];
        *ret_first = first;
        return size - first < AMOUNT_TREE_FANOUT ? size : first + AMOUNT_TREE_FANOUT;
}

static Amounts largest_of_children(const AmountTree *tree, size_t level, size_t node) {
        Amounts largest = {};
        size_t first, end = amount_tree_children(tree, level, node, &first);
        for (size_t child = first; child < end; child++)
                for (size_t i = 0; i < AMOUNT_LANES; i++) {
                        uint64_t amount = tree->levels[level - 1][child].lanes[i];
                        if (amount > largest.lanes[i])
                                largest.lanes[i] = amount;
                }
        return largest;
}

/* A node that stays as it was has nothing to tell those above. */
void amount_tree_set(AmountTree *tree, size_t place, const Amounts *amounts) {
        assert(tree->n_levels > 0 && place < tree->sizes[0]);
        Amounts value = *amounts;
        size_t node = place;
        for (size_t level = 0; memcmp(&tree->levels[level][node], &value, sizeof(value)) != 0;) {
                tree->levels[level][node] = value;
                if (++level == tree->n_levels)
                        break;
                node /= AMOUNT_TREE_FANOUT;
                value = largest_of_children(tree, level, node);
        }
}
