/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many runners in one process that end every task at once: what a queue costs when its runners cost nothing.
 * Each has a port of 127.0.0.1, and answers what a queue asks a runner: capacity, lease, submission, events,
 * attempt, output, list, forgetting. An answer and the events that follow from it are those of daggyr.
 *
 *   fake-runners FIRST_PORT COUNT      serves until its stdin is closed; prints "ready" before */

/* uthash's macros fall through cases on purpose, in our code. */
#pragma GCC diagnostic ignored "-Wimplicit-fallthrough"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/text.h"

#define RUNNERS_MAX     4096
#define REQUEST_MAX     (2 * 1024 * 1024)
#define EVENTS_MAX      256
#define TASK_ID_SIZE    129
#define TASK_KEY_SIZE   (TASK_ID_SIZE + 8)
#define OUTGOING_MAX    (64 * 1024 * 1024)
#define TIME_OF_ATTEMPT "2026-01-01T00:00:00.000000Z"

typedef struct Runner {
        uint16_t port;
        uint64_t last_event, revision;
} Runner;

/* A listening socket, a connection, or stdin (without a runner). */
typedef struct Peer {
        int fd;
        Runner *runner; /* weak */
        bool is_listening, has_events, is_broken;
        Text incoming, outgoing;
        struct Peer *previous_stream, *next_stream;
} Peer;

typedef struct FakeTask {
        char key[TASK_KEY_SIZE]; /* PORT/ID */
        UT_hash_handle hh;
} FakeTask;

typedef struct Request {
        char *method, *path, *query; /* query: what follows the "?", or "" */
} Request;

static int epoll_fd;
static FakeTask *tasks; /* finished ones that are not forgotten yet */
static Peer *streams;   /* peers that are sent events */

static void check(int r, const char *what) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "fake-runners: %s: %s\n", what, strerror(errno));
        exit(EXIT_FAILURE);
}

static void check_memory(int r) {
        if (r >= 0)
                return;
        (void) fprintf(stderr, "fake-runners: out of memory\n");
        exit(EXIT_FAILURE);
}

static void watch(Peer *peer, int operation, uint32_t events) {
        struct epoll_event event = { .events = events, .data.ptr = peer };
        check(epoll_ctl(epoll_fd, operation, peer->fd, &event), "epoll_ctl");
}

static Peer *peer_new(int fd, Runner *runner, bool is_listening) {
        Peer *peer = calloc(1, sizeof(*peer));
        check_memory(peer ? 0 : -ENOMEM);
        *peer = (Peer) { .fd = fd, .runner = runner, .is_listening = is_listening };
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
        return peer;
}

static void peer_free(Peer *peer) {
        if (peer->has_events) {
                *(peer->previous_stream ? &peer->previous_stream->next_stream : &streams) = peer->next_stream;
                if (peer->next_stream)
                        peer->next_stream->previous_stream = peer->previous_stream;
        }
        fd_close(&peer->fd);
        text_done(&peer->incoming);
        text_done(&peer->outgoing);
        free(peer);
}

/* What the socket does not take now it takes when it is writable. */
static void peer_flush(Peer *peer) {
        Text *text = &peer->outgoing;
        if (text->size == 0)
                return;
        ssize_t n = send(peer->fd, text->data, text->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
                peer->is_broken = true;
                return;
        }
        size_t n_sent = n < 0 ? 0 : (size_t) n;
        bool was_waiting = n_sent < text->size;
        memmove(text->data, text->data + n_sent, text->size - n_sent);
        text->size -= n_sent;
        peer->is_broken |= text->size > OUTGOING_MAX;
        watch(peer, EPOLL_CTL_MOD, was_waiting ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void answer(Peer *peer, const char *status, const char *body) {
        check_memory(text_appendf(
                        &peer->outgoing,
                        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
                        "Cache-Control: no-store\r\nContent-Length: %zu\r\n\r\n%s",
                        status,
                        strlen(body),
                        body));
}

/* A task and its key in the table; NULL when there is none. */
static FakeTask *task_find(const Runner *runner, const char *id, char key[static TASK_KEY_SIZE]) {
        FakeTask *task = NULL;
        (void) snprintf(key, TASK_KEY_SIZE, "%u/%.*s", runner->port, TASK_ID_SIZE - 1, id);
        HASH_FIND_STR(tasks, key, task);
        return task;
}

static void append_attempt(Text *text, const char *id, bool is_finished, bool has_output) {
        check_memory(text_appendf(
                        text,
                        "{\"task_id\":\"%s\",\"state\":\"%s\",\"result\":%s,\"unit\":\"daggyr-task-%s.scope\","
                        "\"command\":[\"true\"],\"resources\":{\"cores\":1,\"memory_mb\":512},\"labels\":{},"
                        "\"submit_time\":\"" TIME_OF_ATTEMPT "\",\"start_time\":%s,\"stop_time\":%s,"
                        "\"succeeded\":%s,\"killed\":false,\"exit_code\":%s,\"signal\":null,%s"
                        "\"output_bytes\":0,\"error_bytes\":0,\"output_truncated\":false,"
                        "\"error_truncated\":false,\"executor\":[\"started in daggyr-task-%s.scope: "
                        "CPUQuota=100%% MemoryMax=512M\",\"exited with status 0\"],\"max_cpu\":97,"
                        "\"max_rss\":757760,\"usage\":{\"cpu_time\":0.001,\"memory_peak\":757760,"
                        "\"io_read_bytes\":0,\"io_write_bytes\":0,\"tasks_peak\":1}}",
                        id,
                        is_finished ? "completed" : "queued",
                        is_finished ? "\"success\"" : "null",
                        id,
                        is_finished ? "\"" TIME_OF_ATTEMPT "\"" : "null",
                        is_finished ? "\"" TIME_OF_ATTEMPT "\"" : "null",
                        is_finished ? "true" : "false",
                        is_finished ? "0" : "null",
                        has_output ? "\"output\":\"\",\"error\":\"\"," : "",
                        id));
}

/* All is always free, as nothing runs for any time. */
static void append_capacity(Text *text, Runner *runner, bool has_facts) {
        check_memory(text_appendf(
                        text,
                        "{\"total\":{\"cores\":64,\"memory_mb\":131072},\"free\":{\"cores\":64,"
                        "\"memory_mb\":131072},\"tasks\":{\"queued\":0,\"running\":0},\"draining\":false,"
                        "\"revision\":%" PRIu64,
                        ++runner->revision));
        if (has_facts)
                check_memory(
                                text_appendf(text,
                                             ",\"facts\":{\"instance_id\":\"%032x\"},\"warnings\":[]",
                                             runner->port));
        check_memory(text_append(text, "}"));
}

static void append_task_event(Text *text, Runner *runner, const char *id, const char *state) {
        bool is_finished = streq(state, "completed");
        check_memory(
                        text_appendf(text,
                                     "event: task\nid: %" PRIu64
                                     "\ndata: {\"task_id\":\"%s\",\"unit\":\"daggyr-task-%s.scope\","
                                     "\"state\":\"%s\",\"result\":%s}\n\n",
                                     ++runner->last_event,
                                     id,
                                     id,
                                     state,
                                     is_finished ? "\"success\"" : "null"));
}

/* The life of a task, as everyone hears of it who listens to its runner. */
static void send_events(Runner *runner, const char *id) {
        _cleanup_(text_done) Text text = {};
        append_task_event(&text, runner, id, "queued");
        append_task_event(&text, runner, id, "running");
        append_task_event(&text, runner, id, "completed");
        check_memory(text_appendf(&text, "event: capacity\nid: %" PRIu64 "\ndata: ", ++runner->last_event));
        append_capacity(&text, runner, false);
        check_memory(text_append(&text, "\n\n"));
        for (Peer *peer = streams; peer; peer = peer->next_stream)
                if (peer->runner == runner) {
                        check_memory(text_append_bytes(&peer->outgoing, text.data, text.size));
                        peer_flush(peer);
                }
}

static void on_events(Peer *peer) {
        check_memory(text_append(
                        &peer->outgoing,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                        ": still here\n\n"));
        peer->has_events = true;
        peer->next_stream = streams;
        if (streams)
                streams->previous_stream = peer;
        streams = peer;
}

static void on_capacity(Peer *peer) {
        _cleanup_(text_done) Text text = {};
        append_capacity(&text, peer->runner, true);
        answer(peer, "200 OK", text.data);
}

static void on_lease(Peer *peer, const Request *request) {
        if (streq(request->method, "DELETE")) {
                answer(peer, "204 No Content", "");
                return;
        }
        _cleanup_(text_done) Text text = {};
        check_memory(text_appendf(
                        &text,
                        "{\"lease_id\":\"%032x\",\"queue\":\"q\",\"version\":\"\",\"epoch\":1,\"ttl\":30,"
                        "\"expires\":\"" TIME_OF_ATTEMPT "\"}",
                        peer->runner->port));
        answer(peer, streq(request->method, "POST") ? "201 Created" : "200 OK", text.data);
}

/* The events come after the answer, as they do from a real one. */
static void on_submit(Peer *peer, const char *id) {
        char key[TASK_KEY_SIZE];
        _cleanup_(text_done) Text text = {};
        bool is_known = task_find(peer->runner, id, key);
        append_attempt(&text, id, is_known, true);
        answer(peer, is_known ? "200 OK" : "202 Accepted", text.data);
        if (is_known)
                return;
        FakeTask *task = calloc(1, sizeof(*task));
        check_memory(task ? 0 : -ENOMEM);
        memcpy(task->key, key, sizeof(task->key));
        HASH_ADD_STR(tasks, key, task);
        peer_flush(peer);
        send_events(peer->runner, id);
}

static void on_task(Peer *peer, const Request *request, const char *id) {
        char key[TASK_KEY_SIZE];
        if (streq(request->method, "POST")) {
                on_submit(peer, id);
                return;
        }
        FakeTask *task = task_find(peer->runner, id, key);
        if (!task) {
                answer(peer, "404 Not Found", "{\"title\":\"Not Found\",\"status\":404}");
                return;
        }
        if (streq(request->method, "GET")) {
                _cleanup_(text_done) Text text = {};
                append_attempt(&text, id, true, !strstr(request->query, "output=none"));
                answer(peer, "200 OK", text.data);
                return;
        }
        if (!strstr(request->query, "keep=true")) {
                HASH_DEL(tasks, task);
                free(task);
        }
        answer(peer, "204 No Content", "");
}

/* One page has them all. */
static void on_list(Peer *peer) {
        _cleanup_(text_done) Text text = {};
        check_memory(text_append(&text, "{\"tasks\":["));
        size_t n = 0;
        for (FakeTask *task = tasks; task; task = task->hh.next) {
                const char *id = strchr(task->key, '/') + 1;
                if (strtoul(task->key, NULL, 10) != peer->runner->port)
                        continue;
                check_memory(text_append(&text, n++ > 0 ? "," : ""));
                append_attempt(&text, id, true, false);
        }
        check_memory(text_append(&text, "],\"next\":null}"));
        answer(peer, "200 OK", text.data);
}

static void on_request(Peer *peer, const Request *request) {
        const char *rest;
        if ((rest = text_after(request->path, "/api/v1/task/"))) {
                char *output = strstr(rest, "/output");
                if (output)
                        answer(peer, "200 OK", "");
                else
                        on_task(peer, request, rest);
        } else if (text_after(request->path, "/api/v1/lease"))
                on_lease(peer, request);
        else if (streq(request->path, "/api/v1/capacity"))
                on_capacity(peer);
        else if (streq(request->path, "/api/v1/events"))
                on_events(peer);
        else if (streq(request->path, "/api/v1/tasks"))
                on_list(peer);
        else
                answer(peer, "404 Not Found", "{\"title\":\"Not Found\",\"status\":404}");
}

/* The length of the body that the head promises. */
static size_t body_size(const char *head) {
        const char *line = strcasestr(head, "\r\nContent-Length:");
        return line ? strtoul(line + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

static bool parse_request_line(char *head, Request *ret) {
        char *rest = head;
        ret->method = strsep(&rest, " ");
        char *target = strsep(&rest, " ");
        if (!target || !rest)
                return false;
        ret->path = strsep(&target, "?");
        ret->query = target ?: (char *) "";
        return true;
}

/* Takes the first request off what came in; false when it is not all there. */
static bool take_request(Peer *peer) {
        Text *text = &peer->incoming;
        char *end = text->size > 0 ? strstr(text->data, "\r\n\r\n") : NULL;
        if (!end)
                return false;
        size_t head_size = (size_t) (end - text->data) + strlen("\r\n\r\n");
        *end = '\0';
        size_t size = head_size + body_size(text->data);
        if (text->size < size) {
                *end = '\r';
                return false;
        }
        Request request;
        if (parse_request_line(text->data, &request))
                on_request(peer, &request);
        else
                peer->is_broken = true;
        memmove(text->data, text->data + size, text->size - size + 1);
        text->size -= size;
        return true;
}

static void on_readable(Peer *peer) {
        char bytes[65536];
        ssize_t n = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0 || peer->incoming.size > REQUEST_MAX) {
                peer->is_broken = true;
                return;
        }
        check_memory(text_append_bytes(&peer->incoming, bytes, (size_t) n));
        while (!peer->is_broken && take_request(peer))
                continue;
        peer_flush(peer);
}

static void on_connection(const Peer *listener) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
                return;
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int));
        (void) peer_new(fd, listener->runner, false);
}

static void listen_at(Runner *runner) {
        const struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                .sin_port = htons(runner->port),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        check(fd, "socket");
        check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int) { 1 }, sizeof(int)), "SO_REUSEADDR");
        check(bind(fd, (const struct sockaddr *) &address, sizeof(address)), "bind");
        check(listen(fd, 128), "listen");
        (void) peer_new(fd, runner, true);
}

static void raise_descriptor_limit(void) {
        struct rlimit limit;
        check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
        limit.rlim_cur = limit.rlim_max;
        check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static void serve(void) {
        struct epoll_event events[EVENTS_MAX];
        for (;;) {
                int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
                if (n < 0 && errno == EINTR)
                        continue;
                check(n, "epoll_wait");
                for (int i = 0; i < n; i++) {
                        Peer *peer = events[i].data.ptr;
                        if (!peer->runner) /* stdin was closed */
                                return;
                        if (peer->is_listening) {
                                on_connection(peer);
                                continue;
                        }
                        if (events[i].events & EPOLLOUT)
                                peer_flush(peer);
                        if (events[i].events & ~(uint32_t) EPOLLOUT)
                                on_readable(peer);
                        if (peer->is_broken)
                                peer_free(peer);
                }
        }
}

int main(int argc, char **argv) {
        static Runner runners[RUNNERS_MAX];
        uint64_t first, n;
        if (argc != 3 || text_parse_u64(argv[1], 1, UINT16_MAX, &first) < 0 ||
            text_parse_u64(argv[2], 1, RUNNERS_MAX, &n) < 0 || first + n > UINT16_MAX) {
                (void) fprintf(stderr, "Usage: fake-runners FIRST_PORT COUNT\n");
                return EXIT_FAILURE;
        }
        raise_descriptor_limit();
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        check(epoll_fd, "epoll_create1");
        for (uint64_t i = 0; i < n; i++) {
                runners[i].port = (uint16_t) (first + i);
                listen_at(&runners[i]);
        }
        (void) peer_new(STDIN_FILENO, NULL, false);
        (void) puts("ready");
        (void) fflush(stdout);
        serve();
        return EXIT_SUCCESS;
}
