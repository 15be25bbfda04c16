/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/event-log.h"
#include "core/http/event-parse.h"
#include "fail-alloc.h"
#include "test.h"

/* Writes each event as "type|id|data;". */
static int write_event(const ParsedEvent *event, void *userdata) {
        Text *seen = userdata;
        assert_int_equal(strlen(event->data), event->data_size);
        return text_appendf(seen, "%s|%s|%s;", event->type, event->id, event->data);
}

static EventParser parser_new(void) {
        return (EventParser) { .line_bytes_max = 1000, .event_bytes_max = 1000 };
}

static void events_are_read_as_the_standard_says(void **state) {
        static const struct {
                const char *label, *stream, *seen;
        } rows[] = {
                { "nothing", "", "" },
                { "one", "event: task\nid: 7\ndata: {\"a\":1}\n\n", "task|7|{\"a\":1};" },
                { "without a type", "data: x\n\n", "message||x;" },
                { "two", "data: x\n\ndata: y\n\n", "message||x;message||y;" },
                { "the id stays, the type does not",
                  "event: a\nid: 1\ndata: x\n\ndata: y\n\n",
                  "a|1|x;message|1|y;" },
                { "an empty id takes it back",
                  "id: 1\ndata: x\n\nid\ndata: y\n\n",
                  "message|1|x;message||y;" },
                { "an event of an id only sets it", "id: 1\n\ndata: x\n\n", "message|1|x;" },
                { "several lines", "data: x\ndata: y\ndata:\ndata: z\n\n", "message||x\ny\n\nz;" },
                { "empty data is data", "data\n\ndata:\ndata:\n\n", "message||;message||\n;" },
                { "without data there is no event", "event: a\n\nid: 1\n\ndata: x\n\n", "message|1|x;" },
                { "only one space is left out", "data:x\ndata:  y\n\n", "message||x\n y;" },
                { "CR LF", "event: a\r\ndata: x\r\n\r\ndata: y\r\n\r\n", "a||x;message||y;" },
                { "CR", "event: a\rdata: x\r\rdata: y\r\r", "a||x;message||y;" },
                { "mixed", "event: a\rdata: x\n\r\ndata: y\r\n\n", "a||x;message||y;" },
                { "comments", ": keep alive\n\n:\ndata: x\n: more\n\n", "message||x;" },
                { "other fields", "retry: 10\nfoo: bar\nDATA: no\ndata : no\ndata: x\n\n", "message||x;" },
                { "a byte order mark",
                  "\xef\xbb\xbf"
                  "data: x\n\n",
                  "message||x;" },
                { "only at the start",
                  "data: x\n\n\xef\xbb\xbf"
                  "data: y\n\n",
                  "message||x;" },
                { "cut short", "data: x\n\ndata: y\n", "message||x;" },
                { "cut in the line", "data: x", "" },
        };
        for (FOREACH_ROW(row, rows)) {
                size_t size = strlen(row->stream);
                for (size_t piece = 1; piece <= size + 1; piece++) {
                        Text seen = {};
                        EventParser parser = parser_new();
                        for (size_t i = 0; i < size; i += piece) {
                                size_t n = size - i < piece ? size - i : piece;
                                int r = event_parser_feed(&parser, row->stream + i, n, write_event, &seen);
                                check_int(row->label, r, 0);
                        }
                        check_text(row->label, seen.data ? seen.data : "", row->seen);
                        event_parser_done(&parser);
                        text_done(&seen);
                }
        }
}

static void an_id_with_nul_is_ignored(void **state) {
        static const char stream[] = "id: 1\nid: 2\0"
                                     "3\ndata: x\n\n";
        Text seen = {};
        EventParser parser = parser_new();
        assert_int_equal(event_parser_feed(&parser, stream, sizeof(stream) - 1, write_event, &seen), 0);
        assert_string_equal(seen.data, "message|1|x;");
        event_parser_done(&parser);
        text_done(&seen);
}

static void what_our_server_writes_is_read_back(void **state) {
        EventLog log;
        event_log_init(&log, 41);
        assert_int_equal(event_log_add(&log, "task", "{\"task_id\":\"a\"}"), 0);
        assert_int_equal(event_log_add(&log, "capacity", "{}"), 0);
        Text seen = {};
        EventParser parser = parser_new();
        for (uint64_t id = log.first_id; id < log.next_id; id++) {
                const char *event = event_log_get(&log, id);
                assert_int_equal(event_parser_feed(&parser, event, strlen(event), write_event, &seen), 0);
        }
        assert_string_equal(seen.data, "task|41|{\"task_id\":\"a\"};capacity|42|{};");
        event_parser_done(&parser);
        text_done(&seen);
        event_log_done(&log);
}

static void limits_hold_whatever_the_pieces(void **state) {
        static const struct {
                const char *label, *stream;
                size_t line_max, event_max;
                int r;
        } rows[] = {
                { "line as long as allowed", "data: 12345\n\n", 11, 100, 0 },
                { "line too long", "data: 123456\n\n", 11, 100, -EMSGSIZE },
                { "line without an end", "data: 123456", 11, 100, -EMSGSIZE },
                { "comment too long", ":23456789012\n", 11, 100, -EMSGSIZE },
                { "data as long as allowed", "data: 12\ndata: 34\n\n", 100, 5, 0 },
                { "data too long by its separator", "data: 12\ndata: 34\n\n", 100, 4, -EMSGSIZE },
                { "each event counts for itself", "data: 1234\n\ndata: 1234\n\n", 100, 4, 0 },
                { "empty lines of data count", "data\ndata\ndata\ndata\n\n", 100, 2, -EMSGSIZE },
        };
        for (FOREACH_ROW(row, rows)) {
                size_t size = strlen(row->stream);
                for (size_t piece = 1; piece <= size; piece++) {
                        Text seen = {};
                        EventParser parser = { .line_bytes_max = row->line_max,
                                               .event_bytes_max = row->event_max };
                        int r = 0;
                        for (size_t i = 0; i < size && r >= 0; i += piece) {
                                size_t n = size - i < piece ? size - i : piece;
                                r = event_parser_feed(&parser, row->stream + i, n, write_event, &seen);
                        }
                        check_int(row->label, r, row->r);
                        event_parser_done(&parser);
                        text_done(&seen);
                }
        }
}

static int refuse_event(const ParsedEvent *event, void *userdata) {
        int *n = userdata;
        (*n)++;
        return -ECANCELED;
}

static void the_handler_can_end_it(void **state) {
        static const char stream[] = "data: x\n\ndata: y\n\n";
        int n = 0;
        EventParser parser = parser_new();
        assert_int_equal(
                        event_parser_feed(&parser, stream, sizeof(stream) - 1, refuse_event, &n), -ECANCELED);
        assert_int_equal(n, 1);
        event_parser_done(&parser);
}

static int ignore_event(const ParsedEvent *event, void *userdata) {
        return 0;
}

static int try_feed(void *userdata) {
        static const char stream[] = "event: a\nid: 1\ndata: x\ndata: y\n\n";
        EventParser parser = parser_new();
        int r = event_parser_feed(&parser, stream, sizeof(stream) - 1, ignore_event, NULL);
        event_parser_done(&parser);
        return r;
}

static void running_out_of_memory_is_told(void **state) {
        fail_alloc_loop(try_feed, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(events_are_read_as_the_standard_says),
                cmocka_unit_test(an_id_with_nul_is_ignored),
                cmocka_unit_test(what_our_server_writes_is_read_back),
                cmocka_unit_test(limits_hold_whatever_the_pieces),
                cmocka_unit_test(the_handler_can_end_it),
                cmocka_unit_test(running_out_of_memory_is_told),
        };
        return cmocka_run_group_tests_name("event-parse", tests, NULL, NULL);
}
