/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task's story is told in three files, in this order; what one asks of another stands here.
 *
 * task-start.c
 *   task_start            takes the capacity, has a leader spawned (SPAWNING)
 *   on_leader_spawned     it is there (PARKED): asks for the scope
 *   on_scope_started      the leader is in its scope and is told to execute the command (RELEASED)
 *   on_timeout            the time limit of the task, which counts from then
 * task-run.c
 *   on_started            the command runs (RUNNING)
 *   on_output             as often as it writes
 *   on_main_exited        the main process ended; the leader ends what it left behind (ENDING)
 *   task_stop             may come at any time, and hastens all this
 * task-end.c
 *   task_empty            nobody is left to write: the pipes are drained, the journal hears the end
 *   task_leader_gone      the leader has exited, its scope is empty or is cleared
 *   task_look_at_remains  until nothing is left of what was killed
 *   task_finish           the result is decided, capacity returns, waiters hear (FINISHED)
 *
 * Every failure leads to the same end: the leader is killed, and once it is gone systemd is asked to clear
 * the scope if the leader could not say that it was empty. */
#pragma once

#include "core/upgrade/runner-state.h"
#include "runner/task-run.h"
#include "runner/task.h"

/* What a leader may take longer than the grace period before it is helped. */
#define TASK_OVERDUE_USEC (5 * USEC_PER_SEC)

/* Changes the state; that EVENT may happen now, and that the task is whole afterwards, is asserted. */
void task_event(Task *task, TaskEvent event);

extern const LeaderHandlers task_leader_handlers;

/* Of the leader. */
void task_on_report(const LeaderMessage *message, void *userdata);
void task_on_output(Capture *capture, const char *bytes, size_t size, void *userdata);
void task_on_leader_exit(void *userdata);

/* Starting is over without the command having run, for ERROR. The leader, if there is one, is on its way out.
 */
void task_start_failed(Task *task, int error, const char *what);

/* Another start, after what was left of the one before is cleared. */
void task_start_over(Task *task);

/* Has systemd help if nothing more is heard of the leader for GRACE_USEC and TASK_OVERDUE_USEC. */
void task_arm_overdue(Task *task, usec_t grace_usec);

/* Sends SIGKILL to the leader, and has an eye on whether that helps. */
void task_kill_leader(Task *task);

/* The leader has said that nobody else is left in the scope. */
void task_empty(Task *task, const LeaderUsage *usage);

/* The leader's last word on what the scope used. */
void task_take_usage(Task *task, const LeaderUsage *usage);

/* The leader has ended, and nothing is asked of systemd any more. */
void task_leader_gone(Task *task);

/* There is no leader, and nothing is left of the task. */
void task_finish(Task *task);

/* After an upgrade: sets the timers of SAVED, and awaits, or asks for, what the earlier program was waiting
 * for. */
void task_go_on(Task *task, const SavedTask *saved);
void task_go_on_starting(Task *task, const SavedTask *saved);
void task_go_on_ending(Task *task, const SavedTask *saved);
