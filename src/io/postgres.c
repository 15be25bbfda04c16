/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A connection in the loop, in libpq's pipeline mode: what was sent stands in a line, and the answers come in
 * its order. What is sent in one turn of the loop leaves in one go at its end. */

#include "io/postgres.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/text.h"
#include "io/loop.h"
#include "io/postgres-internal.h"

#define VALUES_MAX 32 /* of one statement */

/* What was sent and is not answered yet. */
typedef struct Sent Sent;
struct Sent {
        bool is_sync;
        bool answered; /* and called back; what ends it is still to come */
        int error;     /* of a sync, which could not be made */
        PostgresDone done;
        void *userdata;
        Sent *next;
};

struct Postgres {
        sd_event *event;
        PostgresOptions options; /* without its texts */
        PostgresConnecting *connecting;
        PGconn *connection; /* NULL: not yet, or not any more */
        Sent *first, *last;
        int transaction_error; /* of the first statement since the last sync that failed */
        char *error_message;   /* what the server said of the last one that failed */
        char *farewell;        /* what it said before it closed the connection */
        int failure;           /* the connection is to be given up for this */
        sd_event_source *source, *timer, *deferred; /* the socket (or the thread's end), deadlines, sending */
        bool in_callback;
        bool freed;       /* by the owner, in that callback */
        PGresult *result; /* that is being told */
};

int postgres_errno(const char *sqlstate) {
        static const struct {
                const char *prefix;
                int r;
        } codes[] = {
                { "23505", -EEXIST }, /* unique violation */
                { "53100", -ENOSPC },     { "53200", -ENOMEM },
                { "25006", -EROFS },      /* the server has become a standby */
                { "57P01", -ECONNRESET }, /* shutdown, crash, not yet started */
                { "57P02", -ECONNRESET }, { "57P03", -ECONNRESET },
                { "57P05", -ECONNRESET }, /* idle for too long, as the next one */
                { "25P03", -ECONNRESET }, { "08", -ECONNRESET },
                { "40001", -EAGAIN },     { "40P01", -EAGAIN },
                { "28", -EACCES },        { "42501", -EACCES },
                { "3D000", -ENOENT },     { "DG001", -ESTALE },
                { "DG002", -ENOTSUP },    { "DG003", -ENOENT },
                { "22P05", -EINVAL }, /* no character of the database's encoding */
                { "22021", -EINVAL },
        };
        for (size_t i = 0; sqlstate && i < sizeof(codes) / sizeof(*codes); i++)
                if (text_after(sqlstate, codes[i].prefix))
                        return codes[i].r;
        return -EIO;
}

/* Its last word, if it is one. */
static void note_farewell(Postgres *postgres, const PGresult *result) {
        const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
        if (!severity || (!streq(severity, "FATAL") && !streq(severity, "PANIC")))
                return;
        free(postgres->farewell);
        postgres->farewell = postgres_failure_message(result);
}

static void note_failure(Postgres *postgres, const PGresult *result) {
        free(postgres->error_message);
        postgres->error_message = postgres_failure_message(result);
        note_farewell(postgres, result);
}

const char *postgres_error_message(const Postgres *postgres) {
        return postgres->error_message ?: "";
}

bool postgres_is_connected(const Postgres *postgres) {
        return postgres->connection && postgres->failure >= 0;
}

int postgres_backend_pid(const Postgres *postgres) {
        return postgres->connection ? PQbackendPID(postgres->connection) : 0;
}

/* ── the end ── */

static void drop_connection(Postgres *postgres) {
        event_source_dropp(&postgres->source);
        event_source_dropp(&postgres->timer);
        event_source_dropp(&postgres->deferred);
        postgres->connecting = postgres_connecting_unref(postgres->connecting);
        PQfinish(postgres->connection);
        postgres->connection = NULL;
}

static Sent *sent_take_first(Postgres *postgres) {
        Sent *sent = postgres->first;
        if (!sent)
                return NULL;
        postgres->first = sent->next;
        if (!postgres->first)
                postgres->last = NULL;
        return sent;
}

static void postgres_destroy(Postgres *postgres) {
        PQclear(postgres->result);
        free(postgres->error_message);
        free(postgres->farewell);
        sd_event_unref(postgres->event);
        free(postgres);
}

Postgres *postgres_free(Postgres *postgres) {
        Sent *sent;
        if (!postgres)
                return NULL;
        drop_connection(postgres);
        while ((sent = sent_take_first(postgres)))
                free(sent);
        postgres->freed = true;
        if (!postgres->in_callback)
                postgres_destroy(postgres);
        return NULL;
}

/* True when POSTGRES is gone. */
static bool callback_over(Postgres *postgres) {
        bool freed = postgres->freed;
        postgres->in_callback = false;
        if (freed)
                postgres_destroy(postgres);
        return freed;
}

/* Tells everybody, the owner last. POSTGRES may be gone afterwards. */
static void connection_lost(Postgres *postgres, int r, const char *message) {
        _cleanup_(freep) char *copy = postgres_message_copy(message);
        Sent *sent;
        drop_connection(postgres);
        postgres->failure = r;
        postgres->in_callback = true;
        while ((sent = sent_take_first(postgres))) {
                if (sent->done && !sent->answered)
                        sent->done(-ECONNRESET, NULL, sent->userdata);
                free(sent);
        }
        if (!postgres->freed)
                postgres->options.lost(r, copy ?: strerror(ENOMEM), postgres->options.userdata);
        (void) callback_over(postgres);
}

/* ── deadlines and sending ── */

static int on_no_answer(sd_event_source *source, uint64_t usec, void *userdata) {
        connection_lost(userdata, -ETIMEDOUT, "the server does not answer");
        return 0;
}

/* As long as an answer is owed, some must come, or at least something leave. */
static int arm_deadline(Postgres *postgres) {
        return loop_set_timer(
                        postgres->event,
                        &postgres->timer,
                        postgres->first ? usec_add(usec_now(CLOCK_BOOTTIME), postgres->options.answer_usec) :
                                          USEC_INFINITY,
                        on_no_answer,
                        postgres,
                        "postgres-deadline");
}

/* Sends what can be sent without waiting. */
static int connection_flush(Postgres *postgres) {
        int left = PQflush(postgres->connection);
        if (left < 0)
                return -ECONNRESET;
        return sd_event_source_set_io_events(
                        postgres->source, left > 0 ? EPOLLIN | EPOLLOUT : (uint32_t) EPOLLIN);
}

static int on_deferred(sd_event_source *source, void *userdata) {
        Postgres *postgres = userdata;
        int r = postgres->failure;
        if (r >= 0)
                r = connection_flush(postgres);
        if (r < 0)
                connection_lost(postgres,
                                r,
                                r == -ECONNRESET ? PQerrorMessage(postgres->connection) : strerror(-r));
        return 0;
}

static void defer(Postgres *postgres) {
        (void) sd_event_source_set_enabled(postgres->deferred, SD_EVENT_ONESHOT);
}

static int sent_append(Postgres *postgres, const Sent *template) {
        Sent *sent = malloc(sizeof(*sent));
        if (!sent)
                return -ENOMEM;
        *sent = *template;
        bool was_idle = !postgres->first;
        if (postgres->last)
                postgres->last->next = sent;
        else
                postgres->first = sent;
        postgres->last = sent;
        defer(postgres);
        return was_idle ? arm_deadline(postgres) : 0;
}

/* What was sent to libpq but cannot be kept track of, or was not taken by it: what answer is whose cannot be
 * told any more. The owner is told later. */
static int connection_spoilt(Postgres *postgres, int r) {
        postgres->failure = r;
        defer(postgres);
        return r == -ENOMEM ? r : -ENOTCONN;
}

int postgres_execute(
                Postgres *postgres,
                size_t statement,
                const PostgresValue *values,
                size_t n_values,
                PostgresDone done,
                void *userdata) {
        const char *data[VALUES_MAX];
        int sizes[VALUES_MAX], formats[VALUES_MAX];
        char name[POSTGRES_STATEMENT_NAME_SIZE];
        assert(n_values <= VALUES_MAX && statement < postgres->options.n_statements);
        if (!postgres_is_connected(postgres))
                return -ENOTCONN;
        for (size_t i = 0; i < n_values; i++) {
                data[i] = values[i].data;
                sizes[i] = values[i].size;
                formats[i] = values[i].binary;
        }
        postgres_statement_name(statement, name);
        if (!PQsendQueryPrepared(
                            postgres->connection,
                            name,
                            (int) n_values,
                            data,
                            sizes,
                            formats,
                            postgres->options.statements[statement].binary))
                return connection_spoilt(postgres, -ECONNRESET);
        int r = sent_append(postgres, &(Sent) { .done = done, .userdata = userdata });
        return r < 0 ? connection_spoilt(postgres, r) : 0;
}

int postgres_sync(Postgres *postgres, PostgresDone done, void *userdata) {
        if (!postgres_is_connected(postgres))
                return -ENOTCONN;
        if (!PQpipelineSync(postgres->connection))
                return connection_spoilt(postgres, -ECONNRESET);
        int r = sent_append(postgres, &(Sent) { .is_sync = true, .done = done, .userdata = userdata });
        return r < 0 ? connection_spoilt(postgres, r) : 0;
}

/* ── answers ── */

static int result_errno(Postgres *postgres, const PGresult *result) {
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_PIPELINE_SYNC)
                return 0;
        if (status == PGRES_PIPELINE_ABORTED)
                return -ECANCELED;
        note_failure(postgres, result);
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        /* Without a code it is libpq that speaks, as a rule because the connection broke. */
        return sqlstate || PQstatus(postgres->connection) == CONNECTION_OK ? postgres_errno(sqlstate) :
                                                                             -ECONNRESET;
}

/* The first in line has an answer. Whoever is called back may free POSTGRES. */
static void statement_answered(Postgres *postgres, Sent *sent, const PGresult *result) {
        int r = result_errno(postgres, result);
        if (r < 0 && postgres->transaction_error >= 0)
                postgres->transaction_error = r;
        if (sent->answered)
                return;
        sent->answered = true;
        if (sent->done)
                sent->done(r, r < 0 ? NULL : result, sent->userdata);
}

/* An error in its place is that of the transaction, which could not be committed. */
static void sync_answered(Postgres *postgres, const PGresult *result) {
        int r = result_errno(postgres, result);
        if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
                if (postgres->transaction_error >= 0)
                        postgres->transaction_error = r;
                return;
        }
        Sent *sent = sent_take_first(postgres);
        r = postgres->transaction_error;
        postgres->transaction_error = 0;
        if (sent->done)
                sent->done(r, NULL, sent->userdata);
        free(sent);
}

PostgresResult *postgres_take_result(Postgres *postgres) {
        return TAKE_PTR(postgres->result);
}

PostgresResult *postgres_result_free(PostgresResult *result) {
        PQclear(result);
        return NULL;
}

/* True when POSTGRES is gone, and with it the result. */
static bool tell_result(Postgres *postgres, PGresult *result) {
        Sent *sent = postgres->first;
        postgres->in_callback = true;
        postgres->result = result;
        if (sent->is_sync)
                sync_answered(postgres, result);
        else
                statement_answered(postgres, sent, result);
        if (callback_over(postgres))
                return true;
        postgres->result = postgres_result_free(postgres->result);
        return false;
}

/* Takes the answers that are there; true when POSTGRES is gone. A statement's end is told by NULL, a sync's
 * is not. */
static bool take_answers(Postgres *postgres) {
        unsigned n_nothing = 0;
        while (postgres->first && postgres->connection && !PQisBusy(postgres->connection)) {
                PGresult *result = PQgetResult(postgres->connection);
                if (result) {
                        n_nothing = 0;
                        if (tell_result(postgres, result))
                                return true;
                } else if (!postgres->first->is_sync && postgres->first->answered)
                        free(sent_take_first(postgres));
                else if (++n_nothing > 1)
                        break;
        }
        return false;
}

/* As take_answers(). */
static bool take_notifications(Postgres *postgres) {
        PGnotify *notification;
        while ((notification = PQnotifies(postgres->connection))) {
                postgres->in_callback = true;
                if (postgres->options.notified)
                        postgres->options.notified(
                                        notification->relname,
                                        notification->extra,
                                        postgres->options.userdata);
                PQfreemem(notification);
                if (callback_over(postgres))
                        return true;
        }
        return false;
}

static int on_socket_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Postgres *postgres = userdata;
        bool alive = PQconsumeInput(postgres->connection);
        if (take_answers(postgres) || take_notifications(postgres))
                return 0;
        int r = postgres->failure;
        if (r >= 0)
                r = alive && PQstatus(postgres->connection) == CONNECTION_OK ? connection_flush(postgres) :
                                                                               -ECONNRESET;
        if (r >= 0)
                r = arm_deadline(postgres);
        if (r < 0)
                connection_lost(postgres, r, postgres->farewell ?: PQerrorMessage(postgres->connection));
        return 0;
}

/* Between two answers the server only speaks when it closes the connection. */
static void on_notice(void *userdata, const PGresult *notice) {
        note_farewell(userdata, notice);
}

/* ── the beginning ── */

static int take_connection(Postgres *postgres) {
        PostgresConnecting *connecting = postgres->connecting;
        postgres->connection = TAKE_PTR(connecting->connection);
        (void) PQsetNoticeReceiver(postgres->connection, on_notice, postgres);
        event_source_dropp(&postgres->source);
        event_source_dropp(&postgres->timer); /* whose handler is that of connecting */
        postgres->connecting = postgres_connecting_unref(connecting);
        int r = sd_event_add_io(
                        postgres->event,
                        &postgres->source,
                        PQsocket(postgres->connection),
                        EPOLLIN,
                        on_socket_io,
                        postgres);
        if (r >= 0)
                r = sd_event_source_set_description(postgres->source, "postgres");
        if (r >= 0)
                r = arm_deadline(postgres);
        return r;
}

static int on_connecting_over(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Postgres *postgres = userdata;
        PostgresConnecting *connecting = postgres->connecting;
        int r = connecting->r;
        if (r < 0) {
                _cleanup_(freep) char *message = TAKE_PTR(connecting->message);
                connection_lost(postgres, r, message ?: strerror(-r));
                return 0;
        }
        r = take_connection(postgres);
        if (r < 0)
                connection_lost(postgres, r, strerror(-r));
        else
                postgres->options.connected(postgres->options.userdata);
        return 0;
}

static int on_connect_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        connection_lost(userdata, -ETIMEDOUT, "no connection within the time for it");
        return 0;
}

static int add_sources(Postgres *postgres) {
        int r = sd_event_add_io(
                        postgres->event,
                        &postgres->source,
                        postgres->connecting->over_fd,
                        EPOLLIN,
                        on_connecting_over,
                        postgres);
        if (r >= 0)
                r = sd_event_source_set_description(postgres->source, "postgres-connecting");
        if (r >= 0)
                r = sd_event_add_defer(postgres->event, &postgres->deferred, on_deferred, postgres);
        if (r >= 0)
                r = sd_event_source_set_enabled(postgres->deferred, SD_EVENT_OFF);
        if (r >= 0)
                r = loop_set_timer(
                                postgres->event,
                                &postgres->timer,
                                usec_add(usec_now(CLOCK_BOOTTIME), postgres->options.connect_usec),
                                on_connect_deadline,
                                postgres,
                                "postgres-connect-deadline");
        return r;
}

int postgres_new(sd_event *event, const PostgresOptions *options, Postgres **ret) {
        _cleanup_(postgres_freep) Postgres *postgres = calloc(1, sizeof(*postgres));
        if (!postgres)
                return -ENOMEM;
        postgres->event = sd_event_ref(event);
        postgres->options = *options;
        postgres->options.conninfo = postgres->options.password_file = NULL;
        postgres->options.application_name = postgres->options.setup = NULL;
        int r = postgres_connecting_new(options, &postgres->connecting);
        if (r >= 0)
                r = add_sources(postgres);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(postgres);
        return 0;
}
