/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a command line says with its exit status, in the manner of a shell, env(1) and timeout(1). */
#pragma once

#include <json-c/json.h>

enum {
        SHELL_STATUS_USAGE = 2,          /* the command line is wrong */
        SHELL_STATUS_UNREACHABLE = 123,  /* no daemon answers (any more) */
        SHELL_STATUS_TIMEOUT = 124,      /* the task's timeout, or the time to wait for it, is over */
        SHELL_STATUS_REFUSED = 125,      /* by the daemon; or there is no task, or its end cannot be told */
        SHELL_STATUS_NOT_EXECUTED = 126, /* the task's command could not be */
        SHELL_STATUS_SIGNAL = 128,       /* and the signal's number */
};

/* "SIGTERM" → 15, also "SIGRTMIN+3" and "SIG40"; 0 for what is none. */
int shell_signal_number(const char *name);

/* The status of a finished task, by the members "result", "exit_code" and "signal" of its ATTEMPT: the
 * command's own exit code; 128 and the number of the signal that ended it; 143 for what was stopped or
 * canceled without one; one of the above. */
int shell_status_of_attempt(json_object *attempt);
