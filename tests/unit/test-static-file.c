/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/static-file.h"
#include "test.h"

static void a_file_is_found_by_its_name_alone(void **state) {
        const StaticFile files[] = { { "a.css", "\"1\"", "x", 1 }, { "b.js", "\"2\"", "", 0 }, {} };
        assert_ptr_equal(static_file_find(files, "b.js"), &files[1]);
        assert_null(static_file_find(files, "b.jsx"));
        assert_null(static_file_find(files, "b"));
        assert_null(static_file_find(files, "../a.css"));
        assert_null(static_file_find(files, ""));
}

static void its_ending_tells_its_type(void **state) {
        static const struct {
                const char *name, *type;
        } rows[] = {
                { "index.html", "text/html; charset=utf-8" },
                { "style.css", "text/css; charset=utf-8" },
                { "main.min.js", "text/javascript; charset=utf-8" },
                { "icon.svg", "image/svg+xml" },
                { "html", "application/octet-stream" },
                { "a.htmlx", "application/octet-stream" },
        };
        for (FOREACH_ROW(row, rows))
                check_text(row->name, static_file_type(row->name), row->type);
}

static void a_client_that_has_the_tag_needs_no_copy(void **state) {
        static const struct {
                const char *header;
                bool known;
        } rows[] = {
                { "\"ab\"", true },
                { "W/\"ab\"", true },
                { "\"x\", \"ab\"", true },
                { "\"x\",W/\"y\" ,\t\"ab\"", true },
                { ", ,\"ab\"", true },
                { "*", true },
                { " * ", true },
                { "*x", false },
                { "\"a\"", false },
                { "\"abc\"", false },
                { "ab", false },
                { "\"ab", false },
                { "\"x\" x \"ab\"", false },
                { "", false },
                { NULL, false },
        };
        for (FOREACH_ROW(row, rows))
                check_true(row->header ?: "none", static_file_is_known(row->header, "\"ab\"") == row->known);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_file_is_found_by_its_name_alone),
                cmocka_unit_test(its_ending_tells_its_type),
                cmocka_unit_test(a_client_that_has_the_tag_needs_no_copy),
        };
        return cmocka_run_group_tests_name("static-file", tests, NULL, NULL);
}
