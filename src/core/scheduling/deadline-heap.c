/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/deadline-heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void deadline_heap_done(DeadlineHeap *heap) {
        free(heap->deadlines);
        *heap = (DeadlineHeap) {};
}

int deadline_heap_reserve(DeadlineHeap *heap, size_t n) {
        if (n < heap->n_allocated)
                return 0;
        size_t n_allocated = heap->n_allocated == 0 ? 64 : heap->n_allocated;
        while (n_allocated <= n)
                n_allocated *= 2;
        Deadline **deadlines = reallocarray(heap->deadlines, n_allocated, sizeof(Deadline *));
        if (!deadlines)
                return -ENOMEM;
        heap->deadlines = deadlines;
        heap->n_allocated = n_allocated;
        return 0;
}

static void put(DeadlineHeap *heap, Deadline *deadline, size_t place) {
        heap->deadlines[place] = deadline;
        deadline->place = place;
}

static void move_up(DeadlineHeap *heap, Deadline *deadline) {
        size_t place = deadline->place;
        for (; place > 1 && heap->deadlines[place / 2]->when_usec > deadline->when_usec; place /= 2)
                put(heap, heap->deadlines[place / 2], place);
        put(heap, deadline, place);
}

static void move_down(DeadlineHeap *heap, Deadline *deadline) {
        size_t place = deadline->place;
        for (size_t child; (child = 2 * place) <= heap->n_deadlines; place = child) {
                if (child < heap->n_deadlines &&
                    heap->deadlines[child + 1]->when_usec < heap->deadlines[child]->when_usec)
                        child++;
                if (heap->deadlines[child]->when_usec >= deadline->when_usec)
                        break;
                put(heap, heap->deadlines[child], place);
        }
        put(heap, deadline, place);
}

void deadline_set(DeadlineHeap *heap, Deadline *deadline, usec_t when_usec) {
        deadline->when_usec = when_usec;
        if (deadline->place == 0) {
                assert(heap->n_deadlines + 1 < heap->n_allocated);
                put(heap, deadline, ++heap->n_deadlines);
        }
        move_up(heap, deadline);
        move_down(heap, deadline);
}

void deadline_clear(DeadlineHeap *heap, Deadline *deadline) {
        if (deadline->place == 0)
                return;
        Deadline *last = heap->deadlines[heap->n_deadlines--];
        if (last != deadline) {
                put(heap, last, deadline->place);
                move_up(heap, last);
                move_down(heap, last);
        }
        deadline->place = 0;
}

Deadline *deadline_first(const DeadlineHeap *heap) {
        return heap->n_deadlines == 0 ? NULL : heap->deadlines[1];
}
