/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one thread that writes. It takes all batches that are there into one transaction; if that comes to
 * nothing, each gets one of its own, so that one that cannot be stored does not take others with it. The
 * thread shares with the loop what is named under the mutex, and nothing else. */

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <utlist.h>

#include "io/task-store-internal.h"

#define GROUP_BYTES_MAX  (16 * 1024 * 1024) /* of one transaction, roughly */
#define FREE_PAGES_MAX   4096               /* kept in the file for what comes */
#define VACUUM_PAGES     1024               /* given back at a time */
#define OUTPUT_ROW_BYTES (128 * 1024)       /* who reads some bytes of a row has it read whole */

static const char *const statement_texts[] = {
        [WRITE_TASK] = "INSERT INTO tasks (seq, task_id, state, priority, retries, losses, stop_requested, "
                       "submit_usec, queue_usec, not_before_usec, finish_usec, result) "
                       "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [WRITE_SPEC] = "INSERT INTO specs (seq, spec) VALUES (?, ?)",
        [WRITE_LABEL] = "INSERT INTO labels (label, seq) VALUES (?, ?)",
        [WRITE_TASK_UPDATE] = "UPDATE tasks SET state = ?2, priority = ?3, retries = ?4, losses = ?5, "
                              "stop_requested = ?6, queue_usec = ?7, not_before_usec = ?8 WHERE seq = ?1",
        [WRITE_TASK_FINISH] = "UPDATE tasks SET state = ?2, finish_usec = ?3, result = ?4 WHERE seq = ?1",
        [WRITE_TASK_RETRY] =
                        "UPDATE tasks SET state = 'queued', retries = 0, losses = 0, stop_requested = 0, "
                        "queue_usec = ?2, not_before_usec = 0, finish_usec = 0, result = NULL "
                        "WHERE seq = ?1 AND state NOT IN ('queued', 'running')",
        [WRITE_DEPENDENCY] =
                        "INSERT INTO dependencies (on_id, seq, failed) SELECT ?2, ?1, coalesce("
                        "(SELECT state NOT IN ('queued', 'running') FROM tasks WHERE task_id = ?2), 1) "
                        "WHERE coalesce((SELECT state FROM tasks WHERE task_id = ?2), '') <> 'completed'",
        [WRITE_DEPENDENTS_COMPLETED] = "DELETE FROM dependencies "
                                       "WHERE on_id = (SELECT task_id FROM tasks WHERE seq = ?)",
        [WRITE_DEPENDENTS_FAILED] = "UPDATE dependencies SET failed = 1 "
                                    "WHERE on_id = (SELECT task_id FROM tasks WHERE seq = ?)",
        [WRITE_TASK_DELETE] = "DELETE FROM tasks WHERE seq = ?",
        [WRITE_SPEC_DELETE] = "DELETE FROM specs WHERE seq = ?",
        [WRITE_LABELS_DELETE] = "DELETE FROM labels WHERE seq = ?",
        [WRITE_ATTEMPTS_DELETE] = "DELETE FROM attempts WHERE seq = ?",
        [WRITE_OUTPUTS_DELETE] = "DELETE FROM outputs WHERE seq = ?",
        [WRITE_DEPENDENCIES_DELETE] = "DELETE FROM dependencies WHERE seq = ?",
        [WRITE_ATTEMPT] = "REPLACE INTO attempts (seq, number, state, worker_id, runner_task_id, "
                          "runner_instance, place_usec, finish_usec, unanswered, attempt) "
                          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [WRITE_OUTPUT] = "REPLACE INTO outputs (seq, number, stream, position, bytes) VALUES (?, ?, ?, ?, ?)",
        [WRITE_WORKER] =
                        "REPLACE INTO workers (worker_id, disabled, joined, leaving, url, before_url, token) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [WRITE_WORKER_DELETE] = "DELETE FROM workers WHERE worker_id = ?",
        [WRITE_FACT] = "REPLACE INTO facts (key, value) VALUES (?, ?)",
        /* The oldest: as many as are too old, or as are too many. */
        [WRITE_PRUNE_FIND] = "SELECT seq FROM tasks WHERE finish_usec > 0 ORDER BY finish_usec, seq "
                             "LIMIT min(?3, max("
                             "(SELECT count(*) FROM tasks WHERE finish_usec > 0 AND finish_usec < ?2), "
                             "(SELECT count(*) FROM tasks WHERE finish_usec > 0) - ?1))",
};
_Static_assert(sizeof(statement_texts) / sizeof(*statement_texts) == _WRITE_STATEMENT_MAX,
               "a text for each statement");

void store_write_free(StoreWrite *write) {
        store_batch_free(write->batch);
        free(write);
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

/* The parameters of a statement, bound one after the other. Nothing is copied: a change lives longer than its
 * statement runs. */
typedef struct Binder {
        sqlite3_stmt *statement;
        int position;
        int code;
} Binder;

static Binder binder(StoreWriter *writer, WriteStatement statement) {
        return (Binder) { .statement = writer->statements[statement], .code = SQLITE_OK };
}

static void bind_number(Binder *to, uint64_t number) {
        if (to->code == SQLITE_OK)
                to->code = sqlite3_bind_int64(to->statement, ++to->position, (int64_t) number);
}

static void bind_text(Binder *to, const char *text) {
        if (to->code == SQLITE_OK)
                to->code = sqlite3_bind_text(to->statement, ++to->position, text, -1, SQLITE_STATIC);
}

static void bind_bytes(Binder *to, const void *bytes, size_t size) {
        if (to->code == SQLITE_OK)
                to->code = sqlite3_bind_blob64(to->statement, ++to->position, bytes, size, SQLITE_STATIC);
}

static int binder_run(StoreWriter *writer, const Binder *bound) {
        int r = bound->code == SQLITE_OK        ? statement_run(writer->db, bound->statement) :
                        store_error(writer->db) ?:
                                                  -ENOMEM;
        (void) sqlite3_clear_bindings(bound->statement);
        return r;
}

/* For a change of what must be there. */
static int binder_run_on_row(StoreWriter *writer, const Binder *bound) {
        int r = binder_run(writer, bound);
        return r >= 0 && sqlite3_changes(writer->db) == 0 ? -ENOENT : r;
}

/* For a statement that is only told the task. */
static int run_for_task(StoreWriter *writer, WriteStatement statement, uint64_t seq) {
        Binder row = binder(writer, statement);
        bind_number(&row, seq);
        return binder_run(writer, &row);
}

static int put_task(StoreWriter *writer, const StoredTask *task, char *const *labels) {
        Binder row = binder(writer, WRITE_TASK);
        bind_number(&row, task->seq);
        bind_text(&row, task->task_id);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, (uint64_t) task->priority);
        bind_number(&row, task->retries);
        bind_number(&row, task->losses);
        bind_number(&row, task->stop_requested);
        bind_number(&row, task->submit_usec);
        bind_number(&row, task->queue_usec);
        bind_number(&row, task->not_before_usec);
        bind_number(&row, task->finish_usec);
        bind_text(&row, task->result);
        int r = binder_run(writer, &row);
        Binder spec = binder(writer, WRITE_SPEC);
        bind_number(&spec, task->seq);
        bind_text(&spec, task->spec);
        if (r >= 0)
                r = binder_run(writer, &spec);
        for (; r >= 0 && labels && *labels; labels++) {
                Binder label = binder(writer, WRITE_LABEL);
                bind_text(&label, *labels);
                bind_number(&label, task->seq);
                r = binder_run(writer, &label);
        }
        return r;
}

static int update_task(StoreWriter *writer, const StoredTask *task) {
        Binder row = binder(writer, WRITE_TASK_UPDATE);
        bind_number(&row, task->seq);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, (uint64_t) task->priority);
        bind_number(&row, task->retries);
        bind_number(&row, task->losses);
        bind_number(&row, task->stop_requested);
        bind_number(&row, task->queue_usec);
        bind_number(&row, task->not_before_usec);
        return binder_run_on_row(writer, &row);
}

static int finish_task(StoreWriter *writer, const StoredTask *task) {
        Binder row = binder(writer, WRITE_TASK_FINISH);
        bind_number(&row, task->seq);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, task->finish_usec);
        bind_text(&row, task->result);
        int r = binder_run_on_row(writer, &row);
        return r < 0 ? r :
                       run_for_task(writer,
                                    task->state == STORED_COMPLETED ? WRITE_DEPENDENTS_COMPLETED :
                                                                      WRITE_DEPENDENTS_FAILED,
                                    task->seq);
}

static int retry_task(StoreWriter *writer, const StoredTask *task) {
        Binder row = binder(writer, WRITE_TASK_RETRY);
        bind_number(&row, task->seq);
        bind_number(&row, task->queue_usec);
        int r = binder_run_on_row(writer, &row);
        return r < 0 ? r : run_for_task(writer, WRITE_OUTPUTS_DELETE, task->seq);
}

static int set_dependencies(StoreWriter *writer, const StoreChange *change) {
        int r = run_for_task(writer, WRITE_DEPENDENCIES_DELETE, change->seq);
        for (char *const *id = change->dependencies; r >= 0 && id && *id; id++) {
                Binder row = binder(writer, WRITE_DEPENDENCY);
                bind_number(&row, change->seq);
                bind_text(&row, *id);
                r = binder_run(writer, &row);
        }
        return r;
}

static int put_attempt(StoreWriter *writer, uint64_t seq, const StoredAttempt *attempt) {
        Binder row = binder(writer, WRITE_ATTEMPT);
        bind_number(&row, seq);
        bind_number(&row, attempt->number);
        bind_text(&row, stored_attempt_state_to_string(attempt->state));
        bind_text(&row, attempt->worker_id);
        bind_text(&row, attempt->runner_task_id);
        bind_text(&row, attempt->runner_instance);
        bind_number(&row, attempt->place_usec);
        bind_number(&row, attempt->finish_usec);
        bind_number(&row, attempt->unanswered);
        bind_text(&row, attempt->attempt);
        return binder_run(writer, &row);
}

static int append_output(StoreWriter *writer, const StoreChange *change) {
        int r = 0;
        size_t size = change->output.size;
        for (size_t i = 0; r >= 0 && i < size; i += OUTPUT_ROW_BYTES) {
                Binder row = binder(writer, WRITE_OUTPUT);
                bind_number(&row, change->seq);
                bind_number(&row, change->output.number);
                bind_number(&row, change->output.stream);
                bind_number(&row, change->output.offset + i);
                bind_bytes(&row,
                           (const char *) change->output.bytes + i,
                           size - i < OUTPUT_ROW_BYTES ? size - i : OUTPUT_ROW_BYTES);
                r = binder_run(writer, &row);
        }
        return r;
}

static int put_worker(StoreWriter *writer, const StoredWorker *worker) {
        Binder row = binder(writer, WRITE_WORKER);
        bind_text(&row, worker->worker_id);
        bind_number(&row, worker->disabled);
        bind_number(&row, worker->joined);
        bind_number(&row, worker->leaving);
        bind_text(&row, worker->url);
        bind_text(&row, worker->before_url);
        bind_text(&row, worker->token);
        return binder_run(writer, &row);
}

static int delete_worker(StoreWriter *writer, const char *worker_id) {
        Binder row = binder(writer, WRITE_WORKER_DELETE);
        bind_text(&row, worker_id);
        return binder_run(writer, &row);
}

static int put_fact(StoreWriter *writer, const StoreChange *change) {
        Binder row = binder(writer, WRITE_FACT);
        bind_text(&row, change->fact.key);
        bind_text(&row, change->fact.value);
        return binder_run(writer, &row);
}

static int delete_task(StoreWriter *writer, uint64_t seq) {
        int r = 0;
        for (WriteStatement i = WRITE_TASK_DELETE; r >= 0 && i <= WRITE_DEPENDENCIES_DELETE; i++)
                r = run_for_task(writer, i, seq);
        return r;
}

static int change_run(StoreWriter *writer, const StoreChange *change) {
        switch (change->type) {
        case STORE_PUT_TASK:
                return put_task(writer, &change->task, change->labels);
        case STORE_UPDATE_TASK:
                return update_task(writer, &change->task);
        case STORE_FINISH_TASK:
                return finish_task(writer, &change->task);
        case STORE_RETRY_TASK:
                return retry_task(writer, &change->task);
        case STORE_DELETE_TASK:
                return delete_task(writer, change->seq);
        case STORE_SET_DEPENDENCIES:
                return set_dependencies(writer, change);
        case STORE_PUT_ATTEMPT:
                return put_attempt(writer, change->seq, &change->attempt);
        case STORE_APPEND_OUTPUT:
                return append_output(writer, change);
        case STORE_PUT_WORKER:
                return put_worker(writer, &change->worker);
        case STORE_DELETE_WORKER:
                return delete_worker(writer, change->worker.worker_id);
        case STORE_PUT_FACT:
                return put_fact(writer, change);
        }
        return -EINVAL;
}

static int64_t limited(uint64_t value) {
        return value < INT64_MAX ? (int64_t) value : INT64_MAX;
}

/* Returns how many tasks went. The search is over before they are deleted one by one. */
static int prune_run(StoreWriter *writer, const StoreWrite *write) {
        int64_t found[STORE_PRUNE_MAX];
        int n = 0;
        sqlite3_stmt *find = writer->statements[WRITE_PRUNE_FIND];
        (void) sqlite3_bind_int64(find, 1, limited(write->prune_keep));
        (void) sqlite3_bind_int64(find, 2, limited(write->prune_before_usec));
        (void) sqlite3_bind_int64(find, 3, limited(write->prune_limit));
        int step;
        while ((step = sqlite3_step(find)) == SQLITE_ROW && n < STORE_PRUNE_MAX)
                found[n++] = sqlite3_column_int64(find, 0);
        int r = step == SQLITE_ROW || step == SQLITE_DONE ? 0 : store_error(writer->db);
        (void) sqlite3_reset(find);
        for (int i = 0; r >= 0 && i < n; i++)
                r = delete_task(writer, (uint64_t) found[i]);
        return r < 0 ? r : n;
}

static int write_run(StoreWriter *writer, const StoreWrite *write) {
        int r = 0;
        if (!write->batch)
                return prune_run(writer, write);
        for (const StoreChange *change = write->batch->first; r >= 0 && change; change = change->next)
                r = change_run(writer, change);
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
static int group_run(StoreWriter *writer, StoreWrite *first, const StoreWrite *end) {
        if (writer->broken < 0)
                return writer->broken;
        int r = statement_run(writer->db, writer->begin);
        if (r < 0)
                return r;
        for (StoreWrite *write = first; r >= 0 && write != end; write = write->next)
                r = write->result = write_run(writer, write);
        return transaction_end(writer, r);
}

static const StoreWrite *group_end(const StoreWrite *first) {
        size_t bytes = 0;
        while (first && bytes < GROUP_BYTES_MAX) {
                bytes += first->bytes;
                first = first->next;
        }
        return first;
}

static bool group_has_prune(const StoreWrite *first, const StoreWrite *end) {
        for (; first != end; first = first->next)
                if (!first->batch)
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

static void store_group(StoreWriter *writer, StoreWrite *first, const StoreWrite *end) {
        int r = group_run(writer, first, end);
        if (r >= 0 && group_has_prune(first, end))
                give_back(writer);
        if (r >= 0)
                return;
        bool alone = first->next == end;
        for (StoreWrite *write = first; write != end; write = write->next) {
                int own = alone ? r : group_run(writer, write, write->next);
                if (own < 0)
                        write->result = own;
        }
}

static void move_first(StoreWrite **from, StoreWrite **to) {
        StoreWrite *write = *from;
        DL_DELETE(*from, write);
        DL_APPEND(*to, write);
}

/* Hands back, in order, what was stored or not. */
static void report(StoreWriter *writer, StoreWrite **taken, const StoreWrite *end) {
        (void) pthread_mutex_lock(&writer->mutex);
        while (*taken != end)
                move_first(taken, &writer->done);
        (void) pthread_mutex_unlock(&writer->mutex);
        (void) eventfd_write(writer->done_fd, 1);
}

static void *writer_main(void *userdata) {
        StoreWriter *writer = userdata;
        for (;;) {
                (void) pthread_mutex_lock(&writer->mutex);
                while (!writer->todo && !writer->stopping)
                        (void) pthread_cond_wait(&writer->changed, &writer->mutex);
                StoreWrite *taken = TAKE_PTR(writer->todo);
                (void) pthread_mutex_unlock(&writer->mutex);
                if (!taken)
                        return NULL;
                while (taken) {
                        const StoreWrite *end = group_end(taken);
                        store_group(writer, taken, end);
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
        assert(!writer->todo);
}

void store_writer_done(StoreWriter *writer) {
        store_writer_stop(writer);
        for (StoreWrite *write = writer->done, *next; write; write = next) {
                next = write->next;
                store_write_free(write);
        }
        writer->done = NULL;
        for (size_t i = 0; i < _WRITE_STATEMENT_MAX; i++)
                sqlite_statement_finish(&writer->statements[i]);
        sqlite_statement_finish(&writer->begin);
        sqlite_statement_finish(&writer->commit);
        (void) sqlite3_close(writer->db);
        writer->db = NULL;
        fd_close(&writer->done_fd);
}
