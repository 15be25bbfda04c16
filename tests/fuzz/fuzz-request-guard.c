/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: a line of flags ("t" TCP, "a" authenticated, "s" TLS), then the values of Host, Origin,
 * Sec-Fetch-Site and Content-Type, a line each; a line that is missing is an absent header. */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "core/http/request-guard.h"
#include "fuzz.h"

static const GuardConfig config = {
        .host_name = "build7.example.com",
        .allowed_hosts = (char *[]) { (char *) "ci.example.org", NULL },
};

/* Another, cruder way to see which hosts are let in. */
static bool host_is_plausible(const char *host) {
        static const char *const names[] = { "localhost", "build7", "build7.example.com", "ci.example.org" };
        _cleanup_(freep) char *name = strdup(host);
        unsigned char address[sizeof(struct in6_addr)];

        FUZZ_CHECK(name);
        if (name[0] == '[') {
                char *end = strchr(name, ']');
                FUZZ_CHECK(end);
                *end = 0;
                return inet_pton(AF_INET6, name + 1, address) == 1;
        }

        name[strcspn(name, ":")] = 0;
        if (inet_pton(AF_INET, name, address) == 1)
                return true;
        if (name[0] && name[strlen(name) - 1] == '.')
                name[strlen(name) - 1] = 0;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strcasecmp(name, names[i]) == 0)
                        return true;

        return false;
}

/* An own origin ends in what Host is, but for the port. */
static bool origin_is_plausible(const GuardRequest *request) {
        const char *scheme = request->tls ? "https://" : "http://";
        size_t host_size = request->host[0] == '[' ? strcspn(request->host, "]") + 1 :
                                                     strcspn(request->host, ":");

        return strncasecmp(request->origin, scheme, strlen(scheme)) == 0 &&
                        strncasecmp(request->origin + strlen(scheme), request->host, host_size) == 0;
}

static void fuzz_guard(const GuardRequest *request) {
        GuardRequest foreign = *request;
        Problem problem = {};
        int r;

        r = guard_check(&config, request, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 403, 421, 0 });
        if (r < 0)
                return;

        if (request->over_tcp && !request->authenticated)
                FUZZ_CHECK(request->host && host_is_plausible(request->host));
        if (request->origin)
                FUZZ_CHECK(request->host && origin_is_plausible(request));
        if (request->sec_fetch_site)
                FUZZ_CHECK(streq(request->sec_fetch_site, "none") ||
                           streq(request->sec_fetch_site, "same-origin"));

        foreign.origin = "null";
        (void) guard_check(&config, &foreign, &problem);
        FUZZ_CHECK(problem.status == 403);
}

static void fuzz_content_type(const char *type) {
        Problem problem = {};
        int r = guard_check_content_type(type, &problem);

        fuzz_check_problem(r, &problem, (const int[]) { 415, 0 });
        FUZZ_CHECK(r < 0 || (type && strcasestr(type, "json")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *lines = fuzz_string(data, size);
        char *rest = lines;
        const char *flags = strsep(&rest, "\n");
        const char *host = strsep(&rest, "\n");
        const char *origin = strsep(&rest, "\n");
        const char *site = strsep(&rest, "\n");

        fuzz_guard(&(GuardRequest) {
                        .host = host,
                        .origin = origin,
                        .sec_fetch_site = site,
                        .over_tcp = strchr(flags, 't'),
                        .authenticated = strchr(flags, 'a'),
                        .tls = strchr(flags, 's'),
        });
        fuzz_content_type(rest);
        return 0;
}
