/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/text/unit-name.h"
#include "fail-alloc.h"
#include "test.h"

static char *repeat(const char *s, size_t n) {
        Text text = {};

        for (size_t i = 0; i < n; i++)
                check_int("repeat", text_append(&text, s), 0);
        return text.data;
}

static void ids_of_the_documented_characters_are_valid(void **state) {
        static const char *const ids[] = {
                "7",
                "a",
                "_",
                ":",
                "build-17.a_b:c",
                "a.",
                "a-",
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-",
        };

        for (FOREACH_ROW(id, ids))
                check_true(*id, task_id_valid(*id));
}

static void other_ids_are_not_valid(void **state) {
        static const char *const ids[] = {
                "",      ".",   "..",   ".a", "-",   "-a",  "a b", "a/b",
                "a%20b", "a@b", "a\\b", "ä",  "a\n", "a,b", "a+b",
        };

        for (FOREACH_ROW(id, ids))
                check_true(*id, !task_id_valid(*id));
}

static void ids_have_up_to_128_characters(void **state) {
        _cleanup_(freep) char *longest = repeat("x", TASK_ID_MAX);
        _cleanup_(freep) char *longer = repeat("x", TASK_ID_MAX + 1);

        assert_true(task_id_valid(longest));
        assert_false(task_id_valid(longer));
}

/* The middle parts are what systemd-escape(1) of systemd 252 writes. */
static void names_are_escaped_as_systemd_does(void **state) {
        static const struct {
                const char *id, *name;
        } rows[] = {
                { "7", "daggyr-task-7.scope" },
                { "a.b", "daggyr-task-a.b.scope" },
                { "a.", "daggyr-task-a..scope" },
                { ".hidden", "daggyr-task-\\x2ehidden.scope" },
                { "..", "daggyr-task-\\x2e..scope" },
                { "a-b", "daggyr-task-a\\x2db.scope" },
                { "a/b", "daggyr-task-a-b.scope" },
                { "/", "daggyr-task--.scope" },
                { "a_b", "daggyr-task-a_b.scope" },
                { "run:1", "daggyr-task-run:1.scope" },
                { "1:a%20b", "daggyr-task-1:a\\x2520b.scope" },
                { "x\\y", "daggyr-task-x\\x5cy.scope" },
                { "\xc3\xbc", "daggyr-task-\\xc3\\xbc.scope" },
                { "a b", "daggyr-task-a\\x20b.scope" },
                { "a@b", "daggyr-task-a\\x40b.scope" },
                { "\x7f\x01", "daggyr-task-\\x7f\\x01.scope" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *name = NULL;

                check_int(row->id, unit_name_from_task_id(row->id, &name), 0);
                check_text(row->id, name, row->name);
        }
}

static void the_longest_name_that_fits_is_whole(void **state) {
        _cleanup_(freep) char *id = repeat("y", UNIT_NAME_LENGTH_MAX - strlen(TASK_UNIT_PREFIX ".scope"));
        _cleanup_(freep) char *name = NULL;

        check_int("fits", unit_name_from_task_id(id, &name), 0);
        check_u64("length", strlen(name), UNIT_NAME_LENGTH_MAX);
        check_true("whole", strstr(name, id) != NULL);
}

static void a_longer_name_is_cut_between_escapes_and_ends_in_a_hash(void **state) {
        /* 220 bytes of the escaped id stay: 55 escapes of four bytes each, or 54 and what follows "x" whole.
         */
        static const struct {
                const char *label;
                const char *first;
                size_t n_escapes;
        } rows[] = {
                { "cut on the edge", "", 55 },           { "cut one byte before", "x", 54 },
                { "cut two bytes before", "xx", 54 },    { "cut three bytes before", "xxx", 54 },
                { "cut four bytes before", "xxxx", 54 },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *dashes = repeat("-", 100);
                _cleanup_(freep) char *escapes = repeat("\\x2d", row->n_escapes);
                _cleanup_(text_done) Text id = {}, want = {};
                _cleanup_(freep) char *name = NULL;

                check_int(row->label, text_appendf(&id, "%s%s", row->first, dashes), 0);
                check_int(row->label,
                          text_appendf(&want,
                                       "daggyr-task-%s%s-%016lx.scope",
                                       row->first,
                                       escapes,
                                       (unsigned long) text_hash(id.data)),
                          0);

                check_int(row->label, unit_name_from_task_id(id.data, &name), 0);
                check_text(row->label, name, want.data);
                check_true(row->label, strlen(name) <= UNIT_NAME_LENGTH_MAX);
        }
}

static void long_ids_that_differ_at_the_end_have_different_names(void **state) {
        _cleanup_(freep) char *dashes = repeat("-", 127), *a = NULL, *b = NULL;
        _cleanup_(text_done) Text id_a = {}, id_b = {};

        check_int("id", text_appendf(&id_a, "%sa", dashes), 0);
        check_int("id", text_appendf(&id_b, "%sb", dashes), 0);
        check_int("name", unit_name_from_task_id(id_a.data, &a), 0);
        check_int("name", unit_name_from_task_id(id_b.data, &b), 0);
        assert_string_not_equal(a, b);
}

static int try_name(void *userdata) {
        _cleanup_(freep) char *name = NULL;

        return unit_name_from_task_id(userdata, &name);
}

static void without_memory_there_is_no_name(void **state) {
        /* The Text grows in doublings from 64 bytes: in one of these names at the hash, in one at the suffix.
         */
        for (size_t n = 1; n <= TASK_ID_MAX; n++) {
                _cleanup_(freep) char *id = repeat("-", n);

                fail_alloc_loop(try_name, id);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(ids_of_the_documented_characters_are_valid),
                cmocka_unit_test(other_ids_are_not_valid),
                cmocka_unit_test(ids_have_up_to_128_characters),
                cmocka_unit_test(names_are_escaped_as_systemd_does),
                cmocka_unit_test(the_longest_name_that_fits_is_whole),
                cmocka_unit_test(a_longer_name_is_cut_between_escapes_and_ends_in_a_hash),
                cmocka_unit_test(long_ids_that_differ_at_the_end_have_different_names),
                cmocka_unit_test(without_memory_there_is_no_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
