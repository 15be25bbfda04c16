/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members of a queue in one process, each with a server, a router and a forwarder of its own; who leads is
 * what the test says. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/text.h"
#include "core/http/forward-rule.h"
#include "core/http/token.h"
#include "identity.h"
#include "io/file.h"
#include "io/http-client.h"
#include "io/http-server.h"
#include "io/loop.h"
#include "queue/forward.h"
#include "raw-peer.h"
#include "service/router.h"

#define AWAIT_USEC  (20 * USEC_PER_SEC)
#define HOLD_USEC   (1500 * USEC_PER_MSEC)
#define HELD_MAX    8
#define HOSTS_MAX   3
#define PARKED_MAX  32
#define BIG_BYTES   (50 * 1024 * 1024)
#define TOKEN       "0123456789abcdef-token"
#define BEARER      "Authorization: Bearer 0123456789abcdef-token"
#define WAITS_MAX   12
#define CONNECTIONS 16 /* of which that many are for those that wait */

typedef struct Bed Bed;

typedef struct Host {
        Bed *bed;
        Member member;
        char id[16], url[64], secret[40];
        Access access;
        ServiceConfig config;
        Router *router;
        HttpServer *server;
        Forwarder *forwarder;
        bool unknown; /* the others do not know its secret */
        unsigned n_served, n_hung_up;
        HttpRequest *parked[PARKED_MAX];
        unsigned n_parked;
        uint64_t n_sent; /* of a stream */
        HttpRequest *stream;
        Text seen; /* the last request as it came */
} Host;

struct Bed {
        sd_event *event;
        HttpClient *client;
        Host hosts[HOSTS_MAX];
        const Host *leader; /* NULL: nobody */
        const Host *soon;   /* about to lead */
        Member raw_leader;  /* a leader whose url is this, instead, if it has one */
        RawPeer peer;
        char peer_url[64];
};

/* What a client got. */
typedef struct Seen {
        HttpCall *call;
        Text body;
        uint64_t n_bytes;
        int status, error;
        unsigned retry_after_sec, n_headers;
        bool done, slow, is_wrong;
        char content_type[64], location[64], length[32], marker[32];
} Seen;

#define AWAIT(bed, condition)                                                           \
        for (usec_t _deadline = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC; !(condition);) { \
                if (usec_now(CLOCK_BOOTTIME) > _deadline)                               \
                        fail_msg("never came true: %s", #condition);                    \
                assert_true(sd_event_run((bed)->event, 50 * USEC_PER_MSEC) >= 0);       \
        }

static void settle(const Bed *bed, usec_t usec) {
        for (usec_t end = usec_now(CLOCK_BOOTTIME) + usec; usec_now(CLOCK_BOOTTIME) < end;)
                assert_true(sd_event_run(bed->event, 5 * USEC_PER_MSEC) >= 0);
}

/* ── what members serve ── */

static void route_echo(void *userdata, HttpRequest *request, const RequestContext *context) {
        static const char *const names[] = { "Content-Type",  "Accept",    "traceparent", "Last-Event-ID",
                                             "Authorization", "Cookie",    "Origin",      "Daggyr-Queue",
                                             "X-Other",       "User-Agent" };
        Host *host = userdata;
        size_t size;
        const char *body = http_request_body(request, &size);
        host->n_served++;
        host->seen.size = 0;
        assert_int_equal(
                        text_appendf(&host->seen,
                                     "%s %s?%s\n%s\n",
                                     http_request_method(request),
                                     http_request_path(request),
                                     http_request_query(request),
                                     body),
                        0);
        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                if (http_request_header(request, names[i]))
                        assert_int_equal(
                                        text_appendf(&host->seen,
                                                     "%s: %s\n",
                                                     names[i],
                                                     http_request_header(request, names[i])),
                                        0);
        assert_int_equal(http_request_add_header(request, "Location", "/api/v1/task/7"), 0);
        http_request_answer(request, 202, "text/x-echo", host->id, strlen(host->id));
}

static void route_problem(void *userdata, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        (void) problem_set_for_now(&problem, 429, 7, "full");
        http_request_answer_problem(request, &problem, NULL);
}

static char byte_at(uint64_t position) {
        return (char) ('a' + position % 23);
}

static ssize_t read_big(void *userdata, char *buffer, size_t size) {
        Host *host = userdata;
        if (host->n_sent == BIG_BYTES)
                return -ENODATA;
        if (size > BIG_BYTES - host->n_sent)
                size = BIG_BYTES - host->n_sent;
        for (size_t i = 0; i < size; i++)
                buffer[i] = byte_at(host->n_sent + i);
        host->n_sent += size;
        return (ssize_t) size;
}

static void on_stream_release(void *userdata) {
        Host *host = userdata;
        host->stream = NULL;
        host->n_hung_up++;
}

static void route_big(void *userdata, HttpRequest *request, const RequestContext *context) {
        Host *host = userdata;
        host->n_sent = 0;
        host->stream = request;
        http_request_answer_stream(
                        request, 200, "application/octet-stream", read_big, on_stream_release, host);
}

static ssize_t read_nothing(void *userdata, char *buffer, size_t size) {
        return 0;
}

static void route_silent(void *userdata, HttpRequest *request, const RequestContext *context) {
        Host *host = userdata;
        host->stream = request;
        http_request_answer_stream(request, 200, "text/event-stream", read_nothing, on_stream_release, host);
}

static void on_parked_hangup(HttpRequest *request, void *userdata) {
        Host *host = userdata;
        host->n_hung_up++;
        for (unsigned i = 0; i < host->n_parked; i++)
                if (host->parked[i] == request) {
                        host->parked[i] = host->parked[--host->n_parked];
                        return;
                }
        fail_msg("an unknown request hung up");
}

static void route_park(void *userdata, HttpRequest *request, const RequestContext *context) {
        Host *host = userdata;
        assert_true(host->n_parked < PARKED_MAX);
        host->n_served++;
        host->parked[host->n_parked++] = request;
        http_request_on_hangup(request, on_parked_hangup, host);
}

static void answer_parked(Host *host) {
        while (host->n_parked > 0)
                http_request_answer(host->parked[--host->n_parked], 200, NULL, host->id, strlen(host->id));
}

static void route_local(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Host *host = userdata;
        http_request_answer(request, 200, NULL, host->id, strlen(host->id));
}

static const Endpoint endpoints[] = {
        { "GET", "/api/v1/task/{id}", ACCESS_READ, route_echo, .query_rule = QUERY_ANY },
        { "POST", "/api/v1/task/{id}", ACCESS_SUBMIT, route_echo },
        { "POST", "/api/v1/task", ACCESS_SUBMIT, route_park },
        { "PUT", "/api/v1/workers/{id}", ACCESS_MANAGE, route_park },
        { "GET", "/api/v1/tasks", ACCESS_READ, route_park, .query_rule = QUERY_ANY },
        { "GET", "/api/v1/problem", ACCESS_READ, route_problem },
        { "GET", "/api/v1/big", ACCESS_READ, route_big },
        { "GET", "/api/v1/events", ACCESS_READ, route_silent },
        { "GET", "/ready", ACCESS_PUBLIC, route_local, .everywhere = true },
        {},
};

/* ── the bed ── */

static const Member *who_leads(void *userdata) {
        const Host *host = userdata;
        const Bed *bed = host->bed;
        if (bed->raw_leader.url)
                return &bed->raw_leader;
        return !bed->leader || bed->leader == host ? NULL : &bed->leader->member;
}

static bool does_lead(void *userdata) {
        const Host *host = userdata;
        return host->bed->leader == host;
}

static bool leads_soon(void *userdata) {
        const Host *host = userdata;
        return host->bed->soon == host;
}

static bool is_known(const char *secret, void *userdata) {
        const Host *host = userdata;
        for (size_t i = 0; i < HOSTS_MAX; i++)
                if (!host->bed->hosts[i].unknown &&
                    token_matches(host->bed->hosts[i].secret, secret, strlen(secret)))
                        return true;
        return false;
}

static void serve(Host *host) {
        static const HttpServerOptions server_options = {
                .body_bytes_max = 1 << 20,
                .bodies_bytes_max = 16 << 20,
                .answers_bytes_max = 16 << 20,
                .connections_max = 200,
                .idle_timeout_sec = 60,
        };
        uint16_t port;
        assert_int_equal(
                        http_server_new(host->bed->event,
                                        &server_options,
                                        &router_http_handlers,
                                        host->router,
                                        &host->server),
                        0);
        int fd = http_listen_tcp("127.0.0.1", 0, &port);
        assert_true(fd >= 0);
        assert_int_equal(http_server_listen(host->server, fd), 0);
        http_server_accept(host->server);
        (void) snprintf(host->url, sizeof(host->url), "http://127.0.0.1:%u", port);
        host->member.url = host->url;
}

static void host_init(Host *host, Bed *bed, unsigned number) {
        host->bed = bed;
        (void) snprintf(host->id, sizeof(host->id), "member%u", number);
        (void) snprintf(host->secret, sizeof(host->secret), "the secret of member %u", number);
        host->member = (Member) { .id = host->id, .secret = host->secret, .alive = true };
        assert_int_equal(service_config_init(&host->config, 0), 0);
        assert_int_equal(access_init(&host->access, bed->event, "daggyd", "localhost", true), 0);
        access_configure(&host->access, &host->config, strdup(TOKEN));
        access_trust(&host->access, is_known, host);
        assert_int_equal(
                        router_new(&(EndpointTable) { endpoints, host }, 1, &host->access, &host->router), 0);
        assert_int_equal(
                        forwarder_new(&(ForwarderOptions) { .event = bed->event,
                                                            .config = &host->config,
                                                            .secret = host->secret,
                                                            .hold_usec = HOLD_USEC,
                                                            .held_max = HELD_MAX,
                                                            .connections_max = CONNECTIONS + 1,
                                                            .leader = who_leads,
                                                            .leads = does_lead,
                                                            .leads_soon = leads_soon,
                                                            .userdata = host },
                                      &host->forwarder),
                        0);
        router_divert(host->router, forwarder_take, host->forwarder);
        serve(host);
}

static void host_stop(Host *host) {
        host->server = http_server_free(host->server);
        host->n_parked = 0;
}

static void host_done(Host *host) {
        host_stop(host);
        forwarder_free(host->forwarder);
        router_free(host->router);
        access_done(&host->access);
        service_config_done(&host->config);
        text_done(&host->seen);
}

static int setup(void **state) {
        Bed *bed = calloc(1, sizeof(*bed));
        assert_non_null(bed);
        assert_int_equal(loop_new(&bed->event), 0);
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                host_init(&bed->hosts[i], bed, i);
        const HttpClientOptions options = { .connections_max = 64,
                                            .connections_per_host_max = 64,
                                            .calls_max = 64 };
        assert_int_equal(http_client_new(bed->event, &options, &bed->client), 0);
        *state = bed;
        return 0;
}

static int teardown(void **state) {
        Bed *bed = *state;
        http_client_free(bed->client);
        raw_peer_stop(&bed->peer);
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                host_done(&bed->hosts[i]);
        sd_event_unref(bed->event);
        free(bed);
        return 0;
}

/* LEADER leads, or nobody, and all have heard of it. */
static void set_leader(Bed *bed, const Host *leader) {
        bed->leader = leader;
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                forwarder_leader_changed(bed->hosts[i].forwarder);
}

/* ── the client ── */

static void copy_header(HttpCall *call, const char *name, char *buffer, size_t size) {
        (void) snprintf(buffer, size, "%s", http_call_answer_header(call, name) ?: "");
}

static void on_header(HttpCall *call, void *userdata) {
        Seen *seen = userdata;
        seen->n_headers++;
        if (seen->slow)
                http_call_pause(call);
}

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Seen *seen = userdata;
        const char *text = bytes;
        for (size_t i = 0; size > 1024 && i < size; i++)
                seen->is_wrong |= text[i] != byte_at(seen->n_bytes + i);
        seen->n_bytes += size;
        return size <= 1024 ? text_append_bytes(&seen->body, bytes, size) : 0;
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Seen *seen = userdata;
        seen->done = true;
        seen->error = outcome->error;
        seen->status = outcome->status;
        seen->retry_after_sec = outcome->retry_after_sec;
        (void) snprintf(seen->content_type, sizeof(seen->content_type), "%s", outcome->content_type ?: "");
        copy_header(call, "Location", seen->location, sizeof(seen->location));
        copy_header(call, "Content-Length", seen->length, sizeof(seen->length));
        copy_header(call, FORWARD_HEADER, seen->marker, sizeof(seen->marker));
        if (outcome->body_size > 0)
                assert_int_equal(text_append_bytes(&seen->body, outcome->body, outcome->body_size), 0);
}

static void seen_done(Seen *seen) {
        http_call_free(seen->call);
        text_done(&seen->body);
        *seen = (Seen) {};
}

static void ask_with(
                const Bed *bed,
                const Host *host,
                const char *method,
                const char *path,
                const char *const *headers,
                Seen *seen) {
        char url[160];
        bool has_body = streq(method, "POST") || streq(method, "PUT");
        (void) snprintf(url, sizeof(url), "%s%s", host->url, path);
        assert_int_equal(
                        http_call_new(bed->client,
                                      &(HttpCallOptions) { .method = method,
                                                           .url = url,
                                                           .content_type = has_body ? "application/json" :
                                                                                      NULL,
                                                           .headers = headers,
                                                           .body = has_body ? "{\"a\":1}" : NULL,
                                                           .body_size = has_body ? 7 : 0,
                                                           .answer_bytes_max = 1 << 20,
                                                           .on_done = on_done,
                                                           .on_header = on_header,
                                                           .on_data = on_data,
                                                           .userdata = seen },
                                      &seen->call),
                        0);
}

static const char *const with_token[] = { BEARER, NULL };

static void ask(const Bed *bed, const Host *host, const char *method, const char *path, Seen *seen) {
        ask_with(bed, host, method, path, with_token, seen);
}

static void check_answer(Seen *seen, int status, const char *body) {
        assert_int_equal(seen->error, 0);
        assert_int_equal(seen->status, status);
        if (body)
                assert_string_equal(seen->body.data ?: "", body);
        seen_done(seen);
}

/* ── tests ── */

static void a_request_is_passed_on_as_it_came(void **state) {
        Bed *bed = *state;
        static const char *const headers[] = {
                BEARER,        "Accept: text/plain",  "traceparent: 00-1", "Last-Event-ID: 9",
                "Cookie: a=b", "Daggyr-Queue: 1 h:1", "X-Other: x",        NULL
        };
        Seen seen = {};
        set_leader(bed, &bed->hosts[1]);
        ask_with(bed, &bed->hosts[0], "POST", "/api/v1/task/a%2Fb..:7", headers, &seen);
        AWAIT(bed, seen.done);
        assert_string_equal(
                        bed->hosts[1].seen.data,
                        "POST /api/v1/task/a%2Fb..:7?\n{\"a\":1}\nContent-Type: application/json\n"
                        "Accept: text/plain\ntraceparent: 00-1\nLast-Event-ID: 9\nDaggyr-Queue: 1 h:1\n");
        assert_string_equal(seen.content_type, "text/x-echo");
        assert_string_equal(seen.location, "/api/v1/task/7");
        assert_string_equal(seen.length, "7");
        check_answer(&seen, 202, "member1");
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1?output=a%20b&x=%3F", &seen);
        AWAIT(bed, seen.done);
        assert_memory_equal(bed->hosts[1].seen.data, "GET /api/v1/task/1?output=a%20b&x=%3F\n", 38);
        check_answer(&seen, 202, "member1");
        assert_int_equal(bed->hosts[0].n_served, 0);
        assert_int_equal(forwarder_n_forwarded(bed->hosts[0].forwarder), 2);
}

static void refusals_and_heads_come_back_too(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/problem", &seen);
        AWAIT(bed, seen.done);
        assert_int_equal(seen.retry_after_sec, 7);
        assert_string_equal(seen.content_type, "application/problem+json");
        check_answer(&seen, 429, NULL);
        ask(bed, &bed->hosts[0], "HEAD", "/api/v1/task/1", &seen);
        AWAIT(bed, seen.done);
        assert_string_equal(seen.length, "7");
        check_answer(&seen, 202, "");
        ask(bed, &bed->hosts[0], "HEAD", "/api/v1/big", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 200, "");
        AWAIT(bed, !bed->hosts[1].stream);
}

static void what_each_serves_itself_and_the_leader_serves_stays(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/ready", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 200, "member0");
        ask(bed, &bed->hosts[1], "GET", "/api/v1/task/1", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 202, "member1");
        assert_int_equal(forwarder_n_forwarded(bed->hosts[0].forwarder), 0);
        assert_int_equal(forwarder_n_forwarded(bed->hosts[1].forwarder), 0);
}

static void a_slow_reader_holds_up_the_leader_and_no_memory(void **state) {
        Bed *bed = *state;
        Host *leader = &bed->hosts[1];
        Seen seen = { .slow = true };
        set_leader(bed, leader);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/big", &seen);
        AWAIT(bed, seen.n_headers > 0);
        settle(bed, 300 * USEC_PER_MSEC);
        uint64_t n_sent = leader->n_sent;
        assert_true(n_sent < BIG_BYTES / 2); /* what the sockets hold, and some more */
        settle(bed, 200 * USEC_PER_MSEC);
        assert_int_equal(leader->n_sent, n_sent);
        http_call_resume(seen.call);
        AWAIT(bed, seen.done);
        assert_int_equal(seen.n_bytes, BIG_BYTES);
        assert_false(seen.is_wrong);
        assert_string_equal(seen.content_type, "application/octet-stream");
        check_answer(&seen, 200, NULL);
        AWAIT(bed, !leader->stream);
}

static void a_stream_without_data_has_its_header_at_once(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/events", &seen);
        AWAIT(bed, seen.n_headers == 1);
        assert_false(seen.done);
        seen_done(&seen);
        AWAIT(bed, bed->hosts[1].n_hung_up == 1); /* the client is gone, and nobody else reads it */
}

static void the_leader_hears_that_a_client_is_gone(void **state) {
        Bed *bed = *state;
        Seen seen = {}, big = { .slow = true };
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/tasks?wait=9", &seen);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/big", &big);
        AWAIT(bed, bed->hosts[1].n_parked == 1 && big.n_headers == 1);
        seen_done(&seen);
        seen_done(&big);
        AWAIT(bed, bed->hosts[1].n_hung_up == 2);
}

static void a_leader_that_dies_in_the_middle_breaks_the_stream(void **state) {
        Bed *bed = *state;
        Seen seen = { .slow = true };
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/big", &seen);
        AWAIT(bed, seen.n_headers > 0);
        settle(bed, 100 * USEC_PER_MSEC);
        host_stop(&bed->hosts[1]);
        http_call_resume(seen.call);
        AWAIT(bed, seen.done);
        assert_true(seen.error < 0);
        assert_true(seen.n_bytes < BIG_BYTES);
        assert_false(seen.is_wrong);
        seen_done(&seen);
}

static void requests_are_held_until_somebody_leads(void **state) {
        Bed *bed = *state;
        Seen once = {}, other = {};
        set_leader(bed, NULL);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &once);
        ask(bed, &bed->hosts[2], "POST", "/api/v1/task/2", &other);
        AWAIT(bed,
              forwarder_n_held(bed->hosts[0].forwarder) == 1 &&
                              forwarder_n_held(bed->hosts[2].forwarder) == 1);
        assert_non_null(forwarder_trouble(bed->hosts[0].forwarder));
        settle(bed, 300 * USEC_PER_MSEC);
        assert_false(once.done || other.done);
        set_leader(bed, &bed->hosts[2]); /* one is passed on, the other is served where it is */
        AWAIT(bed, once.done && other.done);
        check_answer(&once, 202, "member2");
        check_answer(&other, 202, "member2");
        assert_null(forwarder_trouble(bed->hosts[0].forwarder));
        assert_null(forwarder_trouble(bed->hosts[2].forwarder));
        assert_int_equal(forwarder_n_held(bed->hosts[0].forwarder), 0);
}

static void but_not_for_ever_nor_any_number(void **state) {
        Bed *bed = *state;
        Seen seen[HELD_MAX + 1] = {};
        set_leader(bed, NULL);
        usec_t begin_usec = usec_now(CLOCK_BOOTTIME);
        for (size_t i = 0; i < HELD_MAX; i++)
                ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &seen[i]);
        AWAIT(bed, forwarder_n_held(bed->hosts[0].forwarder) == HELD_MAX);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &seen[HELD_MAX]);
        AWAIT(bed, seen[HELD_MAX].done);
        assert_true(usec_now(CLOCK_BOOTTIME) < begin_usec + HOLD_USEC);
        check_answer(&seen[HELD_MAX], 503, NULL);
        for (size_t i = 0; i < HELD_MAX; i++) {
                AWAIT(bed, seen[i].done);
                assert_int_equal(seen[i].retry_after_sec, 1);
                assert_string_equal(seen[i].marker, "");
                check_answer(&seen[i], 503, NULL);
        }
        assert_true(usec_now(CLOCK_BOOTTIME) >= begin_usec + HOLD_USEC);
        assert_true(usec_now(CLOCK_BOOTTIME) < begin_usec + HOLD_USEC + USEC_PER_SEC);
}

static void one_that_is_held_may_go_away(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, NULL);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &seen);
        AWAIT(bed, forwarder_n_held(bed->hosts[0].forwarder) == 1);
        seen_done(&seen);
        AWAIT(bed, forwarder_n_held(bed->hosts[0].forwarder) == 0);
}

static void a_leader_that_cannot_be_reached_counts_as_none(void **state) {
        Bed *bed = *state;
        Seen get = {}, post = {};
        host_stop(&bed->hosts[1]);
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &get);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &post); /* not repeatable, but it was not sent */
        settle(bed, 500 * USEC_PER_MSEC);
        assert_false(get.done || post.done);
        assert_non_null(forwarder_trouble(bed->hosts[0].forwarder));
        serve(&bed->hosts[1]); /* at another port, as nobody is told: the next try finds it */
        AWAIT(bed, get.done && bed->hosts[1].n_parked == 1);
        answer_parked(&bed->hosts[1]);
        AWAIT(bed, post.done);
        check_answer(&get, 202, "member1");
        check_answer(&post, 200, "member1");
        assert_null(forwarder_trouble(bed->hosts[0].forwarder));
}

static void what_was_lost_is_repeated_only_if_that_makes_no_difference(void **state) {
        Bed *bed = *state;
        Seen get = {}, put = {}, post = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/tasks?wait=5", &get);
        ask(bed, &bed->hosts[0], "PUT", "/api/v1/workers/a", &put);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &post);
        AWAIT(bed, bed->hosts[1].n_parked == 3);
        host_stop(&bed->hosts[1]);
        AWAIT(bed, post.done);
        assert_int_equal(post.retry_after_sec, 0);
        check_answer(&post, 502, NULL);
        set_leader(bed, &bed->hosts[2]);
        AWAIT(bed, bed->hosts[2].n_parked == 2);
        answer_parked(&bed->hosts[2]);
        AWAIT(bed, get.done && put.done);
        check_answer(&get, 200, "member2");
        check_answer(&put, 200, "member2");
}

/* It was stopped, say: its connections are there, and nothing comes. */
static void a_leader_that_is_followed_by_another_is_not_waited_for(void **state) {
        Bed *bed = *state;
        Seen get = {}, post = {}, events = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/tasks?wait=5", &get);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &post);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/events", &events);
        AWAIT(bed, bed->hosts[1].n_parked == 2 && events.n_headers == 1);
        set_leader(bed, NULL); /* it may still answer */
        settle(bed, 2500 * USEC_PER_MSEC);
        assert_false(get.done || post.done || events.done);
        assert_int_equal(bed->hosts[1].n_parked, 2);
        set_leader(bed, &bed->hosts[2]);
        AWAIT(bed, bed->hosts[2].n_parked == 1); /* at once */
        assert_false(post.done || events.done);
        answer_parked(&bed->hosts[2]);
        AWAIT(bed, get.done);
        check_answer(&get, 200, "member2");
        AWAIT(bed, post.done && events.done);
        check_answer(&post, 502, NULL);
        assert_true(events.error < 0);
        seen_done(&events);
}

static void the_last_words_of_a_former_leader_are_passed_on(void **state) {
        Bed *bed = *state;
        Seen post = {};
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &post);
        AWAIT(bed, bed->hosts[1].n_parked == 1);
        set_leader(bed, &bed->hosts[0]);
        settle(bed, 300 * USEC_PER_MSEC);
        answer_parked(&bed->hosts[1]);
        AWAIT(bed, post.done);
        check_answer(&post, 200, "member1");
}

static void nothing_is_passed_on_twice(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        char line[96];
        const char *const headers[] = { line, NULL };
        /* The one that asks takes a member for the leader that is none, and knows of another that is. */
        set_leader(bed, &bed->hosts[2]);
        (void) snprintf(line, sizeof(line), FORWARD_HEADER ": %s", bed->hosts[0].secret);
        ask_with(bed, &bed->hosts[1], "GET", "/api/v1/task/1", headers, &seen);
        AWAIT(bed, seen.done);
        assert_string_equal(seen.marker, FORWARD_NOT_LEADING);
        check_answer(&seen, 503, NULL);
        assert_int_equal(bed->hosts[2].n_served, 0);
}

static void one_that_is_about_to_lead_holds_what_it_is_passed(void **state) {
        Bed *bed = *state;
        Seen seen = {}, other = {};
        set_leader(bed, NULL);
        bed->raw_leader = bed->hosts[1].member;
        bed->soon = &bed->hosts[1];
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task/1", &seen);
        AWAIT(bed, forwarder_n_held(bed->hosts[1].forwarder) == 1);
        settle(bed, 500 * USEC_PER_MSEC);
        assert_int_equal(forwarder_n_forwarded(bed->hosts[1].forwarder), 0);
        set_leader(bed, &bed->hosts[1]);
        AWAIT(bed, seen.done);
        check_answer(&seen, 202, "member1");
        /* And passes nothing on when it comes to be another's turn. */
        bed->leader = NULL;
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task/1", &other);
        AWAIT(bed, forwarder_n_held(bed->hosts[1].forwarder) == 1);
        bed->soon = NULL;
        bed->raw_leader = bed->hosts[2].member;
        set_leader(bed, &bed->hosts[2]);
        AWAIT(bed, other.done);
        check_answer(&other, 202, "member2");
        assert_int_equal(forwarder_n_forwarded(bed->hosts[1].forwarder), 0);
}

static void one_that_leads_no_more_says_so_and_is_asked_again(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, NULL);
        bed->raw_leader = bed->hosts[1].member;
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &seen);
        settle(bed, 700 * USEC_PER_MSEC);
        assert_false(seen.done);
        bed->leader = &bed->hosts[1];
        AWAIT(bed, bed->hosts[1].n_parked == 1);
        answer_parked(&bed->hosts[1]);
        AWAIT(bed, seen.done);
        check_answer(&seen, 200, "member1");
}

static void a_secret_that_is_not_known_yet_is_shown_again(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        set_leader(bed, &bed->hosts[1]);
        bed->hosts[0].unknown = true;
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &seen);
        settle(bed, 500 * USEC_PER_MSEC);
        assert_false(seen.done);
        bed->hosts[0].unknown = false;
        AWAIT(bed, bed->hosts[1].n_parked == 1);
        answer_parked(&bed->hosts[1]);
        AWAIT(bed, seen.done);
        check_answer(&seen, 200, "member1");
}

static void a_wrong_secret_opens_nothing_whatever_comes_with_it(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        static const char *const headers[] = { FORWARD_HEADER ": guessed", BEARER, NULL };
        set_leader(bed, &bed->hosts[1]);
        ask_with(bed, &bed->hosts[1], "GET", "/api/v1/task/1", headers, &seen);
        AWAIT(bed, seen.done);
        assert_string_equal(seen.marker, FORWARD_UNKNOWN);
        check_answer(&seen, 401, NULL);
        /* And who has no token is refused where he asks. */
        ask_with(bed, &bed->hosts[0], "GET", "/api/v1/task/1", NULL, &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 401, NULL);
        assert_int_equal(forwarder_n_forwarded(bed->hosts[0].forwarder), 0);
        assert_int_equal(bed->hosts[1].n_served, 0);
}

static void use_certificates(Host *host, const Identity *own, const Identity *authority) {
        free(host->config.tls_cert);
        free(host->config.tls_key);
        free(host->config.tls_client_ca);
        host->config.tls_cert = strdup(own->certificate_path);
        host->config.tls_key = strdup(own->key_path);
        host->config.tls_client_ca = strdup(authority->certificate_path);
}

static void serve_by_https(Host *host) {
        Text cert = {}, key = {}, client_ca = {};
        Problem problem = {};
        assert_true(file_read_all(host->config.tls_cert, 1 << 16, &cert) >= 0);
        assert_true(file_read_all(host->config.tls_key, 1 << 16, &key) >= 0);
        assert_true(file_read_all(host->config.tls_client_ca, 1 << 16, &client_ca) >= 0);
        const HttpTls tls = { .cert = cert.data, .key = key.data, .client_ca = client_ca.data };
        assert_int_equal(http_server_set_tls(host->server, &tls, &problem), 0);
        memmove(host->url + 5, host->url + 4, strlen(host->url + 4) + 1);
        host->url[4] = 's';
        text_done(&cert);
        text_done(&key);
        text_done(&client_ca);
}

static void members_trust_whom_clients_are_trusted_by(void **state) {
        Bed *bed = *state;
        Identity authority, stranger, members[2];
        char directory[] = "/tmp/test-forward-XXXXXX";
        Seen seen = {};
        assert_non_null(mkdtemp(directory));
        identity_new(directory, &authority, "authority", NULL, NULL);
        identity_new(directory, &stranger, "stranger", NULL, NULL);
        identity_new(directory, &members[0], "member0", &authority, "127.0.0.1");
        identity_new(directory, &members[1], "member1", &authority, "127.0.0.1");
        use_certificates(&bed->hosts[0], &members[0], &authority);
        use_certificates(&bed->hosts[1], &members[1], &authority);
        serve_by_https(&bed->hosts[1]);
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task/1", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 202, "member1");
        /* A leader whom nobody vouches for learns neither the request nor the secret. */
        use_certificates(&bed->hosts[0], &members[0], &stranger);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 503, NULL);
        assert_int_equal(bed->hosts[1].n_parked, 0);
        identity_done(&authority);
        identity_done(&stranger);
        identity_done(&members[0]);
        identity_done(&members[1]);
        assert_int_equal(rmdir(directory), 0);
}

static void waiters_leave_room_for_others(void **state) {
        Bed *bed = *state;
        Seen waiters[WAITS_MAX + 1] = {}, seen = {};
        set_leader(bed, &bed->hosts[1]);
        for (size_t i = 0; i < WAITS_MAX; i++)
                ask(bed, &bed->hosts[0], "GET", "/api/v1/tasks?wait=9", &waiters[i]);
        AWAIT(bed, bed->hosts[1].n_parked == WAITS_MAX);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/tasks?wait=9", &waiters[WAITS_MAX]);
        AWAIT(bed, waiters[WAITS_MAX].done);
        assert_int_equal(waiters[WAITS_MAX].retry_after_sec, 1);
        check_answer(&waiters[WAITS_MAX], 503, NULL);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &seen);
        AWAIT(bed, seen.done);
        check_answer(&seen, 202, "member1");
        answer_parked(&bed->hosts[1]);
        for (size_t i = 0; i < WAITS_MAX; i++) {
                AWAIT(bed, waiters[i].done);
                check_answer(&waiters[i], 200, "member1");
        }
}

static void answer_half(RawConnection *connection, void *userdata) {
        raw_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        raw_close(connection);
}

static void half_of_a_short_answer_is_shown_to_nobody(void **state) {
        Bed *bed = *state;
        Seen seen = {};
        raw_peer_start(&bed->peer, bed->event, answer_half, NULL);
        (void) snprintf(bed->peer_url, sizeof(bed->peer_url), "http://127.0.0.1:%u", bed->peer.port);
        bed->raw_leader = (Member) { .id = "raw", .url = bed->peer_url };
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &seen);
        AWAIT(bed, bed->peer.n_connections >= 2);
        assert_false(seen.done);
        bed->raw_leader = (Member) {};
        set_leader(bed, &bed->hosts[2]);
        AWAIT(bed, seen.done);
        check_answer(&seen, 202, "member2");
}

static void all_may_end_with_requests_in_every_state(void **state) {
        Bed *bed = *state;
        Seen held = {}, sent = {}, streamed = { .slow = true };
        set_leader(bed, &bed->hosts[1]);
        ask(bed, &bed->hosts[0], "POST", "/api/v1/task", &sent);
        ask(bed, &bed->hosts[0], "GET", "/api/v1/big", &streamed);
        AWAIT(bed, bed->hosts[1].n_parked == 1 && streamed.n_headers == 1);
        bed->leader = NULL;
        ask(bed, &bed->hosts[0], "GET", "/api/v1/task/1", &held);
        AWAIT(bed, forwarder_n_held(bed->hosts[0].forwarder) == 1);
        host_stop(&bed->hosts[0]);
        seen_done(&held);
        seen_done(&sent);
        seen_done(&streamed);
}

#define FORWARD_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                FORWARD_TEST(a_request_is_passed_on_as_it_came),
                FORWARD_TEST(refusals_and_heads_come_back_too),
                FORWARD_TEST(what_each_serves_itself_and_the_leader_serves_stays),
                FORWARD_TEST(a_slow_reader_holds_up_the_leader_and_no_memory),
                FORWARD_TEST(a_stream_without_data_has_its_header_at_once),
                FORWARD_TEST(the_leader_hears_that_a_client_is_gone),
                FORWARD_TEST(a_leader_that_dies_in_the_middle_breaks_the_stream),
                FORWARD_TEST(requests_are_held_until_somebody_leads),
                FORWARD_TEST(but_not_for_ever_nor_any_number),
                FORWARD_TEST(one_that_is_held_may_go_away),
                FORWARD_TEST(a_leader_that_cannot_be_reached_counts_as_none),
                FORWARD_TEST(what_was_lost_is_repeated_only_if_that_makes_no_difference),
                FORWARD_TEST(a_leader_that_is_followed_by_another_is_not_waited_for),
                FORWARD_TEST(the_last_words_of_a_former_leader_are_passed_on),
                FORWARD_TEST(nothing_is_passed_on_twice),
                FORWARD_TEST(one_that_is_about_to_lead_holds_what_it_is_passed),
                FORWARD_TEST(one_that_leads_no_more_says_so_and_is_asked_again),
                FORWARD_TEST(a_secret_that_is_not_known_yet_is_shown_again),
                FORWARD_TEST(a_wrong_secret_opens_nothing_whatever_comes_with_it),
                FORWARD_TEST(members_trust_whom_clients_are_trusted_by),
                FORWARD_TEST(waiters_leave_room_for_others),
                FORWARD_TEST(half_of_a_short_answer_is_shown_to_nobody),
                FORWARD_TEST(all_may_end_with_requests_in_every_state),
        };
        (void) signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
