/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* With a real server: answers come to whom they belong, and every way to fail is told once. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/text.h"
#include "io/http-server.h"
#include "io/loop.h"
#include "io/postgres-result.h"
#include "postgres-server.h"

#define AWAIT_USEC (60 * USEC_PER_SEC)

static PostgresServer server;

enum {
        ECHO,
        BYTES,
        DIVIDE,
        NOTHING,
        INSERT,
        SAY,
        SLEEP,
        LONG,
};

static const PostgresStatement statements[] = {
        [ECHO] = { "SELECT $1::text, $2::bigint, $3::boolean" },
        [BYTES] = { "SELECT $1::bytea, 3::smallint, -4::integer, 5::bigint, true", true },
        [DIVIDE] = { "SELECT 1 / $1::integer" },
        [NOTHING] = { "SELECT WHERE false" },
        [INSERT] = { "INSERT INTO late (id) VALUES ($1)" },
        [SAY] = { "SELECT pg_notify('said', $1)" },
        [SLEEP] = { "SELECT pg_sleep(60)" },
        [LONG] = { "SELECT repeat('x', 1000000)" },
};

typedef struct Fixture {
        sd_event *event;
        char *conninfo;
        Postgres *postgres;
        unsigned n_connected, n_lost;
        int lost;
        Text message, notifications;
        bool free_when_lost;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));
        assert_non_null(fixture);
        assert_int_equal(loop_new(&fixture->event), 0);
        postgres_server_conninfo(&server, "postgres", &fixture->conninfo);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        postgres_free(fixture->postgres);
        sd_event_unref(fixture->event);
        text_done(&fixture->message);
        text_done(&fixture->notifications);
        free(fixture->conninfo);
        free(fixture);
        return 0;
}

static void await(const Fixture *fixture, const unsigned *counter, unsigned wanted) {
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        while (*counter < wanted) {
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                assert_true(sd_event_run(fixture->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

static void on_connected(void *userdata) {
        Fixture *fixture = userdata;
        fixture->n_connected++;
}

static void on_lost(int r, const char *message, void *userdata) {
        Fixture *fixture = userdata;
        fixture->n_lost++;
        fixture->lost = r;
        assert_int_equal(text_append(&fixture->message, message), 0);
        if (fixture->free_when_lost)
                fixture->postgres = postgres_free(fixture->postgres);
}

static void on_notified(const char *channel, const char *payload, void *userdata) {
        Fixture *fixture = userdata;
        assert_int_equal(text_appendf(&fixture->notifications, "%s: %s\n", channel, payload), 0);
}

static PostgresOptions options_of(Fixture *fixture) {
        return (PostgresOptions) {
                .conninfo = fixture->conninfo,
                .application_name = "test-postgres",
                .setup = "CREATE TEMPORARY TABLE late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED);"
                         "LISTEN said",
                .statements = statements,
                .n_statements = N_ELEMENTS(statements),
                .connect_usec = 30 * USEC_PER_SEC,
                .answer_usec = 30 * USEC_PER_SEC,
                .connected = on_connected,
                .lost = on_lost,
                .notified = on_notified,
                .userdata = fixture,
        };
}

static void connect_with(Fixture *fixture, const PostgresOptions *options) {
        assert_int_equal(postgres_new(fixture->event, options, &fixture->postgres), 0);
        assert_false(postgres_is_connected(fixture->postgres));
        await(fixture, &fixture->n_connected, 1);
        assert_true(postgres_is_connected(fixture->postgres));
}

static void connect_to_server(Fixture *fixture) {
        const PostgresOptions options = options_of(fixture);
        connect_with(fixture, &options);
}

/* Everything that is told, in order. */
typedef struct Told {
        Fixture *fixture;
        Text text;
        unsigned n;
        bool frees;
} Told;

static void tell(Told *told, const char *what, int r, const PostgresResult *result) {
        assert_int_equal(text_appendf(&told->text, "%s %d", what, r), 0);
        for (size_t row = 0; result && row < postgres_result_n_rows(result); row++) {
                const char *text = postgres_result_text(result, row, 0);
                assert_int_equal(text_appendf(&told->text, " %s", text ?: "null"), 0);
        }
        assert_int_equal(text_append(&told->text, "\n"), 0);
        told->n++;
}

static void on_statement(int r, const PostgresResult *result, void *userdata) {
        Told *told = userdata;
        tell(told, "statement", r, result);
        if (told->frees)
                told->fixture->postgres = postgres_free(told->fixture->postgres);
}

static void on_sync(int r, const PostgresResult *result, void *userdata) {
        assert_null(result);
        tell(userdata, "sync", r, NULL);
}

static void execute(Told *told, size_t statement, const char *value) {
        const PostgresValue values[] = { postgres_text(value) };
        assert_int_equal(
                        postgres_execute(
                                        told->fixture->postgres,
                                        statement,
                                        values,
                                        value ? 1 : 0,
                                        on_statement,
                                        told),
                        0);
}

static void synchronise(Told *told) {
        assert_int_equal(postgres_sync(told->fixture->postgres, on_sync, told), 0);
}

static void check_told(Told *told, const char *wanted) {
        check_text("told", told->text.data ?: "", wanted);
        text_done(&told->text);
}

static void answers_come_in_order(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        connect_to_server(fixture);
        execute(&told, DIVIDE, "1");
        execute(&told, NOTHING, NULL);
        synchronise(&told);
        execute(&told, DIVIDE, "0");
        execute(&told, DIVIDE, "1");
        synchronise(&told);
        execute(&told, DIVIDE, "-1");
        synchronise(&told);
        assert_int_equal(told.n, 0);
        await(fixture, &told.n, 8);
        check_told(&told,
                   "statement 0 1\nstatement 0\nsync 0\nstatement -5\nstatement -125\nsync -5\n"
                   "statement 0 -1\nsync 0\n");
        assert_string_equal(postgres_error_message(fixture->postgres), "division by zero (22012)");
}

static void what_cannot_be_committed_is_told_at_the_end(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        connect_to_server(fixture);
        execute(&told, INSERT, "1");
        execute(&told, INSERT, "1");
        synchronise(&told);
        execute(&told, INSERT, "1");
        synchronise(&told);
        await(fixture, &told.n, 5);
        check_told(&told, "statement 0\nstatement 0\nsync -17\nstatement 0\nsync 0\n");
}

static void on_echo(int r, const PostgresResult *result, void *userdata) {
        unsigned *n = userdata;
        assert_int_equal(r, 0);
        assert_int_equal(postgres_result_n_rows(result), 1);
        if (*n == 0) {
                check_text("echo", postgres_result_text(result, 0, 0), "ä'\"\\");
                assert_int_equal(postgres_result_i64(result, 0, 1), INT64_MIN);
                assert_true(postgres_result_bool(result, 0, 2));
        } else {
                assert_null(postgres_result_text(result, 0, 0));
                assert_int_equal(postgres_result_i64(result, 0, 1), 0);
                assert_false(postgres_result_bool(result, 0, 2));
        }
        ++*n;
}

static void on_bytes(int r, const PostgresResult *result, void *userdata) {
        unsigned *n = userdata;
        size_t size;
        const void *bytes = postgres_result_bytes(result, 0, 0, &size);
        assert_int_equal(size, 3);
        assert_memory_equal(bytes, "\0\377'", 3);
        assert_int_equal(postgres_result_i64(result, 0, 1), 3);
        assert_int_equal(postgres_result_i64(result, 0, 2), -4);
        assert_int_equal(postgres_result_u64(result, 0, 3), 5);
        assert_true(postgres_result_bool(result, 0, 4));
        ++*n;
}

static void values_come_back(void **state) {
        Fixture *fixture = *state;
        char number[POSTGRES_NUMBER_SIZE];
        unsigned n = 0;
        connect_to_server(fixture);
        const PostgresValue some[] = { postgres_text("ä'\"\\"),
                                       postgres_number(INT64_MIN, number),
                                       postgres_bool(true) },
                            none[] = { {}, {}, {} }, bytes[] = { postgres_bytes("\0\377'", 3) };
        assert_int_equal(postgres_execute(fixture->postgres, ECHO, some, 3, on_echo, &n), 0);
        assert_int_equal(postgres_execute(fixture->postgres, ECHO, none, 3, on_echo, &n), 0);
        assert_int_equal(postgres_execute(fixture->postgres, BYTES, bytes, 1, on_bytes, &n), 0);
        assert_int_equal(postgres_sync(fixture->postgres, NULL, NULL), 0);
        await(fixture, &n, 3);
}

static void more_than_fits_into_the_socket_passes(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        enum {
                SIZE = 8 * 1024 * 1024
        };
        char *large = malloc(SIZE + 1);
        assert_non_null(large);
        memset(large, 'y', SIZE);
        large[SIZE] = '\0';
        connect_to_server(fixture);
        for (unsigned i = 0; i < 3; i++) {
                const PostgresValue values[] = { postgres_text(large), {}, {} };
                assert_int_equal(
                                postgres_execute(fixture->postgres, ECHO, values, 3, on_statement, &told), 0);
                execute(&told, LONG, NULL);
                synchronise(&told);
        }
        await(fixture, &told.n, 9);
        assert_int_equal(
                        told.text.size,
                        3 * (SIZE + 1000000 + strlen("statement 0 \nstatement 0 \nsync 0\n")));
        text_done(&told.text);
        free(large);
}

static void others_are_heard(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        connect_to_server(fixture);
        (void) postgres_server_run(&server, "postgres", "NOTIFY said, 'by another'");
        execute(&told, SAY, "by ourselves");
        synchronise(&told);
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        while (!fixture->notifications.data || !strstr(fixture->notifications.data, "ourselves")) {
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                assert_true(sd_event_run(fixture->event, USEC_PER_SEC) >= 0);
        }
        check_text("said", fixture->notifications.data, "said: by another\nsaid: by ourselves\n");
        text_done(&told.text);
}

static void a_connection_that_cannot_be_made_is_told(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *more; /* of the conninfo */
                const char *password_file, *setup;
                int r;
                const char *said;
        } rows[] = {
                { "dbname=nobody", NULL, NULL, -ENOENT, "database \"nobody\" does not exist" },
                { "user=nobody", NULL, NULL, -EACCES, "role \"nobody\" does not exist" },
                { "host=/nowhere", NULL, NULL, -ECONNREFUSED, "No such file" },
                { "colour=red", NULL, NULL, -EINVAL, "colour" },
                { "", "/nowhere", NULL, -ENOENT, "/nowhere: No such file" },
                { "", NULL, "SELECT nothing", -EIO, "does not exist (42703)" },
                { "", NULL, "SET synchronous_commit = off", -ENOTSUP, "synchronous_commit" },
        };
        for (FOREACH_ROW(row, rows)) {
                char *conninfo;
                PostgresOptions options = options_of(fixture);
                assert_int_equal(text_format(&conninfo, "%s %s", fixture->conninfo, row->more), 0);
                options.conninfo = conninfo;
                options.password_file = row->password_file;
                options.setup = row->setup;
                fixture->n_lost = 0;
                assert_int_equal(postgres_new(fixture->event, &options, &fixture->postgres), 0);
                free(conninfo);
                await(fixture, &fixture->n_lost, 1);
                check_int(row->said, fixture->lost, row->r);
                check_true(fixture->message.data, strstr(fixture->message.data, row->said));
                assert_null(strchr(fixture->message.data, '\n'));
                assert_int_equal(
                                postgres_execute(fixture->postgres, NOTHING, NULL, 0, NULL, NULL), -ENOTCONN);
                text_done(&fixture->message);
                fixture->postgres = postgres_free(fixture->postgres);
        }
        assert_int_equal(fixture->n_connected, 0);
}

static void check_password(Fixture *fixture, const char *password, int wanted) {
        char path[] = "/var/tmp/test-postgres-password-XXXXXX", *conninfo;
        PostgresOptions options = options_of(fixture);
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, password, strlen(password)), (ssize_t) strlen(password));
        (void) close(fd);
        assert_int_equal(text_format(&conninfo, "%s user=secret", fixture->conninfo), 0);
        options.conninfo = conninfo;
        options.password_file = path;
        fixture->n_connected = fixture->n_lost = 0;
        assert_int_equal(postgres_new(fixture->event, &options, &fixture->postgres), 0);
        await(fixture, wanted < 0 ? &fixture->n_lost : &fixture->n_connected, 1);
        if (wanted < 0)
                check_int(password, fixture->lost, wanted);
        fixture->postgres = postgres_free(fixture->postgres);
        free(conninfo);
        assert_int_equal(unlink(path), 0);
}

static void a_password_is_read_from_its_file(void **state) {
        Fixture *fixture = *state;
        (void) postgres_server_run(&server, "postgres", "CREATE ROLE secret LOGIN PASSWORD 'hush'");
        check_password(fixture, "hush\n", 0);
        check_password(fixture, "hush", 0);
        check_password(fixture, "wrong\n", -EACCES);
        check_password(fixture, "", -EACCES);
        (void) postgres_server_run(&server, "postgres", "DROP ROLE secret");
}

/* Accepts each connection and breaks it off, as a proxy does before a server that is gone; until it is shut
 * down. */
static void *break_off(void *userdata) {
        const int *listener = userdata;
        for (int fd; (fd = accept4(*listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
                (void) close(fd);
        return NULL;
}

static void a_host_that_breaks_off_does_not_hide_the_next_one(void **state) {
        Fixture *fixture = *state;
        PostgresOptions options = options_of(fixture);
        _cleanup_(freep) char *conninfo = NULL;
        pthread_t thread;
        uint16_t port;
        int listener = http_listen_tcp("127.0.0.1", 0, &port);
        assert_true(listener >= 0);
        assert_int_equal(fcntl(listener, F_SETFL, 0), 0); /* blocking */
        assert_int_equal(pthread_create(&thread, NULL, break_off, &listener), 0);
        assert_int_equal(
                        text_format(&conninfo,
                                    "host=127.0.0.1,%s port=%u,5432 dbname=postgres user=daggyd",
                                    server.folder,
                                    port),
                        0);
        options.conninfo = conninfo;
        connect_with(fixture, &options);
        assert_int_equal(shutdown(listener, SHUT_RDWR), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(close(listener), 0);
}

static void a_server_that_is_silent_is_given_up(void **state) {
        Fixture *fixture = *state;
        PostgresOptions options = options_of(fixture);
        options.connect_usec = 300 * USEC_PER_MSEC;
        fixture->free_when_lost = true;
        assert_int_equal(kill(server.pid, SIGSTOP), 0);
        assert_int_equal(postgres_new(fixture->event, &options, &fixture->postgres), 0);
        await(fixture, &fixture->n_lost, 1);
        assert_int_equal(kill(server.pid, SIGCONT), 0);
        assert_int_equal(fixture->lost, -ETIMEDOUT);
        assert_int_equal(fixture->n_connected, 0);
}

static void an_answer_that_does_not_come_is_not_waited_for(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        PostgresOptions options = options_of(fixture);
        options.answer_usec = 300 * USEC_PER_MSEC;
        fixture->free_when_lost = true;
        connect_with(fixture, &options);
        execute(&told, NOTHING, NULL);
        synchronise(&told);
        execute(&told, SLEEP, NULL);
        execute(&told, NOTHING, NULL);
        synchronise(&told);
        await(fixture, &fixture->n_lost, 1);
        assert_int_equal(fixture->lost, -ETIMEDOUT);
        check_told(&told, "statement 0\nsync 0\nstatement -104\nstatement -104\nsync -104\n");
}

static void a_connection_that_breaks_is_told(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture };
        char *terminate;
        connect_to_server(fixture);
        assert_int_equal(
                        text_format(&terminate,
                                    "SELECT pg_terminate_backend(%d)",
                                    postgres_backend_pid(fixture->postgres)),
                        0);
        execute(&told, SLEEP, NULL);
        synchronise(&told);
        /* It is there, and sleeps. */
        while (postgres_server_run(
                               &server,
                               "postgres",
                               "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' "
                               "AND state = 'active' AND application_name = 'test-postgres'") == 0)
                assert_true(sd_event_run(fixture->event, 20 * USEC_PER_MSEC) >= 0);
        (void) postgres_server_run(&server, "postgres", terminate);
        await(fixture, &fixture->n_lost, 1);
        assert_int_equal(fixture->lost, -ECONNRESET);
        check_text("message",
                   fixture->message.data,
                   "terminating connection due to administrator command (57P01)");
        check_told(&told, "statement -104\nsync -104\n");
        assert_false(postgres_is_connected(fixture->postgres));
        free(terminate);
}

static void a_connection_can_be_freed_at_any_time(void **state) {
        Fixture *fixture = *state;
        Told told = { .fixture = fixture, .frees = true };
        const PostgresOptions options = options_of(fixture);
        for (unsigned i = 0; i < 5; i++) {
                assert_int_equal(postgres_new(fixture->event, &options, &fixture->postgres), 0);
                (void) sd_event_run(fixture->event, i * USEC_PER_MSEC);
                fixture->postgres = postgres_free(fixture->postgres);
        }
        fixture->n_connected = 0;
        connect_to_server(fixture);
        execute(&told, NOTHING, NULL);
        execute(&told, NOTHING, NULL);
        synchronise(&told);
        await(fixture, &told.n, 1);
        assert_null(fixture->postgres);
        (void) sd_event_run(fixture->event, 0);
        check_told(&told, "statement 0\n");
        assert_int_equal(fixture->n_lost, 0);
}

static void codes_have_meanings(void **state) {
        static const struct {
                const char *sqlstate;
                int r;
        } rows[] = {
                { "23505", -EEXIST }, { "53100", -ENOSPC },     { "53200", -ENOMEM },
                { "25006", -EROFS },  { "57P01", -ECONNRESET }, { "08006", -ECONNRESET },
                { "40P01", -EAGAIN }, { "28P01", -EACCES },     { "3D000", -ENOENT },
                { "DG001", -ESTALE }, { "22021", -EINVAL },     { "XX000", -EIO },
                { NULL, -EIO },
        };
        for (FOREACH_ROW(row, rows))
                check_int(row->sqlstate ?: "none", postgres_errno(row->sqlstate), row->r);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(answers_come_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(what_cannot_be_committed_is_told_at_the_end, setup, teardown),
                cmocka_unit_test_setup_teardown(values_come_back, setup, teardown),
                cmocka_unit_test_setup_teardown(more_than_fits_into_the_socket_passes, setup, teardown),
                cmocka_unit_test_setup_teardown(others_are_heard, setup, teardown),
                cmocka_unit_test_setup_teardown(a_connection_that_cannot_be_made_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_password_is_read_from_its_file, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                a_host_that_breaks_off_does_not_hide_the_next_one, setup, teardown),
                cmocka_unit_test_setup_teardown(a_server_that_is_silent_is_given_up, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                an_answer_that_does_not_come_is_not_waited_for, setup, teardown),
                cmocka_unit_test_setup_teardown(a_connection_that_breaks_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_connection_can_be_freed_at_any_time, setup, teardown),
                cmocka_unit_test(codes_have_meanings),
        };
        if (!postgres_server_find(&server)) {
                puts("1..0 # SKIP there is no PostgreSQL server here");
                return 0;
        }
        postgres_server_begin(&server);
        int r = cmocka_run_group_tests_name("postgres", tests, NULL, NULL);
        postgres_server_end(&server);
        return r;
}
