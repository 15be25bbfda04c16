/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tables, how they came to be version by version, and whether what is found can be trusted.
 *
 * Why they are cut like this: a task's row is rewritten with each change of its state, so what never changes
 * and may be large (its specification) stands apart; outputs stand in pieces, so that neither side holds a
 * whole one in memory; labels have a table whose key is the order in which a list by label is read. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "io/file.h"
#include "io/task-store-internal.h"

#define CHECK_USEC (5 * USEC_PER_SEC)

const SchemaStep store_schema_steps[] = {
        { "CREATE TABLE tasks ("
          "        seq INTEGER PRIMARY KEY AUTOINCREMENT," /* never reused: pages of lists go on behind it */
          "        task_id TEXT NOT NULL UNIQUE,"
          "        state TEXT NOT NULL,"
          "        priority INTEGER NOT NULL,"
          "        retries INTEGER NOT NULL,"
          "        stop_reason INTEGER NOT NULL,"
          "        submit_usec INTEGER NOT NULL,"
          "        queue_usec INTEGER NOT NULL,"
          "        not_before_usec INTEGER NOT NULL,"
          "        finish_usec INTEGER NOT NULL,"
          "        spec_hash INTEGER NOT NULL,"
          "        result TEXT);"
          "CREATE INDEX tasks_by_state ON tasks (state);" /* and, as in every index, by seq within it */
          "CREATE INDEX tasks_by_finish ON tasks (finish_usec) WHERE finish_usec > 0;"
          "CREATE TABLE specs ("
          "        seq INTEGER PRIMARY KEY,"
          "        spec TEXT NOT NULL);"
          "CREATE TABLE labels ("
          "        label TEXT NOT NULL," /* key=value */
          "        seq INTEGER NOT NULL,"
          "        PRIMARY KEY (label, seq)) WITHOUT ROWID;"
          "CREATE INDEX labels_by_seq ON labels (seq);"
          "CREATE TABLE attempts ("
          "        seq INTEGER NOT NULL,"
          "        number INTEGER NOT NULL,"
          "        state TEXT NOT NULL,"
          "        worker_id TEXT,"
          "        runner_task_id TEXT,"
          "        runner_instance TEXT,"
          "        lease_id TEXT,"
          "        place_usec INTEGER NOT NULL,"
          "        start_usec INTEGER NOT NULL,"
          "        finish_usec INTEGER NOT NULL,"
          "        attempt TEXT,"
          "        PRIMARY KEY (seq, number)) WITHOUT ROWID;"
          "CREATE TABLE outputs ("
          "        seq INTEGER NOT NULL,"
          "        number INTEGER NOT NULL,"
          "        stream INTEGER NOT NULL,"
          "        position INTEGER NOT NULL,"
          "        bytes BLOB NOT NULL);"
          "CREATE UNIQUE INDEX outputs_by_position ON outputs (seq, number, stream, position);"
          "CREATE TABLE workers ("
          "        worker_id TEXT PRIMARY KEY,"
          "        disabled INTEGER NOT NULL,"
          "        lease_id TEXT,"
          "        runner_instance TEXT,"
          "        lease_expires_usec INTEGER NOT NULL) WITHOUT ROWID;"
          "CREATE TABLE facts ("
          "        key TEXT PRIMARY KEY,"
          "        value TEXT NOT NULL) WITHOUT ROWID;"
          "INSERT INTO facts VALUES ('queue-id', lower(hex(randomblob(16))));" },
        /* What was never used goes. Losses of workers are counted across restarts, and of attempts it is
         * known whether a submission may still arrive; of those that are there it is not known. */
        { "ALTER TABLE tasks DROP COLUMN spec_hash;"
          "ALTER TABLE tasks RENAME COLUMN stop_reason TO stop_requested;"
          "ALTER TABLE tasks ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE attempts DROP COLUMN lease_id;"
          "ALTER TABLE attempts DROP COLUMN start_usec;"
          "ALTER TABLE attempts ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 1;"
          "UPDATE attempts SET state = 'sent' WHERE state = 'placed';"
          "ALTER TABLE workers DROP COLUMN lease_id;"
          "ALTER TABLE workers DROP COLUMN runner_instance;"
          "ALTER TABLE workers DROP COLUMN lease_expires_usec;" },
        /* Workers come and go by requests. */
        { "ALTER TABLE workers ADD COLUMN joined INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE workers ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE workers ADD COLUMN url TEXT;"
          "ALTER TABLE workers ADD COLUMN before_url TEXT;"
          "ALTER TABLE workers ADD COLUMN token TEXT;" },
        /* Tasks wait for others. */
        { "CREATE TABLE dependencies ("
          "        on_id TEXT NOT NULL,"
          "        seq INTEGER NOT NULL,"
          "        failed INTEGER NOT NULL,"
          "        PRIMARY KEY (on_id, seq)) WITHOUT ROWID;"
          "CREATE INDEX dependencies_by_seq ON dependencies (seq);" },
};

const size_t store_n_schema_steps = sizeof(store_schema_steps) / sizeof(*store_schema_steps);

static int file_errno(sqlite3 *db, int which) {
        sqlite3_file *file = NULL;
        int error = 0;
        (void) sqlite3_file_control(db, "main", which, &file);
        if (file && file->pMethods)
                (void) file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
        return error;
}

/* SQLite knows ENOSPC only. Over a quota, or beyond RLIMIT_FSIZE, the disk is as good as full. (Not by
 * sqlite3_system_errno(): by then errno is another's.) */
static bool disk_is_full(sqlite3 *db) {
        static const int files[] = { SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER };
        if (sqlite3_extended_errcode(db) != SQLITE_IOERR_WRITE)
                return false;
        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
                int error = file_errno(db, files[i]);
                if (error == EDQUOT || error == EFBIG || error == ENOSPC)
                        return true;
        }
        return false;
}

int store_error(sqlite3 *db) {
        int error = sqlite3_system_errno(db);
        switch (sqlite3_errcode(db) & 0xff) {
        case SQLITE_OK:
        case SQLITE_ROW:
        case SQLITE_DONE:
                return 0;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EUCLEAN;
        case SQLITE_CONSTRAINT:
                return -EEXIST;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_TOOBIG:
                return -E2BIG;
        case SQLITE_CANTOPEN:
                return error > 0 ? -error : -EACCES;
        case SQLITE_IOERR:
                return disk_is_full(db) ? -ENOSPC : -EIO;
        default:
                return -EIO;
        }
}

int store_prepare(sqlite3 *db, const char *text, sqlite3_stmt **ret) {
        int code = sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
        return code == SQLITE_OK ? 0 : code == SQLITE_ERROR ? -EUCLEAN : store_error(db);
}

void sqlite_statement_finish(sqlite3_stmt **statement) {
        (void) sqlite3_finalize(*statement);
        *statement = NULL;
}

static void sqlite_closep(sqlite3 **db) {
        (void) sqlite3_close(*db);
}

static void sqlite_textp(char **text) {
        sqlite3_free(*text);
}

static int db_run(sqlite3 *db, const char *sql) {
        return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_error(db);
}

static int db_get_number(sqlite3 *db, const char *sql, int64_t *ret) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *statement = NULL;
        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK ||
            sqlite3_step(statement) != SQLITE_ROW)
                return store_error(db) ?: -EUCLEAN;
        *ret = sqlite3_column_int64(statement, 0);
        return 0;
}

static int schema_take_step(sqlite3 *db, const SchemaStep *step, size_t version) {
        char set_version[64];
        (void) snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %zu", version);
        int r = db_run(db, "BEGIN IMMEDIATE");
        if (r >= 0)
                r = db_run(db, step->sql);
        if (r >= 0)
                r = db_run(db, set_version);
        if (r >= 0)
                r = db_run(db, "COMMIT");
        if (r < 0)
                (void) db_run(db, "ROLLBACK");
        return r;
}

int store_schema_migrate(sqlite3 *db, const SchemaStep *steps, size_t n_steps) {
        int64_t version = -1;
        int r = db_get_number(db, "PRAGMA user_version", &version);
        if (r < 0)
                return r;
        if (version > (int64_t) n_steps)
                return -ENOTSUP;
        if (version < 0)
                return -EUCLEAN;
        for (size_t i = (size_t) version; i < n_steps; i++) {
                r = schema_take_step(db, &steps[i], i + 1);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int schema_fill(const char *path, const SchemaStep *steps, size_t n_steps) {
        _cleanup_(sqlite_closep) sqlite3 *db = NULL;
        char set_id[64];
        (void) snprintf(set_id, sizeof(set_id), "PRAGMA application_id = %d", STORE_APPLICATION_ID);
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
                return db ? store_error(db) : -ENOMEM;
        /* What outputs occupied is to go back to the file system some time (see task_store_prune()). */
        int r = db_run(db, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA synchronous = FULL");
        if (r >= 0)
                r = db_run(db, set_id);
        return r < 0 ? r : store_schema_migrate(db, steps, n_steps);
}

/* Under another name first: what is called tasks.db is complete, so that an empty file of that name is damage
 * and not a start that was cut short. */
int store_schema_create(const char *path, const SchemaStep *steps, size_t n_steps) {
        _cleanup_(freep) char *unfinished = NULL;
        if (text_format(&unfinished, "%s.new", path) < 0)
                return -ENOMEM;
        mode_t mask = umask(0077); /* specifications may hold secrets */
        (void) unlink(unfinished);
        int r = schema_fill(unfinished, steps, n_steps);
        (void) umask(mask);
        if (r >= 0 && rename(unfinished, path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(unfinished);
                return r;
        }
        return file_sync_folder_of(path);
}

static int on_check_progress(void *userdata) {
        const usec_t *deadline = userdata;
        return usec_now(CLOCK_BOOTTIME) > *deadline;
}

static int schema_check_table(sqlite3 *db, const char *table) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *statement = NULL;
        _cleanup_(sqlite_textp) char *sql = sqlite3_mprintf("PRAGMA quick_check(%Q)", table);
        if (!sql)
                return -ENOMEM;
        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
                return store_error(db);
        if (sqlite3_step(statement) != SQLITE_ROW)
                return sqlite3_errcode(db) == SQLITE_INTERRUPT ? 0 : store_error(db);
        const char *verdict = (const char *) sqlite3_column_text(statement, 0);
        return verdict && streq(verdict, "ok") ? 0 : -EUCLEAN;
}

/* Outputs are left out: they may be many gigabytes, and damage there is noticed, and harms, when one is read.
 * Nor is there more time for the others than a start may take. */
static int schema_check_tables(sqlite3 *db) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *tables = NULL;
        static const char sql[] = "SELECT name FROM sqlite_schema WHERE type = 'table' "
                                  "AND name <> 'outputs' AND name NOT LIKE 'sqlite%'";
        int code, r = 0;
        if (sqlite3_prepare_v2(db, sql, -1, &tables, NULL) != SQLITE_OK)
                return store_error(db);
        while (r >= 0 && (code = sqlite3_step(tables)) == SQLITE_ROW)
                r = schema_check_table(db, (const char *) sqlite3_column_text(tables, 0));
        if (r < 0 || code == SQLITE_DONE || code == SQLITE_INTERRUPT)
                return r;
        return store_error(db);
}

int store_schema_check(sqlite3 *db, size_t n_steps) {
        usec_t deadline = usec_add(usec_now(CLOCK_BOOTTIME), CHECK_USEC);
        int64_t id = 0, version = 0, n_pages = 0;
        int r = db_get_number(db, "PRAGMA application_id", &id);
        if (r >= 0)
                r = db_get_number(db, "PRAGMA user_version", &version);
        if (r >= 0)
                r = db_get_number(db, "PRAGMA page_count", &n_pages);
        if (r < 0)
                return r;
        if (n_pages == 0)
                return -EUCLEAN; /* we never leave an empty file */
        if (id != STORE_APPLICATION_ID)
                return -EMEDIUMTYPE;
        if (version > (int64_t) n_steps)
                return -ENOTSUP;
        sqlite3_progress_handler(db, 10000, on_check_progress, &deadline);
        r = schema_check_tables(db);
        sqlite3_progress_handler(db, 0, NULL, NULL);
        return r;
}
