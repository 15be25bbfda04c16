/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What both kinds of store take, side by side: on this machine's disk, and with a PostgreSQL server on the
 * same machine. meson test -C build --benchmark -v store-port */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/test.h"
#include "io/loop.h"
#include "postgres-server.h"
#include "queue/postgres-schema.h"
#include "queue/postgres-store.h"
#include "queue/sqlite-store.h"

#define N_CYCLES   20000
#define N_IN_BULK  100000
#define BULK_TASKS 1000
#define AT_ONCE    1000
#define N_READS    2000

typedef struct Bench {
        sd_event *event;
        const StorePort *port;
        void *store;
        uint64_t n_pending, n_done, first_seq;
        bool ready;
} Bench;

/* The changes of one batch, for the how-manieth task. */
typedef void (*Fill)(const Bench *bench, StoreBatch *batch, uint64_t i);

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(1);
}

static double seconds_since(usec_t before_usec) {
        return (double) (usec_now(CLOCK_MONOTONIC) - before_usec) / (double) USEC_PER_SEC;
}

static void run(const Bench *bench) {
        check(sd_event_run(bench->event, UINT64_MAX), "loop");
}

static uint64_t next_seq(const Bench *bench) {
        uint64_t seq;
        while ((seq = bench->port->next_seq(bench->store)) == 0)
                run(bench);
        return seq;
}

static void put_task(StoreBatch *batch, uint64_t seq) {
        char id[32], spec[400], number[32], *labels[] = { (char *) "project=bench", number, NULL };
        (void) snprintf(id, sizeof(id), "task-%" PRIu64, seq);
        (void) snprintf(number, sizeof(number), "group=%" PRIu64, seq % 1000);
        (void) snprintf(spec,
                        sizeof(spec),
                        "{\"command\":[\"make\",\"-C\",\"/srv/build/%" PRIu64 "\",\"%0200d\"],"
                        "\"resources\":{\"cores\":1,\"memory_mb\":512}}",
                        seq,
                        0);
        const StoredTask task = {
                .seq = seq, .task_id = id, .spec = spec, .submit_usec = seq, .queue_usec = seq
        };
        check(store_batch_put_task(batch, &task, labels), "put");
}

static void accept_task(const Bench *bench, StoreBatch *batch, uint64_t i) {
        put_task(batch, next_seq(bench));
}

static void put_attempt(const Bench *bench, StoreBatch *batch, uint64_t i, StoredAttemptState state) {
        const StoredAttempt attempt = {
                .number = 1,
                .state = state,
                .worker_id = "worker-1",
                .runner_task_id = "task-12345678.1",
                .runner_instance = "0123456789abcdef0123456789abcdef",
                .place_usec = 1,
                .attempt = state == STORED_ATTEMPT_FINISHED ? "{\"state\":\"completed\",\"exit_code\":0}" :
                                                              NULL,
        };
        check(store_batch_put_attempt(batch, bench->first_seq + i, &attempt), "attempt");
}

static void dispatch_task(const Bench *bench, StoreBatch *batch, uint64_t i) {
        const StoredTask task = {
                .seq = bench->first_seq + i, .task_id = "", .state = STORED_RUNNING, .spec = ""
        };
        check(store_batch_update_task(batch, &task), "update");
        put_attempt(bench, batch, i, STORED_ATTEMPT_SENT);
}

static void submit_task(const Bench *bench, StoreBatch *batch, uint64_t i) {
        put_attempt(bench, batch, i, STORED_ATTEMPT_RUNNING);
}

static void finish_task(const Bench *bench, StoreBatch *batch, uint64_t i) {
        uint64_t seq = bench->first_seq + i;
        put_attempt(bench, batch, i, STORED_ATTEMPT_FINISHED);
        check(store_batch_append_output(batch, seq, 1, STORED_STDOUT, 0, "hello\n", 6), "output");
        check(store_batch_finish_task(
                              batch,
                              seq,
                              STORED_COMPLETED,
                              1 + i,
                              "{\"state\":\"completed\",\"exit_code\":0}"),
              "finish");
}

static void accept_many(const Bench *bench, StoreBatch *batch, uint64_t i) {
        for (uint64_t j = 0; j < BULK_TASKS; j++)
                put_task(batch, next_seq(bench));
}

static void on_committed(int r, const Moment *now, void *userdata) {
        Bench *bench = userdata;
        check(r, "commit");
        bench->n_pending--;
        bench->n_done++;
}

/* Commits N batches, AT_ONCE of them outstanding; how many a second. */
static double commit_all(Bench *bench, uint64_t n, uint64_t at_once, Fill fill) {
        usec_t before_usec = usec_now(CLOCK_MONOTONIC);
        uint64_t n_begun = 0;
        bench->n_done = 0;
        while (bench->n_done < n) {
                for (; n_begun < n && bench->n_pending < at_once; n_begun++) {
                        StoreBatch *batch;
                        check(store_batch_new(&batch), "batch");
                        fill(bench, batch, n_begun);
                        check(bench->port->commit(bench->store, batch, on_committed, bench), "commit");
                        bench->n_pending++;
                }
                run(bench);
        }
        return (double) n / seconds_since(before_usec);
}

static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        on_committed(r, now, userdata);
}

static void on_listed(
                int r,
                const StoreEntry *entries,
                size_t n_entries,
                uint64_t next,
                const Moment *now,
                void *userdata) {
        on_committed(r, now, userdata);
}

static double get_all(Bench *bench) {
        usec_t before_usec = usec_now(CLOCK_MONOTONIC);
        bench->n_done = 0;
        for (uint64_t i = 0; i < N_READS; i++) {
                char id[32];
                const StoreWanted wanted = { .attempts = true,
                                             .dependencies = true,
                                             .output_bytes_max = 65536 };
                (void) snprintf(id, sizeof(id), "task-%" PRIu64, bench->first_seq + i);
                check(bench->port->get(bench->store, id, &wanted, on_got, bench), "get");
                bench->n_pending++;
        }
        while (bench->n_done < N_READS)
                run(bench);
        return N_READS / seconds_since(before_usec);
}

static double list_one(Bench *bench, const StoreFilter *filter) {
        usec_t before_usec = usec_now(CLOCK_MONOTONIC);
        bench->n_done = 0;
        for (unsigned i = 0; i < 20; i++) {
                check(bench->port->list(bench->store, filter, on_listed, bench), "list");
                bench->n_pending++;
                while (bench->n_done <= i)
                        run(bench);
        }
        return seconds_since(before_usec) / 20 * 1000;
}

static int on_fact(const char *key, const char *value, void *userdata) {
        return 0;
}

static int on_newest_result(usec_t finish_usec, void *userdata) {
        return 0;
}

static int on_worker(const StoredWorker *worker, void *userdata) {
        return 0;
}

static int on_task(const StoredTask *task, const StoredAttempt *attempt, const Moment *now, void *userdata) {
        return 0;
}

static int on_dependency(const StoredDependency *dependency, const Moment *now, void *userdata) {
        return 0;
}

static double load_all(Bench *bench) {
        usec_t before_usec = usec_now(CLOCK_MONOTONIC);
        const StoreLoader loader = {
                .on_fact = on_fact,
                .on_newest_result = on_newest_result,
                .on_worker = on_worker,
                .on_task = on_task,
                .on_dependency = on_dependency,
                .done = on_committed,
                .userdata = bench,
        };
        bench->n_done = 0;
        bench->n_pending++;
        check(bench->port->load(bench->store, &loader), "load");
        while (bench->n_done == 0)
                run(bench);
        return seconds_since(before_usec);
}

static void measure(Bench *bench, const char *name) {
        usec_t before_usec = usec_now(CLOCK_MONOTONIC);
        bench->first_seq = next_seq(bench) + 1;
        double accepted = commit_all(bench, N_CYCLES, AT_ONCE, accept_task);
        double dispatched = commit_all(bench, N_CYCLES, AT_ONCE, dispatch_task);
        double submitted = commit_all(bench, N_CYCLES, AT_ONCE, submit_task);
        double finished = commit_all(bench, N_CYCLES, AT_ONCE, finish_task);
        printf("%s: cycles %.0f/s (accepted %.0f, dispatched %.0f, submitted %.0f, finished %.0f), one at a "
               "time %.0f/s\n",
               name,
               N_CYCLES / seconds_since(before_usec),
               accepted,
               dispatched,
               submitted,
               finished,
               commit_all(bench, 200, 1, submit_task));
        double in_bulk = commit_all(bench, N_IN_BULK / BULK_TASKS, 2, accept_many);
        static const char *const labels[] = { "group=7", "project=bench", NULL };
        const StoreFilter all = { .state = -1, .limit = 100, .bytes_max = SIZE_MAX },
                          completed = { .state = STORED_COMPLETED, .limit = 100, .bytes_max = SIZE_MAX },
                          labelled = { .state = -1, .labels = labels, .limit = 100, .bytes_max = SIZE_MAX };
        printf("%s: in bulk %.0f tasks/s; load %.2f s; get %.0f/s; page %.2f ms, by state %.2f ms, by "
               "labels %.2f ms\n",
               name,
               in_bulk * BULK_TASKS,
               load_all(bench),
               get_all(bench),
               list_one(bench, &all),
               list_one(bench, &completed),
               list_one(bench, &labelled));
}

static void measure_sqlite(sd_event *event) {
        char directory[] = "/var/tmp/bench-store-port-XXXXXX", path[64], *message = NULL;
        SqliteStore *store = NULL;
        if (!mkdtemp(directory))
                check(-errno, "folder");
        check(sqlite_store_open(event, directory, &store, &message), "open");
        Bench bench = { .event = event, .port = &sqlite_store_port, .store = store };
        measure(&bench, "sqlite");
        sqlite_store_free(store);
        static const char *const names[] = { "tasks.db", "tasks.lock" };
        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                (void) snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                (void) unlink(path);
        }
        (void) rmdir(directory);
}

static void on_ready(void *userdata) {
        Bench *bench = userdata;
        bench->ready = true;
}

static void on_fenced(int r, void *userdata) {
        check(r, "fenced");
}

static void measure_postgres(sd_event *event, PostgresServer *server) {
        PostgresConfig config = {};
        PostgresStore *store = NULL;
        char *setup = NULL;
        Bench bench = { .event = event, .port = &postgres_store_port };
        check(postgres_schema_setup(&setup), "schema");
        postgres_server_begin(server);
        (void) postgres_server_run(server, "postgres", setup);
        (void) postgres_server_run(server, "postgres", "UPDATE lead SET epoch = 1");
        postgres_server_conninfo(server, "postgres", &config.conninfo);
        const PostgresStoreOptions options = {
                .config = &config, .epoch = 1, .ready = on_ready, .fenced = on_fenced, .userdata = &bench
        };
        check(postgres_store_new(event, &options, &store), "open");
        bench.store = store;
        while (!bench.ready)
                run(&bench);
        measure(&bench, "postgres");
        postgres_store_free(store);
        postgres_server_end(server);
        free(config.conninfo);
        free(setup);
}

int main(void) {
        sd_event *event = NULL;
        PostgresServer server;
        check(loop_new(&event), "loop");
        measure_sqlite(event);
        if (postgres_server_find(&server))
                measure_postgres(event, &server);
        sd_event_unref(event);
        return 0;
}
