/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The statements that write, and what of a change is their parameters. As few as can be for each change, for
 * each is a message to the server and an answer. */

#include <assert.h>
#include <errno.h>

#include "base/text.h"
#include "queue/postgres-store-internal.h"

#define VALUES_MAX       16
#define OUTPUT_ROW_BYTES (128 * 1024) /* who reads some bytes of a row has it read whole */

typedef enum WriteStatement {
        WRITE_BEGIN,
        WRITE_IS_RISKY,
        WRITE_FENCE,
        WRITE_TASK,
        WRITE_TASK_UPDATE,
        WRITE_TASK_COMPLETE, /* as the following, for one that completed */
        WRITE_TASK_FINISH,
        WRITE_TASK_RETRY,
        WRITE_TASK_DELETE,
        WRITE_DEPENDENCIES_DELETE,
        WRITE_DEPENDENCIES,
        WRITE_ATTEMPT,
        WRITE_OUTPUT,
        WRITE_WORKER,
        WRITE_WORKER_DELETE,
        WRITE_FACT,
        WRITE_PRUNE,
        _WRITE_STATEMENT_MAX,
} WriteStatement;

const PostgresStatement store_write_statements[] = {
        [WRITE_BEGIN] = { "SELECT lead_begin($1)" },
        [WRITE_IS_RISKY] = { "SELECT current_setting('synchronous_standby_names') = '' "
                             "AND EXISTS (SELECT FROM pg_stat_replication)" },
        [WRITE_FENCE] = { "SELECT lead_write($1, $2)" },
        [WRITE_TASK] = { "WITH task AS (INSERT INTO tasks (seq, task_id, state, priority, retries, losses, "
                         "stop_requested, submit_usec, queue_usec, not_before_usec, finish_usec, result) "
                         "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)), "
                         "spec AS (INSERT INTO specs (seq, spec) VALUES ($1, $13)) "
                         "INSERT INTO labels (label, seq) SELECT label, $1 FROM unnest($14::text[]) label" },
        [WRITE_TASK_UPDATE] = { "WITH task AS (UPDATE tasks SET state = $2, priority = $3, retries = $4, "
                                "losses = $5, stop_requested = $6, queue_usec = $7, not_before_usec = $8 "
                                "WHERE seq = $1 RETURNING 1) SELECT must_be_there(count(*)) FROM task" },
        [WRITE_TASK_COMPLETE] = { "WITH task AS (UPDATE tasks SET state = $2, finish_usec = $3, result = $4 "
                                  "WHERE seq = $1 RETURNING task_id), "
                                  "dependency AS (DELETE FROM dependencies USING task WHERE on_id = task_id) "
                                  "SELECT must_be_there(count(*)) FROM task" },
        [WRITE_TASK_FINISH] = { "WITH task AS (UPDATE tasks SET state = $2, finish_usec = $3, result = $4 "
                                "WHERE seq = $1 RETURNING task_id), "
                                "dependency AS (UPDATE dependencies SET failed = true FROM task "
                                "WHERE on_id = task_id) "
                                "SELECT must_be_there(count(*)) FROM task" },
        [WRITE_TASK_RETRY] = { "WITH task AS (UPDATE tasks SET state = 'queued', retries = 0, losses = 0, "
                               "stop_requested = false, queue_usec = $2, not_before_usec = 0, "
                               "finish_usec = 0, result = NULL "
                               "WHERE seq = $1 AND state NOT IN ('queued', 'running') RETURNING seq), "
                               "output AS (DELETE FROM outputs USING task WHERE outputs.seq = task.seq) "
                               "SELECT must_be_there(count(*)) FROM task" },
        [WRITE_TASK_DELETE] = { "WITH task AS (DELETE FROM tasks WHERE seq = $1), "
                                "spec AS (DELETE FROM specs WHERE seq = $1), "
                                "label AS (DELETE FROM labels WHERE seq = $1), "
                                "attempt AS (DELETE FROM attempts WHERE seq = $1), "
                                "output AS (DELETE FROM outputs WHERE seq = $1) "
                                "DELETE FROM dependencies WHERE seq = $1" },
        [WRITE_DEPENDENCIES_DELETE] = { "DELETE FROM dependencies WHERE seq = $1" },
        [WRITE_DEPENDENCIES] = { "INSERT INTO dependencies (on_id, seq, failed) "
                                 "SELECT on_id, $1, coalesce(state NOT IN ('queued', 'running'), true) "
                                 "FROM unnest($2::text[]) on_id LEFT JOIN tasks ON task_id = on_id "
                                 "WHERE state IS DISTINCT FROM 'completed'" },
        [WRITE_ATTEMPT] = { "INSERT INTO attempts (seq, number, state, worker_id, runner_task_id, "
                            "runner_instance, place_usec, finish_usec, unanswered, attempt) "
                            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
                            "ON CONFLICT (seq, number) DO UPDATE SET state = excluded.state, "
                            "worker_id = excluded.worker_id, runner_task_id = excluded.runner_task_id, "
                            "runner_instance = excluded.runner_instance, place_usec = excluded.place_usec, "
                            "finish_usec = excluded.finish_usec, unanswered = excluded.unanswered, "
                            "attempt = excluded.attempt" },
        [WRITE_OUTPUT] = { "INSERT INTO outputs (seq, number, stream, position, bytes) "
                           "VALUES ($1, $2, $3, $4, $5) "
                           "ON CONFLICT (seq, number, stream, position) DO UPDATE SET bytes = excluded.bytes" },
        [WRITE_WORKER] = { "INSERT INTO workers (worker_id, disabled, joined, leaving, url, before_url, token) "
                           "VALUES ($1, $2, $3, $4, $5, $6, $7) "
                           "ON CONFLICT (worker_id) DO UPDATE SET disabled = excluded.disabled, "
                           "joined = excluded.joined, leaving = excluded.leaving, url = excluded.url, "
                           "before_url = excluded.before_url, token = excluded.token" },
        [WRITE_WORKER_DELETE] = { "DELETE FROM workers WHERE worker_id = $1" },
        [WRITE_FACT] = { "INSERT INTO facts (key, value) VALUES ($1, $2) "
                         "ON CONFLICT (key) DO UPDATE SET value = excluded.value" },
        /* The oldest: as many as are too old, or as are too many, which is counted if $4 does not say it. */
        [WRITE_PRUNE] = { "WITH many AS MATERIALIZED (SELECT CASE WHEN $4::bigint > 0 THEN $4 ELSE greatest(0, "
                          "(SELECT count(*) FROM tasks WHERE finish_usec > 0) - $1) END AS n), "
                          "old AS MATERIALIZED (SELECT seq FROM tasks WHERE finish_usec > 0 "
                          "ORDER BY finish_usec, seq LIMIT least($3, greatest((SELECT n FROM many), "
                          "(SELECT count(*) FROM (SELECT FROM tasks WHERE finish_usec > 0 "
                          "AND finish_usec < $2 LIMIT $3) aged)))), "
                          "task AS (DELETE FROM tasks t USING old WHERE t.seq = old.seq), "
                          "spec AS (DELETE FROM specs t USING old WHERE t.seq = old.seq), "
                          "label AS (DELETE FROM labels t USING old WHERE t.seq = old.seq), "
                          "attempt AS (DELETE FROM attempts t USING old WHERE t.seq = old.seq), "
                          "output AS (DELETE FROM outputs t USING old WHERE t.seq = old.seq), "
                          "dependency AS (DELETE FROM dependencies t USING old WHERE t.seq = old.seq) "
                          "SELECT count(*), greatest(0, (SELECT n FROM many) - count(*)) FROM old" },
};
const size_t store_n_write_statements = sizeof(store_write_statements) / sizeof(*store_write_statements);
static_assert(sizeof(store_write_statements) / sizeof(*store_write_statements) == _WRITE_STATEMENT_MAX,
              "a text for each statement");

/* ── parameters ── */

/* The values of a statement, one after the other, and the texts of numbers among them. */
typedef struct Binder {
        Postgres *postgres;
        WriteStatement statement;
        PostgresValue values[VALUES_MAX];
        char numbers[VALUES_MAX][POSTGRES_NUMBER_SIZE];
        size_t n;
        PostgresDone done;
        void *userdata;
} Binder;

static void bind_number(Binder *to, uint64_t number) {
        to->values[to->n] = postgres_number((int64_t) number, to->numbers[to->n]);
        to->n++;
}

static void bind_bool(Binder *to, bool value) {
        to->values[to->n++] = postgres_bool(value);
}

static void bind_text(Binder *to, const char *text) {
        to->values[to->n++] = postgres_text(text);
}

static void bind_bytes(Binder *to, const void *bytes, size_t size) {
        to->values[to->n++] = postgres_bytes(bytes, size);
}

static int binder_send(const Binder *bound) {
        assert(bound->n <= VALUES_MAX);
        return postgres_execute(
                        bound->postgres,
                        bound->statement,
                        bound->values,
                        bound->n,
                        bound->done,
                        bound->userdata);
}

/* ── each change ── */

/* Where to the statements of a batch go. */
typedef struct Target {
        Postgres *postgres;
        PostgresDone done;
        void *userdata;
} Target;

static Binder binder(const Target *target, WriteStatement statement) {
        return (Binder) {
                .postgres = target->postgres,
                .statement = statement,
                .done = target->done,
                .userdata = target->userdata,
        };
}

/* For a statement that is only told the task. */
static int send_for_task(const Target *target, WriteStatement statement, uint64_t seq) {
        Binder row = binder(target, statement);
        bind_number(&row, seq);
        return binder_send(&row);
}

static int send_task(const Target *target, const StoredTask *task, char *const *labels) {
        _cleanup_(text_done) Text array = {};
        Binder row = binder(target, WRITE_TASK);
        int r = postgres_append_array(&array, labels);
        if (r < 0)
                return r;
        bind_number(&row, task->seq);
        bind_text(&row, task->task_id);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, (uint64_t) task->priority);
        bind_number(&row, task->retries);
        bind_number(&row, task->losses);
        bind_bool(&row, task->stop_requested);
        bind_number(&row, task->submit_usec);
        bind_number(&row, task->queue_usec);
        bind_number(&row, task->not_before_usec);
        bind_number(&row, task->finish_usec);
        bind_text(&row, task->result);
        bind_text(&row, task->spec);
        bind_text(&row, array.data);
        return binder_send(&row);
}

static int send_task_update(const Target *target, const StoredTask *task) {
        Binder row = binder(target, WRITE_TASK_UPDATE);
        bind_number(&row, task->seq);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, (uint64_t) task->priority);
        bind_number(&row, task->retries);
        bind_number(&row, task->losses);
        bind_bool(&row, task->stop_requested);
        bind_number(&row, task->queue_usec);
        bind_number(&row, task->not_before_usec);
        return binder_send(&row);
}

static int send_task_finish(const Target *target, const StoredTask *task) {
        Binder row = binder(
                        target, task->state == STORED_COMPLETED ? WRITE_TASK_COMPLETE : WRITE_TASK_FINISH);
        bind_number(&row, task->seq);
        bind_text(&row, stored_state_to_string(task->state));
        bind_number(&row, task->finish_usec);
        bind_text(&row, task->result);
        return binder_send(&row);
}

static int send_task_retry(const Target *target, const StoredTask *task) {
        Binder row = binder(target, WRITE_TASK_RETRY);
        bind_number(&row, task->seq);
        bind_number(&row, task->queue_usec);
        return binder_send(&row);
}

static int send_dependencies(const Target *target, const StoreChange *change) {
        _cleanup_(text_done) Text array = {};
        int r = send_for_task(target, WRITE_DEPENDENCIES_DELETE, change->seq);
        if (r < 0 || !change->dependencies || !*change->dependencies)
                return r;
        r = postgres_append_array(&array, change->dependencies);
        if (r < 0)
                return r;
        Binder row = binder(target, WRITE_DEPENDENCIES);
        bind_number(&row, change->seq);
        bind_text(&row, array.data);
        return binder_send(&row);
}

static int send_attempt(const Target *target, uint64_t seq, const StoredAttempt *attempt) {
        Binder row = binder(target, WRITE_ATTEMPT);
        bind_number(&row, seq);
        bind_number(&row, attempt->number);
        bind_text(&row, stored_attempt_state_to_string(attempt->state));
        bind_text(&row, attempt->worker_id);
        bind_text(&row, attempt->runner_task_id);
        bind_text(&row, attempt->runner_instance);
        bind_number(&row, attempt->place_usec);
        bind_number(&row, attempt->finish_usec);
        bind_bool(&row, attempt->unanswered);
        bind_text(&row, attempt->attempt);
        return binder_send(&row);
}

static int send_output(const Target *target, const StoreChange *change) {
        int r = 0;
        size_t size = change->output.size;
        for (size_t i = 0; r >= 0 && i < size; i += OUTPUT_ROW_BYTES) {
                Binder row = binder(target, WRITE_OUTPUT);
                bind_number(&row, change->seq);
                bind_number(&row, change->output.number);
                bind_number(&row, change->output.stream);
                bind_number(&row, change->output.offset + i);
                bind_bytes(&row,
                           (const char *) change->output.bytes + i,
                           size - i < OUTPUT_ROW_BYTES ? size - i : OUTPUT_ROW_BYTES);
                r = binder_send(&row);
        }
        return r;
}

static int send_worker(const Target *target, const StoredWorker *worker) {
        Binder row = binder(target, WRITE_WORKER);
        bind_text(&row, worker->worker_id);
        bind_bool(&row, worker->disabled);
        bind_bool(&row, worker->joined);
        bind_bool(&row, worker->leaving);
        bind_text(&row, worker->url);
        bind_text(&row, worker->before_url);
        bind_text(&row, worker->token);
        return binder_send(&row);
}

static int send_worker_delete(const Target *target, const char *worker_id) {
        Binder row = binder(target, WRITE_WORKER_DELETE);
        bind_text(&row, worker_id);
        return binder_send(&row);
}

static int send_fact(const Target *target, const StoreChange *change) {
        Binder row = binder(target, WRITE_FACT);
        bind_text(&row, change->fact.key);
        bind_text(&row, change->fact.value);
        return binder_send(&row);
}

static int send_change(const Target *target, const StoreChange *change) {
        switch (change->type) {
        case STORE_PUT_TASK:
                return send_task(target, &change->task, change->labels);
        case STORE_UPDATE_TASK:
                return send_task_update(target, &change->task);
        case STORE_FINISH_TASK:
                return send_task_finish(target, &change->task);
        case STORE_RETRY_TASK:
                return send_task_retry(target, &change->task);
        case STORE_DELETE_TASK:
                return send_for_task(target, WRITE_TASK_DELETE, change->seq);
        case STORE_SET_DEPENDENCIES:
                return send_dependencies(target, change);
        case STORE_PUT_ATTEMPT:
                return send_attempt(target, change->seq, &change->attempt);
        case STORE_APPEND_OUTPUT:
                return send_output(target, change);
        case STORE_PUT_WORKER:
                return send_worker(target, &change->worker);
        case STORE_DELETE_WORKER:
                return send_worker_delete(target, change->worker.worker_id);
        case STORE_PUT_FACT:
                return send_fact(target, change);
        }
        return -EINVAL;
}

static uint64_t limited(uint64_t value) {
        return value < INT64_MAX ? value : INT64_MAX;
}

static int send_prune(const Target *target, const StoreWrite *write) {
        const StoreWriter *writer = &write->store->writer;
        Binder row = binder(target, WRITE_PRUNE);
        bind_number(&row, limited(write->prune_keep));
        bind_number(&row, limited(write->prune_before_usec));
        bind_number(&row, limited(write->prune_limit));
        bind_number(&row, writer->prune_keep == write->prune_keep ? writer->prune_excess : 0);
        return binder_send(&row);
}

int store_send_write(Postgres *postgres, StoreWrite *write, PostgresDone done) {
        const Target target = { .postgres = postgres, .done = done, .userdata = write };
        int r = 0;
        if (!write->batch)
                return send_prune(&target, write);
        for (const StoreChange *change = write->batch->first; r >= 0 && change; change = change->next) {
                if (change->type == STORE_DELETE_TASK || change->type == STORE_RETRY_TASK)
                        write->takes_results = true;
                r = send_change(&target, change);
        }
        if (write->takes_results) /* for what prunes behind it in the same group */
                write->store->writer.prune_excess = 0;
        return r;
}

int store_send_begin(Postgres *postgres, uint64_t epoch, PostgresDone done, void *userdata) {
        Binder row = binder(
                        &(Target) { .postgres = postgres, .done = done, .userdata = userdata }, WRITE_BEGIN);
        bind_number(&row, epoch);
        return binder_send(&row);
}

int store_send_is_risky(Postgres *postgres, PostgresDone done, void *userdata) {
        return postgres_execute(postgres, WRITE_IS_RISKY, NULL, 0, done, userdata);
}

int store_send_fence(Postgres *postgres, uint64_t epoch, uint64_t number, PostgresDone done, void *userdata) {
        Binder row = binder(
                        &(Target) { .postgres = postgres, .done = done, .userdata = userdata }, WRITE_FENCE);
        bind_number(&row, epoch);
        bind_number(&row, number);
        return binder_send(&row);
}
