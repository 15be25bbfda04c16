/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* main() of a daemon: its command line, going to the background, and telling whoever waits that it is ready.
 */
#pragma once

#include "service/command-line.h"

/* Runs the daemon to its end. READY_FD is for startup_report_ready(). A negative errno, logged, or what the
 * loop was ended with; 0 is success. -EUCLEAN, for kept data that is damaged, has an exit status of its own.
 */
typedef int (*StartupRun)(CommandLine *command_line, int ready_fd);

/* What main() of PROGRAM returns. */
int startup_main(const Program *program, StartupRun run, int argc, char *argv[]);

/* Tells systemd, and, with --daemonize, the process that was started and waits; then
 * the daemon leaves its terminal and directory, and *READY_FD is closed. */
void startup_report_ready(int *ready_fd);
