/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Judges headers. Who the client is and what it may do is decided elsewhere; here it is only about whether a
 * browser was led to send the request by somebody else's page. */
#include "core/http/request-guard.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

/* A host and port as they stand in Host and Origin; the strings are part of the header. */
typedef struct Authority {
        const char *host;
        size_t host_size;
        uint64_t port; /* the scheme's default when none is said */
        bool is_address;
} Authority;

/* What RFC 3986 allows in a name; percent-encoding included, as it makes no known name anyway. */
static bool is_name_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        (c != 0 && strchr("-._~!$&'()*+,;=%", c));
}

/* Copies the SIZE bytes at S, for functions that want a NUL. False when they are no address for their length.
 */
static bool is_address(int family, const char *s, size_t size) {
        char literal[INET6_ADDRSTRLEN], binary[sizeof(struct in6_addr)];

        if (size == 0 || size >= sizeof(literal))
                return false;

        memcpy(literal, s, size);
        literal[size] = 0;
        return inet_pton(family, literal, binary) == 1;
}

static int parse_bracketed(const char *s, Authority *authority, const char **ret_rest) {
        const char *end = strchr(s, ']');

        if (!end || !is_address(AF_INET6, s + 1, (size_t) (end - s) - 1))
                return -EINVAL;

        authority->host = s;
        authority->host_size = (size_t) (end - s) + 1;
        authority->is_address = true;
        *ret_rest = end + 1;
        return 0;
}

static int parse_name(const char *s, Authority *authority, const char **ret_rest) {
        size_t size = 0;

        while (is_name_char(s[size]))
                size++;
        if (size == 0)
                return -EINVAL;

        authority->host = s;
        authority->host_size = size;
        authority->is_address = is_address(AF_INET, s, size);
        *ret_rest = s + size;
        return 0;
}

/* Parses all of S as host[:port]. An empty port is the default, as RFC 3986 has it. */
static int authority_parse(const char *s, bool tls, Authority *ret) {
        Authority authority = { .port = tls ? 443 : 80 };
        const char *rest;

        int r = *s == '[' ? parse_bracketed(s, &authority, &rest) : parse_name(s, &authority, &rest);
        if (r < 0)
                return r;

        if (*rest == ':' && rest[1]) {
                r = text_parse_u64(rest + 1, 0, UINT16_MAX, &authority.port);
                if (r < 0)
                        return r;
        } else if (*rest && *rest != ':')
                return -EINVAL;

        *ret = authority;
        return 0;
}

/* Whether the SIZE bytes at HOST are NAME, of which only the first label counts with ONLY_LABEL. */
static bool name_is(const char *host, size_t size, const char *name, bool only_label) {
        size_t name_size = only_label ? strcspn(name, ".") : strlen(name);

        if (name_size > 0 && name[name_size - 1] == '.')
                name_size--;

        return size > 0 && size == name_size && strncasecmp(host, name, size) == 0;
}

static bool host_is_known(const GuardConfig *config, const Authority *authority) {
        size_t size = authority->host_size;

        if (authority->is_address)
                return true;
        if (size > 1 && authority->host[size - 1] == '.')
                size--;

        if (name_is(authority->host, size, "localhost", false))
                return true;
        if (config->host_name &&
            (name_is(authority->host, size, config->host_name, false) ||
             name_is(authority->host, size, config->host_name, true)))
                return true;

        for (char *const *name = config->allowed_hosts; name && *name; name++)
                if (name_is(authority->host, size, *name, false))
                        return true;

        return false;
}

static int check_host(const GuardConfig *config, const GuardRequest *request, Problem *reterr_problem) {
        Authority authority;

        if (!request->over_tcp || request->authenticated)
                return 0;
        if (!request->host)
                return problem_set(reterr_problem, 400, NULL, "the request has no Host header");

        if (authority_parse(request->host, request->tls, &authority) < 0)
                return problem_set(reterr_problem, 400, NULL, "the Host header is malformed");

        if (!host_is_known(config, &authority))
                return problem_set(
                                reterr_problem,
                                421,
                                NULL,
                                "the Host header names neither this machine nor one of \"allowed_hosts\"");

        return 0;
}

static bool origin_is_own(const GuardRequest *request) {
        Authority own, origin;
        const char *scheme = request->tls ? "https://" : "http://";

        if (!request->host || strncasecmp(request->origin, scheme, strlen(scheme)) != 0)
                return false;
        if (authority_parse(request->origin + strlen(scheme), request->tls, &origin) < 0 ||
            authority_parse(request->host, request->tls, &own) < 0)
                return false;

        return origin.port == own.port && origin.host_size == own.host_size &&
                        strncasecmp(origin.host, own.host, own.host_size) == 0;
}

static bool fetch_site_is_own(const char *site) {
        return streq(site, "same-origin") || streq(site, "none");
}

int guard_check(const GuardConfig *config, const GuardRequest *request, Problem *reterr_problem) {
        assert(config);
        assert(request);
        assert(reterr_problem);

        int r = check_host(config, request, reterr_problem);
        if (r < 0)
                return r;

        if (request->origin && !origin_is_own(request))
                return problem_set(
                                reterr_problem,
                                403,
                                NULL,
                                "requests from pages of other origins are refused");

        if (request->sec_fetch_site && !fetch_site_is_own(request->sec_fetch_site))
                return problem_set(
                                reterr_problem, 403, NULL, "requests from pages of other sites are refused");

        return 0;
}

/* How many bytes at S make up a token of RFC 9110. */
static size_t token_size(const char *s) {
        return strspn(s,
                      "!#$%&'*+-.^_`|~0123456789"
                      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
}

static bool subtype_is_json(const char *type, size_t type_size, const char *subtype, size_t size) {
        if (size == strlen("json"))
                return strncasecmp(subtype, "json", size) == 0 && type_size == strlen("application") &&
                                strncasecmp(type, "application", type_size) == 0;

        return size > strlen("+json") && strncasecmp(subtype + size - strlen("+json"), "+json", 5) == 0;
}

static bool content_type_is_json(const char *s) {
        size_t type_size = token_size(s);
        if (type_size == 0 || s[type_size] != '/')
                return false;

        const char *subtype = s + type_size + 1;
        size_t size = token_size(subtype);
        const char *rest = subtype + size;
        rest += strspn(rest, " \t");

        return (*rest == 0 || *rest == ';') && subtype_is_json(s, type_size, subtype, size);
}

int guard_check_demands(const GuardDemands *demands, Problem *reterr_problem) {
        assert(demands);
        assert(reterr_problem);

        if (demands->content_encoding && strcasecmp(demands->content_encoding, "identity") != 0)
                return problem_set(reterr_problem, 415, NULL, "no Content-Encoding but identity is known");
        if (demands->content_range)
                return problem_set(reterr_problem, 400, NULL, "a body must be whole, without Content-Range");
        if (demands->if_match && !streq(demands->if_match, "*"))
                return problem_set(reterr_problem, 412, NULL, "nothing here has the entity tags of If-Match");

        return 0;
}

int guard_check_content_type(const char *content_type, Problem *reterr_problem) {
        assert(reterr_problem);

        if (!content_type || !content_type_is_json(content_type))
                return problem_set(reterr_problem, 415, NULL, "the body must be of type application/json");

        return 0;
}
