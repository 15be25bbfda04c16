/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/listen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "io/file.h"
#include "service/config-file.h"
#include "service/process.h"

#define PEM_BYTES_MAX       ((size_t) 1024 * 1024)
#define CONNECTIONS_MAX     4096
#define CONNECTION_IDLE_SEC 30

/* Whoever reads slowly costs no more memory than that, however many they are; then disk, and in the end is
 * told to come again. A page of a list or an attempt with its output is a few megabytes at most. */
#define ANSWERS_BYTES_MAX      ((size_t) 16 * 1024 * 1024)
#define ANSWERS_FILE_BYTES_MAX ((uint64_t) 512 * 1024 * 1024)

static int pem_read(const char *path, Text *ret) {
        int r = file_read_all(path, PEM_BYTES_MAX, ret);
        return r < 0 ? log_errno(LOG_ERR, r, "Cannot read %s", path) : 0;
}

static void secret_done(Text *secret) {
        if (secret->data)
                explicit_bzero(secret->data, secret->size);
        text_done(secret);
}

static int load_certificates(HttpServer *server, const char *config_path, const ServiceConfig *config) {
        if (!config->tls_cert)
                return 0;
        _cleanup_(text_done) Text cert = {}, client_ca = {};
        _cleanup_(secret_done) Text key = {};
        int r = pem_read(config->tls_cert, &cert);
        if (r >= 0)
                r = pem_read(config->tls_key, &key);
        if (r >= 0 && config->tls_client_ca)
                r = pem_read(config->tls_client_ca, &client_ca);
        if (r < 0)
                return r;
        Problem problem = {};
        HttpTls tls = { .cert = cert.data, .key = key.data, .client_ca = client_ca.data };
        r = http_server_set_tls(server, &tls, &problem);
        if (r < 0)
                config_file_log_problem(config_path, &problem);
        return r;
}

int listen_server_new(
                sd_event *event,
                const char *config_path,
                const ServiceConfig *config,
                uint64_t n_descriptors,
                Router *router,
                HttpServer **ret) {
        _cleanup_(http_server_freep) HttpServer *server = NULL;
        uint64_t connections = n_descriptors / 4;
        int r = http_server_new(
                        event,
                        &(HttpServerOptions) {
                                        .body_bytes_max = config->body_max_bytes,
                                        .bodies_bytes_max = config->body_max_bytes * config->web_threads,
                                        .answers_bytes_max = ANSWERS_BYTES_MAX,
                                        .answers_file_bytes_max = ANSWERS_FILE_BYTES_MAX,
                                        .answers_directory = process_spool_directory(),
                                        .connections_max = connections < CONNECTIONS_MAX ?
                                                        (unsigned) connections :
                                                        CONNECTIONS_MAX,
                                        .idle_timeout_sec = CONNECTION_IDLE_SEC,
                        },
                        &router_http_handlers,
                        router,
                        &server);
        if (r >= 0)
                r = load_certificates(server, config_path, config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(server);
        return 0;
}

static int listen_passed(HttpServer *server, const Access *access, int n_passed) {
        for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n_passed; fd++) {
                int r = sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, true);
                if (r == 0)
                        r = -ENOTSOCK;
                if (r > 0 && !access_permits_open_socket(access) && !http_socket_is_local(fd)) {
                        log_line(LOG_ERR,
                                 "Descriptor %d from systemd listens to other machines, which takes \"auth\", "
                                 "\"tls\" with \"client_ca\", or \"insecure\": true",
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

static bool is_https(const ServiceConfig *config) {
        return config->tls_cert != NULL;
}

int listen_reload(
                HttpServer *server,
                const char *config_path,
                const ServiceConfig *config,
                const ServiceConfig *current,
                bool has_token) {
        /* To begin with HTTPS takes a restart: until then nobody is asked for a certificate. */
        bool asks_certificate = config->tls_client_ca && is_https(current);
        if (!has_token && !asks_certificate && !config->insecure && !http_server_is_local(server)) {
                log_line(LOG_ERR,
                         "%s: without \"auth\" and \"insecure\", what listens to other machines would be open to "
                         "all",
                         config_file_name(config_path));
                return -EPERM;
        }
        return is_https(current) && is_https(config) ? load_certificates(server, config_path, config) : 0;
}

void listen_keep(ServiceConfig *config, const ServiceConfig *current) {
        if (!streq(config->ip, current->ip) || config->port != current->port)
                log_line(LOG_NOTICE, "A new address takes effect with the next restart");
        if (is_https(config) != is_https(current))
                log_line(LOG_NOTICE, "To begin or end with HTTPS takes a restart");
        config->body_max_bytes = current->body_max_bytes; /* the server's, made once */
        config->web_threads = current->web_threads;
}
