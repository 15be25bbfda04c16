/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/access.h"

#include <assert.h>
#include <stdlib.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "base/text.h"
#include "core/http/cookie.h"
#include "core/http/forward-rule.h"
#include "core/http/request-guard.h"
#include "core/http/token.h"
#include "io/accounts.h"
#include "io/random-id.h"

#define RETRY_AFTER_SEC 5

/* polkit's names for the levels. Both daemons have the same: who may run tasks on a host may do so either
 * way. */
static const char *const actions[_ACCESS_LEVEL_MAX] = {
        [ACCESS_READ] = "io.daggyr.read",
        [ACCESS_SUBMIT] = "io.daggyr.submit",
        [ACCESS_MANAGE] = "io.daggyr.manage",
};

/* A request that waits for polkit's answer. */
struct AccessInquiry {
        Access *access;
        AccessInquiry *previous, *next;
        HttpRequest *request;
        const char *action;
        PolkitCheck *check;
        AccessDecided decided;
        void *userdata;
};

int access_init(Access *access, sd_event *event, const char *program, const char *host_name, bool user_mode) {
        *access = (Access) {
                .event = event,
                .program = program,
                .host_name = host_name,
                .peers = { .own_uid = geteuid(), .group = PEER_NO_GROUP },
        };
        /* What the administrator of the host grants, by the group or by polkit, is the use of the host's
         * daemon and not that of another user's account. */
        if (user_mode)
                return 0;
        int r = group_by_name(ACCESS_GROUP, &access->peers.group);
        if (r < 0 && r != -ENOENT)
                return log_errno(LOG_ERR, r, "Cannot look up the group \"%s\"", ACCESS_GROUP);
        access->peers.may_ask = true;
        return polkit_new(event, &access->polkit);
}

void access_configure(Access *access, const ServiceConfig *config, char *token) {
        access->config = config;
        if (!streq_null(access->token, token))
                access->sessions = (SessionTable) {};
        free(access->token);
        access->token = token;
}

void access_trust(Access *access, AccessVouched vouched, void *userdata) {
        access->vouched = vouched;
        access->vouched_userdata = userdata;
}

static void inquiry_free(AccessInquiry *inquiry) {
        DL_DELETE2(inquiry->access->inquiries, inquiry, previous, next);
        polkit_check_cancel(inquiry->check);
        free(inquiry);
}

void access_done(Access *access) {
        while (access->inquiries)
                inquiry_free(access->inquiries);
        polkit_free(access->polkit);
        free(access->token);
        *access = (Access) {};
}

bool access_permits_open_socket(const Access *access) {
        return access->token || access->config->tls_client_ca || access->config->insecure;
}

static bool shows_token(const Access *access, const HttpRequest *request) {
        Problem ignored = {};
        return access->token &&
                        token_check(access->token, http_request_header(request, "Authorization"), &ignored) >=
                        0;
}

/* The secret by which another of our daemons asks for somebody whom it has let in; NULL: it is no such
 * request. At a Unix socket it is the account that decides. */
static const char *shown_secret(const Access *access, const HttpRequest *request) {
        return access->vouched && http_request_over_tcp(request) ?
                        http_request_header(request, FORWARD_HEADER) :
                        NULL;
}

static int check_guard(const Access *access, const HttpRequest *request, Problem *problem) {
        return guard_check(
                        &(GuardConfig) {
                                        .host_name = access->host_name,
                                        .allowed_hosts = access->config->allowed_hosts,
                        },
                        &(GuardRequest) {
                                        .host = http_request_header(request, "Host"),
                                        .origin = http_request_header(request, "Origin"),
                                        .sec_fetch_site = http_request_header(request, "Sec-Fetch-Site"),
                                        .over_tcp = http_request_over_tcp(request),
                                        .authenticated = shows_token(access, request) ||
                                                        http_request_has_certificate(request),
                                        .tls = http_request_is_tls(request),
                        },
                        problem);
}

/* Even for what is public: who listens with certificates means that strangers learn nothing at all. */
static int check_certificate(const HttpRequest *request, Problem *problem) {
        if (!http_request_asks_certificate(request) || http_request_has_certificate(request))
                return 0;
        return problem_set(problem, 403, NULL, "a client certificate that is accepted here is required");
}

static void ask_for_token(const Access *access, HttpRequest *request) {
        _cleanup_(text_done) Text challenge = {};
        if (text_appendf(&challenge, "Bearer realm=\"%s\"", access->program) >= 0)
                (void) http_request_add_header(request, "WWW-Authenticate", challenge.data);
}

/* The header of the answer tells that daemon that nothing was done, and that it may be known in a moment. */
static int check_secret(const Access *access, HttpRequest *request, const char *secret, Problem *problem) {
        if (access->vouched(secret, access->vouched_userdata))
                return 0;
        (void) http_request_add_header(request, FORWARD_HEADER, FORWARD_UNKNOWN);
        ask_for_token(access, request);
        return problem_set(problem, 401, NULL, "no living member of this queue has this secret");
}

static bool only_reads(const HttpRequest *request, AccessLevel level) {
        const char *method = http_request_method(request);
        return level <= ACCESS_READ && (streq(method, "GET") || streq(method, "HEAD"));
}

/* A browser sends its cookie with whatever request it was led to make, so the cookie opens nothing that
 * changes anything. */
static bool shows_session(const Access *access, const HttpRequest *request, AccessLevel level) {
        char name[COOKIE_NAME_SIZE];
        const char *secret;
        size_t size;
        cookie_name(access->program, http_request_header(request, "Host"), name);
        return only_reads(request, level) &&
                        cookie_find(http_request_header(request, "Cookie"), name, &secret, &size) &&
                        session_is_live(&access->sessions, secret, size, usec_now(CLOCK_BOOTTIME));
}

/* Over TCP a token is asked for where one is configured. */
static int check_token(const Access *access, HttpRequest *request, AccessLevel level, Problem *problem) {
        if (!access->token || !http_request_over_tcp(request) || level == ACCESS_PUBLIC ||
            shows_session(access, request, level))
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
        const char *secret = shown_secret(access, request);
        int r = secret ? 0 : check_guard(access, request, reterr_problem);
        if (r >= 0)
                r = check_certificate(request, reterr_problem);
        if (secret)
                return r < 0 ? r : check_secret(access, request, secret, reterr_problem);
        return r < 0 ? r : check_token(access, request, level, reterr_problem);
}

/* Told once, until polkit answers again: each request would have another line. */
static void polkit_silent(Access *access, int error, const char *message) {
        if (!access->polkit_is_silent)
                (void) log_errno(
                                LOG_WARNING,
                                error,
                                "Cannot ask polkit (%s): at the Unix socket, only root and the group \"%s\" are "
                                "served for now",
                                message,
                                ACCESS_GROUP);
        access->polkit_is_silent = true;
}

static int problem_unanswered(Problem *problem) {
        int r = problem_set(problem, 503, NULL, "polkit, which decides on this, gives no answer now");
        problem->retry_after_sec = RETRY_AFTER_SEC;
        return r;
}

static int judge(Access *access, int verdict, const char *message, const char *action, Problem *problem) {
        if (verdict < 0) {
                polkit_silent(access, verdict, message);
                return problem_unanswered(problem);
        }
        if (access->polkit_is_silent)
                log_line(LOG_NOTICE, "polkit answers again");
        access->polkit_is_silent = false;
        switch ((PolkitVerdict) verdict) {
        case POLKIT_GRANTED:
                return 0;
        case POLKIT_CHALLENGE:
                return problem_set(
                                problem,
                                403,
                                NULL,
                                "polkit grants %s only after an authentication, for which HTTP clients cannot be asked",
                                action);
        case POLKIT_DENIED:
                break;
        }
        return problem_set(problem, 403, NULL, "polkit does not grant %s to this account", action);
}

static void on_polkit(int verdict, const char *message, void *userdata) {
        AccessInquiry *inquiry = userdata;
        Access *access = inquiry->access;
        HttpRequest *request = inquiry->request;
        const char *action = inquiry->action;
        AccessDecided decided = inquiry->decided;
        void *decided_userdata = inquiry->userdata;
        inquiry->check = NULL; /* it is over */
        inquiry_free(inquiry);

        http_request_on_hangup(request, NULL, NULL);
        Problem problem = {};
        int r = judge(access, verdict, message, action, &problem);
        decided(request, r < 0 ? &problem : NULL, decided_userdata);
}

static void on_hangup(HttpRequest *request, void *userdata) {
        inquiry_free(userdata);
}

static int inquire(AccessInquiry *inquiry, const PolkitSubject *subject, Problem *problem) {
        Access *access = inquiry->access;
        int r = polkit_check(access->polkit, subject, inquiry->action, on_polkit, inquiry, &inquiry->check);
        if (r == -EBUSY) /* which this client may have brought about alone */
                return problem_unanswered(problem);
        if (r < 0) {
                polkit_silent(access, r, "it cannot be reached");
                return problem_unanswered(problem);
        }
        http_request_on_hangup(inquiry->request, on_hangup, inquiry);
        return 0;
}

/* 0 when polkit will answer. */
static int ask_polkit(
                Access *access,
                HttpRequest *request,
                const PolkitSubject *subject,
                AccessLevel level,
                AccessDecided decided,
                void *userdata,
                Problem *problem) {
        AccessInquiry *inquiry = calloc(1, sizeof(*inquiry));
        if (!inquiry)
                return problem_from_errno(problem, ENOMEM);
        *inquiry = (AccessInquiry) {
                .access = access,
                .request = request,
                .action = actions[level],
                .decided = decided,
                .userdata = userdata,
        };
        DL_PREPEND2(access->inquiries, inquiry, previous, next);
        int r = inquire(inquiry, subject, problem);
        if (r < 0)
                inquiry_free(inquiry);
        return r;
}

static int find_subject(
                const HttpRequest *request,
                const HttpPeer *peer,
                PolkitSubject *ret,
                Problem *problem) {
        int pidfd = http_request_peer_pidfd(request);
        int r = pidfd < 0 && pidfd != -ENOPROTOOPT ?
                        pidfd :
                        polkit_subject_from_process(peer->pid, peer->uid, pidfd, ret);
        if (r < 0)
                return problem_set(
                                problem,
                                403,
                                NULL,
                                "the process that connected has ended, cannot be seen, or is another user's by "
                                "now");
        return 0;
}

/* 1 when the one at the other end may do it, 0 when polkit will answer. */
static int check_peer(
                Access *access,
                HttpRequest *request,
                AccessLevel level,
                AccessDecided decided,
                void *userdata,
                Problem *problem) {
        const HttpPeer *peer;
        if (http_request_peer(request, &peer) < 0)
                return problem_set(problem, 403, NULL, "the system does not say who has connected");
        const PeerAccount account = { peer->uid, peer->gid, peer->groups, peer->n_groups };
        PeerVerdict verdict = peer_access_decide(&access->peers, &account);
        if (verdict == PEER_ADMITTED)
                return 1;
        if (verdict == PEER_REFUSED)
                return problem_set(problem, 403, NULL, "this is another user's");

        PolkitSubject subject = { .pidfd = -EBADF };
        int r = find_subject(request, peer, &subject, problem);
        if (r < 0)
                return r;
        r = ask_polkit(access, request, &subject, level, decided, userdata, problem);
        fd_close(&subject.pidfd);
        return r;
}

/* A token or a certificate lets its bearer do everything, and so does a TCP socket that asks for neither:
 * over TCP nothing is left to ask. */
void access_decide(
                Access *access,
                HttpRequest *request,
                AccessLevel level,
                AccessDecided decided,
                void *userdata) {
        assert(access->event);
        Problem problem = {};
        int r = level == ACCESS_PUBLIC || http_request_over_tcp(request) ?
                        1 :
                        check_peer(access, request, level, decided, userdata, &problem);
        if (r != 0)
                decided(request, r < 0 ? &problem : NULL, userdata);
}

static int make_secret(char ret[static SESSION_SECRET_SIZE]) {
        _cleanup_(freep) char *id = NULL;
        int r = random_id_new(&id);
        if (r < 0)
                return r;
        memcpy(ret, id, SESSION_SECRET_SIZE);
        return 0;
}

int access_add_code(Access *access, char ret[static SESSION_SECRET_SIZE]) {
        int r = make_secret(ret);
        if (r >= 0)
                session_add_code(&access->sessions, ret, usec_now(CLOCK_BOOTTIME));
        return r;
}

static int set_cookie(const Access *access, HttpRequest *request, const char *secret) {
        _cleanup_(freep) char *cookie = NULL;
        char name[COOKIE_NAME_SIZE];
        cookie_name(access->program, http_request_header(request, "Host"), name);
        int r = cookie_format(name, secret, SESSION_USEC, http_request_is_tls(request), &cookie);
        return r < 0 ? r : http_request_add_header(request, "Set-Cookie", cookie);
}

int access_begin_session(Access *access, HttpRequest *request, const char *code, Problem *reterr_problem) {
        char secret[SESSION_SECRET_SIZE];
        int r = make_secret(secret);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        if (!session_begin(&access->sessions, code, secret, usec_now(CLOCK_BOOTTIME)))
                return problem_set(
                                reterr_problem,
                                403,
                                NULL,
                                "this code is not good, or not any more: each is for one session, within a "
                                "minute");
        r = set_cookie(access, request, secret);
        return r < 0 ? problem_from_errno(reterr_problem, r) : 0;
}
