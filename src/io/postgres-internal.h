/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What postgres.c (a connection in the loop) and postgres-connect.c (the thread that makes it) share. */
#pragma once

#include <libpq-fe.h>
#include <stdatomic.h>

#include "io/postgres.h"

/* A connection that is being made. The loop and the thread each hold it; whoever lets go of it last frees it,
 * with the connection that is in it. */
typedef struct PostgresConnecting {
        atomic_int n_holders;
        int over_fd; /* eventfd: it is over, and the thread touches nothing any more */

        char *conninfo, *password_file, *application_name, *setup;
        const PostgresStatement *statements;
        size_t n_statements;
        usec_t deadline_usec; /* CLOCK_BOOTTIME */

        /* When it is over: */
        int r;
        PGconn *connection;
        char *message; /* why there is none, for people; NULL: out of memory */
} PostgresConnecting;

int postgres_connecting_new(const PostgresOptions *options, PostgresConnecting **ret);

/* Lets go of it. NULL is fine; returns NULL. */
PostgresConnecting *postgres_connecting_unref(PostgresConnecting *connecting);
DEFINE_POINTER_CLEANUP(PostgresConnecting, postgres_connecting_unref)

/* A copy of MESSAGE for people, in one line. NULL: out of memory. */
char *postgres_message_copy(const char *message);

/* What the server said of a failure: "division by zero (22012)". */
char *postgres_failure_message(const PGresult *result);

#define POSTGRES_STATEMENT_NAME_SIZE sizeof("s18446744073709551615")
void postgres_statement_name(size_t statement, char name[static POSTGRES_STATEMENT_NAME_SIZE]);
