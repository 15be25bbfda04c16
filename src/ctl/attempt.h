/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Task attempts as the daemons describe them: asked for, waited for, shown. */
#pragma once

#include "core/text/text-table.h"
#include "ctl/session.h"

/* GET of the task; OUTPUT is "none", "tail" or "full". Like session_ask(). */
int attempt_get(Session *session, const char *task_id, const char *output, Answer *ret);

/* The same, when it is finished: asks again and again until then, or until WHEN (CLOCK_BOOTTIME), which is
 * exit status SHELL_STATUS_TIMEOUT, said. */
int attempt_await(Session *session, const char *task_id, const char *output, usec_t when_usec, Answer *ret);

/* DELETE of the task. Stops a live one and forgets a finished one: look first. */
int attempt_delete(Session *session, const char *task_id, Answer *ret);

bool attempt_is_live(json_object *attempt);

/* How many there were before this one (at queues). */
size_t attempt_n_earlier(json_object *attempt);

/* Says how it ended if that is not what its command did by itself: timeout, no memory, never executed, … */
void attempt_say_end(json_object *attempt);

/* "running", "completed (success)". */
int attempt_state_text(json_object *attempt, char **ret);

/* The table of verb_list(). -ENOMEM. */
int attempt_table_new(TextTable **ret);
int attempt_table_add(TextTable *table, json_object *attempt, usec_t now_realtime_usec);

/* All that a person may want to know of it, with the last lines of its output if there are any. -errno. */
int attempt_print(json_object *attempt);
