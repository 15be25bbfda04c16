/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/config-runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-devices.h"
#include "core/json/json.h"
#include "core/wire/broker-protocol.h"

#define USER_NAME_MAX     255
#define RESULT_TTL_MAX    (30.0 * 24 * 3600)
#define DEFAULT_PORT      2504
#define DEFAULT_TASK_USER "daggyr-task"

RunnerConfig *runner_config_free(RunnerConfig *config) {
        if (!config)
                return NULL;

        service_config_done(&config->service);
        devices_done(&config->devices);
        free(config->task_user);
        text_list_free(config->allowed_users);
        text_list_free(config->pass_environment);
        free(config);
        return NULL;
}

static int parse_override(
                CapacityOverrides *overrides,
                const char *key,
                json_object *value,
                const char *field_path,
                Problem *reterr_problem) {
        double all_cores;

        if (streq(key, "cores")) {
                overrides->cores_set = true;
                if (json_get_double(value, 0, 0, &all_cores) >= 0)
                        return 0;
        } else if (streq(key, "memory_mb"))
                overrides->memory_set = true;

        return resources_parse_amount(key, value, field_path, &overrides->amounts, reterr_problem);
}

static int field_overrides(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        int r;

        if (!json_object_is_type(value, json_type_object))
                return problem_set(reterr_problem, 400, field_path, "must be an object");

        json_object_object_foreach(value, key, amount) {
                char amount_path[PROBLEM_FIELD_SIZE];

                json_pointer_join(amount_path, field_path, key);
                r = parse_override(target, key, amount, amount_path, reterr_problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

#define AT(member) offsetof(RunnerConfig, member)

static const JsonField config_fields[] = {
        { .included = service_config_fields, .offset = AT(service) },
        { "capacity_overrides", field_overrides, AT(capacity_overrides) },
        { "memory_pressure_max_percent", json_field_u64, AT(memory_pressure_max_percent), .max = 100 },
        { "default_resources", resources_field_request, AT(default_resources) },
        { "devices", config_field_devices, AT(devices) },
        { "task_user", json_field_string, AT(task_user), .min = 1, .max = USER_NAME_MAX },
        { "allowed_users", service_config_field_names, AT(allowed_users), .max = SERVICE_CONFIG_LIST_MAX },
        { "pass_environment",
          service_config_field_names,
          AT(pass_environment),
          .max = SERVICE_CONFIG_LIST_MAX },
        { "queue_max", json_field_u64, AT(queue_max), .max = 100000 },
        { "results_max", json_field_u64, AT(results_max), .max = 1000000 },
        { "result_ttl", json_field_seconds, AT(result_ttl_usec), .max = RESULT_TTL_MAX },
        { "output_max_bytes", json_field_u64, AT(output_max_bytes), .max = 1024 * 1024 * MEBIBYTE },
        { "inline_output_bytes", json_field_u64, AT(inline_output_bytes), .max = 64 * MEBIBYTE },
        { "journal", json_field_bool, AT(journal) },
        { "require_lease", json_field_bool, AT(require_lease) },
        {},
};

static int set_defaults(RunnerConfig *config) {
        config->default_resources = (Resources) { .cores_micro = CORES_MICRO_PER_CORE, .memory_mb = 512 };
        config->queue_max = 1000;
        config->results_max = 10000;
        config->result_ttl_usec = 3600 * USEC_PER_SEC;
        config->output_max_bytes = 16777216;
        config->inline_output_bytes = 1048576;
        config->journal = true;

        config->task_user = strdup(DEFAULT_TASK_USER);
        config->allowed_users = calloc(1, sizeof(char *));
        config->pass_environment = calloc(1, sizeof(char *));
        if (!config->task_user || !config->allowed_users || !config->pass_environment)
                return -ENOMEM;
        return service_config_init(&config->service, DEFAULT_PORT);
}

/* Each kind of devices is a capacity, and a task may get all of them. */
static int check_devices(const RunnerConfig *config, Problem *reterr_problem) {
        const Resources *overrides = &config->capacity_overrides.amounts;
        for (size_t i = 0; i < config->devices.n_kinds; i++)
                for (size_t n = 0; n < overrides->n_named; n++)
                        if (streq(overrides->named[n].name, config->devices.kinds[i].name))
                                return problem_set(
                                                reterr_problem,
                                                400,
                                                "/capacity_overrides",
                                                "must not name \"%s\", which are devices and counted as such",
                                                overrides->named[n].name);
        if (devices_n_paths(&config->devices) > SCOPE_DEVICES_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                "/devices",
                                "must not have more than %d paths",
                                SCOPE_DEVICES_MAX);
        Resources total = *overrides;
        if (devices_count(&config->devices, &total) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                "/devices",
                                "has, together with capacity_overrides, more than %d names",
                                RESOURCES_NAMED_MAX);
        return 0;
}

int runner_config_parse(
                const char *text,
                size_t size,
                bool token_given,
                RunnerConfig **ret,
                Problem *reterr_problem) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;

        config = calloc(1, sizeof(RunnerConfig));
        if (!config)
                return problem_from_errno(reterr_problem, -ENOMEM);
        int r = set_defaults(config);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = service_config_read(text, size, config_fields, config, reterr_problem);
        if (r < 0)
                return r;
        r = check_devices(config, reterr_problem);
        if (r < 0)
                return r;
        r = service_config_check_access(&config->service, token_given, reterr_problem);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(config);
        return 0;
}
