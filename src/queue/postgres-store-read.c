/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is read: each read is a number of questions, one after the other, and each question one or more
 * statements that are answered together. When the connection breaks, the question that was under way is asked
 * again. Many reads are under way at a time. */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/postgres-store-internal.h"

#define LIST_SCAN_MAX  "5000" /* tasks of one label that are looked at for one page */
#define LOAD_ROWS      "1000"
#define LOAD_BYTES_MAX "16777216" /* of one page of tasks at the start */
#define RANGE_SIZE     UINT64_C(10000)
#define OUTPUT_PIECE   "1048576" /* no row of an output is larger */

#define TASK_COLUMNS                                                                                    \
        "t.seq, t.task_id, t.state, t.priority, t.retries, t.losses, t.stop_requested, t.submit_usec, " \
        "t.queue_usec, t.not_before_usec, t.finish_usec, t.result"
#define ATTEMPT_COLUMNS                                                                                      \
        "a.number, a.state, a.worker_id, a.runner_task_id, a.runner_instance, a.place_usec, a.finish_usec, " \
        "a.unanswered, a.attempt"

/* A page of the tasks that a query finds, up to the one with which it has $3 bytes. Of a finished task the
 * specification is not wanted. The last column has how many there were without that. */
#define LIST_BEGIN                                                                                       \
        "SELECT " TASK_COLUMNS ", CASE WHEN t.result IS NULL THEN t.spec END, t.n FROM ("                \
        "SELECT t.*, s.spec, count(*) OVER () AS n, sum(octet_length(coalesce(t.result, s.spec))) OVER " \
        "(ORDER BY t.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM ("
#define LIST_END                                                                           \
        ") found JOIN tasks t ON t.seq = found.seq LEFT JOIN specs s ON s.seq = t.seq) t " \
        "WHERE t.bytes IS NULL OR t.bytes < $3 ORDER BY t.seq"

#define LIVE "('queued', 'running')"

/* Specifications are joined to the left: one that is missing is damage, and not a task that is not there. */
static const PostgresStatement statements[] = {
        [READ_BEGIN] = { "SELECT value FROM facts WHERE key = '" STORED_FACT_QUEUE_ID "'" },
        [READ_RANGE] = { "SELECT nextval('task_ranges')" },
        [READ_FACTS] = { "SELECT key, value FROM facts WHERE key IN ('" STORED_FACT_DRAINING
                         "', '" STORED_FACT_RESULT_CLOCK "') ORDER BY key" },
        [READ_NEWEST_RESULT] = { "SELECT max(finish_usec) FROM tasks WHERE finish_usec > 0" },
        [READ_WORKERS] = { "SELECT worker_id, disabled, joined, leaving, url, before_url, token "
                           "FROM workers ORDER BY worker_id" },
        /* Each state by its index, which only has this order: by another one, all of other states that are in
         * between would be looked at, a million maybe. */
        [READ_LIVE] = { "SELECT " TASK_COLUMNS ", t.spec, " ATTEMPT_COLUMNS ", t.n FROM ("
                        "SELECT t.*, s.spec, count(*) OVER () AS n, sum(octet_length(s.spec)) OVER "
                        "(ORDER BY t.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM ("
                        "(SELECT * FROM tasks WHERE (state, seq) > ('queued', $1) AND state <= 'queued' "
                        "ORDER BY state, seq LIMIT " LOAD_ROWS ") UNION ALL "
                        "(SELECT * FROM tasks WHERE (state, seq) > ('running', $1) AND state <= 'running' "
                        "ORDER BY state, seq LIMIT " LOAD_ROWS ") ORDER BY seq LIMIT " LOAD_ROWS ") t "
                        "LEFT JOIN specs s ON s.seq = t.seq) t "
                        "LEFT JOIN LATERAL (SELECT * FROM attempts WHERE attempts.seq = t.seq "
                        "ORDER BY number DESC LIMIT 1) a ON true "
                        "WHERE t.bytes IS NULL OR t.bytes < " LOAD_BYTES_MAX " ORDER BY t.seq" },
        [READ_LIVE_DEPENDENCIES] = { "SELECT t.task_id, d.on_id, d.failed, d.seq FROM ("
                                     "SELECT * FROM dependencies WHERE (seq, on_id) > ($1, $2) "
                                     "ORDER BY seq, on_id LIMIT " LOAD_ROWS ") d "
                                     "LEFT JOIN tasks t ON t.seq = d.seq AND t.state IN " LIVE
                                     " ORDER BY d.seq, d.on_id" },
        [READ_TASK] = { "SELECT " TASK_COLUMNS ", s.spec FROM tasks t LEFT JOIN specs s ON s.seq = t.seq "
                        "WHERE t.task_id = $1" },
        [READ_ATTEMPTS] = { "SELECT " ATTEMPT_COLUMNS " FROM tasks t JOIN attempts a ON a.seq = t.seq "
                            "WHERE t.task_id = $1 ORDER BY a.number" },
        [READ_DEPENDENCIES] = { "SELECT t.task_id, d.on_id, d.failed FROM tasks t "
                                "JOIN dependencies d ON d.seq = t.seq WHERE t.task_id = $1" },
        /* $4 bytes at most, the last ones if $5. */
        [READ_OUTPUT_PART] = { "SELECT total, substring(bytes FROM greatest(at - position, 0)::int + 1 "
                               "FOR least(at + $4 - greatest(at, position), " OUTPUT_PIECE ")::int) "
                               "FROM (SELECT total, CASE WHEN $5 THEN greatest(total - $4, 0) ELSE 0 END AS at "
                               "FROM (SELECT position + length(bytes) AS total FROM outputs "
                               "WHERE seq = $1 AND number = $2 AND stream = $3 "
                               "ORDER BY position DESC LIMIT 1) last) part JOIN outputs ON seq = $1 "
                               "AND number = $2 AND stream = $3 AND position > at - " OUTPUT_PIECE
                               " AND position < at + $4 AND position + length(bytes) > at ORDER BY position",
                               true },
        [READ_LIST] = { LIST_BEGIN "SELECT seq FROM tasks WHERE seq > $1 ORDER BY seq LIMIT $2" LIST_END },
        [READ_LIST_STATE] = { LIST_BEGIN "SELECT seq FROM tasks WHERE state = $4 AND seq > $1 "
                                         "ORDER BY seq LIMIT $2" LIST_END },
        /* The rows of the first label are looked at in order, the rest is asked of each. */
        [READ_LIST_LABEL] = { LIST_BEGIN
                              "SELECT l.seq FROM (SELECT seq FROM labels WHERE label = $4 "
                              "AND seq > $1 ORDER BY seq LIMIT " LIST_SCAN_MAX ") l "
                              "JOIN tasks t ON t.seq = l.seq WHERE ($5::text IS NULL OR t.state = $5) "
                              "AND NOT EXISTS (SELECT FROM unnest($6::text[]) other WHERE NOT EXISTS "
                              "(SELECT FROM labels o WHERE o.label = other AND o.seq = l.seq)) "
                              "ORDER BY l.seq LIMIT $2" LIST_END },
        [READ_LIST_END] = { "SELECT seq FROM labels WHERE label = $1 AND seq > $2 ORDER BY seq "
                            "LIMIT 1 OFFSET " LIST_SCAN_MAX " - 1" },
        [READ_LIST_ATTEMPTS] = { "SELECT " ATTEMPT_COLUMNS ", a.seq FROM attempts a "
                                 "WHERE a.seq = ANY($1::bigint[]) ORDER BY a.seq, a.number" },
        [READ_OUTPUT] = { "SELECT substring(bytes FROM least($4 - position, " OUTPUT_PIECE
                          ")::int + 1 FOR $5) "
                          "FROM outputs WHERE seq = $1 AND number = $2 AND stream = $3 AND position <= $4 "
                          "ORDER BY position DESC LIMIT 1",
                          true },
};
static_assert(sizeof(statements) / sizeof(*statements) == _READ_STATEMENT_MAX, "a text for each statement");

/* ── questions ── */

static void results_free(PostgresResult *results[static READ_ANSWERS_MAX]) {
        for (size_t i = 0; i < READ_ANSWERS_MAX; i++)
                results[i] = postgres_result_free(results[i]);
}

static void read_free(StoreRead *read) {
        StoreReader *reader = &read->store->reader;
        if (read->prev)
                read->prev->next = read->next;
        else
                reader->first_read = read->next;
        if (read->next)
                read->next->prev = read->prev;
        else
                reader->last_read = read->prev;
        results_free(read->answers);
        results_free(read->kept);
        for (StoredStream stream = STORED_STDOUT; stream <= STORED_STDERR; stream++)
                free(read->outputs[stream]);
        free(read->entries);
        free(read->attempts);
        free(read->dependencies);
        free(read->task_id);
        free(read->on_id);
        text_list_free(read->labels);
        free(read);
}

/* Nobody is told anything after this. */
static void read_fail(StoreRead *read, int r) {
        read->fail(read, r);
        read_free(read);
}

static void on_all_answered(int r, const PostgresResult *result, void *userdata) {
        StoreRead *read = userdata;
        if (r == -ECONNRESET) { /* asked again by the next session */
                read->is_sent = false;
                return;
        }
        if (r >= 0)
                r = read->question->answered(read);
        else
                log_line(LOG_WARNING,
                         "The database refuses to read: %s",
                         postgres_error_message(read->store->reader.session.postgres));
        if (r < 0)
                read_fail(read, r);
        else if (r > 0)
                store_read_ask(read);
        else
                read_free(read);
}

void store_read_on_answer(int r, const PostgresResult *result, void *userdata) {
        StoreRead *read = userdata;
        if (r < 0)
                return;
        assert(read->n_answers < READ_ANSWERS_MAX);
        read->answers[read->n_answers++] = postgres_take_result(read->store->reader.session.postgres);
}

/* What can be sent in part only spoils the connection; the next one is asked all of it. */
void store_read_ask(StoreRead *read) {
        StoreSession *session = &read->store->reader.session;
        results_free(read->answers);
        read->n_answers = 0;
        read->is_sent = false;
        if (!session->is_ready || !postgres_is_connected(session->postgres))
                return;
        read->is_sent = true;
        int r = read->question->send(read, session->postgres);
        if (r >= 0)
                r = postgres_sync(session->postgres, on_all_answered, read);
        if (r < 0)
                store_session_drop(session, strerror(-r));
}

int store_read_begin(PostgresStore *store, const StoreRead *template, StoreRead **ret) {
        StoreReader *reader = &store->reader;
        if (store->over < 0)
                return -ESTALE;
        StoreRead *read = malloc(sizeof(*read));
        if (!read)
                return -ENOMEM;
        *read = *template;
        read->store = store;
        read->prev = reader->last_read;
        if (reader->last_read)
                reader->last_read->next = read;
        else
                reader->first_read = read;
        reader->last_read = read;
        *ret = read;
        return 0;
}

void store_read_keep_answers(StoreRead *read) {
        memcpy(read->kept, read->answers, sizeof(read->kept));
        memset(read->answers, 0, sizeof(read->answers));
}

/* ── rows ── */

int store_row_task(const PostgresResult *result, size_t row, StoredTask *ret) {
        const char *state = postgres_result_text(result, row, 2);
        int state_number = state ? stored_state_from_string(state) : -EINVAL;
        *ret = (StoredTask) {
                .seq = postgres_result_u64(result, row, 0),
                .task_id = postgres_result_text(result, row, 1),
                .priority = postgres_result_i64(result, row, 3),
                .retries = postgres_result_u64(result, row, 4),
                .losses = postgres_result_u64(result, row, 5),
                .stop_requested = postgres_result_bool(result, row, 6),
                .submit_usec = postgres_result_u64(result, row, 7),
                .queue_usec = postgres_result_u64(result, row, 8),
                .not_before_usec = postgres_result_u64(result, row, 9),
                .finish_usec = postgres_result_u64(result, row, 10),
                .result = postgres_result_text(result, row, 11),
                .spec = postgres_result_text(result, row, READ_COLUMN_SPEC),
        };
        if (state_number < 0 || !ret->task_id)
                return -EUCLEAN;
        ret->state = (StoredState) state_number;
        return 0;
}

/* From column FIRST on. 0: there is none. */
int store_row_attempt(const PostgresResult *result, size_t row, size_t first, StoredAttempt *ret) {
        const char *state = postgres_result_text(result, row, first + 1);
        if (!state)
                return 0;
        int state_number = stored_attempt_state_from_string(state);
        *ret = (StoredAttempt) {
                .number = postgres_result_u64(result, row, first),
                .worker_id = postgres_result_text(result, row, first + 2),
                .runner_task_id = postgres_result_text(result, row, first + 3),
                .runner_instance = postgres_result_text(result, row, first + 4),
                .place_usec = postgres_result_u64(result, row, first + 5),
                .finish_usec = postgres_result_u64(result, row, first + 6),
                .unanswered = postgres_result_bool(result, row, first + 7),
                .attempt = postgres_result_text(result, row, first + 8),
        };
        if (state_number < 0)
                return -EUCLEAN;
        ret->state = (StoredAttemptState) state_number;
        return 1;
}

StoredDependency store_row_dependency(const PostgresResult *result, size_t row) {
        return (StoredDependency) {
                .task_id = postgres_result_text(result, row, 0),
                .on_id = postgres_result_text(result, row, 1),
                .failed = postgres_result_bool(result, row, 2),
        };
}

/* ── numbers for new tasks ── */

static void on_range(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        StoreReader *reader = &store->reader;
        reader->range_asked = false;
        if (r < 0)
                return;
        reader->reserve_seq = (postgres_result_u64(result, 0, 0) - 1) * RANGE_SIZE + 1;
}

static int ask_range(PostgresStore *store) {
        StoreReader *reader = &store->reader;
        Postgres *postgres = reader->session.postgres;
        int r = postgres_execute(postgres, READ_RANGE, NULL, 0, on_range, store);
        if (r >= 0)
                r = postgres_sync(postgres, NULL, NULL);
        reader->range_asked = r >= 0;
        return r;
}

/* The next range is asked for in good time. */
uint64_t store_next_seq(PostgresStore *store) {
        StoreReader *reader = &store->reader;
        if (store->over < 0)
                return 0;
        if (reader->next_seq == reader->end_seq && reader->reserve_seq > 0) {
                reader->next_seq = reader->reserve_seq;
                reader->end_seq = reader->reserve_seq + RANGE_SIZE;
                reader->reserve_seq = 0;
        }
        if (reader->session.is_ready && reader->reserve_seq == 0 && !reader->range_asked &&
            reader->end_seq - reader->next_seq < RANGE_SIZE / 2)
                (void) ask_range(store);
        return reader->next_seq < reader->end_seq ? reader->next_seq++ : 0;
}

/* ── the session ── */

static void on_begun(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        StoreReader *reader = &store->reader;
        if (r == -ECONNRESET)
                return;
        if (r < 0) {
                store_session_drop(&reader->session, postgres_error_message(reader->session.postgres));
                return;
        }
        if (!reader->queue_id || reader->reserve_seq == 0) {
                store_session_drop(&reader->session, "the queue has no id there");
                return;
        }
        store_session_is_ready(&reader->session);
        for (StoreRead *read = reader->first_read; read; read = read->next)
                if (!read->is_sent)
                        store_read_ask(read);
}

static void on_queue_id(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        if (r < 0 || store->reader.queue_id)
                return;
        if (postgres_result_n_rows(result) > 0)
                store->reader.queue_id = strdup(postgres_result_text(result, 0, 0));
}

static int reader_begin(PostgresStore *store) {
        StoreReader *reader = &store->reader;
        Postgres *postgres = reader->session.postgres;
        int r = postgres_execute(postgres, READ_BEGIN, NULL, 0, on_queue_id, store);
        if (r >= 0 && reader->reserve_seq == 0)
                r = postgres_execute(postgres, READ_RANGE, NULL, 0, on_range, store);
        return r < 0 ? r : postgres_sync(postgres, on_begun, store);
}

void postgres_reader_init(PostgresStore *store) {
        StoreSession *session = &store->reader.session;
        session->name = "daggyd-read";
        session->statements = statements;
        session->n_statements = _READ_STATEMENT_MAX;
        session->begin = reader_begin;
}

void postgres_reader_interrupted(StoreReader *reader) {
        reader->range_asked = false;
        for (StoreRead *read = reader->first_read; read; read = read->next)
                read->is_sent = false;
}

void postgres_reader_fail(StoreReader *reader) {
        while (reader->first_read)
                read_fail(reader->first_read, -ESTALE);
}

void postgres_reader_done(StoreReader *reader) {
        while (reader->first_read)
                read_free(reader->first_read);
        free(reader->queue_id);
        reader->queue_id = NULL;
}
