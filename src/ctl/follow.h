/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Copies a task's streams to our own descriptors, byte by byte as they come. A connection that breaks, or
 * that says nothing for a minute, is made anew from where it was; a descriptor that nobody reads holds up its
 * stream and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ctl/session.h"

typedef struct FollowedStream {
        const char *name; /* "stdout" or "stderr" */
        int fd;
        uint64_t offset; /* in the task's stream: where to begin, and where it has come to */
} FollowedStream;

/* Returns when all of the N streams have come to their end and are written: as it is now, or with FOLLOW for
 * as long as the task runs. Returns 0, or the exit status to end with, when it was said why; 141, unsaid,
 * when nobody reads what we write. */
int follow_streams(Session *session, const char *task_id, FollowedStream *streams, unsigned n, bool follow);
