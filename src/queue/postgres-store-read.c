/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is read: each read is a number of questions, one after the other, and each question one or more
 * statements that are answered together. When the connection breaks, the question that was under way is asked
 * again. Many reads are under way at a time. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "queue/moment.h"
#include "queue/postgres-store-internal.h"

#define LIST_SCAN_MAX   "5000" /* tasks of one label that are looked at for one page */
#define LOAD_ROWS       "1000"
#define LOAD_BYTES_MAX  "16777216" /* of one page of tasks at the start */
#define RANGE_SIZE      UINT64_C(10000)
#define OUTPUT_PIECE    "1048576" /* no row of an output is larger */
#define ANSWERS_MAX     3
#define INLINE_SIZE_MAX INT32_MAX

typedef enum ReadStatement {
        READ_BEGIN,
        READ_RANGE,
        READ_FACTS,
        READ_NEWEST_RESULT,
        READ_WORKERS,
        READ_LIVE,
        READ_LIVE_DEPENDENCIES,
        READ_TASK,
        READ_ATTEMPTS,
        READ_DEPENDENCIES,
        READ_OUTPUT_PART,
        READ_LIST,
        READ_LIST_STATE,
        READ_LIST_LABEL,
        READ_LIST_END,
        READ_LIST_ATTEMPTS,
        READ_OUTPUT,
        _READ_STATEMENT_MAX,
} ReadStatement;

#define TASK_COLUMNS                                                                                    \
        "t.seq, t.task_id, t.state, t.priority, t.retries, t.losses, t.stop_requested, t.submit_usec, " \
        "t.queue_usec, t.not_before_usec, t.finish_usec, t.result"
#define COLUMN_SPEC    12
#define N_TASK_COLUMNS 13
#define ATTEMPT_COLUMNS                                                                                      \
        "a.number, a.state, a.worker_id, a.runner_task_id, a.runner_instance, a.place_usec, a.finish_usec, " \
        "a.unanswered, a.attempt"
#define N_ATTEMPT_COLUMNS 9

/* A page of the tasks that a query finds, up to the one with which it has $3 bytes. Of a finished task the
 * specification is not wanted. The last column has how many there were without that. */
#define LIST_BEGIN                                                                                       \
        "SELECT " TASK_COLUMNS ", CASE WHEN t.result IS NULL THEN t.spec END, t.n FROM ("                \
        "SELECT t.*, s.spec, count(*) OVER () AS n, sum(octet_length(coalesce(t.result, s.spec))) OVER " \
        "(ORDER BY t.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM ("
#define LIST_END                                                                           \
        ") found JOIN tasks t ON t.seq = found.seq LEFT JOIN specs s ON s.seq = t.seq) t " \
        "WHERE t.bytes IS NULL OR t.bytes < $3 ORDER BY t.seq"
#define COLUMN_LIST_N N_TASK_COLUMNS

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
        /* Each state by its index. */
        [READ_LIVE] = { "SELECT " TASK_COLUMNS ", t.spec, " ATTEMPT_COLUMNS ", t.n FROM ("
                        "SELECT t.*, s.spec, count(*) OVER () AS n, sum(octet_length(s.spec)) OVER "
                        "(ORDER BY t.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM ("
                        "(SELECT * FROM tasks WHERE state = 'queued' AND seq > $1 ORDER BY seq "
                        "LIMIT " LOAD_ROWS ") UNION ALL "
                        "(SELECT * FROM tasks WHERE state = 'running' AND seq > $1 ORDER BY seq "
                        "LIMIT " LOAD_ROWS ") ORDER BY seq LIMIT " LOAD_ROWS ") t "
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

/* Sends its statements; and what is done with their answers, which are kept until the next question is asked
 * or the read is over: 1 when there is another question (read->question), 0 when it is over and was told. */
typedef struct Question {
        int (*send)(StoreRead *read, Postgres *postgres);
        int (*answered)(StoreRead *read);
} Question;

struct StoreRead {
        PostgresStore *store; /* weak */
        StoreRead *prev, *next;
        const Question *question;
        bool is_sent;
        size_t n_answers;
        PostgresResult *answers[ANSWERS_MAX];

        /* Tells that it came to nothing. */
        void (*fail)(const StoreRead *read, int r);
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
        char *on_id; /* of the dependency that was loaded last */

        /* Of a question before: what an entry or a page is made of. */
        StoreEntry *entries;
        size_t n_entries;
        uint64_t next_page;
        StoredAttempt *attempts;
        StoredDependency *dependencies;
        PostgresResult *kept[ANSWERS_MAX];
        char *outputs[STORED_STDERR + 1];
};

static void results_free(PostgresResult *results[static ANSWERS_MAX]) {
        for (size_t i = 0; i < ANSWERS_MAX; i++)
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

static void read_ask(StoreRead *read);

static void on_all_answered(int r, const PostgresResult *result, void *userdata) {
        StoreRead *read = userdata;
        if (r == -ECONNRESET) { /* asked again by the next session */
                read->is_sent = false;
                return;
        }
        if (r >= 0)
                r = read->question->answered(read);
        if (r < 0)
                read_fail(read, r);
        else if (r > 0)
                read_ask(read);
        else
                read_free(read);
}

static void on_answer(int r, const PostgresResult *result, void *userdata) {
        StoreRead *read = userdata;
        if (r < 0)
                return;
        assert(read->n_answers < ANSWERS_MAX);
        read->answers[read->n_answers++] = postgres_take_result(read->store->reader.session.postgres);
}

/* What cannot be sent for want of memory spoils the connection, and is sent by the next one. */
static void read_ask(StoreRead *read) {
        StoreSession *session = &read->store->reader.session;
        results_free(read->answers);
        read->n_answers = 0;
        read->is_sent = false;
        if (!session->is_ready || !postgres_is_connected(session->postgres))
                return;
        read->is_sent = true;
        if (read->question->send(read, session->postgres) < 0 ||
            postgres_sync(session->postgres, on_all_answered, read) < 0)
                read->is_sent = false;
}

static int read_begin(PostgresStore *store, const StoreRead *template, StoreRead **ret) {
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

/* ── rows ── */

static int row_task(const PostgresResult *result, size_t row, StoredTask *ret) {
        const char *state = postgres_result_text(result, row, 2);
        int state_number = state ? stored_state_from_string(state) : -EINVAL;
        *ret = (StoredTask){
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
                .spec = postgres_result_text(result, row, COLUMN_SPEC),
        };
        if (state_number < 0 || !ret->task_id)
                return -EUCLEAN;
        ret->state = (StoredState) state_number;
        return 0;
}

/* From column FIRST on. 0: there is none. */
static int row_attempt(const PostgresResult *result, size_t row, size_t first, StoredAttempt *ret) {
        const char *state = postgres_result_text(result, row, first + 1);
        if (!state)
                return 0;
        int state_number = stored_attempt_state_from_string(state);
        *ret = (StoredAttempt){
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

static int rows_attempts(const PostgresResult *result, StoredAttempt **ret) {
        size_t n = postgres_result_n_rows(result);
        StoredAttempt *attempts = calloc(n + 1, sizeof(StoredAttempt));
        int r = attempts ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = row_attempt(result, i, 0, &attempts[i]);
        *ret = attempts;
        return r;
}

static StoredDependency row_dependency(const PostgresResult *result, size_t row) {
        return (StoredDependency){
                .task_id = postgres_result_text(result, row, 0),
                .on_id = postgres_result_text(result, row, 1),
                .failed = postgres_result_bool(result, row, 2),
        };
}

/* ── one task ── */

static void get_fail(const StoreRead *read, int r) {
        Moment now = moment_now();
        read->done.got(r, NULL, &now, read->userdata);
}

static int get_tell(const StoreRead *read) {
        Moment now = moment_now();
        read->done.got(0, read->entries, &now, read->userdata);
        return 0;
}

static int get_outputs_send(StoreRead *read, Postgres *postgres) {
        const StoreEntry *entry = read->entries;
        char seq[POSTGRES_NUMBER_SIZE], number[POSTGRES_NUMBER_SIZE], stream[POSTGRES_NUMBER_SIZE],
                        size[POSTGRES_NUMBER_SIZE];
        uint64_t bytes_max = read->wanted.output_bytes_max;
        int r = 0;
        for (StoredStream i = STORED_STDOUT; r >= 0 && i <= STORED_STDERR; i++) {
                const PostgresValue values[] = {
                        postgres_number((int64_t) entry->task.seq, seq),
                        postgres_number((int64_t) entry->attempts[entry->n_attempts - 1].number, number),
                        postgres_number(i, stream),
                        postgres_number(bytes_max < INLINE_SIZE_MAX ? (int64_t) bytes_max : INLINE_SIZE_MAX,
                                        size),
                        postgres_bool(read->wanted.tail),
                };
                r = postgres_execute(
                                postgres,
                                READ_OUTPUT_PART,
                                values,
                                sizeof(values) / sizeof(*values),
                                on_answer,
                                read);
        }
        return r;
}

static int join_output(StoreRead *read, StoredStream stream, const PostgresResult *result) {
        StoreOutput *output = &read->entries->outputs[stream];
        size_t n = postgres_result_n_rows(result), size, all = 0;
        for (size_t i = 0; i < n; i++) {
                (void) postgres_result_bytes(result, i, 1, &size);
                all += size;
        }
        char *joined = malloc(all + 1);
        if (!joined)
                return -ENOMEM;
        read->outputs[stream] = joined;
        for (size_t i = 0; i < n; i++) {
                const void *bytes = postgres_result_bytes(result, i, 1, &size);
                memcpy(joined + output->size, bytes, size);
                output->size += size;
        }
        output->bytes = joined;
        output->total = n > 0 ? postgres_result_u64(result, 0, 0) : 0;
        return 0;
}

static int get_outputs_answered(StoreRead *read) {
        int r = 0;
        for (StoredStream stream = STORED_STDOUT; r >= 0 && stream <= STORED_STDERR; stream++)
                r = join_output(read, stream, read->answers[stream]);
        return r < 0 ? r : get_tell(read);
}

static const Question get_outputs = { get_outputs_send, get_outputs_answered };

static bool get_wants_attempts(const StoreRead *read) {
        return read->wanted.attempts || read->wanted.output_bytes_max > 0;
}

static int get_task_send(StoreRead *read, Postgres *postgres) {
        const PostgresValue id = postgres_text(read->task_id);
        int r = postgres_execute(postgres, READ_TASK, &id, 1, on_answer, read);
        if (r >= 0 && get_wants_attempts(read))
                r = postgres_execute(postgres, READ_ATTEMPTS, &id, 1, on_answer, read);
        if (r >= 0 && read->wanted.dependencies)
                r = postgres_execute(postgres, READ_DEPENDENCIES, &id, 1, on_answer, read);
        return r;
}

static int add_dependencies(StoreRead *read, const PostgresResult *result) {
        StoreEntry *entry = read->entries;
        entry->n_dependencies = postgres_result_n_rows(result);
        read->dependencies = calloc(entry->n_dependencies + 1, sizeof(StoredDependency));
        if (!read->dependencies)
                return -ENOMEM;
        for (size_t i = 0; i < entry->n_dependencies; i++)
                read->dependencies[i] = row_dependency(result, i);
        entry->dependencies = read->dependencies;
        return 0;
}

static int get_task_answered(StoreRead *read) {
        PostgresResult *const *answers = read->answers;
        size_t n = 1;
        read->entries = calloc(1, sizeof(StoreEntry));
        StoreEntry *entry = read->entries;
        if (!entry)
                return -ENOMEM;
        if (postgres_result_n_rows(answers[0]) == 0)
                return -ENOENT;
        int r = row_task(answers[0], 0, &entry->task);
        if (r >= 0 && !entry->task.spec)
                r = -EUCLEAN;
        if (r >= 0 && get_wants_attempts(read)) {
                r = rows_attempts(answers[n], &read->attempts);
                entry->attempts = read->attempts;
                entry->n_attempts = postgres_result_n_rows(answers[n++]);
        }
        if (r >= 0 && read->wanted.dependencies)
                r = add_dependencies(read, answers[n]);
        if (r < 0)
                return r;
        if (read->wanted.output_bytes_max == 0 || !entry->task.result || entry->n_attempts == 0)
                return get_tell(read);
        memcpy(read->kept, read->answers, sizeof(read->kept));
        memset(read->answers, 0, sizeof(read->answers));
        read->question = &get_outputs;
        return 1;
}

static const Question get_task = { get_task_send, get_task_answered };

int store_get(PostgresStore *store,
              const char *task_id,
              const StoreWanted *wanted,
              StoreGot done,
              void *userdata) {
        StoreRead *read;
        char *copy = strdup(task_id);
        int r = copy ? read_begin(store,
                                  &(StoreRead){
                                                  .question = &get_task,
                                                  .fail = get_fail,
                                                  .task_id = copy,
                                                  .wanted = *wanted,
                                                  .done.got = done,
                                                  .userdata = userdata,
                                  },
                                  &read) :
                       -ENOMEM;
        if (r < 0) {
                free(copy);
                return r;
        }
        read_ask(read);
        return 0;
}

/* ── a page ── */

static void list_fail(const StoreRead *read, int r) {
        Moment now = moment_now();
        read->done.listed(r, NULL, 0, 0, &now, read->userdata);
}

static int list_tell(const StoreRead *read) {
        Moment now = moment_now();
        read->done.listed(0, read->entries, read->n_entries, read->next_page, &now, read->userdata);
        return 0;
}

static int append_seqs(Text *array, const StoreRead *read) {
        int r = text_append(array, "{");
        for (size_t i = 0; r >= 0 && i < read->n_entries; i++)
                if (!read->entries[i].task.result)
                        r = text_appendf(
                                        array,
                                        "%s%" PRIu64,
                                        array->size > 1 ? "," : "",
                                        read->entries[i].task.seq);
        return r < 0 ? r : text_append(array, "}");
}

static int list_attempts_send(StoreRead *read, Postgres *postgres) {
        _cleanup_(text_done) Text array = {};
        int r = append_seqs(&array, read);
        if (r < 0)
                return r;
        const PostgresValue seqs = postgres_text(array.data);
        return postgres_execute(postgres, READ_LIST_ATTEMPTS, &seqs, 1, on_answer, read);
}

/* Both are ordered by seq. */
static int list_attempts_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        size_t n = postgres_result_n_rows(result), row = 0;
        int r = rows_attempts(result, &read->attempts);
        if (r < 0)
                return r;
        for (size_t i = 0; i < read->n_entries; i++) {
                StoreEntry *entry = &read->entries[i];
                if (entry->task.result)
                        continue;
                entry->attempts = &read->attempts[row];
                while (row < n && postgres_result_u64(result, row, N_ATTEMPT_COLUMNS) == entry->task.seq) {
                        entry->n_attempts++;
                        row++;
                }
        }
        return list_tell(read);
}

static const Question list_attempts = { list_attempts_send, list_attempts_answered };

static int list_label_send(StoreRead *read, Postgres *postgres, PostgresValue values[static 6]) {
        const StoreFilter *filter = &read->filter;
        _cleanup_(text_done) Text others = {};
        int r = postgres_append_array(&others, read->labels + 1);
        if (r < 0)
                return r;
        values[3] = postgres_text(filter->labels[0]);
        values[4] = postgres_text(
                        filter->state >= 0 ? stored_state_to_string((StoredState) filter->state) : NULL);
        values[5] = postgres_text(others.data);
        const PostgresValue end[] = { values[3], values[0] };
        r = postgres_execute(postgres, READ_LIST_LABEL, values, 6, on_answer, read);
        return r < 0 ? r : postgres_execute(postgres, READ_LIST_END, end, 2, on_answer, read);
}

static int list_page_send(StoreRead *read, Postgres *postgres) {
        const StoreFilter *filter = &read->filter;
        char after[POSTGRES_NUMBER_SIZE], limit[POSTGRES_NUMBER_SIZE], bytes[POSTGRES_NUMBER_SIZE];
        PostgresValue values[6] = {
                postgres_number((int64_t) filter->after, after),
                postgres_number((int64_t) filter->limit + 1, limit), /* is there a next page? */
                postgres_number(filter->bytes_max < INT64_MAX ? (int64_t) filter->bytes_max : INT64_MAX,
                                bytes),
        };
        if (filter->labels && filter->labels[0])
                return list_label_send(read, postgres, values);
        if (filter->state < 0)
                return postgres_execute(postgres, READ_LIST, values, 3, on_answer, read);
        values[3] = postgres_text(stored_state_to_string((StoredState) filter->state));
        return postgres_execute(postgres, READ_LIST_STATE, values, 4, on_answer, read);
}

static int list_page_answered(StoreRead *read) {
        const PostgresResult *page = read->answers[0], *end = read->answers[1];
        size_t n = postgres_result_n_rows(page);
        uint64_t n_found = n > 0 ? postgres_result_u64(page, 0, COLUMN_LIST_N) : 0;
        bool any_live = false;
        if (n > read->filter.limit)
                n = read->filter.limit;
        read->entries = calloc(n + 1, sizeof(StoreEntry));
        if (!read->entries)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                StoredTask *task = &read->entries[i].task;
                int r = row_task(page, i, task);
                if (r < 0 || (!task->result && !task->spec))
                        return r < 0 ? r : -EUCLEAN;
                any_live |= !task->result;
        }
        read->n_entries = n;
        if (n < n_found)
                read->next_page = read->entries[n - 1].task.seq;
        else if (end && postgres_result_n_rows(end) > 0)
                read->next_page = postgres_result_u64(end, 0, 0);
        if (!any_live)
                return list_tell(read);
        memcpy(read->kept, read->answers, sizeof(read->kept));
        memset(read->answers, 0, sizeof(read->answers));
        read->question = &list_attempts;
        return 1;
}

static const Question list_page = { list_page_send, list_page_answered };

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

static int filter_check(const StoreFilter *filter) {
        size_t n = 0;
        for (const char *const *label = filter->labels; label && *label; label++)
                if (++n > STORE_LABELS_MAX || !strchr(*label, '='))
                        return -EINVAL;
        if (filter->limit < 1 || filter->limit > STORE_LIST_LIMIT_MAX || filter->state >= _STORED_STATE_MAX)
                return -EINVAL;
        return 0;
}

int store_list(PostgresStore *store, const StoreFilter *filter, StoreListed done, void *userdata) {
        char **labels;
        StoreRead *read;
        int r = filter_check(filter);
        if (r < 0)
                return r;
        r = copy_list(filter->labels, &labels);
        if (r < 0)
                return r;
        r = read_begin(store,
                       &(StoreRead){
                                       .question = &list_page,
                                       .fail = list_fail,
                                       .filter = *filter,
                                       .labels = labels,
                                       .done.listed = done,
                                       .userdata = userdata,
                       },
                       &read);
        if (r < 0) {
                text_list_free(labels);
                return r;
        }
        read->filter.labels = (const char *const *) labels;
        if (read->filter.after > INT64_MAX) /* nothing comes behind that */
                read->filter.after = INT64_MAX;
        read_ask(read);
        return 0;
}

/* ── output ── */

static void output_fail(const StoreRead *read, int r) {
        Moment now = moment_now();
        read->done.has_read(r, NULL, &now, read->userdata);
}

static int output_send(StoreRead *read, Postgres *postgres) {
        char seq[POSTGRES_NUMBER_SIZE], number[POSTGRES_NUMBER_SIZE], stream[POSTGRES_NUMBER_SIZE],
                        offset[POSTGRES_NUMBER_SIZE], size[POSTGRES_NUMBER_SIZE];
        const PostgresValue values[] = {
                postgres_number((int64_t) read->seq, seq),
                postgres_number((int64_t) read->number, number),
                postgres_number(read->stream, stream),
                postgres_number((int64_t) read->offset, offset),
                postgres_number(read->size < INLINE_SIZE_MAX ? (int64_t) read->size : INLINE_SIZE_MAX, size),
        };
        return postgres_execute(
                        postgres, READ_OUTPUT, values, sizeof(values) / sizeof(*values), on_answer, read);
}

static int output_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        Moment now = moment_now();
        size_t size = 0;
        const void *bytes = NULL;
        if (postgres_result_n_rows(result) > 0)
                bytes = postgres_result_bytes(result, 0, 0, &size);
        read->done.has_read((ssize_t) size, bytes ?: "", &now, read->userdata);
        return 0;
}

static const Question output_part = { output_send, output_answered };

int store_read(PostgresStore *store,
               uint64_t seq,
               uint64_t number,
               StoredStream stream,
               uint64_t offset,
               size_t size,
               StoreHasRead done,
               void *userdata) {
        StoreRead *read;
        int r = read_begin(
                        store,
                        &(StoreRead){
                                        .question = &output_part,
                                        .fail = output_fail,
                                        .seq = seq,
                                        .number = number,
                                        .stream = stream,
                                        .offset = offset < INT64_MAX ? offset : INT64_MAX,
                                        .size = size,
                                        .done.has_read = done,
                                        .userdata = userdata,
                        },
                        &read);
        if (r >= 0)
                read_ask(read);
        return r;
}

/* ── the start ── */

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
        return postgres_execute(postgres, READ_LIVE_DEPENDENCIES, values, 2, on_answer, read);
}

static int load_dependencies_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        size_t n = postgres_result_n_rows(result);
        Moment now = moment_now();
        int r = 0;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const StoredDependency dependency = row_dependency(result, i);
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

static const Question load_dependencies = { load_dependencies_send, load_dependencies_answered };

static int load_tasks_send(StoreRead *read, Postgres *postgres) {
        char after[POSTGRES_NUMBER_SIZE];
        const PostgresValue value = postgres_number((int64_t) read->seq, after);
        return postgres_execute(postgres, READ_LIVE, &value, 1, on_answer, read);
}

static int load_tasks_answered(StoreRead *read) {
        const PostgresResult *result = read->answers[0];
        size_t n = postgres_result_n_rows(result);
        Moment now = moment_now();
        for (size_t i = 0; i < n; i++) {
                StoredTask task;
                StoredAttempt attempt;
                int r = row_task(result, i, &task);
                if (r < 0 || !task.spec)
                        return r < 0 ? r : -EUCLEAN;
                int has_attempt = row_attempt(result, i, N_TASK_COLUMNS, &attempt);
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

static const Question load_tasks = { load_tasks_send, load_tasks_answered };

static int load_small_send(StoreRead *read, Postgres *postgres) {
        int r = postgres_execute(postgres, READ_FACTS, NULL, 0, on_answer, read);
        if (r >= 0)
                r = postgres_execute(postgres, READ_NEWEST_RESULT, NULL, 0, on_answer, read);
        return r < 0 ? r : postgres_execute(postgres, READ_WORKERS, NULL, 0, on_answer, read);
}

static int load_workers(const StoreLoader *loader, const PostgresResult *result) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < postgres_result_n_rows(result); i++)
                r = loader->on_worker(
                                &(StoredWorker){
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

static const Question load_small = { load_small_send, load_small_answered };

int store_load(PostgresStore *store, const StoreLoader *loader) {
        StoreRead *read;
        int r = read_begin(
                        store,
                        &(StoreRead){ .question = &load_small, .fail = load_fail, .loader = *loader },
                        &read);
        if (r >= 0)
                read_ask(read);
        return r;
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
        if (r >= 0 && reader->reserve_seq == 0)
                r = -EAGAIN;
        if (r < 0) {
                store_session_drop(&reader->session, postgres_error_message(reader->session.postgres));
                return;
        }
        store_session_is_ready(&reader->session);
        for (StoreRead *read = reader->first_read; read; read = read->next)
                if (!read->is_sent)
                        read_ask(read);
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
