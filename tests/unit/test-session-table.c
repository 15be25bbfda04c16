/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>

#include "core/http/session-table.h"
#include "test.h"

#define NOW (1000 * USEC_PER_SEC)

/* The Nth of many secrets. */
static const char *secret(unsigned n) {
        static char texts[4][SESSION_SECRET_SIZE];
        static unsigned next;
        char *text = texts[next++ % N_ELEMENTS(texts)];
        (void) snprintf(text, SESSION_SECRET_SIZE, "%032x", n);
        return text;
}

static bool is_live(const SessionTable *table, const char *text, usec_t now_usec) {
        return session_is_live(table, text, strlen(text), now_usec);
}

static void a_code_is_good_once_and_for_a_minute(void **state) {
        SessionTable table = {};
        session_add_code(&table, secret(1), NOW);
        check_true("another", !session_begin(&table, secret(2), secret(9), NOW));
        check_true("in time", session_begin(&table, secret(1), secret(10), NOW + SESSION_CODE_USEC - 1));
        check_true("again", !session_begin(&table, secret(1), secret(11), NOW));
        check_true("session", is_live(&table, secret(10), NOW + SESSION_CODE_USEC));
        check_true("none", !is_live(&table, secret(9), NOW) && !is_live(&table, secret(11), NOW));

        session_add_code(&table, secret(3), NOW);
        check_true("late", !session_begin(&table, secret(3), secret(12), NOW + SESSION_CODE_USEC));
}

static void a_session_ends_by_itself(void **state) {
        SessionTable table = {};
        session_add_code(&table, secret(1), NOW);
        check_true("begins", session_begin(&table, secret(1), secret(2), NOW));
        check_true("lives", is_live(&table, secret(2), NOW + SESSION_USEC - 1));
        check_true("ends", !is_live(&table, secret(2), NOW + SESSION_USEC));
}

static void only_the_whole_secret_names_a_session(void **state) {
        SessionTable table = {};
        session_add_code(&table, secret(1), NOW);
        check_true("begins", session_begin(&table, secret(1), secret(2), NOW));
        check_true("code", !is_live(&table, secret(1), NOW));
        check_true("empty", !is_live(&table, "", NOW));
        check_true("short", !session_is_live(&table, secret(2), SESSION_SECRET_SIZE - 2, NOW));
        check_true("long", !is_live(&table, "000000000000000000000000000000020", NOW));
        check_true("zeros", !is_live(&(SessionTable) {}, secret(0), NOW));
        check_true("of no time", !is_live(&(SessionTable) {}, "", 0));
}

static void a_further_one_takes_the_place_of_the_oldest(void **state) {
        SessionTable table = {};
        for (unsigned i = 0; i <= SESSION_CODES_MAX; i++)
                session_add_code(&table, secret(i), NOW + i);
        check_true("oldest code", !session_begin(&table, secret(0), secret(100), NOW + 100));
        check_true("second code", session_begin(&table, secret(1), secret(101), NOW + 100));

        for (unsigned i = 1; i <= SESSIONS_MAX; i++) {
                session_add_code(&table, secret(1000), NOW + 100 + i);
                check_true("begins", session_begin(&table, secret(1000), secret(2000 + i), NOW + 100 + i));
        }
        check_true("oldest session", !is_live(&table, secret(101), NOW + 1000));
        check_true("second session", is_live(&table, secret(2001), NOW + 1000));
        check_true("last session", is_live(&table, secret(2000 + SESSIONS_MAX), NOW + 1000));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_code_is_good_once_and_for_a_minute),
                cmocka_unit_test(a_session_ends_by_itself),
                cmocka_unit_test(only_the_whole_secret_names_a_session),
                cmocka_unit_test(a_further_one_takes_the_place_of_the_oldest),
        };
        return cmocka_run_group_tests_name("session-table", tests, NULL, NULL);
}
