/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libcurl's multi interface without its own loop: it says which descriptors it watches and when it wants to
 * be woken (one timer), and is told what happened.
 *
 * sd-event serves one source in a turn and asks the kernel anew before the next, about each source that is
 * ready: with a source for each socket, R busy peers would cost R * R. So all sockets are in one epoll set of
 * their own, which is the only source, and those of it that are ready are served together. */

#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <unistd.h>

#include "io/http-client-internal.h"
#include "io/loop.h"

static void multi_act(HttpClient *client, curl_socket_t fd, int what) {
        int n_running;
        (void) curl_multi_socket_action(client->multi, fd, what, &n_running);
        http_client_collect(client);
}

void http_multi_kick(HttpClient *client) {
        if (!client->kicked)
                return;
        client->kicked = false;
        multi_act(client, CURL_SOCKET_TIMEOUT, 0);
}

static void serve_socket(HttpClient *client, const struct epoll_event *event) {
        int what = 0;
        if (event->events & EPOLLIN)
                what |= CURL_CSELECT_IN;
        if (event->events & EPOLLOUT)
                what |= CURL_CSELECT_OUT;
        if (event->events & (EPOLLERR | EPOLLHUP))
                what |= CURL_CSELECT_ERR;
        multi_act(client, event->data.fd, what);
}

/* Those that find no place now are the first in the next turn. */
static int on_sockets(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        HttpClient *client = userdata;
        if (http_client_is_exiting(client))
                return 0;
        client->n_sockets = epoll_wait(fd, client->sockets, SOCKETS_PER_TURN_MAX, 0);
        for (int i = 0; i < client->n_sockets; i++)
                if (client->sockets[i].data.fd >= 0)
                        serve_socket(client, &client->sockets[i]);
        client->n_sockets = 0;
        http_client_turn(client);
        return 0;
}

/* What was seen of a socket before it was closed must not be taken for news of the next one of its number. */
static void forget_events(HttpClient *client, int fd) {
        for (int i = 0; i < client->n_sockets; i++)
                if (client->sockets[i].data.fd == fd)
                        client->sockets[i].data.fd = -EBADF;
}

/* libcurl wants FD watched for WHAT. SOCKET_DATA is what we told it to keep for that socket: nothing, unless
 * it is watched already. */
static int on_curl_watch(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data) {
        HttpClient *client = userdata;
        struct epoll_event event = {
                .events = (what == CURL_POLL_IN || what == CURL_POLL_INOUT ? EPOLLIN : 0) |
                                (what == CURL_POLL_OUT || what == CURL_POLL_INOUT ? EPOLLOUT : 0),
                .data.fd = fd,
        };
        if (what == CURL_POLL_REMOVE) {
                forget_events(client, fd);
                (void) epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
                (void) curl_multi_assign(client->multi, fd, NULL);
                return 0;
        }
        if (epoll_ctl(client->epoll_fd, socket_data ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
                return -1;
        if (!socket_data)
                (void) curl_multi_assign(client->multi, fd, client);
        return 0;
}

static int on_multi_time(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpClient *client = userdata;
        if (http_client_is_exiting(client))
                return 0;
        multi_act(client, CURL_SOCKET_TIMEOUT, 0);
        http_client_turn(client);
        return 0;
}

/* libcurl wants to be called in so many milliseconds. At once is a matter of the next turn: a timer would be
 * up to its accuracy late. */
static int on_curl_timeout(CURLM *multi, long msec, void *userdata) {
        HttpClient *client = userdata;
        usec_t when = USEC_INFINITY;
        client->kicked = msec == 0;
        if (client->kicked)
                http_client_schedule(client);
        else if (msec > 0)
                when = usec_add(usec_now(CLOCK_BOOTTIME), (usec_t) msec * USEC_PER_MSEC);
        return loop_set_timer(client->event,
                              &client->timer_source,
                              when,
                              on_multi_time,
                              client,
                              "http-client-timer") < 0 ?
                        -1 :
                        0;
}

static int multi_set_up(HttpClient *client) {
        client->multi = curl_multi_init();
        if (!client->multi)
                return -ENOMEM;
        /* The descriptors by which libcurl (7.88) wakes itself are not CLOEXEC, and nobody says which they
         * are. All of ours are to be. */
        (void) close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);

        /* Idle connections are closed to make room for new ones. */
        long connections = (long) client->options.connections_max;
        if (curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, connections) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_curl_watch) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_curl_timeout) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client) != CURLM_OK)
                return -ENOMEM;
        return 0;
}

int http_multi_new(HttpClient *client) {
        client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (client->epoll_fd < 0)
                return -errno;
        int r = sd_event_add_io(
                        client->event, &client->epoll_source, client->epoll_fd, EPOLLIN, on_sockets, client);
        if (r < 0)
                return r;
        r = sd_event_source_set_description(client->epoll_source, "http-client-sockets");
        return r < 0 ? r : multi_set_up(client);
}

void http_multi_free(HttpClient *client) {
        if (client->multi)
                (void) curl_multi_cleanup(client->multi);
        event_source_dropp(&client->epoll_source);
        fd_close(&client->epoll_fd);
        event_source_dropp(&client->timer_source);
}
