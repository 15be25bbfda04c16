/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which group goes with which account, as the host's own /etc/passwd has it. The order says as what to
 * execute a command, and whoever has taken over daggyr writes the order: with a group such as "disk" he would
 * own the host. */
#pragma once

#include <sys/types.h>

/* Remembers what the file says, for every leader that is forked later. */
void accounts_load(void);

/* 0 when GID is the primary group of UID, or when the file does not have UID (it comes from a directory
 * service) and GID is none of the system's own groups. Else -EPERM. */
int accounts_check(uid_t uid, gid_t gid);
