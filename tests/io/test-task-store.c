/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* With real files: what was said to be stored is there again, whatever happens in between. */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../unit/fail-alloc.h"
#include "../unit/test.h"
#include "base/text.h"
#include "io/loop.h"
#include "io/task-store-internal.h"
#include "io/task-store.h"

#define AWAIT_USEC (60 * USEC_PER_SEC)

typedef struct Fixture {
        sd_event *event;
        TaskStore *store;
        char directory[64], path[80];
} Fixture;

static void await_true(Fixture *fixture, const unsigned *counter, unsigned wanted) {
        usec_t deadline = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        while (*counter < wanted) {
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline);
                assert_true(sd_event_run(fixture->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

static int try_open(Fixture *fixture, Text *reterr_message) {
        char *message = NULL;
        int r = task_store_open(fixture->event, fixture->directory, &fixture->store, &message);
        if (r < 0)
                assert_non_null(message);
        else
                assert_null(message);
        if (message && reterr_message)
                assert_int_equal(text_append(reterr_message, message), 0);
        free(message);
        return r;
}

static void open_store(Fixture *fixture) {
        Text message = {};
        int r = try_open(fixture, &message);
        if (r < 0)
                fail_msg("cannot open: %s", message.data);
        text_done(&message);
}

static void close_store(Fixture *fixture) {
        fixture->store = task_store_free(fixture->store);
}

static void reopen(Fixture *fixture) {
        close_store(fixture);
        open_store(fixture);
}

static int setup_closed(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));
        assert_non_null(fixture);
        assert_int_equal(loop_new(&fixture->event), 0);
        (void) snprintf(fixture->directory, sizeof(fixture->directory), "/var/tmp/test-task-store-XXXXXX");
        assert_non_null(mkdtemp(fixture->directory));
        (void) snprintf(fixture->path, sizeof(fixture->path), "%s/tasks.db", fixture->directory);
        *state = fixture;
        return 0;
}

static int setup(void **state) {
        assert_int_equal(setup_closed(state), 0);
        open_store(*state);
        return 0;
}

static void empty_directory(const char *path) {
        DIR *directory = opendir(path);
        struct dirent *entry;
        assert_non_null(directory);
        while ((entry = readdir(directory)))
                if (entry->d_name[0] != '.')
                        assert_int_equal(unlinkat(dirfd(directory), entry->d_name, 0), 0);
        closedir(directory);
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        close_store(fixture);
        empty_directory(fixture->directory);
        assert_int_equal(rmdir(fixture->directory), 0);
        sd_event_unref(fixture->event);
        free(fixture);
        return 0;
}

static StoreBatch *batch_new(void) {
        StoreBatch *batch = NULL;
        assert_int_equal(store_batch_new(&batch), 0);
        return batch;
}

typedef struct Commit {
        unsigned n;
        int r;
} Commit;

static void on_committed(int r, void *userdata) {
        Commit *commit = userdata;
        commit->n++;
        commit->r = r;
}

/* Hands BATCH over and waits. */
static int commit(Fixture *fixture, StoreBatch *batch) {
        Commit commit = {};
        int r = task_store_commit(fixture->store, batch, on_committed, &commit);
        if (r < 0)
                return r;
        assert_int_equal(commit.n, 0);
        await_true(fixture, &commit.n, 1);
        assert_int_equal(task_store_pending_bytes(fixture->store), 0);
        return commit.r;
}

static StoredTask task_of(uint64_t seq, const char *task_id) {
        return (StoredTask) {
                .seq = seq,
                .task_id = task_id,
                .state = STORED_QUEUED,
                .priority = -3,
                .submit_usec = 1000 + seq,
                .queue_usec = 2000 + seq,
                .spec = "{\"command\":[\"true\"]}",
        };
}

static uint64_t put_task(Fixture *fixture, const char *task_id, char *const *labels) {
        StoreBatch *batch = batch_new();
        StoredTask task = task_of(task_store_next_seq(fixture->store), task_id);
        assert_int_equal(store_batch_put_task(batch, &task, labels), 0);
        assert_int_equal(commit(fixture, batch), 0);
        return task.seq;
}

static int write_task(const StoredTask *task, void *userdata) {
        return text_appendf(
                        userdata,
                        "%" PRIu64 " %s %s p%" PRId64 " r%" PRIu64 " l%" PRIu64 " s%d %" PRIu64 " %" PRIu64
                        " %" PRIu64 " %" PRIu64 " %s %s\n",
                        task->seq,
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
                        task->spec,
                        task->result ?: "-");
}

static int write_attempt(const StoredAttempt *attempt, void *userdata) {
        return text_appendf(
                        userdata,
                        "#%" PRIu64 " %s %s %s %s %" PRIu64 " %" PRIu64 " %s\n",
                        attempt->number,
                        stored_attempt_state_to_string(attempt->state),
                        attempt->worker_id ?: "-",
                        attempt->runner_task_id ?: "-",
                        attempt->runner_instance ?: "-",
                        attempt->place_usec,
                        attempt->finish_usec,
                        attempt->attempt ?: "-");
}

static int write_live(const StoredTask *task, const StoredAttempt *attempt, void *userdata) {
        int r = text_appendf(userdata, "%s %s\n", task->task_id, stored_state_to_string(task->state));
        return r >= 0 && attempt ? write_attempt(attempt, userdata) : r;
}

static int write_worker(const StoredWorker *worker, void *userdata) {
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

static void check_task(Fixture *fixture, const char *task_id, const char *wanted) {
        Text seen = {};
        int r = task_store_get(fixture->store, task_id, write_task, &seen);
        check_int(task_id, r, wanted ? 0 : -ENOENT);
        check_text(task_id, seen.data, wanted);
        text_done(&seen);
}

static void check_live(Fixture *fixture, const char *wanted) {
        Text seen = {};
        assert_int_equal(task_store_load_live(fixture->store, write_live, &seen), 0);
        check_text("live", seen.data ?: "", wanted);
        text_done(&seen);
}

static int64_t count_rows(const Fixture *fixture, const char *table) {
        sqlite3 *db;
        sqlite3_stmt *statement;
        char sql[64];
        (void) snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
        assert_int_equal(sqlite3_open(fixture->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        int64_t n = sqlite3_column_int64(statement, 0);
        (void) sqlite3_finalize(statement);
        (void) sqlite3_close(db);
        return n;
}

static void a_new_store_keeps_its_id(void **state) {
        Fixture *fixture = *state;
        char *id = strdup(task_store_queue_id(fixture->store));
        assert_non_null(id);
        assert_int_equal(strlen(id), 32);
        assert_int_equal(strspn(id, "0123456789abcdef"), 32);
        check_live(fixture, "");
        reopen(fixture);
        assert_string_equal(task_store_queue_id(fixture->store), id);
        free(id);
        struct stat status;
        assert_int_equal(stat(fixture->path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_task_comes_back_as_it_was_stored(void **state) {
        Fixture *fixture = *state;
        StoredTask task = {
                .seq = task_store_next_seq(fixture->store),
                .task_id = "a",
                .state = STORED_QUEUED,
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
        assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
        assert_int_equal(commit(fixture, batch), 0);
        static const char first[] =
                        "1 a queued p-9223372036854775808 r1 l2 s1 3 4 5 0 {\"command\":[\"ä\"]} -\n";
        check_task(fixture, "a", first);
        check_task(fixture, "b", NULL);
        reopen(fixture);
        check_task(fixture, "a", first);

        task.state = STORED_RUNNING;
        task.priority = 7;
        task.retries = task.losses = task.queue_usec = task.not_before_usec = 9;
        task.stop_requested = false;
        batch = batch_new();
        assert_int_equal(store_batch_update_task(batch, &task), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture, "a", "1 a running p7 r9 l9 s0 3 9 9 0 {\"command\":[\"ä\"]} -\n");

        batch = batch_new();
        assert_int_equal(store_batch_finish_task(batch, 1, STORED_KILLED, 77, "{}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        check_task(fixture, "a", "1 a killed p7 r9 l9 s0 3 9 9 77 {\"command\":[\"ä\"]} {}\n");
        check_live(fixture, "");
}

static void a_batch_is_stored_whole_or_not_at_all(void **state) {
        Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        Commit commits[5] = {};
        StoredTask b = task_of(2, "b"), again = task_of(3, "a"), c = task_of(3, "c"),
                   nobody = task_of(99, "x");
        StoreBatch *batches[5];
        for (size_t i = 0; i < 5; i++)
                batches[i] = batch_new();
        assert_int_equal(store_batch_put_task(batches[0], &b, NULL), 0);
        assert_int_equal(store_batch_put_task(batches[1], &again, NULL), 0);
        assert_int_equal(store_batch_put_task(batches[2], &c, NULL), 0);
        assert_int_equal(store_batch_update_task(batches[3], &nobody), 0);
        assert_int_equal(store_batch_finish_task(batches[4], 98, STORED_ERRORED, 1, "{}"), 0);
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(task_store_commit(fixture->store, batches[i], on_committed, &commits[i]), 0);
        await_true(fixture, &commits[4].n, 1);
        assert_int_equal(commits[0].r, 0);
        assert_int_equal(commits[1].r, -EEXIST);
        assert_int_equal(commits[2].r, 0);
        assert_int_equal(commits[3].r, -ENOENT);
        assert_int_equal(commits[4].r, -ENOENT);
        char *value = NULL;
        assert_int_equal(task_store_get_fact(fixture->store, "lost", &value), -ENOENT);
        check_live(fixture, "a queued\nb queued\nc queued\n");
        reopen(fixture);
        check_live(fixture, "a queued\nb queued\nc queued\n");
}

static void numbers_are_never_given_twice(void **state) {
        Fixture *fixture = *state;
        assert_int_equal(put_task(fixture, "a", NULL), 1);
        uint64_t seq = put_task(fixture, "b", NULL);
        assert_int_equal(seq, 2);
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_delete_task(batch, seq), 0);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        assert_int_equal(task_store_next_seq(fixture->store), 3);
}

static void the_last_attempt_is_known_after_a_restart(void **state) {
        Fixture *fixture = *state;
        uint64_t a = put_task(fixture, "a", NULL), b = put_task(fixture, "b", NULL);
        StoredAttempt attempt = { .number = 1,
                                  .state = STORED_ATTEMPT_SENT,
                                  .worker_id = "mac1",
                                  .runner_task_id = "q:a:1",
                                  .place_usec = 5 };
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_put_attempt(batch, a, &attempt), 0);
        attempt.state = STORED_ATTEMPT_LOST;
        attempt.finish_usec = 7;
        assert_int_equal(store_batch_put_attempt(batch, a, &attempt), 0); /* replaces it */
        attempt = (StoredAttempt) { .number = 2,
                                    .state = STORED_ATTEMPT_RUNNING,
                                    .worker_id = "mac2",
                                    .runner_task_id = "q:a:2",
                                    .runner_instance = "boot7",
                                    .place_usec = 8,
                                    .attempt = "{}" };
        assert_int_equal(store_batch_put_attempt(batch, a, &attempt), 0);
        StoredTask task = task_of(a, "a");
        task.state = STORED_RUNNING;
        assert_int_equal(store_batch_update_task(batch, &task), 0);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        check_live(fixture, "a running\n#2 running mac2 q:a:2 boot7 8 0 {}\nb queued\n");
        Text seen = {};
        assert_int_equal(task_store_attempts(fixture->store, a, write_attempt, &seen), 0);
        check_text("attempts", seen.data, "#1 lost mac1 q:a:1 - 5 7 -\n#2 running mac2 q:a:2 boot7 8 0 {}\n");
        seen.size = 0;
        assert_int_equal(task_store_attempts(fixture->store, b, write_attempt, &seen), 0);
        assert_int_equal(seen.size, 0);
        text_done(&seen);
}

static void output_is_read_from_anywhere(void **state) {
        Fixture *fixture = *state;
        enum {
                PIECE = 300 * 1000,
                N = 10
        };
        static char written[PIECE * N], buffer[sizeof(written)];
        uint64_t seq = put_task(fixture, "a", NULL), size = 1;
        for (size_t i = 0; i < sizeof(written); i++)
                written[i] = (char) (i * 7 + i / 1000);
        for (size_t i = 0; i < N; i++) {
                StoreBatch *batch = batch_new();
                assert_int_equal(
                                store_batch_append_output(
                                                batch,
                                                seq,
                                                1,
                                                STORED_STDOUT,
                                                i * PIECE,
                                                written + i * PIECE,
                                                PIECE),
                                0);
                assert_int_equal(commit(fixture, batch), 0);
        }
        assert_int_equal(task_store_output_size(fixture->store, seq, 1, STORED_STDOUT, &size), 0);
        assert_int_equal(size, sizeof(written));
        assert_int_equal(task_store_output_size(fixture->store, seq, 1, STORED_STDERR, &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(task_store_output_size(fixture->store, seq, 2, STORED_STDOUT, &size), 0);
        assert_int_equal(size, 0);
        static const size_t starts[] = { 0, 1, PIECE - 1, PIECE, 128 * 1024, sizeof(written) - 1 };
        for (FOREACH_ROW(from, starts)) {
                size_t at = *from;
                ssize_t n;
                while ((n = task_store_read_output(
                                        fixture->store, seq, 1, STORED_STDOUT, at, buffer + at, 50000)) > 0)
                        at += (size_t) n;
                assert_int_equal(n, 0);
                assert_int_equal(at, sizeof(written));
                assert_memory_equal(buffer + *from, written + *from, sizeof(written) - *from);
        }
        assert_int_equal(
                        task_store_read_output(fixture->store, seq, 1, STORED_STDOUT, UINT64_MAX, buffer, 1),
                        0);

        StoreBatch *batch = batch_new();
        int r = store_batch_append_output(
                        batch, seq, 1, STORED_STDOUT, 0, written, STORE_OUTPUT_PIECE_MAX + 1);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(task_store_commit(fixture->store, batch, NULL, NULL), -EINVAL);
}

static void nothing_of_a_deleted_task_is_left(void **state) {
        Fixture *fixture = *state;
        static const char *const tables[] = { "tasks", "specs", "labels", "attempts", "outputs" };
        char *labels[] = { (char *) "a=1", (char *) "b=2", NULL };
        uint64_t seq = put_task(fixture, "a", labels);
        StoredAttempt attempt = { .number = 1, .state = STORED_ATTEMPT_SENT };
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_put_attempt(batch, seq, &attempt), 0);
        assert_int_equal(store_batch_append_output(batch, seq, 1, STORED_STDERR, 0, "abc", 3), 0);
        assert_int_equal(commit(fixture, batch), 0);
        for (FOREACH_ROW(table, tables))
                check_true(*table, count_rows(fixture, *table) > 0);
        batch = batch_new();
        assert_int_equal(store_batch_delete_task(batch, seq), 0);
        assert_int_equal(store_batch_delete_task(batch, 12345), 0); /* never there: fine */
        assert_int_equal(commit(fixture, batch), 0);
        for (FOREACH_ROW(table, tables))
                check_int(*table, count_rows(fixture, *table), 0);
        check_task(fixture, "a", NULL);
}

static int write_id(const StoredTask *task, void *userdata) {
        return text_appendf(userdata, "%s ", task->task_id);
}

static int write_id_and_stop(const StoredTask *task, void *userdata) {
        return write_id(task, userdata) < 0 ? -ENOMEM : 1;
}

static void lists_are_filtered_and_cut_into_pages(void **state) {
        Fixture *fixture = *state;
        char *red[] = { (char *) "color=red", (char *) "size=1", NULL };
        char *blue[] = { (char *) "color=blue", (char *) "size=1", NULL };
        uint64_t seqs[6];
        static const char *const ids[] = { "a", "b", "c", "d", "e", "f" };
        for (size_t i = 0; i < 6; i++)
                seqs[i] = put_task(fixture, ids[i], i == 5 ? NULL : i % 2 ? blue : red);
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_finish_task(batch, seqs[0], STORED_ERRORED, 1, "{}"), 0);
        assert_int_equal(store_batch_finish_task(batch, seqs[3], STORED_ERRORED, 2, "{}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        static const char *const color_red[] = { "color=red", NULL }, *const size_1[] = { "size=1", NULL };
        static const char *const both[] = { "size=1", "color=blue", NULL };
        static const char *const other[] = { "color=", NULL }, *const wrong[] = { "color", NULL };
        static const char *const none[] = { NULL };
        static const struct {
                const char *label;
                StoreFilter filter;
                StoredTaskHandler handler;
                int r;
                const char *ids;
                uint64_t next;
        } rows[] = {
                { "all", { .state = -1, .limit = 1000 }, write_id, 0, "a b c d e f ", 0 },
                { "no labels",
                  { .state = -1, .limit = 1000, .labels = none },
                  write_id,
                  0,
                  "a b c d e f ",
                  0 },
                { "first page", { .state = -1, .limit = 2 }, write_id, 0, "a b ", 2 },
                { "exactly the last page", { .state = -1, .limit = 6 }, write_id, 0, "a b c d e f ", 0 },
                { "second page", { .state = -1, .limit = 2, .after = 2 }, write_id, 0, "c d ", 4 },
                { "beyond", { .state = -1, .limit = 2, .after = UINT64_MAX }, write_id, 0, "", 0 },
                { "state", { .state = STORED_ERRORED, .limit = 9 }, write_id, 0, "a d ", 0 },
                { "state, page", { .state = STORED_QUEUED, .limit = 2, .after = 2 }, write_id, 0, "c e ", 5 },
                { "no such", { .state = STORED_KILLED, .limit = 9 }, write_id, 0, "", 0 },
                { "label", { .state = -1, .limit = 9, .labels = color_red }, write_id, 0, "a c e ", 0 },
                { "label, page", { .state = -1, .limit = 2, .labels = size_1 }, write_id, 0, "a b ", 2 },
                { "labels", { .state = -1, .limit = 9, .labels = both }, write_id, 0, "b d ", 0 },
                { "labels, after",
                  { .state = -1, .limit = 9, .after = 2, .labels = both },
                  write_id,
                  0,
                  "d ",
                  0 },
                { "label and state",
                  { .state = STORED_ERRORED, .limit = 9, .labels = color_red },
                  write_id,
                  0,
                  "a ",
                  0 },
                { "another label", { .state = -1, .limit = 9, .labels = other }, write_id, 0, "", 0 },
                { "enough", { .state = -1, .limit = 9 }, write_id_and_stop, 0, "a ", 1 },
                { "enough, at the end",
                  { .state = -1, .limit = 9, .after = 5 },
                  write_id_and_stop,
                  0,
                  "f ",
                  0 },
                { "no value", { .state = -1, .limit = 9, .labels = wrong }, write_id, -EINVAL, "", 0 },
                { "no limit", { .state = -1 }, write_id, -EINVAL, "", 0 },
                { "limit", { .state = -1, .limit = STORE_LIST_LIMIT_MAX + 1 }, write_id, -EINVAL, "", 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                Text seen = {};
                uint64_t next = 0;
                int r = task_store_list(fixture->store, &row->filter, row->handler, &seen, &next);
                check_int(row->label, r, row->r);
                check_text(row->label, seen.data ?: "", row->ids);
                check_u64(row->label, next, row->next);
                text_done(&seen);
        }
}

static int count_task(const StoredTask *task, void *userdata) {
        ++*(unsigned *) userdata;
        return 0;
}

static void a_rare_state_among_many_of_a_label_is_found_page_by_page(void **state) {
        Fixture *fixture = *state;
        enum {
                N = 12000
        };
        char *labels[] = { (char *) "a=1", NULL };
        StoreBatch *batch = batch_new();
        for (uint64_t i = 1; i <= N; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "t%" PRIu64, i);
                StoredTask task = task_of(i, id);
                assert_int_equal(store_batch_put_task(batch, &task, labels), 0);
        }
        assert_int_equal(store_batch_finish_task(batch, N, STORED_ERRORED, 1, "{}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        static const char *const label[] = { "a=1", NULL };
        StoreFilter filter = { .state = STORED_ERRORED, .labels = label, .limit = 10 };
        unsigned n_found = 0, n_pages = 0;
        do {
                assert_int_equal(
                                task_store_list(fixture->store, &filter, count_task, &n_found, &filter.after),
                                0);
                n_pages++;
        } while (filter.after > 0);
        assert_int_equal(n_found, 1);
        assert_int_equal(n_pages, 3);
}

static int refuse_task(const StoredTask *task, void *userdata) {
        return -ECANCELED;
}

static int read_again(const StoredTask *task, void *userdata) {
        Fixture *fixture = userdata;
        unsigned n = 0;
        assert_int_equal(task_store_get(fixture->store, task->task_id, count_task, &n), -EBUSY);
        Text seen = {};
        assert_int_equal(task_store_attempts(fixture->store, task->seq, write_attempt, &seen), 0);
        text_done(&seen);
        return 0;
}

static void a_reader_may_stop_and_must_not_nest(void **state) {
        Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        assert_int_equal(task_store_get(fixture->store, "a", refuse_task, NULL), -ECANCELED);
        assert_int_equal(task_store_get(fixture->store, "a", read_again, fixture), 0);
        uint64_t next = 7;
        assert_int_equal(
                        task_store_list(fixture->store,
                                        &(StoreFilter) { .state = -1, .limit = 1 },
                                        refuse_task,
                                        NULL,
                                        &next),
                        -ECANCELED);
        assert_int_equal(next, 7);
}

static int prune(Fixture *fixture, usec_t before, uint64_t keep, uint64_t limit) {
        Commit commit = {};
        assert_int_equal(task_store_prune(fixture->store, before, keep, limit, on_committed, &commit), 0);
        await_true(fixture, &commit.n, 1);
        return commit.r;
}

static void finished_tasks_are_forgotten_step_by_step(void **state) {
        Fixture *fixture = *state;
        StoreBatch *batch = batch_new();
        for (uint64_t i = 1; i <= 20; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "t%" PRIu64, i);
                StoredTask task = task_of(task_store_next_seq(fixture->store), id);
                assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
                if (i <= 15)
                        assert_int_equal(
                                        store_batch_finish_task(batch, i, STORED_COMPLETED, 100 + i, "{}"),
                                        0);
        }
        usec_t newest_usec = 1;
        assert_int_equal(task_store_newest_result(fixture->store, &newest_usec), 0);
        assert_int_equal(newest_usec, 0);
        assert_int_equal(commit(fixture, batch), 0);
        assert_int_equal(task_store_newest_result(fixture->store, &newest_usec), 0);
        assert_int_equal(newest_usec, 115);
        assert_int_equal(prune(fixture, 0, UINT64_MAX, 10), 0);
        assert_int_equal(prune(fixture, 104, UINT64_MAX, 10), 3); /* 101 … 103 */
        assert_int_equal(prune(fixture, 104, UINT64_MAX, 10), 0);
        assert_int_equal(prune(fixture, 0, 10, 10), 2);
        check_task(fixture, "t5", NULL);
        assert_int_equal(prune(fixture, 0, 2, 5), 5);
        assert_int_equal(prune(fixture, 0, 2, 5), 3);
        assert_int_equal(prune(fixture, UINT64_MAX, 2, 100), 2);
        assert_int_equal(prune(fixture, UINT64_MAX, 0, 100), 0);
        check_live(fixture, "t16 queued\nt17 queued\nt18 queued\nt19 queued\nt20 queued\n");
        assert_int_equal(count_rows(fixture, "specs"), 5);
}

static void check_workers(Fixture *fixture, const char *wanted) {
        Text seen = {};
        assert_int_equal(text_append(&seen, ""), 0);
        assert_int_equal(task_store_load_workers(fixture->store, write_worker, &seen), 0);
        assert_string_equal(seen.data, wanted);
        text_done(&seen);
}

static void workers_are_kept_replaced_and_forgotten(void **state) {
        Fixture *fixture = *state;
        static const StoredWorker joined = {
                .worker_id = "x'); DROP TABLE workers; --",
                .joined = true,
                .leaving = true,
                .before_url = "http://old'--",
                .url = "http://10.0.0.1:2504",
                .token = "'; DELETE FROM tasks; --",
        };
        StoreBatch *batch = batch_new();
        assert_int_equal(
                        store_batch_put_worker(
                                        batch, &(StoredWorker) { .worker_id = "mac1", .disabled = true }),
                        0);
        assert_int_equal(store_batch_put_worker(batch, &(StoredWorker) { .worker_id = "linux" }), 0);
        assert_int_equal(store_batch_put_worker(batch, &joined), 0);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        check_workers(fixture,
                      "linux disabled=0 joined=0 leaving=0 - - -\n"
                      "mac1 disabled=1 joined=0 leaving=0 - - -\n"
                      "x'); DROP TABLE workers; -- disabled=0 joined=1 leaving=1 "
                      "http://10.0.0.1:2504 http://old'-- '; DELETE FROM tasks; --\n");
        batch = batch_new();
        assert_int_equal(store_batch_put_worker(batch, &(StoredWorker) { .worker_id = "mac1" }), 0);
        assert_int_equal(store_batch_delete_worker(batch, joined.worker_id), 0);
        assert_int_equal(store_batch_delete_worker(batch, "linux"), 0);
        assert_int_equal(store_batch_delete_worker(batch, "was never there"), 0);
        assert_int_equal(commit(fixture, batch), 0);
        reopen(fixture);
        check_workers(fixture, "mac1 disabled=0 joined=0 leaving=0 - - -\n");
}

typedef struct Order {
        unsigned n;
        unsigned *shared;
} Order;

static void on_ordered(int r, void *userdata) {
        Order *order = userdata;
        assert_int_equal(r, 0);
        assert_int_equal(order->n, *order->shared);
        ++*order->shared;
}

static void callbacks_come_in_order(void **state) {
        Fixture *fixture = *state;
        enum {
                N = 2000
        };
        static Order orders[N];
        unsigned n_done = 0;
        for (unsigned i = 0; i < N; i++) {
                StoreBatch *batch = batch_new();
                orders[i] = (Order) { .n = i, .shared = &n_done };
                if (i % 3) { /* empty ones as well */
                        char id[32];
                        (void) snprintf(id, sizeof(id), "t%u", i);
                        StoredTask task = task_of(task_store_next_seq(fixture->store), id);
                        assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
                }
                assert_int_equal(task_store_commit(fixture->store, batch, on_ordered, &orders[i]), 0);
        }
        await_true(fixture, &n_done, N);
        assert_int_equal(count_rows(fixture, "tasks"), N - (N + 2) / 3);
}

static void closing_waits_for_what_was_handed_over(void **state) {
        Fixture *fixture = *state;
        Commit seen = {};
        for (unsigned i = 0; i < 100; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "t%u", i);
                StoreBatch *batch = batch_new();
                StoredTask task = task_of(task_store_next_seq(fixture->store), id);
                assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
                assert_int_equal(task_store_commit(fixture->store, batch, on_committed, &seen), 0);
        }
        close_store(fixture);
        assert_int_equal(seen.n, 0);
        assert_int_equal(count_rows(fixture, "tasks"), 100);
        char log[96];
        (void) snprintf(log, sizeof(log), "%s-wal", fixture->path);
        assert_int_equal(access(log, F_OK), -1); /* tidied up */
}

static void more_than_can_be_held_is_refused(void **state) {
        Fixture *fixture = *state;
        static char piece[STORE_OUTPUT_PIECE_MAX];
        Commit seen = {};
        unsigned n = 0;
        int r;
        for (;; n++) {
                StoreBatch *batch = batch_new();
                for (unsigned i = 0; i < 30; i++)
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
                r = task_store_commit(fixture->store, batch, on_committed, &seen);
                if (r < 0)
                        break;
        }
        assert_int_equal(r, -ENOBUFS);
        assert_int_equal(n, 2);
        await_true(fixture, &seen.n, n);
        assert_int_equal(seen.r, 0);
        assert_int_equal(task_store_pending_bytes(fixture->store), 0);
        (void) put_task(fixture, "a", NULL);
}

static void only_one_can_have_it_open(void **state) {
        Fixture *fixture = *state;
        Fixture other = *fixture;
        Text message = {};
        other.store = NULL;
        assert_int_equal(try_open(&other, &message), -EBUSY);
        assert_non_null(strstr(message.data, "another process"));
        text_done(&message);
        (void) put_task(fixture, "a", NULL); /* unharmed */
}

/* Stores tasks for ever, several at a time, and writes the number of each that is said to be stored to FD. */
typedef struct Child {
        Fixture *fixture;
        int fd;
        uint64_t seq;
} Child;

static void child_store_next(Fixture *fixture, int fd);

static void on_child_committed(int r, void *userdata) {
        Child *child = userdata;
        if (r < 0 || write(child->fd, &child->seq, sizeof(child->seq)) != sizeof(child->seq))
                _exit(1);
        child_store_next(child->fixture, child->fd);
        free(child);
}

static void child_store_next(Fixture *fixture, int fd) {
        Child *child = calloc(1, sizeof(*child));
        StoreBatch *batch = NULL;
        char id[32], *labels[] = { (char *) "a=1", NULL };
        if (!child || store_batch_new(&batch) < 0)
                _exit(1);
        *child = (Child) { .fixture = fixture, .fd = fd, .seq = task_store_next_seq(fixture->store) };
        (void) snprintf(id, sizeof(id), "t%" PRIu64, child->seq);
        StoredTask task = task_of(child->seq, id);
        StoredAttempt attempt = { .number = 1, .state = STORED_ATTEMPT_SENT };
        if (store_batch_put_task(batch, &task, labels) < 0 ||
            store_batch_put_attempt(batch, task.seq, &attempt) < 0 ||
            task_store_commit(fixture->store, batch, on_child_committed, child) < 0)
                _exit(1);
}

static _Noreturn void child_main(Fixture *fixture, int fd) {
        sd_event_unref(fixture->event);
        if (loop_new(&fixture->event) < 0)
                _exit(1);
        char *message = NULL;
        if (task_store_open(fixture->event, fixture->directory, &fixture->store, &message) < 0)
                _exit(1);
        for (int i = 0; i < 8; i++)
                child_store_next(fixture, fd);
        while (sd_event_run(fixture->event, UINT64_MAX) >= 0)
                ;
        _exit(1);
}

/* Kills a child that stores as fast as it can after N_MAX reports. Marks what it reported. */
static uint64_t run_and_kill(Fixture *fixture, bool *reported, uint64_t seq_max, unsigned n_max) {
        int pipe_fds[2], status;
        uint64_t seq, highest = 0;
        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                child_main(fixture, pipe_fds[1]);
        close(pipe_fds[1]);
        for (unsigned n = 0; read(pipe_fds[0], &seq, sizeof(seq)) == sizeof(seq); n++) {
                assert_true(seq < seq_max);
                reported[seq] = true;
                highest = seq > highest ? seq : highest;
                if (n == n_max)
                        assert_int_equal(kill(pid, SIGKILL), 0);
        }
        close(pipe_fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return highest;
}

static int mark_live(const StoredTask *task, const StoredAttempt *attempt, void *userdata) {
        bool *there = userdata;
        assert_non_null(attempt); /* as both were in one batch */
        there[task->seq] = true;
        return 0;
}

static void what_was_reported_survives_kill_9(void **state) {
        Fixture *fixture = *state;
        enum {
                SEQ_MAX = 200000
        };
        static bool reported[SEQ_MAX], there[SEQ_MAX];
        uint64_t highest = 0;
        close_store(fixture);
        for (unsigned round = 0; round < 8; round++) {
                highest = run_and_kill(fixture, reported, SEQ_MAX, 100 + 77 * round);
                open_store(fixture);
                memset(there, 0, sizeof(there));
                assert_int_equal(task_store_load_live(fixture->store, mark_live, there), 0);
                for (uint64_t seq = 1; seq <= highest; seq++)
                        if (reported[seq] && !there[seq])
                                fail_msg("round %u: task %" PRIu64 " is lost", round, seq);
                assert_true(task_store_next_seq(fixture->store) > highest);
                close_store(fixture);
        }
        assert_true(highest > 1000);
}

static uint64_t file_size(const char *path) {
        struct stat status;
        assert_int_equal(stat(path, &status), 0);
        return (uint64_t) status.st_size;
}

/* Of a log that lost its end whole transactions are lost, from the end on, and nothing else. */
static void a_log_cut_short_loses_its_end_only(void **state) {
        Fixture *fixture = *state;
        enum {
                SEQ_MAX = 100000
        };
        static bool reported[SEQ_MAX], there[SEQ_MAX];
        char log[96];
        (void) snprintf(log, sizeof(log), "%s-wal", fixture->path);
        close_store(fixture);
        uint64_t highest = run_and_kill(fixture, reported, SEQ_MAX, 50);
        uint64_t size = file_size(log);
        assert_true(size > 0);
        assert_int_equal(truncate(log, (off_t) (size * 2 / 3 + 7)), 0);
        open_store(fixture);
        assert_int_equal(task_store_load_live(fixture->store, mark_live, there), 0);
        uint64_t n = 0;
        while (there[n + 1])
                n++;
        assert_true(n > 0 && n < highest);
        for (uint64_t seq = n + 1; seq < SEQ_MAX; seq++)
                assert_false(there[seq]);
}

static void a_full_disk_is_told_and_got_over(void **state) {
        Fixture *fixture = *state;
        static char piece[STORE_OUTPUT_PIECE_MAX];
        struct rlimit before, limit;
        uint64_t seq = put_task(fixture, "a", NULL);
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 4 << 20;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int r = 0;
        uint64_t offset = 0;
        for (; r >= 0 && offset < 100 << 20; offset += sizeof(piece)) {
                StoreBatch *batch = batch_new();
                assert_int_equal(
                                store_batch_append_output(
                                                batch, seq, 1, STORED_STDOUT, offset, piece, sizeof(piece)),
                                0);
                r = commit(fixture, batch);
        }
        assert_int_equal(r, -ENOSPC);
        uint64_t size = 0;
        assert_int_equal(task_store_output_size(fixture->store, seq, 1, STORED_STDOUT, &size), 0);
        assert_int_equal(size, offset - sizeof(piece)); /* all that was said to be stored, and no more */

        /* What is too large does not take with it what is not. */
        Commit large = {}, small = {};
        StoreBatch *batches[] = { batch_new(), batch_new() };
        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(
                                store_batch_append_output(
                                                batches[0],
                                                seq,
                                                2,
                                                STORED_STDOUT,
                                                i * sizeof(piece),
                                                piece,
                                                sizeof(piece)),
                                0);
        StoredTask task = task_of(task_store_next_seq(fixture->store), "b");
        assert_int_equal(store_batch_put_task(batches[1], &task, NULL), 0);
        assert_int_equal(task_store_commit(fixture->store, batches[0], on_committed, &large), 0);
        assert_int_equal(task_store_commit(fixture->store, batches[1], on_committed, &small), 0);
        await_true(fixture, &small.n, 1);
        assert_int_equal(large.r, -ENOSPC);

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        (void) put_task(fixture, "c", NULL);
        reopen(fixture);
        check_live(fixture, small.r < 0 ? "a queued\nc queued\n" : "a queued\nb queued\nc queued\n");
}

/* A disk whose fsync() does as the test says: SQLite's own way to files, but for that. */
typedef struct DiskMethods {
        sqlite3_io_methods own; /* stands first: what a file points to */
        const sqlite3_io_methods *original;
} DiskMethods;

static struct {
        DiskMethods methods[4]; /* databases and logs have different ones */
        sqlite3_vfs vfs, *original_vfs;
        atomic_bool fails;
        atomic_uint delay_msec, n_syncs;
} disk;

static int disk_sync(sqlite3_file *file, int flags) {
        const DiskMethods *methods = (const DiskMethods *) file->pMethods;
        disk.n_syncs++;
        if (disk.delay_msec > 0)
                (void) poll(NULL, 0, (int) disk.delay_msec);
        return disk.fails ? SQLITE_IOERR_FSYNC : methods->original->xSync(file, flags);
}

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
        int r = disk.original_vfs->xOpen(vfs, name, file, flags, ret_flags);
        for (DiskMethods *methods = disk.methods; r == SQLITE_OK; methods++) {
                if (!methods->original) {
                        *methods = (DiskMethods) { .own = *file->pMethods, .original = file->pMethods };
                        methods->own.xSync = disk_sync;
                }
                if (methods->original == file->pMethods) {
                        file->pMethods = &methods->own;
                        break;
                }
        }
        return r;
}

static int setup_disk(void **state) {
        disk.original_vfs = sqlite3_vfs_find(NULL);
        disk.vfs = *disk.original_vfs;
        disk.vfs.zName = "test-disk";
        disk.vfs.xOpen = disk_open;
        disk.n_syncs = disk.delay_msec = 0;
        disk.fails = false;
        assert_int_equal(sqlite3_vfs_register(&disk.vfs, 1), SQLITE_OK);
        return setup(state);
}

static int teardown_disk(void **state) {
        int r = teardown(state);
        assert_int_equal(sqlite3_vfs_unregister(&disk.vfs), SQLITE_OK);
        return r;
}

static void after_a_failed_sync_nothing_is_believed_any_more(void **state) {
        Fixture *fixture = *state;
        (void) put_task(fixture, "a", NULL);
        disk.fails = true;
        StoreBatch *batch = batch_new();
        StoredTask task = task_of(task_store_next_seq(fixture->store), "b");
        assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
        assert_int_equal(commit(fixture, batch), -EIO);
        disk.fails = false;
        batch = batch_new();
        task = task_of(task_store_next_seq(fixture->store), "c");
        assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
        assert_int_equal(commit(fixture, batch), -EIO);
        check_task(fixture, "c", NULL);
        reopen(fixture);
        check_task(fixture, "c", NULL);
        unsigned n = 0;
        assert_int_equal(task_store_get(fixture->store, "a", count_task, &n), 0);
        (void) put_task(fixture, "d", NULL);
}

static void a_slow_disk_holds_up_no_loop_and_is_asked_seldom(void **state) {
        Fixture *fixture = *state;
        enum {
                N = 200
        };
        Commit seen = {};
        disk.delay_msec = 500;
        disk.n_syncs = 0;
        usec_t before = usec_now(CLOCK_BOOTTIME);
        for (unsigned i = 0; i < N; i++) {
                char id[32];
                (void) snprintf(id, sizeof(id), "t%u", i);
                StoreBatch *batch = batch_new();
                StoredTask task = task_of(task_store_next_seq(fixture->store), id);
                assert_int_equal(store_batch_put_task(batch, &task, NULL), 0);
                assert_int_equal(task_store_commit(fixture->store, batch, on_committed, &seen), 0);
        }
        /* It took the loop less than a single sync to hand over and to read. */
        check_task(fixture, "none", NULL);
        assert_true(usec_now(CLOCK_BOOTTIME) - before < 450 * USEC_PER_MSEC);
        assert_int_equal(seen.n, 0);
        await_true(fixture, &seen.n, N);
        assert_int_equal(seen.r, 0);
        assert_true(disk.n_syncs <= 6);
        disk.delay_msec = 0;
}

static void write_file(const char *path, const void *bytes, size_t size, off_t offset) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, bytes, size, offset), size);
        close(fd);
}

static void find_aside(const Fixture *fixture, const char *suffix, char *ret_path, size_t size) {
        DIR *directory = opendir(fixture->directory);
        struct dirent *entry;
        assert_non_null(directory);
        ret_path[0] = '\0';
        while ((entry = readdir(directory)))
                if (text_after(entry->d_name, "tasks.db.corrupt-") &&
                    strlen(entry->d_name) == strlen("tasks.db.corrupt-20261122T013500Z") + strlen(suffix))
                        (void) snprintf(ret_path, size, "%s/%s", fixture->directory, entry->d_name);
        closedir(directory);
}

typedef enum Damage {
        DAMAGE_MAGIC,
        DAMAGE_EMPTY,
        DAMAGE_HALF,
        DAMAGE_GARBAGE,
        DAMAGE_PAGES,
        DAMAGE_ONE_BYTE,
        DAMAGE_NO_TABLES,
        DAMAGE_SCHEMA,
        _DAMAGE_MAX,
} Damage;

static void run_sql(const char *path, const char *sql) {
        sqlite3 *db;
        char *error = NULL;
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        (void) sqlite3_exec(db, sql, NULL, NULL, &error);
        if (error)
                fail_msg("%s: %s", sql, error);
        (void) sqlite3_close(db);
}

static void damage(const char *path, Damage how) {
        static char noise[4096];
        uint64_t size = file_size(path);
        memset(noise, 0x5a, sizeof(noise));
        switch (how) {
        case DAMAGE_MAGIC:
                write_file(path, "X", 1, 3);
                break;
        case DAMAGE_EMPTY:
                assert_int_equal(truncate(path, 0), 0);
                break;
        case DAMAGE_HALF:
                assert_int_equal(truncate(path, (off_t) (size / 2 / 4096 * 4096)), 0);
                break;
        case DAMAGE_GARBAGE:
                for (uint64_t i = 0; i < size; i += sizeof(noise))
                        write_file(path, noise, sizeof(noise), (off_t) i);
                break;
        case DAMAGE_PAGES:
                for (uint64_t i = 4096 * 8; i + 4096 < size; i += 4096 * 8)
                        write_file(path, noise, sizeof(noise), (off_t) i);
                break;
        case DAMAGE_ONE_BYTE: /* the kind of the first tables' root pages */
                for (off_t page = 2; page < 8; page++)
                        write_file(path, "\x77", 1, page * 4096);
                break;
        case DAMAGE_NO_TABLES:
                run_sql(path, "DROP TABLE specs");
                break;
        case DAMAGE_SCHEMA:
                run_sql(path, "DELETE FROM facts");
                break;
        case _DAMAGE_MAX:
                break;
        }
}

static void a_damaged_store_is_set_aside(void **state) {
        Fixture *fixture = *state;
        for (Damage how = 0; how < _DAMAGE_MAX; how++) {
                char label[32], aside[128];
                Text message = {};
                (void) snprintf(label, sizeof(label), "damage %u", how);
                empty_directory(fixture->directory);
                open_store(fixture);
                for (unsigned i = 0; i < 300; i++) {
                        char id[32], *labels[] = { (char *) "a=1", NULL };
                        (void) snprintf(id, sizeof(id), "t%u", i);
                        StoreBatch *batch = batch_new();
                        StoredTask task = task_of(task_store_next_seq(fixture->store), id);
                        assert_int_equal(store_batch_put_task(batch, &task, labels), 0);
                        assert_int_equal(task_store_commit(fixture->store, batch, NULL, NULL), 0);
                }
                close_store(fixture);
                damage(fixture->path, how);
                uint64_t size = file_size(fixture->path);

                check_int(label, try_open(fixture, &message), -EUCLEAN);
                check_true(label, strstr(message.data ?: "", "damaged"));
                check_int(label, access(fixture->path, F_OK), -1);
                find_aside(fixture, "", aside, sizeof(aside));
                check_true(label, aside[0]);
                check_true(label, strstr(message.data, aside));
                check_u64(label, file_size(aside), size);
                text_done(&message);

                open_store(fixture); /* the next start */
                check_live(fixture, "");
                close_store(fixture);
                check_u64(label, file_size(aside), size);
        }
}

static void a_log_without_its_store_is_not_applied_to_another(void **state) {
        Fixture *fixture = *state;
        char log[96], aside[128];
        (void) snprintf(log, sizeof(log), "%s-wal", fixture->path);
        write_file(log, "abc", 3, 0);
        assert_int_equal(try_open(fixture, NULL), -EUCLEAN);
        find_aside(fixture, "-wal", aside, sizeof(aside));
        assert_int_equal(file_size(aside), 3);
        open_store(fixture);
}

static void what_is_not_ours_is_left_alone(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *label, *sql;
                int r;
                const char *message;
        } rows[] = {
                { "another program's",
                  "PRAGMA application_id = 5; CREATE TABLE a (b)",
                  -EMEDIUMTYPE,
                  "not a store" },
                { "a later version's",
                  "PRAGMA application_id = 1684105063; PRAGMA user_version = 999; CREATE TABLE facts (b)",
                  -ENOTSUP,
                  "later version" },
        };
        for (FOREACH_ROW(row, rows)) {
                Text message = {};
                run_sql(fixture->path, row->sql);
                uint64_t size = file_size(fixture->path);
                check_int(row->label, try_open(fixture, &message), row->r);
                check_true(row->label, strstr(message.data, row->message));
                text_done(&message);
                check_u64(row->label, file_size(fixture->path), size);
                empty_directory(fixture->directory);
        }
}

static void a_start_cut_short_leaves_nothing_behind(void **state) {
        Fixture *fixture = *state;
        char unfinished[96];
        (void) snprintf(unfinished, sizeof(unfinished), "%s.new", fixture->path);
        write_file(unfinished, "abc", 3, 0);
        open_store(fixture);
        assert_int_equal(access(unfinished, F_OK), -1);
        (void) put_task(fixture, "a", NULL);
}

static int64_t version_of(sqlite3 *db) {
        sqlite3_stmt *statement;
        assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        int64_t version = sqlite3_column_int64(statement, 0);
        (void) sqlite3_finalize(statement);
        return version;
}

/* A store as version 1 left it, with something in each table that has changed since. */
static const char version_1_rows[] =
                "INSERT INTO tasks (seq, task_id, state, priority, retries, stop_reason, submit_usec, "
                "queue_usec, not_before_usec, finish_usec, spec_hash, result) VALUES "
                "(5, 'old', 'queued', 3, 2, 1, 11, 12, 13, 0, 99, NULL), "
                "(6, 'sent', 'queued', 0, 0, 0, 11, 12, 0, 0, 0, NULL), "
                "(7, 'over', 'completed', 0, 0, 0, 11, 12, 0, 14, 0, '{}');"
                "INSERT INTO specs VALUES (5, '{}'), (6, '{}'), (7, '{}');"
                "INSERT INTO labels VALUES ('a=b', 7);"
                "INSERT INTO attempts VALUES (6, 1, 'placed', 'w', 'sent.1', 'i', 'lease', 15, 0, 0, NULL), "
                "(7, 2, 'finished', 'w', 'over.2', 'i', NULL, 15, 16, 17, NULL);"
                "INSERT INTO outputs VALUES (7, 2, 0, 0, 'hello');"
                "INSERT INTO workers VALUES ('w', 1, 'lease', 'i', 18)";

static void a_store_of_version_1_is_brought_up_to_date(void **state) {
        Fixture *fixture = *state;
        assert_int_equal(store_schema_create(fixture->path, store_schema_steps, 1), 0);
        run_sql(fixture->path, version_1_rows);
        open_store(fixture);
        check_task(fixture, "old", "5 old queued p3 r2 l0 s1 11 12 13 0 {} -\n");
        check_task(fixture, "over", "7 over completed p0 r0 l0 s0 11 12 0 14 {} {}\n");
        check_live(fixture, "old queued\nsent queued\n#1 sent w sent.1 i 15 0 -\n");
        check_workers(fixture, "w disabled=1 joined=0 leaving=0 - - -\n");
        char output[8] = {};
        assert_int_equal(
                        task_store_read_output(
                                        fixture->store, 7, 2, STORED_STDOUT, 0, output, sizeof(output)),
                        5);
        assert_string_equal(output, "hello");
        assert_int_equal(task_store_next_seq(fixture->store), 8);
        (void) put_task(fixture, "new", NULL);
        close_store(fixture);
        open_store(fixture);
        check_task(fixture, "old", "5 old queued p3 r2 l0 s1 11 12 13 0 {} -\n");
}

static void facts_are_kept(void **state) {
        Fixture *fixture = *state;
        for (int i = 0; i < 2; i++) {
                const char *wanted = i == 0 ? "1" : "0";
                StoreBatch *batch = batch_new();
                assert_int_equal(store_batch_put_fact(batch, STORED_FACT_DRAINING, wanted), 0);
                assert_int_equal(commit(fixture, batch), 0);
                reopen(fixture);
                char *value = NULL;
                assert_int_equal(task_store_get_fact(fixture->store, STORED_FACT_DRAINING, &value), 0);
                assert_string_equal(value, wanted);
                free(value);
        }
}

static void a_step_that_fails_leaves_the_version_before_it(void **state) {
        Fixture *fixture = *state;
        SchemaStep steps[10];
        size_t n = store_n_schema_steps;
        assert_true(n + 3 <= N_ELEMENTS(steps));
        memcpy(steps, store_schema_steps, n * sizeof(*steps));
        steps[n] = (SchemaStep) { "ALTER TABLE tasks ADD COLUMN color TEXT; UPDATE tasks SET color = 'red'" };
        steps[n + 1] = (SchemaStep) { "CREATE TABLE later (a); INSERT INTO nowhere VALUES (1)" };
        sqlite3 *db;
        (void) put_task(fixture, "a", NULL);
        close_store(fixture);
        assert_int_equal(sqlite3_open(fixture->path, &db), SQLITE_OK);
        assert_int_equal(store_schema_migrate(db, steps, n), 0); /* nothing to do */
        assert_true(store_schema_migrate(db, steps, n + 2) < 0);
        assert_int_equal(version_of(db), n + 1);
        assert_int_equal(sqlite3_exec(db, "SELECT * FROM later", NULL, NULL, NULL), SQLITE_ERROR);
        assert_int_equal(sqlite3_exec(db, "SELECT color FROM tasks", NULL, NULL, NULL), SQLITE_OK);
        steps[n + 1].sql = "CREATE TABLE later (a)";
        assert_int_equal(store_schema_migrate(db, steps, n + 2), 0);
        assert_int_equal(version_of(db), n + 2);
        assert_int_equal(store_schema_migrate(db, steps, n), -ENOTSUP);
        (void) sqlite3_close(db);
        assert_int_equal(try_open(fixture, NULL), -ENOTSUP);
        assert_int_equal(access(fixture->path, F_OK), 0);
}

static void a_directory_that_cannot_be_written_to_is_told(void **state) {
        Fixture *fixture = *state;
        int status;
        char gone[] = "/nonexistent/daggyd";
        Fixture other = { .event = fixture->event };
        (void) snprintf(other.directory, sizeof(other.directory), "%s", gone);
        assert_int_equal(try_open(&other, NULL), -ENOENT);

        assert_int_equal(chmod(fixture->directory, 0555), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) { /* root may write everywhere */
                char *message = NULL;
                if (getuid() == 0 && setuid(65534) < 0)
                        _exit(1);
                int r = task_store_open(fixture->event, fixture->directory, &fixture->store, &message);
                _exit(r == -EACCES && message && strstr(message, fixture->directory) ? 0 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(chmod(fixture->directory, 0755), 0);
}

static int try_build(void *userdata) {
        StoreBatch *batch = NULL;
        char *labels[] = { (char *) "a=1", NULL };
        StoredTask task = task_of(1, "a");
        StoredAttempt attempt = { .number = 1, .state = STORED_ATTEMPT_SENT, .worker_id = "w" };
        StoredWorker worker = { .worker_id = "w" };
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        r = store_batch_put_task(batch, &task, labels);
        if (r >= 0)
                r = store_batch_put_attempt(batch, 1, &attempt);
        if (r >= 0)
                r = store_batch_append_output(batch, 1, 1, STORED_STDOUT, 0, "abc", 3);
        if (r >= 0)
                r = store_batch_put_worker(batch, &worker);
        if (r >= 0)
                r = store_batch_set_dependencies(batch, 1, labels);
        if (r >= 0)
                r = store_batch_retry_task(batch, 1, 1);
        if (r >= 0)
                r = store_batch_delete_task(batch, 1);
        if (r < 0)
                assert_int_equal(batch->error, r); /* and cannot be committed by mistake */
        store_batch_free(batch);
        return r;
}

/* ── tasks that wait for others ── */

static void finish(Fixture *fixture, uint64_t seq, StoredState state) {
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_finish_task(batch, seq, state, 1, "{}"), 0);
        assert_int_equal(commit(fixture, batch), 0);
}

static void set_dependencies(Fixture *fixture, uint64_t seq, char *const *ids) {
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_set_dependencies(batch, seq, ids), 0);
        assert_int_equal(commit(fixture, batch), 0);
}

static int write_dependency(const StoredDependency *dependency, void *userdata) {
        return text_appendf(
                        userdata,
                        "%s %s%s;",
                        dependency->task_id,
                        dependency->on_id,
                        dependency->failed ? "!" : "");
}

static void check_dependencies(Fixture *fixture, uint64_t seq, const char *wanted) {
        Text got = {};
        assert_int_equal(text_append(&got, ""), 0);
        assert_int_equal(task_store_dependencies(fixture->store, seq, write_dependency, &got), 0);
        assert_string_equal(got.data, wanted);
        text_done(&got);
}

static void an_end_is_noted_with_all_that_wait_for_it(void **state) {
        Fixture *fixture = *state;
        uint64_t a = put_task(fixture, "a", NULL), b = put_task(fixture, "b", NULL);
        uint64_t c = put_task(fixture, "c", NULL), done = put_task(fixture, "done", NULL);
        char *ids[] = { (char *) "a", (char *) "b", (char *) "done", (char *) "nobody", NULL };
        finish(fixture, done, STORED_COMPLETED);
        set_dependencies(fixture, c, ids);
        check_dependencies(fixture, c, "c a;c b;c nobody!;");
        finish(fixture, a, STORED_COMPLETED);
        finish(fixture, b, STORED_KILLED);
        check_dependencies(fixture, c, "c b!;c nobody!;");
        reopen(fixture);
        Text live = {};
        assert_int_equal(task_store_load_dependencies(fixture->store, write_dependency, &live), 0);
        assert_string_equal(live.data, "c b!;c nobody!;");
        text_done(&live);
        set_dependencies(fixture, c, NULL);
        check_dependencies(fixture, c, "");
}

static void what_is_tried_again_is_live_without_its_output(void **state) {
        Fixture *fixture = *state;
        uint64_t seq = put_task(fixture, "a", NULL), bytes = 1;
        StoreBatch *batch = batch_new();
        assert_int_equal(store_batch_append_output(batch, seq, 1, STORED_STDOUT, 0, "abc", 3), 0);
        assert_int_equal(store_batch_retry_task(batch, seq, 7), 0);
        assert_int_equal(commit(fixture, batch), -ENOENT); /* it is live */
        batch = batch_new();
        assert_int_equal(store_batch_append_output(batch, seq, 1, STORED_STDOUT, 0, "abc", 3), 0);
        assert_int_equal(commit(fixture, batch), 0);
        finish(fixture, seq, STORED_ERRORED);
        batch = batch_new();
        assert_int_equal(store_batch_retry_task(batch, seq, 7), 0);
        assert_int_equal(commit(fixture, batch), 0);
        assert_int_equal(task_store_output_size(fixture->store, seq, 1, STORED_STDOUT, &bytes), 0);
        assert_int_equal(bytes, 0);
        check_live(fixture, "a queued\n");
        batch = batch_new();
        assert_int_equal(store_batch_retry_task(batch, 99, 7), 0);
        assert_int_equal(commit(fixture, batch), -ENOENT); /* it is not there */
}

static int try_open_and_close(void *userdata) {
        Fixture *fixture = userdata;
        char *message = NULL;
        int r = task_store_open(fixture->event, fixture->directory, &fixture->store, &message);
        free(message);
        close_store(fixture);
        return r;
}

static void running_out_of_memory_is_told(void **state) {
        Fixture *fixture = *state;
        fail_alloc_loop(try_build, NULL);
        fail_alloc_loop(try_open_and_close, fixture); /* while it is being made, too */
        fail_alloc_loop(try_open_and_close, fixture);
        open_store(fixture);
        check_live(fixture, "");
}

#define TEST(name)        cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_DISK(name)   cmocka_unit_test_setup_teardown(name, setup_disk, teardown_disk)
#define TEST_CLOSED(name) cmocka_unit_test_setup_teardown(name, setup_closed, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_new_store_keeps_its_id),
                TEST(a_task_comes_back_as_it_was_stored),
                TEST(a_batch_is_stored_whole_or_not_at_all),
                TEST(numbers_are_never_given_twice),
                TEST(the_last_attempt_is_known_after_a_restart),
                TEST(output_is_read_from_anywhere),
                TEST(nothing_of_a_deleted_task_is_left),
                TEST(lists_are_filtered_and_cut_into_pages),
                TEST(a_rare_state_among_many_of_a_label_is_found_page_by_page),
                TEST(a_reader_may_stop_and_must_not_nest),
                TEST(finished_tasks_are_forgotten_step_by_step),
                TEST(workers_are_kept_replaced_and_forgotten),
                TEST(facts_are_kept),
                TEST(an_end_is_noted_with_all_that_wait_for_it),
                TEST(what_is_tried_again_is_live_without_its_output),
                TEST(callbacks_come_in_order),
                TEST(closing_waits_for_what_was_handed_over),
                TEST(more_than_can_be_held_is_refused),
                TEST(only_one_can_have_it_open),
                TEST(what_was_reported_survives_kill_9),
                TEST(a_log_cut_short_loses_its_end_only),
                TEST(a_full_disk_is_told_and_got_over),
                TEST_DISK(after_a_failed_sync_nothing_is_believed_any_more),
                TEST_DISK(a_slow_disk_holds_up_no_loop_and_is_asked_seldom),
                TEST_CLOSED(a_damaged_store_is_set_aside),
                TEST_CLOSED(a_log_without_its_store_is_not_applied_to_another),
                TEST_CLOSED(what_is_not_ours_is_left_alone),
                TEST_CLOSED(a_start_cut_short_leaves_nothing_behind),
                TEST_CLOSED(a_store_of_version_1_is_brought_up_to_date),
                TEST(a_step_that_fails_leaves_the_version_before_it),
                TEST_CLOSED(a_directory_that_cannot_be_written_to_is_told),
                TEST_CLOSED(running_out_of_memory_is_told),
        };
        return cmocka_run_group_tests_name("task-store", tests, NULL, NULL);
}
