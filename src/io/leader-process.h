/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A leader as daggyr sees it: spawned parked, told to go, to stop, to finish; its reports and its
 * end come as events. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/upgrade/runner-state.h"
#include "core/wire/leader-protocol.h"
#include "io/spawner.h"

typedef struct LeaderProcess LeaderProcess;

typedef struct LeaderHandlers {
        /* It is there, parked, with ERROR 0. Otherwise it never will be, with an error as of SpawnDone; then
         * nothing else is called, and it is to be freed. */
        void (*on_spawned)(int error, void *userdata);
        void (*on_report)(const LeaderMessage *message, void *userdata);
        /* The process has ended; all its reports were delivered before. Its pid stays taken until
         * leader_process_free(). */
        void (*on_exit)(void *userdata);
} LeaderHandlers;

/* Has a leader spawned with the encoded ORDER (the sealed memfd is made here), STANDARD_INPUT's bytes as the
 * command's stdin, and OUTPUT_FD and ERROR_FD as its streams (the caller keeps and closes its own copies).
 * What came of it says on_spawned(), in a later turn of the loop. Errors as of spawner_spawn(), and of what
 * it takes to make pipes and files. */
int leader_process_spawn(
                sd_event *event,
                Spawner *spawner,
                const LeaderOrder *order,
                const char *standard_input,
                int output_fd,
                int error_fd,
                const LeaderHandlers *handlers,
                void *userdata,
                LeaderProcess **ret);

/* What is to be known of a leader that was spawned for leader_process_restore() in another process; the bytes
 * stay LEADER's. */
SavedLeader leader_process_save(const LeaderProcess *leader);

/* The leader that was saved as SAVED, with its descriptors, which are taken over in case of success. -ENOMEM,
 * or what sd-event says. */
int leader_process_restore(
                sd_event *event,
                const SavedLeader *saved,
                const LeaderHandlers *handlers,
                void *userdata,
                LeaderProcess **ret);

/* Kills the leader if it lives, has it reaped, frees. NULL is fine. Does not call back. */
LeaderProcess *leader_process_free(LeaderProcess *leader);
DEFINE_POINTER_CLEANUP(LeaderProcess, leader_process_free)

/* Both once it was spawned. */
pid_t leader_process_pid(const LeaderProcess *leader);
int leader_process_pid_fd(const LeaderProcess *leader); /* stays the leader's */

/* Whether systemd has put it into UNIT, which is in SLICE of the manager that daggyr itself runs under. */
bool leader_process_is_in(const LeaderProcess *leader, const char *slice, const char *unit);

/* Negative errno when the leader cannot be told, which means that it is gone or about to be. */
int leader_process_go(LeaderProcess *leader);
int leader_process_stop(LeaderProcess *leader, usec_t grace_usec);
int leader_process_finish(LeaderProcess *leader);

/* Hands over one journal entry, which leaves with leader_process_flush(). -EAGAIN when too many have not: the
 * entry is lost to the journal. */
int leader_process_feed(LeaderProcess *leader, const void *entry, size_t size);

/* Sends the entries handed over so far, now and as the feed has room. */
void leader_process_flush(LeaderProcess *leader);

/* Entries that the leader has not, or not wholly, taken so far. */
uint64_t leader_process_unfed(const LeaderProcess *leader);

bool leader_process_has_exited(const LeaderProcess *leader);

/* SIGKILL to the leader alone; to one that is only being spawned as soon as it is there. */
void leader_process_kill(LeaderProcess *leader);
