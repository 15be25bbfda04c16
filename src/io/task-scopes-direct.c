/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Scopes of tasks by asking the systemd manager. */
#include <signal.h>

#include "base/text.h"
#include "io/task-scopes.h"

typedef struct DirectScopes {
        TaskScopes head;
        Systemd1 *systemd1; /* weak */
} DirectScopes;

static int direct_start(
                TaskScopes *scopes,
                const ScopeOrder *order,
                const char *unit,
                const char *bound_to,
                const ScopeLeader *leader,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        _cleanup_(text_done) Text description = {};
        int r = text_appendf(&description, "daggyr task %s", order->task_id);
        if (r < 0)
                return r;
        return systemd1_start_scope(
                        ((DirectScopes *) scopes)->systemd1,
                        &(ScopeParameters) {
                                        .name = unit,
                                        .slice = TASK_SLICE,
                                        .description = description.data,
                                        .bound_to = bound_to,
                                        .pid = leader->pid,
                                        .pid_fd = leader->pid_fd,
                                        .cpu_quota_usec = order->cpu_quota_usec,
                                        .memory_max_bytes = order->memory_max_bytes,
                                        .tasks_max = order->tasks_max,
                                        .stop_timeout_usec = order->stop_timeout_usec,
                                        .device_paths = order->device_paths,
                                        .properties = order->properties,
                        },
                        done,
                        userdata,
                        ret);
}

static int direct_stop(
                TaskScopes *scopes,
                const char *unit,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        return systemd1_stop_unit(((DirectScopes *) scopes)->systemd1, unit, done, userdata, ret);
}

static void direct_kill(TaskScopes *scopes, const char *unit) {
        systemd1_kill_unit(((DirectScopes *) scopes)->systemd1, unit, SIGKILL);
}

/* The connection to systemd ends with the process. */
static uint64_t direct_call_id(const QueuedCall *call) {
        return 0;
}

static int direct_resume(
                TaskScopes *scopes,
                uint64_t call_id,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        return -ENOTCONN;
}

static SavedBroker direct_save(const TaskScopes *scopes) {
        return (SavedBroker) { .fd = -EBADF, .protocol = "" };
}

static void direct_free(TaskScopes *scopes) {
        free(scopes);
}

int task_scopes_new_direct(Systemd1 *systemd1, TaskScopes **ret) {
        static const TaskScopesMethods methods = {
                .start = direct_start,
                .stop = direct_stop,
                .kill = direct_kill,
                .call_id = direct_call_id,
                .resume = direct_resume,
                .save = direct_save,
                .free = direct_free,
        };
        DirectScopes *direct = calloc(1, sizeof(*direct));
        if (!direct)
                return -ENOMEM;
        *direct = (DirectScopes) { .head.methods = &methods, .systemd1 = systemd1 };
        *ret = &direct->head;
        return 0;
}
