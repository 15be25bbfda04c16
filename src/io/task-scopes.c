/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/task-scopes.h"

TaskScopes *task_scopes_free(TaskScopes *scopes) {
        if (scopes)
                scopes->methods->free(scopes);
        return NULL;
}

int task_scopes_start(
                TaskScopes *scopes,
                const ScopeOrder *order,
                const char *unit,
                const char *bound_to,
                const ScopeLeader *leader,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        return scopes->methods->start(scopes, order, unit, bound_to, leader, done, userdata, ret);
}

int task_scopes_stop(TaskScopes *scopes, const char *unit, CallDone done, void *userdata, QueuedCall **ret) {
        return scopes->methods->stop(scopes, unit, done, userdata, ret);
}

void task_scopes_kill(TaskScopes *scopes, const char *unit) {
        scopes->methods->kill(scopes, unit);
}

SavedBroker task_scopes_save(const TaskScopes *scopes) {
        return scopes->methods->save(scopes);
}

uint64_t task_scopes_call_id(const TaskScopes *scopes, const QueuedCall *call) {
        return scopes->methods->call_id(call);
}

int task_scopes_resume(
                TaskScopes *scopes,
                uint64_t call_id,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        return call_id == 0 ? -ENOTCONN : scopes->methods->resume(scopes, call_id, done, userdata, ret);
}
