/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hands of membership (core/cluster/membership.h), over PostgreSQL: tells the database regularly that
 * this member lives, and learns from it who else does and who leads.
 *
 * A heartbeat is one round trip: the member's row is renewed; the lead is taken if it may be; all rows are
 * read. Whoever takes or frees the lead notifies the others, which look at once. What is in the rows is
 * believed: who can write to the database owns the queue. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/config/config-queue.h"

typedef struct Members Members;

/* A member as the database had it at the last heartbeat. */
typedef struct Member {
        const char *id;      /* 32 hexadecimal digits, new with each start */
        const char *url;     /* "http://host:port" by which the others reach it */
        const char *address; /* "host:port" */
        const char *version;
        const char *secret; /* by which the others know its requests */
        bool draining;      /* it is about to end */
        bool alive;         /* by the database's clock */
        bool leading;
        uint64_t epoch;      /* under which it leads, or led last; 0: never */
        usec_t expires_usec; /* CLOCK_REALTIME as the database has it; 0: it does not have it yet */
} Member;

typedef struct MembersOptions {
        const PostgresConfig *config; /* weak */
        usec_t ttl_usec;
        const char *url, *address, *version; /* of this member; copied */

        /* The callbacks come out of the loop, never out of a function here. MEMBERS stays during them.
         *
         * This member leads from now on, under EPOCH. */
        void (*lead)(uint64_t epoch, void *userdata);
        /* It does not any more, or cannot know. */
        void (*lost)(void *userdata);
        /* Who lives or who leads may have changed, or that the database answers at all. */
        void (*changed)(void *userdata);
        /* members_leave() is done. */
        void (*left)(void *userdata);
        void *userdata;
} MembersOptions;

/* Begins at once, connects again whenever it must. Makes the schema or brings it up to date, under a lock. */
int members_new(sd_event *event, const MembersOptions *options, Members **ret);
Members *members_free(Members *members);
DEFINE_POINTER_CLEANUP(Members, members_free)

/* All of them, this one included, ordered by id; *RET is valid until the loop goes on. */
size_t members_list(const Members *members, const Member **ret);

/* This one. */
const Member *members_self(const Members *members);

/* The one that leads and lives, as far as is known; NULL: nobody knows. Valid as members_list() is. */
const Member *members_leader(const Members *members);

/* Whether SECRET is that of a living member; in constant time for each. */
bool members_know_secret(const Members *members, const char *secret);

/* The address by which runners and other queues know the queue, whoever leads: that of the member that led
 * first. NULL as long as the database has not said it. */
const char *members_queue_address(const Members *members);

/* Why there may be no leader, for people: "the database does not answer: …", or NULL. */
const char *members_trouble(const Members *members);

/* Whether this one may still act as the leader: by its own clock nobody else can lead yet. */
bool members_may_lead(const Members *members, usec_t boottime_usec);

/* This member is about to end: it does not take the lead any more, and the others are told. If it leads, it
 * goes on. */
void members_drain(Members *members);

/* This member ends: it never leads again, and what it led is another's at once. left() is called when the
 * database knows, or when it cannot be told. Everything that it has to write must be written before. */
void members_leave(Members *members);
