/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One connection to a PostgreSQL server inside the sd-event loop. Statements are prepared once and pipelined:
 * many are under way at a time, and are answered in order. What stands between two postgres_sync() is a
 * transaction of its own, whole or not at all, unless it says BEGIN itself.
 *
 * Connecting blocks inside of libpq (it looks up names), so a thread of our own does it, within connect_usec;
 * one that hangs for longer is left to itself, and tidies up when it is over. The server has to be PostgreSQL
 * 15 or later, and one that does not lose what it confirmed (fsync, synchronous_commit). A connection that is
 * lost is not made anew: the owner is told, and makes another one when it wants to.
 *
 * A library of its own (libpq, a thread): block the signals that are to be handled before. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"

typedef struct Postgres Postgres;
typedef struct pg_result PostgresResult; /* libpq's: see postgres-result.h for its values */

/* Prepared when the connection is made; named by its place in the table. */
typedef struct PostgresStatement {
        const char *sql;
        bool binary; /* its results come as bytes: quicker for what is large (see postgres-result.h) */
} PostgresStatement;

/* A parameter, as text or as bytes; DATA NULL: null. */
typedef struct PostgresValue {
        const char *data;
        int size;    /* of bytes */
        bool binary; /* bytes, not a text */
} PostgresValue;

typedef struct PostgresOptions {
        const char *conninfo;      /* with several hosts, the one that can be written to is taken */
        const char *password_file; /* read anew for each connection; or NULL */
        const char *application_name;
        const char *setup; /* SQL that is executed first, or NULL: SET … */
        const PostgresStatement *statements;
        size_t n_statements;
        usec_t connect_usec; /* from the beginning until all is prepared */
        usec_t answer_usec;  /* without any answer while one is owed: the connection is given up */

        /* The connection is there, and everything is prepared. */
        void (*connected)(void *userdata);
        /* There is none, or none any more; once, and no other callback after it. R is a negative errno:
         * -EACCES (password, role), -ENOENT (database), -ENOTSUP (server too old), -ECONNREFUSED, -ETIMEDOUT,
         * -ECONNRESET, -EIO, …; MESSAGE is the server's or libpq's, for people. Everything unanswered was
         * told -ECONNRESET before. POSTGRES may be freed in here. */
        void (*lost)(int r, const char *message, void *userdata);
        /* NOTIFY on a channel that was listened to; may be NULL. */
        void (*notified)(const char *channel, const char *payload, void *userdata);
        void *userdata;
} PostgresOptions;

/* What became of a statement: RESULT is NULL when R is negative. -ECONNRESET: the connection was lost, nobody
 * knows; -ECANCELED: one before it in its transaction failed; otherwise it is what the server's SQLSTATE
 * means (postgres_errno()). The connection may be freed in here. */
typedef void (*PostgresDone)(int r, const PostgresResult *result, void *userdata);

/* The RESULT that is being told, for longer than DONE runs; postgres_result_free() it. */
PostgresResult *postgres_take_result(Postgres *postgres);

/* NULL is fine; returns NULL. */
PostgresResult *postgres_result_free(PostgresResult *result);
DEFINE_POINTER_CLEANUP(PostgresResult, postgres_result_free)

/* What an SQLSTATE of five characters, or NULL, means to us: -EEXIST, -ENOSPC, -EROFS, -ECONNRESET, -EAGAIN
 * (a conflict with another transaction), -EACCES, -ENOENT, -ENOMEM, -EINVAL (a text that the database cannot
 * hold), otherwise -EIO. Functions
 * of our own raise "DG001" for -ESTALE, "DG002" for -ENOTSUP, "DG003" for -ENOENT. */
int postgres_errno(const char *sqlstate);

/* Begins to connect. Everything in OPTIONS is copied but the statements, which must stay. -EBUSY: too many
 * connections that were given up still hang. */
int postgres_new(sd_event *event, const PostgresOptions *options, Postgres **ret);

/* Drops the connection without calling back. NULL is fine; returns NULL. */
Postgres *postgres_free(Postgres *postgres);
DEFINE_POINTER_CLEANUP(Postgres, postgres_free)

bool postgres_is_connected(const Postgres *postgres);

/* Sends a prepared statement with its values, which are copied. DONE may be NULL, and is never called from
 * within. -ENOTCONN, -ENOMEM. */
int postgres_execute(
                Postgres *postgres,
                size_t statement,
                const PostgresValue *values,
                size_t n_values,
                PostgresDone done,
                void *userdata);

/* Ends a transaction; DONE is called when it is on the server's disk (R 0), or with the error that undid it.
 * May be NULL. */
int postgres_sync(Postgres *postgres, PostgresDone done, void *userdata);

/* What the server said of the statement that failed last; never NULL, valid until the next one fails. */
const char *postgres_error_message(const Postgres *postgres);

/* The session's process at the server, as pg_stat_activity has it. */
int postgres_backend_pid(const Postgres *postgres);
