/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Batches on their way into the database. All that are there become one transaction, a group, which begins
 * with the fence and is whole at the server before its answer is waited for; the next group gathers
 * meanwhile. Only one is under way: the number of a write follows on that of the one before, which must be
 * there.
 *
 * When the connection breaks, nobody knows whether the group is there. The next session ends the one before,
 * and then finds out by the number; a group that is not there is sent again as it was. A group that cannot be
 * written goes without the batch that is to blame, if there is one, or else each of its batches alone. */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "io/loop.h"
#include "queue/moment.h"
#include "queue/postgres-store-internal.h"

#define GROUP_BYTES_MAX  (4 * 1024 * 1024) /* of one transaction, roughly */
#define GROUP_WRITES_MAX 2000
#define CULPRITS_MAX     8 /* after so many, one by one */

static void group_send(PostgresStore *store);

static void write_free(StoreWrite *write) {
        store_batch_free(write->batch);
        free(write);
}

/* ── the outcome ── */

static void write_tell(StoreWriter *writer, StoreWrite *write, int r) {
        Moment now = moment_now();
        writer->pending_bytes -= write->bytes;
        if (write->done)
                write->done(r, &now, write->userdata);
        write_free(write);
}

static void pump_later(PostgresStore *store) {
        (void) sd_event_source_set_enabled(store->writer.pump_source, SD_EVENT_ONESHOT);
}

/* The group is over: each of its batches is there, or has failed by itself. */
static void group_tell(PostgresStore *store) {
        StoreWriter *writer = &store->writer;
        StoreWrite *group = TAKE_PTR(writer->group);
        writer->is_sent = false;
        writer->number = 0;
        writer->n_culprits = 0;
        if (writer->n_alone > 0)
                writer->n_alone--;
        for (StoreWrite *write = group, *next; write; write = next) {
                next = write->next;
                write_tell(writer, write, write->result);
        }
        pump_later(store);
}

static void group_is_written(PostgresStore *store) {
        store->writer.written++;
        store->writer.refusal = 0;
        group_tell(store);
}

/* All but the first one go back to where they came from. */
static void group_split(StoreWriter *writer) {
        StoreWrite *first = writer->group;
        for (const StoreWrite *write = first; write; write = write->next)
                writer->n_alone++;
        DL_DELETE(writer->group, first);
        DL_CONCAT(writer->group, writer->todo);
        writer->todo = TAKE_PTR(writer->group);
        DL_APPEND(writer->group, first);
}

static StoreWrite *group_only_one(const StoreWriter *writer) {
        StoreWrite *found = NULL;
        for (StoreWrite *write = writer->group; write; write = write->next) {
                if (!write->failed && found)
                        return NULL;
                if (!write->failed)
                        found = write;
        }
        return found;
}

/* What a batch is to blame for itself, and no other can. */
static bool is_own_fault(int r) {
        return r == -EEXIST || r == -ENOENT || r == -EINVAL;
}

/* Nothing of the group is there, for R. That much is known, which by -EIO nobody would believe. */
static void group_failed(PostgresStore *store, int r) {
        StoreWriter *writer = &store->writer;
        StoreWrite *culprit = group_only_one(writer);
        if (!culprit && is_own_fault(r) && writer->n_culprits++ < CULPRITS_MAX)
                culprit = writer->culprit;
        if (r != -EEXIST && r != -ENOENT && r != writer->refusal)
                log_line(LOG_WARNING,
                         "The database refuses a write: %s",
                         postgres_error_message(writer->session.postgres));
        writer->refusal = r;
        if (culprit) {
                culprit->failed = true;
                culprit->result = r == -EIO ? -EREMOTEIO : r;
        } else
                group_split(writer);
        group_send(store);
}

static void on_group_done(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        StoreWriter *writer = &store->writer;
        if (r == -ECONNRESET) /* the session's owner is told next */
                return;
        writer->is_sent = false;
        if (r >= 0)
                group_is_written(store);
        else if (r == -ESTALE)
                store_fence(store, r);
        else if (r == -EROFS) /* it is a standby now; the next session finds the one that is not */
                store_session_drop(&writer->session, postgres_error_message(writer->session.postgres));
        else
                group_failed(store, r);
}

/* ── sending ── */

static void on_statement_done(int r, const PostgresResult *result, void *userdata) {
        StoreWrite *write = userdata;
        StoreWriter *writer = &write->store->writer;
        if (r >= 0 && !write->batch) {
                write->result = (int) postgres_result_i64(result, 0, 0);
                writer->prune_keep = write->prune_keep;
                writer->prune_excess = postgres_result_u64(result, 0, 1);
        } else if (r >= 0 && write->takes_results)
                writer->prune_excess = 0;
        else if (r < 0 && r != -ECANCELED && !writer->culprit)
                writer->culprit = write;
}

static bool group_has_work(const StoreWriter *writer) {
        for (const StoreWrite *write = writer->group; write; write = write->next)
                if (!write->failed)
                        return true;
        return false;
}

/* What of a group was not sent undoes what was: without its end, the server drops it with the connection. */
static void group_not_sent(PostgresStore *store, StoreWrite *culprit, int r) {
        if (culprit && r != -ENOTCONN) {
                culprit->failed = true;
                culprit->result = r;
        }
        store_session_drop(&store->writer.session, strerror(-r));
}

static void group_send(PostgresStore *store) {
        StoreWriter *writer = &store->writer;
        Postgres *postgres = writer->session.postgres;
        if (!group_has_work(writer)) {
                group_tell(store);
                return;
        }
        writer->number = writer->written + 1;
        writer->culprit = NULL;
        writer->is_sent = true;
        int r = store_send_fence(postgres, store->options.epoch, writer->number, NULL, NULL);
        StoreWrite *write = writer->group;
        for (; r >= 0 && write; write = write->next)
                if (!write->failed) {
                        r = store_send_write(postgres, write, on_statement_done);
                        if (r < 0)
                                break;
                }
        if (r >= 0)
                r = postgres_sync(postgres, on_group_done, store);
        if (r < 0)
                group_not_sent(store, write, r);
}

static void move_first(StoreWrite **from, StoreWrite **to) {
        StoreWrite *write = *from;
        DL_DELETE(*from, write);
        DL_APPEND(*to, write);
}

static void group_fill(StoreWriter *writer) {
        size_t bytes = 0, n = 0, n_max = writer->n_alone > 0 ? 1 : GROUP_WRITES_MAX;
        while (writer->todo && n < n_max && bytes < GROUP_BYTES_MAX) {
                bytes += writer->todo->bytes;
                move_first(&writer->todo, &writer->group);
                n++;
        }
}

/* In a turn of its own, so that what is handed over in this one goes together. */
static int on_pump(sd_event_source *source, void *userdata) {
        PostgresStore *store = userdata;
        StoreWriter *writer = &store->writer;
        if (store->over < 0 || !writer->session.is_ready || writer->is_sent)
                return 0;
        if (!writer->group)
                group_fill(writer);
        if (writer->group)
                group_send(store);
        return 0;
}

/* ── a new session ── */

/* The last write under this epoch was NUMBER: is the group there? */
static int group_find_out(PostgresStore *store, uint64_t number) {
        StoreWriter *writer = &store->writer;
        bool was_sent = writer->group && writer->number > 0;
        if (was_sent && number != writer->number && number + 1 != writer->number)
                return -EUCLEAN;
        if (!was_sent && writer->session.was_ready && number != writer->written)
                return -EUCLEAN;
        writer->is_sent = false;
        writer->written = number;
        if (was_sent && number == writer->number)
                group_tell(store);
        return 0;
}

static void on_begun(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        StoreSession *session = &store->writer.session;
        if (r == -ECONNRESET)
                return;
        if (r == -ESTALE)
                store_fence(store, r);
        else if (r < 0)
                store_session_drop(session, postgres_error_message(session->postgres));
        if (r < 0)
                return;
        r = group_find_out(store, postgres_result_u64(result, 0, 0));
        if (r < 0) {
                log_line(LOG_ERR, "The database has another count of writes than was told");
                store_fence(store, r);
                return;
        }
        store_session_is_ready(session);
        pump_later(store);
}

static void on_is_risky(int r, const PostgresResult *result, void *userdata) {
        PostgresStore *store = userdata;
        if (r < 0 || store->writer.warned || !postgres_result_bool(result, 0, 0))
                return;
        store->writer.warned = true;
        log_line(LOG_WARNING,
                 "The database has a standby, but synchronous_standby_names is empty: when that takes over, "
                 "tasks that were accepted last may be lost");
}

static int writer_begin(PostgresStore *store) {
        Postgres *postgres = store->writer.session.postgres;
        int r = store_send_is_risky(postgres, on_is_risky, store);
        if (r >= 0)
                r = store_send_begin(postgres, store->options.epoch, on_begun, store);
        return r < 0 ? r : postgres_sync(postgres, NULL, NULL);
}

/* ── from outside ── */

static int hand_over(PostgresStore *store, const StoreWrite *template) {
        StoreWriter *writer = &store->writer;
        StoreWrite *write = malloc(sizeof(*write));
        if (!write)
                return -ENOMEM;
        *write = *template;
        write->store = store;
        writer->pending_bytes += write->bytes;
        DL_APPEND(writer->todo, write);
        pump_later(store);
        return 0;
}

int store_commit(PostgresStore *store, StoreBatch *batch, StoreDone done, void *userdata) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        const StoreWriter *writer = &store->writer;
        size_t bytes = batch->bytes + sizeof(StoreWrite);
        if (store->over < 0 || store->is_retired)
                return -ESTALE;
        if (batch->error < 0)
                return batch->error;
        if (bytes > STORE_PENDING_BYTES_MAX || writer->pending_bytes > STORE_PENDING_BYTES_MAX - bytes)
                return -ENOBUFS;
        int r = hand_over(
                        store,
                        &(StoreWrite) { .batch = owned, .bytes = bytes, .done = done, .userdata = userdata });
        if (r >= 0)
                (void) TAKE_PTR(owned);
        return r;
}

int store_prune(PostgresStore *store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreDone done,
                void *userdata) {
        assert(limit > 0 && limit <= STORE_PRUNE_MAX);
        if (store->over < 0 || store->is_retired)
                return -ESTALE;
        return hand_over(
                        store,
                        &(StoreWrite) {
                                        .bytes = sizeof(StoreWrite),
                                        .prune_before_usec = finished_before_usec,
                                        .prune_keep = keep_max,
                                        .prune_limit = limit,
                                        .done = done,
                                        .userdata = userdata,
                        });
}

int postgres_writer_init(PostgresStore *store) {
        StoreWriter *writer = &store->writer;
        writer->session.name = "daggyd-store";
        writer->session.statements = store_write_statements;
        writer->session.n_statements = store_n_write_statements;
        writer->session.begin = writer_begin;
        int r = sd_event_add_defer(store->event, &writer->pump_source, on_pump, store);
        return r < 0 ? r : sd_event_source_set_enabled(writer->pump_source, SD_EVENT_OFF);
}

void postgres_writer_fail(StoreWriter *writer) {
        DL_CONCAT(writer->group, writer->todo);
        StoreWrite *all = TAKE_PTR(writer->group);
        writer->todo = NULL;
        for (StoreWrite *write = all, *next; write; write = next) {
                next = write->next;
                write_tell(writer, write, write->failed ? write->result : -ESTALE);
        }
}

void postgres_writer_done(StoreWriter *writer) {
        event_source_dropp(&writer->pump_source);
        DL_CONCAT(writer->group, writer->todo);
        for (StoreWrite *write = writer->group, *next; write; write = next) {
                next = write->next;
                write_free(write);
        }
        writer->group = writer->todo = NULL;
}
