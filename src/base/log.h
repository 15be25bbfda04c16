/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One line to stderr, with the priority prefix that the journal understands when stderr leads
 * there. Only service and the programs (runner, queue, ctl) log; base, core and io return errors instead. */
#pragma once

#include <systemd/sd-daemon.h>

/* LEVEL is a syslog number such as LOG_INFO. */
void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Logs "<message>: <strerror(error)>" at LEVEL and returns -|ERROR|, so that a caller can write
 * `return log_errno(LOG_ERR, r, "Cannot …")`. */
int log_errno(int level, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
