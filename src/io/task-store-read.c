/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the loop reads, through a connection of its own that sees what is committed. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/task-store-internal.h"

#define LIST_SCAN_MAX 5000 /* tasks of one label that are looked at for one page */

#define TASK_COLUMNS                                                                                    \
        "t.seq, t.task_id, t.state, t.priority, t.retries, t.losses, t.stop_requested, t.submit_usec, " \
        "t.queue_usec, t.not_before_usec, t.finish_usec, t.result, s.spec"
#define N_TASK_COLUMNS 13
#define ATTEMPT_COLUMNS                                                                                      \
        "a.number, a.state, a.worker_id, a.runner_task_id, a.runner_instance, a.place_usec, a.finish_usec, " \
        "a.unanswered, a.attempt"

/* Specifications are joined to the left: one that is missing is damage, and not a task that is not there. */
static const char *const statement_texts[] = {
        /* By "+" the index of states is not used, which would have all rows sorted in memory. */
        [READ_LIVE] = "SELECT " TASK_COLUMNS ", " ATTEMPT_COLUMNS " FROM tasks t "
                      "LEFT JOIN specs s ON s.seq = t.seq "
                      "LEFT JOIN attempts a ON a.seq = t.seq AND a.number = "
                      "(SELECT max(number) FROM attempts WHERE seq = t.seq) "
                      "WHERE +t.state IN ('queued', 'running') ORDER BY t.seq",
        [READ_WORKERS] = "SELECT worker_id, disabled, joined, leaving, url, before_url, token FROM workers "
                         "ORDER BY worker_id",
        [READ_TASK] = "SELECT " TASK_COLUMNS " FROM tasks t LEFT JOIN specs s ON s.seq = t.seq "
                      "WHERE t.task_id = ?",
        [READ_ATTEMPTS] = "SELECT " ATTEMPT_COLUMNS " FROM attempts a WHERE a.seq = ? ORDER BY a.number",
        [READ_DEPENDENCIES] = "SELECT t.task_id, d.on_id, d.failed FROM dependencies d "
                              "JOIN tasks t ON t.seq = d.seq WHERE d.seq = ?",
        [READ_LIVE_DEPENDENCIES] = "SELECT t.task_id, d.on_id, d.failed FROM dependencies d "
                                   "JOIN tasks t ON t.seq = d.seq WHERE t.state IN ('queued', 'running')",
        [READ_OUTPUT] = "SELECT position, bytes FROM outputs "
                        "WHERE seq = ? AND number = ? AND stream = ? AND position <= ? "
                        "ORDER BY position DESC LIMIT 1",
        [READ_OUTPUT_SIZE] = "SELECT position + length(bytes) FROM outputs "
                             "WHERE seq = ? AND number = ? AND stream = ? ORDER BY position DESC LIMIT 1",
        [READ_FACT] = "SELECT value FROM facts WHERE key = ?",
        [READ_NEWEST_RESULT] = "SELECT max(finish_usec) FROM tasks WHERE finish_usec > 0",
};
_Static_assert(sizeof(statement_texts) / sizeof(*statement_texts) == _READ_STATEMENT_MAX,
               "a text for each statement");

int store_reader_prepare(TaskStore *store) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < _READ_STATEMENT_MAX; i++)
                r = store_prepare(store->reader, statement_texts[i], &store->reads[i]);
        return r;
}

void store_reader_done(TaskStore *store) {
        for (size_t i = 0; i < _READ_STATEMENT_MAX; i++)
                sqlite_statement_finish(&store->reads[i]);
        (void) sqlite3_close(store->reader);
        store->reader = NULL;
}

/* A statement in use keeps a read transaction open, and with it the WAL from being reset. */
static void statement_release(sqlite3_stmt **statement) {
        if (!*statement)
                return;
        (void) sqlite3_reset(*statement);
        (void) sqlite3_clear_bindings(*statement);
}

static int statement_take(TaskStore *store, ReadStatement which, sqlite3_stmt **ret) {
        if (sqlite3_stmt_busy(store->reads[which]))
                return -EBUSY;
        *ret = store->reads[which];
        return 0;
}

/* 1: there is a row; 0: no more. */
static int statement_step(TaskStore *store, sqlite3_stmt *statement) {
        switch (sqlite3_step(statement)) {
        case SQLITE_ROW:
                return 1;
        case SQLITE_DONE:
                return 0;
        default:
                return store_error(store->reader) ?: -EIO;
        }
}

static const char *column_text(sqlite3_stmt *statement, int column) {
        return (const char *) sqlite3_column_text(statement, column);
}

static uint64_t column_u64(sqlite3_stmt *statement, int column) {
        return (uint64_t) sqlite3_column_int64(statement, column);
}

static int read_task(sqlite3_stmt *statement, StoredTask *ret) {
        const char *state = column_text(statement, 2);
        int state_number = state ? stored_state_from_string(state) : -EINVAL;
        *ret = (StoredTask) {
                .seq = column_u64(statement, 0),
                .task_id = column_text(statement, 1),
                .priority = sqlite3_column_int64(statement, 3),
                .retries = column_u64(statement, 4),
                .losses = column_u64(statement, 5),
                .stop_requested = sqlite3_column_int(statement, 6) != 0,
                .submit_usec = column_u64(statement, 7),
                .queue_usec = column_u64(statement, 8),
                .not_before_usec = column_u64(statement, 9),
                .finish_usec = column_u64(statement, 10),
                .result = column_text(statement, 11),
                .spec = column_text(statement, 12),
        };
        if (sqlite3_errcode(sqlite3_db_handle(statement)) == SQLITE_NOMEM)
                return -ENOMEM;
        if (state_number < 0 || !ret->task_id || !ret->spec)
                return -EUCLEAN;
        ret->state = (StoredState) state_number;
        return 0;
}

/* From column FIRST on. 0: there is none. */
static int read_attempt(sqlite3_stmt *statement, int first, StoredAttempt *ret) {
        if (sqlite3_column_type(statement, first) == SQLITE_NULL)
                return 0;
        const char *state = column_text(statement, first + 1);
        int state_number = state ? stored_attempt_state_from_string(state) : -EINVAL;
        *ret = (StoredAttempt) {
                .number = column_u64(statement, first),
                .worker_id = column_text(statement, first + 2),
                .runner_task_id = column_text(statement, first + 3),
                .runner_instance = column_text(statement, first + 4),
                .place_usec = column_u64(statement, first + 5),
                .finish_usec = column_u64(statement, first + 6),
                .unanswered = sqlite3_column_int(statement, first + 7) != 0,
                .attempt = column_text(statement, first + 8),
        };
        if (sqlite3_errcode(sqlite3_db_handle(statement)) == SQLITE_NOMEM)
                return -ENOMEM;
        if (state_number < 0)
                return -EUCLEAN;
        ret->state = (StoredAttemptState) state_number;
        return 1;
}

int task_store_load_live(TaskStore *store, StoredLiveHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_LIVE, &statement);
        if (r < 0)
                return r;
        while ((r = statement_step(store, statement)) > 0) {
                StoredTask task;
                StoredAttempt attempt;
                r = read_task(statement, &task);
                if (r < 0)
                        return r;
                int has_attempt = read_attempt(statement, N_TASK_COLUMNS, &attempt);
                if (has_attempt < 0)
                        return has_attempt;
                r = handler(&task, has_attempt ? &attempt : NULL, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

int task_store_load_workers(TaskStore *store, StoredWorkerHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_WORKERS, &statement);
        if (r < 0)
                return r;
        while ((r = statement_step(store, statement)) > 0) {
                const StoredWorker worker = {
                        .worker_id = column_text(statement, 0),
                        .disabled = sqlite3_column_int(statement, 1) != 0,
                        .joined = sqlite3_column_int(statement, 2) != 0,
                        .leaving = sqlite3_column_int(statement, 3) != 0,
                        .url = column_text(statement, 4),
                        .before_url = column_text(statement, 5),
                        .token = column_text(statement, 6),
                };
                r = worker.worker_id ? handler(&worker, userdata) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return r;
}

int task_store_get(TaskStore *store, const char *task_id, StoredTaskHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        StoredTask task;
        int r = statement_take(store, READ_TASK, &statement);
        if (r < 0)
                return r;
        if (sqlite3_bind_text(statement, 1, task_id, -1, SQLITE_STATIC) != SQLITE_OK)
                return -ENOMEM;
        r = statement_step(store, statement);
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        r = read_task(statement, &task);
        if (r < 0)
                return r;
        r = handler(&task, userdata);
        return r < 0 ? r : 0;
}

int task_store_attempts(TaskStore *store, uint64_t seq, StoredAttemptHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_ATTEMPTS, &statement);
        if (r < 0)
                return r;
        (void) sqlite3_bind_int64(statement, 1, (int64_t) seq);
        while ((r = statement_step(store, statement)) > 0) {
                StoredAttempt attempt;
                r = read_attempt(statement, 0, &attempt);
                if (r > 0)
                        r = handler(&attempt, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

static int read_dependencies(
                TaskStore *store,
                sqlite3_stmt *statement,
                StoredDependencyHandler handler,
                void *userdata) {
        int r;
        while ((r = statement_step(store, statement)) > 0) {
                const StoredDependency dependency = {
                        .task_id = column_text(statement, 0),
                        .on_id = column_text(statement, 1),
                        .failed = sqlite3_column_int(statement, 2) != 0,
                };
                r = dependency.task_id && dependency.on_id ? handler(&dependency, userdata) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return r;
}

int task_store_dependencies(TaskStore *store, uint64_t seq, StoredDependencyHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_DEPENDENCIES, &statement);
        if (r < 0)
                return r;
        (void) sqlite3_bind_int64(statement, 1, (int64_t) seq);
        return read_dependencies(store, statement, handler, userdata);
}

int task_store_load_dependencies(TaskStore *store, StoredDependencyHandler handler, void *userdata) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_LIVE_DEPENDENCIES, &statement);
        return r < 0 ? r : read_dependencies(store, statement, handler, userdata);
}

static int filter_check(const StoreFilter *filter) {
        size_t n = 0;
        for (const char *const *label = filter->labels; label && *label; label++)
                if (++n > STORE_LABELS_MAX || !strchr(*label, '='))
                        return -EINVAL;
        if (filter->limit < 1 || filter->limit > STORE_LIST_LIMIT_MAX || filter->state >= _STORED_STATE_MAX)
                return -EINVAL;
        return (int) n;
}

/* ?1 after, ?2 how many rows, ?3 the state, ?4 how far to look, ?5 … the labels. The rows of the first label
 * are looked at in order, the rest is asked of each. */
static int list_text(const StoreFilter *filter, int n_labels, Text *ret) {
        static const char state[] = " AND t.state = ?3";
        int r = text_append(ret, "SELECT " TASK_COLUMNS " FROM ");
        if (r >= 0 && n_labels > 0)
                r = text_append(ret,
                                "(SELECT seq FROM labels WHERE label = ?5 AND seq > ?1 ORDER BY seq LIMIT ?4) l "
                                "CROSS JOIN tasks t ON t.seq = l.seq ");
        else if (r >= 0)
                r = text_append(ret, "tasks t ");
        if (r >= 0)
                r = text_append(ret, "LEFT JOIN specs s ON s.seq = t.seq WHERE t.seq > ?1");
        if (r >= 0 && filter->state >= 0)
                r = text_append(ret, state);
        for (int i = 1; r >= 0 && i < n_labels; i++)
                r = text_appendf(
                                ret,
                                " AND EXISTS (SELECT 1 FROM labels WHERE label = ?%d AND seq = t.seq)",
                                5 + i);
        return r < 0 ? r : text_append(ret, " ORDER BY t.seq LIMIT ?2");
}

static int list_prepare(TaskStore *store, const StoreFilter *filter, int n_labels, sqlite3_stmt **ret) {
        Text sql = {};
        int r = list_text(filter, n_labels, &sql);
        if (r >= 0 && sqlite3_prepare_v2(store->reader, sql.data, -1, ret, NULL) != SQLITE_OK)
                r = store_error(store->reader);
        text_done(&sql);
        if (r < 0)
                return r;
        int code = sqlite3_bind_int64(*ret, 1, (int64_t) filter->after);
        if (code == SQLITE_OK)
                code = sqlite3_bind_int64(*ret, 2, (int64_t) filter->limit + 1); /* is there a next page? */
        if (code == SQLITE_OK && filter->state >= 0)
                code = sqlite3_bind_text(
                                *ret,
                                3,
                                stored_state_to_string((StoredState) filter->state),
                                -1,
                                SQLITE_STATIC);
        if (code == SQLITE_OK && n_labels > 0)
                code = sqlite3_bind_int64(*ret, 4, LIST_SCAN_MAX);
        for (int i = 0; code == SQLITE_OK && i < n_labels; i++)
                code = sqlite3_bind_text(*ret, 5 + i, filter->labels[i], -1, SQLITE_STATIC);
        return code == SQLITE_OK ? 0 : -ENOMEM;
}

/* Where to go on when all that was looked at has been told: 0 when that was all there is. */
static int list_scan_end(TaskStore *store, const StoreFilter *filter, uint64_t *ret) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *statement = NULL;
        static const char sql[] =
                        "SELECT seq FROM labels WHERE label = ? AND seq > ? ORDER BY seq LIMIT 1 OFFSET ?";
        if (sqlite3_prepare_v2(store->reader, sql, -1, &statement, NULL) != SQLITE_OK)
                return store_error(store->reader);
        if (sqlite3_bind_text(statement, 1, filter->labels[0], -1, SQLITE_STATIC) != SQLITE_OK ||
            sqlite3_bind_int64(statement, 2, (int64_t) filter->after) != SQLITE_OK ||
            sqlite3_bind_int64(statement, 3, LIST_SCAN_MAX - 1) != SQLITE_OK)
                return -ENOMEM;
        int r = statement_step(store, statement);
        *ret = r > 0 ? column_u64(statement, 0) : 0;
        return r < 0 ? r : 0;
}

int task_store_list(
                TaskStore *store,
                const StoreFilter *filter,
                StoredTaskHandler handler,
                void *userdata,
                uint64_t *ret_next) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *statement = NULL;
        uint64_t last = 0, next = 0;
        bool full = false;
        int n_labels = filter_check(filter);
        if (n_labels < 0)
                return n_labels;
        if (filter->after > INT64_MAX) {
                *ret_next = 0;
                return 0;
        }
        int r = list_prepare(store, filter, n_labels, &statement);
        if (r < 0)
                return r;
        for (uint64_t n = 0; (r = statement_step(store, statement)) > 0; n++) {
                StoredTask task;
                if (full || n == filter->limit) {
                        *ret_next = last;
                        return 0;
                }
                r = read_task(statement, &task);
                if (r >= 0)
                        r = handler(&task, userdata);
                if (r < 0)
                        return r;
                full = r > 0;
                last = task.seq;
        }
        if (r >= 0 && n_labels > 0)
                r = list_scan_end(store, filter, &next);
        if (r < 0)
                return r;
        *ret_next = next;
        return 0;
}

static int output_find(
                TaskStore *store,
                ReadStatement which,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                sqlite3_stmt **ret) {
        int r = statement_take(store, which, ret);
        if (r < 0)
                return r;
        (void) sqlite3_bind_int64(*ret, 1, (int64_t) seq);
        (void) sqlite3_bind_int64(*ret, 2, (int64_t) number);
        (void) sqlite3_bind_int64(*ret, 3, stream);
        return 0;
}

ssize_t task_store_read_output(
                TaskStore *store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                void *buffer,
                size_t size) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        if (offset > INT64_MAX)
                return 0;
        int r = output_find(store, READ_OUTPUT, seq, number, stream, &statement);
        if (r < 0)
                return r;
        (void) sqlite3_bind_int64(statement, 4, (int64_t) offset);
        r = statement_step(store, statement);
        if (r <= 0)
                return r;
        uint64_t skip = offset - column_u64(statement, 0);
        const char *bytes = sqlite3_column_blob(statement, 1);
        uint64_t available = (uint64_t) sqlite3_column_bytes(statement, 1);
        if (skip >= available)
                return 0;
        if (!bytes)
                return -ENOMEM;
        if (size > available - skip)
                size = (size_t) (available - skip);
        memcpy(buffer, bytes + skip, size);
        return (ssize_t) size;
}

int task_store_output_size(
                TaskStore *store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t *ret_bytes) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = output_find(store, READ_OUTPUT_SIZE, seq, number, stream, &statement);
        if (r < 0)
                return r;
        r = statement_step(store, statement);
        if (r < 0)
                return r;
        *ret_bytes = r > 0 ? column_u64(statement, 0) : 0;
        return 0;
}

int task_store_get_fact(TaskStore *store, const char *key, char **ret) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_FACT, &statement);
        if (r < 0)
                return r;
        if (sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC) != SQLITE_OK)
                return -ENOMEM;
        r = statement_step(store, statement);
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        const char *value = column_text(statement, 0);
        char *copy = value ? strdup(value) : NULL;
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

int task_store_newest_result(TaskStore *store, usec_t *ret_finish_usec) {
        _cleanup_(statement_release) sqlite3_stmt *statement = NULL;
        int r = statement_take(store, READ_NEWEST_RESULT, &statement);
        if (r >= 0)
                r = statement_step(store, statement);
        if (r < 0)
                return r;
        *ret_finish_usec = r > 0 ? column_u64(statement, 0) : 0;
        return 0;
}
