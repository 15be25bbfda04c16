/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Opening and closing a store, and the way of a batch from the loop to the writer and back. */

#include "io/task-store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <utlist.h>

#include "base/text.h"
#include "io/loop.h"
#include "io/task-store-internal.h"

#define FILE_NAME        "tasks.db"
#define BUSY_WRITER_MSEC 5000 /* somebody has it open by hand */
#define BUSY_READER_MSEC 50

static const char writer_settings[] = "PRAGMA journal_mode = WAL;"
                                      "PRAGMA synchronous = FULL;"
                                      "PRAGMA journal_size_limit = 67108864;"
                                      "PRAGMA cache_size = -8192;"
                                      "PRAGMA temp_store = MEMORY;"
                                      "PRAGMA cell_size_check = ON;"
                                      "PRAGMA trusted_schema = OFF";
static const char reader_settings[] = "PRAGMA cache_size = -8192;"
                                      "PRAGMA temp_store = MEMORY;"
                                      "PRAGMA cell_size_check = ON;"
                                      "PRAGMA trusted_schema = OFF";

/* The sentence for the log; R again. */
static int refuse(int r, char **reterr_message, const char *path, const char *what) {
        (void) text_format(reterr_message, "%s: %s", path, what);
        return r;
}

/* Two writers would hand out the same numbers, and each would run the other's tasks. */
static int store_lock(TaskStore *store, const char *directory, char **reterr_message) {
        _cleanup_(freep) char *path = NULL;
        if (text_format(&path, "%s/tasks.lock", directory) < 0)
                return -ENOMEM;
        store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (store->lock_fd < 0) {
                int r = -errno;
                return refuse(r, reterr_message, path, strerror(-r));
        }
        if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0) {
                int r = errno == EWOULDBLOCK ? -EBUSY : -errno;
                return refuse(r,
                              reterr_message,
                              path,
                              r == -EBUSY ? "another process uses this state directory" : strerror(-r));
        }
        return 0;
}

static int rename_with_suffix(const char *path, const char *suffix, const char *aside) {
        _cleanup_(freep) char *from = NULL, *to = NULL;
        if (text_format(&from, "%s%s", path, suffix) < 0)
                return -ENOMEM;
        if (text_format(&to, "%s%s", aside, suffix) < 0)
                return -ENOMEM;
        return rename(from, to) < 0 && errno != ENOENT ? -errno : 0;
}

/* The log goes first: should only a part of this happen, a file without its log is less than a log that a new
 * file would be taken to belong to. */
static int store_set_aside(const char *path, char **reterr_message) {
        _cleanup_(freep) char *aside = NULL, *what = NULL;
        char stamp[sizeof("20261122T013500Z")];
        time_t now = (time_t) (usec_now(CLOCK_REALTIME) / USEC_PER_SEC);
        struct tm utc;
        (void) strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
        if (text_format(&aside, "%s.corrupt-%s", path, stamp) < 0)
                return -EUCLEAN;
        int r = rename_with_suffix(path, "-shm", aside);
        if (r >= 0)
                r = rename_with_suffix(path, "-wal", aside);
        if (r >= 0)
                r = rename_with_suffix(path, "", aside);
        if (text_format(&what,
                        r < 0 ? "is damaged, and cannot be renamed to %s" :
                                "was damaged, and is now called %s; what can be saved is in there, "
                                "and the next start begins with an empty queue",
                        aside) < 0)
                return -EUCLEAN;
        return refuse(-EUCLEAN, reterr_message, path, what);
}

static int db_open(const char *path, int flags, int busy_msec, const char *settings, sqlite3 **ret) {
        sqlite3 *db = NULL;
        if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
                int r = db ? store_error(db) : -ENOMEM;
                (void) sqlite3_close(db);
                return r;
        }
        *ret = db;
        (void) sqlite3_busy_timeout(db, busy_msec);
        (void) sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        return sqlite3_exec(db, settings, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_error(db);
}

/* A log without its file would be applied to the next file of that name. */
static int store_create_if_absent(const char *path) {
        _cleanup_(freep) char *log = NULL;
        struct stat status;
        if (stat(path, &status) == 0)
                return 0;
        if (errno != ENOENT)
                return -errno;
        if (text_format(&log, "%s-wal", path) < 0)
                return -ENOMEM;
        if (stat(log, &status) == 0)
                return -EUCLEAN;
        return store_schema_create(path, store_schema_steps, store_n_schema_steps);
}

/* What is not ours, or beyond us, is only looked at. */
static int store_open_writer(TaskStore *store, const char *path) {
        int r = store_create_if_absent(path);
        if (r >= 0)
                r = db_open(path, SQLITE_OPEN_READWRITE, BUSY_WRITER_MSEC, "", &store->writer.db);
        if (r >= 0)
                r = store_schema_check(store->writer.db, store_n_schema_steps);
        if (r >= 0)
                r = store_schema_migrate(store->writer.db, store_schema_steps, store_n_schema_steps);
        if (r >= 0 && sqlite3_exec(store->writer.db, writer_settings, NULL, NULL, NULL) != SQLITE_OK)
                r = store_error(store->writer.db);
        if (r >= 0)
                r = store_writer_prepare(&store->writer);
        return r;
}

static int store_open_reader(TaskStore *store, const char *path) {
        int r = db_open(path, SQLITE_OPEN_READONLY, BUSY_READER_MSEC, reader_settings, &store->reader);
        return r < 0 ? r : store_reader_prepare(store);
}

static int store_read_seq(TaskStore *store) {
        _cleanup_(sqlite_statement_finish) sqlite3_stmt *statement = NULL;
        static const char sql[] =
                        "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0), "
                        "ifnull((SELECT max(seq) FROM tasks), 0))";
        if (sqlite3_prepare_v2(store->reader, sql, -1, &statement, NULL) != SQLITE_OK ||
            sqlite3_step(statement) != SQLITE_ROW)
                return store_error(store->reader) ?: -EUCLEAN;
        store->seq = (uint64_t) sqlite3_column_int64(statement, 0);
        return 0;
}

static const char *what_failed(int r) {
        switch (r) {
        case -EMEDIUMTYPE:
                return "is not a store of daggyd's";
        case -ENOTSUP:
                return "was made by a later version of daggyd";
        case -EBUSY:
                return "is locked by another program";
        default:
                return strerror(-r);
        }
}

static int store_open_file(TaskStore *store, const char *path, char **reterr_message) {
        int r = store_open_writer(store, path);
        if (r >= 0)
                r = store_open_reader(store, path);
        if (r >= 0)
                r = store_read_seq(store);
        if (r >= 0)
                r = task_store_get_fact(store, STORED_FACT_QUEUE_ID, &store->queue_id);
        if (r == -ENOENT && store->reader)
                r = -EUCLEAN;
        if (r >= 0)
                return 0;
        store_reader_done(store);
        store_writer_done(&store->writer);
        if (r == -EUCLEAN)
                return store_set_aside(path, reterr_message);
        return refuse(r, reterr_message, path, what_failed(r));
}

static int on_done_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        TaskStore *store = userdata;
        StoreWriter *writer = &store->writer;
        eventfd_t count;
        (void) eventfd_read(fd, &count);
        (void) pthread_mutex_lock(&writer->mutex);
        StoreWrite *done = TAKE_PTR(writer->done);
        (void) pthread_mutex_unlock(&writer->mutex);

        store->in_callback = true;
        for (StoreWrite *write = done, *next; write; write = next) {
                next = write->next;
                store->pending_bytes -= write->bytes;
                if (write->callback)
                        write->callback(write->result, write->userdata);
                store_write_free(write);
        }
        store->in_callback = false;
        return 0;
}

static int store_start(TaskStore *store) {
        int r = store_writer_start(&store->writer);
        if (r < 0)
                return r;
        r = sd_event_add_io(
                        store->event, &store->done_source, store->writer.done_fd, EPOLLIN, on_done_io, store);
        return r < 0 ? r : sd_event_source_set_description(store->done_source, "task-store-done");
}

int task_store_open(sd_event *event, const char *directory, TaskStore **ret, char **reterr_message) {
        _cleanup_(task_store_freep) TaskStore *store = calloc(1, sizeof(*store));
        _cleanup_(freep) char *path = NULL;
        *reterr_message = NULL;
        if (!store)
                return -ENOMEM;
        store->event = sd_event_ref(event);
        store->lock_fd = -EBADF;
        store->writer.done_fd = -EBADF;
        if (text_format(&path, "%s/" FILE_NAME, directory) < 0)
                return -ENOMEM;
        int r = store_lock(store, directory, reterr_message);
        if (r >= 0)
                r = store_open_file(store, path, reterr_message);
        if (r < 0)
                return r;
        r = store_start(store);
        if (r < 0)
                return refuse(r, reterr_message, path, strerror(-r));
        *ret = TAKE_PTR(store);
        return 0;
}

/* The reader goes first, so that the last to close can tidy up the log. */
TaskStore *task_store_free(TaskStore *store) {
        if (!store)
                return NULL;
        assert(!store->in_callback);
        event_source_dropp(&store->done_source);
        store_writer_stop(&store->writer);
        store_reader_done(store);
        store_writer_done(&store->writer);
        fd_close(&store->lock_fd);
        free(store->queue_id);
        sd_event_unref(store->event);
        free(store);
        return NULL;
}

const char *task_store_queue_id(const TaskStore *store) {
        return store->queue_id;
}

uint64_t task_store_next_seq(TaskStore *store) {
        return ++store->seq;
}

size_t task_store_pending_bytes(const TaskStore *store) {
        return store->pending_bytes;
}

static void hand_over(TaskStore *store, StoreWrite *write) {
        StoreWriter *writer = &store->writer;
        store->pending_bytes += write->bytes;
        (void) pthread_mutex_lock(&writer->mutex);
        DL_APPEND(writer->todo, write);
        (void) pthread_cond_signal(&writer->changed);
        (void) pthread_mutex_unlock(&writer->mutex);
}

int task_store_commit(TaskStore *store, StoreBatch *batch, StoreCommitted callback, void *userdata) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        size_t bytes = batch->bytes + sizeof(StoreWrite);
        if (batch->error < 0)
                return batch->error;
        if (bytes > STORE_PENDING_BYTES_MAX || store->pending_bytes > STORE_PENDING_BYTES_MAX - bytes)
                return -ENOBUFS;
        StoreWrite *write = malloc(sizeof(*write));
        if (!write)
                return -ENOMEM;
        *write = (StoreWrite) {
                .batch = TAKE_PTR(owned),
                .bytes = bytes,
                .callback = callback,
                .userdata = userdata,
        };
        hand_over(store, write);
        return 0;
}

int task_store_prune(
                TaskStore *store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreCommitted callback,
                void *userdata) {
        assert(limit > 0 && limit <= STORE_PRUNE_MAX);
        StoreWrite *write = malloc(sizeof(*write));
        if (!write)
                return -ENOMEM;
        *write = (StoreWrite) {
                .bytes = sizeof(*write),
                .prune_before_usec = finished_before_usec,
                .prune_keep = keep_max,
                .prune_limit = limit,
                .callback = callback,
                .userdata = userdata,
        };
        hand_over(store, write);
        return 0;
}
