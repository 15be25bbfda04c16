/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* join, leave: all that letting a queue in takes on a runner's host, and its undoing. Each step is taken only
 * where it is still to be taken, and noted before, so that both may be repeated at any time. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/joined.h"
#include "ctl/path.h"
#include "ctl/runner-host.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

#define RUNNER_PORT   2504
#define REACHED_TRIES 20
#define REACHED_USEC  (500 * USEC_PER_MSEC)
#define GONE_USEC     (1 * USEC_PER_SEC)

typedef struct Join {
        Session *session;
        const char *queue; /* as it was given */
        Joined joined;
        RunnerHost host;
        char *id, *url;
        char *address; /* of this host, on the way to the queue */
        unsigned port;
        bool makes_token, makes_listen, starts;
} Join;

static void join_done(Join *join) {
        joined_done(&join->joined);
        runner_host_done(&join->host);
        free(join->id);
        free(join->url);
        free(join->address);
}

/* What was done, for people. */
static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        va_list arguments;
        va_start(arguments, format);
        if (text_vformat(&text, format, arguments) >= 0)
                (void) print_line(text, strlen(text));
        va_end(arguments);
}

static bool is_root(const char *verb) {
        if (geteuid() == 0)
                return true;
        say("%s changes how this host's daggyr.service listens: it takes root", verb);
        return false;
}

/* ── what is to be done ── */

static unsigned port_of(const char *url) {
        const char *host = strstr(url, "://");
        host = host ? host + strlen("://") : url;
        const char *end = *host == '[' ? strchr(host, ']') : host;
        const char *colon = end ? strchr(end, ':') : NULL;
        if (colon)
                return (unsigned) strtoul(colon + 1, NULL, 10);
        return text_after(url, "https:") ? 443 : 80;
}

static int choose_id(Join *join) {
        char name[256] = "";
        const char *given = options_get(&join->session->options, OPTION_ID);
        if (!given)
                (void) gethostname(name, sizeof(name) - 1);
        join->id = strdup(given ?: name);
        return join->id ? 0 : -ENOMEM;
}

static int choose_url(Join *join) {
        const Target *target = &join->session->target;
        const char *given = options_get(&join->session->options, OPTION_URL);
        int r = runner_host_address_towards(target->unix_path ? NULL : target->url, &join->address);
        if (r < 0)
                return r;
        if (given)
                join->url = strdup(given);
        else
                (void) text_format(
                                &join->url,
                                strchr(join->address, ':') ? "%s://[%s]:%d" : "%s://%s:%d",
                                join->host.has_tls ? "https" : "http",
                                join->address,
                                RUNNER_PORT);
        if (!join->url)
                return -ENOMEM;
        join->port = port_of(join->url);
        return 0;
}

/* Whether a service that was started without its socket is left as it is. */
static int plan(Join *join) {
        const RunnerHost *host = &join->host;
        bool is_open = !runner_host_is_loopback(join->address);
        bool bare = host->service_is_active && !host->socket_is_active;
        if (host->wants_certificates) {
                say("this runner wants a certificate of its clients: write it into the queue's configuration, "
                    "which can name one");
                return -EOPNOTSUPP;
        }
        if (bare && !options_has(&join->session->options, OPTION_URL)) {
                say("daggyr.service runs without daggyr.socket: say where it listens, by --url");
                return -EOPNOTSUPP;
        }
        join->makes_token = is_open && !host->token;
        join->makes_listen = is_open && !bare && !runner_host_listens(join->address, join->port);
        join->starts = !bare && !host->socket_is_active;
        return 0;
}

/* A restart ends what runs. */
static int check_nothing_runs(Session *session) {
        _cleanup_(answer_done) Answer answer = {};
        if (session_turn_to(session, NULL, false, false) < 0)
                return SHELL_STATUS_USAGE;
        int status = session_ask(session, &(Ask) { .method = "GET", .path = "/api/v1/capacity" }, &answer);
        if (status != 0)
                return status;
        json_object *tasks = member(answer.json, "tasks");
        double n = member_number(tasks, "running") + member_number(tasks, "queued");
        if (n > 0) {
                say("daggyr must be restarted for that, which would end the %.0f tasks it has: wait for them, "
                    "or stop them, and do this again",
                    n);
                return SHELL_STATUS_REFUSED;
        }
        return 0;
}

/* ── on this host ── */

static int change_host(Join *join) {
        Joined *joined = &join->joined;
        joined->made_token |= join->makes_token;
        joined->made_listen |= join->makes_listen;
        joined->enabled |= join->starts;
        int r = joined_write(joined);
        if (r >= 0 && join->makes_token)
                r = runner_host_make_token(&join->host);
        if (r >= 0 && join->makes_listen)
                r = runner_host_make_listen(join->address, join->port);
        if (r >= 0)
                r = runner_host_restart();
        if (r < 0)
                return r;
        if (join->makes_token)
                tell("Made a token for this runner: %s", RUNNER_HOST_TOKEN);
        if (join->makes_listen)
                tell("It listens on %s port %u as well: %s", join->address, join->port, RUNNER_HOST_LISTEN);
        if (join->starts)
                tell("Enabled and started daggyr.socket");
        return 0;
}

static int set_up_host(Join *join) {
        if (!join->makes_token && !join->makes_listen && !join->starts)
                return 0;
        int status = join->host.service_is_active ? check_nothing_runs(join->session) : 0;
        if (status != 0)
                return status;
        return change_host(join) < 0 ? SHELL_STATUS_REFUSED : 0;
}

/* ── at the queue ── */

static int turn_to_queue(Session *session, const char *queue) {
        return session_turn_to(session, queue, true, true) < 0 ? SHELL_STATUS_USAGE : 0;
}

static json_object *find_worker(const Answer *workers, const char *id) {
        for (size_t i = 0; i < element_count(workers->json); i++)
                if (streq(member_text(element(workers->json, i), "id"), id))
                        return element(workers->json, i);
        return NULL;
}

/* Another host of this name would be put out of the queue. */
static int check_id_is_ours(Join *join) {
        _cleanup_(answer_done) Answer workers = {};
        const JoinedQueue *before = joined_find(&join->joined, join->queue);
        int status = session_ask_for_workers(join->session, &workers);
        json_object *there = status == 0 ? find_worker(&workers, join->id) : NULL;
        if (!there || streq(member_text(there, "url"), join->url) || (before && streq(before->id, join->id)))
                return status;
        say("the queue has a worker \"%s\" already, at %s: give this one another --id",
            join->id,
            member_text(there, "url"));
        return SHELL_STATUS_REFUSED;
}

static int format_body(const Join *join, char **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "id", join->id) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "url", join->url);
        if (r >= 0 && join->host.token)
                r = json_add_string(object, "token", join->host.token);
        return r < 0 ? r : json_format(object, ret, NULL);
}

static int enlist(Join *join, int *ret_status) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *body = NULL;
        if (format_body(join, &body) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(
                        join->session,
                        &(Ask) { .method = "POST", .path = "/api/v1/workers", .body = body },
                        &answer);
        explicit_bzero(body, strlen(body));
        if (status != 0)
                return status;
        *ret_status = answer.status;
        if (joined_put(&join->joined, join->queue, join->id, join->url) < 0)
                return SHELL_STATUS_REFUSED;
        return joined_write(&join->joined) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int await_reached(const Join *join) {
        for (unsigned i = 0; i < REACHED_TRIES; i++) {
                _cleanup_(answer_done) Answer workers = {};
                int status = session_ask_for_workers(join->session, &workers);
                if (status != 0)
                        return status;
                json_object *worker = find_worker(&workers, join->id);
                if (worker && !streq(member_text(worker, "state"), "silent"))
                        return 0;
                if (session_pause(join->session, REACHED_USEC) < 0)
                        break;
        }
        say("the queue does not reach this runner at %s yet: its log says why", join->url);
        return SHELL_STATUS_REFUSED;
}

static int join_queue(Join *join) {
        int http_status = 0, status = turn_to_queue(join->session, join->queue);
        if (status == 0)
                status = check_id_is_ours(join);
        if (status == 0)
                status = set_up_host(join);
        if (status == 0)
                status = turn_to_queue(join->session, join->queue);
        if (status == 0)
                status = enlist(join, &http_status);
        if (status == 0)
                status = await_reached(join);
        if (status == 0)
                tell("%s %s as \"%s\", which it reaches at %s",
                     http_status == 201 ? "Joined" : "Is with",
                     join->queue,
                     join->id,
                     join->url);
        return status;
}

int verb_join(Session *session, char **arguments) {
        _cleanup_(join_done) Join join = { .session = session, .queue = arguments[0] };
        if (!is_root("join"))
                return SHELL_STATUS_REFUSED;
        int status = turn_to_queue(session, join.queue);
        if (status != 0)
                return status;
        if (joined_read(&join.joined) < 0 || runner_host_read(&join.host) < 0 || choose_id(&join) < 0 ||
            choose_url(&join) < 0 || plan(&join) < 0)
                return SHELL_STATUS_REFUSED;
        return join_queue(&join);
}

/* ── leave ── */

static int await_gone(Session *session, const JoinedQueue *queue) {
        for (bool told = false;; told = true) {
                _cleanup_(answer_done) Answer workers = {};
                int status = session_ask_for_workers(session, &workers);
                json_object *worker = status == 0 ? find_worker(&workers, queue->id) : NULL;
                if (status != 0 || !worker)
                        return status;
                if (!told)
                        tell("Waiting for %.0f tasks of %s to end here",
                             member_number(worker, "running"),
                             queue->queue);
                if (session_pause(session, GONE_USEC) < 0)
                        return SHELL_STATUS_REFUSED;
        }
}

static int leave_queue(Session *session, const JoinedQueue *queue) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *id = NULL, *path = NULL;
        if (text_percent_encode(queue->id, "-._~", &id) < 0 ||
            text_format(&path, "/api/v1/workers/%s", id) < 0)
                return SHELL_STATUS_REFUSED;
        int status = turn_to_queue(session, queue->queue);
        if (status == 0)
                status = session_ask(
                                session,
                                &(Ask) { .method = "DELETE", .path = path, .expected = 404 },
                                &answer);
        if (status == 0)
                status = await_gone(session, queue);
        if (status == 0)
                tell("Left %s", queue->queue);
        return status;
}

static int restore_host(Session *session, Joined *joined) {
        if (!joined->made_token && !joined->made_listen && !joined->enabled)
                return 0;
        _cleanup_(runner_host_done) RunnerHost host = {};
        int r = runner_host_read(&host);
        int status = r >= 0 && host.service_is_active ? check_nothing_runs(session) : 0;
        if (r < 0 || status != 0)
                return status ?: SHELL_STATUS_REFUSED;
        if (joined->made_token)
                r = runner_host_remove_token();
        if (r >= 0 && joined->made_listen)
                r = runner_host_remove_listen();
        if (r >= 0)
                r = runner_host_restart();
        if (r >= 0 && joined->enabled)
                r = runner_host_disable();
        if (r < 0)
                return SHELL_STATUS_REFUSED;
        if (joined->made_listen)
                tell("This runner listens as it did before");
        if (joined->made_token)
                tell("Its token is gone");
        if (joined->enabled)
                tell("Disabled and stopped daggyr.socket");
        joined->made_token = joined->made_listen = joined->enabled = false;
        return joined_write(joined) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int leave_all(Session *session, Joined *joined, const char *only) {
        for (size_t i = 0; i < joined->n_queues;) {
                JoinedQueue *queue = &joined->queues[i];
                if (only && !streq(queue->queue, only)) {
                        i++;
                        continue;
                }
                int status = leave_queue(session, queue);
                if (status != 0)
                        return status;
                joined_remove(joined, queue);
                if (joined_write(joined) < 0)
                        return SHELL_STATUS_REFUSED;
        }
        return 0;
}

int verb_leave(Session *session, char **arguments) {
        _cleanup_(joined_done) Joined joined = {};
        if (!is_root("leave"))
                return SHELL_STATUS_REFUSED;
        if (joined_read(&joined) < 0)
                return SHELL_STATUS_REFUSED;
        if (arguments[0] && !joined_find(&joined, arguments[0])) {
                tell("This runner has not joined %s", arguments[0]);
                return 0;
        }
        if (joined.n_queues == 0 && !joined.made_token && !joined.made_listen && !joined.enabled)
                tell("This runner has joined no queue");
        int status = leave_all(session, &joined, arguments[0]);
        return status != 0 || joined.n_queues > 0 ? status : restore_host(session, &joined);
}
