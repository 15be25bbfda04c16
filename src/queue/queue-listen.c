/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where the queue listens, and by which address others know it. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "queue/queue-internal.h"

/* The first port of "port_range" that is free, else "port". */
static int listen_in_range(Queue *queue) {
        ServiceConfig *service = &queue->daemon.config;
        const PortRange *ports = &queue->config->ports;
        if (ports->from == 0 || sd_listen_fds(false) > 0)
                return daemon_listen(&queue->daemon);
        for (service->port = ports->from; service->port <= ports->to; service->port++) {
                uint16_t port;
                int fd = http_listen_tcp(service->ip, (uint16_t) service->port, &port);
                if (fd == -EADDRINUSE)
                        continue;
                int r = fd < 0 ? fd : http_server_listen(queue->daemon.http, fd);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot listen on %s port %u", service->ip, port);
                queue->daemon.port = port;
                return 0;
        }
        log_line(LOG_ERR, "Every port from %" PRIu64 " to %" PRIu64 " is taken", ports->from, ports->to);
        return -EADDRINUSE;
}

static bool is_loopback_name(const char *host) {
        const char *rest = text_after(host, "localhost");
        return text_after(host, "127.") || (rest && (!*rest || *rest == ':'));
}

/* Workers know queues by their address: two on different hosts that both call themselves 127.0.0.1 would have
 * one lease, and use a worker at the same time. */
static bool is_local(const char *url) {
        const char *host = strstr(url, "://") + strlen("://");
        return is_loopback_name(host) || text_after(host, "[::1]");
}

static bool ip_tells_hosts_apart(const char *ip, const Workers *workers) {
        if (streq(ip, "0.0.0.0") || strchr(ip, ':')) /* "host:port" of Emcee knows no IPv6 */
                return false;
        bool local = is_loopback_name(ip);
        for (size_t i = 0; i < workers->n_workers && local; i++)
                if (!is_local(queue_worker_config(workers->workers[i])->url))
                        return false;
        return true;
}

bool queue_address_suits(const char *url, const void *userdata) {
        const Queue *queue = userdata;
        return queue->config->advertise || !is_loopback_name(queue->address) || is_local(url);
}

/* Of the socket that others reach it at, whoever made it; that of the configuration when there is none. */
static unsigned find_port(const Daemon *daemon) {
        unsigned port = daemon->port;
        for (size_t i = 0; port == 0 && http_server_listener(daemon->http, i) >= 0; i++)
                port = http_socket_port(http_server_listener(daemon->http, i));
        return port ?: (unsigned) daemon->config.port;
}

static int find_address(Queue *queue) {
        const QueueConfig *config = queue->config;
        const Daemon *daemon = &queue->daemon;
        const char *ip = daemon->config.ip;
        const char *host = ip_tells_hosts_apart(ip, &queue->workers) ? ip : daemon->host_name;
        if (config->advertise)
                queue->address = strdup(config->advertise);
        else
                (void) text_format(&queue->address, "%s:%u", host, find_port(daemon));
        return queue->address ? 0 : log_errno(LOG_ERR, ENOMEM, "Cannot set up");
}

int queue_listen(Queue *queue) {
        int r = listen_in_range(queue);
        return r < 0 ? r : find_address(queue);
}
