/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>

#include "core/http/refusal-log.h"
#include "test.h"

#define START    (1000 * USEC_PER_SEC)
#define INTERVAL REFUSAL_LOG_INTERVAL_USEC

static void the_first_is_logged_and_the_rest_is_counted(void **state) {
        RefusalLog log = {};
        Refusal told;
        check_u64("nothing", refusal_log_deadline(&log), USEC_INFINITY);
        check_true("first", refusal_log_note(&log, 401, "192.0.2.1", START));
        for (unsigned i = 0; i < 1234; i++)
                check_true("again", !refusal_log_note(&log, 401, "192.0.2.1", START + i));
        check_true("other kind", refusal_log_note(&log, 403, "192.0.2.1", START));
        check_true("other client", refusal_log_note(&log, 401, "192.0.2.2", START));

        check_u64("deadline", refusal_log_deadline(&log), START + INTERVAL);
        check_true("too early", !refusal_log_next(&log, START + INTERVAL - 1, &told));
        check_true("in time", refusal_log_next(&log, START + INTERVAL, &told));
        check_int("kind", told.kind, 401);
        check_text("client", told.client, "192.0.2.1");
        check_u64("count", told.n_withheld, 1234);
        check_true("no more", !refusal_log_next(&log, START + INTERVAL, &told));
}

static void who_goes_on_gets_a_line_for_each_interval(void **state) {
        RefusalLog log = {};
        Refusal told;
        unsigned n_lines = 0;
        /* one refusal a second for ten intervals */
        for (usec_t now = START; now < START + 10 * INTERVAL; now += USEC_PER_SEC) {
                n_lines += refusal_log_note(&log, 401, "::1", now);
                while (refusal_log_next(&log, now, &told))
                        n_lines++;
        }
        check_u64("lines", n_lines, 10);
}

static void who_stops_is_forgotten(void **state) {
        RefusalLog log = {};
        Refusal told;
        check_true("first", refusal_log_note(&log, 401, "::1", START));
        check_true("nothing to tell", !refusal_log_next(&log, START + INTERVAL, &told));
        check_u64("no deadline", refusal_log_deadline(&log), USEC_INFINITY);
        check_true("first again", refusal_log_note(&log, 401, "::1", START + INTERVAL));
}

static void many_clients_do_not_fill_the_log(void **state) {
        RefusalLog log = {};
        Refusal told;
        unsigned n_lines = 0;
        for (unsigned i = 0; i < 10000; i++) {
                char client[32];
                (void) snprintf(client, sizeof(client), "2001:db8::%x", i);
                n_lines += refusal_log_note(&log, 401, client, START);
        }
        check_u64("lines", n_lines, REFUSAL_LOG_ENTRIES_MAX);
        check_true("summary", refusal_log_next(&log, START + INTERVAL, &told));
        check_int("of all kinds", told.kind, 0);
        check_text("from many", told.client, "");
        check_u64("count", told.n_withheld, 10000 - REFUSAL_LOG_ENTRIES_MAX);
        check_true("no more", !refusal_log_next(&log, START + INTERVAL, &told));
        check_u64("empty", refusal_log_deadline(&log), USEC_INFINITY);
        check_true("room again", refusal_log_note(&log, 401, "::1", START + INTERVAL));
}

static void each_entry_is_told_once(void **state) {
        RefusalLog log = {};
        Refusal told;
        for (int kind = 1; kind <= 20; kind++)
                for (int i = 0; i < kind; i++) /* the first of each kind has nothing withheld */
                        (void) refusal_log_note(&log, kind, "::1", START);
        uint64_t n_told = 0, n_withheld = 0;
        for (; refusal_log_next(&log, START + INTERVAL, &told); n_told++)
                n_withheld += told.n_withheld;
        check_u64("told", n_told, 19);
        check_u64("withheld", n_withheld, 19 * 20 / 2);
}

static void a_long_name_is_cut_and_still_known(void **state) {
        RefusalLog log = {};
        char client[200];
        memset(client, 'x', sizeof(client) - 1);
        client[sizeof(client) - 1] = 0;
        check_true("first", refusal_log_note(&log, 401, client, START));
        check_true("again", !refusal_log_note(&log, 401, client, START));
        check_u64("cut", strlen(log.entries[0].refusal.client), REFUSAL_LOG_CLIENT_SIZE - 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_is_logged_and_the_rest_is_counted),
                cmocka_unit_test(who_goes_on_gets_a_line_for_each_interval),
                cmocka_unit_test(who_stops_is_forgotten),
                cmocka_unit_test(many_clients_do_not_fill_the_log),
                cmocka_unit_test(each_entry_is_told_once),
                cmocka_unit_test(a_long_name_is_cut_and_still_known),
        };
        return cmocka_run_group_tests_name("refusal-log", tests, NULL, NULL);
}
