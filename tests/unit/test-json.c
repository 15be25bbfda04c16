/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/json/json.h"
#include "fail-alloc.h"
#include "test.h"

static int parse(const char *text, json_object **ret, Problem *problem) {
        return json_parse(text, strlen(text), ret, problem);
}

/* Checks that TEXT is refused and that the problem's detail has REASON in it (NULL: any). */
static void check_refused(const char *text, size_t size, const char *reason) {
        json_object *object = NULL;
        Problem problem = {};

        check_int(text, json_parse(text, size, &object, &problem), -EINVAL);
        check_true(text, !object);
        check_problem(text, &problem, 400, "");
        if (reason && !strstr(problem.detail, reason))
                check_text(text, problem.detail, reason);
}

static void good_texts_come_out_as_they_went_in(void **state) {
        static const char *const rows[] = {
                "{}",
                "[]",
                "null",
                "true",
                "false",
                "0",
                "-1",
                "5",
                "\"\"",
                "\"a b\"",
                "1.5",
                "1e5",
                "-0.25E-2",
                "9223372036854775807",
                "-9223372036854775807",
                "18446744073709551614",
                "{\"\":0}",
                "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}",
                "{\"a:b\":\"c:d\",\"e,\":\"{[]}\"}",
                "\"\\\"\\\\\\b\\f\\n\\r\\t\"",
                "\"é€😀\"",
                "\"\x7f\"",
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(*row), *again = NULL;
                _cleanup_(freep) char *text = NULL;
                size_t size;

                check_int(*row, json_format(object, &text, &size), 0);
                check_text(*row, text, *row);
                check_u64(*row, size, strlen(*row));
                again = json_of(text);
                check_true(*row, json_object_equal(object, again));
        }
}

static void escapes_and_white_space_are_understood(void **state) {
        static const struct {
                const char *text, *formatted;
        } rows[] = {
                { " \t\r\n{ \"a\" : [ 1 , 2 ] } \n", "{\"a\":[1,2]}" },
                { "5 ", "5" },
                { "\"\\/\"", "\"/\"" },
                { "\"\\u0041\\u00e9\\u20AC\"", "\"Aé€\"" },
                { "\"\\ud83d\\ude00\"", "\"😀\"" },
                { "{\"\\u0061\":1}", "{\"a\":1}" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);

                check_json(row->text, object, row->formatted);
        }
}

static void what_rfc8259_does_not_know_is_refused(void **state) {
        static const struct {
                const char *text, *reason;
        } rows[] = {
                { "", "unexpected end" },
                { "  ", "unexpected end" },
                { "{", "unexpected end" },
                { "[1,2", "unexpected end" },
                { "{\"a\"", "unexpected end" },
                { "{\"a\":", "unexpected end" },
                { "\"abc", "string without end" },
                { "\"abc\\", "unknown escape" },
                { "\"abc\\\"", "string without end" },
                { "{}x", "line 1, column 3" },
                { "{}{}", NULL },
                { "{} []", NULL },
                { "1 2", "line 1, column 3" },
                { "}", "line 1, column 1" },
                { "[}", NULL },
                { "{]", NULL },
                { "[1,]", NULL },
                { "[,1]", NULL },
                { "[1,,2]", NULL },
                { "[1 2]", NULL },
                { "[1true]", NULL },
                { "[\"a\"\"b\"]", NULL },
                { "{\"a\":1,}", NULL },
                { "{,\"a\":1}", NULL },
                { "{\"a\" 1}", NULL },
                { "{\"a\":1 \"b\":2}", NULL },
                { "{\"a\",1}", NULL },
                { "{\"a\":1:2}", NULL },
                { "[\"a\":1]", NULL },
                { "{1:2}", NULL },
                { "{a:2}", NULL },
                { ":", NULL },
                { ",", NULL },
                { "{'a':1}", "line 1, column 2" },
                { "['a']", "line 1, column 2" },
                { "[1]//x", NULL },
                { "/*x*/[1]", NULL },
                { "NaN", NULL },
                { "-NaN", NULL },
                { "Infinity", NULL },
                { "-Infinity", NULL },
                { "nan", NULL },
                { "True", NULL },
                { "tru", NULL },
                { "truex", NULL },
                { "nul", NULL },
                { "nullnull", NULL },
                { "01", NULL },
                { "-01", NULL },
                { "00", NULL },
                { "+1", NULL },
                { "-", "malformed number" },
                { "1.", "malformed number" },
                { ".5", NULL },
                { "1.e5", "malformed number" },
                { "1e", "malformed number" },
                { "1e+", "malformed number" },
                { "1.5.5", NULL },
                { "0x10", NULL },
                { "1-2", NULL },
                { "\"\\x41\"", "unknown escape" },
                { "\"\\'\"", "unknown escape" },
                { "\"\\u12\"", "\\u escape" },
                { "\"\\u12g4\"", "\\u escape" },
                { "\"\\U0041\"", "unknown escape" },
                { "\"\\u0000\"", "NUL" },
                { "{\"a\\u0000b\":1}", "NUL" },
                { "\"\\ud800\"", "surrogate" },
                { "\"\\ud800x\"", "surrogate" },
                { "\"\\ud800\\n\"", "surrogate" },
                { "\"\\ud800\\u0041\"", "surrogate" },
                { "\"\\ud800\\ud800\"", "surrogate" },
                { "\"\\udc00\"", "surrogate" },
                { "\"a\nb\"", "control character" },
                { "\"\t\"", "control character" },
                { "\"\x1f\"", "control character" },
                { "[1]\v", NULL },
                { "\xc2\xa0[1]", NULL },
                { "\xef\xbb\xbf[1]", "line 1, column 1" },
                { "\"\xff\"", "not UTF-8" },
                { "\"\xc0\xaf\"", "not UTF-8" },
                { "\"\xed\xa0\x80\"", "not UTF-8" },
                { "[1]\xff", "not UTF-8" },
        };

        for (FOREACH_ROW(row, rows))
                check_refused(row->text, strlen(row->text), row->reason);
}

static void raw_nul_is_refused(void **state) {
        check_refused("\"a\0b\"", 5, "NUL");
        check_refused("[1]\0", 4, NULL);
        check_refused("[1\0]", 4, NULL);
        check_refused("\0", 1, NULL);
        check_refused("{}\0{}", 5, NULL);
        check_refused("5\0", 2, NULL);
}

static void nothing_behind_the_given_size_is_read(void **state) {
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem;

        assert_int_equal(json_parse("12345", 3, &object, &problem), 0);
        assert_int_equal(json_object_get_int(object), 123);
        check_refused("true", 3, NULL);
        check_refused("\"\\u0041\"", 6, "\\u escape");
        check_refused("\"\\ud83d\\ude00\"", 8, "surrogate");
}

static void duplicate_keys_are_refused(void **state) {
        static const char *const rows[] = {
                "{\"a\":1,\"a\":1}",   "{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":1,\"\\u0061\":2}",
                "{\"\":1,\"\":2}",     "{\"o\":{\"a\":1,\"a\":2}}", "[[{\"a\":null,\"a\":null}]]",
                "{\"a\":{},\"a\":{}}",
        };

        for (FOREACH_ROW(row, rows))
                check_refused(*row, strlen(*row), "same key twice");
}

static void errors_are_placed_by_line_and_column(void **state) {
        static const char unexpected[] = "{\n  \"é\": 1,\n  \"è\" x\n}";
        static const char twice[] = "{\n  \"é\": 1,\n  \"\\u00e9\": 2\n}";

        check_refused(unexpected, strlen(unexpected), "unexpected character at line 3, column 7");
        check_refused(twice, strlen(twice), "same key twice in one object at line 3, column 3");
}

/* N times OPEN, MIDDLE, N times CLOSE. */
static void nest(Text *text, size_t n, const char *open, const char *middle, const char *close) {
        for (size_t i = 0; i < n; i++)
                assert_int_equal(text_append(text, open), 0);
        assert_int_equal(text_append(text, middle), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(text_append(text, close), 0);
}

static void nesting_is_limited(void **state) {
        static const struct {
                const char *open, *middle, *close;
        } rows[] = {
                { "[", "", "]" },
                { "[", "1", "]" },
                { "{\"a\":", "1", "}" },
                { "[{\"a\":", "1", "}]" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(text_done) Text good = {}, bad = {};
                size_t n = JSON_DEPTH_MAX / (row->open[1] == '{' ? 2 : 1);
                json_object *object;

                nest(&good, n, row->open, row->middle, row->close);
                object = json_of(good.data);
                json_object_put(object);

                nest(&bad, n + 1, row->open, row->middle, row->close);
                check_refused(bad.data, bad.size, "nested too deeply");
        }
}

static void containers_are_limited(void **state) {
        _cleanup_(text_done) Text text = {};
        json_object *object;

        assert_int_equal(text_append(&text, "[{}"), 0);
        for (size_t i = 2; i < JSON_CONTAINERS_MAX; i++)
                assert_int_equal(text_append(&text, ",{}"), 0);
        text.data[text.size] = ']';
        object = NULL;
        {
                Problem problem = {};

                assert_int_equal(json_parse(text.data, text.size + 1, &object, &problem), 0);
                json_object_put(object);
        }
        text.data[text.size] = '\0';

        assert_int_equal(text_append(&text, ",{}]"), 0);
        check_refused(text.data, text.size, "too many objects and arrays");
}

static void integers_are_exact_and_never_clamped(void **state) {
        static const struct {
                const char *text;
                uint64_t min, max;
                int r;
                uint64_t value;
        } rows[] = {
                { "0", 0, 10, 0, 0 },
                { "-0", 0, 10, 0, 0 },
                { "10", 0, 10, 0, 10 },
                { "11", 0, 10, -ERANGE, 0 },
                { "1", 2, 10, -ERANGE, 0 },
                { "-1", 0, 10, -ERANGE, 0 },
                { "-1", 0, UINT64_MAX, -ERANGE, 0 },
                { "9007199254740993", 0, UINT64_MAX, 0, UINT64_C(9007199254740993) },
                { "9223372036854775807", 0, UINT64_MAX, 0, INT64_MAX },
                { "9223372036854775808", 0, UINT64_MAX, 0, UINT64_C(9223372036854775808) },
                { "18446744073709551614", 0, UINT64_MAX, 0, UINT64_MAX - 1 },
                { "18446744073709551615", 0, UINT64_MAX, -ERANGE, 0 },
                { "1.0", 0, 10, 0, 1 },
                { "1e1", 0, 10, 0, 10 },
                { "1.5", 0, 10, -EINVAL, 0 },
                { "11.0", 0, 10, -ERANGE, 0 },
                { "-1.0", 0, 10, -ERANGE, 0 },
                { "1e400", 0, UINT64_MAX, -ERANGE, 0 },
                { "18446744073709551616.0", 0, UINT64_MAX, -ERANGE, 0 },
                { "\"1\"", 0, 10, -EINVAL, 0 },
                { "true", 0, 10, -EINVAL, 0 },
                { "null", 0, 10, -EINVAL, 0 },
                { "[1]", 0, 10, -EINVAL, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);
                uint64_t value = 4711;

                check_int(row->text, json_get_u64(object, row->min, row->max, &value), row->r);
                check_u64(row->text, value, row->r < 0 ? 4711 : row->value);
        }
}

static void integers_beyond_64_bits_are_never_read(void **state) {
        static const char *const rows[] = {
                "18446744073709551616", "18446744073709551617", "100000000000000000000000000000000000000000",
                "-9223372036854775808", "-9223372036854775809", "-100000000000000000000000000000000000000000",
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = NULL;
                uint64_t integer = 4711;
                double number = 4711;

                object = json_of(*row);
                check_int(*row, json_get_u64(object, 0, UINT64_MAX, &integer), -ERANGE);
                check_u64(*row, integer, 4711);
                check_int(*row, json_get_double(object, -1e300, 1e300, &number), -ERANGE);
        }
}

static void numbers_are_finite_and_within_bounds(void **state) {
        static const struct {
                const char *text;
                double min, max;
                int r;
                double value;
        } rows[] = {
                { "1", 0, 10, 0, 1 },
                { "1.5", 0, 10, 0, 1.5 },
                { "1e1", 0, 10, 0, 10 },
                { "0.01", 0.01, 10, 0, 0.01 },
                { "0.0099", 0.01, 10, -ERANGE, 0 },
                { "10.5", 0, 10, -ERANGE, 0 },
                { "-1", 0, 10, -ERANGE, 0 },
                { "-1", -1, 10, 0, -1 },
                { "1e400", 0, INFINITY, -ERANGE, 0 },
                { "-1e400", -INFINITY, 0, -ERANGE, 0 },
                { "9223372036854775808", 0, 1e300, 0, 9223372036854775808.0 },
                { "\"1\"", 0, 10, -EINVAL, 0 },
                { "null", 0, 10, -EINVAL, 0 },
                { "{}", 0, 10, -EINVAL, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);
                double value = 4711;

                check_int(row->text, json_get_double(object, row->min, row->max, &value), row->r);
                check_true(row->text, fabs(value - (row->r < 0 ? 4711 : row->value)) <= 0);
        }
}

typedef struct Sample {
        bool flag;
        uint64_t count;
        usec_t span_usec;
        char *name;
        char **words;
} Sample;

static const JsonField sample_fields[] = {
        { "flag", json_field_bool, offsetof(Sample, flag) },
        { "count", json_field_u64, offsetof(Sample, count), .required = true, .min = 1, .max = 100 },
        { "span", json_field_seconds, offsetof(Sample, span_usec), .min = 0.5, .max = 60 },
        { "name", json_field_string, offsetof(Sample, name), .min = 1, .max = 5 },
        { "words", json_field_strings, offsetof(Sample, words), .min = 1, .max = 3 },
        {},
};

static void sample_done(Sample *sample) {
        free(sample->name);
        text_list_free(sample->words);
}

static void fields_are_stored_where_the_table_says(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"flag\":true,\"count\":100,\"span\":0.5,\"name\":\"käse\",\"words\":[\"\",\"b\"]}");
        _cleanup_(sample_done) Sample sample = { .name = strdup("old"), .words = calloc(1, sizeof(char *)) };
        Problem problem = {};

        assert_int_equal(
                        json_dispatch(object, sample_fields, JSON_UNKNOWN_REFUSED, "", &sample, &problem), 0);
        assert_true(sample.flag);
        assert_int_equal(sample.count, 100);
        assert_int_equal(sample.span_usec, 500000);
        assert_string_equal(sample.name, "käse");
        assert_int_equal(text_list_count(sample.words), 2);
        assert_string_equal(sample.words[0], "");
        assert_string_equal(sample.words[1], "b");
        assert_int_equal(problem.status, 0);
}

static void fields_on_their_bounds_are_good(void **state) {
        static const char *const rows[] = {
                "{\"count\":1,\"span\":60,\"name\":\"x\",\"words\":[\"a\"]}",
                "{\"count\":100,\"span\":0.5,\"name\":\"12345\",\"words\":[\"a\",\"b\",\"c\"]}",
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(*row);
                _cleanup_(sample_done) Sample sample = {};
                Problem problem = {};

                check_int(*row,
                          json_dispatch(object, sample_fields, JSON_UNKNOWN_REFUSED, "", &sample, &problem),
                          0);
        }
}

static void bad_fields_are_named(void **state) {
        static const struct {
                const char *text, *field, *detail;
        } rows[] = {
                { "null", "", "must be a JSON object" },
                { "[]", "", "must be a JSON object" },
                { "\"x\"", "", "must be a JSON object" },
                { "{}", "/count", "is required" },
                { "{\"count\":1,\"x\":2}", "/x", "unknown key" },
                { "{\"count\":1,\"a/b~c\":2}", "/a~1b~0c", "unknown key" },
                { "{\"count\":1,\"\":2}", "/", "unknown key" },
                { "{\"count\":1,\"x\":null}", "/x", "unknown key" },
                { "{\"count\":null}", "/count", "must not be null" },
                { "{\"count\":0}", "/count", "must be an integer between 1 and 100" },
                { "{\"count\":101}", "/count", "must be an integer between 1 and 100" },
                { "{\"count\":1.5}", "/count", "must be an integer between 1 and 100" },
                { "{\"count\":\"1\"}", "/count", "must be an integer between 1 and 100" },
                { "{\"count\":1,\"flag\":1}", "/flag", "must be true or false" },
                { "{\"count\":1,\"flag\":\"true\"}", "/flag", "must be true or false" },
                { "{\"count\":1,\"flag\":null}", "/flag", "must not be null" },
                { "{\"count\":1,\"span\":0.4}", "/span", "must be a number of seconds between 0.5 and 60" },
                { "{\"count\":1,\"span\":61}", "/span", "must be a number of seconds between 0.5 and 60" },
                { "{\"count\":1,\"span\":\"1\"}", "/span", "must be a number of seconds between 0.5 and 60" },
                { "{\"count\":1,\"name\":1}", "/name", "must be a string" },
                { "{\"count\":1,\"name\":\"\"}", "/name", "must not be empty" },
                { "{\"count\":1,\"name\":\"käsese\"}", "/name", "must be a string of 1 to 5 characters" },
                { "{\"count\":1,\"words\":\"a\"}", "/words", "must be an array of strings" },
                { "{\"count\":1,\"words\":[]}", "/words", "must be an array of 1 to 3 strings" },
                { "{\"count\":1,\"words\":[\"\",\"\",\"\",\"\"]}",
                  "/words",
                  "must be an array of 1 to 3 strings" },
                { "{\"count\":1,\"words\":[\"a\",null]}", "/words/1", "must be a string" },
                { "{\"count\":1,\"words\":[1]}", "/words/0", "must be a string" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);
                _cleanup_(sample_done) Sample sample = {};
                Problem problem = {};
                int r;

                r = json_dispatch(object, sample_fields, JSON_UNKNOWN_REFUSED, "", &sample, &problem);
                check_int(row->text, r, -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
                check_text(row->text, problem.detail, row->detail);
        }
}

static void unknown_keys_can_be_ignored(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{\"x\":{\"count\":null},\"count\":7,\"y\":null}");
        _cleanup_(sample_done) Sample sample = {};
        Problem problem = {};

        assert_int_equal(
                        json_dispatch(object, sample_fields, JSON_UNKNOWN_IGNORED, "", &sample, &problem), 0);
        assert_int_equal(sample.count, 7);
}

static void fields_are_named_below_the_objects_own_path(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{\"count\":0}"), *array = json_of("[]");
        _cleanup_(sample_done) Sample sample = {};
        Problem problem = {};

        assert_int_equal(
                        json_dispatch(object, sample_fields, JSON_UNKNOWN_REFUSED, "/a/3", &sample, &problem),
                        -EINVAL);
        check_problem("member", &problem, 400, "/a/3/count");
        assert_int_equal(
                        json_dispatch(array, sample_fields, JSON_UNKNOWN_REFUSED, "/a/3", &sample, &problem),
                        -EINVAL);
        check_problem("itself", &problem, 400, "/a/3");
        assert_string_equal(problem.detail, "must be an object");
}

static void pointers_are_escaped_and_cut(void **state) {
        static const struct {
                const char *path, *key, *joined;
        } rows[] = {
                { "", "a", "/a" },     { "", "", "/" },
                { "/a", "b", "/a/b" }, { "/a", "b/c~d", "/a/b~1c~0d" },
                { "", "~1", "/~01" },  { "", "é", "/é" },
        };
        char buffer[PROBLEM_FIELD_SIZE], long_key[1000];

        for (FOREACH_ROW(row, rows)) {
                json_pointer_join(buffer, row->path, row->key);
                check_text(row->joined, buffer, row->joined);
        }

        json_pointer_join(buffer, "", "a");
        json_pointer_join(buffer, buffer, "b");
        assert_string_equal(buffer, "/a/b");

        memset(long_key, 'x', sizeof(long_key) - 1);
        long_key[sizeof(long_key) - 1] = '\0';
        json_pointer_join(buffer, "", long_key);
        assert_int_equal(strlen(buffer), PROBLEM_FIELD_SIZE - 1);
        json_pointer_join(buffer, buffer, "y");
        assert_int_equal(strlen(buffer), PROBLEM_FIELD_SIZE - 1);

        /* What would come to stand on the edge is left out as a whole. */
        for (size_t i = PROBLEM_FIELD_SIZE - 4; i < PROBLEM_FIELD_SIZE; i++) {
                static const char *const edges[] = { "~", "/", "é", "€", "😀" };

                for (FOREACH_ROW(edge, edges)) {
                        size_t size;

                        memset(long_key, 'x', sizeof(long_key));
                        (void) snprintf(long_key + i, sizeof(long_key) - i, "%szzzzzz", *edge);
                        json_pointer_join(buffer, "", long_key);
                        size = strlen(buffer);
                        check_true(*edge, size < PROBLEM_FIELD_SIZE);
                        check_true(*edge, text_is_utf8(buffer, size));
                        check_true(*edge, buffer[size - 1] != '~');
                }
        }
}

static void numbers_are_written_in_their_shortest_form(void **state) {
        static const struct {
                double value;
                const char *text;
        } rows[] = {
                { 0, "0" },
                { -0.0, "0" },
                { 1, "1" },
                { -7, "-7" },
                { 0.5, "0.5" },
                { 0.1, "0.1" },
                { 0.64, "0.64" },
                { 1.0 / 3, "0.3333333333333333" },
                { 2.0 / 3, "0.6666666666666666" },
                { 0.1 + 0.2, "0.30000000000000004" },
                { 1e15, "1000000000000000" },
                { 9007199254740992.0, "9007199254740992" },
                { 1e22, "1e+22" },
                { 5e-324, "4.94065645841247e-324" },
                { 1.7976931348623157e308, "1.7976931348623157e+308" },
                { -2.2250738585072014e-308, "-2.2250738585072014e-308" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_new_double(row->value), *again = NULL;
                double value;

                check_json(row->text, object, row->text);
                again = json_of(row->text);
                check_int(row->text, json_get_double(again, -INFINITY, INFINITY, &value), 0);
                check_true(row->text, !islessgreater(value, row->value));
        }
}

static void members_are_added_and_written(void **state) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *array = json_object_new_array();
        char *words[] = { (char[]) { "a" }, (char[]) { "" }, NULL };

        assert_int_equal(json_add_null(object, "n"), 0);
        assert_int_equal(json_add_bool(object, "b", true), 0);
        assert_int_equal(json_add_u64(object, "u", UINT64_MAX), 0);
        assert_int_equal(json_add_i64(object, "i", INT64_MIN), 0);
        assert_int_equal(json_add_double(object, "d", 1.5), 0);
        assert_int_equal(json_add_string(object, "s", "a/\"é\"\n"), 0);
        assert_int_equal(json_add_string(object, "sn", NULL), 0);
        assert_int_equal(json_add_strings(object, "l", words), 0);
        assert_int_equal(json_add_strings(object, "ln", NULL), 0);
        assert_int_equal(json_append(array, json_object_new_string("x")), 0);
        assert_int_equal(json_add(object, "a", TAKE_PTR(array)), 0);
        check_json("all",
                   object,
                   "{\"n\":null,\"b\":true,\"u\":18446744073709551615,\"i\":-9223372036854775808,\"d\":1.5,"
                   "\"s\":\"a/\\\"é\\\"\\n\",\"sn\":null,\"l\":[\"a\",\"\"],\"ln\":[],\"a\":[\"x\"]}");
}

static void a_value_that_could_not_be_made_is_out_of_memory(void **state) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *array = json_object_new_array();

        assert_int_equal(json_add(object, "a", NULL), -ENOMEM);
        assert_int_equal(json_append(array, NULL), -ENOMEM);
        check_json("object", object, "{}");
        check_json("array", array, "[]");
}

static int try_parse_and_format(void *userdata) {
        _cleanup_(json_putp) json_object *object = NULL;
        _cleanup_(freep) char *text = NULL;
        Problem problem = {};
        size_t size = 4711;
        int r;

        r = parse("{\"a\":[1,2]}", &object, &problem);
        if (r < 0) {
                assert_null(object);
                assert_int_equal(problem.status, 503);
                return r;
        }
        r = json_format(object, &text, &size);
        if (r < 0) {
                assert_null(text);
                assert_int_equal(size, 4711);
        }
        return r;
}

static int try_dispatch(void *userdata) {
        _cleanup_(sample_done) Sample sample = {};
        Problem problem = {};
        int r;

        r = json_dispatch(userdata, sample_fields, JSON_UNKNOWN_REFUSED, "", &sample, &problem);
        assert_int_equal(problem.status, r < 0 ? 503 : 0);
        return r;
}

static int try_build(void *userdata) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        char *words[] = { (char[]) { "a" }, (char[]) { "b" }, NULL };
        int r;

        if (!object)
                return -ENOMEM;
        r = json_add_null(object, "n");
        if (r < 0)
                return r;
        r = json_add_bool(object, "b", false);
        if (r < 0)
                return r;
        r = json_add_u64(object, "u", 1);
        if (r < 0)
                return r;
        r = json_add_i64(object, "i", 1);
        if (r < 0)
                return r;
        r = json_add_double(object, "d", 0.1);
        if (r < 0)
                return r;
        r = json_add_string(object, "s", "x");
        if (r < 0)
                return r;
        return json_add_strings(object, "l", words);
}

static void failing_allocations_are_reported(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"count\":1,\"name\":\"abc\",\"words\":[\"a\",\"b\"]}");

        fail_alloc_loop(try_parse_and_format, NULL);
        fail_alloc_loop(try_dispatch, object);
        fail_alloc_loop(try_build, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_texts_come_out_as_they_went_in),
                cmocka_unit_test(escapes_and_white_space_are_understood),
                cmocka_unit_test(what_rfc8259_does_not_know_is_refused),
                cmocka_unit_test(raw_nul_is_refused),
                cmocka_unit_test(nothing_behind_the_given_size_is_read),
                cmocka_unit_test(duplicate_keys_are_refused),
                cmocka_unit_test(errors_are_placed_by_line_and_column),
                cmocka_unit_test(nesting_is_limited),
                cmocka_unit_test(containers_are_limited),
                cmocka_unit_test(integers_are_exact_and_never_clamped),
                cmocka_unit_test(integers_beyond_64_bits_are_never_read),
                cmocka_unit_test(numbers_are_finite_and_within_bounds),
                cmocka_unit_test(fields_are_stored_where_the_table_says),
                cmocka_unit_test(fields_on_their_bounds_are_good),
                cmocka_unit_test(bad_fields_are_named),
                cmocka_unit_test(unknown_keys_can_be_ignored),
                cmocka_unit_test(fields_are_named_below_the_objects_own_path),
                cmocka_unit_test(pointers_are_escaped_and_cut),
                cmocka_unit_test(numbers_are_written_in_their_shortest_form),
                cmocka_unit_test(members_are_added_and_written),
                cmocka_unit_test(a_value_that_could_not_be_made_is_out_of_memory),
                cmocka_unit_test(failing_allocations_are_reported),
        };

        return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
