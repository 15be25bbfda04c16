/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What daggyctl can do. Each takes its arguments, NULL-terminated and as many as the table in main.c allows,
 * and returns the exit status (core/task/shell-status.h); what went wrong it has said. */
#pragma once

#include "ctl/session.h"

int verb_run(Session *session, char **arguments);
int verb_submit(Session *session, char **arguments);

int verb_show(Session *session, char **arguments);
int verb_list(Session *session, char **arguments);
int verb_summary(Session *session, char **arguments);
int verb_top(Session *session, char **arguments);
int verb_context(Session *session, char **arguments);
int verb_wait(Session *session, char **arguments);
int verb_stop(Session *session, char **arguments);
int verb_forget(Session *session, char **arguments);

int verb_retry(Session *session, char **arguments);

int verb_output(Session *session, char **arguments);
int verb_events(Session *session, char **arguments);

int verb_ui(Session *session, char **arguments);

int verb_capacity(Session *session, char **arguments);
int verb_impact(Session *session, char **arguments);
int verb_drain(Session *session, char **arguments);
int verb_upgrade(Session *session, char **arguments);
int verb_lease(Session *session, char **arguments);
int verb_members(Session *session, char **arguments);
int verb_workers(Session *session, char **arguments);
int verb_worker(Session *session, char **arguments);
int verb_join(Session *session, char **arguments);
int verb_leave(Session *session, char **arguments);
int verb_queues(Session *session, char **arguments);
