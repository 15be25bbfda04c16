/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a store promises (delivery/store-port.h), asked of each kind of store: SQLite in a file, and a real
 * PostgreSQL server. What only a shared store has to do comes last. */

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/text.h"
#include "io/loop.h"
#include "postgres-server.h"
#include "queue/postgres-schema.h"
#include "queue/postgres-store.h"
#include "queue/sqlite-store.h"

#define AWAIT_USEC (60 * USEC_PER_SEC)

/* All that a text may hold, and what could end one in a statement. */
#define ODD_TEXT "'; DROP TABLE tasks; --\"\\'' {a,\"b\"} $1 %s \\x00 \n\t\001 äöü 😀 \\"

static PostgresServer server;

typedef struct Kind Kind;

typedef struct Fixture {
        const Kind *kind;
        sd_event *event;
        const StorePort *port;
        void *store;
        char directory[64]; /* of SQLite's file */
        char database[32];
        PostgresConfig config;
        uint64_t epoch;
        unsigned n_ready, n_fenced;
        int fenced;
} Fixture;

struct Kind {
        const char *name;
        void (*begin)(Fixture *fixture);
        void (*open)(Fixture *fixture);
        void (*close)(Fixture *fixture);
        void (*end)(const Fixture *fixture);
};

static void await(const Fixture *fixture, const unsigned *counter, unsigned wanted) {
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        while (*counter < wanted) {
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                assert_true(sd_event_run(fixture->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

/* ── the kinds ── */

static void sqlite_begin(Fixture *fixture) {
        (void) snprintf(fixture->directory, sizeof(fixture->directory), "/var/tmp/test-store-port-XXXXXX");
        assert_non_null(mkdtemp(fixture->directory));
}

static void sqlite_open(Fixture *fixture) {
        SqliteStore *store;
        char *message;
        assert_int_equal(sqlite_store_open(fixture->event, fixture->directory, &store, &message), 0);
        fixture->port = &sqlite_store_port;
        fixture->store = store;
}

static void sqlite_close(Fixture *fixture) {
        fixture->store = sqlite_store_free(fixture->store);
}

static void sqlite_end(const Fixture *fixture) {
        static const char *const names[] = { "tasks.db", "tasks.lock" };
        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                char path[128];
                (void) snprintf(path, sizeof(path), "%s/%s", fixture->directory, names[i]);
                (void) unlink(path);
        }
        assert_int_equal(rmdir(fixture->directory), 0);
}

static void on_ready(void *userdata) {
        Fixture *fixture = userdata;
        fixture->n_ready++;
}

static void on_fenced(int r, void *userdata) {
        Fixture *fixture = userdata;
        fixture->n_fenced++;
        fixture->fenced = r;
}

static long sql(const Fixture *fixture, const char *statements) {
        return postgres_server_run(&server, fixture->database, statements);
}

/* A database of its own for each test, in which a member leads. */
static void postgres_begin(Fixture *fixture) {
        static unsigned n;
        char *create, *setup;
        (void) snprintf(fixture->database, sizeof(fixture->database), "test%u", n++);
        assert_int_equal(text_format(&create, "CREATE DATABASE %s", fixture->database), 0);
        assert_int_equal(postgres_schema_setup(&setup), 0);
        (void) postgres_server_run(&server, "postgres", create);
        (void) sql(fixture, setup);
        (void) sql(fixture, "UPDATE lead SET member = 'me', epoch = 1");
        fixture->epoch = 1;
        free(create);
        free(setup);
}

static void postgres_open_unready(Fixture *fixture) {
        PostgresStore *store;
        free(fixture->config.conninfo);
        postgres_server_conninfo(&server, fixture->database, &fixture->config.conninfo);
        fixture->n_ready = fixture->n_fenced = 0;
        const PostgresStoreOptions options = {
                .config = &fixture->config,
                .epoch = fixture->epoch,
                .ready = on_ready,
                .fenced = on_fenced,
                .userdata = fixture,
        };
        assert_int_equal(postgres_store_new(fixture->event, &options, &store), 0);
        fixture->port = &postgres_store_port;
        fixture->store = store;
}

static void postgres_open(Fixture *fixture) {
        postgres_open_unready(fixture);
        await(fixture, &fixture->n_ready, 1);
}

static void postgres_close(Fixture *fixture) {
        fixture->store = postgres_store_free(fixture->store);
}

/* Another test may need the memory. */
static void postgres_end(const Fixture *fixture) {
        char *drop;
        assert_int_equal(text_format(&drop, "DROP DATABASE %s WITH (FORCE)", fixture->database), 0);
        (void) postgres_server_run(&server, "postgres", drop);
        free(drop);
}

static Kind sqlite_kind = { "sqlite", sqlite_begin, sqlite_open, sqlite_close, sqlite_end };
static Kind postgres_kind = { "postgres", postgres_begin, postgres_open, postgres_close, postgres_end };

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));
        assert_non_null(fixture);
        fixture->kind = *state;
        assert_int_equal(loop_new(&fixture->event), 0);
        fixture->kind->begin(fixture);
        fixture->kind->open(fixture);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        fixture->kind->close(fixture);
        fixture->kind->end(fixture);
        sd_event_unref(fixture->event);
        free(fixture->config.conninfo);
        free(fixture);
        return 0;
}

static void reopen(Fixture *fixture) {
        fixture->kind->close(fixture);
        fixture->kind->open(fixture);
}

/* ── writing ── */

static StoreBatch *batch_new(void) {
        StoreBatch *batch = NULL;
        assert_int_equal(store_batch_new(&batch), 0);
        return batch;
}

static void add_task(StoreBatch *batch, const StoredTask *task, const char *const *labels) {
        assert_int_equal(store_batch_put_task(batch, task, (char *const *) labels), 0);
}

static void add_dependencies(StoreBatch *batch, uint64_t seq, const char *const *ids) {
        assert_int_equal(store_batch_set_dependencies(batch, seq, (char *const *) ids), 0);
}

typedef struct Commit {
        unsigned n;
        int r;
        unsigned *n_told, place; /* the how-manieth that was told, from 1 */
} Commit;

static void on_committed(int r, const Moment *now, void *userdata) {
        Commit *commit = userdata;
        commit->n++;
        commit->r = r;
        if (commit->n_told)
                commit->place = ++*commit->n_told;
}

static void commit_begin(const Fixture *fixture, StoreBatch *batch, Commit *commit) {
        assert_int_equal(fixture->port->commit(fixture->store, batch, on_committed, commit), 0);
        assert_int_equal(commit->n, 0);
}

static int commit(const Fixture *fixture, StoreBatch *batch) {
        Commit commit = {};
        commit_begin(fixture, batch, &commit);
        await(fixture, &commit.n, 1);
        assert_int_equal(fixture->port->pending_bytes(fixture->store), 0);
        return commit.r;
}

static uint64_t next_seq(const Fixture *fixture) {
        uint64_t seq = fixture->port->next_seq(fixture->store);
        assert_true(seq > 0);
        return seq;
}

static StoredTask task_of(uint64_t seq, const char *task_id) {
        return (StoredTask) {
                .seq = seq,
                .task_id = task_id,
                .state = STORED_QUEUED,
                .priority = -3,
                .submit_usec = 1000,
                .queue_usec = 2000,
                .spec = "{\"command\":[\"true\"]}",
        };
}

static uint64_t put_task(const Fixture *fixture, const char *task_id, const char *const *labels) {
        StoreBatch *batch = batch_new();
        const StoredTask task = task_of(next_seq(fixture), task_id);
        add_task(batch, &task, labels);
        assert_int_equal(commit(fixture, batch), 0);
        return task.seq;
}

static void finish_task(const Fixture *fixture, uint64_t seq, StoredState state, usec_t finish_usec) {
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_finish_task(batch, seq, state, finish_usec, "{\"r\":1}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
}

static void set_dependencies(const Fixture *fixture, uint64_t seq, const char *const *ids) {
        StoreBatch *batch = batch_new();
        add_dependencies(batch, seq, ids);
        assert_int_equal(commit(fixture, batch), 0);
}

static void append_output(
                const Fixture *fixture,
                uint64_t seq,
                StoredStream stream,
                uint64_t offset,
                const void *bytes,
                size_t size) {
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_append_output(batch, seq, 1, stream, offset, bytes, size), 0);
        assert_int_equal(commit(fixture, batch), 0);
}

static int prune(const Fixture *fixture, usec_t before_usec, uint64_t keep_max, uint64_t limit) {
        Commit commit = {};
        assert_int_equal(
                        fixture->port->prune(
                                        fixture->store, before_usec, keep_max, limit, on_committed, &commit),
                        0);
        await(fixture, &commit.n, 1);
        return commit.r;
}

/* ── reading: everything becomes a text ── */

static void append_task(Text *to, const StoredTask *task) {
        assert_int_equal(
                        text_appendf(to,
                                     "%s %s p%" PRId64 " r%" PRIu64 " l%" PRIu64 " s%d %" PRIu64 " %" PRIu64
                                     " %" PRIu64 " %" PRIu64 " %s %s\n",
                                     task->task_id,
                                     stored_state_to_string(task->state),
                                     task->priority,
                                     task->retries,
                                     task->losses,
                                     task->stop_requested,
                                     task->submit_usec,
                                     task->queue_usec,
                                     task->not_before_usec,
                                     task->finish_usec,
                                     task->spec ?: "-",
                                     task->result ?: "-"),
                        0);
}

static void append_attempt(Text *to, const StoredAttempt *attempt) {
        assert_int_equal(
                        text_appendf(to,
                                     "#%" PRIu64 " %s %s %s %s %" PRIu64 " %" PRIu64 " u%d %s\n",
                                     attempt->number,
                                     stored_attempt_state_to_string(attempt->state),
                                     attempt->worker_id ?: "-",
                                     attempt->runner_task_id ?: "-",
                                     attempt->runner_instance ?: "-",
                                     attempt->place_usec,
                                     attempt->finish_usec,
                                     attempt->unanswered,
                                     attempt->attempt ?: "-"),
                        0);
}

static void append_dependency(Text *to, const StoredDependency *dependency) {
        assert_int_equal(
                        text_appendf(to,
                                     "%s>%s %s\n",
                                     dependency->task_id,
                                     dependency->on_id,
                                     dependency->failed ? "failed" : "waits"),
                        0);
}

typedef struct Seen {
        unsigned n; /* times that it was told */
        ssize_t r;
        uint64_t next, seq;
        Text text;
        Text outputs[STORED_STDERR + 1];
        uint64_t totals[STORED_STDERR + 1];
} Seen;

static void seen_done(Seen *seen) {
        text_done(&seen->text);
        for (StoredStream stream = STORED_STDOUT; stream <= STORED_STDERR; stream++)
                text_done(&seen->outputs[stream]);
}

static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        Seen *seen = userdata;
        seen->n++;
        seen->r = r;
        assert_int_equal(entry == NULL, r < 0);
        if (!entry)
                return;
        seen->seq = entry->task.seq;
        append_task(&seen->text, &entry->task);
        for (size_t i = 0; i < entry->n_attempts; i++)
                append_attempt(&seen->text, &entry->attempts[i]);
        for (size_t i = 0; i < entry->n_dependencies; i++)
                append_dependency(&seen->text, &entry->dependencies[i]);
        for (StoredStream stream = STORED_STDOUT; stream <= STORED_STDERR; stream++) {
                const StoreOutput *output = &entry->outputs[stream];
                assert_int_equal(
                                text_append_bytes(&seen->outputs[stream], output->bytes ?: "", output->size),
                                0);
                seen->totals[stream] = output->total;
        }
}

static Seen get(const Fixture *fixture, const char *task_id, const StoreWanted *wanted) {
        Seen seen = {};
        assert_int_equal(fixture->port->get(fixture->store, task_id, wanted, on_got, &seen), 0);
        assert_int_equal(seen.n, 0);
        await(fixture, &seen.n, 1);
        return seen;
}

static void check_task(const Fixture *fixture, const char *task_id, const char *wanted) {
        Seen seen = get(fixture, task_id, &(StoreWanted) { .attempts = true, .dependencies = true });
        check_int(task_id, seen.r, wanted ? 0 : -ENOENT);
        check_text(task_id, seen.text.data, wanted);
        seen_done(&seen);
}

static void on_listed(
                int r,
                const StoreEntry *entries,
                size_t n_entries,
                uint64_t next,
                const Moment *now,
                void *userdata) {
        Seen *seen = userdata;
        seen->n++;
        seen->r = r < 0 ? r : (ssize_t) n_entries;
        seen->next = next;
        for (size_t i = 0; i < n_entries; i++) {
                assert_int_equal(
                                text_appendf(&seen->text,
                                             "%s%s%s ",
                                             entries[i].task.task_id,
                                             entries[i].task.spec ? "" : "!",
                                             entries[i].n_attempts > 0 ? "*" : ""),
                                0);
                for (size_t j = 0; j < entries[i].n_attempts; j++)
                        assert_int_equal(entries[i].attempts[j].number, j + 1);
        }
}

static Seen list(const Fixture *fixture, const StoreFilter *filter) {
        Seen seen = {};
        assert_int_equal(fixture->port->list(fixture->store, filter, on_listed, &seen), 0);
        assert_int_equal(seen.n, 0);
        await(fixture, &seen.n, 1);
        return seen;
}

/* WANTED: the ids of the page, each followed by a space; "!": without specification, "*": with attempts. */
static uint64_t check_list(const Fixture *fixture, const StoreFilter *filter, const char *wanted) {
        Seen seen = list(fixture, filter);
        assert_true(seen.r >= 0);
        check_text("page", seen.text.data ?: "", wanted);
        seen_done(&seen);
        return seen.next;
}

static int on_fact(const char *key, const char *value, void *userdata) {
        return text_appendf(userdata, "%s=%s\n", key, value);
}

static int on_newest_result(usec_t finish_usec, void *userdata) {
        return text_appendf(userdata, "newest %" PRIu64 "\n", finish_usec);
}

static int on_worker(const StoredWorker *worker, void *userdata) {
        return text_appendf(
                        userdata,
                        "%s disabled=%d joined=%d leaving=%d %s %s %s\n",
                        worker->worker_id,
                        worker->disabled,
                        worker->joined,
                        worker->leaving,
                        worker->url ?: "-",
                        worker->before_url ?: "-",
                        worker->token ?: "-");
}

static int on_live_task(
                const StoredTask *task,
                const StoredAttempt *attempt,
                const Moment *now,
                void *userdata) {
        int r = text_appendf(userdata, "%s %s\n", task->task_id, stored_state_to_string(task->state));
        if (attempt)
                append_attempt(userdata, attempt);
        return r;
}

static int on_live_dependency(const StoredDependency *dependency, const Moment *now, void *userdata) {
        append_dependency(userdata, dependency);
        return 0;
}

typedef struct Load {
        Commit commit;
        Text text;
} Load;

static void on_loaded(int r, const Moment *now, void *userdata) {
        Load *load = (Load *) ((char *) userdata - offsetof(Load, text));
        on_committed(r, now, &load->commit);
}

static StoreLoader loader_of(Load *load) {
        return (StoreLoader) {
                .on_fact = on_fact,
                .on_newest_result = on_newest_result,
                .on_worker = on_worker,
                .on_task = on_live_task,
                .on_dependency = on_live_dependency,
                .done = on_loaded,
                .userdata = &load->text,
        };
}

static void check_load(const Fixture *fixture, const char *wanted) {
        Load load = {};
        const StoreLoader loader = loader_of(&load);
        assert_int_equal(fixture->port->load(fixture->store, &loader), 0);
        await(fixture, &load.commit.n, 1);
        assert_int_equal(load.commit.r, 0);
        check_text("load", load.text.data, wanted);
        text_done(&load.text);
}

static void on_read(ssize_t r, const void *bytes, const Moment *now, void *userdata) {
        Seen *seen = userdata;
        seen->n++;
        seen->r = r;
        if (r > 0)
                assert_int_equal(text_append_bytes(&seen->text, bytes, (size_t) r), 0);
}

static void check_output(
                const Fixture *fixture,
                uint64_t seq,
                uint64_t offset,
                size_t size,
                const char *wanted) {
        Seen seen = {};
        assert_int_equal(
                        fixture->port->read(
                                        fixture->store, seq, 1, STORED_STDOUT, offset, size, on_read, &seen),
                        0);
        await(fixture, &seen.n, 1);
        assert_int_equal(seen.r, strlen(wanted));
        check_text("output", seen.text.data ?: "", wanted);
        seen_done(&seen);
}

/* ── of every store ── */

static void a_task_comes_back_as_it_was_stored(void **state) {
        Fixture *fixture = *state;
        StoredTask task = {
                .seq = next_seq(fixture),
                .task_id = "a",
                .priority = INT64_MIN,
                .retries = 1,
                .losses = 2,
                .stop_requested = true,
                .submit_usec = 3,
                .queue_usec = 4,
                .not_before_usec = 5,
                .spec = "{\"command\":[\"ä\"]}",
        };
        StoreBatch *batch = batch_new();
        add_task(batch, &task, NULL);
        assert_int_equal(commit(fixture, batch), 0);
        static const char
                        first[] = "a queued p-9223372036854775808 r1 l2 s1 3 4 5 0 {\"command\":[\"ä\"]} -\n";
        check_task(fixture, "a", first);
        check_task(fixture, "b", NULL);
        reopen(fixture);
        check_task(fixture, "a", first);

        task.state = STORED_RUNNING;
        task.priority = INT64_MAX;
        task.retries = task.losses = task.queue_usec = task.not_before_usec = 9;
        task.stop_requested = false;
        batch = batch_new();
        assert_int_equal(store_batch_update_task(batch, &task), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture, "a", "a running p9223372036854775807 r9 l9 s0 3 9 9 0 {\"command\":[\"ä\"]} -\n");
        finish_task(fixture, task.seq, STORED_KILLED, 77);
        check_task(fixture,
                   "a",
                   "a killed p9223372036854775807 r9 l9 s0 3 9 9 77 {\"command\":[\"ä\"]} {\"r\":1}\n");
        Seen seen = get(fixture, "a", &(StoreWanted) {});
        assert_int_equal(seen.seq, task.seq);
        seen_done(&seen);
}

static void texts_may_hold_anything(void **state) {
        Fixture *fixture = *state;
        static const char *const labels[] = { "k=" ODD_TEXT, "k2={}", "k3=", NULL };
        StoreBatch *batch = batch_new();
        StoredTask task = task_of(next_seq(fixture), ODD_TEXT);
        task.spec = ODD_TEXT;
        const StoredAttempt attempt = { .number = 1,
                                        .worker_id = ODD_TEXT,
                                        .runner_task_id = ODD_TEXT,
                                        .runner_instance = ODD_TEXT,
                                        .attempt = ODD_TEXT };
        const StoredWorker worker = {
                .worker_id = ODD_TEXT, .url = ODD_TEXT, .before_url = ODD_TEXT, .token = ODD_TEXT
        };
        static const char *const ids[] = { "x" ODD_TEXT, NULL };
        add_task(batch, &task, labels);
        assert_int_equal(store_batch_put_attempt(batch, task.seq, &attempt), 0);
        add_dependencies(batch, task.seq, ids);
        assert_int_equal(store_batch_put_worker(batch, &worker), 0);
        assert_int_equal(store_batch_put_fact(batch, STORED_FACT_DRAINING, ODD_TEXT), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture,
                   ODD_TEXT,
                   ODD_TEXT " queued p-3 r0 l0 s0 1000 2000 0 0 " ODD_TEXT " -\n#1 sent " ODD_TEXT
                            " " ODD_TEXT " " ODD_TEXT " 0 0 u0 " ODD_TEXT "\n" ODD_TEXT ">x" ODD_TEXT
                            " failed\n");
        const StoreFilter filter = { .state = -1, .labels = labels, .limit = 2, .bytes_max = SIZE_MAX };
        check_list(fixture, &filter, ODD_TEXT "* ");
        check_load(fixture,
                   "draining=" ODD_TEXT "\nnewest 0\n" ODD_TEXT " disabled=0 joined=0 leaving=0 " ODD_TEXT
                   " " ODD_TEXT " " ODD_TEXT "\n" ODD_TEXT " queued\n#1 sent " ODD_TEXT " " ODD_TEXT
                   " " ODD_TEXT " 0 0 u0 " ODD_TEXT "\n" ODD_TEXT ">x" ODD_TEXT " failed\n");
}

static void a_batch_is_stored_whole_or_not_at_all(void **state) {
        Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        Commit commits[6] = {};
        unsigned n_told = 0;
        StoreBatch *batches[6];
        static const char *const ids[] = { "b", "a", "c", "d", "e", "f" };
        static const int wanted[] = { 0, -EEXIST, 0, -ENOENT, -ENOENT, 0 };
        for (size_t i = 0; i < 6; i++) {
                const StoredTask task = task_of(next_seq(fixture), ids[i]);
                batches[i] = batch_new();
                assert_int_equal(store_batch_put_fact(batches[i], "x", ids[i]), 0);
                add_task(batches[i], &task, NULL);
        }
        const StoredTask nobody = task_of(UINT32_MAX, "x");
        assert_int_equal(store_batch_update_task(batches[3], &nobody), 0);
        assert_int_equal(store_batch_finish_task(batches[4], UINT32_MAX, STORED_ERRORED, 1, "{}"), 0);
        for (size_t i = 0; i < 6; i++) {
                commits[i].n_told = &n_told;
                commit_begin(fixture, batches[i], &commits[i]);
        }
        await(fixture, &n_told, 6);
        for (size_t i = 0; i < 6; i++) {
                check_int(ids[i], commits[i].r, wanted[i]);
                check_int(ids[i], commits[i].place, (int) i + 1);
        }
        static const char live[] = "newest 0\na queued\nb queued\nc queued\nf queued\n";
        check_load(fixture, live);
        reopen(fixture);
        check_load(fixture, live);
}

/* More of them than are looked for one after the other. */
static void many_that_cannot_be_stored_do_not_take_others_with_them(void **state) {
        const Fixture *fixture = *state;
        enum {
                N = 60
        };
        Commit commits[N] = {};
        unsigned n_told = 0;
        (void) put_task(fixture, "a", NULL);
        for (size_t i = 0; i < N; i++) {
                char id[16];
                StoreBatch *batch = batch_new();
                (void) snprintf(id, sizeof(id), "t%zu", i);
                const StoredTask task = task_of(next_seq(fixture), i % 3 == 0 ? "a" : id);
                add_task(batch, &task, NULL);
                commits[i].n_told = &n_told;
                commit_begin(fixture, batch, &commits[i]);
        }
        await(fixture, &n_told, N);
        for (size_t i = 0; i < N; i++) {
                check_int("result", commits[i].r, i % 3 == 0 ? -EEXIST : 0);
                check_int("place", commits[i].place, (int) i + 1);
        }
        Seen seen = list(fixture, &(StoreFilter) { .state = -1, .limit = 1000, .bytes_max = SIZE_MAX });
        assert_int_equal(seen.r, 1 + N - N / 3);
        seen_done(&seen);
}

static void what_is_too_much_is_refused(void **state) {
        const Fixture *fixture = *state;
        static char piece[STORE_OUTPUT_PIECE_MAX];
        StoreBatch *batch = batch_new();
        for (uint64_t i = 0; i < 65; i++)
                assert_int_equal(
                                store_batch_append_output(
                                                batch,
                                                1,
                                                1,
                                                STORED_STDOUT,
                                                i * sizeof(piece),
                                                piece,
                                                sizeof(piece)),
                                0);
        Commit told = {};
        assert_int_equal(fixture->port->commit(fixture->store, batch, on_committed, &told), -ENOBUFS);
        assert_int_equal(fixture->port->pending_bytes(fixture->store), 0);
        batch = batch_new();
        assert_int_equal(
                        store_batch_append_output(batch, 1, 1, STORED_STDOUT, 0, piece, sizeof(piece) + 1),
                        -EINVAL);
        assert_int_equal(fixture->port->commit(fixture->store, batch, on_committed, &told), -EINVAL);
        assert_int_equal(told.n, 0);
        (void) put_task(fixture, "a", NULL);
}

static void pages_are_in_order_of_arrival(void **state) {
        const Fixture *fixture = *state;
        static const char *const red[] = { "colour=red", "n=1", NULL },
                                 *const blue[] = { "colour=blue", "n=1", NULL };
        uint64_t seq[6];
        static const char *const ids[] = { "f", "e", "d", "c", "b", "a" };
        for (size_t i = 0; i < 6; i++)
                seq[i] = put_task(fixture, ids[i], i % 2 == 0 ? red : blue);
        finish_task(fixture, seq[1], STORED_COMPLETED, 5);
        finish_task(fixture, seq[2], STORED_ERRORED, 6);
        StoreBatch *batch = batch_new();
        const StoredAttempt first = { .number = 1, .state = STORED_ATTEMPT_LOST }, second = { .number = 2 };
        assert_int_equal(store_batch_put_attempt(batch, seq[3], &second), 0);
        assert_int_equal(store_batch_put_attempt(batch, seq[3], &first), 0);
        assert_int_equal(store_batch_put_attempt(batch, seq[1], &first), 0);
        assert_int_equal(store_batch_put_attempt(batch, seq[5], &first), 0);
        assert_int_equal(commit(fixture, batch), 0);

        StoreFilter filter = { .state = -1, .limit = 1000, .bytes_max = SIZE_MAX };
        assert_int_equal(check_list(fixture, &filter, "f e! d! c* b a* "), 0);
        filter.limit = 6;
        assert_int_equal(check_list(fixture, &filter, "f e! d! c* b a* "), 0);
        filter.limit = 4;
        assert_int_equal(check_list(fixture, &filter, "f e! d! c* "), seq[3]);
        filter.after = seq[3];
        assert_int_equal(check_list(fixture, &filter, "b a* "), 0);
        filter.after = UINT64_MAX;
        assert_int_equal(check_list(fixture, &filter, ""), 0);
        filter.after = 0;
        filter.state = STORED_QUEUED;
        filter.limit = 3;
        assert_int_equal(check_list(fixture, &filter, "f c* b "), seq[4]);
        filter.state = STORED_KILLED;
        assert_int_equal(check_list(fixture, &filter, ""), 0);

        /* A page ends with the task with which it has so many bytes. */
        filter.state = -1;
        filter.limit = 1000;
        filter.bytes_max = 0;
        assert_int_equal(check_list(fixture, &filter, "f "), seq[0]);
        filter.bytes_max = strlen("{\"command\":[\"true\"]}") + 1;
        assert_int_equal(check_list(fixture, &filter, "f e! "), seq[1]);
        filter.after = seq[4];
        assert_int_equal(check_list(fixture, &filter, "a* "), 0);
}

static void pages_are_found_by_labels(void **state) {
        const Fixture *fixture = *state;
        static const char *const red[] = { "colour=red", "n=1", NULL },
                                 *const blue[] = { "colour=blue", "n=1", NULL };
        uint64_t seq[6];
        static const char *const ids[] = { "f", "e", "d", "c", "b", "a" };
        for (size_t i = 0; i < 6; i++)
                seq[i] = put_task(fixture, ids[i], i % 2 == 0 ? red : blue);
        finish_task(fixture, seq[2], STORED_ERRORED, 6);
        StoreFilter filter = { .state = -1,
                               .labels = (const char *const[]) { "n=1", "colour=red", NULL },
                               .limit = 2,
                               .bytes_max = SIZE_MAX };
        assert_int_equal(check_list(fixture, &filter, "f d! "), seq[2]);
        filter.after = seq[2];
        assert_int_equal(check_list(fixture, &filter, "b "), 0);
        filter.after = 0;
        filter.state = STORED_QUEUED;
        assert_int_equal(check_list(fixture, &filter, "f b "), 0);
        filter.labels = (const char *const[]) { "colour=green", NULL };
        assert_int_equal(check_list(fixture, &filter, ""), 0);
        filter.labels = (const char *const[]) { "colour=red", "n=1", "n=1", "n=1", "n=1",
                                                "n=1",        "n=1", "n=1", NULL };
        assert_int_equal(check_list(fixture, &filter, "f b "), 0);
}

static void odd_filters_are_refused(void **state) {
        const Fixture *fixture = *state;
        static const char *const no_sign[] = { "colour", NULL };
        static const char *const too_many[] = { "a=", "b=", "c=", "d=", "e=", "f=", "g=", "h=", "i=", NULL };
        const StoreFilter filters[] = {
                { .state = -1, .labels = no_sign, .limit = 1 },
                { .state = -1, .labels = too_many, .limit = 1 },
                { .state = -1, .limit = 0 },
                { .state = -1, .limit = STORE_LIST_LIMIT_MAX + 1 },
                { .state = _STORED_STATE_MAX, .limit = 1 },
        };
        for (FOREACH_ROW(filter, filters)) {
                Seen seen = {};
                int r = fixture->port->list(fixture->store, filter, on_listed, &seen);
                if (r >= 0)
                        await(fixture, &seen.n, 1);
                assert_int_equal(r < 0 ? r : seen.r, -EINVAL);
        }
}

/* More of one label than are looked at for one page. */
static void a_rare_task_among_many_takes_several_pages(void **state) {
        const Fixture *fixture = *state;
        enum {
                N = 6000
        };
        static const char *const labels[] = { "k=v", NULL };
        StoreBatch *batch = batch_new();
        uint64_t last = 0;
        for (size_t i = 0; i < N; i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "t%zu", i);
                const StoredTask task = task_of(last = next_seq(fixture), id);
                add_task(batch, &task, labels);
        }
        assert_int_equal(store_batch_finish_task(batch, last, STORED_KILLED, 1, "{}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        StoreFilter filter = { .state = STORED_KILLED, .labels = labels, .limit = 10, .bytes_max = SIZE_MAX };
        filter.after = check_list(fixture, &filter, "");
        assert_true(filter.after > 0);
        assert_int_equal(check_list(fixture, &filter, "t5999! "), 0);
}

static void outputs_are_read_from_anywhere(void **state) {
        const Fixture *fixture = *state;
        uint64_t seq = put_task(fixture, "a", NULL);
        append_output(fixture, seq, STORED_STDOUT, 0, "hello ", 6);
        append_output(fixture, seq, STORED_STDOUT, 6, "wor", 3);
        append_output(fixture, seq, STORED_STDOUT, 6, "world", 5);
        append_output(fixture, seq, STORED_STDERR, 0, "\0\377", 2);
        check_output(fixture, seq, 0, 100, "hello ");
        check_output(fixture, seq, 0, 2, "he");
        check_output(fixture, seq, 2, 100, "llo ");
        check_output(fixture, seq, 6, 100, "world");
        check_output(fixture, seq, 10, 100, "d");
        check_output(fixture, seq, 11, 100, "");
        check_output(fixture, seq, UINT64_MAX, 100, "");
        check_output(fixture, seq + 1, 0, 100, "");
}

static void check_inline(const Fixture *fixture, const StoreWanted *wanted, const void *bytes, size_t size) {
        Seen seen = get(fixture, "a", wanted);
        assert_int_equal(seen.r, 0);
        assert_int_equal(seen.outputs[STORED_STDOUT].size, size);
        assert_memory_equal(seen.outputs[STORED_STDOUT].data ?: "", bytes, size);
        seen_done(&seen);
}

static void a_result_comes_with_its_output(void **state) {
        const Fixture *fixture = *state;
        enum {
                SIZE = 300 * 1024
        };
        static unsigned char bytes[SIZE];
        uint64_t seq = put_task(fixture, "a", NULL);
        for (size_t i = 0; i < SIZE; i++)
                bytes[i] = (unsigned char) (i * 7 / 5);
        StoreBatch *batch = batch_new();
        const StoredAttempt attempt = { .number = 1, .state = STORED_ATTEMPT_FINISHED, .attempt = "{}" };
        assert_int_equal(store_batch_put_attempt(batch, seq, &attempt), 0);
        assert_int_equal(commit(fixture, batch), 0);
        append_output(fixture, seq, STORED_STDOUT, 0, bytes, SIZE);
        append_output(fixture, seq, STORED_STDERR, 0, "err", 3);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = SIZE }, "", 0);
        finish_task(fixture, seq, STORED_COMPLETED, 9);

        check_inline(fixture, &(StoreWanted) {}, "", 0);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = 5 }, bytes, 5);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = 140000 }, bytes, 140000);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = UINT64_MAX }, bytes, SIZE);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = 5, .tail = true }, bytes + SIZE - 5, 5);
        check_inline(fixture,
                     &(StoreWanted) { .output_bytes_max = 140000, .tail = true },
                     bytes + SIZE - 140000,
                     140000);
        check_inline(fixture, &(StoreWanted) { .output_bytes_max = SIZE + 1, .tail = true }, bytes, SIZE);
        Seen seen = get(fixture, "a", &(StoreWanted) { .output_bytes_max = 2, .tail = true });
        assert_int_equal(seen.totals[STORED_STDOUT], SIZE);
        assert_int_equal(seen.totals[STORED_STDERR], 3);
        check_text("stderr", seen.outputs[STORED_STDERR].data, "rr");
        seen_done(&seen);
}

static void attempts_replace_one_another_by_number(void **state) {
        const Fixture *fixture = *state;
        uint64_t seq = put_task(fixture, "a", NULL);
        const StoredAttempt attempts[] = {
                { .number = 1, .worker_id = "w", .runner_task_id = "r", .place_usec = 4, .unanswered = true },
                { .number = 2, .state = STORED_ATTEMPT_RUNNING, .worker_id = "v" },
                { .number = 1,
                  .state = STORED_ATTEMPT_LOST,
                  .runner_instance = "i",
                  .finish_usec = 5,
                  .attempt = "{}" },
        };
        for (FOREACH_ROW(attempt, attempts)) {
                StoreBatch *batch = batch_new();
                assert_int_equal(store_batch_put_attempt(batch, seq, attempt), 0);
                assert_int_equal(commit(fixture, batch), 0);
        }
        check_task(fixture,
                   "a",
                   "a queued p-3 r0 l0 s0 1000 2000 0 0 {\"command\":[\"true\"]} -\n"
                   "#1 lost - - i 0 5 u0 {}\n#2 running v - - 0 0 u0 -\n");
        check_load(fixture, "newest 0\na queued\n#2 running v - - 0 0 u0 -\n");
}

static void check_dependencies(const Fixture *fixture, const char *task_id, const char *wanted) {
        Seen seen = get(fixture, task_id, &(StoreWanted) { .dependencies = true });
        assert_int_equal(seen.r, 0);
        const char *rest = strchr(seen.text.data, '\n');
        check_text(task_id, rest + 1, wanted);
        seen_done(&seen);
}

static void dependencies_follow_how_tasks_end(void **state) {
        const Fixture *fixture = *state;
        uint64_t done = put_task(fixture, "done", NULL), failed = put_task(fixture, "failed", NULL),
                 live = put_task(fixture, "live", NULL), also_live = put_task(fixture, "also", NULL),
                 a = put_task(fixture, "a", NULL), b = put_task(fixture, "b", NULL);
        finish_task(fixture, done, STORED_COMPLETED, 1);
        finish_task(fixture, failed, STORED_KILLED, 2);
        set_dependencies(fixture, a, (const char *const[]) { "done", NULL });
        check_dependencies(fixture, "a", "");
        set_dependencies(fixture, a, (const char *const[]) { "failed", NULL });
        check_dependencies(fixture, "a", "a>failed failed\n");
        set_dependencies(fixture, a, (const char *const[]) { "nobody", NULL });
        check_dependencies(fixture, "a", "a>nobody failed\n");
        set_dependencies(fixture, a, (const char *const[]) { "live", "done", NULL });
        check_dependencies(fixture, "a", "a>live waits\n");
        set_dependencies(fixture, b, (const char *const[]) { "also", NULL });
        check_load(fixture,
                   "newest 2\nlive queued\nalso queued\na queued\nb queued\na>live waits\nb>also waits\n");
        finish_task(fixture, live, STORED_COMPLETED, 3);
        finish_task(fixture, also_live, STORED_ERRORED, 4);
        check_dependencies(fixture, "a", "");
        check_dependencies(fixture, "b", "b>also failed\n");
        set_dependencies(fixture, b, NULL);
        check_dependencies(fixture, "b", "");

        /* In one batch: how it is at that place among the changes. */
        StoreBatch *batch = batch_new();
        const StoredTask c = task_of(next_seq(fixture), "c"), d = task_of(next_seq(fixture), "d");
        add_task(batch, &c, NULL);
        add_task(batch, &d, NULL);
        add_dependencies(batch, d.seq, (const char *const[]) { "c", "a", NULL });
        assert_int_equal(store_batch_finish_task(batch, c.seq, STORED_ERRORED, 5, "{}"), 0);
        assert_int_equal(store_batch_finish_task(batch, a, STORED_COMPLETED, 5, "{}"), 0);
        assert_int_equal(store_batch_delete_task(batch, c.seq), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_dependencies(fixture, "d", "d>c failed\n");
        finish_task(fixture, d.seq, STORED_ERRORED, 6);
        check_load(fixture, "newest 6\nb queued\n");
}

static void a_task_that_is_retried_begins_anew(void **state) {
        const Fixture *fixture = *state;
        uint64_t seq = put_task(fixture, "a", NULL);
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_retry_task(batch, seq, 7), 0);
        assert_int_equal(commit(fixture, batch), -ENOENT);
        append_output(fixture, seq, STORED_STDOUT, 0, "x", 1);
        finish_task(fixture, seq, STORED_ERRORED, 6);
        batch = batch_new();
        assert_int_equal(store_batch_retry_task(batch, seq, 7), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture, "a", "a queued p-3 r0 l0 s0 1000 7 0 0 {\"command\":[\"true\"]} -\n");
        check_output(fixture, seq, 0, 10, "");
        check_load(fixture, "newest 0\na queued\n");
}

static void what_is_deleted_leaves_nothing(void **state) {
        const Fixture *fixture = *state;
        static const char *const labels[] = { "k=v", NULL };
        uint64_t seq = put_task(fixture, "a", labels);
        StoreBatch *batch = batch_new();
        const StoredAttempt attempt = { .number = 1 };
        assert_int_equal(store_batch_put_attempt(batch, seq, &attempt), 0);
        add_dependencies(batch, seq, (const char *const[]) { "x", NULL });
        assert_int_equal(commit(fixture, batch), 0);
        append_output(fixture, seq, STORED_STDOUT, 0, "x", 1);
        batch = batch_new();
        assert_int_equal(store_batch_delete_task(batch, seq), 0);
        assert_int_equal(store_batch_delete_task(batch, seq), 0);
        const StoredTask again = task_of(seq, "a");
        add_task(batch, &again, NULL);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture, "a", "a queued p-3 r0 l0 s0 1000 2000 0 0 {\"command\":[\"true\"]} -\n");
        check_output(fixture, seq, 0, 10, "");
        const StoreFilter filter = { .state = -1, .labels = labels, .limit = 2, .bytes_max = SIZE_MAX };
        check_list(fixture, &filter, "");
}

static void the_oldest_results_are_pruned(void **state) {
        const Fixture *fixture = *state;
        char id[8];
        for (usec_t i = 1; i <= 8; i++) {
                (void) snprintf(id, sizeof(id), "t%" PRIu64, i);
                uint64_t seq = put_task(fixture, id, NULL);
                finish_task(fixture, seq, STORED_COMPLETED, 100 - i);
        }
        (void) put_task(fixture, "live", NULL);
        StoreFilter filter = { .state = -1, .limit = 100, .bytes_max = SIZE_MAX };
        assert_int_equal(prune(fixture, 0, 8, 100), 0);
        assert_int_equal(prune(fixture, 94, 100, 1), 1);
        check_list(fixture, &filter, "t1! t2! t3! t4! t5! t6! t7! live ");
        assert_int_equal(prune(fixture, 94, UINT64_MAX, 100), 1);
        check_list(fixture, &filter, "t1! t2! t3! t4! t5! t6! live ");
        assert_int_equal(prune(fixture, 0, 2, 3), 3);
        check_list(fixture, &filter, "t1! t2! t3! live ");
        assert_int_equal(prune(fixture, 0, 2, 3), 1);
        check_list(fixture, &filter, "t1! t2! live ");
        assert_int_equal(prune(fixture, USEC_INFINITY, 0, 100), 2);
        check_list(fixture, &filter, "live ");
}

static void what_is_forgotten_while_results_are_pruned_counts(void **state) {
        const Fixture *fixture = *state;
        char id[8];
        uint64_t last = 0;
        for (usec_t i = 1; i <= 8; i++) {
                (void) snprintf(id, sizeof(id), "t%" PRIu64, i);
                last = put_task(fixture, id, NULL);
                finish_task(fixture, last, STORED_COMPLETED, i);
        }
        StoreFilter filter = { .state = -1, .limit = 100, .bytes_max = SIZE_MAX };
        assert_int_equal(prune(fixture, 0, 4, 2), 2);
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_delete_task(batch, last), 0);
        assert_int_equal(commit(fixture, batch), 0);
        assert_int_equal(prune(fixture, 0, 4, 2), 1);
        check_list(fixture, &filter, "t4! t5! t6! t7! ");
        assert_int_equal(prune(fixture, 0, 4, 2), 0);
        assert_int_equal(prune(fixture, 0, 1, 2), 2);
        assert_int_equal(prune(fixture, 0, 2, 2), 0); /* may keep more than before */
        check_list(fixture, &filter, "t6! t7! ");
}

static void workers_and_facts_are_replaced(void **state) {
        Fixture *fixture = *state;
        StoreBatch *batch = batch_new();
        const StoredWorker workers[] = {
                { .worker_id = "v", .url = "u", .disabled = true },
                { .worker_id = "w", .joined = true, .leaving = true, .before_url = "b", .token = "t" },
                { .worker_id = "v", .joined = true },
                { .worker_id = "x" },
        };
        for (FOREACH_ROW(worker, workers))
                assert_int_equal(store_batch_put_worker(batch, worker), 0);
        assert_int_equal(store_batch_delete_worker(batch, "x"), 0);
        assert_int_equal(store_batch_delete_worker(batch, "nobody"), 0);
        assert_int_equal(store_batch_put_fact(batch, STORED_FACT_RESULT_CLOCK, "5"), 0);
        assert_int_equal(store_batch_put_fact(batch, STORED_FACT_DRAINING, "0"), 0);
        assert_int_equal(store_batch_put_fact(batch, STORED_FACT_DRAINING, "1"), 0);
        assert_int_equal(store_batch_put_fact(batch, "other", "1"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        check_load(fixture,
                   "draining=1\nresult-clock=5\nnewest 0\n"
                   "v disabled=0 joined=1 leaving=0 - - -\nw disabled=0 joined=1 leaving=1 - b t\n");
}

static int refuse_task(
                const StoredTask *task,
                const StoredAttempt *attempt,
                const Moment *now,
                void *userdata) {
        return -E2BIG;
}

/* Tasks of more than one page, too. */
static void all_that_is_live_is_loaded_in_order(void **state) {
        const Fixture *fixture = *state;
        enum {
                N = 2500
        };
        Text wanted = {}, dependencies = {};
        StoreBatch *batch = batch_new();
        assert_int_equal(text_append(&wanted, "newest 0\n"), 0);
        for (size_t i = 0; i < N; i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "t%zu", i);
                StoredTask task = task_of(next_seq(fixture), id);
                if (i % 3 == 0)
                        task.state = STORED_RUNNING;
                add_task(batch, &task, NULL);
                add_dependencies(batch, task.seq, (const char *const[]) { "a", NULL });
                assert_int_equal(text_appendf(&wanted, "%s %s\n", id, stored_state_to_string(task.state)), 0);
                assert_int_equal(text_appendf(&dependencies, "%s>a failed\n", id), 0);
        }
        assert_int_equal(commit(fixture, batch), 0);
        assert_int_equal(text_append(&wanted, dependencies.data), 0);
        Load load = {};
        StoreLoader loader = loader_of(&load);
        loader.on_task = refuse_task;
        assert_int_equal(fixture->port->load(fixture->store, &loader), 0);
        await(fixture, &load.commit.n, 1);
        assert_int_equal(load.commit.r, -E2BIG);
        text_done(&load.text);
        if (fixture->kind == &postgres_kind)
                check_load(fixture, wanted.data);
        text_done(&wanted);
        text_done(&dependencies);
}

static void numbers_are_never_given_twice(void **state) {
        Fixture *fixture = *state;
        uint64_t last = next_seq(fixture);
        for (size_t i = 0; i < 15000; i++) {
                uint64_t seq = fixture->port->next_seq(fixture->store);
                if (seq == 0) { /* of the next range, when it is there */
                        assert_true(sd_event_run(fixture->event, USEC_PER_SEC) >= 0);
                        continue;
                }
                assert_true(seq > last);
                last = seq;
        }
        StoreBatch *batch = batch_new();
        const StoredTask task = task_of(last, "a");
        add_task(batch, &task, NULL);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        assert_true(next_seq(fixture) > last);
}

/* ── of a store that members share ── */

static void a_store_that_is_not_ours_any_more_writes_nothing(void **state) {
        Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        assert_string_equal(postgres_store_queue_id(fixture->store), postgres_store_queue_id(fixture->store));
        (void) sql(fixture, "UPDATE lead SET epoch = 2, written = 0");
        Commit commit = {};
        StoreBatch *batch = batch_new();
        const StoredTask task = task_of(next_seq(fixture), "b");
        add_task(batch, &task, NULL);
        commit_begin(fixture, batch, &commit);
        await(fixture, &fixture->n_fenced, 1);
        assert_int_equal(fixture->fenced, -ESTALE);
        assert_int_equal(commit.n, 1);
        assert_int_equal(commit.r, -ESTALE);
        Seen seen = {};
        assert_int_equal(fixture->port->commit(fixture->store, batch_new(), on_committed, &commit), -ESTALE);
        assert_int_equal(fixture->port->get(fixture->store, "a", &(StoreWanted) {}, on_got, &seen), -ESTALE);
        assert_int_equal(fixture->port->next_seq(fixture->store), 0);
        assert_int_equal(sql(fixture, "SELECT count(*) FROM tasks"), 1);

        /* Nor does one begin that never was. */
        fixture->kind->close(fixture);
        postgres_open_unready(fixture);
        await(fixture, &fixture->n_fenced, 1);
        assert_int_equal(fixture->n_ready, 0);
        fixture->kind->close(fixture);
        fixture->epoch = 2;
        postgres_open(fixture);
        (void) put_task(fixture, "b", NULL);
}

/* One that was stopped in the middle of a transaction, which the server waits for the rest of. */
static void a_leader_that_is_stopped_does_not_keep_the_lead(void **state) {
        Fixture *fixture = *state;
        PGconn *stopped = PQconnectdb(fixture->config.conninfo);
        (void) put_task(fixture, "a", NULL);
        fixture->kind->close(fixture);
        (void) sql(fixture,
                   "INSERT INTO member (id, url, address, version, secret, expires) "
                   "VALUES ('me', '', '', '', '', clock_timestamp() - interval '1 s')");
        assert_int_equal(PQenterPipelineMode(stopped), 1);
        assert_int_equal(PQsendQueryParams(stopped, "SELECT lead_begin(1)", 0, NULL, NULL, NULL, NULL, 0), 1);
        assert_int_equal(PQpipelineSync(stopped), 1);
        assert_int_equal(
                        PQsendQueryParams(stopped, "SELECT lead_write(1, 2)", 0, NULL, NULL, NULL, NULL, 0),
                        1);
        assert_int_equal(PQsendFlushRequest(stopped), 1);
        while (PQflush(stopped) > 0)
                ;
        for (unsigned n = 0; n < 3;) { /* until it holds the row */
                PGresult *result = PQgetResult(stopped);
                n += result != NULL;
                PQclear(result);
        }
        (void) sql(fixture,
                   "SET lock_timeout = '1s';"
                   "UPDATE lead SET member = 'other', epoch = epoch + 1, written = 0, backend = NULL");
        PQfinish(stopped);
        fixture->epoch = 2;
        postgres_open(fixture);
        (void) put_task(fixture, "b", NULL);
        assert_int_equal(sql(fixture, "SELECT written FROM lead"), 1);
}

/* Batches of a test of disturbances: each has a task of its own, whose id is its number. */
typedef struct Writes {
        Fixture *fixture;
        unsigned n_begun, n_told;
} Writes;

static void on_write_told(int r, const Moment *now, void *userdata) {
        Writes *writes = userdata;
        assert_int_equal(r, 0);
        writes->n_told++;
}

static void write_one(Writes *writes) {
        char id[16];
        StoreBatch *batch = batch_new();
        (void) snprintf(id, sizeof(id), "%u", writes->n_begun++);
        uint64_t seq = writes->fixture->port->next_seq(writes->fixture->store);
        if (seq == 0) /* while the database is away there may be none */
                seq = 1000000 + writes->n_begun;
        const StoredTask task = task_of(seq, id);
        add_task(batch, &task, NULL);
        assert_int_equal(
                        writes->fixture->port->commit(writes->fixture->store, batch, on_write_told, writes),
                        0);
}

/* As many at a time as there are clients. */
static void write_some(Writes *writes) {
        while (writes->n_begun < writes->n_told + 50)
                write_one(writes);
}

static void write_until(Writes *writes, unsigned n_told) {
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        while (writes->n_told < n_told) {
                write_some(writes);
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                assert_true(sd_event_run(writes->fixture->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

static void check_writes(Writes *writes) {
        await(writes->fixture, &writes->n_told, writes->n_begun);
        assert_int_equal(writes->fixture->n_fenced, 0);
        assert_int_equal(sql(writes->fixture, "SELECT count(*) FROM tasks"), writes->n_begun);
        assert_int_equal(sql(writes->fixture, "SELECT count(DISTINCT task_id) FROM tasks"), writes->n_begun);
}

static void a_crash_of_the_server_loses_nothing_that_was_told(void **state) {
        Writes writes = { .fixture = *state };
        for (unsigned i = 0; i < 3; i++) {
                write_until(&writes, writes.n_told + 500 + i);
                write_some(&writes);
                for (unsigned j = 0; j < 3; j++)
                        (void) sd_event_run(writes.fixture->event, 0);
                postgres_server_kill(&server);
                Seen seen = {};
                assert_int_equal(
                                writes.fixture->port->get(
                                                writes.fixture->store, "0", &(StoreWanted) {}, on_got, &seen),
                                0);
                for (unsigned j = 0; j < 10; j++)
                        assert_true(sd_event_run(writes.fixture->event, 10 * USEC_PER_MSEC) >= 0);
                assert_int_equal(seen.n, 0);
                postgres_server_start(&server);
                await(writes.fixture, &seen.n, 1);
                assert_int_equal(seen.r, 0);
                seen_done(&seen);
        }
        check_writes(&writes);
}

/* At any moment of a transaction, also between its end and the answer. */
static void a_broken_connection_loses_nothing_and_writes_nothing_twice(void **state) {
        Writes writes = { .fixture = *state };
        for (unsigned i = 0; i < 25; i++) {
                write_until(&writes, writes.n_told + 100 + i);
                write_some(&writes);
                for (unsigned j = 0; j < i % 5; j++)
                        (void) sd_event_run(writes.fixture->event, 0);
                (void) sql(writes.fixture,
                           "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                           "WHERE application_name = 'daggyd-store'");
        }
        check_writes(&writes);
}

/* Our ends of all connections to the server, as if the network were gone: what was sent arrives there. */
static void cut_connections(void) {
        for (int fd = 3; fd < 256; fd++) {
                struct sockaddr_un peer = {};
                socklen_t size = sizeof(peer);
                if (getpeername(fd, (struct sockaddr *) &peer, &size) == 0 && peer.sun_family == AF_UNIX &&
                    text_after(peer.sun_path, server.folder))
                        (void) shutdown(fd, SHUT_RDWR);
        }
}

/* The server commits what it has got, and cannot say so. */
static void an_answer_that_is_lost_is_found_out(void **state) {
        Writes writes = { .fixture = *state };
        for (unsigned i = 0; i < 25; i++) {
                write_until(&writes, writes.n_told + 100 + i);
                write_some(&writes);
                for (unsigned j = 0; j < i % 5; j++)
                        (void) sd_event_run(writes.fixture->event, 0);
                cut_connections();
        }
        check_writes(&writes);
}

static void what_is_read_survives_a_broken_connection(void **state) {
        const Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        for (unsigned i = 0; i < 10; i++) {
                Load load = {};
                Seen seen = {};
                const StoreLoader loader = loader_of(&load);
                assert_int_equal(fixture->port->load(fixture->store, &loader), 0);
                assert_int_equal(
                                fixture->port->get(fixture->store, "a", &(StoreWanted) {}, on_got, &seen), 0);
                (void) sql(fixture,
                           "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                           "WHERE application_name = 'daggyd-read'");
                await(fixture, &load.commit.n, 1);
                check_text("load", load.text.data, "newest 0\na queued\n");
                await(fixture, &seen.n, 1);
                assert_int_equal(seen.r, 0);
                text_done(&load.text);
                seen_done(&seen);
        }
}

static void ignore_notice(void *userdata, const PGresult *notice) {
}

static void only_tables_of_the_next_version_are_left_alone(void **state) {
        const Fixture *fixture = *state;
        char *setup_sql;
        assert_int_equal(postgres_schema_setup(&setup_sql), 0);
        long version = sql(fixture, "SELECT version FROM schema_version");
        assert_true(version >= 1);
        (void) sql(fixture, setup_sql);
        (void) sql(fixture, "UPDATE schema_version SET version = version + 1");
        (void) sql(fixture, setup_sql);
        assert_int_equal(sql(fixture, "SELECT version FROM schema_version"), version + 1);

        (void) sql(fixture, "UPDATE schema_version SET version = version + 1");
        PGconn *connection = PQconnectdb(fixture->config.conninfo);
        (void) PQsetNoticeReceiver(connection, ignore_notice, NULL);
        PGresult *result = PQexec(connection, setup_sql);
        check_text("refusal", PQresultErrorField(result, PG_DIAG_SQLSTATE), "DG002");
        PQclear(result);
        PQfinish(connection);
        assert_int_equal(sql(fixture, "SELECT version FROM schema_version"), version + 2);
        free(setup_sql);
}

/* It is not of the kind that leaves one in doubt. */
static void what_the_server_refuses_is_not_there(void **state) {
        const Fixture *fixture = *state;
        Commit commits[3] = {};
        unsigned n_told = 0;
        (void) sql(fixture, "ALTER TABLE tasks ADD CHECK (task_id NOT LIKE 'odd%')");
        static const char *const ids[] = { "a", "odd", "b" };
        for (size_t i = 0; i < N_ELEMENTS(ids); i++) {
                StoreBatch *batch = batch_new();
                const StoredTask task = task_of(next_seq(fixture), ids[i]);
                add_task(batch, &task, NULL);
                commits[i].n_told = &n_told;
                commit_begin(fixture, batch, &commits[i]);
        }
        await(fixture, &n_told, N_ELEMENTS(ids));
        assert_int_equal(commits[0].r, 0);
        assert_int_equal(commits[1].r, -EREMOTEIO);
        assert_int_equal(commits[2].r, 0);
        check_load(fixture, "newest 0\na queued\nb queued\n");
}

/* ── ── */

typedef struct NamedTest {
        const char *name;
        CMUnitTestFunction function;
} NamedTest;

#define NAMED(function) { #function, function }

static const NamedTest common[] = {
        NAMED(a_task_comes_back_as_it_was_stored),
        NAMED(texts_may_hold_anything),
        NAMED(a_batch_is_stored_whole_or_not_at_all),
        NAMED(many_that_cannot_be_stored_do_not_take_others_with_them),
        NAMED(what_is_too_much_is_refused),
        NAMED(pages_are_in_order_of_arrival),
        NAMED(pages_are_found_by_labels),
        NAMED(odd_filters_are_refused),
        NAMED(a_rare_task_among_many_takes_several_pages),
        NAMED(outputs_are_read_from_anywhere),
        NAMED(a_result_comes_with_its_output),
        NAMED(attempts_replace_one_another_by_number),
        NAMED(dependencies_follow_how_tasks_end),
        NAMED(a_task_that_is_retried_begins_anew),
        NAMED(what_is_deleted_leaves_nothing),
        NAMED(the_oldest_results_are_pruned),
        NAMED(what_is_forgotten_while_results_are_pruned_counts),
        NAMED(workers_and_facts_are_replaced),
        NAMED(all_that_is_live_is_loaded_in_order),
        NAMED(numbers_are_never_given_twice),
};

static const NamedTest shared[] = {
        NAMED(a_store_that_is_not_ours_any_more_writes_nothing),
        NAMED(a_leader_that_is_stopped_does_not_keep_the_lead),
        NAMED(a_crash_of_the_server_loses_nothing_that_was_told),
        NAMED(a_broken_connection_loses_nothing_and_writes_nothing_twice),
        NAMED(what_the_server_refuses_is_not_there),
        NAMED(an_answer_that_is_lost_is_found_out),
        NAMED(what_is_read_survives_a_broken_connection),
        NAMED(only_tables_of_the_next_version_are_left_alone),
};

#define N_TESTS (2 * N_ELEMENTS(common) + N_ELEMENTS(shared))

static void add(struct CMUnitTest *tests, size_t *n, const NamedTest *named, Kind *kind, char names[][96]) {
        (void) snprintf(names[*n], sizeof(names[*n]), "%s: %s", kind->name, named->name);
        tests[*n] = (struct CMUnitTest) {
                .name = names[*n],
                .test_func = named->function,
                .setup_func = setup,
                .teardown_func = teardown,
                .initial_state = kind,
        };
        (*n)++;
}

int main(void) {
        static struct CMUnitTest tests[N_TESTS];
        static char names[N_TESTS][96];
        size_t n = 0;
        if (!postgres_server_find(&server)) {
                puts("1..0 # SKIP there is no PostgreSQL server here");
                return 0;
        }
        for (FOREACH_ROW(named, common))
                add(tests, &n, named, &sqlite_kind, names);
        for (FOREACH_ROW(named, common))
                add(tests, &n, named, &postgres_kind, names);
        for (FOREACH_ROW(named, shared))
                add(tests, &n, named, &postgres_kind, names);
        postgres_server_begin(&server);
        int r = cmocka_run_group_tests_name("store-port", tests, NULL, NULL);
        postgres_server_end(&server);
        return r;
}
