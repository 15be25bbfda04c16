/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include "core/scheduling/waiting-list.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/hash-table.h"

/* What uthash compares byte by byte: no padding may be left undefined. */
typedef struct LineKey {
        int64_t priority;
        uint64_t cores_micro, memory_mb;
        NamedAmount named[RESOURCES_NAMED_MAX];
} LineKey;

typedef struct LineNode {
        WaitingLine line;
        LineKey key;
        UT_hash_handle hh;
} LineNode;

static void line_key(const Resources *want, int64_t priority, LineKey *ret) {
        memset(ret, 0, sizeof(*ret));
        ret->priority = priority;
        ret->cores_micro = want->cores_micro;
        ret->memory_mb = want->memory_mb;
        for (size_t i = 0; i < want->n_named; i++) {
                memcpy(ret->named[i].name, want->named[i].name, strlen(want->named[i].name));
                ret->named[i].amount = want->named[i].amount;
        }
}

const WaitingLine *waiting_list_line(const WaitingList *list, size_t i) {
        assert(i < list->n_lines);
        return list->lines[list->first_line + i];
}

/* Where a line with this head stands, or would. */
static size_t find_place(const WaitingList *list, int64_t priority, uint64_t sequence) {
        size_t low = 0, high = list->n_lines;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const WaitingLine *line = waiting_list_line(list, middle);
                if (line->priority > priority ||
                    (line->priority == priority && line->first->sequence < sequence))
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static void take_place(WaitingList *list, WaitingLine *line) {
        size_t place = find_place(list, line->priority, line->first->sequence);
        WaitingLine **lines = list->lines + list->first_line;
        bool room_after = list->first_line + list->n_lines < list->n_allocated;
        if (list->first_line > 0 && (place < list->n_lines / 2 || !room_after)) {
                memmove(lines - 1, lines, place * sizeof(WaitingLine *));
                list->first_line--;
                lines--;
        } else
                memmove(lines + place + 1, lines + place, (list->n_lines - place) * sizeof(WaitingLine *));
        lines[place] = line;
        list->n_lines++;
}

static void leave_place(WaitingList *list, const WaitingLine *line) {
        size_t place = find_place(list, line->priority, line->first->sequence);
        WaitingLine **lines = list->lines + list->first_line;
        assert(lines[place] == line);
        list->n_lines--;
        if (place < list->n_lines / 2) {
                memmove(lines + 1, lines, place * sizeof(WaitingLine *));
                list->first_line++;
        } else
                memmove(lines + place, lines + place + 1, (list->n_lines - place) * sizeof(WaitingLine *));
}

static void line_free(WaitingList *list, WaitingLine *line) {
        LineNode *node = (LineNode *) line;
        HASH_DEL(list->by_shape, node);
        free(node);
}

void waiting_list_done(WaitingList *list) {
        for (size_t i = 0; i < list->n_lines; i++)
                line_free(list, list->lines[list->first_line + i]);
        free(list->lines);
        *list = (WaitingList) {};
}

/* Room at the back, after moving to the middle what has wandered there while much of the front was free. */
static int reserve_place(WaitingList *list) {
        if (list->first_line + list->n_lines < list->n_allocated)
                return 0;
        if (list->n_lines <= list->n_allocated / 2 && list->n_allocated > 0) {
                size_t first = list->n_allocated / 4;
                memmove(list->lines + first,
                        list->lines + list->first_line,
                        list->n_lines * sizeof(WaitingLine *));
                list->first_line = first;
                return 0;
        }
        size_t n = list->n_allocated == 0 ? 16 : 2 * list->n_allocated;
        WaitingLine **lines = reallocarray(list->lines, n, sizeof(WaitingLine *));
        if (!lines)
                return -ENOMEM;
        list->lines = lines;
        list->n_allocated = n;
        return 0;
}

/* An empty line has no place yet. */
static int line_get(WaitingList *list, const Resources *want, int64_t priority, WaitingLine **ret) {
        LineKey key;
        LineNode *node = NULL;
        line_key(want, priority, &key);
        HASH_FIND(hh, list->by_shape, &key, sizeof(key), node);
        if (!node) {
                int r = reserve_place(list);
                if (r < 0)
                        return r;
                node = calloc(1, sizeof(*node));
                if (!node)
                        return -ENOMEM;
                memcpy(&node->key, &key, sizeof(key)); /* padding included */
                node->line = (WaitingLine) { .want = *want, .priority = priority };
                HASH_ADD(hh, list->by_shape, key, sizeof(key), node);
                if (!node->hh.tbl) {
                        free(node);
                        return -ENOMEM;
                }
        }
        *ret = &node->line;
        return 0;
}

/* Most come last; one that comes back had left from somewhere near the front. */
static void line_insert(WaitingLine *line, WaitingEntry *entry) {
        WaitingEntry *behind = NULL, *last = line->first ? line->first->previous : NULL;
        if (last && last->sequence > entry->sequence)
                for (behind = line->first; behind->sequence < entry->sequence;)
                        behind = behind->next;
        DL_PREPEND_ELEM2(line->first, behind, entry, previous, next);
        line->n_entries++;
}

int waiting_list_add(
                WaitingList *list,
                WaitingEntry *entry,
                const Resources *want,
                int64_t priority,
                uint64_t sequence,
                usec_t now_usec) {
        assert(!entry->line);

        WaitingLine *line;
        int r = line_get(list, want, priority, &line);
        if (r < 0)
                return r;
        *entry = (WaitingEntry) { .sequence = sequence, .since_usec = now_usec, .line = line };
        bool new_head = !line->first || sequence < line->first->sequence;
        if (line->first && new_head)
                leave_place(list, line);
        line_insert(line, entry);
        if (new_head)
                take_place(list, line);
        list->n_entries++;
        return 0;
}

void waiting_list_remove(WaitingList *list, WaitingEntry *entry) {
        WaitingLine *line = entry->line;
        if (!line)
                return;
        bool was_head = line->first == entry;
        if (was_head)
                leave_place(list, line);
        DL_DELETE2(line->first, entry, previous, next);
        line->n_entries--;
        list->n_entries--;
        entry->line = NULL;
        entry->previous = entry->next = NULL;
        if (!line->first)
                line_free(list, line);
        else if (was_head)
                take_place(list, line);
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
