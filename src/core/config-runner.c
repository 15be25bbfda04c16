/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config-runner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json.h"

#define MEBIBYTE          (1024.0 * 1024)
#define CONFIG_LIST_MAX   1024
#define PATH_SIZE_MAX     4095
#define USER_NAME_MAX     255
#define RESULT_TTL_MAX    (30.0 * 24 * 3600)
#define DEFAULT_ADDRESS   "127.0.0.1"
#define DEFAULT_TASK_USER "daggyr-task"

RunnerConfig *runner_config_free(RunnerConfig *config) {
        if (!config)
                return NULL;

        free(config->ip);
        free(config->task_user);
        text_list_free(config->allowed_users);
        text_list_free(config->pass_environment);
        text_list_free(config->allowed_hosts);
        free(config->auth_token_file);
        free(config->tls_cert);
        free(config->tls_key);
        free(config->tls_client_ca);
        free(config);
        return NULL;
}

static int field_address(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        unsigned char address[sizeof(struct in6_addr)];
        const char *literal;
        char **ip = target, *copy;

        literal = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
        if (streq(literal, "localhost"))
                literal = DEFAULT_ADDRESS;
        if (inet_pton(AF_INET, literal, address) != 1 && inet_pton(AF_INET6, literal, address) != 1)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be \"localhost\", an IPv4 or an IPv6 address");

        copy = strdup(literal);
        if (!copy)
                return problem_from_errno(reterr_problem, -ENOMEM);

        free(*ip);
        *ip = copy;
        return 0;
}

/* An array of names of accounts, variables or hosts: none of them is empty or has a "=". */
static int field_names(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        char ***names = target;
        int r;

        r = json_field_strings(value, field, field_path, target, reterr_problem);
        if (r < 0)
                return r;

        for (size_t i = 0; (*names)[i]; i++)
                if ((*names)[i][0] == '\0' || strchr((*names)[i], '=')) {
                        char index[sizeof("18446744073709551615")], item_path[PROBLEM_FIELD_SIZE];

                        (void) snprintf(index, sizeof(index), "%zu", i);
                        json_pointer_join(item_path, field_path, index);
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        item_path,
                                        "must be a name, not empty and without \"=\"");
                }
        return 0;
}

static int field_resources(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        return resources_parse_request(value, field_path, target, reterr_problem);
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

static const JsonField auth_fields[] = {
        { "token_file", json_field_string, offsetof(RunnerConfig, auth_token_file), true, 1, PATH_SIZE_MAX },
        {},
};

static const JsonField tls_fields[] = {
        { "cert", json_field_string, offsetof(RunnerConfig, tls_cert), true, 1, PATH_SIZE_MAX },
        { "key", json_field_string, offsetof(RunnerConfig, tls_key), true, 1, PATH_SIZE_MAX },
        { "client_ca", json_field_string, offsetof(RunnerConfig, tls_client_ca), false, 1, PATH_SIZE_MAX },
        {},
};

/* TARGET of these two is the whole configuration. */
static int field_auth(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        return json_dispatch(value, auth_fields, JSON_UNKNOWN_REFUSED, field_path, target, reterr_problem);
}

static int field_tls(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        return json_dispatch(value, tls_fields, JSON_UNKNOWN_REFUSED, field_path, target, reterr_problem);
}

#define AT(member) offsetof(RunnerConfig, member)

static const JsonField config_fields[] = {
        { "ip", field_address, AT(ip) },
        { "port", json_field_u64, AT(port), .max = 65535 },
        { "web-threads", json_field_u64, AT(web_threads), .min = 1, .max = 10000 },
        { "capacity_overrides", field_overrides, AT(capacity_overrides) },
        { "default_resources", field_resources, AT(default_resources) },
        { "task_user", json_field_string, AT(task_user), .min = 1, .max = USER_NAME_MAX },
        { "allowed_users", field_names, AT(allowed_users), .max = CONFIG_LIST_MAX },
        { "pass_environment", field_names, AT(pass_environment), .max = CONFIG_LIST_MAX },
        { "queue_max", json_field_u64, AT(queue_max), .max = 100000 },
        { "results_max", json_field_u64, AT(results_max), .max = 1000000 },
        { "result_ttl", json_field_seconds, AT(result_ttl_usec), .max = RESULT_TTL_MAX },
        { "output_max_bytes", json_field_u64, AT(output_max_bytes), .max = 1024 * 1024 * MEBIBYTE },
        { "inline_output_bytes", json_field_u64, AT(inline_output_bytes), .max = 64 * MEBIBYTE },
        { "body_max_bytes", json_field_u64, AT(body_max_bytes), .min = 1024, .max = 64 * MEBIBYTE },
        { "journal", json_field_bool, AT(journal) },
        { "require_lease", json_field_bool, AT(require_lease) },
        { "allowed_hosts", field_names, AT(allowed_hosts), .max = CONFIG_LIST_MAX },
        { "insecure", json_field_bool, AT(insecure) },
        { "auth", field_auth },
        { "tls", field_tls },
        {},
};

static int set_defaults(RunnerConfig *config) {
        config->port = 2504;
        config->web_threads = 50;
        config->default_resources = (Resources){ .cores_micro = CORES_MICRO_PER_CORE, .memory_mb = 512 };
        config->queue_max = 1000;
        config->results_max = 10000;
        config->result_ttl_usec = 3600 * USEC_PER_SEC;
        config->output_max_bytes = 16777216;
        config->inline_output_bytes = 1048576;
        config->body_max_bytes = 1048576;
        config->journal = true;

        config->ip = strdup(DEFAULT_ADDRESS);
        config->task_user = strdup(DEFAULT_TASK_USER);
        config->allowed_users = calloc(1, sizeof(char *));
        config->pass_environment = calloc(1, sizeof(char *));
        config->allowed_hosts = calloc(1, sizeof(char *));
        return config->ip && config->task_user && config->allowed_users && config->pass_environment &&
                                        config->allowed_hosts ?
                        0 :
                        -ENOMEM;
}

static bool is_loopback(const char *ip) {
        struct in6_addr v6;
        struct in_addr v4;

        if (inet_pton(AF_INET, ip, &v4) != 1) {
                if (inet_pton(AF_INET6, ip, &v6) != 1)
                        return false;
                if (!IN6_IS_ADDR_V4MAPPED(&v6))
                        return IN6_IS_ADDR_LOOPBACK(&v6);
                memcpy(&v4, v6.s6_addr + 12, sizeof(v4));
        }
        return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int read_config(RunnerConfig *config, const char *text, size_t size, Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r;

        if (size > CONFIG_SIZE_MAX)
                return problem_set(reterr_problem, 413, NULL, "more than %zu bytes", CONFIG_SIZE_MAX);
        if (size == 0)
                return 0;

        r = json_parse(text, size, &object, reterr_problem);
        if (r < 0)
                return r;
        return json_dispatch(object, config_fields, JSON_UNKNOWN_REFUSED, "", config, reterr_problem);
}

int runner_config_parse(
                const char *text,
                size_t size,
                bool token_given,
                RunnerConfig **ret,
                Problem *reterr_problem) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        int r;

        config = calloc(1, sizeof(RunnerConfig));
        if (!config)
                return problem_from_errno(reterr_problem, -ENOMEM);
        r = set_defaults(config);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = read_config(config, text, size, reterr_problem);
        if (r < 0)
                return r;

        if (!is_loopback(config->ip) && !token_given && !config->auth_token_file && !config->tls_client_ca &&
            !config->insecure)
                return problem_set(
                                reterr_problem,
                                400,
                                "/ip",
                                "is not a loopback address: needs \"auth\", \"tls\" with \"client_ca\", or "
                                "\"insecure\": true");

        *ret = TAKE_PTR(config);
        return 0;
}
