/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client that submits tasks and costs little beside the server: one process, connections that are kept
 * alive, each with one request under way.
 *
 *   queue-load PORT submit PREFIX COUNT CONNECTIONS FIELDS        a request for each task
 *   queue-load PORT cycle  PREFIX COUNT CONNECTIONS FIELDS        the same, then a GET that waits for its end
 *   queue-load PORT batch  PREFIX COUNT CONNECTIONS FIELDS SIZE   SIZE tasks in a request
 *
 * The tasks have the ids PREFIX0, PREFIX1, …, and FIELDS, what stands between the braces of a specification.
 * Any answer that is not as hoped for ends it. Prints one line of JSON: seconds, and of the time that a
 * request (with cycle: a task) took the median and the 99th percentile. */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/usec.h"

#define CONNECTIONS_MAX 1024
#define BATCH_MAX       1000
#define PATIENCE_MSEC   60000
#define WAIT_SEC        60

typedef struct Connection {
        int fd;
        bool is_idle, is_waiting; /* waiting: for the end of its task */
        uint64_t first, n;        /* the tasks of its request */
        usec_t start_usec;
        Text answer;
} Connection;

typedef struct Load {
        const char *mode, *prefix, *fields;
        uint64_t n_tasks, n_started, n_per_request;
        usec_t *times_usec; /* of the requests that were answered */
        size_t n_answered;
        Connection connections[CONNECTIONS_MAX];
        uint64_t n_connections;
} Load;

static _Noreturn void fail(const char *what, const char *detail) {
        (void) fprintf(stderr, "queue-load: %s: %s\n", what, detail);
        exit(EXIT_FAILURE);
}

static void check(int r, const char *what) {
        if (r < 0)
                fail(what, strerror(-r));
}

static int connect_to(uint64_t port) {
        const struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                .sin_port = htons((uint16_t) port),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        check(fd < 0 ? -errno : 0, "socket");
        check(connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0, "connect");
        check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int)) < 0 ? -errno : 0,
              "TCP_NODELAY");
        return fd;
}

static void send_all(int fd, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
                check(n < 0 ? -errno : 0, "send");
                bytes += n;
                size -= (size_t) n;
        }
}

static void append_batch(const Load *load, const Connection *connection, Text *body) {
        check(text_append(body, "["), "batch");
        for (uint64_t i = 0; i < connection->n; i++)
                check(text_appendf(body,
                                   "%s{\"task_id\":\"%s%" PRIu64 "\",%s}",
                                   i > 0 ? "," : "",
                                   load->prefix,
                                   connection->first + i,
                                   load->fields),
                      "batch");
        check(text_append(body, "]"), "batch");
}

static void send_submission(const Load *load, const Connection *connection) {
        _cleanup_(text_done) Text request = {}, body = {}, path = {};
        if (streq(load->mode, "batch")) {
                append_batch(load, connection, &body);
                check(text_append(&path, "tasks"), "path");
        } else {
                check(text_appendf(&body, "{%s}", load->fields), "body");
                check(text_appendf(&path, "task/%s%" PRIu64, load->prefix, connection->first), "path");
        }
        check(text_appendf(&request,
                           "POST /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           path.data,
                           body.size,
                           body.data),
              "request");
        send_all(connection->fd, request.data, request.size);
}

static void send_wait(const Load *load, const Connection *connection) {
        _cleanup_(text_done) Text request = {};
        check(text_appendf(&request,
                           "GET /api/v1/task/%s%" PRIu64 "?wait=%d HTTP/1.1\r\nHost: localhost\r\n\r\n",
                           load->prefix,
                           connection->first,
                           WAIT_SEC),
              "request");
        send_all(connection->fd, request.data, request.size);
}

static void start_next(Load *load, Connection *connection) {
        uint64_t n_left = load->n_tasks - load->n_started;
        connection->is_waiting = false;
        connection->is_idle = n_left == 0;
        if (connection->is_idle)
                return;
        connection->first = load->n_started;
        connection->n = n_left < load->n_per_request ? n_left : load->n_per_request;
        load->n_started += connection->n;
        connection->start_usec = usec_now(CLOCK_MONOTONIC);
        send_submission(load, connection);
}

/* Joins the chunks that a body comes in from a member that hands it on; false: there are more to come. */
static bool join_chunks(Text *answer, size_t at) {
        static const char last[] = "\r\n0\r\n\r\n";
        size_t to = at;
        if (answer->size < at + strlen(last) || !streq(answer->data + answer->size - strlen(last), last))
                return false;
        while (at < answer->size) {
                char *chunk;
                size_t size = strtoul(answer->data + at, &chunk, 16);
                size_t begin = (size_t) (chunk - answer->data) + strlen("\r\n");
                if (size == 0 || begin + size > answer->size)
                        break;
                memmove(answer->data + to, answer->data + begin, size);
                to += size;
                at = begin + size + strlen("\r\n");
        }
        answer->size = to;
        answer->data[to] = '\0';
        return true;
}

/* Whether ANSWER is complete, with its body. */
static bool is_complete(Text *answer) {
        const char *end = strstr(answer->data, "\r\n\r\n");
        const char *line = end ? strcasestr(answer->data, "\r\nContent-Length:") : NULL;
        if (!end)
                return false;
        size_t body_at = (size_t) (end - answer->data) + strlen("\r\n\r\n");
        if (!line || line > end)
                return join_chunks(answer, body_at);
        size_t body_size = strtoul(line + strlen("\r\nContent-Length:"), NULL, 10);
        return answer->size >= body_at + body_size;
}

static uint64_t n_occurrences(const char *text, const char *what) {
        uint64_t n = 0;
        while ((text = strstr(text, what))) {
                text += strlen(what);
                n++;
        }
        return n;
}

static bool is_as_hoped(const Load *load, const Connection *connection) {
        const char *answer = connection->answer.data;
        if (connection->is_waiting)
                return strstr(answer, "\"state\":\"completed\"");
        if (streq(load->mode, "batch"))
                return n_occurrences(answer, "\"status\":202") == connection->n;
        return text_after(answer, "HTTP/1.1 202 ");
}

static void on_answer(Load *load, Connection *connection) {
        if (!is_as_hoped(load, connection))
                fail("unexpected answer", connection->answer.data);
        text_done(&connection->answer);
        if (streq(load->mode, "cycle") && !connection->is_waiting) {
                connection->is_waiting = true;
                send_wait(load, connection);
                return;
        }
        load->times_usec[load->n_answered++] = usec_now(CLOCK_MONOTONIC) - connection->start_usec;
        start_next(load, connection);
}

static void receive(Load *load, Connection *connection) {
        char bytes[65536];
        ssize_t n = recv(connection->fd, bytes, sizeof(bytes), 0);
        check(n < 0 ? -errno : n == 0 ? -ECONNRESET : 0, "receive");
        check(text_append_bytes(&connection->answer, bytes, (size_t) n), "receive");
        if (is_complete(&connection->answer))
                on_answer(load, connection);
}

static void serve(Load *load) {
        for (;;) {
                struct pollfd polled[CONNECTIONS_MAX];
                size_t n_busy = 0;
                for (size_t i = 0; i < load->n_connections; i++) {
                        const Connection *connection = &load->connections[i];
                        polled[i] = (struct pollfd) {
                                .fd = connection->is_idle ? -1 : connection->fd,
                                .events = POLLIN,
                        };
                        n_busy += !connection->is_idle;
                }
                if (n_busy == 0)
                        return;
                int n = poll(polled, load->n_connections, PATIENCE_MSEC);
                check(n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0, "poll");
                for (size_t i = 0; i < load->n_connections; i++)
                        if (polled[i].revents)
                                receive(load, &load->connections[i]);
        }
}

static int compare_usec(const void *a, const void *b) {
        usec_t left = *(const usec_t *) a, right = *(const usec_t *) b;
        return (left > right) - (left < right);
}

static uint64_t parse_number(const char *text, uint64_t max) {
        uint64_t n;
        if (text_parse_u64(text, 1, max, &n) < 0)
                fail("not a possible number", text);
        return n;
}

int main(int argc, char **argv) {
        static Load load;
        if (argc < 7) {
                (void) fprintf(stderr,
                               "Usage: queue-load PORT submit|cycle|batch PREFIX COUNT CONNECTIONS FIELDS [SIZE]\n");
                return EXIT_FAILURE;
        }
        load = (Load) {
                .mode = argv[2],
                .prefix = argv[3],
                .n_tasks = parse_number(argv[4], UINT32_MAX),
                .n_connections = parse_number(argv[5], CONNECTIONS_MAX),
                .fields = argv[6],
                .n_per_request = argc > 7 ? parse_number(argv[7], BATCH_MAX) : 1,
        };
        load.times_usec = calloc(load.n_tasks, sizeof(usec_t));
        check(load.times_usec ? 0 : -ENOMEM, "times");
        for (size_t i = 0; i < load.n_connections; i++)
                load.connections[i].fd = connect_to(parse_number(argv[1], UINT16_MAX));

        usec_t begin_usec = usec_now(CLOCK_MONOTONIC);
        for (size_t i = 0; i < load.n_connections; i++)
                start_next(&load, &load.connections[i]);
        serve(&load);
        usec_t took_usec = usec_now(CLOCK_MONOTONIC) - begin_usec;

        qsort(load.times_usec, load.n_answered, sizeof(usec_t), compare_usec);
        printf("{\"seconds\":%.6f,\"median_usec\":%" PRIu64 ",\"p99_usec\":%" PRIu64 "}\n",
               (double) took_usec / (double) USEC_PER_SEC,
               load.times_usec[load.n_answered / 2],
               load.times_usec[load.n_answered * 99 / 100]);
        for (size_t i = 0; i < load.n_connections; i++)
                fd_close(&load.connections[i].fd);
        free(load.times_usec);
        return EXIT_SUCCESS;
}
