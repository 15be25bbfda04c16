/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What daggyr, the leader it puts into each scope, and the spawner that forks leaders say to one another.
 *
 * What to execute travels in a sealed memfd, the rest as messages on a SOCK_SEQPACKET pair. Both
 * ends come from one build (the spawner refuses requests of another), so structures are sent as they are in
 * memory.
 *
 *   daggyr → leader   GO           the scope holds you: execute the command
 *                     STOP         end every process of the scope but yourself
 *                     FINISH       nothing more to come: pass on what the feed holds, report, exit
 *   leader → daggyr   STARTED      the command was executed
 *                     EXEC_FAILED
 *                     EXITED       the main process ended
 *                     EMPTY        no process but the leader is left in the scope
 *                     USAGE        the last reading before the leader exits
 *
 * A second pair, the feed, carries finished journal entries, which the leader passes on from inside
 * the scope as they are: so journald files them under the scope's unit without daggyr being root. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptors the leader finds open, beside its stdout and stderr, which are the task's. */
#define LEADER_FD_CONTROL 3
#define LEADER_FD_ORDER   4
#define LEADER_FD_STDIN   5
#define LEADER_FD_FEED    6

/* The order in which they are handed to the spawner. */
typedef enum LeaderFd {
        LEADER_STDOUT,
        LEADER_STDERR,
        LEADER_CONTROL,
        LEADER_ORDER,
        LEADER_STDIN,
        LEADER_FEED,
        LEADER_N_FDS,
} LeaderFd;

/* On a SOCK_SEQPACKET connection daggyr asks for a leader with these bytes, final NUL included, and the
 * descriptors of LeaderFd; the spawner answers each request with a SpawnReply and, on success, a pidfd. */
#define SPAWN_REQUEST "daggyr-leader " VERSION

/* How daggyr and a leader speak, once there is one: grows with every change of LeaderMessage and of the feed.
 * A daggyr that is executed in the place of another (upgrade in place) goes on with leaders that speak as it
 * does, of whatever build they are. */
#define LEADER_PROTOCOL 1

typedef struct SpawnReply {
        int32_t error; /* errno; 0: there is a leader */
        int32_t pid;   /* stays taken while daggyr holds its end of the feed open */
} SpawnReply;

/* The feed is a stream of entries, each after its size as a uint32_t. */
#define LEADER_ENTRY_MAX (64 * 1024)

typedef enum LeaderMessageType {
        LEADER_GO,
        LEADER_STOP,
        LEADER_FINISH,
        LEADER_STARTED,
        LEADER_EXEC_FAILED,
        LEADER_EXITED,
        LEADER_EMPTY,
        LEADER_USAGE,
        _LEADER_MESSAGE_TYPE_MAX,
} LeaderMessageType;

typedef enum LeaderStep {
        LEADER_STEP_SCOPE,  /* the leader is not in the scope it was meant for */
        LEADER_STEP_DEVICE, /* a device node that the task was promised is missing */
        LEADER_STEP_FORK,
        LEADER_STEP_GROUPS,
        LEADER_STEP_USER,
        LEADER_STEP_PRIVILEGES,
        LEADER_STEP_DIRECTORY,
        LEADER_STEP_STDIO,
        LEADER_STEP_EXEC,
        _LEADER_STEP_MAX,
} LeaderStep;

typedef struct LeaderUsage {
        uint64_t cpu_usec;
        uint64_t memory_peak_bytes;
        uint64_t io_read_bytes;
        uint64_t io_write_bytes;
        uint64_t tasks_peak;
        uint64_t oom_kills;
} LeaderUsage;

typedef struct LeaderMessage {
        uint32_t type;             /* LeaderMessageType */
        int32_t error;             /* EXEC_FAILED: errno */
        int32_t step;              /* EXEC_FAILED: LeaderStep */
        int32_t exit_code;         /* EXITED: si_status, when si_code was CLD_EXITED; else -1. EXEC_FAILED
                                      at DEVICE: which of the order's devices */
        int32_t signal;            /* EXITED: the signal that ended it, or 0 */
        int32_t core_dumped;       /* EXITED */
        int32_t leftovers;         /* EXITED: other processes remain in the scope */
        int32_t stopped_by_system; /* EXITED, EMPTY: somebody but daggyr sent the leader SIGTERM (systemctl
                                      stop) */
        uint64_t grace_usec;       /* STOP */
        uint64_t entries_lost;     /* USAGE: journal entries that journald did not take */
        LeaderUsage usage;         /* EMPTY, USAGE */
} LeaderMessage;

/* What to execute, and as whom. */
typedef struct LeaderOrder {
        uint32_t uid, gid; /* UINT32_MAX: stay what the leader is (user mode) */
        uint32_t umask;
        uint32_t no_new_privileges;  /* 0 or 1 */
        uint32_t directory_optional; /* 1: go on in the root directory when DIRECTORY cannot be entered */
        uint64_t grace_usec;         /* for leftovers, and for a stop that daggyr did not ask for */
        char *unit;                  /* the scope's name: the leader acts on no other cgroup */
        char *directory;             /* "" for the root directory */
        char **command;              /* NULL-terminated */
        char **environment;          /* NULL-terminated, "NAME=value" */
        char **devices;              /* NULL-terminated, or NULL: device nodes that must be there */
} LeaderOrder;

#define LEADER_ORDER_SIZE_MAX ((size_t) 16 * 1024 * 1024)

/* Serialises ORDER into one block. -EINVAL without a command, -E2BIG above LEADER_ORDER_SIZE_MAX, -ENOMEM.
 * The caller frees *ret. */
int leader_order_encode(const LeaderOrder *order, void **ret, size_t *ret_size);

/* Reads a block back. The strings point into BLOCK, the lists are allocated: leader_order_done().
 * -EBADMSG when the block is not, byte for byte, what leader_order_encode() makes; -ENOMEM. */
int leader_order_decode(void *block, size_t size, LeaderOrder *ret);
void leader_order_done(LeaderOrder *order);

/* "change to the working directory", … for messages such as "could not …: No such file". For a STEP out of
 * range (it came in a message) something that is true of all. */
const char *leader_step_to_string(LeaderStep step);
