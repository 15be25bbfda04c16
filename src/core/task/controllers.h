/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which limits of tasks have no effect, for want of a cgroup controller. */
#pragma once

#include <stddef.h>

#define CONTROLLER_WARNINGS_MAX 3

/* NAMES are the controllers there are, apart by white space, as in cgroup.controllers. Sets the first so many
 * of RET to sentences for people (static strings), and returns how many. */
size_t controllers_warnings(const char *names, const char *ret[static CONTROLLER_WARNINGS_MAX]);
