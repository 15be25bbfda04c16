/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the parts of the store share: task-store.c (opening, closing), task-store-schema.c (tables and their
 * versions), task-store-write.c (the thread that writes it), task-store-read.c. */
#pragma once

#include <pthread.h>
#include <sqlite3.h>

#include "base/text.h"
#include "io/task-store.h"

/* Every statement that the writer knows, prepared once. */
typedef enum WriteStatement {
        WRITE_TASK,
        WRITE_SPEC,
        WRITE_LABEL,
        WRITE_TASK_UPDATE,
        WRITE_TASK_FINISH,
        WRITE_TASK_RETRY,
        WRITE_DEPENDENCY,
        WRITE_DEPENDENTS_COMPLETED,
        WRITE_DEPENDENTS_FAILED,
        WRITE_TASK_DELETE,
        WRITE_SPEC_DELETE,
        WRITE_LABELS_DELETE,
        WRITE_ATTEMPTS_DELETE,
        WRITE_OUTPUTS_DELETE,
        WRITE_DEPENDENCIES_DELETE,
        WRITE_ATTEMPT,
        WRITE_OUTPUT,
        WRITE_WORKER,
        WRITE_WORKER_DELETE,
        WRITE_FACT,
        WRITE_PRUNE_FIND,
        _WRITE_STATEMENT_MAX,
} WriteStatement;

typedef enum ReadStatement {
        READ_LIVE,
        READ_WORKERS,
        READ_TASK,
        READ_ATTEMPTS,
        READ_DEPENDENCIES,
        READ_LIVE_DEPENDENCIES,
        READ_OUTPUT,
        READ_OUTPUT_SIZE,
        READ_FACT,
        READ_NEWEST_RESULT,
        _READ_STATEMENT_MAX,
} ReadStatement;

/* A batch on its way to the disk, or a request to prune. */
typedef struct StoreWrite StoreWrite;
struct StoreWrite {
        StoreBatch *batch; /* NULL: prune */
        size_t bytes;
        usec_t prune_before_usec;
        uint64_t prune_keep, prune_limit;
        StoreCommitted callback;
        void *userdata;
        int result;
        StoreWrite *prev, *next;
};

void store_write_free(StoreWrite *write);

typedef struct StoreWriter {
        sqlite3 *db;
        sqlite3_stmt *statements[_WRITE_STATEMENT_MAX];
        sqlite3_stmt *begin, *commit;

        pthread_t thread;
        bool started;
        pthread_mutex_t mutex;
        pthread_cond_t changed;

        /* Under the mutex: */
        StoreWrite *todo, *done;
        bool stopping;

        int done_fd; /* eventfd: something is in done */
        int broken;  /* the writer's own: negative errno for everything from now on */
} StoreWriter;

struct TaskStore {
        sd_event *event;
        sd_event_source *done_source;
        int lock_fd;
        StoreWriter writer;
        sqlite3 *reader;
        sqlite3_stmt *reads[_READ_STATEMENT_MAX];
        char *queue_id;
        uint64_t seq;
        size_t pending_bytes;
        bool in_callback;
};

/* The negative errno for what SQLite said last on DB. */
int store_error(sqlite3 *db);

/* Prepares what is used again and again. -EUCLEAN when the tables are not what they should be. */
int store_prepare(sqlite3 *db, const char *text, sqlite3_stmt **ret);

void sqlite_statement_finish(sqlite3_stmt **statement);

/* task-store-schema.c */

#define STORE_APPLICATION_ID 0x64616767 /* "dagg" */

/* How version 1 was made, and of each version the next. What was released is never changed: add a step. */
typedef struct SchemaStep {
        const char *sql;
} SchemaStep;
extern const SchemaStep store_schema_steps[];
extern const size_t store_n_schema_steps;

/* Brings DB from its user_version to N_STEPS, each step in a transaction of its own. -ENOTSUP when it is
 * beyond. */
int store_schema_migrate(sqlite3 *db, const SchemaStep *steps, size_t n_steps);

/* Makes a store of version N_STEPS at PATH, whole or not at all. */
int store_schema_create(const char *path, const SchemaStep *steps, size_t n_steps);

/* Whether DB is ours, of version N_STEPS or before, and, as far as that can be found out in some seconds,
 * sound. Writes nothing. -EMEDIUMTYPE, -ENOTSUP, -EUCLEAN. */
int store_schema_check(sqlite3 *db, size_t n_steps);

/* task-store-write.c */

int store_writer_prepare(StoreWriter *writer);
int store_writer_start(StoreWriter *writer);

/* Has everything written that is to be, and ends the thread. */
void store_writer_stop(StoreWriter *writer);
void store_writer_done(StoreWriter *writer);

/* task-store-read.c */

int store_reader_prepare(TaskStore *store);
void store_reader_done(TaskStore *store);
