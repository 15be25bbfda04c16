/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The process that leaders, and so tasks, are forked from: it has the rights that takes, and none of the
 * daemon's sandbox, which would pass on to every task. The service reaches one through a socket on which
 * systemd starts it (daggyr-spawner.socket); a daggyr that is no service executes one of its own. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/upgrade/runner-state.h"
#include "core/wire/leader-protocol.h"

typedef struct Spawner Spawner;
typedef struct SpawnCall SpawnCall;

/* With SOCKET_PATH connects there, and again whenever the connection was lost. Without (NULL), opens
 * EXECUTABLE, so that this very file is run whatever an upgrade puts there, when the first leader is wanted.
 * Keeps the limit on descriptors as it is at this moment for the tasks. */
int spawner_new(sd_event *event, const char *executable, const char *socket_path, Spawner **ret);

/* What is to be known of it for spawner_restore() in another process; only when no call is under way. */
SavedSpawner spawner_save(const Spawner *spawner);
bool spawner_is_busy(const Spawner *spawner);

/* As spawner_new(), but goes on with the connection that was saved, which is taken over, if what is spoken on
 * it is spoken here; otherwise ends that and makes another when the first leader is wanted. */
int spawner_restore(
                sd_event *event,
                const char *executable,
                const char *socket_path,
                const SavedSpawner *saved,
                Spawner **ret);

/* Ends the connection, upon which the spawner exits; leaders live on. Calls must be gone before. NULL is
 * fine. */
Spawner *spawner_free(Spawner *spawner);
DEFINE_POINTER_CLEANUP(Spawner, spawner_free)

/* Called once, in a later turn of the loop; the call is gone then. With ERROR 0 there is a leader: PID stays
 * taken until the other end of LEADER_FD_FEED is closed here, and PID_FD is the handler's to close. Otherwise
 * ERROR is -EAGAIN when it is worth trying again later, also if no spawner answers; -EPROTO when the spawner
 * is of another version than daggyr; or what fork() said. */
typedef void (*SpawnDone)(int error, pid_t pid, int pid_fd, void *userdata);

/* Has a leader forked that gets copies of FDS, in the order of LeaderFd, which the caller may close
 * afterwards. Fails at once with -EAGAIN when a spawner cannot be reached, or has too much to do already. */
int spawner_spawn(
                Spawner *spawner,
                const int fds[static LEADER_N_FDS],
                SpawnDone done,
                void *userdata,
                SpawnCall **ret);

/* DONE will not be called. A leader that is forked all the same ends by itself as soon as its sockets are
 * closed here. NULL is fine; always returns NULL. */
SpawnCall *spawn_call_cancel(SpawnCall *call);
