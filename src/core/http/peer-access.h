/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the process at the other end of a Unix socket may do, by what the kernel says of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_NO_GROUP (~(gid_t) 0)

/* Its credentials when it connected. */
typedef struct PeerAccount {
        uid_t uid;
        gid_t gid;
        const gid_t *groups; /* supplementary ones */
        size_t n_groups;
} PeerAccount;

/* Whom the daemon trusts, apart from root. */
typedef struct PeerPolicy {
        uid_t own_uid;
        gid_t group;  /* whose members may do everything; PEER_NO_GROUP: none */
        bool may_ask; /* somebody else can be asked about all others */
} PeerPolicy;

typedef enum PeerVerdict {
        PEER_REFUSED,
        PEER_TO_ASK,
        PEER_ADMITTED, /* to everything */
} PeerVerdict;

PeerVerdict peer_access_decide(const PeerPolicy *policy, const PeerAccount *peer);

/* The time a process started, in clock ticks since boot, from the text of its /proc/PID/stat. -EBADMSG. */
int peer_parse_start_time(const char *stat, uint64_t *ret_ticks);

/* Whether UID is the real or the effective user of a process, by the text of its /proc/PID/status. */
bool peer_status_has_uid(const char *status, uid_t uid);
