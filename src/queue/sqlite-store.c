/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes are another thread's, and reported in the loop. Reads are quick, from the page cache as a rule: they
 * are made in the loop, a few milliseconds of them in each turn. */

#include "queue/sqlite-store.h"

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "queue/moment.h"
#include "service/long-jobs.h"

typedef struct Read Read;
typedef void (*ReadRun)(SqliteStore *store, Read *read);

/* A read that waits for its turn. */
struct Read {
        SqliteStore *store; /* weak */
        ReadRun run;
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
};

struct SqliteStore {
        TaskStore *store;
        LongJobs *reads;
};

static void read_free(void *userdata) {
        Read *read = userdata;
        free(read->task_id);
        text_list_free(read->labels);
        free(read);
}

static bool read_step(void *userdata) {
        Read *read = userdata;
        read->run(read->store, read);
        read_free(read);
        return false;
}

static int read_later(SqliteStore *store, const Read *template, Read **ret) {
        Read *read = malloc(sizeof(*read));
        if (!read)
                return -ENOMEM;
        *read = *template;
        read->store = store;
        LongJob *job;
        int r = long_jobs_add(store->reads, read_step, read_free, read, &job);
        if (r < 0) {
                free(read);
                return r;
        }
        *ret = read;
        return 0;
}

int sqlite_store_open(sd_event *event, const char *directory, SqliteStore **ret, char **reterr_message) {
        _cleanup_(sqlite_store_freep) SqliteStore *store = calloc(1, sizeof(*store));
        *reterr_message = NULL;
        if (!store)
                return -ENOMEM;
        int r = long_jobs_new(event, &store->reads);
        if (r >= 0)
                r = task_store_open(event, directory, &store->store, reterr_message);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(store);
        return 0;
}

SqliteStore *sqlite_store_free(SqliteStore *store) {
        if (!store)
                return NULL;
        task_store_free(store->store);
        long_jobs_free(store->reads);
        free(store);
        return NULL;
}

const char *sqlite_store_queue_id(const SqliteStore *store) {
        return task_store_queue_id(store->store);
}

/* ── writing ── */

typedef struct Commit {
        StoreDone done;
        void *userdata;
} Commit;

static void on_committed(int r, void *userdata) {
        Commit *commit = userdata;
        Moment now = moment_now();
        commit->done(r, &now, commit->userdata);
        free(commit);
}

static Commit *commit_new(StoreDone done, void *userdata) {
        Commit *commit = malloc(sizeof(*commit));
        if (commit)
                *commit = (Commit) { .done = done, .userdata = userdata };
        return commit;
}

static int port_commit(void *userdata_store, StoreBatch *batch, StoreDone done, void *userdata) {
        const SqliteStore *store = userdata_store;
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        Commit *commit = commit_new(done, userdata);
        int r = commit ? task_store_commit(store->store, TAKE_PTR(owned), on_committed, commit) : -ENOMEM;
        if (r < 0)
                free(commit);
        return r;
}

static int port_prune(
                void *userdata_store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreDone done,
                void *userdata) {
        const SqliteStore *store = userdata_store;
        Commit *commit = commit_new(done, userdata);
        int r = commit ? task_store_prune(
                                         store->store,
                                         finished_before_usec,
                                         keep_max,
                                         limit,
                                         on_committed,
                                         commit) :
                         -ENOMEM;
        if (r < 0)
                free(commit);
        return r;
}

static uint64_t port_next_seq(void *userdata_store) {
        const SqliteStore *store = userdata_store;
        return task_store_next_seq(store->store);
}

static size_t port_pending_bytes(const void *userdata_store) {
        const SqliteStore *store = userdata_store;
        return task_store_pending_bytes(store->store);
}

/* ── one task ── */

/* Attempts, copied: rows are valid only while they are read. */
typedef struct Attempts {
        StoredAttempt *rows;
        size_t n;
} Attempts;

static void attempts_done(Attempts *attempts) {
        for (size_t i = 0; i < attempts->n; i++) {
                free((char *) attempts->rows[i].worker_id);
                free((char *) attempts->rows[i].runner_task_id);
                free((char *) attempts->rows[i].runner_instance);
                free((char *) attempts->rows[i].attempt);
        }
        free(attempts->rows);
}

static int copy_text(const char **text) {
        if (!*text)
                return 0;
        *text = strdup(*text);
        return *text ? 0 : -ENOMEM;
}

static int on_attempt(const StoredAttempt *row, void *userdata) {
        Attempts *attempts = userdata;
        StoredAttempt *rows = reallocarray(attempts->rows, attempts->n + 1, sizeof(StoredAttempt));
        if (!rows)
                return -ENOMEM;
        attempts->rows = rows;
        StoredAttempt *copy = &rows[attempts->n++];
        *copy = *row;
        bool failed = copy_text(&copy->worker_id) < 0;
        failed |= copy_text(&copy->runner_task_id) < 0;
        failed |= copy_text(&copy->runner_instance) < 0;
        failed |= copy_text(&copy->attempt) < 0;
        return failed ? -ENOMEM : 0;
}

/* Dependencies, copied. */
typedef struct Dependencies {
        StoredDependency *rows;
        size_t n;
} Dependencies;

static void dependencies_done(Dependencies *dependencies) {
        for (size_t i = 0; i < dependencies->n; i++) {
                free((char *) dependencies->rows[i].task_id);
                free((char *) dependencies->rows[i].on_id);
        }
        free(dependencies->rows);
}

static int on_dependency(const StoredDependency *row, void *userdata) {
        Dependencies *dependencies = userdata;
        StoredDependency *rows = reallocarray(
                        dependencies->rows, dependencies->n + 1, sizeof(StoredDependency));
        if (!rows)
                return -ENOMEM;
        dependencies->rows = rows;
        StoredDependency *copy = &rows[dependencies->n++];
        *copy = *row;
        bool failed = copy_text(&copy->task_id) < 0;
        failed |= copy_text(&copy->on_id) < 0;
        return failed ? -ENOMEM : 0;
}

typedef struct Get {
        SqliteStore *store;
        const Read *read;
} Get;

/* The bytes of one stream of the attempt that was the last. */
static int read_output(
                const SqliteStore *store,
                const Read *read,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                StoreEntry *entry) {
        uint64_t total = 0, bytes_max = read->wanted.output_bytes_max;
        int r = task_store_output_size(store->store, seq, number, stream, &total);
        if (r < 0)
                return r;
        size_t wanted = (size_t) (total < bytes_max ? total : bytes_max), n = 0;
        uint64_t offset = read->wanted.tail ? total - wanted : 0;
        char *bytes = malloc(wanted + 1);
        if (!bytes)
                return -ENOMEM;
        entry->outputs[stream].bytes = bytes;
        while (n < wanted) {
                ssize_t k = task_store_read_output(
                                store->store, seq, number, stream, offset + n, bytes + n, wanted - n);
                if (k < 0)
                        return (int) k;
                if (k == 0)
                        break;
                n += (size_t) k;
        }
        entry->outputs[stream].size = n;
        entry->outputs[stream].total = total;
        return 0;
}

static int read_outputs(const Get *get, StoreEntry *entry) {
        uint64_t number = entry->n_attempts > 0 ? entry->attempts[entry->n_attempts - 1].number : 0;
        int r = 0;
        if (get->read->wanted.output_bytes_max == 0 || !entry->task.result)
                return 0;
        for (StoredStream stream = STORED_STDOUT; r >= 0 && stream <= STORED_STDERR; stream++)
                r = read_output(get->store, get->read, entry->task.seq, number, stream, entry);
        return r;
}

static int on_got_row(const StoredTask *row, void *userdata) {
        const Get *get = userdata;
        _cleanup_(attempts_done) Attempts attempts = {};
        _cleanup_(dependencies_done) Dependencies dependencies = {};
        StoreEntry entry = { .task = *row };
        int r = 0;
        if (get->read->wanted.attempts || get->read->wanted.output_bytes_max > 0)
                r = task_store_attempts(get->store->store, row->seq, on_attempt, &attempts);
        entry.attempts = attempts.rows;
        entry.n_attempts = attempts.n;
        if (r >= 0 && get->read->wanted.dependencies)
                r = task_store_dependencies(get->store->store, row->seq, on_dependency, &dependencies);
        entry.dependencies = dependencies.rows;
        entry.n_dependencies = dependencies.n;
        if (r >= 0)
                r = read_outputs(get, &entry);
        if (r >= 0) {
                Moment now = moment_now();
                get->read->done.got(0, &entry, &now, get->read->userdata);
        }
        for (StoredStream stream = STORED_STDOUT; stream <= STORED_STDERR; stream++)
                free((char *) entry.outputs[stream].bytes);
        return r;
}

static void run_get(SqliteStore *store, Read *read) {
        int r = task_store_get(
                        store->store, read->task_id, on_got_row, &(Get) { .store = store, .read = read });
        if (r >= 0)
                return;
        Moment now = moment_now();
        read->done.got(r, NULL, &now, read->userdata);
}

static int port_get(
                void *store,
                const char *task_id,
                const StoreWanted *wanted,
                StoreGot done,
                void *userdata) {
        char *copy = strdup(task_id);
        Read *read;
        int r = copy ? read_later(store,
                                  &(Read) {
                                                  .run = run_get,
                                                  .task_id = copy,
                                                  .wanted = *wanted,
                                                  .done.got = done,
                                                  .userdata = userdata,
                                  },
                                  &read) :
                       -ENOMEM;
        if (r < 0)
                free(copy);
        return r;
}

/* ── a page ── */

typedef struct Page {
        StoreEntry *entries;
        Attempts *attempts;
        size_t n, bytes, bytes_max;
} Page;

static void page_done(Page *page) {
        for (size_t i = 0; i < page->n; i++) {
                StoredTask *task = &page->entries[i].task;
                free((char *) task->task_id);
                free((char *) task->spec);
                free((char *) task->result);
                attempts_done(&page->attempts[i]);
        }
        free(page->entries);
        free(page->attempts);
}

static int on_page_row(const StoredTask *row, void *userdata) {
        Page *page = userdata;
        StoredTask *copy = &page->entries[page->n++].task;
        *copy = *row;
        bool failed = copy_text(&copy->task_id) < 0;
        if (row->result)
                copy->spec = NULL;
        failed |= copy_text(&copy->spec) < 0;
        failed |= copy_text(&copy->result) < 0;
        page->bytes += stored_task_listed_bytes(row);
        return failed ? -ENOMEM : page->bytes >= page->bytes_max;
}

/* In a second step, as a handler must not read pages anew. */
static int add_attempts(const SqliteStore *store, Page *page) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < page->n; i++) {
                StoreEntry *entry = &page->entries[i];
                if (entry->task.result)
                        continue;
                r = task_store_attempts(store->store, entry->task.seq, on_attempt, &page->attempts[i]);
                entry->attempts = page->attempts[i].rows;
                entry->n_attempts = page->attempts[i].n;
        }
        return r;
}

static void run_list(SqliteStore *store, Read *read) {
        _cleanup_(page_done) Page page = { .bytes_max = read->filter.bytes_max };
        uint64_t next = 0;
        page.entries = calloc(read->filter.limit + 1, sizeof(StoreEntry));
        page.attempts = calloc(read->filter.limit + 1, sizeof(Attempts));
        int r = page.entries && page.attempts ? 0 : -ENOMEM;
        if (r >= 0)
                r = task_store_list(store->store, &read->filter, on_page_row, &page, &next);
        if (r >= 0)
                r = add_attempts(store, &page);
        Moment now = moment_now();
        read->done.listed(r, page.entries, r < 0 ? 0 : page.n, next, &now, read->userdata);
}

static int copy_list(const char *const *list, char ***ret) {
        size_t n = text_list_count((char *const *) list);
        char **copy = calloc(n + 1, sizeof(char *));
        for (size_t i = 0; copy && i < n; i++) {
                copy[i] = strdup(list[i]);
                if (!copy[i])
                        copy = text_list_free(copy);
        }
        *ret = copy;
        return copy ? 0 : -ENOMEM;
}

static int port_list(void *store, const StoreFilter *filter, StoreListed done, void *userdata) {
        if (filter->limit < 1 || filter->limit > STORE_LIST_LIMIT_MAX)
                return -EINVAL;
        char **labels;
        Read *read;
        int r = copy_list(filter->labels, &labels);
        if (r < 0)
                return r;
        r = read_later(store,
                       &(Read) {
                                       .run = run_list,
                                       .filter = *filter,
                                       .labels = labels,
                                       .done.listed = done,
                                       .userdata = userdata,
                       },
                       &read);
        if (r >= 0)
                read->filter.labels = (const char *const *) labels;
        else
                text_list_free(labels);
        return r;
}

/* ── output ── */

static void run_read(SqliteStore *store, Read *read) {
        _cleanup_(freep) char *bytes = malloc(read->size + 1);
        ssize_t n = !bytes ? -ENOMEM :
                             task_store_read_output(
                                             store->store,
                                             read->seq,
                                             read->number,
                                             read->stream,
                                             read->offset,
                                             bytes,
                                             read->size);
        Moment now = moment_now();
        read->done.has_read(n, bytes, &now, read->userdata);
}

static int port_read(
                void *store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                size_t size,
                StoreHasRead done,
                void *userdata) {
        Read *read;
        return read_later(
                        store,
                        &(Read) {
                                        .run = run_read,
                                        .seq = seq,
                                        .number = number,
                                        .stream = stream,
                                        .offset = offset,
                                        .size = size,
                                        .done.has_read = done,
                                        .userdata = userdata,
                        },
                        &read);
}

/* ── the start ── */

static int load_fact(const SqliteStore *store, const StoreLoader *loader, const char *key) {
        _cleanup_(freep) char *value = NULL;
        int r = task_store_get_fact(store->store, key, &value);
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : loader->on_fact(key, value, loader->userdata);
}

static int on_live_row(const StoredTask *row, const StoredAttempt *attempt, void *userdata) {
        const StoreLoader *loader = userdata;
        Moment now = moment_now();
        return loader->on_task(row, attempt, &now, loader->userdata);
}

static int on_live_dependency(const StoredDependency *row, void *userdata) {
        const StoreLoader *loader = userdata;
        Moment now = moment_now();
        return loader->on_dependency(row, &now, loader->userdata);
}

static void run_load(SqliteStore *store, Read *read) {
        StoreLoader *loader = &read->loader;
        usec_t newest_usec;
        int r = load_fact(store, loader, STORED_FACT_DRAINING);
        if (r >= 0)
                r = load_fact(store, loader, STORED_FACT_RESULT_CLOCK);
        if (r >= 0)
                r = task_store_newest_result(store->store, &newest_usec);
        if (r >= 0)
                r = loader->on_newest_result(newest_usec, loader->userdata);
        if (r >= 0)
                r = task_store_load_workers(store->store, loader->on_worker, loader->userdata);
        if (r >= 0)
                r = task_store_load_live(store->store, on_live_row, loader);
        if (r >= 0)
                r = task_store_load_dependencies(store->store, on_live_dependency, loader);
        Moment now = moment_now();
        loader->done(r, &now, loader->userdata);
}

static int port_load(void *store, const StoreLoader *loader) {
        Read *read;
        return read_later(store, &(Read) { .run = run_load, .loader = *loader }, &read);
}

const StorePort sqlite_store_port = {
        .commit = port_commit,
        .get = port_get,
        .list = port_list,
        .read = port_read,
        .load = port_load,
        .prune = port_prune,
        .next_seq = port_next_seq,
        .pending_bytes = port_pending_bytes,
};
