/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is known of the terminal, if there is one, and the use of all of it for something live. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Columns and lines of the terminal that FD is; 0 when it is none. */
size_t terminal_width(int fd);
size_t terminal_height(int fd);

/* Whether colours are shown there: it is a terminal that has them, and nobody forbids them (NO_COLOR). */
bool terminal_has_colours(int fd);

/* Takes the whole screen, and keys as they are pressed, and gives both back. Whatever ends the process
 * meanwhile, but for SIGKILL, gives them back as well. Both may be repeated. enter: -ENOTTY, and other errno.
 */
int terminal_enter(void);
void terminal_leave(void);
