/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client that costs little beside what it measures: one process, raw sockets, connections kept alive, each
 * with one request under way.
 *
 *   http-load ADDRESS get PATH COUNT CONNECTIONS            GETs of PATH
 *   http-load ADDRESS tasks PREFIX COUNT CONNECTIONS BODY   tasks: POST of BODY, then GET with wait until the
 * end
 *
 * ADDRESS is a port of 127.0.0.1, or the path of a socket. Prints one line of JSON. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/text.h"
#include "base/usec.h"

#define CONNECTIONS_MAX 256
#define REQUEST_SIZE    4096
#define ANSWER_SIZE     65536
#define PATIENCE_MSEC   60000
#define WAIT_SEC        60

typedef struct Connection {
        int fd;
        bool is_waiting; /* for the end of its task */
        uint64_t number; /* of its GET, or of its task */
        usec_t start_usec;
        char answer[ANSWER_SIZE];
        size_t size;
} Connection;

typedef struct Load {
        const char *address, *path, *body; /* no body: GETs */
        uint64_t n, n_started, n_ended;
        usec_t *latencies_usec; /* in order of the ends */
        uint64_t n_connections;
        Connection connections[CONNECTIONS_MAX];
} Load;

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "http-load: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

static usec_t now(void) {
        return usec_now(CLOCK_MONOTONIC);
}

static int connect_to(const char *address) {
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        bool is_local = *address == '/';
        if (is_local)
                (void) snprintf(local.sun_path, sizeof(local.sun_path), "%s", address);
        else
                tcp.sin_port = htons((uint16_t) strtoul(address, NULL, 10));
        int fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        check(fd < 0 ? -errno : 0, "socket");
        int r = is_local ? connect(fd, (struct sockaddr *) &local, sizeof(local)) :
                           connect(fd, (struct sockaddr *) &tcp, sizeof(tcp));
        check(r < 0 ? -errno : 0, "connect");
        check(fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0, "set non-blocking");
        return fd;
}

/* A request is shorter than any socket's buffer, so it goes out whole. */
static void send_request(Connection *connection, const char *request, int length) {
        if (length < 0 || length >= REQUEST_SIZE)
                check(-E2BIG, "request");
        connection->size = 0;
        ssize_t n = send(connection->fd, request, (size_t) length, MSG_NOSIGNAL);
        check(n == length ? 0 : n < 0 ? -errno : -EAGAIN, "send");
}

static void ask_get(const Load *load, Connection *connection) {
        char request[REQUEST_SIZE];
        int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", load->path);
        send_request(connection, request, n);
}

static void ask_submit(const Load *load, Connection *connection) {
        char request[REQUEST_SIZE];
        connection->is_waiting = false;
        int n = snprintf(
                        request,
                        sizeof(request),
                        "POST /api/v1/task/%s%" PRIu64 " HTTP/1.1\r\nHost: localhost\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        load->path,
                        connection->number,
                        strlen(load->body),
                        load->body);
        send_request(connection, request, n);
}

static void ask_wait(const Load *load, Connection *connection) {
        char request[REQUEST_SIZE];
        connection->is_waiting = true;
        int n = snprintf(
                        request,
                        sizeof(request),
                        "GET /api/v1/task/%s%" PRIu64 "?wait=%d HTTP/1.1\r\nHost: localhost\r\n\r\n",
                        load->path,
                        connection->number,
                        WAIT_SEC);
        send_request(connection, request, n);
}

static void start_next(Load *load, Connection *connection) {
        if (load->n_started == load->n)
                return;
        connection->number = load->n_started++;
        connection->start_usec = now();
        if (load->body)
                ask_submit(load, connection);
        else
                ask_get(load, connection);
}

static void ended(Load *load, Connection *connection) {
        load->latencies_usec[load->n_ended++] = now() - connection->start_usec;
        start_next(load, connection);
}

static _Noreturn void unexpected(const Connection *connection) {
        (void) fprintf(stderr, "http-load: unexpected answer:\n%s\n", connection->answer);
        exit(EXIT_FAILURE);
}

/* The whole answer is there. */
static void answered(Load *load, Connection *connection) {
        bool is_submission = load->body && !connection->is_waiting;
        if (!text_after(connection->answer, is_submission ? "HTTP/1.1 202 " : "HTTP/1.1 200 "))
                unexpected(connection);
        if (is_submission)
                ask_wait(load, connection);
        else if (load->body && !strstr(connection->answer, "\"state\":\"completed\""))
                unexpected(connection);
        else
                ended(load, connection);
}

static bool is_complete(const Connection *connection) {
        const char *end = strstr(connection->answer, "\r\n\r\n");
        if (!end)
                return false;
        const char *length = strcasestr(connection->answer, "\r\nContent-Length:");
        if (!length || length > end)
                unexpected(connection);
        size_t body_size = strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
        return (size_t) (end + 4 - connection->answer) + body_size <= connection->size;
}

static void receive(Load *load, Connection *connection) {
        size_t room = sizeof(connection->answer) - 1 - connection->size;
        ssize_t n = recv(connection->fd, connection->answer + connection->size, room, 0);
        if (n < 0 && errno == EAGAIN)
                return;
        check(n < 0 ? -errno : n == 0 ? -ECONNRESET : 0, "receive");
        connection->size += (size_t) n;
        connection->answer[connection->size] = '\0';
        if (is_complete(connection))
                answered(load, connection);
        else if ((size_t) n == room)
                check(-E2BIG, "answer");
}

static void load_run(Load *load) {
        int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        check(epoll_fd < 0 ? -errno : 0, "epoll");
        for (uint64_t i = 0; i < load->n_connections; i++) {
                Connection *connection = &load->connections[i];
                connection->fd = connect_to(load->address);
                struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
                check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0 ? -errno : 0, "epoll");
        }
        for (uint64_t i = 0; i < load->n_connections; i++)
                start_next(load, &load->connections[i]);
        while (load->n_ended < load->n) {
                struct epoll_event events[CONNECTIONS_MAX];
                int n = epoll_wait(epoll_fd, events, CONNECTIONS_MAX, PATIENCE_MSEC);
                check(n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0, "wait for an answer");
                for (int i = 0; i < n; i++)
                        receive(load, events[i].data.ptr);
        }
}

static int compare_usec(const void *a, const void *b) {
        usec_t x = *(const usec_t *) a, y = *(const usec_t *) b;
        return (x > y) - (x < y);
}

static void print_outcome(Load *load, usec_t took_usec) {
        struct rusage usage;
        check(getrusage(RUSAGE_SELF, &usage) < 0 ? -errno : 0, "getrusage");
        qsort(load->latencies_usec, load->n, sizeof(usec_t), compare_usec);
        printf("{\"count\": %" PRIu64
               ", \"seconds\": %.6f, \"rate\": %.2f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
               "\"own_cpu_ms\": %.3f}\n",
               load->n,
               (double) took_usec / 1e6,
               (double) load->n * 1e6 / (double) took_usec,
               (double) load->latencies_usec[load->n / 2] / 1e3,
               (double) load->latencies_usec[load->n * 99 / 100] / 1e3,
               (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                               (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3);
}

int main(int argc, char **argv) {
        static Load load;
        bool is_get = argc == 6 && streq(argv[2], "get"), is_tasks = argc == 7 && streq(argv[2], "tasks");
        load.n = argc >= 6 ? strtoull(argv[4], NULL, 10) : 0;
        load.n_connections = argc >= 6 ? strtoull(argv[5], NULL, 10) : 0;
        if ((!is_get && !is_tasks) || load.n == 0 || load.n_connections == 0 ||
            load.n_connections > CONNECTIONS_MAX) {
                (void) fprintf(stderr,
                               "Usage: http-load ADDRESS get PATH COUNT CONNECTIONS\n"
                               "       http-load ADDRESS tasks PREFIX COUNT CONNECTIONS BODY\n");
                return EXIT_FAILURE;
        }
        load.address = argv[1];
        load.path = argv[3];
        load.body = is_tasks ? argv[6] : NULL;
        load.latencies_usec = calloc(load.n, sizeof(usec_t));
        check(load.latencies_usec ? 0 : -ENOMEM, "allocate");

        usec_t start_usec = now();
        load_run(&load);
        print_outcome(&load, now() - start_usec);
        return EXIT_SUCCESS;
}
