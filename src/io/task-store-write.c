/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one thread that writes. It takes all batches that are there into one transaction; if that comes to
 * nothing, each gets one of its own, so that one that cannot be stored does not take others with it. The
 * thread shares with the loop what is named under the mutex, and nothing else. */

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "io/task-store-internal.h"

#define GROUP_BYTES_MAX (16 * 1024 * 1024) /* of one transaction, roughly */
#define FREE_PAGES_MAX  4096               /* kept in the file for what comes */
#define VACUUM_PAGES    1024               /* given back at a time */

static const char *const statement_texts[] = {
        [WRITE_TASK] = "INSERT INTO tasks (seq, task_id, state, priority, retries, stop_reason, submit_usec, "
                       "queue_usec, not_before_usec, finish_usec, spec_hash, result) "
                       "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [WRITE_SPEC] = "INSERT INTO specs (seq, spec) VALUES (?, ?)",
        [WRITE_LABEL] = "INSERT INTO labels (label, seq) VALUES (?, ?)",
        [WRITE_TASK_UPDATE] = "UPDATE tasks SET state = ?2, priority = ?3, retries = ?4, stop_reason = ?5, "
                              "queue_usec = ?6, not_before_usec = ?7 WHERE seq = ?1",
        [WRITE_TASK_FINISH] = "UPDATE tasks SET state = ?2, finish_usec = ?3, result = ?4 WHERE seq = ?1",
        [WRITE_TASK_DELETE] = "DELETE FROM tasks WHERE seq = ?",
        [WRITE_SPEC_DELETE] = "DELETE FROM specs WHERE seq = ?",
        [WRITE_LABELS_DELETE] = "DELETE FROM labels WHERE seq = ?",
        [WRITE_ATTEMPTS_DELETE] = "DELETE FROM attempts WHERE seq = ?",
        [WRITE_OUTPUTS_DELETE] = "DELETE FROM outputs WHERE seq = ?",
        [WRITE_ATTEMPT] = "REPLACE INTO attempts (seq, number, state, worker_id, runner_task_id, "
                          "runner_instance, lease_id, place_usec, start_usec, finish_usec, attempt) "
                          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [WRITE_OUTPUT] = "REPLACE INTO outputs (seq, number, stream, position, bytes) VALUES (?, ?, ?, ?, ?)",
        [WRITE_WORKER] = "REPLACE INTO workers (worker_id, disabled, lease_id, runner_instance, "
                         "lease_expires_usec) VALUES (?, ?, ?, ?, ?)",
        /* The oldest: as many as are too old, or as are too many. */
        [WRITE_PRUNE_FIND] = "SELECT seq FROM tasks WHERE finish_usec > 0 ORDER BY finish_usec, seq "
                             "LIMIT min(?3, max("
                             "(SELECT count(*) FROM tasks WHERE finish_usec > 0 AND finish_usec < ?2), "
                             "(SELECT count(*) FROM tasks WHERE finish_usec > 0) - ?1))",
};
_Static_assert(sizeof(statement_texts) / sizeof(*statement_texts) == _WRITE_STATEMENT_MAX,
               "a text for each statement");

void batch_queue_append(BatchQueue *queue, StoreBatch *batch) {
        batch->next = NULL;
        if (queue->last)
                queue->last->next = batch;
        else
                queue->first = batch;
        queue->last = batch;
}

StoreBatch *batch_queue_take_first(BatchQueue *queue) {
        StoreBatch *batch = queue->first;
        if (!batch)
                return NULL;
        queue->first = batch->next;
        if (!queue->first)
                queue->last = NULL;
        batch->next = NULL;
        return batch;
}

int store_writer_prepare(StoreWriter *writer) {
        int r = store_prepare(writer->db, "BEGIN IMMEDIATE", &writer->begin);
        if (r >= 0)
                r = store_prepare(writer->db, "COMMIT", &writer->commit);
        for (size_t i = 0; r >= 0 && i < _WRITE_STATEMENT_MAX; i++)
                r = store_prepare(writer->db, statement_texts[i], &writer->statements[i]);
        return r;
}

static int statement_run(sqlite3 *db, sqlite3_stmt *statement) {
        int r = sqlite3_step(statement) == SQLITE_DONE ? 0 : store_error(db) ?: -EIO;
        (void) sqlite3_reset(statement);
        return r;
}

/* Bound without a copy: the operation lives longer than the statement runs. */
static int value_bind(sqlite3_stmt *statement, int position, const BatchValue *value) {
        switch (value->type) {
        case VALUE_NULL:
                return sqlite3_bind_null(statement, position);
        case VALUE_NUMBER:
                return sqlite3_bind_int64(statement, position, value->number);
        case VALUE_TEXT:
                return sqlite3_bind_text64(
                                statement, position, value->bytes, value->size, SQLITE_STATIC, SQLITE_UTF8);
        case VALUE_BYTES:
                return sqlite3_bind_blob64(statement, position, value->bytes, value->size, SQLITE_STATIC);
        }
        return SQLITE_MISUSE;
}

static int operation_run(StoreWriter *writer, const BatchOperation *operation) {
        sqlite3_stmt *statement = writer->statements[operation->statement];
        for (size_t i = 0; i < operation->n_values; i++)
                if (value_bind(statement, (int) i + 1, &operation->values[i]) != SQLITE_OK)
                        return store_error(writer->db) ?: -ENOMEM;
        int r = statement_run(writer->db, statement);
        (void) sqlite3_clear_bindings(statement);
        bool must_exist = operation->statement == WRITE_TASK_UPDATE ||
                        operation->statement == WRITE_TASK_FINISH;
        return r >= 0 && must_exist && sqlite3_changes(writer->db) == 0 ? -ENOENT : r;
}

static int delete_task(StoreWriter *writer, int64_t seq) {
        for (WriteStatement i = WRITE_TASK_DELETE; i <= WRITE_OUTPUTS_DELETE; i++) {
                (void) sqlite3_bind_int64(writer->statements[i], 1, seq);
                int r = statement_run(writer->db, writer->statements[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int64_t limited(uint64_t value) {
        return value < INT64_MAX ? (int64_t) value : INT64_MAX;
}

/* Returns how many tasks went. The search is over before they are deleted one by one. */
static int prune_run(StoreWriter *writer, const StoreBatch *batch) {
        int64_t found[STORE_PRUNE_MAX];
        int n = 0;
        sqlite3_stmt *find = writer->statements[WRITE_PRUNE_FIND];
        (void) sqlite3_bind_int64(find, 1, limited(batch->prune_keep));
        (void) sqlite3_bind_int64(find, 2, limited(batch->prune_before_usec));
        (void) sqlite3_bind_int64(find, 3, limited(batch->prune_limit));
        int step;
        while ((step = sqlite3_step(find)) == SQLITE_ROW && n < STORE_PRUNE_MAX)
                found[n++] = sqlite3_column_int64(find, 0);
        int r = step == SQLITE_ROW || step == SQLITE_DONE ? 0 : store_error(writer->db);
        (void) sqlite3_reset(find);
        for (int i = 0; r >= 0 && i < n; i++)
                r = delete_task(writer, found[i]);
        return r < 0 ? r : n;
}

static int batch_run(StoreWriter *writer, const StoreBatch *batch) {
        int r = 0;
        if (batch->prune)
                return prune_run(writer, batch);
        for (const BatchOperation *operation = batch->first; r >= 0 && operation; operation = operation->next)
                r = operation_run(writer, operation);
        return r;
}

/* Nobody can tell any more what is on disk: the kernel may have dropped what it could not write, and not say
 * so again. */
static bool sync_failed(sqlite3 *db) {
        int code = sqlite3_extended_errcode(db);
        return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
}

static int transaction_end(StoreWriter *writer, int r) {
        if (r >= 0)
                r = statement_run(writer->db, writer->commit);
        if (r >= 0)
                return 0;
        if (sync_failed(writer->db))
                writer->broken = -EIO;
        if (!sqlite3_get_autocommit(writer->db)) /* otherwise SQLite has undone it already */
                (void) sqlite3_exec(writer->db, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

/* Stores the batches from FIRST up to, not including, END in one transaction: all or none. */
static int group_run(StoreWriter *writer, StoreBatch *first, const StoreBatch *end) {
        if (writer->broken < 0)
                return writer->broken;
        int r = statement_run(writer->db, writer->begin);
        if (r < 0)
                return r;
        for (StoreBatch *batch = first; r >= 0 && batch != end; batch = batch->next)
                r = batch->result = batch_run(writer, batch);
        return transaction_end(writer, r);
}

static const StoreBatch *group_end(const StoreBatch *first) {
        size_t bytes = 0;
        while (first && bytes < GROUP_BYTES_MAX) {
                bytes += first->bytes;
                first = first->next;
        }
        return first;
}

static bool group_has_prune(const StoreBatch *first, const StoreBatch *end) {
        for (; first != end; first = first->next)
                if (first->prune)
                        return true;
        return false;
}

/* Gives back to the file system a part of what is free in the file. */
static void give_back(StoreWriter *writer) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *count = NULL;
        if (store_prepare(writer->db, "PRAGMA freelist_count", &count) < 0 ||
            sqlite3_step(count) != SQLITE_ROW ||
            sqlite3_column_int64(count, 0) <= FREE_PAGES_MAX + VACUUM_PAGES)
                return;
        sqlite_statement_finish(&count);
        char sql[64];
        (void) sqlite3_snprintf(sizeof(sql), sql, "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
        (void) sqlite3_exec(writer->db, sql, NULL, NULL, NULL);
}

static void store_group(StoreWriter *writer, StoreBatch *first, const StoreBatch *end) {
        int r = group_run(writer, first, end);
        if (r >= 0 && group_has_prune(first, end))
                give_back(writer);
        if (r >= 0)
                return;
        bool alone = first->next == end;
        for (StoreBatch *batch = first; batch != end; batch = batch->next) {
                int own = alone ? r : group_run(writer, batch, batch->next);
                if (own < 0)
                        batch->result = own;
        }
}

/* Hands back, in order, what was stored or not. */
static void report(StoreWriter *writer, BatchQueue *taken, const StoreBatch *end) {
        (void) pthread_mutex_lock(&writer->mutex);
        while (taken->first != end)
                batch_queue_append(&writer->done, batch_queue_take_first(taken));
        (void) pthread_mutex_unlock(&writer->mutex);
        (void) eventfd_write(writer->done_fd, 1);
}

static void *writer_main(void *userdata) {
        StoreWriter *writer = userdata;
        for (;;) {
                (void) pthread_mutex_lock(&writer->mutex);
                while (!writer->todo.first && !writer->stopping)
                        (void) pthread_cond_wait(&writer->changed, &writer->mutex);
                BatchQueue taken = writer->todo;
                writer->todo = (BatchQueue){};
                (void) pthread_mutex_unlock(&writer->mutex);
                if (!taken.first)
                        return NULL;
                while (taken.first) {
                        const StoreBatch *end = group_end(taken.first);
                        store_group(writer, taken.first, end);
                        report(writer, &taken, end);
                }
        }
}

int store_writer_start(StoreWriter *writer) {
        sigset_t all, before;
        writer->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (writer->done_fd < 0)
                return -errno;
        (void) pthread_mutex_init(&writer->mutex, NULL);
        (void) pthread_cond_init(&writer->changed, NULL);
        /* Signals are the loop's. */
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&writer->thread, NULL, writer_main, writer);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        writer->started = r == 0;
        return -r;
}

void store_writer_stop(StoreWriter *writer) {
        if (!writer->started)
                return;
        (void) pthread_mutex_lock(&writer->mutex);
        writer->stopping = true;
        (void) pthread_cond_signal(&writer->changed);
        (void) pthread_mutex_unlock(&writer->mutex);
        (void) pthread_join(writer->thread, NULL);
        writer->started = false;
        (void) pthread_cond_destroy(&writer->changed);
        (void) pthread_mutex_destroy(&writer->mutex);
        assert(!writer->todo.first);
}

void store_writer_done(StoreWriter *writer) {
        store_writer_stop(writer);
        StoreBatch *batch;
        while ((batch = batch_queue_take_first(&writer->done)))
                store_batch_free(batch);
        for (size_t i = 0; i < _WRITE_STATEMENT_MAX; i++)
                sqlite_statement_finish(&writer->statements[i]);
        sqlite_statement_finish(&writer->begin);
        sqlite_statement_finish(&writer->commit);
        (void) sqlite3_close(writer->db);
        writer->db = NULL;
        fd_close(&writer->done_fd);
}
