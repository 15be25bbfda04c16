/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tasks of a daemon that --state, --label and --since name, page by page. */
#pragma once

#include "base/usec.h"
#include "ctl/session.h"

typedef struct TaskFilter {
        usec_t since_usec; /* CLOCK_REALTIME; 0: from the beginning */
} TaskFilter;

/* Reads --since: a span that ends now, or a time as the daemons write it. -EINVAL, said. */
int task_filter_parse(const Options *options, usec_t now_realtime_usec, TaskFilter *ret);

/* Whether ATTEMPT is one of them by all three, for tasks that come by other ways than a list. */
bool task_filter_has(const Options *options, const TaskFilter *filter, json_object *attempt);

/* Each returns an exit status that ends the listing, or 0. Both may be NULL: one is called for a page as it
 * came, the other for each task in it. */
typedef struct TaskListing {
        int (*on_page)(Session *session, const Answer *page);
        int (*on_task)(json_object *attempt, void *userdata);
        void *userdata;
} TaskListing;

/* All of them. Like session_ask(). */
int task_list(Session *session, const TaskFilter *filter, const TaskListing *listing);
