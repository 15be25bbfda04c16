/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tasks, pages of them and outputs, as clients ask for them. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "queue/moment.h"
#include "queue/postgres-store-internal.h"

#define INLINE_SIZE_MAX INT32_MAX
#define COLUMN_LIST_N   READ_TASK_COLUMNS

static int rows_attempts(const PostgresResult *result, StoredAttempt **ret) {
        size_t n = postgres_result_n_rows(result);
        StoredAttempt *attempts = calloc(n + 1, sizeof(StoredAttempt));
        int r = attempts ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = store_row_attempt(result, i, 0, &attempts[i]);
        *ret = attempts;
        return r;
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
                                store_read_on_answer,
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

static const StoreQuestion get_outputs = { get_outputs_send, get_outputs_answered };

static bool get_wants_attempts(const StoreRead *read) {
        return read->wanted.attempts || read->wanted.output_bytes_max > 0;
}

static int get_task_send(StoreRead *read, Postgres *postgres) {
        const PostgresValue id = postgres_text(read->task_id);
        int r = postgres_execute(postgres, READ_TASK, &id, 1, store_read_on_answer, read);
        if (r >= 0 && get_wants_attempts(read))
                r = postgres_execute(postgres, READ_ATTEMPTS, &id, 1, store_read_on_answer, read);
        if (r >= 0 && read->wanted.dependencies)
                r = postgres_execute(postgres, READ_DEPENDENCIES, &id, 1, store_read_on_answer, read);
        return r;
}

static int add_dependencies(StoreRead *read, const PostgresResult *result) {
        StoreEntry *entry = read->entries;
        entry->n_dependencies = postgres_result_n_rows(result);
        read->dependencies = calloc(entry->n_dependencies + 1, sizeof(StoredDependency));
        if (!read->dependencies)
                return -ENOMEM;
        for (size_t i = 0; i < entry->n_dependencies; i++)
                read->dependencies[i] = store_row_dependency(result, i);
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
        int r = store_row_task(answers[0], 0, &entry->task);
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
        store_read_keep_answers(read);
        read->question = &get_outputs;
        return 1;
}

static const StoreQuestion get_task = { get_task_send, get_task_answered };

int store_get(PostgresStore *store,
              const char *task_id,
              const StoreWanted *wanted,
              StoreGot done,
              void *userdata) {
        StoreRead *read;
        char *copy = strdup(task_id);
        int r = copy ? store_read_begin(
                                       store,
                                       &(StoreRead) {
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
        store_read_ask(read);
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
        return postgres_execute(postgres, READ_LIST_ATTEMPTS, &seqs, 1, store_read_on_answer, read);
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
                while (row < n && postgres_result_u64(result, row, READ_ATTEMPT_COLUMNS) == entry->task.seq) {
                        entry->n_attempts++;
                        row++;
                }
        }
        return list_tell(read);
}

static const StoreQuestion list_attempts = { list_attempts_send, list_attempts_answered };

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
        r = postgres_execute(postgres, READ_LIST_LABEL, values, 6, store_read_on_answer, read);
        return r < 0 ? r : postgres_execute(postgres, READ_LIST_END, end, 2, store_read_on_answer, read);
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
                return postgres_execute(postgres, READ_LIST, values, 3, store_read_on_answer, read);
        values[3] = postgres_text(stored_state_to_string((StoredState) filter->state));
        return postgres_execute(postgres, READ_LIST_STATE, values, 4, store_read_on_answer, read);
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
                int r = store_row_task(page, i, task);
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
        store_read_keep_answers(read);
        read->question = &list_attempts;
        return 1;
}

static const StoreQuestion list_page = { list_page_send, list_page_answered };

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
        r = store_read_begin(
                        store,
                        &(StoreRead) {
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
        store_read_ask(read);
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
                        postgres,
                        READ_OUTPUT,
                        values,
                        sizeof(values) / sizeof(*values),
                        store_read_on_answer,
                        read);
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

static const StoreQuestion output_part = { output_send, output_answered };

int store_read(PostgresStore *store,
               uint64_t seq,
               uint64_t number,
               StoredStream stream,
               uint64_t offset,
               size_t size,
               StoreHasRead done,
               void *userdata) {
        StoreRead *read;
        int r = store_read_begin(
                        store,
                        &(StoreRead) {
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
                store_read_ask(read);
        return r;
}
