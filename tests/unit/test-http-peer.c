/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who is at the other end of a connection, by a real server and a real client in this very process. */

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/usec.h"
#include "io/http-server.h"
#include "test.h"

#define REQUEST      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define TIMEOUT_USEC (30 * USEC_PER_SEC)

typedef struct Seen {
        unsigned n_requests;
        int error, error_again;
        const HttpPeer *first, *again;
        HttpPeer peer;
        gid_t groups[64];
        char client[64];
        bool over_tcp, is_tls, asks_certificate, has_certificate;
} Seen;

static int on_header(HttpRequest *request, void *userdata, Problem *reterr_problem) {
        return 0;
}

static void on_request(HttpRequest *request, void *userdata) {
        Seen *seen = userdata;
        seen->n_requests++;
        seen->error = http_request_peer(request, &seen->first);
        seen->error_again = http_request_peer(request, &seen->again);
        if (seen->error >= 0) {
                seen->peer = *seen->first;
                size_t n = seen->peer.n_groups < N_ELEMENTS(seen->groups) ? seen->peer.n_groups :
                                                                            N_ELEMENTS(seen->groups);
                if (n > 0)
                        memcpy(seen->groups, seen->peer.groups, n * sizeof(gid_t));
        }
        (void) strncpy(seen->client, http_request_client(request), sizeof(seen->client) - 1);
        seen->over_tcp = http_request_over_tcp(request);
        seen->is_tls = http_request_is_tls(request);
        seen->asks_certificate = http_request_asks_certificate(request);
        seen->has_certificate = http_request_has_certificate(request);
        http_request_answer(request, 200, NULL, NULL, 0);
}

static void on_refused(HttpRequest *request, const Problem *problem, void *userdata) {
        http_request_answer(request, problem->status, NULL, NULL, 0);
}

static const HttpHandlers handlers = {
        .on_header = on_header,
        .on_request = on_request,
        .on_refused = on_refused,
};

/* Serves one request that comes by a socket connected to FD, which listens. */
static void serve(int fd, Seen *seen) {
        sd_event *event = NULL;
        HttpServer *server = NULL;
        static const HttpServerOptions options = {
                .body_bytes_max = 1024,
                .bodies_bytes_max = 1024,
                .connections_max = 4,
                .idle_timeout_sec = 30,
        };
        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(http_server_new(event, &options, &handlers, seen, &server), 0);

        union {
                struct sockaddr generic;
                struct sockaddr_storage storage;
        } address = {};
        socklen_t size = sizeof(address);
        assert_int_equal(getsockname(fd, &address.generic, &size), 0);
        int client = socket(address.generic.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(client >= 0);
        assert_int_equal(http_server_listen(server, fd), 0);
        http_server_accept(server);
        assert_int_equal(connect(client, &address.generic, size), 0);
        assert_int_equal(send(client, REQUEST, strlen(REQUEST), MSG_NOSIGNAL), strlen(REQUEST));

        usec_t deadline = usec_add(usec_now(CLOCK_BOOTTIME), TIMEOUT_USEC);
        char answer[1024];
        ssize_t n = -1;
        while (n < 0 && usec_now(CLOCK_BOOTTIME) < deadline) {
                assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);
                n = recv(client, answer, sizeof(answer), MSG_DONTWAIT);
        }
        assert_true(n > 0);
        assert_memory_equal(answer, "HTTP/1.1 200 ", strlen("HTTP/1.1 200 "));
        assert_int_equal(seen->n_requests, 1);
        close(client);
        http_server_free(server);
        sd_event_unref(event);
}

static void a_unix_socket_says_who_it_is(void **state) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX }; /* the kernel chooses an abstract name */
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address.sun_family)), 0);
        assert_int_equal(listen(fd, 8), 0);
        Seen seen = {};
        serve(fd, &seen);

        assert_int_equal(seen.error, 0);
        assert_int_equal(seen.peer.uid, geteuid());
        assert_int_equal(seen.peer.gid, getegid());
        assert_int_equal(seen.peer.pid, getpid());
        gid_t groups[N_ELEMENTS(seen.groups)];
        int n = getgroups((int) N_ELEMENTS(groups), groups);
        assert_int_equal(seen.peer.n_groups, n);
        assert_memory_equal(seen.groups, groups, (size_t) n * sizeof(gid_t));
        assert_ptr_equal(seen.first, seen.again); /* asked once */
        assert_int_equal(seen.error_again, 0);
        char name[64];
        (void) snprintf(name, sizeof(name), "uid %u", geteuid());
        assert_string_equal(seen.client, name);
        assert_false(seen.over_tcp || seen.is_tls || seen.asks_certificate || seen.has_certificate);
}

static void groups_are_all_there(void **state) {
        gid_t before[N_ELEMENTS(((Seen *) NULL)->groups)];
        static const gid_t wanted[] = { 4711, 4712, 100000 };
        int n = getgroups((int) N_ELEMENTS(before), before);
        assert_true(n >= 0);
        bool are_set = setgroups(N_ELEMENTS(wanted), wanted) == 0; /* if root runs this; else as they are */
        a_unix_socket_says_who_it_is(state);
        if (are_set)
                assert_int_equal(setgroups((size_t) n, before), 0);
}

static void tcp_does_not(void **state) {
        uint16_t port;
        int fd = http_listen_tcp("127.0.0.1", 0, &port);
        assert_true(fd >= 0);
        Seen seen = {};
        serve(fd, &seen);
        assert_int_equal(seen.error, -EOPNOTSUPP);
        assert_int_equal(seen.error_again, -EOPNOTSUPP);
        assert_string_equal(seen.client, "127.0.0.1");
        assert_true(seen.over_tcp);
        assert_false(seen.is_tls || seen.asks_certificate || seen.has_certificate);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unix_socket_says_who_it_is),
                cmocka_unit_test(groups_are_all_there),
                cmocka_unit_test(tcp_does_not),
        };
        return cmocka_run_group_tests_name("http-peer", tests, NULL, NULL);
}
