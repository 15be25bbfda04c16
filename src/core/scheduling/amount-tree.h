/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The amounts of many places, such that those with enough are found without looking at all of them: a tree
 * over the places in their order, whose every node holds the largest amount of each kind among those below
 * it. What a node does not have, no place below it has. To change a place takes O(log n), and no memory.
 *
 * Level 0 are the places; eight neighbours of a level have a node of the next. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AMOUNT_TREE_FANOUT     8
#define AMOUNT_TREE_LEVELS_MAX 12

/* One cache line. What each lane counts the user decides. */
#define AMOUNT_LANES 8
typedef struct Amounts {
        uint64_t lanes[AMOUNT_LANES];
} Amounts;

typedef struct AmountTree {
        Amounts *nodes; /* level after level */
        Amounts *levels[AMOUNT_TREE_LEVELS_MAX];
        size_t sizes[AMOUNT_TREE_LEVELS_MAX];
        size_t n_levels, n_allocated;
} AmountTree;

void amount_tree_done(AmountTree *tree);

/* Makes room for N places. What was in the tree is gone: all amounts are 0. -ENOMEM; the tree is then as it
 * was. */
int amount_tree_resize(AmountTree *tree, size_t n);

/* The amounts of PLACE. */
const Amounts *amount_tree_get(const AmountTree *tree, size_t place);
void amount_tree_set(AmountTree *tree, size_t place, const Amounts *amounts);

/* The level of the root, which is its only node. The tree must have places. */
size_t amount_tree_root_level(const AmountTree *tree);

/* The children of a node of a level above 0: nodes *ret_first up to, but not including, the one returned, of
 * the level below. */
size_t amount_tree_children(const AmountTree *tree, size_t level, size_t node, size_t *ret_first);
