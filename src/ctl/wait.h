/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Waiting for many tasks at once, and telling how far they are. */
#pragma once

#include "ctl/session.h"

/* Waits until all of the tasks are finished, or until WHEN (CLOCK_BOOTTIME); prints each end, in the order of
 * IDS. Returns the exit status of the first that failed, or what went wrong, said. */
int wait_for_tasks(Session *session, char *const *ids, usec_t when_usec);
