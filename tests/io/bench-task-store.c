/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the store takes on this machine's disk: meson test -C build --benchmark -v */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/usec.h"
#include "io/loop.h"
#include "io/task-store.h"

#define N_TASKS  UINT64_C(100000)
#define BATCHES  1000
#define N_OUTPUT 64

typedef struct Bench {
        sd_event *event;
        TaskStore *store;
        const char *directory;
        uint64_t n_pending, n_done;
} Bench;

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(1);
}

static double seconds_since(usec_t before) {
        return (double) (usec_now(CLOCK_MONOTONIC) - before) / (double) USEC_PER_SEC;
}

static uint64_t resident_kb(void) {
        char line[256];
        uint64_t kb = 0;
        FILE *file = fopen("/proc/self/status", "re");
        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "VmRSS: %" SCNu64, &kb) == 1)
                        break;
        if (file)
                (void) fclose(file);
        return kb;
}

static void on_committed(int r, void *userdata) {
        Bench *bench = userdata;
        check(r, "commit");
        bench->n_pending--;
        bench->n_done++;
}

static void put(StoreBatch *batch, uint64_t seq) {
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

static void submit(Bench *bench, uint64_t n_tasks) {
        StoreBatch *batch = NULL;
        check(store_batch_new(&batch), "batch");
        for (uint64_t i = 0; i < n_tasks; i++)
                put(batch, task_store_next_seq(bench->store));
        check(task_store_commit(bench->store, batch, on_committed, bench), "commit");
        bench->n_pending++;
}

/* Commits N batches of N_TASKS tasks each, AT_ONCE of them outstanding. */
static double commit_all(Bench *bench, uint64_t n, uint64_t n_tasks, uint64_t at_once) {
        usec_t before = usec_now(CLOCK_MONOTONIC);
        uint64_t n_submitted = 0;
        bench->n_done = 0;
        while (bench->n_done < n) {
                for (; n_submitted < n && bench->n_pending < at_once; n_submitted++)
                        submit(bench, n_tasks);
                check(sd_event_run(bench->event, UINT64_MAX), "loop");
        }
        return seconds_since(before);
}

static void open_store(Bench *bench) {
        char *message = NULL;
        int r = task_store_open(bench->event, bench->directory, &bench->store, &message);
        check(r, message ? message : "open");
}

static void bench_commits(Bench *bench) {
        static const uint64_t at_once[] = { 1, 8, 64, 1000 };
        for (size_t i = 0; i < sizeof(at_once) / sizeof(*at_once); i++) {
                double took = commit_all(bench, BATCHES, 1, at_once[i]);
                printf("%4" PRIu64 " submissions at once: %7.0f stored/s, %.2f ms each\n",
                       at_once[i],
                       BATCHES / took,
                       took / BATCHES * (double) at_once[i] * 1000);
        }
}

static int count_live(const StoredTask *task, const StoredAttempt *attempt, void *userdata) {
        ++*(uint64_t *) userdata;
        return 0;
}

static int count_task(const StoredTask *task, void *userdata) {
        ++*(uint64_t *) userdata;
        return 0;
}

static void bench_load(Bench *bench) {
        double took = commit_all(bench, N_TASKS / 1000, 1000, 4);
        printf("%" PRIu64 " tasks in batches of 1000: %.0f tasks/s\n", N_TASKS, (double) N_TASKS / took);
        bench->store = task_store_free(bench->store);

        struct stat status = {};
        char path[256];
        (void) snprintf(path, sizeof(path), "%s/tasks.db", bench->directory);
        (void) stat(path, &status);
        uint64_t n = 0, kb = resident_kb();
        usec_t before = usec_now(CLOCK_MONOTONIC);
        open_store(bench);
        double opened = seconds_since(before);
        before = usec_now(CLOCK_MONOTONIC);
        check(task_store_load_live(bench->store, count_live, &n), "load");
        printf("opening and checking %.1f MB: %.3f s; loading %" PRIu64 " tasks: %.3f s; %" PRId64
               " kB more resident\n",
               (double) status.st_size / 1e6,
               opened,
               n,
               seconds_since(before),
               (int64_t) (resident_kb() - kb));
}

static void bench_page(Bench *bench, const char *what, const StoreFilter *filter) {
        uint64_t n = 0, next;
        usec_t before = usec_now(CLOCK_MONOTONIC);
        check(task_store_list(bench->store, filter, count_task, &n, &next), what);
        printf("%-40s %4" PRIu64 " tasks in %.2f ms\n", what, n, seconds_since(before) * 1000);
}

static void bench_reads(Bench *bench) {
        static const char *const rare[] = { "group=7", NULL }, *const common[] = { "project=bench", NULL };
        bench_page(bench,
                   "a page of 100",
                   &(StoreFilter) { .state = -1, .limit = 100, .after = N_TASKS / 2 });
        bench_page(bench,
                   "a page of 100 by state",
                   &(StoreFilter) { .state = STORED_QUEUED, .limit = 100, .after = N_TASKS / 2 });
        bench_page(bench, "of no state there is", &(StoreFilter) { .state = STORED_KILLED, .limit = 100 });
        bench_page(bench, "by a rare label", &(StoreFilter) { .state = -1, .limit = 100, .labels = rare });
        bench_page(bench,
                   "by a label all have, and a rare state",
                   &(StoreFilter) { .state = STORED_KILLED, .limit = 100, .labels = common });
        uint64_t n = 0;
        usec_t before = usec_now(CLOCK_MONOTONIC);
        for (uint64_t i = 0; i < 10000; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "task-%" PRIu64, 1 + i * 9 % N_TASKS);
                check(task_store_get(bench->store, id, count_task, &n), "get");
        }
        printf("one task by its id: %.1f us\n", seconds_since(before) * 1e6 / 10000);
}

static void bench_output(Bench *bench) {
        static char piece[STORE_OUTPUT_PIECE_MAX];
        usec_t before = usec_now(CLOCK_MONOTONIC);
        bench->n_done = 0;
        for (uint64_t i = 0; i < N_OUTPUT; i++) {
                StoreBatch *batch = NULL;
                check(store_batch_new(&batch), "batch");
                check(store_batch_append_output(
                                      batch, 1, 1, STORED_STDOUT, i * sizeof(piece), piece, sizeof(piece)),
                      "output");
                check(task_store_commit(bench->store, batch, on_committed, bench), "commit");
                bench->n_pending++;
                while (bench->n_pending > 4)
                        check(sd_event_run(bench->event, UINT64_MAX), "loop");
        }
        while (bench->n_pending > 0)
                check(sd_event_run(bench->event, UINT64_MAX), "loop");
        printf("output, in pieces of 1 MiB: %.0f MB/s\n",
               N_OUTPUT * sizeof(piece) / 1e6 / seconds_since(before));
        before = usec_now(CLOCK_MONOTONIC);
        uint64_t offset = 0;
        ssize_t n;
        while ((n = task_store_read_output(bench->store, 1, 1, STORED_STDOUT, offset, piece, 65536)) > 0)
                offset += (uint64_t) n;
        check((int) n, "read");
        printf("and read again: %.0f MB/s\n", (double) offset / 1e6 / seconds_since(before));
}

int main(int argc, char *argv[]) {
        char directory[] = "/var/tmp/bench-task-store-XXXXXX", path[64];
        static const char *const names[] = { "tasks.db", "tasks.lock" };
        Bench bench = { .directory = mkdtemp(directory) };
        check(bench.directory ? 0 : -errno, "mkdtemp");
        check(loop_new(&bench.event), "loop");
        open_store(&bench);
        bench_commits(&bench);
        bench_load(&bench);
        bench_reads(&bench);
        bench_output(&bench);
        task_store_free(bench.store);
        sd_event_unref(bench.event);
        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
                (void) snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                (void) unlink(path);
        }
        return rmdir(directory) < 0;
}
