/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a start needs, in the order in which it is told; tasks and dependencies by pages, each behind the last
 * row of the one before. */

#include <errno.h>
#include <string.h>

#include "queue/moment.h"
#include "queue/postgres-store-internal.h"

static void load_fail(const StoreRead *read, int r) {
        Moment now = moment_now();
        read->loader.done(r, &now, read->loader.userdata);
}

static int load_dependencies_send(StoreRead *read, Postgres *postgres) {
        char seq[POSTGRES_NUMBER_SIZE];
        const PostgresValue values[] = {
                postgres_number((int64_t) read->seq, seq),
                postgres_text(read->on_id ?: ""),
        };
        return postgres_execute(postgres, READ_LIVE_DEPENDENCIES, values, 2, store_read_on_answer, read);
}

static int load_dependencies_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        size_t n = postgres_result_n_rows(result);
        Moment now = moment_now();
        int r = 0;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const StoredDependency dependency = store_row_dependency(result, i);
                if (dependency.task_id) /* otherwise of a task that is finished */
                        r = read->loader.on_dependency(&dependency, &now, read->loader.userdata);
        }
        if (r < 0)
                return r;
        if (n == 0) {
                read->loader.done(0, &now, read->loader.userdata);
                return 0;
        }
        free(read->on_id);
        read->seq = postgres_result_u64(result, n - 1, 3);
        read->on_id = strdup(postgres_result_text(result, n - 1, 1));
        return read->on_id ? 1 : -ENOMEM;
}

static const StoreQuestion load_dependencies = { load_dependencies_send, load_dependencies_answered };

static int load_tasks_send(StoreRead *read, Postgres *postgres) {
        char after[POSTGRES_NUMBER_SIZE];
        const PostgresValue value = postgres_number((int64_t) read->seq, after);
        return postgres_execute(postgres, READ_LIVE, &value, 1, store_read_on_answer, read);
}

static int load_tasks_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        size_t n = postgres_result_n_rows(result);
        Moment now = moment_now();
        for (size_t i = 0; i < n; i++) {
                StoredTask task;
                StoredAttempt attempt;
                int r = store_row_task(result, i, &task);
                if (r < 0 || !task.spec)
                        return r < 0 ? r : -EUCLEAN;
                int has_attempt = store_row_attempt(result, i, READ_TASK_COLUMNS, &attempt);
                if (has_attempt < 0)
                        return has_attempt;
                r = read->loader.on_task(&task, has_attempt ? &attempt : NULL, &now, read->loader.userdata);
                if (r < 0)
                        return r;
                read->seq = task.seq;
        }
        if (n == 0) {
                read->seq = 0;
                read->question = &load_dependencies;
        }
        return 1;
}

static const StoreQuestion load_tasks = { load_tasks_send, load_tasks_answered };

static int load_small_send(StoreRead *read, Postgres *postgres) {
        int r = postgres_execute(postgres, READ_FACTS, NULL, 0, store_read_on_answer, read);
        if (r >= 0)
                r = postgres_execute(postgres, READ_NEWEST_RESULT, NULL, 0, store_read_on_answer, read);
        return r < 0 ? r : postgres_execute(postgres, READ_WORKERS, NULL, 0, store_read_on_answer, read);
}

static int load_workers(const StoreLoader *loader, const PostgresResult *result) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < postgres_result_n_rows(result); i++)
                r = loader->on_worker(
                                &(StoredWorker) {
                                                .worker_id = postgres_result_text(result, i, 0),
                                                .disabled = postgres_result_bool(result, i, 1),
                                                .joined = postgres_result_bool(result, i, 2),
                                                .leaving = postgres_result_bool(result, i, 3),
                                                .url = postgres_result_text(result, i, 4),
                                                .before_url = postgres_result_text(result, i, 5),
                                                .token = postgres_result_text(result, i, 6),
                                },
                                loader->userdata);
        return r;
}

static int load_small_answered(StoreRead *read) {
        const StoreLoader *loader = &read->loader;
        const PostgresResult *facts = read->answers[0];
        int r = 0;
        for (size_t i = 0; r >= 0 && i < postgres_result_n_rows(facts); i++)
                r = loader->on_fact(
                                postgres_result_text(facts, i, 0),
                                postgres_result_text(facts, i, 1),
                                loader->userdata);
        if (r >= 0)
                r = loader->on_newest_result(postgres_result_u64(read->answers[1], 0, 0), loader->userdata);
        if (r >= 0)
                r = load_workers(loader, read->answers[2]);
        read->question = &load_tasks;
        return r < 0 ? r : 1;
}

static const StoreQuestion load_small = { load_small_send, load_small_answered };

int store_load(PostgresStore *store, const StoreLoader *loader) {
        StoreRead *read;
        int r = store_read_begin(
                        store,
                        &(StoreRead) { .question = &load_small, .fail = load_fail, .loader = *loader },
                        &read);
        if (r >= 0)
                store_read_ask(read);
        return r;
}
