/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr's configuration: text in, checked values with defaults out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/config/config-service.h"
#include "core/json/problem.h"
#include "core/scheduling/capacity.h"
#include "core/task/devices.h"
#include "core/task/resources.h"

typedef struct RunnerConfig {
        ServiceConfig service;
        CapacityOverrides capacity_overrides;
        Resources default_resources;
        Devices devices;
        uint64_t memory_pressure_max_percent; /* 0…100; 0: no start waits for it */
        char *task_user;
        char **allowed_users; /* NULL-terminated, never NULL */
        char **pass_environment;
        uint64_t queue_max;           /* 0…100000 */
        uint64_t results_max;         /* 0…1000000 */
        usec_t result_ttl_usec;       /* "result_ttl", up to 30 days */
        uint64_t output_max_bytes;    /* per stream, up to 1 TiB */
        uint64_t inline_output_bytes; /* up to 64 MiB */
        bool journal;
        bool require_lease;
} RunnerConfig;

RunnerConfig *runner_config_free(RunnerConfig *config);
DEFINE_POINTER_CLEANUP(RunnerConfig, runner_config_free)

/* TEXT is the file's content; SIZE 0 and an absent file both mean all defaults. On failure
 * the problem names the key as a JSON pointer. Also refuses an address that is not loopback
 * without token or client_ca unless "insecure" is true. TOKEN_GIVEN: a token comes from elsewhere
 * (a systemd credential), so none need be configured. */
int runner_config_parse(
                const char *text,
                size_t size,
                bool token_given,
                RunnerConfig **ret,
                Problem *reterr_problem);
