/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stddef.h>

#include "core/http/request-guard.h"
#include "test.h"

static const GuardConfig config = {
        .host_name = "build7.example.com",
        .allowed_hosts = (char *[]) { (char *) "ci.example.org", (char *) "Tasks.Example.NET.", NULL },
};

static int status_of(const GuardConfig *guard, const GuardRequest *request) {
        Problem problem = {};
        int r = guard_check(guard, request, &problem);

        check_int("a refusal has a problem", r < 0, problem.status != 0);
        return problem.status;
}

static void hosts_are_known_or_refused(void **state) {
        static const struct {
                const char *host;
                int status;
        } rows[] = {
                /* address literals */
                { "127.0.0.1", 0 },
                { "127.0.0.1:2504", 0 },
                { "10.1.2.3:80", 0 },
                { "[::1]", 0 },
                { "[::1]:2504", 0 },
                { "[2001:DB8::7]:2504", 0 },
                { "[::ffff:10.0.0.1]", 0 },

                /* names */
                { "localhost", 0 },
                { "localhost:2504", 0 },
                { "LocalHost:2504", 0 },
                { "localhost.", 0 },
                { "localhost.:2504", 0 },
                { "localhost:", 0 },
                { "build7", 0 },
                { "build7:2504", 0 },
                { "build7.", 0 },
                { "build7.example.com", 0 },
                { "BUILD7.Example.Com.:2504", 0 },
                { "ci.example.org", 0 },
                { "ci.example.org.:99", 0 },
                { "tasks.example.net", 0 },
                { "tasks.example.net.", 0 },

                /* names of others, among them what rebinding attacks use */
                { "evil.example", 421 },
                { "evil.example:2504", 421 },
                { "127.0.0.1.nip.example", 421 },
                { "localhost.evil.example", 421 },
                { "evil-localhost", 421 },
                { "xlocalhost", 421 },
                { "localhos", 421 },
                { "localhost..", 421 },
                { "build7.example", 421 },
                { "build7.example.com.evil.example", 421 },
                { "build", 421 },
                { "build77", 421 },
                { "example.com", 421 },
                { "org", 421 },
                { "ci", 421 },
                { ".", 421 },
                { "..", 421 },

                /* what some resolvers take for 127.0.0.1, but is no literal */
                { "127.1", 421 },
                { "2130706433", 421 },
                { "0x7f000001", 421 },
                { "0177.0.0.1", 421 },
                { "127.0.0.1.", 421 },
                { "127.0.0.256", 421 },
                { "local%68ost", 421 },
                { "localhost;a", 421 },

                /* malformed */
                { "", 400 },
                { " ", 400 },
                { ":", 400 },
                { ":2504", 400 },
                { "localhost:99999", 400 },
                { "localhost:65536", 400 },
                { "localhost:-1", 400 },
                { "localhost:+1", 400 },
                { "localhost: 1", 400 },
                { "localhost:1x", 400 },
                { "localhost:1:2", 400 },
                { "localhost:99999999999999999999999999", 400 },
                { "localhost 2504", 400 },
                { " localhost", 400 },
                { "localhost ", 400 },
                { "localhost/", 400 },
                { "localhost?", 400 },
                { "localhost#", 400 },
                { "user@localhost", 400 },
                { "localhost@evil.example", 400 },
                { "user:secret@localhost", 400 },
                { "http://localhost", 400 },
                { "localhost\t", 400 },
                { "localhost\x7f", 400 },
                { "localh\xc3\xb6st", 400 },
                { "localhost\\evil", 400 },
                { "::1", 400 },
                { "::1:2504", 400 },
                { "[", 400 },
                { "[]", 400 },
                { "[::1", 400 },
                { "::1]", 400 },
                { "[::1]x", 400 },
                { "[::1]2504", 400 },
                { "[::1]:x", 400 },
                { "[[::1]]", 400 },
                { "[127.0.0.1]", 400 },
                { "[localhost]", 400 },
                { "[::1%25lo]", 400 },
                { "[fe80::1%lo]", 400 },
                { "[v1.x]", 400 },
                { "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]", 400 },
        };

        for (FOREACH_ROW(row, rows)) {
                GuardRequest request = { .host = row->host, .over_tcp = true };

                check_int(row->host, status_of(&config, &request), row->status);
        }
}

static void over_tcp_there_must_be_a_host(void **state) {
        check_int("tcp", status_of(&config, &(GuardRequest) { .over_tcp = true }), 400);
        check_int("socket", status_of(&config, &(GuardRequest) {}), 0);
}

static void the_host_is_checked_over_tcp_without_authentication_only(void **state) {
        static const char *const hosts[] = { "evil.example", "not a host", "" };

        for (FOREACH_ROW(host, hosts)) {
                GuardRequest request = { .host = *host };

                check_int(*host, status_of(&config, &request), 0);
                request.over_tcp = true;
                check_true(*host, status_of(&config, &request) != 0);
                request.authenticated = true;
                check_int(*host, status_of(&config, &request), 0);
        }
}

static void a_short_host_name_has_no_longer_form(void **state) {
        static const struct {
                const char *host_name, *host;
                int status;
        } rows[] = {
                { "build7", "build7", 0 },
                { "build7", "build7.example.com", 421 },
                { "build7.example.com.", "build7.example.com", 0 },
                { "build7.example.com.", "build7", 0 },
                { "", "build7", 421 },
                { ".", ".", 421 },
                { ".example", "example", 421 },
                { NULL, "build7", 421 },
                { NULL, "localhost", 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                GuardConfig guard = { .host_name = row->host_name };
                GuardRequest request = { .host = row->host, .over_tcp = true };

                check_int(row->host, status_of(&guard, &request), row->status);
        }
}

static void only_the_own_origin_is_let_in(void **state) {
        static const struct {
                const char *host, *origin;
                bool tls;
                int status;
        } rows[] = {
                { "localhost:2504", NULL, false, 0 },
                { "localhost:2504", "http://localhost:2504", false, 0 },
                { "localhost:2504", "HTTP://LOCALHOST:2504", false, 0 },
                { "127.0.0.1:2504", "http://127.0.0.1:2504", false, 0 },
                { "[::1]:2504", "http://[::1]:2504", false, 0 },
                { "[::A]:2504", "http://[::a]:2504", false, 0 },
                { "localhost:2504", "https://localhost:2504", true, 0 },

                /* default ports */
                { "localhost", "http://localhost", false, 0 },
                { "localhost:80", "http://localhost", false, 0 },
                { "localhost", "http://localhost:80", false, 0 },
                { "localhost:", "http://localhost", false, 0 },
                { "localhost:443", "https://localhost", true, 0 },
                { "localhost", "https://localhost:443", true, 0 },
                { "localhost:443", "http://localhost", false, 403 },
                { "localhost:80", "https://localhost", true, 403 },

                /* foreign ones */
                { "localhost:2504", "null", false, 403 },
                { "localhost:2504", "", false, 403 },
                { "localhost:2504", "http://evil.example", false, 403 },
                { "localhost:2504", "http://localhost", false, 403 },
                { "localhost:2504", "http://localhost:2503", false, 403 },
                { "localhost:2504", "http://127.0.0.1:2504", false, 403 },
                { "localhost:2504", "https://localhost:2504", false, 403 },
                { "localhost:2504", "http://localhost:2504", true, 403 },
                { "localhost:2504", "http://localhost:25040", false, 403 },
                { "localhost:2504", "http://localhost:2504.evil.example", false, 403 },
                { "localhost:2504", "http://localhost.:2504", false, 403 },
                { "localhost:2504", "http://sub.localhost:2504", false, 403 },
                { "localhost:2504", "http://build7.example.com:2504", false, 403 },
                { "localhost:2504", "ftp://localhost:2504", false, 403 },
                { "localhost:2504", "file://", false, 403 },
                { "localhost:2504", "localhost:2504", false, 403 },
                { "localhost:2504", "//localhost:2504", false, 403 },
                { "localhost:2504", "chrome-extension://abcdefgh", false, 403 },

                /* not an origin, though it begins as ours */
                { "localhost:2504", "http://localhost:2504/", false, 403 },
                { "localhost:2504", "http://localhost:2504/page", false, 403 },
                { "localhost:2504", "http://localhost:2504 http://evil.example", false, 403 },
                { "localhost:2504", "http://localhost:2504, http://localhost:2504", false, 403 },
                { "localhost:2504", " http://localhost:2504", false, 403 },
                { "localhost:2504", "http://user@localhost:2504", false, 403 },
                { "localhost:2504", "http://localhost:2504@evil.example", false, 403 },
                { "localhost:2504", "http://", false, 403 },
                { "localhost:2504", "http://:2504", false, 403 },
        };

        for (FOREACH_ROW(row, rows)) {
                GuardRequest request = {
                        .host = row->host,
                        .origin = row->origin,
                        .over_tcp = true,
                        .tls = row->tls,
                };

                check_int(row->origin ?: "none", status_of(&config, &request), row->status);
        }
}

static void the_origin_is_checked_on_every_socket(void **state) {
        static const struct {
                const char *label;
                GuardRequest request;
                int status;
        } rows[] = {
                { "socket, no host", { .origin = "http://localhost" }, 403 },
                { "socket, other host", { .host = "localhost", .origin = "http://evil.example" }, 403 },
                { "socket, malformed host", { .host = "a b", .origin = "http://a b" }, 403 },
                { "socket, own", { .host = "localhost", .origin = "http://localhost" }, 0 },
                { "authenticated",
                  { .host = "localhost",
                    .origin = "http://evil.example",
                    .over_tcp = true,
                    .authenticated = true },
                  403 },
                { "authenticated, own under another name",
                  { .host = "proxy.example",
                    .origin = "http://proxy.example",
                    .over_tcp = true,
                    .authenticated = true },
                  0 },
        };

        for (FOREACH_ROW(row, rows))
                check_int(row->label, status_of(&config, &row->request), row->status);
}

static void fetches_from_other_sites_are_refused(void **state) {
        static const struct {
                const char *site;
                int status;
        } rows[] = {
                { NULL, 0 },           { "same-origin", 0 },
                { "none", 0 },         { "same-site", 403 },
                { "cross-site", 403 }, { "", 403 },
                { "None", 403 },       { "same-origin, cross-site", 403 },
                { " none", 403 },      { "null", 403 },
        };

        for (FOREACH_ROW(row, rows)) {
                GuardRequest request = { .host = "localhost", .sec_fetch_site = row->site, .over_tcp = true };

                check_int(row->site ?: "absent", status_of(&config, &request), row->status);
                request.over_tcp = false;
                check_int(row->site ?: "absent", status_of(&config, &request), row->status);
                request.authenticated = true;
                check_int(row->site ?: "absent", status_of(&config, &request), row->status);
        }
}

static void the_host_is_judged_first_and_the_origin_next(void **state) {
        GuardRequest request = {
                .host = "evil.example",
                .origin = "http://evil.example",
                .sec_fetch_site = "cross-site",
                .over_tcp = true,
        };

        check_int("rebound page", status_of(&config, &request), 421);
        request.host = "localhost";
        check_int("foreign page", status_of(&config, &request), 403);
        request.origin = "http://localhost";
        check_int("foreign frame", status_of(&config, &request), 403);
        request.sec_fetch_site = "same-origin";
        check_int("own page", status_of(&config, &request), 0);
}

static void bodies_must_be_json(void **state) {
        static const struct {
                const char *type;
                int status;
        } rows[] = {
                { "application/json", 0 },
                { "Application/JSON", 0 },
                { "application/json; charset=utf-8", 0 },
                { "application/json;charset=utf-8", 0 },
                { "application/json ; a=b; c=d", 0 },
                { "application/json;", 0 },
                { "application/json ", 0 },
                { "application/problem+json", 0 },
                { "application/vnd.api+json; version=1", 0 },
                { "text/x+JSON", 0 },
                { "a/b+c+json", 0 },

                { NULL, 415 },
                { "", 415 },
                { "json", 415 },
                { "/json", 415 },
                { "application/", 415 },
                { "application", 415 },
                { "*/json", 415 },
                { "text/json", 415 },
                { "text/plain", 415 },
                { "application/yaml", 415 },
                { "x/json", 415 },
                { "text/plain; charset=application/json", 415 },
                { "text/plain;+json", 415 },
                { "application/x-www-form-urlencoded", 415 },
                { "multipart/form-data; boundary=+json", 415 },
                { "application/jsonx", 415 },
                { "application/xjson", 415 },
                { "application/json/x", 415 },
                { "application/+json", 415 },
                { "application/json-seq", 415 },
                { "application/x+json2", 415 },
                { "application /json", 415 },
                { "application/ json", 415 },
                { " application/json", 415 },
                { "application/json text/plain", 415 },
                { "application/json, text/plain", 415 },
                { "application/json,text/plain", 415 },
                { "application\xff/x+json", 415 },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                int r = guard_check_content_type(row->type, &problem);

                check_int(row->type ?: "absent", problem.status, row->status);
                check_int(row->type ?: "absent", r < 0, row->status != 0);
        }
}

static void what_is_not_served_is_not_ignored(void **state) {
        static const struct {
                const char *label;
                GuardDemands demands;
                int status;
        } rows[] = {
                { "nothing", {}, 0 },
                { "identity", { .content_encoding = "Identity" }, 0 },
                { "gzip", { .content_encoding = "gzip" }, 415 },
                { "identity and gzip", { .content_encoding = "identity, gzip" }, 415 },
                { "no coding", { .content_encoding = "" }, 415 },
                { "a range", { .content_range = "bytes 0-1/2" }, 400 },
                { "any version", { .if_match = "*" }, 0 },
                { "a version", { .if_match = "\"1\"" }, 412 },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                int r = guard_check_demands(&row->demands, &problem);

                check_int(row->label, problem.status, row->status);
                check_int(row->label, r < 0, row->status != 0);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(hosts_are_known_or_refused),
                cmocka_unit_test(over_tcp_there_must_be_a_host),
                cmocka_unit_test(the_host_is_checked_over_tcp_without_authentication_only),
                cmocka_unit_test(a_short_host_name_has_no_longer_form),
                cmocka_unit_test(only_the_own_origin_is_let_in),
                cmocka_unit_test(the_origin_is_checked_on_every_socket),
                cmocka_unit_test(fetches_from_other_sites_are_refused),
                cmocka_unit_test(the_host_is_judged_first_and_the_origin_next),
                cmocka_unit_test(bodies_must_be_json),
                cmocka_unit_test(what_is_not_served_is_not_ignored),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
