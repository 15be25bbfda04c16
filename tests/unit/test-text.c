/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "fail-alloc.h"
#include "test.h"

static void null_equals_null_only(void **state) {
        assert_true(streq_null(NULL, NULL));
        assert_false(streq_null(NULL, ""));
        assert_false(streq_null("", NULL));
        assert_true(streq_null("a", "a"));
        assert_false(streq_null("a", "b"));
}

static void text_after_returns_the_rest_or_null(void **state) {
        assert_string_equal(text_after("Bearer x", "Bearer "), "x");
        assert_string_equal(text_after("abc", ""), "abc");
        assert_string_equal(text_after("abc", "abc"), "");
        assert_null(text_after("ab", "abc"));
        assert_null(text_after("Abc", "a"));
}

static void appending_grows_and_terminates(void **state) {
        _cleanup_(text_done) Text text = {};
        char expected[1001];

        for (int i = 0; i < 1000; i++) {
                assert_int_equal(text_append(&text, "x"), 0);
                assert_int_equal(text.size, i + 1);
                assert_int_equal(text.data[text.size], 0);
        }
        memset(expected, 'x', 1000);
        expected[1000] = '\0';
        assert_string_equal(text.data, expected);

        assert_int_equal(text_appendf(&text, "-%d-%s", 7, "y"), 0);
        assert_string_equal(text.data + 1000, "-7-y");
        assert_int_equal(text.size, 1004);

        assert_int_equal(text_append_bytes(&text, "\0z", 2), 0);
        assert_int_equal(text.size, 1006);
        assert_memory_equal(text.data + 1004, "\0z", 3);
}

static void appending_nothing_makes_an_empty_string(void **state) {
        _cleanup_(text_done) Text text = {};

        assert_int_equal(text_append_bytes(&text, NULL, 0), 0);
        assert_string_equal(text.data, "");
        assert_int_equal(text.size, 0);
}

static void a_size_that_overflows_is_out_of_memory(void **state) {
        _cleanup_(text_done) Text text = {};

        assert_int_equal(text_append(&text, "abc"), 0);
        assert_int_equal(text_append_bytes(&text, "", SIZE_MAX), -ENOMEM);
        assert_int_equal(text_append_bytes(&text, "", SIZE_MAX - 3), -ENOMEM);
        assert_string_equal(text.data, "abc");
}

static void text_done_is_idempotent(void **state) {
        Text text = {};

        assert_int_equal(text_append(&text, "abc"), 0);
        text_done(&text);
        text_done(&text);
        assert_null(text.data);
        assert_int_equal(text.size, 0);
}

static void integers_are_parsed_strictly(void **state) {
        static const struct {
                const char *s;
                uint64_t min, max;
                int r;
                uint64_t value;
        } rows[] = {
                { "0", 0, 10, 0, 0 },
                { "10", 0, 10, 0, 10 },
                { "007", 0, 10, 0, 7 },
                { "11", 0, 10, -ERANGE, 0 },
                { "1", 2, 10, -ERANGE, 0 },
                { "18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX },
                { "18446744073709551616", 0, UINT64_MAX, -ERANGE, 0 },
                { "18446744073709551620", 0, UINT64_MAX, -ERANGE, 0 },
                { "99999999999999999999999", 0, UINT64_MAX, -ERANGE, 0 },
                { "99999999999999999999999x", 0, UINT64_MAX, -EINVAL, 0 },
                { "", 0, 10, -EINVAL, 0 },
                { "-1", 0, 10, -EINVAL, 0 },
                { "+1", 0, 10, -EINVAL, 0 },
                { " 1", 0, 10, -EINVAL, 0 },
                { "1 ", 0, 10, -EINVAL, 0 },
                { "0x1", 0, 10, -EINVAL, 0 },
                { "1.0", 0, 10, -EINVAL, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                uint64_t value = 4711;

                check_int(row->s, text_parse_u64(row->s, row->min, row->max, &value), row->r);
                check_u64(row->s, value, row->r < 0 ? 4711 : row->value);
        }
}

static void decimal_numbers_are_parsed_strictly(void **state) {
        static const struct {
                const char *s;
                int r;
                double value;
        } rows[] = {
                { "0", 0, 0 },           { "0.5", 0, 0.5 },        { "-2.25", 0, -2.25 },
                { "1e3", 0, 1000 },      { "1E+3", 0, 1000 },      { "125e-2", 0, 1.25 },
                { ".5", 0, 0.5 },        { "5.", 0, 5 },           { "1e308", 0, 1e308 },
                { "1e309", -EINVAL, 0 }, { "-1e309", -EINVAL, 0 }, { "", -EINVAL, 0 },
                { ".", -EINVAL, 0 },     { "-", -EINVAL, 0 },      { "e5", -EINVAL, 0 },
                { "1e", -EINVAL, 0 },    { "1e+", -EINVAL, 0 },    { "+1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },    { "1 ", -EINVAL, 0 },     { "1,5", -EINVAL, 0 },
                { "0x1p3", -EINVAL, 0 }, { "inf", -EINVAL, 0 },    { "nan", -EINVAL, 0 },
                { "1.2.3", -EINVAL, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                double value = -4711;

                check_int(row->s, text_parse_double(row->s, &value), row->r);
                check_true(row->s, fabs(value - (row->r < 0 ? -4711 : row->value)) <= 0);
        }
}

static void percent_encoding_is_undone(void **state) {
        static const struct {
                const char *s;
                int r;
                const char *decoded;
        } rows[] = {
                { "", 0, "" },
                { "abc", 0, "abc" },
                { "a%20b", 0, "a b" },
                { "%41%5a%5A", 0, "AZZ" },
                { "%25", 0, "%" },
                { "a+b", 0, "a+b" },
                { "%C3%A9", 0, "é" },
                { "é", 0, "é" },
                { "%", -EINVAL, NULL },
                { "%4", -EINVAL, NULL },
                { "a%4", -EINVAL, NULL },
                { "%zz", -EINVAL, NULL },
                { "%4g", -EINVAL, NULL },
                { "%%41", -EINVAL, NULL },
                { "%00", -EILSEQ, NULL },
                { "a%00b", -EILSEQ, NULL },
                { "%C3", -EILSEQ, NULL },
                { "%ff", -EILSEQ, NULL },
                { "%ED%A0%80", -EILSEQ, NULL },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *decoded = NULL;

                check_int(row->s, text_percent_decode(row->s, strlen(row->s), &decoded), row->r);
                check_text(row->s, decoded, row->decoded);
        }
}

static void only_the_given_size_is_decoded(void **state) {
        _cleanup_(freep) char *decoded = NULL;

        assert_int_equal(text_percent_decode("ab%20", 2, &decoded), 0);
        assert_string_equal(decoded, "ab");
        assert_int_equal(text_percent_decode("ab%20", 4, &decoded), -EINVAL);
        assert_int_equal(text_percent_decode("a\0b", 3, &decoded), -EILSEQ);
        assert_string_equal(decoded, "ab");
}

static void percent_encoding_keeps_what_it_is_told_to(void **state) {
        static const struct {
                const char *s, *keep, *encoded;
        } rows[] = {
                { "", "", "" },
                { "azAZ09", "", "azAZ09" },
                { "@[`{/:", "", "%40%5B%60%7B%2F%3A" },
                { "a b", "", "a%20b" },
                { "a.b-c:d", ".:", "a.b%2Dc:d" },
                { "é%", "", "%C3%A9%25" },
                { "\x7f\n", "", "%7F%0A" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *encoded = NULL, *decoded = NULL;

                check_int(row->s, text_percent_encode(row->s, row->keep, &encoded), 0);
                check_text(row->s, encoded, row->encoded);
                check_int(row->s, text_percent_decode(encoded, strlen(encoded), &decoded), 0);
                check_text(row->s, decoded, row->s);
        }
}

/* Expectations are those of Unicode 15, section 3.9, tables 3-8 to 3-11. */
static const struct {
        const char *bytes;
        bool valid;
        const char *shown;
} utf8_rows[] = {
        { "", true, "" },
        { "plain", true, "plain" },
        { "\xc2\x80 \xdf\xbf", true, "\xc2\x80 \xdf\xbf" },
        { "\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf",
          true,
          "\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf" },
        { "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", true, "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf" },
        { "sixteen letters.\xc3\xa9 and more", true, "sixteen letters.\xc3\xa9 and more" },
        { "sixteen letters.\xff", false, "sixteen letters.�" },
        { "\x80", false, "�" },
        { "a\xbf"
          "b",
          false,
          "a�b" },
        { "\xc0\xaf", false, "��" },
        { "\xc1\xbf", false, "��" },
        { "\xe0\x80\xbf", false, "���" },
        { "\xe0\x9f\x80", false, "���" },
        { "\xf0\x81\x82\x41", false, "���A" },
        { "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", false, "��������A" },
        { "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", false, "�����A��B" },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", false, "����A" },
        { "\xf5\x80\x80\x80", false, "����" },
        { "\xc3", false, "�" },
        { "\xe2\x82", false, "�" },
        { "\xf0\x9f\x98", false, "�" },
        { "\xf0\x9f\x98z", false, "�z" },
        { "ok\xff", false, "ok�" },
        { "\xffok", false, "�ok" },
};

static void utf8_is_recognised(void **state) {
        for (FOREACH_ROW(row, utf8_rows))
                check_int(row->shown, text_is_utf8(row->bytes, strlen(row->bytes)), row->valid);
}

static void ill_formed_utf8_is_shown_as_replacement_characters(void **state) {
        for (FOREACH_ROW(row, utf8_rows)) {
                _cleanup_(freep) char *shown = NULL;
                size_t size;

                check_int(row->shown, text_to_utf8_lossy(row->bytes, strlen(row->bytes), &shown, &size), 0);
                check_text(row->shown, shown, row->shown);
                check_u64(row->shown, size, strlen(row->shown));
        }
}

static void nul_is_shown_as_a_replacement_character(void **state) {
        _cleanup_(freep) char *shown = NULL, *empty = NULL;
        size_t size;

        assert_int_equal(text_to_utf8_lossy("\0a\0\0b\0", 6, &shown, &size), 0);
        assert_string_equal(shown, "�a��b�");
        assert_int_equal(size, strlen(shown));

        assert_int_equal(text_to_utf8_lossy(NULL, 0, &empty, &size), 0);
        assert_string_equal(empty, "");
        assert_int_equal(size, 0);
}

static void cutting_splits_no_character(void **state) {
        static const struct {
                const char *s;
                size_t max, size;
        } rows[] = {
                { "abc", 5, 3 }, { "abc", 3, 3 }, { "abc", 2, 2 }, { "abc", 0, 0 },  { "aé", 3, 3 },
                { "aé", 2, 1 },  { "€", 2, 0 },   { "a😀", 4, 1 }, { "a😀b", 5, 5 },
        };

        for (FOREACH_ROW(row, rows))
                check_u64(row->s, text_cut(row->s, row->max), row->size);
}

static void hashing_is_fnv_1a(void **state) {
        assert_true(text_hash("") == UINT64_C(0xcbf29ce484222325));
        assert_true(text_hash("a") == UINT64_C(0xaf63dc4c8601ec8c));
        assert_true(text_hash("foobar") == UINT64_C(0x85944171f73967e8));
}

static void lists_are_counted_and_freed(void **state) {
        char *list[] = { (char[]) { "a" }, (char[]) { "b" }, NULL };
        char **owned;

        assert_int_equal(text_list_count(NULL), 0);
        assert_int_equal(text_list_count(list), 2);
        assert_int_equal(text_list_count(list + 2), 0);

        owned = calloc(3, sizeof(char *));
        assert_non_null(owned);
        owned[0] = strdup("x");
        owned[1] = strdup("y");
        assert_null(text_list_free(owned));
        assert_null(text_list_free(NULL));
}

static int try_append(void *userdata) {
        _cleanup_(text_done) Text text = {};
        static const char long_string[300] = { [0 ... 298] = 'x' };
        int r;

        r = text_append(&text, "abc");
        if (r < 0) {
                assert_null(text.data);
                return r;
        }
        r = text_appendf(&text, "%s", long_string);
        if (r < 0) {
                assert_string_equal(text.data, "abc");
                assert_int_equal(text.size, 3);
        }
        return r;
}

static int try_percent(void *userdata) {
        _cleanup_(freep) char *encoded = NULL, *decoded = NULL;
        int r;

        r = text_percent_encode("a b c", "", &encoded);
        if (r < 0) {
                assert_null(encoded);
                return r;
        }
        r = text_percent_decode(encoded, strlen(encoded), &decoded);
        if (r < 0)
                assert_null(decoded);
        return r;
}

static int try_lossy(void *userdata) {
        static const char bytes[200] = { [0 ... 199] = '\xff' };
        _cleanup_(freep) char *shown = NULL;
        size_t size = 1;
        int r;

        r = text_to_utf8_lossy(bytes, sizeof(bytes), &shown, &size);
        if (r < 0) {
                assert_null(shown);
                assert_int_equal(size, 1);
        }
        return r;
}

static void a_piece_is_trimmed_to_whole_characters(void **state) {
        static const struct {
                const char *label, *bytes;
                size_t begin, end;
        } rows[] = {
                { "nothing", "", 0, 0 },
                { "ASCII", "abc", 0, 3 },
                { "whole", "\xe2\x82\xac", 0, 3 },
                { "one byte before",
                  "\xac"
                  "a",
                  1,
                  2 },
                { "two bytes before",
                  "\x82\xac"
                  "a",
                  2,
                  3 },
                { "one of three", "a\xe2", 0, 1 },
                { "two of three", "a\xe2\x82", 0, 1 },
                { "one of two", "a\xc3", 0, 1 },
                { "one of four", "a\xf0", 0, 1 },
                { "three of four", "a\xf0\x9f\x90", 0, 1 },
                { "nothing but a beginning", "\xf0\x9f\x90", 0, 0 },
                { "beginning of nothing", "a\xff", 0, 2 },
                { "beginning of a surrogate", "a\xed\xa0", 0, 3 },
                { "beginning with a wrong byte",
                  "a\xe2"
                  "a",
                  0,
                  3 },
                { "continuations of nothing", "\x80\x80\x80\x80\x80", 3, 5 },
        };
        for (FOREACH_ROW(row, rows)) {
                size_t size = strlen(row->bytes);
                check_u64(row->label, text_cut_off_begin(row->bytes, size), row->begin);
                check_u64(row->label, text_cut_off_end(row->bytes, size), row->end);
        }
}

static void failing_allocations_leave_everything_as_it_was(void **state) {
        fail_alloc_loop(try_append, NULL);
        fail_alloc_loop(try_percent, NULL);
        fail_alloc_loop(try_lossy, NULL);
}

static void a_formatted_string_is_new(void **state) {
        char before[] = "what was there before", *text = before;
        assert_int_equal(text_format(&text, "%s-%d", "a", 7), 0);
        check_text("formatted", text, "a-7");
        check_text("left alone", before, "what was there before");
        free(text);
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

static void lists_grow_by_copies(void **state) {
        _cleanup_(text_list_freep) char **list = NULL;
        char word[] = "a";

        assert_int_equal(text_list_append(&list, word), 0);
        word[0] = 'b';
        assert_int_equal(text_list_append(&list, word), 0);
        assert_int_equal(text_list_count(list), 2);
        assert_string_equal(list[0], "a");
        assert_string_equal(list[1], "b");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_formatted_string_is_new),
                cmocka_unit_test(what_could_control_a_terminal_is_replaced),
                cmocka_unit_test(null_equals_null_only),
                cmocka_unit_test(text_after_returns_the_rest_or_null),
                cmocka_unit_test(appending_grows_and_terminates),
                cmocka_unit_test(appending_nothing_makes_an_empty_string),
                cmocka_unit_test(a_size_that_overflows_is_out_of_memory),
                cmocka_unit_test(text_done_is_idempotent),
                cmocka_unit_test(integers_are_parsed_strictly),
                cmocka_unit_test(decimal_numbers_are_parsed_strictly),
                cmocka_unit_test(percent_encoding_is_undone),
                cmocka_unit_test(only_the_given_size_is_decoded),
                cmocka_unit_test(percent_encoding_keeps_what_it_is_told_to),
                cmocka_unit_test(utf8_is_recognised),
                cmocka_unit_test(ill_formed_utf8_is_shown_as_replacement_characters),
                cmocka_unit_test(nul_is_shown_as_a_replacement_character),
                cmocka_unit_test(cutting_splits_no_character),
                cmocka_unit_test(a_piece_is_trimmed_to_whole_characters),
                cmocka_unit_test(hashing_is_fnv_1a),
                cmocka_unit_test(lists_are_counted_and_freed),
                cmocka_unit_test(lists_grow_by_copies),
                cmocka_unit_test(failing_allocations_leave_everything_as_it_was),
        };

        return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
