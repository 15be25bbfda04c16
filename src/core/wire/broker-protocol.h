/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What daggyr and the scope broker say to one another, on a SOCK_SEQPACKET connection: one message each way
 * for a call. The broker believes nothing of it, since whoever has taken over daggyr can send what he likes:
 * a message that decodes holds only what a task may have, and has no place for a unit's name, slice or
 * property of the sender's own choosing.
 *
 *   daggyr → broker   START   put this leader into a scope of its own; its pidfd comes with the message
 *                     STOP    stop that task's scope and say when it is gone
 *                     KILL    SIGKILL to all of that scope; there is no answer
 *   broker → daggyr   how the call with this number ended */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/wire/task-property.h"

/* The version of what is said, which each request begins with. */
#define BROKER_PROTOCOL "DGGBKR01"

/* What a scope is to have; the bounds are those that broker_request_decode() keeps. */
typedef struct ScopeOrder {
        char *task_id;             /* what the unit is named and described after: letters, digits, ._:-% */
        uint64_t cpu_quota_usec;   /* CPU time per second, 1…10^12 */
        uint64_t memory_max_bytes; /* 1…2^60 */
        uint64_t tasks_max;        /* 1…2^23, the leader among them */
        usec_t stop_timeout_usec;  /* between SIGTERM and SIGKILL when systemd stops it; at most two hours */
        char **device_paths; /* NULL: it may open any device; else only these, SCOPE_DEVICES_MAX at most */
        TaskProperties *properties; /* further ones, or NULL */
} ScopeOrder;

#define SCOPE_TASK_ID_MAX      32768 /* ids of the DaggyR endpoints can be that long once they are encoded */
#define SCOPE_CPU_QUOTA_MAX    UINT64_C(1000000000000)
#define SCOPE_MEMORY_MAX       (UINT64_C(1) << 60)
#define SCOPE_TASKS_MAX        (UINT64_C(1) << 23)
#define SCOPE_DEVICES_MAX      256
#define SCOPE_STOP_TIMEOUT_MAX (2 * 3600 * USEC_PER_SEC)

typedef enum BrokerRequestType {
        BROKER_START,
        BROKER_STOP,
        BROKER_KILL,
        _BROKER_REQUEST_TYPE_MAX,
} BrokerRequestType;

typedef struct BrokerRequest {
        BrokerRequestType type;
        uint64_t call_id; /* comes back with the reply */
        ScopeOrder order; /* START */
        char *unit;       /* STOP, KILL: the name of a task's scope */
} BrokerRequest;

/* Above the largest valid order, below what a Unix socket of the kernel's default buffer takes as one
 * message. */
#define BROKER_REQUEST_SIZE_MAX ((size_t) 192 * 1024)

/* Serialises REQUEST, which must be valid, into one block. -E2BIG above BROKER_REQUEST_SIZE_MAX, -ENOMEM. The
 * caller frees *ret. */
int broker_request_encode(const BrokerRequest *request, void **ret, size_t *ret_size);

/* Reads a block back into memory of its own: broker_request_done(). -EBADMSG when the block is not, byte for
 * byte, what broker_request_encode() makes of a valid request; -EPROTO when it is of another version;
 * -ENOMEM. */
int broker_request_decode(const void *block, size_t size, BrokerRequest *ret);
void broker_request_done(BrokerRequest *request);

/* The call_id of a block that need not be valid; 0 when it is too short to have one. */
uint64_t broker_request_peek_id(const void *block, size_t size);

/* Whether UNIT is what a task's scope can be named: its prefix, an id as systemd escapes it, its suffix. */
bool broker_unit_valid(const char *unit);

#define BROKER_MESSAGE_MAX 256

typedef struct BrokerReply {
        uint64_t call_id;
        int32_t error;                    /* errno; 0: done */
        char message[BROKER_MESSAGE_MAX]; /* a sentence with an error, NUL-terminated */
} BrokerReply;

/* Whether a reply of SIZE bytes is one: complete and with its NUL. */
bool broker_reply_valid(const BrokerReply *reply, size_t size);
