/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is due when, the earliest first. */
#pragma once

#include <stddef.h>

#include "base/usec.h"

/* Embedded in whatever waits for its time. Zero-initialised = in no heap. */
typedef struct Deadline {
        usec_t when_usec;
        size_t place; /* 1…, 0: in no heap */
} Deadline;

typedef struct DeadlineHeap {
        Deadline **deadlines; /* [0] is unused */
        size_t n_deadlines, n_allocated;
} DeadlineHeap;

void deadline_heap_done(DeadlineHeap *heap);

/* Makes room for N deadlines in all, so that setting one cannot fail. -ENOMEM. */
int deadline_heap_reserve(DeadlineHeap *heap, size_t n);

/* Puts DEADLINE in, or moves it. */
void deadline_set(DeadlineHeap *heap, Deadline *deadline, usec_t when_usec);

/* Takes it out; does nothing when it is not in. */
void deadline_clear(DeadlineHeap *heap, Deadline *deadline);

/* The earliest, still in; NULL when there is none. */
Deadline *deadline_first(const DeadlineHeap *heap);
