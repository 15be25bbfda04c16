/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the parts of the store share: postgres-store.c (its two sessions, and the life of it),
 * postgres-store-write.c (batches on their way into the database), postgres-store-change.c (the statements
 * that a change is), postgres-store-read.c (what is read). */
#pragma once

#include "io/postgres-result.h"
#include "queue/postgres-store.h"

/* A connection that is made again when it is lost. */
typedef struct StoreSession StoreSession;
struct StoreSession {
        PostgresStore *store; /* weak */
        const char *name;
        const PostgresStatement *statements;
        size_t n_statements;
        Postgres *postgres;         /* NULL: between two tries */
        bool is_ready;              /* it was begun, see below, and can be used */
        bool was_ready, is_trouble; /* ever; was logged */
        sd_event_source *retry_source;
        usec_t backoff_usec;

        /* Connected: sends what is needed to begin. store_session_is_ready() or store_session_drop() follow.
         */
        int (*begin)(PostgresStore *store);
};

/* Gives the connection up and makes another one, after a while; MESSAGE says why, for people. Not ready any
 * more, and nothing of what was sent is answered. */
void store_session_drop(StoreSession *session, const char *message);
void store_session_is_ready(StoreSession *session);

/* A batch on its way into the database, or a request to prune. */
typedef struct StoreWrite StoreWrite;
struct StoreWrite {
        StoreBatch *batch; /* NULL: prune */
        size_t bytes;
        usec_t prune_before_usec;
        uint64_t prune_keep, prune_limit;
        StoreDone done;
        void *userdata;
        PostgresStore *store; /* weak */
        int result;
        bool failed; /* by itself: the others of its group go without it */
        StoreWrite *next;
};

typedef struct WriteQueue {
        StoreWrite *first, *last;
} WriteQueue;

typedef struct StoreWriter {
        StoreSession session;
        WriteQueue todo;
        WriteQueue group; /* being written, in one transaction, or to be written again */
        bool is_sent;     /* the group was, by the session that is */
        uint64_t number;  /* of that write; 0: it was never sent */
        uint64_t written; /* how many there were under this epoch */
        size_t n_alone;   /* so many are written one by one, for one of them cannot be */
        unsigned n_culprits;
        StoreWrite *culprit; /* the first of the group that failed */
        int refusal;         /* of the last write, if it was refused */
        size_t pending_bytes;
        sd_event_source *pump_source;
} StoreWriter;

typedef struct StoreRead StoreRead;

typedef struct StoreReader {
        StoreSession session;
        StoreRead *first_read, *last_read; /* that wait or are under way, the oldest first */
        char *queue_id;
        /* Numbers for new tasks: the range in use, and the next one. */
        uint64_t next_seq, end_seq, reserve_seq;
        bool range_asked;
} StoreReader;

struct PostgresStore {
        sd_event *event;
        PostgresStoreOptions options;
        StoreWriter writer;
        StoreReader reader;
        bool told_ready;
        int over; /* nothing is written any more, for this negative errno */
        sd_event_source *tell_source;
};

/* Nothing can be written any more, for R, and nothing will be read. Told later. */
void store_fence(PostgresStore *store, int r);

/* postgres-store-write.c */

int postgres_writer_init(PostgresStore *store);
void postgres_writer_done(StoreWriter *writer);

/* Tells everybody that the store is not ours any more. */
void postgres_writer_fail(StoreWriter *writer);

int store_commit(PostgresStore *store, StoreBatch *batch, StoreDone done, void *userdata);
int store_prune(PostgresStore *store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreDone done,
                void *userdata);

/* postgres-store-change.c */

extern const PostgresStatement store_write_statements[];
extern const size_t store_n_write_statements;

int store_send_begin(Postgres *postgres, uint64_t epoch, PostgresDone done, void *userdata);
int store_send_fence(Postgres *postgres, uint64_t epoch, uint64_t number, PostgresDone done, void *userdata);

/* Sends the statements of all changes of WRITE's batch, or those that prune. DONE is called for each of them,
 * with WRITE. */
int store_send_write(Postgres *postgres, StoreWrite *write, PostgresDone done);

/* postgres-store-read.c */

void postgres_reader_init(PostgresStore *store);
void postgres_reader_done(StoreReader *reader);
void postgres_reader_fail(StoreReader *reader);

/* What was under way when the connection was lost waits for the next one. */
void postgres_reader_interrupted(StoreReader *reader);

int store_get(PostgresStore *store,
              const char *task_id,
              const StoreWanted *wanted,
              StoreGot done,
              void *userdata);
int store_list(PostgresStore *store, const StoreFilter *filter, StoreListed done, void *userdata);
int store_read(PostgresStore *store,
               uint64_t seq,
               uint64_t number,
               StoredStream stream,
               uint64_t offset,
               size_t size,
               StoreHasRead done,
               void *userdata);
int store_load(PostgresStore *store, const StoreLoader *loader);
uint64_t store_next_seq(PostgresStore *store);
