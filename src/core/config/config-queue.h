/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyd's configuration: text in, checked values with defaults out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/config/config-service.h"
#include "core/config/config-worker.h"
#include "core/task/resources.h"

#define QUEUE_PORT           2503
#define QUEUE_WORKERS_MAX    10000
#define QUEUE_SCAN_PORTS_MAX 4096 /* hosts × ports that one scan asks */

#define POSTGRES_CONNINFO_MAX 4096 /* bytes */
#define MEMBER_TTL_SEC_MIN    3
#define MEMBER_TTL_SEC_MAX    300

typedef struct PortRange {
        uint64_t from, to; /* both included; from 0: none */
} PortRange;

typedef struct SharingConfig {
        bool enabled;
        char **hosts; /* NULL-terminated, never NULL */
        PortRange ports;
        usec_t poll_interval_usec;
        usec_t cache_ttl_usec;
        bool strict;
} SharingConfig;

/* The database that the members of a queue share. */
typedef struct PostgresConfig {
        char *conninfo;      /* libpq's; NULL: the tasks are kept in a local file instead */
        char *password_file; /* of one line, or NULL */
} PostgresConfig;

typedef struct QueueConfig {
        ServiceConfig service;
        PortRange ports;       /* "port_range": the first free one is taken instead of "port" */
        char *advertise;       /* "host:port" by which others know this queue; NULL: found out */
        char *version;         /* as other queues compare it; NULL: the software's */
        char *state_directory; /* NULL: the unit's, or /var/lib/daggyd */
        PostgresConfig postgres;
        usec_t member_ttl_usec; /* how long a member may be silent before another one may lead */
        WorkerConfig *workers;
        size_t n_workers;
        SharingConfig sharing;
        usec_t lease_ttl_usec;
        usec_t lost_after_usec;
        Resources default_resources;
        uint64_t queue_max;
        uint64_t results_max;
        usec_t result_ttl_usec;
        uint64_t inline_output_bytes;
} QueueConfig;

QueueConfig *queue_config_free(QueueConfig *config);
DEFINE_POINTER_CLEANUP(QueueConfig, queue_config_free)

/* Like runner_config_parse(). */
int queue_config_parse(
                const char *text,
                size_t size,
                bool token_given,
                QueueConfig **ret,
                Problem *reterr_problem);
