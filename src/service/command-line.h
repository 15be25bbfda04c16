/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The command line that our daemons share. */
#pragma once

#include <stdbool.h>

/* In the environment of a program that is executed in the place of another. */
#define STATE_FD_VARIABLE "DAGGYR_STATE_FD"

/* What one of our daemons says of itself. */
typedef struct Program {
        const char *name;        /* "daggyr" */
        const char *description; /* one sentence */
        const char *check;       /* what --check does: "check the configuration, …, exit" */
        const char *account;     /* that its service runs as, which is why it means --system */
        bool takes_over;         /* can go on from the state of another: knows --check-state */
} Program;

typedef struct CommandLine {
        const char *config_path; /* NULL: none was named, and a user's daemon has no default one */
        bool config_is_named;    /* otherwise the path is the default one, where there need not be a file */
        bool daemonize;          /* never with CHECK */
        bool check;
        bool check_state; /* that is on stdin: whether the program could go on from it */
        int state_fd;     /* which the program is to go on from, by STATE_FD_VARIABLE; -EBADF: none */
        char **arguments; /* weak: all, as main() got them */
        bool user_mode;   /* the calling user's service manager, not the system's */
} CommandLine;

/* 1 to go on, 0 when all is done (--help), negative when the command line is wrong, which was said. */
int command_line_parse(const Program *program, int argc, char *argv[], CommandLine *ret);

/* Makes the path of a configuration that was named absolute, so that SIGHUP finds the file again wherever the
 * daemon is by then. A negative errno, logged, when there is no such file. */
int command_line_resolve_config(CommandLine *command_line);
