/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runner of this host as its files and units have it: what clients must show it, and where it listens.
 * What is changed is in files of its own (a credential, a drop-in of daggyr.socket), so that nothing of what
 * an administrator wrote is touched. */
#pragma once

#include <stdbool.h>

#define RUNNER_HOST_TOKEN  "/etc/credstore/daggyr.token"
#define RUNNER_HOST_LISTEN "/etc/systemd/system/daggyr.socket.d/50-daggyctl-join.conf"

typedef struct RunnerHost {
        char *token;             /* or NULL */
        bool has_tls;            /* its TCP is HTTPS */
        bool wants_certificates; /* of its clients */
        bool socket_is_active, service_is_active;
} RunnerHost;

void runner_host_done(RunnerHost *host);

/* Zero-initialise *ret. Negative errno, said. */
int runner_host_read(RunnerHost *ret);

/* This host's address on the way to the host of URL, as a literal: "10.0.0.2", "127.0.0.1", "::1"; NULL URL:
 * the queue is here. Negative errno, said. The caller frees *ret. */
int runner_host_address_towards(const char *url, char **ret);

bool runner_host_is_loopback(const char *address);

/* Whether daggyr.socket has ADDRESS and PORT, or all addresses. */
bool runner_host_listens(const char *address, unsigned port);

/* Both take effect with runner_host_restart(). Negative errno, said. */
int runner_host_make_token(RunnerHost *host);
int runner_host_make_listen(const char *address, unsigned port);

/* Undo. */
int runner_host_remove_token(void);
int runner_host_remove_listen(void);

/* Ends the runner, with its tasks, and lets its socket listen anew. Negative errno, said. */
int runner_host_restart(void);

/* It is not started any more, neither now nor with the host. Negative errno, said. */
int runner_host_disable(void);
