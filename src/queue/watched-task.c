/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/watched-task.h"

#include "queue/describe.h"

static void answer(const void *subject, HttpRequest *request, int status, unsigned form) {
        const WatchedTask *watched = subject;
        describe_answer(watched->sources, request, status, watched->task->task_id, (OutputMode) form);
}

int watched_task_get(const TaskSources *sources, Task *task, WatchedTask **ret) {
        if (!task->userdata) {
                WatchedTask *watched = calloc(1, sizeof(*watched));
                if (!watched)
                        return -ENOMEM;
                *watched = (WatchedTask){
                        .sources = sources,
                        .task = task,
                        .waiters = {
                                .event = sources->event,
                                .server = sources->server,
                                .answer = answer,
                                .subject = watched,
                        },
                };
                task->userdata = watched;
        }
        *ret = task->userdata;
        return 0;
}

void watched_task_free(WatchedTask *watched) {
        if (!watched)
                return;
        waiters_drop(&watched->waiters);
        assert(!watched->outputs);
        free(watched);
}

void watched_task_wait(
                const TaskSources *sources,
                Task *task,
                HttpRequest *request,
                int status,
                OutputMode mode,
                usec_t timeout_usec) {
        WatchedTask *watched;
        int r = watched_task_get(sources, task, &watched);
        if (r < 0)
                describe_answer_error(request, r);
        else
                waiters_add(&watched->waiters, request, status, mode, timeout_usec);
}
