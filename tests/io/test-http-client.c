/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Against our own server where it is to go well, and against a raw peer where it is not. */

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../unit/test.h"
#include "io/http-client.h"
#include "io/http-server.h"
#include "io/loop.h"
#include "raw-peer.h"

#define AWAIT_USEC (20 * USEC_PER_SEC)
#define PARKED_MAX 1100

/* What a call came to. */
typedef struct Seen {
        HttpCall *call;
        unsigned n_done;
        int error, status;
        bool not_sent, has_error_text;
        char *content_type;
        unsigned retry_after_sec;
        Text body;
        Text data; /* what on_data got */
        unsigned n_pieces, n_headers;
        bool free_when_done, free_on_data, pause_on_data;
        int data_result;
        unsigned *n_told;  /* counts callbacks of several calls */
        unsigned turn;     /* the number of this one's first */
        sd_event *exits;   /* ended in the first callback */
        HttpCall *victim;  /* freed in the first callback */
        HttpClient *again; /* started anew when done, and counted down */
        const HttpCallOptions *again_options;
        unsigned n_again;
        char kept[16]; /* the header X-Kept, as on_header found it */
} Seen;

typedef struct Fixture {
        sd_event *event;
        HttpClient *client;
        HttpServer *server;
        RawPeer peer;
        uint16_t port;
        char url[64], peer_url[64];
        HttpRequest *parked[PARKED_MAX];
        unsigned n_parked, n_parked_max, n_hung_up;
        unsigned n_connections_max;
        HttpRequest *stream;
        uint64_t stream_bytes, stream_bytes_max; /* sent so far; in all */
        const char *raw_answer;                  /* for answer_and_close(), … */
        int n_fds;
} Fixture;

static int count_fds(bool check_cloexec) {
        DIR *directory = opendir("/proc/self/fd");
        struct dirent *entry;
        int n = 0;
        assert_non_null(directory);
        while ((entry = readdir(directory))) {
                if (entry->d_name[0] == '.')
                        continue;
                int fd = atoi(entry->d_name), flags = fcntl(fd, F_GETFD);
                if (check_cloexec && fd > 2 && !(flags & FD_CLOEXEC))
                        fail_msg("descriptor %d would be inherited", fd);
                n++;
        }
        closedir(directory);
        return n;
}

#define AWAIT(fixture, condition)                                                       \
        for (usec_t _deadline = usec_now(CLOCK_BOOTTIME) + AWAIT_USEC; !(condition);) { \
                if (usec_now(CLOCK_BOOTTIME) > _deadline)                               \
                        fail_msg("never came true: %s", #condition);                    \
                assert_true(sd_event_run((fixture)->event, 100 * USEC_PER_MSEC) >= 0);  \
        }

/* Lets the loop run for what must not happen. */
static void settle(Fixture *fixture, usec_t usec) {
        for (usec_t end = usec_now(CLOCK_BOOTTIME) + usec; usec_now(CLOCK_BOOTTIME) < end;)
                assert_true(sd_event_run(fixture->event, 5 * USEC_PER_MSEC) >= 0);
}

static void answer_echo(HttpRequest *request) {
        static const char *const names[] = { "Content-Type",      "Content-Length",  "Authorization",
                                             "Daggyr-Lease",      "Expect",          "User-Agent",
                                             "Transfer-Encoding", "Accept-Encoding", "X-More" };
        Text text = {};
        size_t size;
        (void) http_request_body(request, &size);
        assert_int_equal(
                        text_appendf(&text,
                                     "%s %s?%s\nbody: %zu\n",
                                     http_request_method(request),
                                     http_request_path(request),
                                     http_request_query(request),
                                     size),
                        0);
        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                const char *value = http_request_header(request, names[i]);
                if (value)
                        assert_int_equal(text_appendf(&text, "%s: %s\n", names[i], value), 0);
        }
        http_request_answer(request, 200, "text/plain", text.data, text.size);
        text_done(&text);
}

static ssize_t read_stream(void *userdata, char *buffer, size_t size) {
        Fixture *fixture = userdata;
        uint64_t left = fixture->stream_bytes_max - fixture->stream_bytes;
        if (left == 0)
                return -ENODATA;
        if (size > left)
                size = (size_t) left;
        for (size_t i = 0; i < size; i++)
                buffer[i] = (char) ('a' + (fixture->stream_bytes + i) % 23);
        fixture->stream_bytes += size;
        return (ssize_t) size;
}

static void on_parked_hangup(HttpRequest *request, void *userdata) {
        Fixture *fixture = userdata;
        fixture->n_hung_up++;
        for (unsigned i = 0; i < fixture->n_parked; i++)
                if (fixture->parked[i] == request) {
                        fixture->parked[i] = fixture->parked[--fixture->n_parked];
                        return;
                }
        fail_msg("an unknown request hung up");
}

static void on_request(HttpRequest *request, void *userdata) {
        Fixture *fixture = userdata;
        const char *path = http_request_path(request);
        unsigned n = http_server_n_connections(fixture->server);
        if (n > fixture->n_connections_max)
                fixture->n_connections_max = n;

        if (streq(path, "/park")) {
                assert_true(fixture->n_parked < PARKED_MAX);
                fixture->parked[fixture->n_parked++] = request;
                if (fixture->n_parked > fixture->n_parked_max)
                        fixture->n_parked_max = fixture->n_parked;
                http_request_on_hangup(request, on_parked_hangup, fixture);
        } else if (streq(path, "/stream"))
                http_request_answer_stream(request, 200, "text/event-stream", read_stream, NULL, fixture);
        else if (streq(path, "/busy")) {
                assert_int_equal(http_request_add_header(request, "Retry-After", "7"), 0);
                http_request_answer(request, 503, "application/problem+json", "{}", 2);
        } else if (streq(path, "/moved")) {
                assert_int_equal(http_request_add_header(request, "Location", "/echo"), 0);
                http_request_answer(request, 302, NULL, NULL, 0);
        } else
                answer_echo(request);
}

static int on_header(HttpRequest *request, void *userdata, Problem *reterr_problem) {
        return 0;
}

static void on_refused(HttpRequest *request, const Problem *problem, void *userdata) {
        http_request_answer_problem(request, problem, NULL);
}

static void answer_parked(Fixture *fixture) {
        while (fixture->n_parked > 0)
                http_request_answer(fixture->parked[--fixture->n_parked], 200, NULL, "done", 4);
}

static void use_client(Fixture *fixture, const HttpClientOptions *options) {
        http_client_free(fixture->client);
        fixture->client = NULL;
        assert_int_equal(http_client_new(fixture->event, options, &fixture->client), 0);
}

static int setup(void **state) {
        static const HttpServerOptions server_options = {
                .body_bytes_max = 4 << 20,
                .bodies_bytes_max = 64 << 20,
                .connections_max = 1100,
                .idle_timeout_sec = 60,
        };
        static const HttpHandlers handlers = {
                .on_header = on_header,
                .on_request = on_request,
                .on_refused = on_refused,
        };
        Fixture *fixture = calloc(1, sizeof(*fixture));
        assert_non_null(fixture);
        fixture->n_fds = count_fds(false);
        assert_int_equal(loop_new(&fixture->event), 0);
        assert_int_equal(
                        http_server_new(fixture->event,
                                        &server_options,
                                        &handlers,
                                        fixture,
                                        &fixture->server),
                        0);
        int fd = http_listen_tcp("127.0.0.1", 0, &fixture->port);
        assert_true(fd >= 0);
        assert_int_equal(http_server_listen(fixture->server, fd), 0);
        http_server_accept(fixture->server);
        (void) snprintf(fixture->url, sizeof(fixture->url), "http://127.0.0.1:%u", fixture->port);
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 16,
                                   .connections_per_host_max = 8,
                                   .calls_max = 2000,
                                   .user_agent = "daggyd/1",
                   });
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        http_client_free(fixture->client);
        raw_peer_stop(&fixture->peer);
        http_server_free(fixture->server);
        sd_event_unref(fixture->event);
        int n_fds = count_fds(false), n_before = fixture->n_fds;
        free(fixture);
        if (n_fds != n_before) {
                print_error("%d descriptors were open, %d are\n", n_before, n_fds);
                return -1;
        }
        return 0;
}

static void start_peer(Fixture *fixture, RawHandler handler) {
        raw_peer_start(&fixture->peer, fixture->event, handler, fixture);
        (void) snprintf(fixture->peer_url,
                        sizeof(fixture->peer_url),
                        "http://127.0.0.1:%u/x",
                        fixture->peer.port);
}

static void seen_done(Seen *seen) {
        http_call_free(seen->call);
        free(seen->content_type);
        text_done(&seen->body);
        text_done(&seen->data);
        *seen = (Seen) {};
}

static void note_callback(Seen *seen) {
        if (seen->n_told && seen->n_done + seen->n_pieces == 0)
                seen->turn = ++*seen->n_told;
        if (seen->victim)
                seen->victim = http_call_free(seen->victim);
        if (seen->exits)
                assert_int_equal(sd_event_exit(seen->exits, 0), 0);
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Seen *seen = userdata;
        note_callback(seen);
        seen->n_done++;
        seen->error = outcome->error;
        seen->status = outcome->status;
        seen->not_sent = outcome->not_sent;
        seen->has_error_text = outcome->error_text[0] != '\0';
        seen->retry_after_sec = outcome->retry_after_sec;
        free(seen->content_type);
        seen->content_type = outcome->content_type ? strdup(outcome->content_type) : NULL;
        seen->body.size = 0;
        assert_int_equal(text_append_bytes(&seen->body, outcome->body, outcome->body_size), 0);
        assert_int_equal(outcome->body[outcome->body_size], '\0');
        assert_int_equal(outcome->error != 0, seen->has_error_text);
        if (seen->free_when_done)
                seen->call = http_call_free(call);
        if (seen->n_again > 0) {
                seen->n_again--;
                assert_int_equal(http_call_new(seen->again, seen->again_options, NULL), 0);
        }
}

static void on_answer_header(HttpCall *call, void *userdata) {
        Seen *seen = userdata;
        assert_int_equal(seen->n_pieces, 0);
        seen->n_headers++;
        seen->status = http_call_status(call);
        (void) snprintf(seen->kept,
                        sizeof(seen->kept),
                        "%s",
                        http_call_answer_header(call, "X-Kept") ?: "none");
        if (seen->pause_on_data)
                http_call_pause(call);
        if (seen->free_on_data)
                seen->call = http_call_free(call);
}

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Seen *seen = userdata;
        note_callback(seen);
        seen->n_pieces++;
        assert_true(size > 0);
        assert_int_equal(text_append_bytes(&seen->data, bytes, size), 0);
        if (seen->pause_on_data)
                http_call_pause(call);
        if (seen->free_on_data)
                seen->call = http_call_free(call);
        return seen->data_result;
}

static char *url_of(const Fixture *fixture, const char *path) {
        static char url[128];
        (void) snprintf(url, sizeof(url), "%s%s", fixture->url, path);
        return url;
}

static HttpCallOptions get(const char *url, Seen *seen) {
        return (HttpCallOptions) {
                .method = "GET",
                .url = url,
                .total_usec = 20 * USEC_PER_SEC,
                .answer_bytes_max = 1 << 20,
                .on_done = on_done,
                .userdata = seen,
        };
}

static void start(Fixture *fixture, const HttpCallOptions *options, Seen *seen) {
        int r = http_call_new(fixture->client, options, &seen->call);
        assert_int_equal(r, 0);
        assert_int_equal(seen->n_done, 0);
}

static void run(Fixture *fixture, const HttpCallOptions *options, Seen *seen) {
        start(fixture, options, seen);
        AWAIT(fixture, seen->n_done > 0);
        assert_int_equal(seen->n_done, 1);
}

static void a_request_arrives_as_it_was_meant(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/api/v1/task/../a%2Fb?wait=3&x=%20"), &seen);
        options.method = "POST";
        options.token = "secret";
        options.lease_id = "0123";
        options.content_type = "application/json";
        options.headers = (const char *const[]) { "X-More: yes", NULL };
        options.body = "{\"a\":1}";
        options.body_size = 7;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, 0);
        assert_int_equal(seen.status, 200);
        assert_string_equal(seen.content_type, "text/plain");
        assert_string_equal(
                        seen.body.data,
                        "POST /api/v1/task/../a%2Fb?wait=3&x=%20\nbody: 7\nContent-Type: application/json\n"
                        "Content-Length: 7\nAuthorization: Bearer secret\nDaggyr-Lease: 0123\n"
                        "User-Agent: daggyd/1\nX-More: yes\n");
        seen_done(&seen);
}

static void each_method_sends_what_it_should(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *method, *body, *seen;
        } rows[] = {
                { "GET", NULL, "GET /x?\nbody: 0\nUser-Agent: daggyd/1\n" },
                { "DELETE", NULL, "DELETE /x?\nbody: 0\nUser-Agent: daggyd/1\n" },
                { "POST", NULL, "POST /x?\nbody: 0\nContent-Length: 0\nUser-Agent: daggyd/1\n" },
                { "PUT", "abc", "PUT /x?\nbody: 3\nContent-Length: 3\nUser-Agent: daggyd/1\n" },
                { "DELETE", "abc", "DELETE /x?\nbody: 3\nContent-Length: 3\nUser-Agent: daggyd/1\n" },
        };
        for (FOREACH_ROW(row, rows)) {
                Seen seen = {};
                HttpCallOptions options = get(url_of(fixture, "/x"), &seen);
                options.method = row->method;
                options.body = row->body;
                options.body_size = row->body ? strlen(row->body) : 0;
                run(fixture, &options, &seen);
                check_text(row->method, seen.body.data, row->seen);
                seen_done(&seen);
        }
}

static void a_large_body_goes_without_asking_first(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        size_t size = 3 << 20;
        char *body = calloc(1, size);
        assert_non_null(body);
        HttpCallOptions options = get(url_of(fixture, "/x"), &seen);
        options.method = "PUT";
        options.body = body;
        options.body_size = size;
        start(fixture, &options, &seen);
        memset(body, 'x', size); /* it was copied */
        free(body);
        AWAIT(fixture, seen.n_done > 0);
        assert_string_equal(
                        seen.body.data,
                        "PUT /x?\nbody: 3145728\nContent-Length: 3145728\nUser-Agent: daggyd/1\n");
        seen_done(&seen);
}

static void an_answer_of_any_status_is_an_answer(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/busy"), &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, 0);
        assert_int_equal(seen.status, 503);
        assert_int_equal(seen.retry_after_sec, 7);
        assert_string_equal(seen.content_type, "application/problem+json");
        assert_string_equal(seen.body.data, "{}");
        seen_done(&seen);
}

static void redirects_are_not_followed(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/moved"), &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.status, 302);
        assert_null(seen.content_type);
        seen_done(&seen);
}

static void proxies_of_the_environment_are_ignored(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
        assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
        HttpCallOptions options = get(url_of(fixture, "/x"), &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.status, 200);
        assert_int_equal(unsetenv("http_proxy"), 0);
        assert_int_equal(unsetenv("ALL_PROXY"), 0);
        seen_done(&seen);
}

static void what_makes_no_sense_is_refused_at_once(void **state) {
        Fixture *fixture = *state;
        static const char long_path[200] = { [0 ... 198] = 'x' };
        static const char *const cut[] = { "X: a\r\nY: b", NULL }, *const no_colon[] = { "X", NULL };
        static const struct {
                const char *label;
                HttpCallOptions options;
        } rows[] = {
                { "no URL", { .method = "GET", .url = "" } },
                { "a file", { .method = "GET", .url = "file:///etc/passwd" } },
                { "FTP", { .method = "GET", .url = "ftp://127.0.0.1/" } },
                { "a user", { .method = "GET", .url = "http://a:b@127.0.0.1/" } },
                { "a fragment", { .method = "GET", .url = "http://127.0.0.1/#a" } },
                { "port", { .method = "GET", .url = "http://127.0.0.1:99999/" } },
                { "space", { .method = "GET", .url = "http://127.0.0.1/a b" } },
                { "method", { .method = "GET / HTTP/1.1\r\nX:", .url = "http://127.0.0.1/" } },
                { "no method", { .method = "", .url = "http://127.0.0.1/" } },
                { "token", { .method = "GET", .url = "http://127.0.0.1/", .token = "a\r\nb: c" } },
                { "lease", { .method = "GET", .url = "http://127.0.0.1/", .lease_id = "a\nb: c" } },
                { "content type", { .method = "GET", .url = "http://127.0.0.1/", .content_type = "a\n" } },
                { "header", { .method = "GET", .url = "http://127.0.0.1/", .headers = cut } },
                { "no colon", { .method = "GET", .url = "http://127.0.0.1/", .headers = no_colon } },
                { "path", { .method = "GET", .url = "http://127.0.0.1/", .unix_path = long_path } },
        };
        for (FOREACH_ROW(row, rows)) {
                HttpCall *call = NULL;
                check_int(row->label, http_call_new(fixture->client, &row->options, &call), -EINVAL);
                check_true(row->label, !call);
        }
        assert_int_equal(http_client_n_calls(fixture->client), 0);
}

static void nobody_listens(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        start_peer(fixture, NULL);
        raw_peer_stop_listening(&fixture->peer);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ECONNREFUSED);
        assert_true(seen.not_sent);
        assert_int_equal(seen.status, 0);
        seen_done(&seen);
}

static void nobody_accepts(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        int queued[4];
        /* A listener whose backlog is full drops what knocks. */
        uint16_t port = 0;
        int fd = http_listen_tcp("127.0.0.1", 0, &port);
        assert_true(fd >= 0);
        assert_int_equal(listen(fd, 0), 0);
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        for (size_t i = 0; i < N_ELEMENTS(queued); i++) {
                queued[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                (void) connect(queued[i], (const struct sockaddr *) &address, sizeof(address));
        }
        char url[64];
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
        HttpCallOptions options = get(url, &seen);
        options.connect_usec = 100 * USEC_PER_MSEC;
        usec_t before = usec_now(CLOCK_BOOTTIME);
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ETIMEDOUT);
        assert_true(seen.not_sent);
        assert_true(usec_now(CLOCK_BOOTTIME) - before < 15 * USEC_PER_SEC); /* not by total_usec */
        seen_done(&seen);
        for (size_t i = 0; i < N_ELEMENTS(queued); i++)
                fd_close(&queued[i]);
        fd_close(&fd);
}

static void keep_silent(RawConnection *connection, void *userdata) {
}

static void nobody_answers(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        start_peer(fixture, keep_silent);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        options.total_usec = 100 * USEC_PER_MSEC;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ETIMEDOUT);
        assert_false(seen.not_sent);
        seen_done(&seen);

        options = get(fixture->peer_url, &seen);
        options.idle_usec = 100 * USEC_PER_MSEC;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ETIMEDOUT);
        assert_false(seen.not_sent);
        seen_done(&seen);
}

static void answer_and_close(RawConnection *connection, void *userdata) {
        Fixture *fixture = userdata;
        raw_send(connection, fixture->raw_answer);
        raw_close(connection);
}

static void answer_and_stay(RawConnection *connection, void *userdata) {
        Fixture *fixture = userdata;
        raw_send(connection, fixture->raw_answer);
}

static void answers_that_are_wrong_are_told_apart(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *label, *answer;
                bool stays;
                int error, status;
                const char *body;
        } rows[] = {
                { "closed without a word", "", false, -ECONNRESET, 0, NULL },
                { "cut in the header", "HTTP/1.1 200 OK\r\nConte", false, -ECONNRESET, -1, NULL },
                { "cut in the body",
                  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
                  false,
                  -ECONNRESET,
                  200,
                  NULL },
                { "cut between chunks",
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                  false,
                  -ECONNRESET,
                  200,
                  NULL },
                { "not HTTP", "Hello, what can I do for you?\r\n\r\n", true, -EPROTO, 0, NULL },
                { "SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", true, -EPROTO, 0, NULL },
                { "no number", "HTTP/1.1 OK\r\n\r\n", true, -EPROTO, -1, NULL },
                { "close-delimited",
                  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1}",
                  false,
                  0,
                  200,
                  "{\"a\":1}" },
                { "close-delimited and empty", "HTTP/1.1 400 Bad\r\n\r\n", false, 0, 400, "" },
                { "HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nabc", false, 0, 200, "abc" },
                { "no content", "HTTP/1.1 204 No Content\r\n\r\n", true, 0, 204, "" },
                { "a word before the answer",
                  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                  true,
                  0,
                  200,
                  "ok" },
                { "more than was announced",
                  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404",
                  true,
                  0,
                  200,
                  "ok" },
        };
        for (FOREACH_ROW(row, rows)) {
                Seen seen = {};
                fixture->raw_answer = row->answer;
                start_peer(fixture, row->stays ? answer_and_stay : answer_and_close);
                HttpCallOptions options = get(fixture->peer_url, &seen);
                run(fixture, &options, &seen);
                check_int(row->label, seen.error, row->error);
                check_true(row->label, !seen.not_sent);
                if (row->status >= 0)
                        check_int(row->label, seen.status, row->status);
                if (row->body)
                        check_text(row->label, seen.body.data, row->body);
                seen_done(&seen);
                raw_peer_stop(&fixture->peer);
        }
}

static void an_answer_may_be_so_large_and_no_larger(void **state) {
        Fixture *fixture = *state;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\n\r\n12345";
        start_peer(fixture, answer_and_close);
        for (size_t max = 4; max <= 5; max++) {
                Seen seen = {};
                HttpCallOptions options = get(fixture->peer_url, &seen);
                options.answer_bytes_max = max;
                run(fixture, &options, &seen);
                assert_int_equal(seen.error, max == 5 ? 0 : -EMSGSIZE);
                assert_false(seen.not_sent);
                seen_done(&seen);
        }
}

static void connections_are_kept(void **state) {
        Fixture *fixture = *state;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_and_stay);
        for (unsigned i = 0; i < 10; i++) {
                Seen seen = {};
                HttpCallOptions options = get(fixture->peer_url, &seen);
                run(fixture, &options, &seen);
                assert_string_equal(seen.body.data, "ok");
                seen_done(&seen);
        }
        assert_int_equal(fixture->peer.n_connections, 1);
        assert_int_equal(fixture->peer.connections->n_requests, 10);
}

static void a_kept_connection_that_was_closed_is_replaced(void **state) {
        Fixture *fixture = *state;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_and_close);
        for (unsigned i = 0; i < 3; i++) {
                Seen seen = {};
                HttpCallOptions options = get(fixture->peer_url, &seen);
                run(fixture, &options, &seen);
                assert_string_equal(seen.body.data, "ok");
                seen_done(&seen);
        }
        assert_int_equal(fixture->peer.n_connections, 3);
}

/* The second request on a connection gets no answer, as from a server that has just given up on it. */
static void answer_once(RawConnection *connection, void *userdata) {
        if (connection->n_requests == 1)
                answer_and_stay(connection, userdata);
        else
                raw_close(connection);
}

static void a_kept_connection_that_closes_under_a_request_is_replaced(void **state) {
        Fixture *fixture = *state;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_once);
        for (unsigned i = 0; i < 2; i++) {
                Seen seen = {};
                HttpCallOptions options = get(fixture->peer_url, &seen);
                options.method = "POST";
                options.body = "abc";
                options.body_size = 3;
                run(fixture, &options, &seen);
                assert_string_equal(seen.body.data, "ok");
                seen_done(&seen);
        }
        assert_int_equal(fixture->peer.n_connections, 2);

        /* When there is no other, the request has been sent all the same. */
        Seen seen = {};
        raw_peer_stop_listening(&fixture->peer);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ECONNREFUSED);
        assert_false(seen.not_sent);
        seen_done(&seen);
}

static void what_must_not_be_repeated_takes_a_fresh_connection(void **state) {
        Fixture *fixture = *state;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_once);
        for (unsigned i = 0; i < 2; i++) {
                Seen seen = {};
                HttpCallOptions options = get(fixture->peer_url, &seen);
                options.method = "DELETE";
                options.fresh_connection = i > 0;
                run(fixture, &options, &seen);
                assert_string_equal(seen.body.data, "ok");
                seen_done(&seen);
        }
        const RawConnection *connection = fixture->peer.connections;
        assert_non_null(connection);
        assert_int_equal(connection->n_requests, 1);
        assert_non_null(connection->next);
        assert_int_equal(connection->next->n_requests, 1);
}

static void calls_are_dropped_at_any_time(void **state) {
        Fixture *fixture = *state;
        Seen seen = {}, other = {}, third = {};
        HttpCallOptions options = get(url_of(fixture, "/park"), &seen);
        start(fixture, &options, &seen); /* at once */
        seen_done(&seen);

        start(fixture, &options, &seen); /* while the peer has it */
        AWAIT(fixture, fixture->n_parked == 1);
        seen_done(&seen);
        AWAIT(fixture, fixture->n_hung_up == 1);

        seen.free_when_done = true; /* in its own callback */
        options = get(url_of(fixture, "/x"), &seen);
        run(fixture, &options, &seen);
        assert_null(seen.call);
        seen_done(&seen);

        options = get(url_of(fixture, "/park"), &other); /* in that of another */
        start(fixture, &options, &other);
        AWAIT(fixture, fixture->n_parked == 1);
        seen.victim = other.call;
        options = get(url_of(fixture, "/x"), &seen);
        run(fixture, &options, &seen);
        other.call = NULL;
        assert_int_equal(other.n_done, 0);
        seen_done(&seen);
        AWAIT(fixture, fixture->n_hung_up == 2);

        fixture->stream_bytes_max = 1 << 20; /* in its data callback */
        third.free_on_data = true;
        options = get(url_of(fixture, "/stream"), &third);
        options.on_data = on_data;
        start(fixture, &options, &third);
        AWAIT(fixture, third.n_pieces > 0);
        settle(fixture, 20 * USEC_PER_MSEC);
        assert_int_equal(third.n_pieces, 1);
        assert_int_equal(third.n_done, 0);
        assert_null(third.call);
        seen_done(&third);
        assert_int_equal(http_client_n_calls(fixture->client), 0);
}

static void calls_nobody_keeps_free_themselves(void **state) {
        Fixture *fixture = *state;
        Seen seen = { .again = fixture->client, .n_again = 5 };
        HttpCallOptions options = get(url_of(fixture, "/x"), &seen);
        seen.again_options = &options;
        assert_int_equal(http_call_new(fixture->client, &options, NULL), 0);
        AWAIT(fixture, seen.n_done == 6);
        assert_int_equal(http_client_n_calls(fixture->client), 0);
        assert_int_equal(http_call_new(fixture->client, &options, NULL), 0); /* dropped with the client */
        seen_done(&seen);
}

static void a_client_may_go_before_its_calls(void **state) {
        Fixture *fixture = *state;
        Seen active = {}, waiting = {}, done = {};
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 1, .connections_per_host_max = 1, .calls_max = 10 });
        HttpCallOptions options = get(url_of(fixture, "/x"), &done);
        run(fixture, &options, &done);
        options = get(url_of(fixture, "/park"), &active);
        start(fixture, &options, &active);
        options.userdata = &waiting;
        start(fixture, &options, &waiting);
        AWAIT(fixture, fixture->n_parked == 1);
        fixture->client = http_client_free(fixture->client);
        settle(fixture, 10 * USEC_PER_MSEC);
        http_call_pause(active.call);
        http_call_resume(active.call);
        assert_int_equal(active.n_done + waiting.n_done, 0);
        seen_done(&active);
        seen_done(&waiting);
        seen_done(&done);
}

static void a_thousand_calls_share_few_connections(void **state) {
        Fixture *fixture = *state;
        enum {
                N = 1000
        };
        static Seen seen[N];
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 16, .connections_per_host_max = 4, .calls_max = N });
        HttpCallOptions options = get(url_of(fixture, "/park"), NULL);
        for (unsigned i = 0; i < N; i++) {
                options.userdata = &seen[i];
                start(fixture, &options, &seen[i]);
        }
        assert_int_equal(http_call_new(fixture->client, &options, NULL), -EBUSY);
        for (unsigned n_answered = 0; n_answered < N;) {
                AWAIT(fixture, fixture->n_parked > 0);
                n_answered += fixture->n_parked;
                answer_parked(fixture);
        }
        AWAIT(fixture, http_client_n_calls(fixture->client) == 0);
        assert_int_equal(fixture->n_parked_max, 4);
        assert_int_equal(fixture->n_connections_max, 4);
        for (unsigned i = 0; i < N; i++) {
                assert_int_equal(seen[i].n_done, 1);
                assert_int_equal(seen[i].error, 0);
                seen_done(&seen[i]);
        }
}

static void a_busy_host_does_not_hold_up_another(void **state) {
        Fixture *fixture = *state;
        Seen busy[3] = {}, seen = {};
        start_peer(fixture, keep_silent);
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 2, .connections_per_host_max = 1, .calls_max = 10 });
        for (size_t i = 0; i < N_ELEMENTS(busy); i++) {
                HttpCallOptions options = get(fixture->peer_url, &busy[i]);
                options.total_usec = i == 1 ? 50 * USEC_PER_MSEC : 0;
                start(fixture, &options, &busy[i]);
        }
        HttpCallOptions options = get(url_of(fixture, "/x"), &seen);
        run(fixture, &options, &seen);
        assert_int_equal(seen.status, 200);

        /* The deadline counts while a call waits, which leaves no doubt about what was sent. */
        AWAIT(fixture, busy[1].n_done == 1);
        assert_int_equal(busy[1].error, -ETIMEDOUT);
        assert_true(busy[1].not_sent);
        assert_int_equal(busy[0].n_done + busy[2].n_done, 0);
        for (size_t i = 0; i < N_ELEMENTS(busy); i++)
                seen_done(&busy[i]);
        seen_done(&seen);
}

static void hosts_take_turns(void **state) {
        Fixture *fixture = *state;
        static const char *const labels[] = { "the first host's", "the second's" };
        Seen seen[6] = {};
        unsigned n_told = 0;
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_and_stay);
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 1, .connections_per_host_max = 1, .calls_max = 10 });
        for (size_t i = 0; i < N_ELEMENTS(seen); i++) { /* three of one host, then three of the other */
                HttpCallOptions options = get(i < 3 ? url_of(fixture, "/x") : fixture->peer_url, &seen[i]);
                seen[i].n_told = &n_told;
                start(fixture, &options, &seen[i]);
        }
        AWAIT(fixture, http_client_n_calls(fixture->client) == 0);
        for (unsigned i = 0; i < N_ELEMENTS(seen); i++) {
                check_int(labels[i / 3], seen[i].turn, 2 * (i % 3) + i / 3 + 1);
                check_int(labels[i / 3], seen[i].error, 0);
                seen_done(&seen[i]);
        }
}

static void nothing_of_a_call_is_left_for_the_next(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions plain = get(url_of(fixture, "/x"), &seen);
        HttpCallOptions rich = plain;
        rich.method = "POST";
        rich.token = "secret";
        rich.lease_id = "0123";
        rich.content_type = "application/json";
        rich.headers = (const char *const[]) { "X-More: yes", NULL };
        rich.body = "{}";
        rich.body_size = 2;
        HttpCallOptions nowhere = plain, head = plain;
        nowhere.unix_path = "/nonexistent/socket";
        head.method = "HEAD";
        const HttpCallOptions *const before[] = { &rich, &nowhere, &head };
        for (size_t i = 0; i < N_ELEMENTS(before); i++) {
                run(fixture, before[i], &seen);
                seen_done(&seen);
                run(fixture, &plain, &seen);
                assert_int_equal(seen.error, 0);
                assert_int_equal(seen.status, 200);
                assert_string_equal(seen.body.data, "GET /x?\nbody: 0\nUser-Agent: daggyd/1\n");
                seen_done(&seen);
        }
}

static void idle_connections_make_room(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        start_peer(fixture, answer_and_stay);
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = 1, .connections_per_host_max = 1, .calls_max = 10 });
        for (unsigned i = 0; i < 4; i++) {
                HttpCallOptions options = get(i % 2 ? fixture->peer_url : url_of(fixture, "/x"), &seen);
                run(fixture, &options, &seen);
                assert_int_equal(seen.status, 200);
                seen_done(&seen);
        }
        assert_int_equal(fixture->peer.n_connections, 2);
}

static void check_stream_order(const Text *data) {
        for (size_t i = 0; i < data->size; i++)
                if (data->data[i] != (char) ('a' + i % 23))
                        fail_msg("byte %zu is wrong", i);
}

static void a_paused_stream_holds_its_peer_up(void **state) {
        Fixture *fixture = *state;
        Seen seen = { .pause_on_data = true };
        fixture->stream_bytes_max = 64 << 20;
        HttpCallOptions options = get(url_of(fixture, "/stream"), &seen);
        options.on_data = on_data;
        options.total_usec = 0;
        options.idle_usec = 200 * USEC_PER_MSEC;
        start(fixture, &options, &seen);
        AWAIT(fixture, seen.n_pieces == 1);
        settle(fixture, 500 * USEC_PER_MSEC);
        assert_int_equal(seen.n_pieces, 1); /* nor did idle_usec end it */
        assert_int_equal(seen.n_done, 0);
        uint64_t sent = fixture->stream_bytes;
        assert_true(sent < 32 << 20); /* the kernel's buffers, and some of ours */
        settle(fixture, 100 * USEC_PER_MSEC);
        assert_int_equal(fixture->stream_bytes, sent);

        for (unsigned i = 2; i < 10; i++) { /* one piece at a time */
                http_call_resume(seen.call);
                assert_int_equal(seen.n_pieces, i - 1);
                AWAIT(fixture, seen.n_pieces == i);
        }
        seen.pause_on_data = false;
        http_call_resume(seen.call);
        AWAIT(fixture, seen.n_done == 1);
        assert_int_equal(seen.error, 0);
        assert_int_equal(seen.status, 200);
        assert_string_equal(seen.content_type, "text/event-stream");
        assert_int_equal(seen.data.size, fixture->stream_bytes_max);
        assert_int_equal(seen.body.size, 0);
        check_stream_order(&seen.data);
        seen_done(&seen);
}

/* N streams to the raw peer, each of which was told its first byte already. */
static void open_streams(Fixture *fixture, Seen *seen, unsigned n) {
        fixture->raw_answer = "HTTP/1.1 200 OK\r\n\r\na";
        start_peer(fixture, answer_and_stay);
        use_client(fixture,
                   &(HttpClientOptions) {
                                   .connections_max = n, .connections_per_host_max = n, .calls_max = n });
        for (unsigned i = 0; i < n; i++) {
                HttpCallOptions options = get(fixture->peer_url, &seen[i]);
                options.total_usec = 0;
                options.on_data = on_data;
                start(fixture, &options, &seen[i]);
                AWAIT(fixture, seen[i].n_pieces == 1);
                seen[i].n_pieces = 0;
                seen[i].data.size = 0;
        }
}

/* When it returns, all has arrived. */
static void send_to_all(const Fixture *fixture, const char *text) {
        for (RawConnection *connection = fixture->peer.connections; connection; connection = connection->next)
                raw_send(connection, text);
        for (const RawConnection *connection = fixture->peer.connections; connection;
             connection = connection->next)
                for (int n_on_the_way = 1; n_on_the_way > 0; (void) poll(NULL, 0, n_on_the_way > 0))
                        assert_int_equal(ioctl(connection->fd, SIOCOUTQ, &n_on_the_way), 0);
}

static void many_streams_are_served_together(void **state) {
        Fixture *fixture = *state;
        enum {
                N = 300
        };
        static Seen seen[N];
        unsigned n_told = 0, n_turns = 0, at_once = 0;
        open_streams(fixture, seen, N);
        for (unsigned i = 0; i < N; i++)
                seen[i].n_told = &n_told;
        send_to_all(fixture, "b");
        while (n_told < N) {
                unsigned before = n_told;
                assert_true(sd_event_run(fixture->event, AWAIT_USEC) >= 0);
                n_turns++;
                if (n_told - before > at_once)
                        at_once = n_told - before;
        }
        assert_true(n_turns < N / 5); /* rather than some for each */
        assert_true(at_once < N / 2); /* others in the loop have their turns in between */
        for (unsigned i = 0; i < N; i++) {
                assert_string_equal(seen[i].data.data, "b");
                seen_done(&seen[i]);
        }
}

static void a_call_that_is_dropped_by_one_told_with_it_hears_nothing(void **state) {
        Fixture *fixture = *state;
        Seen seen[2] = {};
        open_streams(fixture, seen, 2);
        for (unsigned i = 0; i < 2; i++)
                seen[i].victim = seen[1 - i].call;
        for (RawConnection *connection = fixture->peer.connections; connection;
             connection = connection->next) {
                raw_send(connection, "b");
                raw_close(connection);
        }
        AWAIT(fixture, seen[0].n_done + seen[1].n_done > 0);
        settle(fixture, 20 * USEC_PER_MSEC);
        unsigned survivor = seen[0].n_done > 0 ? 0 : 1;
        assert_string_equal(seen[survivor].data.data, "b");
        assert_int_equal(seen[survivor].n_done, 1);
        assert_int_equal(seen[1 - survivor].n_pieces + seen[1 - survivor].n_done, 0);
        seen[1 - survivor].call = NULL;
        for (unsigned i = 0; i < 2; i++)
                seen_done(&seen[i]);
}

static void nothing_is_told_after_a_callback_that_ends_the_loop(void **state) {
        Fixture *fixture = *state;
        Seen seen[2] = {};
        open_streams(fixture, seen, 2);
        for (unsigned i = 0; i < 2; i++)
                seen[i].exits = fixture->event;
        send_to_all(fixture, "b");
        while (sd_event_get_state(fixture->event) != SD_EVENT_FINISHED)
                assert_true(sd_event_run(fixture->event, AWAIT_USEC) >= 0);
        assert_int_equal(seen[0].n_pieces + seen[1].n_pieces, 1);
        for (unsigned i = 0; i < 2; i++)
                seen_done(&seen[i]);
}

static void a_stream_that_ended_while_paused_is_told_to_its_end(void **state) {
        Fixture *fixture = *state;
        Seen seen = { .pause_on_data = true };
        fixture->raw_answer = "HTTP/1.1 200 OK\r\n\r\nabc";
        start_peer(fixture, answer_and_stay);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        options.on_data = on_data;
        start(fixture, &options, &seen);
        AWAIT(fixture, seen.n_pieces == 1);
        raw_send(fixture->peer.connections, "def");
        raw_close(fixture->peer.connections);
        settle(fixture, 50 * USEC_PER_MSEC);
        assert_int_equal(seen.n_done, 0);
        assert_string_equal(seen.data.data, "abc");
        seen.pause_on_data = false;
        http_call_resume(seen.call);
        AWAIT(fixture, seen.n_done == 1);
        assert_string_equal(seen.data.data, "abcdef");
        assert_int_equal(seen.error, 0);
        seen_done(&seen);
}

static void a_header_is_told_before_what_it_is_of(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        fixture->raw_answer = "HTTP/1.1 103 Early Hints\r\nX-Kept: early\r\n\r\n"
                              "HTTP/1.1 201 Created\r\nX-Kept: yes\r\nTransfer-Encoding: chunked\r\n\r\n";
        start_peer(fixture, answer_and_stay);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        options.on_data = on_data;
        options.on_header = on_answer_header;
        options.keepalive = true;
        start(fixture, &options, &seen);
        AWAIT(fixture, seen.n_headers == 1);
        assert_int_equal(seen.status, 201);
        assert_string_equal(seen.kept, "yes");
        assert_int_equal(seen.n_pieces, 0);
        raw_send(fixture->peer.connections, "3\r\nabc\r\n0\r\nX-Kept: trailer\r\n\r\n");
        AWAIT(fixture, seen.n_done > 0);
        assert_int_equal(seen.error, 0);
        assert_int_equal(seen.n_headers, 1);
        assert_string_equal(seen.data.data, "abc");
        seen_done(&seen);
}

static void a_header_of_what_is_all_there_is_told_first_too(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *path;
                unsigned n_headers;
                int status;
        } rows[] = { { "/echo", 1, 200 }, { "/busy", 0, 503 } };
        for (FOREACH_ROW(row, rows)) {
                Seen seen = {};
                HttpCallOptions options = get(url_of(fixture, row->path), &seen);
                options.on_data = on_data;
                options.on_header = on_answer_header;
                run(fixture, &options, &seen);
                check_int(row->path, seen.n_headers, row->n_headers);
                check_int(row->path, seen.status, row->status);
                seen_done(&seen);
        }
        Seen gone = { .free_on_data = true };
        HttpCallOptions options = get(url_of(fixture, "/echo"), &gone);
        options.on_data = on_data;
        options.on_header = on_answer_header;
        start(fixture, &options, &gone);
        AWAIT(fixture, gone.n_headers == 1);
        settle(fixture, 50 * USEC_PER_MSEC);
        assert_int_equal(gone.n_pieces + gone.n_done, 0);
        seen_done(&gone);
}

static void a_stream_that_falls_silent_is_given_up(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n: hi\r\n";
        start_peer(fixture, answer_and_stay);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        options.on_data = on_data;
        options.total_usec = 0;
        options.idle_usec = 300 * USEC_PER_MSEC;
        start(fixture, &options, &seen);
        AWAIT(fixture, seen.n_pieces == 1);
        for (unsigned i = 0; i < 5; i++) { /* a sign of life in time keeps it */
                settle(fixture, 100 * USEC_PER_MSEC);
                raw_send(fixture->peer.connections, "1\r\n:\r\n");
        }
        assert_int_equal(seen.n_done, 0);
        AWAIT(fixture, seen.n_done == 1);
        assert_int_equal(seen.error, -ETIMEDOUT);
        assert_int_equal(seen.status, 200);
        assert_string_equal(seen.data.data, ": hi:::::");
        seen_done(&seen);
}

static void a_stream_that_breaks_says_so(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        fixture->raw_answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        start_peer(fixture, answer_and_close);
        HttpCallOptions options = get(fixture->peer_url, &seen);
        options.on_data = on_data;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ECONNRESET);
        assert_string_equal(seen.data.data, "abc"); /* what came is told first */
        seen_done(&seen);
}

static void a_reader_of_a_stream_can_end_it(void **state) {
        Fixture *fixture = *state;
        Seen seen = { .data_result = -ECANCELED };
        fixture->stream_bytes_max = 1 << 20;
        HttpCallOptions options = get(url_of(fixture, "/stream"), &seen);
        options.on_data = on_data;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ECANCELED);
        assert_int_equal(seen.n_pieces, 1);
        seen_done(&seen);
}

static void a_refused_stream_is_an_answer(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/busy"), &seen);
        options.on_data = on_data;
        run(fixture, &options, &seen);
        assert_int_equal(seen.status, 503);
        assert_int_equal(seen.n_pieces, 0);
        assert_string_equal(seen.body.data, "{}");
        seen_done(&seen);
}

static void a_socket_of_the_file_system_will_do(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        char directory[] = "/tmp/test-http-client-XXXXXX";
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        assert_non_null(mkdtemp(directory));
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
        HttpCallOptions options = get("http://localhost/x", &seen);
        options.unix_path = address.sun_path;
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ENOENT);
        assert_true(seen.not_sent);
        seen_done(&seen);

        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (const struct sockaddr *) &address, sizeof(address)), 0);
        run(fixture, &options, &seen);
        assert_int_equal(seen.error, -ECONNREFUSED);
        assert_true(seen.not_sent);
        seen_done(&seen);

        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(http_server_listen(fixture->server, fd), 0);
        run(fixture, &options, &seen);
        assert_int_equal(seen.status, 200);
        assert_string_equal(seen.body.data, "GET /x?\nbody: 0\nUser-Agent: daggyd/1\n");
        seen_done(&seen);
        assert_int_equal(unlink(address.sun_path), 0);
        assert_int_equal(rmdir(directory), 0);
}

static void an_unknown_name_is_told(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get("http://no-such-host.invalid/", &seen);
        run(fixture, &options, &seen);
        assert_true(seen.error == -EHOSTUNREACH || seen.error == -ETIMEDOUT);
        assert_true(seen.not_sent);
        seen_done(&seen);
}

static void no_descriptor_is_inherited(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/park"), &seen);
        start(fixture, &options, &seen);
        AWAIT(fixture, fixture->n_parked == 1);
        (void) count_fds(true);
        answer_parked(fixture);
        AWAIT(fixture, seen.n_done == 1);
        (void) count_fds(true);
        seen_done(&seen);
}

static void nothing_is_done_after_the_end_was_asked_for(void **state) {
        Fixture *fixture = *state;
        Seen seen = {};
        HttpCallOptions options = get(url_of(fixture, "/park"), &seen);
        options.total_usec = 50 * USEC_PER_MSEC;
        start(fixture, &options, &seen);
        AWAIT(fixture, fixture->n_parked == 1);
        assert_int_equal(sd_event_exit(fixture->event, 0), 0);
        while (sd_event_get_state(fixture->event) != SD_EVENT_FINISHED)
                assert_true(sd_event_run(fixture->event, USEC_PER_MSEC) >= 0);
        assert_int_equal(seen.n_done, 0);
        seen_done(&seen);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_request_arrives_as_it_was_meant),
                TEST(each_method_sends_what_it_should),
                TEST(a_large_body_goes_without_asking_first),
                TEST(an_answer_of_any_status_is_an_answer),
                TEST(redirects_are_not_followed),
                TEST(proxies_of_the_environment_are_ignored),
                TEST(what_makes_no_sense_is_refused_at_once),
                TEST(nobody_listens),
                TEST(nobody_accepts),
                TEST(nobody_answers),
                TEST(answers_that_are_wrong_are_told_apart),
                TEST(an_answer_may_be_so_large_and_no_larger),
                TEST(connections_are_kept),
                TEST(a_kept_connection_that_was_closed_is_replaced),
                TEST(a_kept_connection_that_closes_under_a_request_is_replaced),
                TEST(what_must_not_be_repeated_takes_a_fresh_connection),
                TEST(calls_are_dropped_at_any_time),
                TEST(calls_nobody_keeps_free_themselves),
                TEST(a_client_may_go_before_its_calls),
                TEST(a_thousand_calls_share_few_connections),
                TEST(a_busy_host_does_not_hold_up_another),
                TEST(hosts_take_turns),
                TEST(nothing_of_a_call_is_left_for_the_next),
                TEST(idle_connections_make_room),
                TEST(a_paused_stream_holds_its_peer_up),
                TEST(many_streams_are_served_together),
                TEST(a_call_that_is_dropped_by_one_told_with_it_hears_nothing),
                TEST(nothing_is_told_after_a_callback_that_ends_the_loop),
                TEST(a_stream_that_ended_while_paused_is_told_to_its_end),
                TEST(a_header_is_told_before_what_it_is_of),
                TEST(a_header_of_what_is_all_there_is_told_first_too),
                TEST(a_stream_that_falls_silent_is_given_up),
                TEST(a_stream_that_breaks_says_so),
                TEST(a_reader_of_a_stream_can_end_it),
                TEST(a_refused_stream_is_an_answer),
                TEST(a_socket_of_the_file_system_will_do),
                TEST(an_unknown_name_is_told),
                TEST(no_descriptor_is_inherited),
                TEST(nothing_is_done_after_the_end_was_asked_for),
        };
        (void) signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests_name("http-client", tests, NULL, NULL);
}
