/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>

#include "core/http/request-framing.h"
#include "test.h"

typedef struct Field {
        const char *name, *value;
} Field;

static void add(Framing *framing, const Field *field) {
        framing_add(framing, field->name, strlen(field->name), field->value, strlen(field->value));
}

static void what_can_be_read_in_two_ways_is_refused(void **state) {
        static const struct {
                const char *label;
                Field fields[4];
                bool http_1_0;
                int status;
                bool no_host;
        } rows[] = {
                { "nothing", {}, false, 0 },
                { "host", { { "Host", "h" } }, false, 0, true },
                { "no host", {}, false, 400, true },
                { "no host, 1.0", {}, true, 0, true },
                { "length", { { "Content-Length", "5" } }, false, 0 },
                { "length, 1.0", { { "Content-Length", "5" } }, true, 0 },
                { "chunked", { { "Transfer-Encoding", "Chunked" } }, false, 0 },
                { "chunked, 1.0", { { "Transfer-Encoding", "chunked" } }, true, 400 },
                { "both", { { "Content-Length", "5" }, { "transfer-encoding", "chunked" } }, false, 400 },
                { "both, other order",
                  { { "transfer-encoding", "chunked" }, { "Content-Length", "5" } },
                  false,
                  400 },
                { "two lengths", { { "Content-Length", "5" }, { "Content-Length", "6" } }, false, 400 },
                { "same twice", { { "Content-Length", "5" }, { "content-length", "5" } }, false, 400 },
                { "plus", { { "Content-Length", "+5" } }, false, 400 },
                { "minus", { { "Content-Length", "-5" } }, false, 400 },
                { "hexadecimal", { { "Content-Length", "0x5" } }, false, 400 },
                { "list", { { "Content-Length", "5, 5" } }, false, 400 },
                { "blank after", { { "Content-Length", "5 " } }, false, 400 },
                { "empty", { { "Content-Length", "" } }, false, 400 },
                { "2^64 - 1", { { "Content-Length", "18446744073709551615" } }, false, 0 },
                { "2^64", { { "Content-Length", "18446744073709551616" } }, false, 400 },
                { "long", { { "Content-Length", "0000000000000000000000000000005" } }, false, 400 },
                { "identity", { { "Transfer-Encoding", "identity" } }, false, 400 },
                { "chunked, identity", { { "Transfer-Encoding", "chunked, identity" } }, false, 400 },
                { "gzip, chunked", { { "Transfer-Encoding", "gzip, chunked" } }, false, 400 },
                { "two encodings",
                  { { "Transfer-Encoding", "chunked" }, { "Transfer-Encoding", "identity" } },
                  false,
                  400 },
                { "vertical tab", { { "Transfer-Encoding", "\vchunked" } }, false, 400 },
                { "blank before colon", { { "Transfer-Encoding ", "chunked" } }, false, 400 },
                { "fold", { { " X", "y" } }, false, 400 },
                { "no name", { { "", "y" } }, false, 400 },
                { "not ASCII", { { "X\xc3\xa4", "y" } }, false, 400 },
                { "parenthesis", { { "X(", "y" } }, false, 400 },
                { "value not ASCII", { { "X", "\xc3\xa4" } }, false, 0 },
                { "tab in value", { { "X", "a\tb" } }, false, 0 },
                { "line break in value", { { "X", "a\nb" } }, false, 400 },
                { "return in value", { { "X", "a\rb" } }, false, 400 },
                { "delete in value", { { "X", "a\x7f" } }, false, 400 },
                { "two hosts", { { "Host", "a" }, { "Host", "a" } }, false, 400, true },
                { "two tokens", { { "Authorization", "a" }, { "Authorization", "b" } }, false, 400 },
                { "two origins", { { "Origin", "a" }, { "Origin", "b" } }, false, 400 },
                { "two cookies", { { "Cookie", "a=1" }, { "cookie", "b=2" } }, false, 400 },
                { "two leases", { { "Daggyr-Lease", "a" }, { "daggyr-lease", "b" } }, false, 400 },
                { "two others", { { "Accept", "a" }, { "Accept", "b" } }, false, 0 },
                { "expect", { { "Expect", "100-Continue" } }, false, 0 },
                { "expect more", { { "Expect", "miracles" } }, false, 417 },
                { "first counts", { { "Expect", "miracles" }, { "X(", "y" } }, false, 417 },
        };
        for (FOREACH_ROW(row, rows)) {
                /* rows about other things need not say it */
                Framing framing = { .seen[FRAMING_HOST] = !row->no_host };
                Problem problem = {};
                for (size_t i = 0; i < N_ELEMENTS(row->fields) && row->fields[i].name; i++)
                        add(&framing, &row->fields[i]);
                int r = framing_check(&framing, row->http_1_0, &problem);
                check_true(row->label, row->status == 0 ? r == 0 : r < 0);
                check_int(row->label, problem.status, row->status);
        }
}

static void nul_bytes_are_seen(void **state) {
        Framing framing = {};
        Problem problem = {};
        framing_add(&framing, "X", 1, "a\0b", 3);
        check_true("value", framing_check(&framing, false, &problem) < 0);
        framing = (Framing) {};
        framing_add(&framing, "X\0Y", 3, "a", 1);
        check_true("name", framing_check(&framing, false, &problem) < 0);
}

static void headers_are_counted(void **state) {
        Framing framing = { .seen[FRAMING_HOST] = true };
        Problem problem = {};
        for (unsigned i = 0; i < FRAMING_FIELDS_MAX; i++)
                add(&framing, &(Field) { "X", "y" });
        check_int("as many as may be", framing_check(&framing, false, &problem), 0);
        add(&framing, &(Field) { "X", "y" });
        check_true("one more", framing_check(&framing, false, &problem) < 0);
        check_int("one more", problem.status, 431);
}

static void a_target_is_a_path_on_this_host(void **state) {
        static const struct {
                const char *target, *host;
                int status;
                const char *path;
        } rows[] = {
                { "/", "h", 0, "/" },
                { "/a?b=c", "h", 0, "/a?b=c" },
                { "/a", NULL, 0, "/a" },
                { "//h/a", "h", 0, "//h/a" },
                { "/\xc3\xa4", "h", 0, "/\xc3\xa4" },
                { "http://h:1/a?b", "h:1", 0, "/a?b" },
                { "HTTP://H/", "h", 0, "/" },
                { "https://h/a", "h", 0, "/a" },
                { "http://h", "h", 0, "" },
                { "http://h?a", "h", 400, NULL },
                { "http://h/a", "other", 400, NULL },
                { "http://h/a", NULL, 400, NULL },
                { "http://u@h/a", "h", 400, NULL },
                { "http:///a", "", 0, "/a" },
                { "ftp://h/a", "h", 400, NULL },
                { "h:443", "h:443", 400, NULL },
                { "*", "h", 400, NULL },
                { "", "h", 400, NULL },
                { "a", "h", 400, NULL },
                { "/a b", "h", 400, NULL },
                { "/a\tb", "h", 400, NULL },
                { "/a\x7f", "h", 400, NULL },
        };
        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                size_t offset = 0;
                int r = framing_check_target("GET", row->target, row->host, &offset, &problem);
                check_int(row->target, problem.status, row->status);
                check_true(row->target, row->status == 0 ? r == 0 : r < 0);
                if (row->path)
                        check_text(row->target, row->target + offset, row->path);
        }
}

static void the_server_itself_is_a_target_of_options_only(void **state) {
        Problem problem = {};
        size_t offset = 1;
        check_int("OPTIONS *", framing_check_target("OPTIONS", "*", "h", &offset, &problem), 0);
        check_int("OPTIONS *", offset, 0);
        check_true("OPTIONS **", framing_check_target("OPTIONS", "**", "h", &offset, &problem) < 0);
        check_true("options *", framing_check_target("options", "*", "h", &offset, &problem) < 0);
        check_int("options *", problem.status, 400);
}

static void a_target_has_a_length(void **state) {
        char *target = calloc(1, FRAMING_TARGET_BYTES_MAX + 2);
        assert_non_null(target);
        memset(target, '/', FRAMING_TARGET_BYTES_MAX);
        Problem problem = {};
        size_t offset;
        check_int("longest", framing_check_target("GET", target, "h", &offset, &problem), 0);
        target[FRAMING_TARGET_BYTES_MAX] = '/';
        check_true("longer", framing_check_target("GET", target, "h", &offset, &problem) < 0);
        check_int("longer", problem.status, 414);
        free(target);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_can_be_read_in_two_ways_is_refused),
                cmocka_unit_test(nul_bytes_are_seen),
                cmocka_unit_test(headers_are_counted),
                cmocka_unit_test(a_target_is_a_path_on_this_host),
                cmocka_unit_test(the_server_itself_is_a_target_of_options_only),
                cmocka_unit_test(a_target_has_a_length),
        };
        return cmocka_run_group_tests_name("request-framing", tests, NULL, NULL);
}
