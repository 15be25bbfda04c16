/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Going to the background, and telling whoever waits that the daemon is ready. */
#pragma once

/* For --daemonize. Returns only in the process that is to be the daemon, with the descriptor by which
 * startup_report_ready() reports to the one that was started and waits; a negative errno, logged, on failure.
 * Fails the one that waits when it is closed without a report. */
int startup_daemonize(void);

/* Tells systemd, and, where *READY_FD is a descriptor of startup_daemonize(), the waiting process; then
 * the daemon leaves its terminal and directory, and *READY_FD is closed. */
void startup_report_ready(int *ready_fd);
