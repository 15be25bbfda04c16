/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/oom-watch.h"

#include "io/host.h"
#include "io/task-scopes.h"

void oom_watch_begin(OomWatch *watch, const char *control_group) {
        uint64_t n = 0;
        (void) host_slice_oom_kills(control_group, TASK_SLICE, &n);
        watch->n_explained = n;
}

void oom_watch_explain(OomWatch *watch, uint64_t n) {
        watch->n_explained += n;
}

uint64_t oom_watch_take(OomWatch *watch, const char *control_group) {
        uint64_t n;
        if (!control_group || host_slice_oom_kills(control_group, TASK_SLICE, &n) < 0 ||
            n <= watch->n_explained)
                return 0;
        uint64_t found = n - watch->n_explained;
        watch->n_explained = n;
        return found;
}
