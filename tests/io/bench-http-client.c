/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a call takes of this process's CPU when there are many hosts: a stream is open to each, and a POST, a
 * GET and a DELETE follow each other there, as for a task of a queue. Each POST makes the host say something
 * on its stream. The hosts are addresses of the loopback network, served by a child.
 *
 *   bench-http-client [N_HOSTS [N_CALLS]]
 *
 * or, for a row of numbers of hosts: meson test -C build --benchmark http-client -v */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/text.h"
#include "io/http-client.h"
#include "io/loop.h"

#define HOSTS_MAX       4000
#define DESCRIPTORS_MAX 65536
#define N_CALLS         60000
#define PATIENCE_USEC   (600 * USEC_PER_SEC)

#define ANSWER \
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"state\":\"known\"}"
#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n"
#define EVENT  "event: task\ndata: {\"task_id\":\"a-task-of-some-name\",\"state\":\"completed\"}\n\n"
#define BODY   "{\"command\":[\"true\"],\"resources\":{\"cores\":1,\"memory_mb\":512}}"

/* The loop of one host. */
typedef struct Chain {
        struct Bench *bench;
        char url[64];
        unsigned i_method;
        bool has_stream;
} Chain;

typedef struct Bench {
        sd_event *event;
        HttpClient *calls, *streams;
        Chain chains[HOSTS_MAX];
        unsigned n_hosts, n_streams;
        uint64_t n_started, n_done, n_max, n_pieces;
} Bench;

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(1);
}

static int checked(int r, const char *what) {
        check(r < 0 ? -errno : 0, what);
        return r;
}

/* The child: a listener for each host, and whether a descriptor is one, or is connected to which. */

typedef struct Peer {
        unsigned host;
        bool is_listener;
} Peer;

static Peer peers[DESCRIPTORS_MAX];
static int stream_fds[HOSTS_MAX];

static void serve(int epoll_fd, int fd) {
        char bytes[4096];
        if (peers[fd].is_listener) {
                int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
                if (accepted < 0)
                        return;
                struct epoll_event event = { .events = EPOLLIN, .data.fd = accepted };
                peers[accepted] = (Peer) { .host = peers[fd].host };
                (void) setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int));
                (void) checked(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &event), "epoll_ctl");
                return;
        }
        ssize_t n = recv(fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);
        if (n <= 0) {
                (void) close(fd);
                return;
        }
        bytes[n] = '\0'; /* requests are small enough to come in one piece */
        unsigned host = peers[fd].host;
        bool is_stream = strstr(bytes, "/events ");
        const char *answer = is_stream ? STREAM : ANSWER;
        if (is_stream)
                stream_fds[host] = fd;
        (void) !send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        if (text_after(bytes, "POST"))
                (void) !send(stream_fds[host], EVENT, strlen(EVENT), MSG_NOSIGNAL);
}

static uint32_t host_address(unsigned i) {
        return INADDR_LOOPBACK + 0x10000 + i; /* 127.1.0.1 and on */
}

static uint16_t listen_for_all(int epoll_fd, unsigned n_hosts) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t size = sizeof(address);
        for (unsigned i = 0; i < n_hosts; i++) {
                int fd = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
                struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
                address.sin_addr.s_addr = htonl(host_address(i));
                (void) checked(bind(fd, (const struct sockaddr *) &address, size), "bind");
                (void) checked(listen(fd, 128), "listen");
                (void) checked(getsockname(fd, (struct sockaddr *) &address, &size), "getsockname");
                (void) checked(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
                peers[fd] = (Peer) { .host = i, .is_listener = true };
        }
        return ntohs(address.sin_port);
}

static _Noreturn void run_hosts(int epoll_fd) {
        struct epoll_event events[256];
        (void) prctl(PR_SET_NAME, "bench-hosts");
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the parent gives up */
        for (;;) {
                int n = epoll_wait(epoll_fd, events, 256, -1);
                for (int i = 0; i < n; i++)
                        serve(epoll_fd, events[i].data.fd);
        }
}

/* The parent. */

static void chain_go_on(Chain *chain);

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Chain *chain = userdata;
        check(outcome->error, chain->url);
        chain->bench->n_done++;
        chain_go_on(chain);
}

static void chain_go_on(Chain *chain) {
        static const char *const methods[] = { "POST", "GET", "DELETE" };
        Bench *bench = chain->bench;
        if (bench->n_started == bench->n_max)
                return;
        const char *method = methods[chain->i_method++ % 3];
        bool has_body = streq(method, "POST");
        const HttpCallOptions options = {
                .method = method,
                .url = chain->url,
                .token = "a-token-of-some-length",
                .lease_id = "0123456789abcdef0123456789abcdef",
                .content_type = has_body ? "application/json" : NULL,
                .body = has_body ? BODY : NULL,
                .body_size = has_body ? strlen(BODY) : 0,
                .total_usec = PATIENCE_USEC,
                .connect_usec = PATIENCE_USEC,
                .answer_bytes_max = 4096,
                .on_done = on_done,
                .userdata = chain,
        };
        bench->n_started++;
        check(http_call_new(bench->calls, &options, NULL), "call");
}

static int on_stream_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Chain *chain = userdata;
        chain->bench->n_pieces++;
        chain->bench->n_streams += !chain->has_stream;
        chain->has_stream = true;
        return 0;
}

static void on_stream_end(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        check(outcome->error < 0 ? outcome->error : -ENOLINK, "stream");
}

static void open_stream(Bench *bench, Chain *chain, const char *url) {
        const HttpCallOptions options = {
                .method = "GET",
                .url = url,
                .idle_usec = PATIENCE_USEC,
                .on_data = on_stream_data,
                .on_done = on_stream_end,
                .userdata = chain,
        };
        check(http_call_new(bench->streams, &options, NULL), "stream");
}

static void bench_begin(Bench *bench, unsigned n_hosts, uint16_t port) {
        const HttpClientOptions options = {
                .connections_max = 2 * n_hosts,
                .connections_per_host_max = 8,
                .calls_max = 2 * n_hosts,
                .user_agent = "bench",
        };
        bench->n_hosts = n_hosts;
        check(loop_new(&bench->event), "loop");
        check(http_client_new(bench->event, &options, &bench->calls), "client");
        check(http_client_new(bench->event, &options, &bench->streams), "client");
        for (unsigned i = 0; i < n_hosts; i++) {
                struct in_addr address = { .s_addr = htonl(host_address(i)) };
                char ip[INET_ADDRSTRLEN], url[64];
                (void) inet_ntop(AF_INET, &address, ip, sizeof(ip));
                (void) snprintf(url, sizeof(url), "http://%s:%u/api/v1/events", ip, port);
                bench->chains[i].bench = bench;
                (void) snprintf(bench->chains[i].url, sizeof(url), "http://%s:%u/api/v1/task/x", ip, port);
                open_stream(bench, &bench->chains[i], url);
        }
        while (bench->n_streams < n_hosts)
                check(sd_event_run(bench->event, PATIENCE_USEC), "loop");
}

static void bench_run(Bench *bench, uint64_t n_calls) {
        bench->n_max += n_calls;
        for (unsigned i = 0; i < bench->n_hosts; i++)
                chain_go_on(&bench->chains[i]);
        while (bench->n_done < bench->n_max)
                check(sd_event_run(bench->event, PATIENCE_USEC), "loop");
}

static double timeval_usec(struct timeval time) {
        return (double) time.tv_sec * 1e6 + (double) time.tv_usec;
}

static void bench_hosts(unsigned n_hosts, uint64_t n_calls) {
        static Bench bench;
        int epoll_fd = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        uint16_t port = listen_for_all(epoll_fd, n_hosts);
        pid_t child = checked(fork(), "fork");
        if (child == 0)
                run_hosts(epoll_fd);
        for (int fd = epoll_fd; fd < DESCRIPTORS_MAX; fd++)
                if (fd == epoll_fd || peers[fd].is_listener) {
                        peers[fd] = (Peer) {};
                        (void) close(fd);
                }
        bench = (Bench) {};
        bench_begin(&bench, n_hosts, port);
        bench_run(&bench, 2 * (uint64_t) n_hosts); /* connections are there then */
        struct rusage before, after;
        (void) checked(getrusage(RUSAGE_SELF, &before), "getrusage");
        bench_run(&bench, n_calls);
        (void) checked(getrusage(RUSAGE_SELF, &after), "getrusage");
        double user = timeval_usec(after.ru_utime) - timeval_usec(before.ru_utime);
        double system = timeval_usec(after.ru_stime) - timeval_usec(before.ru_stime);
        (void) printf("%5u hosts: %7.1f us of CPU a call (%.1f user, %.1f system)\n",
                      n_hosts,
                      (user + system) / (double) n_calls,
                      user / (double) n_calls,
                      system / (double) n_calls);
        (void) fflush(stdout);
        http_client_free(bench.calls);
        http_client_free(bench.streams);
        sd_event_unref(bench.event);
        (void) kill(child, SIGKILL);
        (void) waitpid(child, NULL, 0);
}

static void raise_descriptor_limit(void) {
        struct rlimit limit;
        (void) checked(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
        limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
        (void) checked(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

int main(int argc, char **argv) {
        uint64_t n_hosts = 0, n_calls = N_CALLS;
        if (argc > 3 || (argc > 1 && text_parse_u64(argv[1], 1, HOSTS_MAX, &n_hosts) < 0) ||
            (argc > 2 && text_parse_u64(argv[2], 1, UINT32_MAX, &n_calls) < 0)) {
                (void) fprintf(stderr, "Usage: bench-http-client [N_HOSTS [N_CALLS]]\n");
                return 1;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        raise_descriptor_limit();
        if (n_hosts > 0)
                bench_hosts((unsigned) n_hosts, n_calls);
        else
                for (unsigned n = 10; n <= 1000; n *= 10)
                        bench_hosts(n, n_calls);
        return 0;
}
