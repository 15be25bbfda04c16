/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/pairs.h"
#include "fail-alloc.h"
#include "test.h"

static bool starts_lower(const char *key) {
        return key[0] >= 'a' && key[0] <= 'z' && !strchr(key, '=');
}

static const PairsRules rules = {
        .n_pairs_max = 4,
        .value_max = 3,
        .key_valid = starts_lower,
        .key_refusal = "must start with a small letter",
};

static void list_freep(char ***list) {
        text_list_free(*list);
}

static void objects_become_sorted_lists_and_objects_again(void **state) {
        static const struct {
                const char *text;
                const char *list[5];
                const char *again;
        } rows[] = {
                { "{}", { 0 }, "{}" },
                { "{\"a\":\"1\"}", { "a=1" }, "{\"a\":\"1\"}" },
                { "{\"a\":\"\"}", { "a=" }, "{\"a\":\"\"}" },
                { "{\"a\":\"=b\"}", { "a==b" }, "{\"a\":\"=b\"}" },
                { "{\"b\":\"1\",\"a\":\"2\"}", { "a=2", "b=1" }, "{\"a\":\"2\",\"b\":\"1\"}" },
                /* "-" sorts before "=", yet the shorter key goes first */
                { "{\"a-\":\"1\",\"a\":\"2\",\"aa\":\"3\",\"a!\":\"4\"}",
                  { "a=2", "a!=4", "a-=1", "aa=3" },
                  "{\"a\":\"2\",\"a!\":\"4\",\"a-\":\"1\",\"aa\":\"3\"}" },
                { "{\"a\":\"\xc3\xbc\",\"\\u0061\xc3\xbc\":\"1\"}",
                  { "a=\xc3\xbc", "a\xc3\xbc=1" },
                  "{\"a\":\"\xc3\xbc\",\"a\xc3\xbc\":\"1\"}" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text), *again = NULL;
                _cleanup_(list_freep) char **list = NULL;
                Problem problem = {};
                size_t n = 0;

                check_int(row->text, pairs_parse(object, &rules, "/x", &list, &problem), 0);
                for (; row->list[n]; n++)
                        check_text(row->text, list[n], row->list[n]);
                check_u64(row->text, text_list_count(list), n);
                check_true(row->text, n > 0 || !list);

                check_int(row->text, pairs_to_json(list, &again), 0);
                check_json(row->text, again, row->again);
        }
}

static void other_values_are_refused_with_their_place(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "[]", "/x" },
                { "\"a\"", "/x" },
                { "7", "/x" },
                { "null", "/x" },
                { "{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\"}", "/x" },
                { "{\"a\":1}", "/x/a" },
                { "{\"a\":null}", "/x/a" },
                { "{\"a\":true}", "/x/a" },
                { "{\"a\":[]}", "/x/a" },
                { "{\"a\":\"1234\"}", "/x/a" },
                { "{\"a\":\"1\",\"A\":\"1\"}", "/x/A" },
                { "{\"\":\"1\"}", "/x/" },
                { "{\"a=\":\"1\"}", "/x/a=" },
                { "{\"a/b~\":1}", "/x/a~1b~0" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *object = json_of(row->text);
                char **list = NULL;
                Problem problem = {};

                check_int(row->text, pairs_parse(object, &rules, "/x", &list, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
                check_true(row->text, !list);
        }
}

static int try_round_trip(void *userdata) {
        _cleanup_(json_putp) json_object *again = NULL;
        _cleanup_(list_freep) char **list = NULL;
        Problem problem = {};
        int r;

        r = pairs_parse(userdata, &rules, "", &list, &problem);
        if (r < 0) {
                check_problem("no memory", &problem, 503, "");
                return r;
        }

        return pairs_to_json(list, &again);
}

static void without_memory_there_are_no_pairs(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{\"a\":\"1\",\"b\":\"2\"}");

        fail_alloc_loop(try_round_trip, object);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(objects_become_sorted_lists_and_objects_again),
                cmocka_unit_test(other_values_are_refused_with_their_place),
                cmocka_unit_test(without_memory_there_are_no_pairs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
