/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Several members in one process, at a real server: who leads, and who knows of whom. */

#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../unit/test.h"
#include "base/text.h"
#include "io/loop.h"
#include "postgres-server.h"
#include "queue/members.h"

#define N_MEMBERS_MAX 3
#define TTL_USEC      (2 * USEC_PER_SEC)
#define HASTE_USEC    (200 * USEC_PER_MSEC)
#define AWAIT_USEC    (20 * USEC_PER_SEC)

typedef struct Fixture Fixture;

/* What one member has told. */
typedef struct Teller {
        Fixture *fixture;
        Members *members;
        uint64_t epoch; /* under which it leads; 0: it does not */
        unsigned n_led, n_lost, n_left;
        usec_t lost_usec;
} Teller;

struct Fixture {
        sd_event *event;
        PostgresConfig config;
        Teller tellers[N_MEMBERS_MAX];
        uint64_t last_epoch; /* of all that told so */
        bool in_trouble;     /* which is no wonder */
};

static PostgresServer server;

/* ── what they tell ── */

static void on_lead(uint64_t epoch, void *userdata) {
        Teller *teller = userdata;
        assert_int_equal(teller->epoch, 0);
        assert_true(epoch > teller->fixture->last_epoch);
        for (size_t i = 0; i < N_MEMBERS_MAX; i++) /* by each one's own clock */
                if (&teller->fixture->tellers[i] != teller && teller->fixture->tellers[i].members)
                        assert_false(members_may_lead(
                                        teller->fixture->tellers[i].members, usec_now(CLOCK_BOOTTIME)));
        teller->epoch = teller->fixture->last_epoch = epoch;
        teller->n_led++;
}

static void on_lost(void *userdata) {
        Teller *teller = userdata;
        assert_int_not_equal(teller->epoch, 0);
        teller->epoch = 0;
        teller->n_lost++;
        teller->lost_usec = usec_now(CLOCK_BOOTTIME);
}

static void on_changed(void *userdata) {
        const Teller *teller = userdata;
        const Member *list, *self = members_self(teller->members);
        size_t n = members_list(teller->members, &list), n_selves = 0;
        for (size_t i = 0; i < n; i++) {
                n_selves += streq(list[i].id, self->id);
                assert_true(i == 0 || strcmp(list[i - 1].id, list[i].id) < 0);
        }
        assert_int_equal(n_selves, 1);
        if (!teller->fixture->in_trouble)
                assert_null(members_trouble(teller->members));
}

static void on_left(void *userdata) {
        Teller *teller = userdata;
        teller->epoch = 0;
        teller->n_left++;
}

/* ── the bed ── */

/* As somebody with a session of his own. */
static void execute(const char *database, const char *sql) {
        (void) postgres_server_run(&server, database, sql);
}

static void start_as(Fixture *fixture, size_t i, const char *address, const char *version) {
        Teller *teller = &fixture->tellers[i];
        *teller = (Teller) { .fixture = fixture };
        assert_int_equal(
                        members_new(fixture->event,
                                    &(MembersOptions) {
                                                    .config = &fixture->config,
                                                    .ttl_usec = TTL_USEC,
                                                    .url = "http://127.0.0.1:1",
                                                    .address = address,
                                                    .version = version,
                                                    .lead = on_lead,
                                                    .lost = on_lost,
                                                    .changed = on_changed,
                                                    .left = on_left,
                                                    .userdata = teller,
                                    },
                                    &teller->members),
                        0);
}

static void start(Fixture *fixture, size_t i) {
        static const char *const addresses[] = { "a:1", "b:2", "c:3" };
        start_as(fixture, i, addresses[i], "1.0");
}

static void stop(Fixture *fixture, size_t i) {
        fixture->tellers[i].members = members_free(fixture->tellers[i].members);
        fixture->tellers[i].epoch = 0;
}

static int begin(void **state) {
        static Fixture fixture;
        execute("postgres", "DROP DATABASE IF EXISTS members WITH (FORCE)");
        execute("postgres", "CREATE DATABASE members");
        fixture = (Fixture) {};
        postgres_server_conninfo(&server, "members", &fixture.config.conninfo);
        assert_int_equal(loop_new(&fixture.event), 0);
        *state = &fixture;
        return 0;
}

static int end(void **state) {
        Fixture *fixture = *state;
        for (size_t i = 0; i < N_MEMBERS_MAX; i++)
                stop(fixture, i);
        sd_event_unref(fixture->event);
        free(fixture->config.conninfo);
        return 0;
}

static void run_for(Fixture *fixture, usec_t usec) {
        usec_t until_usec = usec_now(CLOCK_BOOTTIME) + usec;
        for (usec_t now_usec; (now_usec = usec_now(CLOCK_BOOTTIME)) < until_usec;)
                assert_true(sd_event_run(fixture->event, until_usec - now_usec) >= 0);
}

static size_t n_leaders(const Fixture *fixture) {
        size_t n = 0;
        for (size_t i = 0; i < N_MEMBERS_MAX; i++)
                n += fixture->tellers[i].epoch > 0;
        return n;
}

/* How long it takes until somebody leads. */
static usec_t await_leader(Fixture *fixture, size_t *ret) {
        usec_t begin_usec = usec_now(CLOCK_BOOTTIME);
        while (n_leaders(fixture) == 0) {
                assert_true(usec_now(CLOCK_BOOTTIME) < begin_usec + AWAIT_USEC);
                assert_true(sd_event_run(fixture->event, 10 * USEC_PER_MSEC) >= 0);
        }
        usec_t took_usec = usec_now(CLOCK_BOOTTIME) - begin_usec;
        assert_int_equal(n_leaders(fixture), 1);
        for (*ret = 0; fixture->tellers[*ret].epoch == 0;)
                (*ret)++;
        return took_usec;
}

/* Until each of the N first knows that many, all alive, and the same leader. */
static void await_agreement(Fixture *fixture, size_t n) {
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC;
        for (;;) {
                size_t leader, n_agree = 0;
                (void) await_leader(fixture, &leader);
                const char *id = members_self(fixture->tellers[leader].members)->id;
                for (size_t i = 0; i < n; i++) {
                        const Member *list, *known = members_leader(fixture->tellers[i].members);
                        size_t n_alive = 0, n_listed = members_list(fixture->tellers[i].members, &list);
                        for (size_t k = 0; k < n_listed; k++)
                                n_alive += list[k].alive;
                        n_agree += n_alive == n && known && streq(known->id, id);
                }
                if (n_agree == n)
                        return;
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                assert_true(sd_event_run(fixture->event, 10 * USEC_PER_MSEC) >= 0);
        }
}

/* ── ── */

static void one_leads_and_all_know_it(void **state) {
        Fixture *fixture = *state;
        for (size_t i = 0; i < N_MEMBERS_MAX; i++)
                start(fixture, i);
        assert_null(members_queue_address(fixture->tellers[0].members));
        await_agreement(fixture, N_MEMBERS_MAX);
        run_for(fixture, 2 * TTL_USEC); /* and it stays so */
        assert_int_equal(n_leaders(fixture), 1);
        unsigned n_led = 0;
        for (size_t i = 0; i < N_MEMBERS_MAX; i++) {
                n_led += fixture->tellers[i].n_led;
                assert_null(members_trouble(fixture->tellers[i].members));
                assert_string_equal(
                                members_queue_address(fixture->tellers[i].members),
                                members_leader(fixture->tellers[0].members)->address);
        }
        assert_int_equal(n_led, 1);
}

static void one_that_leaves_hands_over_at_once(void **state) {
        Fixture *fixture = *state;
        size_t first, second;
        char address[16];
        for (size_t i = 0; i < N_MEMBERS_MAX; i++)
                start(fixture, i);
        await_agreement(fixture, N_MEMBERS_MAX);
        (void) await_leader(fixture, &first);
        (void) snprintf(address,
                        sizeof(address),
                        "%s",
                        members_self(fixture->tellers[first].members)->address);
        members_leave(fixture->tellers[first].members);
        assert_false(members_may_lead(fixture->tellers[first].members, usec_now(CLOCK_BOOTTIME)));
        fixture->tellers[first].epoch = 0;
        assert_true(await_leader(fixture, &second) < HASTE_USEC);
        assert_true(first != second);
        run_for(fixture, TTL_USEC);
        assert_int_equal(fixture->tellers[first].n_left, 1);
        assert_int_equal(fixture->tellers[first].n_led, 1);
        assert_string_equal(members_queue_address(fixture->tellers[second].members), address);
        const Member *list;
        assert_int_equal(members_list(fixture->tellers[second].members, &list), N_MEMBERS_MAX - 1);
}

static void one_that_is_silent_is_followed_by_another(void **state) {
        Fixture *fixture = *state;
        size_t first, second;
        for (size_t i = 0; i < N_MEMBERS_MAX; i++)
                start(fixture, i);
        await_agreement(fixture, N_MEMBERS_MAX);
        (void) await_leader(fixture, &first);
        stop(fixture, first);
        usec_t took_usec = await_leader(fixture, &second);
        assert_true(took_usec > TTL_USEC / 2 && took_usec < TTL_USEC + USEC_PER_SEC);
        start(fixture, first); /* under another id */
        run_for(fixture, TTL_USEC / 2);
        const Member *list;
        size_t n_dead = 0, n = members_list(fixture->tellers[second].members, &list);
        for (size_t i = 0; i < n; i++)
                n_dead += !list[i].alive;
        assert_int_equal(n, N_MEMBERS_MAX + 1);
        assert_int_equal(n_dead, 1);
        for (size_t i = 0; i < n; i++)
                assert_true((list[i].epoch > 0) == (list[i].leading || !list[i].alive));
}

static void without_the_database_nobody_leads(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        start(fixture, 1);
        await_agreement(fixture, 2);
        (void) await_leader(fixture, &leader);
        Teller *teller = &fixture->tellers[leader];
        fixture->in_trouble = true;
        execute("postgres", "ALTER DATABASE members ALLOW_CONNECTIONS false");
        usec_t before_usec = usec_now(CLOCK_BOOTTIME);
        execute("postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'members'");
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 0);
        assert_int_equal(teller->n_lost, 1);
        assert_true(teller->lost_usec < before_usec + TTL_USEC);
        assert_null(members_leader(fixture->tellers[0].members));
        assert_null(members_leader(fixture->tellers[1].members));
        assert_non_null(strstr(members_trouble(teller->members), "the database does not answer"));
        execute("postgres", "ALTER DATABASE members ALLOW_CONNECTIONS true");
        assert_true(await_leader(fixture, &leader) < 2 * USEC_PER_SEC);
        assert_null(members_trouble(fixture->tellers[leader].members));
}

static void a_session_that_ends_is_made_again(void **state) {
        Fixture *fixture = *state;
        start(fixture, 0);
        start(fixture, 1);
        await_agreement(fixture, 2);
        fixture->in_trouble = true;
        for (size_t i = 0; i < 10; i++) {
                execute("members",
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'daggyd member'");
                run_for(fixture, TTL_USEC / 4);
        }
        assert_int_equal(n_leaders(fixture), 1);
        assert_int_equal(fixture->tellers[0].n_led + fixture->tellers[1].n_led, 1);
}

/* What it was sent it does when it goes on, when nobody waits for that any more. */
static void a_session_that_hangs_is_replaced_and_does_no_harm(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        (void) await_leader(fixture, &leader);
        pid_t pid = (pid_t) postgres_server_run(
                        &server,
                        "members",
                        "SELECT pid FROM pg_stat_activity WHERE application_name = 'daggyd member'");
        fixture->in_trouble = true;
        assert_int_equal(kill(pid, SIGSTOP), 0);
        run_for(fixture, 2 * TTL_USEC);
        assert_int_equal(n_leaders(fixture), 1);
        assert_int_equal(kill(pid, SIGCONT), 0);
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 1);
        assert_int_equal(fixture->tellers[0].n_led, 1);
        assert_int_equal(fixture->tellers[0].epoch, 1);
}

static void a_server_that_crashes_is_waited_for(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        start(fixture, 1);
        await_agreement(fixture, 2);
        fixture->in_trouble = true;
        postgres_server_kill(&server);
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 0);
        postgres_server_start(&server);
        assert_true(await_leader(fixture, &leader) < 2 * USEC_PER_SEC);
        assert_null(members_trouble(fixture->tellers[leader].members));
}

/* Somebody else's transaction holds the row of the lead: nobody hangs, and all go on living. */
static void a_lock_does_not_keep_a_member_from_living(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        (void) await_leader(fixture, &leader);
        execute("members", "UPDATE lead SET member = NULL");
        PGconn *connection = PQconnectdb(fixture->config.conninfo);
        PQclear(PQexec(connection, "BEGIN"));
        PQclear(PQexec(connection, "UPDATE lead SET written = 0"));
        run_for(fixture, 2 * TTL_USEC);
        assert_int_equal(n_leaders(fixture), 0);
        assert_true(members_self(fixture->tellers[0].members)->alive);
        assert_null(members_trouble(fixture->tellers[0].members));
        PQfinish(connection);
        assert_true(await_leader(fixture, &leader) < USEC_PER_SEC);
}

static void one_that_drains_takes_nothing(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        members_drain(fixture->tellers[0].members);
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 0);
        start(fixture, 1);
        (void) await_leader(fixture, &leader);
        assert_int_equal(leader, 1);
        await_agreement(fixture, 2);
        const Member *list;
        size_t n = members_list(fixture->tellers[1].members, &list), n_draining = 0;
        for (size_t i = 0; i < n; i++)
                n_draining += list[i].draining;
        assert_int_equal(n_draining, 1);
}

static void the_living_know_one_another(void **state) {
        Fixture *fixture = *state;
        char secrets[2][64];
        start(fixture, 0);
        start(fixture, 1);
        await_agreement(fixture, 2);
        for (size_t i = 0; i < 2; i++)
                (void) snprintf(secrets[i],
                                sizeof(secrets[i]),
                                "%s",
                                members_self(fixture->tellers[i].members)->secret);
        for (size_t i = 0; i < 2; i++) {
                const Members *members = fixture->tellers[i].members;
                assert_true(members_know_secret(members, secrets[0]));
                assert_true(members_know_secret(members, secrets[1]));
                assert_false(members_know_secret(members, ""));
                assert_false(members_know_secret(members, "0123456789abcdef0123456789abcdef"));
        }
        stop(fixture, 1);
        run_for(fixture, 2 * TTL_USEC);
        assert_false(members_know_secret(fixture->tellers[0].members, secrets[1]));
        assert_true(members_know_secret(fixture->tellers[0].members, secrets[0]));
}

/* Whoever can write to the database owns the queue, but that is all: nothing breaks, and what is set right
 * again is right. */
static void forged_rows_are_believed_and_survived(void **state) {
        Fixture *fixture = *state;
        size_t leader;
        start(fixture, 0);
        (void) await_leader(fixture, &leader);
        execute("members",
                "INSERT INTO member VALUES ('0', 'http://forged', 'f:1', '', '', false, 'infinity'),"
                "('1', '', '', '', 'known-to-the-forger', false, clock_timestamp() + interval '60 s'),"
                "('2', '', '', '', '', false, '-infinity'); NOTIFY daggyd_lead, 'forged'");
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 1);
        assert_null(members_trouble(fixture->tellers[0].members));
        assert_true(members_know_secret(fixture->tellers[0].members, "known-to-the-forger"));
        assert_false(members_know_secret(fixture->tellers[0].members, ""));
        execute("members", "UPDATE lead SET member = '1'; NOTIFY daggyd_lead, 'forged'");
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 0);
        assert_int_equal(fixture->tellers[0].n_lost, 1);
        execute("members", "UPDATE lead SET member = '0', epoch = 0"); /* expires never: counts as expired */
        (void) await_leader(fixture, &leader);
        execute("members", "DELETE FROM member");
        run_for(fixture, TTL_USEC);
        assert_int_equal(n_leaders(fixture), 1);
}

static void texts_are_texts(void **state) {
        static const char address[] = "x'); DELETE FROM lead; --",
                          version[] = "\"$1\\'; DROP TABLE member; é";
        Fixture *fixture = *state;
        size_t leader;
        start_as(fixture, 0, address, version);
        (void) await_leader(fixture, &leader);
        start(fixture, 1);
        await_agreement(fixture, 2);
        const Member *known = members_leader(fixture->tellers[1].members);
        assert_string_equal(known->address, address);
        assert_string_equal(known->version, version);
        assert_string_equal(members_queue_address(fixture->tellers[1].members), address);
}

static int start_server(void **state) {
        postgres_server_begin(&server);
        return 0;
}

static int stop_server(void **state) {
        postgres_server_end(&server);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(one_leads_and_all_know_it, begin, end),
                cmocka_unit_test_setup_teardown(one_that_leaves_hands_over_at_once, begin, end),
                cmocka_unit_test_setup_teardown(one_that_is_silent_is_followed_by_another, begin, end),
                cmocka_unit_test_setup_teardown(without_the_database_nobody_leads, begin, end),
                cmocka_unit_test_setup_teardown(a_session_that_ends_is_made_again, begin, end),
                cmocka_unit_test_setup_teardown(
                                a_session_that_hangs_is_replaced_and_does_no_harm, begin, end),
                cmocka_unit_test_setup_teardown(a_server_that_crashes_is_waited_for, begin, end),
                cmocka_unit_test_setup_teardown(a_lock_does_not_keep_a_member_from_living, begin, end),
                cmocka_unit_test_setup_teardown(one_that_drains_takes_nothing, begin, end),
                cmocka_unit_test_setup_teardown(the_living_know_one_another, begin, end),
                cmocka_unit_test_setup_teardown(forged_rows_are_believed_and_survived, begin, end),
                cmocka_unit_test_setup_teardown(texts_are_texts, begin, end),
        };
        if (!postgres_server_find(&server)) {
                puts("1..0 # SKIP there is no PostgreSQL server here");
                return 0;
        }
        return cmocka_run_group_tests(tests, start_server, stop_server);
}
