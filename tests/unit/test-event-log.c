/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/event-log.h"
#include "test.h"

static void events_are_written_as_the_browser_reads_them(void **state) {
        EventLog log;
        event_log_init(&log, 7);
        assert_int_equal(event_log_add(&log, "task", "{\"a\":1}"), 0);
        assert_string_equal(event_log_get(&log, 7), "event: task\nid: 7\ndata: {\"a\":1}\n\n");
        assert_int_equal(log.next_id, 8);
        event_log_done(&log);
}

static void a_client_resumes_where_it_left_off(void **state) {
        EventLog log;
        event_log_init(&log, 100);
        for (int i = 0; i < 3; i++)
                assert_int_equal(event_log_add(&log, "task", "{}"), 0);
        static const struct {
                const char *label;
                uint64_t last_id, next_id;
        } rows[] = {
                { "nothing missed", 102, 103 },
                { "one missed", 101, 102 },
                { "of an earlier process", 5, 100 },
                { "never given", 5000, 100 },
        };
        for (FOREACH_ROW(row, rows))
                check_u64(row->label, event_log_after(&log, row->last_id), row->next_id);
        event_log_done(&log);
}

static void only_the_newest_are_kept(void **state) {
        EventLog log;
        event_log_init(&log, 1);
        for (int i = 0; i < EVENT_LOG_MAX + 10; i++)
                assert_int_equal(event_log_add(&log, "task", "{}"), 0);
        assert_int_equal(log.next_id - log.first_id, EVENT_LOG_MAX);
        assert_int_equal(log.first_id, 11);
        assert_int_equal(event_log_after(&log, 3), 11);
        assert_non_null(event_log_get(&log, log.first_id));
        event_log_done(&log);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(events_are_written_as_the_browser_reads_them),
                cmocka_unit_test(a_client_resumes_where_it_left_off),
                cmocka_unit_test(only_the_newest_are_kept),
        };
        return cmocka_run_group_tests_name("event-log", tests, NULL, NULL);
}
