/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which queues this host's runner has joined, and what was changed here for that: a file, so that what one
 * command did another one can undo. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define JOINED_MAX 64

typedef struct JoinedQueue {
        char *queue; /* its URL, as it was given */
        char *id;    /* by which it knows this runner */
        char *url;   /* where it reaches it */
} JoinedQueue;

typedef struct Joined {
        bool made_token, made_listen, enabled; /* here, by us */
        size_t n_queues;
        JoinedQueue queues[JOINED_MAX];
} Joined;

void joined_done(Joined *joined);

/* Zero-initialise *ret. No file: nothing was joined. Negative errno, said. */
int joined_read(Joined *ret);

/* Writes it down; nothing and no queue: the file goes. Negative errno, said. */
int joined_write(const Joined *joined);

/* NULL: there is none. */
JoinedQueue *joined_find(Joined *joined, const char *queue);

/* Notes a queue, or what is new of it. -ENOMEM, -ENOSPC. */
int joined_put(Joined *joined, const char *queue, const char *id, const char *url);
void joined_remove(Joined *joined, JoinedQueue *queue);
