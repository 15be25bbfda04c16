/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/access.h"

#include <stdlib.h>

#include "base/text.h"
#include "core/request-guard.h"
#include "core/token.h"

void access_configure(Access *access, const ServiceConfig *config, char *token) {
        access->config = config;
        free(access->token);
        access->token = token;
}

void access_done(Access *access) {
        free(access->token);
        *access = (Access){};
}

bool access_permits_open_socket(const Access *access) {
        return access->token || access->config->insecure;
}

static bool shows_token(const Access *access, const HttpRequest *request) {
        Problem ignored = {};
        return access->token &&
                        token_check(access->token, http_request_header(request, "Authorization"), &ignored) >=
                        0;
}

static int check_guard(const Access *access, const HttpRequest *request, Problem *problem) {
        return guard_check(
                        &(GuardConfig){
                                        .host_name = access->host_name,
                                        .allowed_hosts = access->config->allowed_hosts,
                        },
                        &(GuardRequest){
                                        .host = http_request_header(request, "Host"),
                                        .origin = http_request_header(request, "Origin"),
                                        .sec_fetch_site = http_request_header(request, "Sec-Fetch-Site"),
                                        .over_tcp = http_request_over_tcp(request),
                                        .authenticated = shows_token(access, request),
                        },
                        problem);
}

static void ask_for_token(const Access *access, HttpRequest *request) {
        _cleanup_(text_done) Text challenge = {};
        if (text_appendf(&challenge, "Bearer realm=\"%s\"", access->program) >= 0)
                (void) http_request_add_header(request, "WWW-Authenticate", challenge.data);
}

/* Over TCP a token is asked for where one is configured. */
static int check_token(const Access *access, HttpRequest *request, AccessLevel level, Problem *problem) {
        if (!access->token || !http_request_over_tcp(request) || level == ACCESS_PUBLIC)
                return 0;
        int r = token_check(access->token, http_request_header(request, "Authorization"), problem);
        if (r < 0)
                ask_for_token(access, request);
        return r;
}

int access_check_header(
                const Access *access,
                HttpRequest *request,
                AccessLevel level,
                Problem *reterr_problem) {
        int r = check_guard(access, request, reterr_problem);
        return r < 0 ? r : check_token(access, request, level, reterr_problem);
}

/* A token lets its bearer do everything, and so does a socket that the file system guards: nothing is left to
 * ask. */
void access_decide(
                Access *access,
                HttpRequest *request,
                AccessLevel level,
                AccessDecided decided,
                void *userdata) {
        decided(request, NULL, userdata);
}
