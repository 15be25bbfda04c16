/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The thread that makes one connection: connects, looks whether the server can be trusted with data, and
 * prepares all statements. It blocks as it likes; nothing of it is the loop's until it is over. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/text.h"
#include "io/file.h"
#include "io/postgres-internal.h"

#define SERVER_VERSION_MIN      150000
#define PASSWORD_FILE_BYTES_MAX 4096
#define THREADS_MAX             16
#define LOOK_UP_MSEC            500 /* whether the loop has given up */
#define HOST_SEC                "3" /* for each address that a name or a list of hosts has */

static atomic_int n_threads;

PostgresConnecting *postgres_connecting_unref(PostgresConnecting *connecting) {
        if (!connecting || atomic_fetch_sub(&connecting->n_holders, 1) > 1)
                return NULL;
        PQfinish(connecting->connection);
        fd_close(&connecting->over_fd);
        free(connecting->password_file);
        free(connecting->conninfo);
        free(connecting->application_name);
        free(connecting->setup);
        free(connecting->message);
        free(connecting);
        return NULL;
}

/* A line that begins with a tab is advice for someone who sits at a terminal. */
char *postgres_message_copy(const char *message) {
        _cleanup_(text_done) Text text = {};
        int r = text_append(&text, "");
        while (r >= 0 && *message) {
                size_t size = strcspn(message, "\n");
                if (*message != '\t' && size > 0) {
                        r = text_append(&text, text.size > 0 ? " " : "");
                        if (r >= 0)
                                r = text_append_printable(&text, message, size, "");
                }
                message += size + (message[size] == '\n');
        }
        return r < 0 ? NULL : TAKE_PTR(text.data);
}

char *postgres_failure_message(const PGresult *result) {
        const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        _cleanup_(freep) char *message = NULL;
        if (!text || !sqlstate)
                return postgres_message_copy(PQresultErrorMessage(result));
        return text_format(&message, "%s (%s)", text, sqlstate) < 0 ? NULL : postgres_message_copy(message);
}

void postgres_statement_name(size_t statement, char name[static POSTGRES_STATEMENT_NAME_SIZE]) {
        (void) snprintf(name, POSTGRES_STATEMENT_NAME_SIZE, "s%zu", statement);
}

/* R again. */
static int refuse(PostgresConnecting *connecting, int r, const char *message) {
        free(connecting->message);
        connecting->message = postgres_message_copy(message);
        return r;
}

/* ── connecting ── */

static int read_password(PostgresConnecting *connecting, Text *ret) {
        if (!connecting->password_file)
                return 0;
        int r = file_read_all(connecting->password_file, PASSWORD_FILE_BYTES_MAX, ret);
        if (r >= 0 && memchr(ret->data ?: "", '\0', ret->size))
                r = -EINVAL;
        if (r < 0) {
                _cleanup_(freep) char *message = NULL;
                (void) text_format(&message, "%s: %s", connecting->password_file, strerror(-r));
                return refuse(connecting, r, message ?: strerror(-r));
        }
        if (ret->data)
                ret->data[strcspn(ret->data, "\r\n")] = '\0';
        return 0;
}

/* libpq tells of a connection that did not come about by a sentence only, and a part of that is the server's:
 * in its language. So this is as good as it can be; the sentence itself is for people. */
static int connect_errno(const PGconn *connection) {
        static const struct {
                const char *part;
                int r;
        } parts[] = {
                { "timeout expired", -ETIMEDOUT },
                { "authentication failed", -EACCES },
                { "no pg_hba.conf entry", -EACCES },
                { "permission denied", -EACCES },
                { "role \"", -EACCES },
                { "database \"", -ENOENT },
        };
        const char *message = PQerrorMessage(connection);
        if (PQconnectionNeedsPassword(connection))
                return -EACCES;
        for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
                if (strstr(message, parts[i].part))
                        return parts[i].r;
        return PQconnectionUsedPassword(connection) ? -EACCES : -ECONNREFUSED;
}

/* Where the servers are, as in conninfo: lists, with commas in between. NULL: not said there. */
typedef struct Hosts {
        char *host, *hostaddr, *port;
} Hosts;

static void hosts_done(Hosts *hosts) {
        free(hosts->host);
        free(hosts->hostaddr);
        free(hosts->port);
}

static int read_hosts(PostgresConnecting *connecting, Hosts *ret) {
        char *message = NULL;
        PQconninfoOption *parsed = PQconninfoParse(connecting->conninfo, &message);
        int r = parsed          ? 0 :
                        message ? refuse(connecting, -EINVAL, message) :
                                  refuse(connecting, -ENOMEM, strerror(ENOMEM));
        PQfreemem(message);
        for (const PQconninfoOption *option = parsed; r >= 0 && option && option->keyword; option++) {
                char **copy = streq(option->keyword, "host")       ? &ret->host :
                                streq(option->keyword, "hostaddr") ? &ret->hostaddr :
                                streq(option->keyword, "port")     ? &ret->port :
                                                                     NULL;
                if (copy && option->val && !(*copy = strdup(option->val)))
                        r = -ENOMEM;
        }
        PQconninfoFree(parsed);
        return r;
}

static size_t count_items(const char *list) {
        size_t n = 1;
        for (; list && *list; list++)
                n += *list == ',';
        return n;
}

/* The first item comes last; a list of one, which may stand for all hosts, stays. */
static int rotate_list(char **list) {
        const char *comma = *list ? strchr(*list, ',') : NULL;
        char *rotated;
        if (!comma)
                return 0;
        int r = text_format(&rotated, "%s,%.*s", comma + 1, (int) (comma - *list), *list);
        if (r < 0)
                return r;
        free(*list);
        *list = rotated;
        return 0;
}

static int rotate_hosts(Hosts *hosts) {
        int r = rotate_list(&hosts->host);
        if (r >= 0)
                r = rotate_list(&hosts->hostaddr);
        return r < 0 ? r : rotate_list(&hosts->port);
}

static void ignore_notice(void *userdata, const PGresult *notice) {
}

/* What stands before the string is overridden by it, what stands behind overrides it. A host that is gone
 * says nothing: the kernel finds out by itself. */
static int try_hosts(PostgresConnecting *connecting, const Hosts *hosts, const char *password) {
        const char *const parameters[][2] = {
                { "connect_timeout", HOST_SEC },
                { "target_session_attrs", "read-write" },
                { "keepalives_idle", "2" },
                { "keepalives_interval", "1" },
                { "keepalives_count", "3" },
                { "tcp_user_timeout", "5000" }, /* ms */
                { "dbname", connecting->conninfo },
                { "host", hosts->host },
                { "hostaddr", hosts->hostaddr },
                { "port", hosts->port },
                { "client_encoding", "UTF8" },
                { "fallback_application_name", connecting->application_name },
                { "password", password },
        };
        enum {
                N = sizeof(parameters) / sizeof(*parameters)
        };
        const char *names[N + 1] = {}, *values[N + 1] = {};
        for (size_t i = 0, n = 0; i < N; i++)
                if (parameters[i][1]) {
                        names[n] = parameters[i][0];
                        values[n++] = parameters[i][1];
                }
        PQfinish(connecting->connection);
        connecting->connection = PQconnectdbParams(names, values, 1);
        if (!connecting->connection)
                return -ENOMEM;
        if (PQstatus(connecting->connection) == CONNECTION_OK)
                return 0;
        return refuse(connecting,
                      connect_errno(connecting->connection),
                      PQerrorMessage(connecting->connection));
}

/* Of several hosts libpq (15, 17) tries the next one only if it could not connect to the first at all. One
 * that accepts and then breaks off, as a proxy does before a server that is gone, ends its search: so it
 * begins at each of them. */
static int server_connect(PostgresConnecting *connecting) {
        _cleanup_(text_done) Text password = {};
        _cleanup_(hosts_done) Hosts hosts = {};
        int r = read_hosts(connecting, &hosts);
        if (r >= 0)
                r = read_password(connecting, &password);
        if (r < 0)
                return r;
        size_t n = count_items(hosts.hostaddr ?: hosts.host);
        r = try_hosts(connecting, &hosts, password.data);
        for (size_t i = 1; r < 0 && i < n && usec_now(CLOCK_BOOTTIME) < connecting->deadline_usec; i++) {
                int error = rotate_hosts(&hosts);
                r = error < 0 ? error : try_hosts(connecting, &hosts, password.data);
        }
        if (r >= 0)
                (void) PQsetNoticeReceiver(connecting->connection, ignore_notice, NULL);
        return r;
}

/* ── one statement after the other, until the deadline ── */

/* Until something comes, or something can be sent where WRITE. */
static int connection_wait(const PostgresConnecting *connecting, bool write) {
        struct pollfd fd = {
                .fd = PQsocket(connecting->connection),
                .events = (short) (write ? POLLIN | POLLOUT : POLLIN),
        };
        for (;;) {
                usec_t now_usec = usec_now(CLOCK_BOOTTIME);
                if (now_usec >= connecting->deadline_usec)
                        return -ETIMEDOUT;
                if (atomic_load(&connecting->n_holders) == 1)
                        return -ECANCELED;
                usec_t left_msec = (connecting->deadline_usec - now_usec) / USEC_PER_MSEC + 1;
                int n = poll(&fd, 1, left_msec < LOOK_UP_MSEC ? (int) left_msec : LOOK_UP_MSEC);
                if (n > 0)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return -errno;
        }
}

static int connection_exchange(const PostgresConnecting *connecting) {
        PGconn *connection = connecting->connection;
        int flushed;
        while ((flushed = PQflush(connection)) > 0 || PQisBusy(connection)) {
                int r = connection_wait(connecting, flushed > 0);
                if (r < 0)
                        return r;
                if (!PQconsumeInput(connection))
                        return -ECONNRESET;
        }
        return flushed < 0 ? -ECONNRESET : 0;
}

static int refuse_by_result(PostgresConnecting *connecting, const PGresult *result) {
        free(connecting->message);
        connecting->message = postgres_failure_message(result);
        return postgres_errno(PQresultErrorField(result, PG_DIAG_SQLSTATE));
}

/* Has what was just sent answered: the value in the first row of the last result, if RET is not NULL. */
static int connection_finish(PostgresConnecting *connecting, bool sent, char **ret) {
        PGresult *result;
        int r = sent ? 0 : -ECONNRESET;
        while (r >= 0 && (r = connection_exchange(connecting)) >= 0 &&
               (result = PQgetResult(connecting->connection))) {
                ExecStatusType status = PQresultStatus(result);
                if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                        r = refuse_by_result(connecting, result);
                else if (ret && PQntuples(result) > 0 && PQnfields(result) > 0) {
                        free(*ret);
                        *ret = strdup(PQgetvalue(result, 0, 0));
                }
                PQclear(result);
        }
        if (r < 0 && !connecting->message)
                return refuse(connecting,
                              r,
                              r == -ECONNRESET ? PQerrorMessage(connecting->connection) : strerror(-r));
        return r;
}

static int connection_run(PostgresConnecting *connecting, const char *sql, char **ret) {
        return connection_finish(connecting, PQsendQuery(connecting->connection, sql), ret);
}

/* Of a server that does so, anything that was confirmed may be gone after a crash. */
static int check_not_off(PostgresConnecting *connecting, const char *name) {
        _cleanup_(freep) char *query = NULL, *value = NULL, *message = NULL;
        if (text_format(&query, "SHOW %s", name) < 0)
                return -ENOMEM;
        int r = connection_run(connecting, query, &value);
        if (r < 0 || (value && !streq(value, "off")))
                return r;
        (void) text_format(
                        &message, "the server has %s switched off, so it may lose what it confirmed", name);
        return refuse(connecting, -ENOTSUP, message ?: strerror(ENOTSUP));
}

static int check_server(PostgresConnecting *connecting) {
        _cleanup_(freep) char *message = NULL;
        int version = PQserverVersion(connecting->connection);
        if (version < SERVER_VERSION_MIN) {
                (void) text_format(
                                &message,
                                "the server is PostgreSQL %d, at least %d is needed",
                                version / 10000,
                                SERVER_VERSION_MIN / 10000);
                return refuse(connecting, -ENOTSUP, message ?: strerror(ENOTSUP));
        }
        int r = check_not_off(connecting, "fsync");
        return r < 0 ? r : check_not_off(connecting, "synchronous_commit");
}

static int prepare_all(PostgresConnecting *connecting) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < connecting->n_statements; i++) {
                char name[POSTGRES_STATEMENT_NAME_SIZE];
                postgres_statement_name(i, name);
                r = connection_finish(
                                connecting,
                                PQsendPrepare(connecting->connection,
                                              name,
                                              connecting->statements[i].sql,
                                              0,
                                              NULL),
                                NULL);
        }
        return r;
}

static int make_connection(PostgresConnecting *connecting) {
        int r = server_connect(connecting);
        if (r >= 0 && PQsetnonblocking(connecting->connection, 1) < 0)
                r = -ENOMEM;
        if (r >= 0 && connecting->setup)
                r = connection_run(connecting, connecting->setup, NULL);
        if (r >= 0)
                r = check_server(connecting);
        if (r >= 0)
                r = prepare_all(connecting);
        if (r >= 0 && !PQenterPipelineMode(connecting->connection))
                r = -EIO;
        return r;
}

static void *thread_main(void *userdata) {
        _cleanup_(postgres_connecting_unrefp) PostgresConnecting *connecting = userdata;
        connecting->r = make_connection(connecting);
        (void) atomic_fetch_sub(&n_threads, 1);
        (void) eventfd_write(connecting->over_fd, 1);
        return NULL;
}

/* ── from the loop ── */

static int copy_text(const char *text, char **ret) {
        *ret = text ? strdup(text) : NULL;
        return text && !*ret ? -ENOMEM : 0;
}

static int copy_options(PostgresConnecting *connecting, const PostgresOptions *options) {
        int r = copy_text(options->conninfo, &connecting->conninfo);
        if (r >= 0)
                r = copy_text(options->password_file, &connecting->password_file);
        if (r >= 0)
                r = copy_text(options->application_name, &connecting->application_name);
        if (r >= 0)
                r = copy_text(options->setup, &connecting->setup);
        connecting->statements = options->statements;
        connecting->n_statements = options->n_statements;
        connecting->deadline_usec = usec_add(usec_now(CLOCK_BOOTTIME), options->connect_usec);
        return r;
}

/* Signals are the loop's. */
static int start_thread(PostgresConnecting *connecting) {
        pthread_attr_t attributes;
        pthread_t thread;
        sigset_t all, before;
        int error = pthread_attr_init(&attributes);
        if (error != 0)
                return -error;
        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&thread, &attributes, thread_main, connecting);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -error;
}

int postgres_connecting_new(const PostgresOptions *options, PostgresConnecting **ret) {
        _cleanup_(postgres_connecting_unrefp) PostgresConnecting *connecting = calloc(1, sizeof(*connecting));
        if (!connecting)
                return -ENOMEM;
        atomic_init(&connecting->n_holders, 1);
        connecting->over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (connecting->over_fd < 0)
                return -errno;
        int r = copy_options(connecting, options);
        if (r < 0)
                return r;
        if (atomic_fetch_add(&n_threads, 1) >= THREADS_MAX) {
                (void) atomic_fetch_sub(&n_threads, 1);
                return -EBUSY;
        }
        (void) atomic_fetch_add(&connecting->n_holders, 1);
        r = start_thread(connecting);
        if (r < 0) {
                (void) atomic_fetch_sub(&n_threads, 1);
                (void) atomic_fetch_sub(&connecting->n_holders, 1);
                return r;
        }
        *ret = TAKE_PTR(connecting);
        return 0;
}
