/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Attempts at workers that nobody wants any more, each with the time from which its worker may forget it. An
 * id is in the list once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/usec.h"
#include "core/scheduling/deadline-heap.h"

typedef struct ForgetEntry ForgetEntry;

typedef struct ForgetList {
        ForgetEntry *by_id;
        DeadlineHeap heap;
        ForgetEntry *taken; /* the one that was given out last */
} ForgetList;

void forget_list_done(ForgetList *list);

/* WHERE is the caller's, and weak. 1 when it is new, 0 when it was in already and stays as it is; -ENOMEM. */
int forget_list_add(ForgetList *list, const char *attempt_id, void *where, usec_t not_before_usec);

/* Takes out all that are at WHERE. */
void forget_list_drop(ForgetList *list, const void *where);

/* When the first one is due; USEC_INFINITY: there is none. */
usec_t forget_list_due(const ForgetList *list);

/* Takes out one that is due; its id is valid until the next call. False when there is none. */
bool forget_list_take(ForgetList *list, usec_t now_usec, const char **ret_attempt_id, void **ret_where);
