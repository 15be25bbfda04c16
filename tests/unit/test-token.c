/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "core/http/token.h"
#include "test.h"

#define TOKEN "0123456789abcdef"

static void a_token_file_is_one_line(void **state) {
        static const struct {
                const char *label, *content;
                bool good;
        } rows[] = {
                { "plain", TOKEN, true },
                { "with line break", TOKEN "\n", true },
                { "two lines", TOKEN "\nx", false },
                { "empty", "", false },
                { "short", "0123456789abcde", false },
                { "space", "01234567 89abcdef", false },
                { "not ASCII", "0123456789abcdef\xc3\xa4", false },
        };
        for (FOREACH_ROW(row, rows)) {
                char *token = NULL;
                check_int(row->label,
                          token_parse(row->content, strlen(row->content), &token),
                          row->good ? 0 : -EINVAL);
                check_text(row->label, token, row->good ? TOKEN : NULL);
                free(token);
        }
}

static void only_the_very_token_is_accepted(void **state) {
        static const struct {
                const char *header;
                bool good;
        } rows[] = {
                { "Bearer " TOKEN, true },
                { "bearer " TOKEN, true },
                { NULL, false },
                { "", false },
                { "Bearer ", false },
                { "Bearer", false },
                { TOKEN, false },
                { "Basic " TOKEN, false },
                { "Bearer  " TOKEN, false },
                { "Bearer " TOKEN " ", false },
                { "Bearer 0123456789abcdeF", false },
                { "Bearer 0123456789abcde", false },
                { "Bearer " TOKEN TOKEN, false },
        };
        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                const char *label = row->header ? row->header : "none";
                check_int(label, token_check(TOKEN, row->header, &problem), row->good ? 0 : -EACCES);
                check_int(label, problem.status, row->good ? 0 : 401);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_token_file_is_one_line),
                cmocka_unit_test(only_the_very_token_is_accepted),
        };
        return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
