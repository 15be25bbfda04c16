/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A real PostgreSQL server for tests, in a folder of its own, reached by a Unix socket there only. It never
 * runs as root: then an account without rights is taken. The role "secret", which is not there, would need a
 * password; "daggyd", who may do anything, needs none. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

typedef struct PostgresServer {
        char binaries[256]; /* where initdb and postgres are */
        char folder[64];
        pid_t pid; /* 0: it does not run */
} PostgresServer;

/* False where none is installed. The newest one that is. */
bool postgres_server_find(PostgresServer *server);

/* Makes the folder, and starts; fails the test when it cannot. */
void postgres_server_begin(PostgresServer *server);
void postgres_server_start(PostgresServer *server);

/* All of its processes at once, as by a crash. */
void postgres_server_kill(PostgresServer *server);

/* Ends it and removes the folder. */
void postgres_server_end(PostgresServer *server);

/* The caller frees *ret. */
void postgres_server_conninfo(const PostgresServer *server, const char *database, char **ret);

/* Runs statements in DATABASE; returns the number in the first column and row of the last one, or 0. */
long postgres_server_run(const PostgresServer *server, const char *database, const char *sql);
