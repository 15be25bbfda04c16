/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>

#include "core/http/cookie.h"
#include "test.h"

static void the_name_has_the_port_that_the_browser_knows(void **state) {
        static const struct {
                const char *host, *name;
        } rows[] = {
                { "127.0.0.1:2504", "daggyr-2504" },
                { "[::1]:2504", "daggyr-2504" },
                { "[::1]", "daggyr" },
                { "localhost", "daggyr" },
                { "localhost:", "daggyr" },
                { "localhost:123456", "daggyr" },
                { "a:80;x=1", "daggyr" },
                { "", "daggyr" },
                { NULL, "daggyr" },
        };
        for (FOREACH_ROW(row, rows)) {
                char name[COOKIE_NAME_SIZE];
                cookie_name("daggyr", row->host, name);
                check_text(row->host ?: "none", name, row->name);
        }
}

static void a_cookie_is_found_by_its_whole_name(void **state) {
        static const struct {
                const char *header, *value;
        } rows[] = {
                { "a=1", "1" },        { "b=2; a=1", "1" }, { "b=2;a=1;c=3", "1" }, { "a=1; a=2", "1" },
                { " a=1 ; b=2", "1" }, { "a=", "" },        { "a=b=c", "b=c" },     { "aa=1; ba=2", NULL },
                { "A=1", NULL },       { "a", NULL },       { "a;=1", NULL },       { "b=a=1", NULL },
                { ";;; ;", NULL },     { "", NULL },        { NULL, NULL },
        };
        for (FOREACH_ROW(row, rows)) {
                const char *label = row->header ?: "none", *value = NULL;
                size_t size = 0;
                check_true(label, cookie_find(row->header, "a", &value, &size) == (row->value != NULL));
                if (row->value) {
                        check_u64(label, size, strlen(row->value));
                        check_true(label, memcmp(value, row->value, size) == 0);
                }
        }
}

static void what_is_set_keeps_scripts_and_other_sites_away(void **state) {
        char *text = NULL;
        check_int("plain", cookie_format("d", "x", 90 * USEC_PER_SEC, false, &text), 0);
        check_text("plain", text, "d=x; Path=/; Max-Age=90; HttpOnly; SameSite=Strict");
        free(text);
        check_int("TLS", cookie_format("d", "x", 90 * USEC_PER_SEC, true, &text), 0);
        check_text("TLS", text, "d=x; Path=/; Max-Age=90; HttpOnly; SameSite=Strict; Secure");
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_name_has_the_port_that_the_browser_knows),
                cmocka_unit_test(a_cookie_is_found_by_its_whole_name),
                cmocka_unit_test(what_is_set_keeps_scripts_and_other_sites_away),
        };
        return cmocka_run_group_tests_name("cookie", tests, NULL, NULL);
}
