/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "core/text/text-table.h"
#include "fail-alloc.h"
#include "test.h"

static const char *const headers[] = { "ID", ">N", "COMMAND", NULL };
static const char *const rows[][4] = {
        { "a", "1", "echo hi", NULL },
        { "büx", "10", NULL, NULL },
        { "c", "", "sleep infinity", NULL },
};

static int make(Text *ret, size_t width) {
        _cleanup_(text_table_freep) TextTable *table = NULL;
        int r = text_table_new(headers, &table);
        for (size_t i = 0; r >= 0 && i < N_ELEMENTS(rows); i++)
                r = text_table_add(table, rows[i]);
        return r < 0 ? r : text_table_format(table, width, ret);
}

static void columns_are_aligned(void **state) {
        _cleanup_(text_done) Text text = {};
        assert_int_equal(make(&text, 0), 0);
        check_text("whole",
                   text.data,
                   "ID    N  COMMAND\n"
                   "a     1  echo hi\n"
                   "büx  10  -\n"
                   "c     -  sleep infinity\n");
}

static void lines_are_cut_to_the_terminal(void **state) {
        _cleanup_(text_done) Text text = {};
        assert_int_equal(make(&text, 15), 0);
        check_text("cut",
                   text.data,
                   "ID    N  COMMA…\n"
                   "a     1  echo …\n"
                   "büx  10  -\n"
                   "c     -  sleep…\n");
}

static void a_cut_does_not_split_a_character(void **state) {
        _cleanup_(text_done) Text text = {};
        assert_int_equal(make(&text, 3), 0);
        check_text("cut", text.data, "ID…\na …\nbü…\nc …\n");
}

static void what_could_control_a_terminal_is_replaced(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
                const char *keep, *printed;
        } cases[] = {
                { "a\033[2Jb", 6, "", "a?[2Jb" },
                { "a\nb\tc", 5, "", "a?b?c" },
                { "a\nb\tc", 5, "\n\t", "a\nb\tc" },
                { "a\0b", 3, "\n\t", "a?b" },
                { "\x7f", 1, "", "?" },
                { "\xc2\x9b"
                  "1m",
                  4,
                  "",
                  "?1m" }, /* CSI in one character */
                { "\xc2\xa0", 2, "", "\xc2\xa0" },
                { "ü", 2, "", "ü" },
        };
        for (FOREACH_ROW(row, cases)) {
                _cleanup_(text_done) Text text = {};
                check_int(row->printed, text_append_printable(&text, row->bytes, row->size, row->keep), 0);
                check_text(row->printed, text.data, row->printed);
        }
}

static int try_table(void *userdata) {
        _cleanup_(text_done) Text text = {};
        return make(&text, 15);
}

static void a_lack_of_memory_is_told(void **state) {
        fail_alloc_loop(try_table, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(columns_are_aligned),
                cmocka_unit_test(lines_are_cut_to_the_terminal),
                cmocka_unit_test(a_cut_does_not_split_a_character),
                cmocka_unit_test(what_could_control_a_terminal_is_replaced),
                cmocka_unit_test(a_lack_of_memory_is_told),
        };
        return cmocka_run_group_tests_name("text-table", tests, NULL, NULL);
}
