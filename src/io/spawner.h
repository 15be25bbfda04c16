/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The process that leaders, and so tasks, are forked from: it has the rights that takes, and none of the
 * daemon's sandbox, which would pass on to every task. The service reaches one through a socket on which
 * systemd starts it (daggyr-spawner.socket); a daggyr that is no service executes one of its own. */
#pragma once

#include <sys/types.h>

#include "base/cleanup.h"
#include "core/wire/leader-protocol.h"

typedef struct Spawner Spawner;

/* With SOCKET_PATH connects there, and again whenever the connection was lost. Without (NULL), opens
 * EXECUTABLE, so that this very file is run whatever an upgrade puts there, when the first leader is wanted.
 * Keeps the limit on descriptors as it is at this moment for the tasks. */
int spawner_new(const char *executable, const char *socket_path, Spawner **ret);

/* Ends the connection, upon which the spawner exits; leaders live on. NULL is fine. */
Spawner *spawner_free(Spawner *spawner);
DEFINE_POINTER_CLEANUP(Spawner, spawner_free)

/* Forks a leader that gets copies of FDS, in the order of LeaderFd. The pid stays taken until the other end
 * of LEADER_FD_FEED is closed here. -EAGAIN when it is worth trying again later, also if no spawner answers;
 * -EPROTO when the spawner is of another version than daggyr. */
int spawner_spawn(Spawner *spawner, const int fds[static LEADER_N_FDS], pid_t *ret_pid, int *ret_pid_fd);
