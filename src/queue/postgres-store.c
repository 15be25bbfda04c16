/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Two sessions, one that writes and one that reads, so that neither a page nor a large batch has the other
 * wait. Each is connected again when it is lost; what was under way waits. */

#include "queue/postgres-store.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "io/loop.h"
#include "queue/postgres-store-internal.h"

#define CONNECT_USEC     (10 * USEC_PER_SEC)
#define ANSWER_USEC      (30 * USEC_PER_SEC) /* a disk may be slow */
#define BACKOFF_MIN_USEC (50 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC (2 * USEC_PER_SEC)

/* A session whose host is gone must not hold what the next leader waits for; statistics may not be there yet,
 * and whatever they say, each statement of ours is to go by an index, in its order. */
static const char setup[] = "SET idle_in_transaction_session_timeout = '2s';"
                            "SET tcp_keepalives_idle = 1; SET tcp_keepalives_interval = 1;"
                            "SET tcp_keepalives_count = 2; SET tcp_user_timeout = 2000;"
                            "SET plan_cache_mode = force_generic_plan; SET jit = off;"
                            "SET enable_seqscan = off; SET enable_bitmapscan = off;"
                            "SET enable_hashjoin = off; SET enable_mergejoin = off";

/* ── a session ── */

static int session_connect(StoreSession *session);

static void session_done(StoreSession *session) {
        session->postgres = postgres_free(session->postgres);
        event_source_dropp(&session->retry_source);
        free(session->trouble);
        session->trouble = NULL;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        StoreSession *session = userdata;
        int r = session_connect(session);
        if (r < 0)
                store_session_drop(session, strerror(-r));
        return 0;
}

static void session_note_trouble(StoreSession *session, const char *message) {
        if (streq_null(session->trouble, message))
                return;
        log_line(LOG_WARNING, "The database is out of reach (%s): %s", session->name, message);
        free(session->trouble);
        session->trouble = strdup(message);
}

void store_session_drop(StoreSession *session, const char *message) {
        PostgresStore *store = session->store;
        if (session == &store->writer.session &&
            store->is_retired) { /* by the next leader, as it should be */
                session_done(session);
                session->is_ready = false;
                postgres_writer_fail(&store->writer);
                return;
        }
        session_note_trouble(session, message);
        if (session == &store->reader.session)
                postgres_reader_interrupted(&store->reader);
        else if (store->reader.session
                                 .postgres) /* another server may be the one to write to, and so to read */
                store_session_drop(&store->reader.session, message);
        session->postgres = postgres_free(session->postgres);
        session->is_ready = false;
        if (store->over < 0)
                return;
        int r = loop_set_timer(
                        store->event,
                        &session->retry_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), session->backoff_usec),
                        on_retry,
                        session,
                        session->name);
        session->backoff_usec = session->backoff_usec < BACKOFF_MAX_USEC / 2 ? 2 * session->backoff_usec :
                                                                               BACKOFF_MAX_USEC;
        if (r < 0)
                store_fence(store, r);
}

static void on_connected(void *userdata) {
        StoreSession *session = userdata;
        int r = session->begin(session->store);
        if (r < 0)
                store_session_drop(session, strerror(-r));
}

/* A server that cannot be trusted with data is not asked again. */
static void on_lost(int r, const char *message, void *userdata) {
        StoreSession *session = userdata;
        store_session_drop(session, message);
        if (r == -ENOTSUP) {
                log_line(LOG_ERR, "The database cannot be used: %s", message);
                store_fence(session->store, r);
        }
}

static int session_connect(StoreSession *session) {
        const PostgresConfig *config = session->store->options.config;
        return postgres_new(
                        session->store->event,
                        &(PostgresOptions) {
                                        .conninfo = config->conninfo,
                                        .password_file = config->password_file,
                                        .application_name = session->name,
                                        .setup = setup,
                                        .statements = session->statements,
                                        .n_statements = session->n_statements,
                                        .connect_usec = CONNECT_USEC,
                                        .answer_usec = ANSWER_USEC,
                                        .connected = on_connected,
                                        .lost = on_lost,
                                        .userdata = session,
                        },
                        &session->postgres);
}

void store_session_is_ready(StoreSession *session) {
        PostgresStore *store = session->store;
        if (session->trouble)
                log_line(LOG_NOTICE, "The database is within reach again (%s)", session->name);
        free(session->trouble);
        session->trouble = NULL;
        session->is_ready = session->was_ready = true;
        session->backoff_usec = BACKOFF_MIN_USEC;
        if (!store->told_ready && store->writer.session.was_ready && store->reader.session.was_ready)
                (void) sd_event_source_set_enabled(store->tell_source, SD_EVENT_ONESHOT);
}

static int session_start(PostgresStore *store, StoreSession *session) {
        session->store = store;
        session->backoff_usec = BACKOFF_MIN_USEC;
        return session_connect(session);
}

/* ── the store ── */

void store_fence(PostgresStore *store, int r) {
        if (store->over < 0)
                return;
        store->over = r;
        (void) sd_event_source_set_enabled(store->tell_source, SD_EVENT_ONESHOT);
}

/* In a turn of its own, for the store may be freed by who is told. */
static int on_tell(sd_event_source *source, void *userdata) {
        PostgresStore *store = userdata;
        if (store->over < 0) {
                session_done(&store->writer.session);
                session_done(&store->reader.session);
                postgres_writer_fail(&store->writer);
                postgres_reader_fail(&store->reader);
                store->options.fenced(store->over, store->options.userdata);
        } else if (!store->told_ready) {
                store->told_ready = true;
                store->options.ready(store->options.userdata);
        }
        return 0;
}

int postgres_store_new(sd_event *event, const PostgresStoreOptions *options, PostgresStore **ret) {
        _cleanup_(postgres_store_freep) PostgresStore *store = calloc(1, sizeof(*store));
        if (!store)
                return -ENOMEM;
        store->event = sd_event_ref(event);
        store->options = *options;
        int r = sd_event_add_defer(event, &store->tell_source, on_tell, store);
        if (r >= 0)
                r = sd_event_source_set_enabled(store->tell_source, SD_EVENT_OFF);
        if (r >= 0)
                r = postgres_writer_init(store);
        postgres_reader_init(store);
        if (r >= 0)
                r = session_start(store, &store->writer.session);
        if (r >= 0)
                r = session_start(store, &store->reader.session);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(store);
        return 0;
}

void postgres_store_retire(PostgresStore *store) {
        store->is_retired = true;
}

PostgresStore *postgres_store_free(PostgresStore *store) {
        if (!store)
                return NULL;
        session_done(&store->writer.session);
        session_done(&store->reader.session);
        event_source_dropp(&store->tell_source);
        postgres_writer_done(&store->writer);
        postgres_reader_done(&store->reader);
        sd_event_unref(store->event);
        free(store);
        return NULL;
}

const char *postgres_store_queue_id(const PostgresStore *store) {
        return store->reader.queue_id;
}

/* ── the port ── */

static int port_commit(void *userdata_store, StoreBatch *batch, StoreDone done, void *userdata) {
        return store_commit(userdata_store, batch, done, userdata);
}

static int port_get(
                void *userdata_store,
                const char *task_id,
                const StoreWanted *wanted,
                StoreGot done,
                void *userdata) {
        return store_get(userdata_store, task_id, wanted, done, userdata);
}

static int port_list(void *userdata_store, const StoreFilter *filter, StoreListed done, void *userdata) {
        return store_list(userdata_store, filter, done, userdata);
}

static int port_read(
                void *userdata_store,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                size_t size,
                StoreHasRead done,
                void *userdata) {
        return store_read(userdata_store, seq, number, stream, offset, size, done, userdata);
}

static int port_load(void *userdata_store, const StoreLoader *loader) {
        return store_load(userdata_store, loader);
}

static int port_prune(
                void *userdata_store,
                usec_t finished_before_usec,
                uint64_t keep_max,
                uint64_t limit,
                StoreDone done,
                void *userdata) {
        return store_prune(userdata_store, finished_before_usec, keep_max, limit, done, userdata);
}

static uint64_t port_next_seq(void *userdata_store) {
        return store_next_seq(userdata_store);
}

static size_t port_pending_bytes(const void *userdata_store) {
        const PostgresStore *store = userdata_store;
        return store->writer.pending_bytes;
}

const StorePort postgres_store_port = {
        .commit = port_commit,
        .get = port_get,
        .list = port_list,
        .read = port_read,
        .load = port_load,
        .prune = port_prune,
        .next_seq = port_next_seq,
        .pending_bytes = port_pending_bytes,
};
