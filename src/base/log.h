/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One line to stderr, with the priority prefix that the journal understands when stderr leads
 * there. Only service and the programs (runner, queue, ctl) log; base, core and io return errors instead. */
#pragma once

#include <systemd/sd-daemon.h>

/* Lines of a lower priority than LEVEL (a syslog number such as 6 for info) are left out. */
void log_set_level(int level);

void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Logs "<message>: <strerror(error)>" at LEVEL and returns -|ERROR|, so that a caller can write
 * `return log_errno(LOG_ERR, r, "Cannot …")`. */
int log_errno(int level, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
