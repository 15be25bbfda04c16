/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who starts and ends the scopes of tasks. There are two: the systemd manager itself, for a daggyr that may
 * ask it (root's, or a user's at his own manager), and for the service the scope broker, which may do this
 * one thing. */
#pragma once

#include <sys/types.h>

#include "base/cleanup.h"
#include "core/upgrade/runner-state.h"
#include "core/wire/broker-protocol.h"
#include "io/call-queue.h"
#include "io/systemd1.h"

#define TASK_SLICE "daggyr.slice"

typedef struct TaskScopes TaskScopes;

/* The process to put into a scope. Its number must stay taken until the call has ended. */
typedef struct ScopeLeader {
        pid_t pid;
        int pid_fd; /* of the same process; the caller keeps it */
} ScopeLeader;

/* What each kind does, with the contract of the function of the same name below. */
typedef struct TaskScopesMethods {
        int (*start)(TaskScopes *scopes,
                     const ScopeOrder *order,
                     const char *unit,
                     const char *bound_to,
                     const ScopeLeader *leader,
                     CallDone done,
                     void *userdata,
                     QueuedCall **ret);
        int (*stop)(TaskScopes *scopes, const char *unit, CallDone done, void *userdata, QueuedCall **ret);
        void (*kill)(TaskScopes *scopes, const char *unit);
        uint64_t (*call_id)(const QueuedCall *call);
        int (*resume)(TaskScopes *scopes, uint64_t call_id, CallDone done, void *userdata, QueuedCall **ret);
        SavedBroker (*save)(const TaskScopes *scopes);
        void (*free)(TaskScopes *scopes);
} TaskScopesMethods;

/* The head of each kind's own structure. */
struct TaskScopes {
        const TaskScopesMethods *methods;
};

/* By SYSTEMD1, which must outlive it. */
int task_scopes_new_direct(Systemd1 *systemd1, TaskScopes **ret);

/* By the broker behind the Unix socket at PATH. Connects when there is something to ask, and again when the
 * connection was lost. */
int task_scopes_new_broker(sd_event *event, const char *path, TaskScopes **ret);

/* The same with the connection that was saved, which is taken over, if what is spoken on it is spoken here.
 */
int task_scopes_restore_broker(sd_event *event, const char *path, const SavedBroker *saved, TaskScopes **ret);

TaskScopes *task_scopes_free(TaskScopes *scopes);
DEFINE_POINTER_CLEANUP(TaskScopes, task_scopes_free)

/* Puts LEADER into a new scope UNIT, made to ORDER, whose name is that of the order's task, and which ends
 * with the unit BOUND_TO (the broker takes the unit of who is connected to it, which is the same). DONE hears
 * as of systemd1_start_scope(): -EEXIST when there is such a unit, -ENOTCONN or -ETIMEDOUT when nobody knows
 * what became of it, -EPERM when the broker refuses. */
int task_scopes_start(
                TaskScopes *scopes,
                const ScopeOrder *order,
                const char *unit,
                const char *bound_to,
                const ScopeLeader *leader,
                CallDone done,
                void *userdata,
                QueuedCall **ret);

/* Stops the scope UNIT; DONE hears when it is gone, -ENOENT when there was none. */
int task_scopes_stop(TaskScopes *scopes, const char *unit, CallDone done, void *userdata, QueuedCall **ret);

/* SIGKILL to all processes of the scope UNIT, without an answer. */
void task_scopes_kill(TaskScopes *scopes, const char *unit);

/* For another process that goes on in this one's place. The connection over which the answers to calls come
 * stays, if there is one; CALL_ID is the number that CALL has on it, 0 when its answer will not be heard. */
SavedBroker task_scopes_save(const TaskScopes *scopes);
uint64_t task_scopes_call_id(const TaskScopes *scopes, const QueuedCall *call);

/* Awaits the answer to a call that was made by that other process. -ENOTCONN: there will be none; nobody
 * knows what became of it. */
int task_scopes_resume(TaskScopes *scopes, uint64_t call_id, CallDone done, void *userdata, QueuedCall **ret);
