/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the parts of the store share: postgres-store.c (its two sessions, and the life of it),
 * postgres-store-write.c (batches on their way into the database), postgres-store-change.c (the statements
 * that a change is), postgres-store-read.c (the session that reads), postgres-store-entries.c (tasks and
 * outputs as they are asked for), postgres-store-load.c (what a start needs). */
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
        Postgres *postgres; /* NULL: between two tries */
        bool is_ready;      /* it was begun, see below, and can be used */
        bool was_ready;     /* ever */
        char *trouble;      /* that was logged last; NULL: there is none */
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
        bool takes_results; /* it deletes or retries tasks */
        StoreDone done;
        void *userdata;
        PostgresStore *store; /* weak */
        int result;
        bool failed; /* by itself: the others of its group go without it */
        StoreWrite *prev, *next;
};

typedef struct StoreWriter {
        StoreSession session;
        StoreWrite *todo;
        StoreWrite *group; /* being written, in one transaction, or to be written again */
        bool is_sent;      /* the group was, by the session that is */
        uint64_t number;   /* of that write; 0: it was never sent */
        uint64_t written;  /* how many there were under this epoch */
        size_t n_alone;    /* so many are written one by one, for one of them cannot be */
        unsigned n_culprits;
        StoreWrite *culprit; /* the first of the group that failed */
        int refusal;         /* of the last write, if it was refused */
        bool warned;         /* that a failover would be risky */
        size_t pending_bytes;
        /* By so many more than prune_keep the last pruning has left, for the next one: to count a million
         * results takes longer than to delete some. 0: they are to be counted. May be too low, but never too
         * high. */
        uint64_t prune_keep, prune_excess;
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
        bool is_retired;
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

/* Asks whether there are standbys that no commit waits for: true in the first column. */
int store_send_is_risky(Postgres *postgres, PostgresDone done, void *userdata);
int store_send_fence(Postgres *postgres, uint64_t epoch, uint64_t number, PostgresDone done, void *userdata);

/* Sends the statements of all changes of WRITE's batch, or those that prune, which tell how many they have
 * deleted, and how many there are still too many. DONE is called for each of them, with WRITE. */
int store_send_write(Postgres *postgres, StoreWrite *write, PostgresDone done);

/* postgres-store-read.c: what all reads have in common. */

typedef enum ReadStatement {
        READ_BEGIN,
        READ_RANGE,
        READ_FACTS,
        READ_NEWEST_RESULT,
        READ_WORKERS,
        READ_LIVE,
        READ_LIVE_DEPENDENCIES,
        READ_TASK,
        READ_ATTEMPTS,
        READ_DEPENDENCIES,
        READ_OUTPUT_PART,
        READ_LIST,
        READ_LIST_STATE,
        READ_LIST_LABEL,
        READ_LIST_END,
        READ_LIST_ATTEMPTS,
        READ_OUTPUT,
        _READ_STATEMENT_MAX,
} ReadStatement;

#define READ_ANSWERS_MAX     3
#define READ_COLUMN_SPEC     12 /* of a row that has a task's columns first */
#define READ_TASK_COLUMNS    13
#define READ_ATTEMPT_COLUMNS 9

/* Sends its statements; and what is done with their answers, which are kept until the next question is asked
 * or the read is over: 1 when there is another question (read->question), 0 when it is over and was told. */
typedef struct StoreQuestion {
        int (*send)(StoreRead *read, Postgres *postgres);
        int (*answered)(StoreRead *read);
} StoreQuestion;

struct StoreRead {
        PostgresStore *store; /* weak */
        StoreRead *prev, *next;
        const StoreQuestion *question;
        bool is_sent;
        size_t n_answers;
        PostgresResult *answers[READ_ANSWERS_MAX];

        /* Tells that it came to nothing. */
        void (*fail)(const StoreRead *read, int r);
        void *userdata;
        union {
                StoreGot got;
                StoreListed listed;
                StoreHasRead has_read;
        } done;

        char *task_id;
        StoreWanted wanted;
        StoreFilter filter;
        char **labels; /* of the filter */
        uint64_t seq, number, offset;
        StoredStream stream;
        size_t size;
        StoreLoader loader;
        char *on_id; /* of the dependency that was loaded last */

        /* Of a question before: what an entry or a page is made of. */
        StoreEntry *entries;
        size_t n_entries;
        uint64_t next_page;
        StoredAttempt *attempts;
        StoredDependency *dependencies;
        PostgresResult *kept[READ_ANSWERS_MAX];
        char *outputs[STORED_STDERR + 1];
};

/* Begins a read like TEMPLATE, whose question is then to be asked. */
int store_read_begin(PostgresStore *store, const StoreRead *template, StoreRead **ret);
void store_read_ask(StoreRead *read);

/* For each statement of a question: keeps its result in READ's answers. */
void store_read_on_answer(int r, const PostgresResult *result, void *userdata);

/* The results of the last question stay until the end of READ, for what borrows from them. */
void store_read_keep_answers(StoreRead *read);

/* The values of a row, borrowed. -EUCLEAN when they are none. */
int store_row_task(const PostgresResult *result, size_t row, StoredTask *ret);
StoredDependency store_row_dependency(const PostgresResult *result, size_t row);

/* From column FIRST on. 0: there is none. */
int store_row_attempt(const PostgresResult *result, size_t row, size_t first, StoredAttempt *ret);

void postgres_reader_init(PostgresStore *store);
void postgres_reader_done(StoreReader *reader);
void postgres_reader_fail(StoreReader *reader);

/* What was under way when the connection was lost waits for the next one. */
void postgres_reader_interrupted(StoreReader *reader);

uint64_t store_next_seq(PostgresStore *store);

/* postgres-store-entries.c */

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

/* postgres-store-load.c */

int store_load(PostgresStore *store, const StoreLoader *loader);
