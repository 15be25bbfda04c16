/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Kills for memory that no leader has told of, because the kernel took the leader as well. A user's own
 * daggyr cannot have its leaders spared. On cgroup v2 the tasks' slice counts all kills in it, and keeps the
 * number when a scope is gone: what it has more than leaders have told of explains the end of one that says
 * nothing. */
#pragma once

#include <stdint.h>

typedef struct OomWatch {
        uint64_t n_explained; /* of the slice's count: from before this daggyr, and told of */
} OomWatch;

/* Begins with all that the slice has counted so far as explained. CONTROL_GROUP is the service manager's. */
void oom_watch_begin(OomWatch *watch, const char *control_group);

/* A leader has told of N kills. */
void oom_watch_explain(OomWatch *watch, uint64_t n);

/* How many kills nobody has told of; they count as explained from now on. 0 when nobody knows. */
uint64_t oom_watch_take(OomWatch *watch, const char *control_group);
