/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* stop, retry and forget of all tasks that -l and --state choose, which a queue does in one request. */
#pragma once

#include "ctl/session.h"

/* Whether the command line chooses tasks by label or state. If not, and IDS is empty, nobody said which: that
 * is said, and the status is in *RET_STATUS, as it is when both are there. */
bool bulk_is_wanted(Session *session, char *const *ids, int *ret_status);

/* VERB is that of the API. Says how many tasks were chosen, and for how many it made a difference. */
int bulk_carry_out(Session *session, const char *verb);
