/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A daemon's HTTP server: its limits, and the sockets it listens on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/config/config-service.h"
#include "io/http-server.h"
#include "service/access.h"
#include "service/router.h"

/* A server for ROUTER that takes no more than a quarter of the N_DESCRIPTORS that the process may have for
 * connections, and has the certificates that CONFIG names, read from CONFIG_PATH (may be NULL). Negative
 * errno, logged where it is about those. */
int listen_server_new(
                sd_event *event,
                const char *config_path,
                const ServiceConfig *config,
                uint64_t n_descriptors,
                Router *router,
                HttpServer **ret);

/* Listens on the sockets that systemd passed or else the configured address; the program says when to accept.
 * Refuses passed ones that other machines can reach where ACCESS does not permit it. *RET_PORT: the port of
 * the configured address, 0 with sockets from systemd. Negative errno, logged. */
int listen_start(HttpServer *server, const Access *access, uint16_t *ret_port);

/* Before CONFIG, read anew from CONFIG_PATH, takes the place of CURRENT: whether SERVER, as it listens now,
 * may go on with it (HAS_TOKEN: there is a token); and has SERVER use the certificates that it names. On
 * failure, logged, everything stays as it was. */
int listen_reload(
                HttpServer *server,
                const char *config_path,
                const ServiceConfig *config,
                const ServiceConfig *current,
                bool has_token);

/* What listens, and how, stays as it is until a restart: takes that over from CURRENT into CONFIG, read anew,
 * and logs when another address, or HTTPS instead of HTTP, is wanted. */
void listen_keep(ServiceConfig *config, const ServiceConfig *current);
