/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/say.h"
#include "io/loop.h"

#define CONNECT_USEC     (10 * USEC_PER_SEC)
#define ANSWER_USEC      (30 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX (256 * 1024 * 1024) /* two streams of 16 MiB in JSON, each byte up to six */
#define DELAY_MIN_USEC   (100 * USEC_PER_MSEC)
#define DELAY_MAX_USEC   (2 * USEC_PER_SEC)

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

int session_start(Session *session) {
        static const HttpClientOptions options = {
                .connections_max = 8,
                .connections_per_host_max = 8,
                .calls_max = 16,
                .user_agent = "daggyctl/" VERSION,
        };
        (void) signal(SIGPIPE, SIG_IGN);
        session->json = options_has(&session->options, OPTION_JSON);
        int r = target_resolve(&session->options, &session->target);
        if (r < 0)
                return r;
        r = loop_new(&session->event);
        if (r >= 0)
                r = http_client_new(session->event, &options, &session->client);
        if (r < 0)
                say("cannot set up: %s", strerror(-r));
        return r;
}

void session_done(Session *session) {
        for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
                event_source_dropp(&session->signal_sources[i]);
        http_client_free(session->client);
        sd_event_unref(session->event);
        target_done(&session->target);
}

int session_turn_to(Session *session, const char *host, bool is_queue, bool with_token) {
        Options options = session->options;
        options.given &= ~(OPTION_BIT(OPTION_HOST) | OPTION_BIT(OPTION_QUEUE));
        options.n = 0;
        for (unsigned i = 0; i < session->options.n; i++)
                if (session->options.list[i].id != OPTION_HOST &&
                    (with_token || session->options.list[i].id != OPTION_TOKEN_FILE))
                        options.list[options.n++] = session->options.list[i];
        if (is_queue)
                options.given |= OPTION_BIT(OPTION_QUEUE);
        target_done(&session->target);
        session->connected = false;
        return target_resolve_at(&options, host, with_token, &session->target);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Session *session = userdata;
        if (session->n_interrupts++ == 0)
                session->on_interrupt(session->interrupt_userdata);
        else
                session->leave = true;
        return 0;
}

int session_catch_signals(Session *session, void (*handler)(void *userdata), void *userdata) {
        session->on_interrupt = handler;
        session->interrupt_userdata = userdata;
        for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
                int r = sd_event_add_signal(
                                session->event,
                                &session->signal_sources[i],
                                signals[i] | SD_EVENT_SIGNAL_PROCMASK,
                                on_signal,
                                session);
                if (r < 0)
                        return r;
        }
        return 0;
}

int session_run_until(Session *session, const bool *done) {
        while (!*done) {
                if (session->leave)
                        return -EINTR;
                int r = sd_event_run(session->event, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        *(bool *) userdata = true;
        return 0;
}

int session_pause(Session *session, usec_t span_usec) {
        _cleanup_(event_source_dropp) sd_event_source *timer = NULL;
        bool over = false;
        usec_t when = usec_add(usec_now(CLOCK_BOOTTIME), span_usec);
        int r = loop_set_timer(session->event, &timer, when, on_pause_over, &over, "pause");
        return r < 0 ? r : session_run_until(session, &over);
}

usec_t session_retry_delay(unsigned n_failures) {
        usec_t delay = DELAY_MIN_USEC << (n_failures < 6 ? n_failures : 6);
        return delay < DELAY_MAX_USEC ? delay : DELAY_MAX_USEC;
}

int session_prepare(
                Session *session,
                const char *method,
                const char *path,
                HttpCallOptions *ret,
                char **ret_url) {
        const Target *target = &session->target;
        if (text_format(ret_url, "%s%s", target->url, path) < 0)
                return -ENOMEM;
        *ret = (HttpCallOptions) {
                .method = method,
                .url = *ret_url,
                .unix_path = target->unix_path,
                .tls = target->has_tls ? &target->tls : NULL,
                .token = target->token,
                .connect_usec = CONNECT_USEC,
                .answer_bytes_max = ANSWER_BYTES_MAX,
        };
        return 0;
}

void answer_done(Answer *answer) {
        free(answer->body);
        json_object_put(answer->json);
        *answer = (Answer) {};
}

/* A call that is waited for. */
typedef struct Pending {
        Session *session;
        Answer *answer;
        bool done;
        int error;
        bool not_sent;
        char *error_text;
} Pending;

static void pending_done(Pending *pending) {
        free(pending->error_text);
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Pending *pending = userdata;
        pending->done = true;
        pending->error = outcome->error;
        pending->not_sent = outcome->not_sent;
        if (!outcome->not_sent)
                pending->session->connected = true;
        if (outcome->error < 0) {
                pending->error_text = strdup(
                                *outcome->error_text ? outcome->error_text : strerror(-outcome->error));
                return;
        }
        pending->answer->body = malloc(outcome->body_size + 1);
        if (!pending->answer->body) {
                pending->error = -ENOMEM;
                return;
        }
        memcpy(pending->answer->body, outcome->body, outcome->body_size + 1);
        pending->answer->body_size = outcome->body_size;
        pending->answer->status = outcome->status;
        pending->answer->retry_after_sec = outcome->retry_after_sec;
}

static int ask_once(Session *session, const Ask *ask, Pending *pending) {
        _cleanup_(http_call_freep) HttpCall *call = NULL;
        _cleanup_(freep) char *url = NULL;
        HttpCallOptions options;
        int r = session_prepare(session, ask->method, ask->path, &options, &url);
        if (r < 0)
                return r;
        options.fresh_connection = ask->once;
        options.content_type = ask->body ? "application/json" : NULL;
        options.body = ask->body;
        options.body_size = ask->body ? strlen(ask->body) : 0;
        options.total_usec = usec_add(ANSWER_USEC, ask->extra_usec);
        options.on_done = on_done;
        options.userdata = pending;
        r = http_call_new(session->client, &options, &call);
        if (r < 0)
                return r;
        r = session_run_until(session, &pending->done);
        return r < 0 ? r : pending->error;
}

static bool is_worth_another(const Session *session, int r) {
        switch (r) {
        case -ENOMEM:
        case -EINVAL:
        case -EINTR:
        case -EMSGSIZE:
        case -EPROTO:
        case -EKEYREJECTED:
        case -ENOKEY:
        case -EACCES:
                return false;
        default:
                /* Nobody there at the very beginning: the place is wrong, or the daemon does not run. */
                return session->connected;
        }
}

static int carry_out(Session *session, const Ask *ask, Answer *ret, Pending *pending) {
        usec_t deadline = usec_add(usec_now(CLOCK_BOOTTIME), usec_add(PATIENCE_USEC, ask->extra_usec));
        for (unsigned n_failures = 0;; n_failures++) {
                pending_done(pending);
                *pending = (Pending) { .session = session, .answer = ret };
                int r = ask_once(session, ask, pending);
                bool repeatable = !ask->once || pending->not_sent;
                if (r >= 0 || !repeatable || !is_worth_another(session, r) ||
                    usec_now(CLOCK_BOOTTIME) >= deadline)
                        return r;
                r = session_pause(session, session_retry_delay(n_failures));
                if (r < 0)
                        return r;
        }
}

void session_say_problem(Session *session, int status, const char *body, size_t size) {
        _cleanup_(json_putp) json_object *json = NULL;
        Problem problem = {};
        (void) json_parse(body, size, &json, &problem);
        const char *detail = member_text(json, "detail"), *field = member_text(json, "field");
        if (!*detail)
                detail = member_text(json, "title");
        if (!*detail)
                detail = problem_title(status);
        if (status == 401)
                say("%s asks for a token: %s (--token-file)", session->target.name, detail);
        else if (*field)
                say("%s: %s", field, detail);
        else
                say("%s", detail);
}

int session_ask(Session *session, const Ask *ask, Answer *ret) {
        _cleanup_(pending_done) Pending pending = {};
        int r = carry_out(session, ask, ret, &pending);
        if (r == -EINTR)
                return SHELL_STATUS_SIGNAL + SIGINT;
        if (r == -ENOMEM || r == -EINVAL) {
                say("cannot ask %s: %s", session->target.name, strerror(-r));
                return r == -EINVAL ? SHELL_STATUS_USAGE : SHELL_STATUS_REFUSED;
        }
        if (r < 0) {
                say("%s does not answer: %s", session->target.name, pending.error_text ?: strerror(-r));
                return SHELL_STATUS_UNREACHABLE;
        }
        bool is_busy = ask->may_be_busy && (ret->status == 429 || ret->status == 503);
        if (ret->status != ask->expected && !is_busy && (ret->status < 200 || ret->status > 299)) {
                session_say_problem(session, ret->status, ret->body, ret->body_size);
                return SHELL_STATUS_REFUSED;
        }
        Problem problem = {};
        if (ret->body_size > 0 && json_parse(ret->body, ret->body_size, &ret->json, &problem) < 0) {
                say("what %s answers is no JSON: %s", session->target.name, problem.detail);
                return SHELL_STATUS_REFUSED;
        }
        return 0;
}

int session_ask_for_workers(Session *session, Answer *ret) {
        Ask ask = { .method = "GET", .path = "/api/v1/workers", .expected = 404 };
        int status = session_ask(session, &ask, ret);
        if (status != 0 || ret->status != 404)
                return status;
        say("%s is a runner, not a queue", session->target.name);
        return SHELL_STATUS_REFUSED;
}

int session_print_json(Session *session, const Answer *answer) {
        return answer->body_size > 0 && print_line(answer->body, answer->body_size) < 0 ?
                        SHELL_STATUS_REFUSED :
                        0;
}
