/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/listen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"

#define CONNECTIONS_MAX     4096
#define CONNECTION_IDLE_SEC 30

int listen_server_new(
                sd_event *event,
                const ServiceConfig *config,
                uint64_t n_descriptors,
                Router *router,
                HttpServer **ret) {
        uint64_t connections = n_descriptors / 4;
        return http_server_new(
                        event,
                        &(HttpServerOptions){
                                        .body_bytes_max = config->body_max_bytes,
                                        .bodies_bytes_max = config->body_max_bytes * config->web_threads,
                                        .connections_max = connections < CONNECTIONS_MAX ?
                                                        (unsigned) connections :
                                                        CONNECTIONS_MAX,
                                        .idle_timeout_sec = CONNECTION_IDLE_SEC,
                        },
                        &router_http_handlers,
                        router,
                        ret);
}

static int listen_passed(HttpServer *server, const Access *access, int n_passed) {
        for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n_passed; fd++) {
                int r = sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, true);
                if (r == 0)
                        r = -ENOTSOCK;
                if (r > 0 && !access_permits_open_socket(access) && !http_socket_is_local(fd)) {
                        log_line(LOG_ERR,
                                 "Descriptor %d from systemd listens to other machines, which takes \"auth\" or "
                                 "\"insecure\": true",
                                 fd);
                        return -EPERM;
                }
                if (r > 0)
                        r = http_server_listen(server, fd);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Cannot listen on descriptor %d from systemd", fd);
        }
        return 0;
}

int listen_start(HttpServer *server, const Access *access, uint16_t *ret_port) {
        int n_passed = sd_listen_fds(true);
        if (n_passed < 0)
                return log_errno(LOG_ERR, n_passed, "Cannot take the sockets that systemd passed");
        *ret_port = 0;
        if (n_passed > 0)
                return listen_passed(server, access, n_passed);

        const ServiceConfig *config = access->config;
        int fd = http_listen_tcp(config->ip, (uint16_t) config->port, ret_port);
        int r = fd < 0 ? fd : http_server_listen(server, fd);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot listen on %s port %" PRIu64, config->ip, config->port);
        return 0;
}

void listen_keep(ServiceConfig *config, const ServiceConfig *current) {
        if (!streq(config->ip, current->ip) || config->port != current->port)
                log_line(LOG_NOTICE, "A new address takes effect with the next restart");
        config->body_max_bytes = current->body_max_bytes; /* the server's, made once */
        config->web_threads = current->web_threads;
}
