/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Task attempts as the daemons describe them: asked for, waited for, shown. */
#pragma once

#include "ctl/session.h"
#include "ctl/table.h"

/* Behind the path of a task, DELETE then never forgets it. */
#define ATTEMPT_STOP_QUERY "?keep=true"

/* GET of the task; OUTPUT is "none", "tail" or "full". Like session_ask(). */
int attempt_get(Session *session, const char *task_id, const char *output, Answer *ret);

/* The same without output; *RET has status 404 when there is no such task. */
int attempt_get_if_there(Session *session, const char *task_id, Answer *ret);

/* The same of a task that was there before: a runner that does not know it any more has ended it, by its own
 * end, which is said, and is an exit status as of SIGTERM. */
int attempt_get_submitted(Session *session, const char *task_id, Answer *ret);
int attempt_say_gone(const char *task_id);

/* The same, when it is finished: asks again and again until then, or until WHEN (CLOCK_BOOTTIME), which is
 * exit status SHELL_STATUS_TIMEOUT, said. */
int attempt_await(Session *session, const char *task_id, const char *output, usec_t when_usec, Answer *ret);

/* Stops the task if it is live, and never forgets it: the status of *RET is 200 when it had ended before. May
 * be repeated, and is, like every question that does no harm. */
int attempt_stop(Session *session, const char *task_id, Answer *ret);

/* Forgets the task if it is finished, but stops a live one: look first. */
int attempt_forget(Session *session, const char *task_id, Answer *ret);

bool attempt_is_live(json_object *attempt);

/* How many there were before this one (at queues). */
size_t attempt_n_earlier(json_object *attempt);

/* Says how it ended if that is not what its command did by itself: timeout, no memory, never executed, … */
void attempt_say_end(json_object *attempt);

/* Prints "ID: STATE (RESULT)", or with --json the answer. 0, or the exit status to end with. */
int attempt_print_end(Session *session, const char *task_id, const Answer *answer);

/* "running", "completed (success)". */
int attempt_state_text(json_object *attempt, char **ret);

/* A row of the table of tasks. */
#define ATTEMPT_COLUMNS_MAX 12
typedef struct AttemptCells {
        char *texts[ATTEMPT_COLUMNS_MAX];
} AttemptCells;

/* Zero-initialise *ret. WIDE: with times, exit status and labels. -ENOMEM. */
int attempt_cells(json_object *attempt, bool wide, usec_t now_realtime_usec, AttemptCells *ret);
void attempt_cells_done(AttemptCells *cells);

/* What a terminal shows a state in; NULL: nothing special. */
const char *attempt_state_colour(const char *state);

/* A table of such rows. -ENOMEM. */
int attempt_table_new(bool wide, Table **ret);
int attempt_table_add(Table *table, const AttemptCells *cells);

/* All that a person may want to know of it, with the last lines of its output if there are any. -errno. */
int attempt_print(json_object *attempt);
