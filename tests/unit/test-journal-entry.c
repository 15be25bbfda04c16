/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/journal-entry.h"
#include "test.h"

typedef struct Lines {
        char *items[64];
        size_t sizes[64];
        size_t n;
} Lines;

static void keep(const char *line, size_t size, void *userdata) {
        Lines *lines = userdata;
        assert_true(lines->n < N_ELEMENTS(lines->items));
        char *copy = calloc(1, size + 1); /* not strndup(): LINE is not NUL-terminated */
        assert_non_null(copy);
        memcpy(copy, line, size);
        lines->items[lines->n] = copy;
        lines->sizes[lines->n++] = size;
}

static void lines_done(Lines *lines) {
        for (size_t i = 0; i < lines->n; i++)
                free(lines->items[i]);
        *lines = (Lines) {};
}

static void fields_are_written_in_either_form(void **state) {
        Text entry = {};
        assert_int_equal(journal_entry_add_string(&entry, "A", "b"), 0);
        assert_int_equal(journal_entry_add(&entry, "M", "x\ny", 3), 0);
        assert_int_equal(journal_entry_add(&entry, "E", "", 0), 0);
        static const char want[] = "A=b\nM\n\3\0\0\0\0\0\0\0x\ny\nE=\n";
        assert_int_equal(entry.size, sizeof(want) - 1);
        assert_memory_equal(entry.data, want, sizeof(want) - 1);
        text_done(&entry);
}

static void pieces_become_lines_however_they_are_cut(void **state) {
        static const char all[] = "one\ntwo\n\nlast";
        for (size_t piece = 1; piece <= sizeof(all); piece++) {
                LineSplitter splitter = {};
                Lines lines = {};
                for (size_t at = 0; at < sizeof(all) - 1; at += piece) {
                        size_t left = sizeof(all) - 1 - at;
                        line_splitter_feed(&splitter, all + at, piece < left ? piece : left, keep, &lines);
                }
                assert_int_equal(lines.n, 3);
                line_splitter_flush(&splitter, keep, &lines);
                assert_int_equal(lines.n, 4);
                assert_string_equal(lines.items[0], "one");
                assert_string_equal(lines.items[1], "two");
                assert_string_equal(lines.items[2], "");
                assert_string_equal(lines.items[3], "last");
                line_splitter_flush(&splitter, keep, &lines);
                assert_int_equal(lines.n, 4);
                line_splitter_done(&splitter);
                lines_done(&lines);
        }
}

static void overlong_lines_are_cut_and_nothing_of_them_lost(void **state) {
        size_t size = 2 * JOURNAL_LINE_MAX + 5;
        char *text = malloc(size + 1);
        assert_non_null(text);
        memset(text, 'x', size);
        text[size] = '\n';
        LineSplitter splitter = {};
        Lines lines = {};
        for (size_t at = 0; at <= size; at += 1000)
                line_splitter_feed(
                                &splitter,
                                text + at,
                                at + 1000 <= size + 1 ? 1000 : size + 1 - at,
                                keep,
                                &lines);
        assert_int_equal(lines.n, 3);
        assert_int_equal(lines.sizes[0], JOURNAL_LINE_MAX);
        assert_int_equal(lines.sizes[2], 5);
        line_splitter_done(&splitter);
        lines_done(&lines);
        free(text);
}

static void overlong_lines_are_cut_at_characters(void **state) {
        static const char euro[] = "\xe2\x82\xac";
        size_t n = JOURNAL_LINE_MAX / 3 + 5; /* JOURNAL_LINE_MAX is not a multiple of 3 */
        LineSplitter splitter = {};
        Lines lines = {};
        for (size_t i = 0; i < n; i++)
                line_splitter_feed(&splitter, euro, 3, keep, &lines);
        line_splitter_feed(&splitter, "\n", 1, keep, &lines);
        assert_int_equal(lines.n, 2);
        assert_int_equal(lines.sizes[0], JOURNAL_LINE_MAX / 3 * 3);
        assert_int_equal(lines.sizes[1], 5 * 3);
        line_splitter_done(&splitter);
        lines_done(&lines);
}

static void a_line_of_exactly_the_limit_is_one_line(void **state) {
        char *text = malloc(JOURNAL_LINE_MAX + 1);
        assert_non_null(text);
        memset(text, 'x', JOURNAL_LINE_MAX);
        text[JOURNAL_LINE_MAX] = '\n';
        LineSplitter splitter = {};
        Lines lines = {};
        line_splitter_feed(&splitter, text, JOURNAL_LINE_MAX + 1, keep, &lines);
        line_splitter_feed(&splitter, "y\n", 2, keep, &lines);
        assert_int_equal(lines.n, 2);
        assert_int_equal(lines.sizes[0], JOURNAL_LINE_MAX);
        assert_string_equal(lines.items[1], "y");
        line_splitter_done(&splitter);
        lines_done(&lines);
        free(text);
}

static void a_chatty_task_is_held_to_its_rate_and_counted(void **state) {
        JournalRate rate = {};
        for (unsigned i = 0; i < JOURNAL_BURST_LINES; i++)
                assert_true(journal_rate_take(&rate, 100, 5));
        assert_false(journal_rate_take(&rate, 100, 6));
        assert_false(journal_rate_take(&rate, 100, 5 + JOURNAL_INTERVAL_USEC - 1));
        assert_int_equal(rate.n_dropped, 2);
        assert_true(journal_rate_take(&rate, 100, 5 + JOURNAL_INTERVAL_USEC));
        assert_int_equal(rate.n_dropped, 2);
}

static void long_lines_are_held_to_their_bytes(void **state) {
        JournalRate rate = {};
        for (unsigned i = 0; i < JOURNAL_BURST_BYTES / JOURNAL_LINE_MAX; i++)
                assert_true(journal_rate_take(&rate, JOURNAL_LINE_MAX, 5));
        assert_false(journal_rate_take(&rate, 1, 6));
        assert_int_equal(rate.n_dropped, 1);
        assert_true(journal_rate_take(&rate, 1, 5 + JOURNAL_INTERVAL_USEC));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(fields_are_written_in_either_form),
                cmocka_unit_test(pieces_become_lines_however_they_are_cut),
                cmocka_unit_test(overlong_lines_are_cut_and_nothing_of_them_lost),
                cmocka_unit_test(overlong_lines_are_cut_at_characters),
                cmocka_unit_test(a_line_of_exactly_the_limit_is_one_line),
                cmocka_unit_test(a_chatty_task_is_held_to_its_rate_and_counted),
                cmocka_unit_test(long_lines_are_held_to_their_bytes),
        };
        return cmocka_run_group_tests_name("journal-entry", tests, NULL, NULL);
}
