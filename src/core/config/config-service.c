/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/config-service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define DEFAULT_ADDRESS "127.0.0.1"

int service_config_init(ServiceConfig *config, uint16_t port) {
        *config = (ServiceConfig) {
                .ip = strdup(DEFAULT_ADDRESS),
                .port = port,
                .web_threads = 50,
                .body_max_bytes = 1048576,
                .allowed_hosts = calloc(1, sizeof(char *)),
        };
        return config->ip && config->allowed_hosts ? 0 : -ENOMEM;
}

void service_config_done(ServiceConfig *config) {
        free(config->ip);
        text_list_free(config->allowed_hosts);
        free(config->auth_token_file);
        free(config->tls_cert);
        free(config->tls_key);
        free(config->tls_client_ca);
        *config = (ServiceConfig) {};
}

static int field_address(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        unsigned char address[sizeof(struct in6_addr)];
        char **ip = target, *copy;

        const char *literal = json_object_is_type(value, json_type_string) ? json_object_get_string(value) :
                                                                             "";
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

int service_config_field_names(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        char ***names = target;

        int r = json_field_strings(value, field, field_path, target, reterr_problem);
        if (r < 0)
                return r;

        for (size_t i = 0; (*names)[i]; i++)
                if ((*names)[i][0] == '\0' || strchr((*names)[i], '=')) {
                        char item_path[PROBLEM_FIELD_SIZE];
                        json_pointer_index(item_path, field_path, i);
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        item_path,
                                        "must be a name, not empty and without \"=\"");
                }
        return 0;
}

static const JsonField auth_fields[] = {
        { "token_file", json_field_string, offsetof(ServiceConfig, auth_token_file), true, 1, PATH_SIZE_MAX },
        {},
};

static const JsonField tls_fields[] = {
        { "cert", json_field_string, offsetof(ServiceConfig, tls_cert), true, 1, PATH_SIZE_MAX },
        { "key", json_field_string, offsetof(ServiceConfig, tls_key), true, 1, PATH_SIZE_MAX },
        { "client_ca", json_field_string, offsetof(ServiceConfig, tls_client_ca), false, 1, PATH_SIZE_MAX },
        {},
};

/* TARGET of these two is the whole ServiceConfig. */
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

#define AT(member) offsetof(ServiceConfig, member)

const JsonField service_config_fields[] = {
        { "ip", field_address, AT(ip) },
        { "port", json_field_u64, AT(port), .max = 65535 },
        { "web-threads", json_field_u64, AT(web_threads), .min = 1, .max = 10000 },
        { "body_max_bytes", json_field_u64, AT(body_max_bytes), .min = 1024, .max = 64 * MEBIBYTE },
        { "allowed_hosts", service_config_field_names, AT(allowed_hosts), .max = SERVICE_CONFIG_LIST_MAX },
        { "insecure", json_field_bool, AT(insecure) },
        { "auth", field_auth },
        { "tls", field_tls },
        {},
};

int service_config_read(
                const char *text,
                size_t size,
                const JsonField *table,
                void *config,
                Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *object = NULL;

        if (size > CONFIG_SIZE_MAX)
                return problem_set(reterr_problem, 413, NULL, "more than %zu bytes", CONFIG_SIZE_MAX);
        if (size == 0)
                return 0;

        int r = json_parse(text, size, &object, reterr_problem);
        if (r < 0)
                return r;
        return json_dispatch(object, table, JSON_UNKNOWN_REFUSED, "", config, reterr_problem);
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

int service_config_check_access(const ServiceConfig *config, bool token_given, Problem *reterr_problem) {
        if (is_loopback(config->ip) || token_given || config->auth_token_file || config->tls_client_ca ||
            config->insecure)
                return 0;
        return problem_set(
                        reterr_problem,
                        400,
                        "/ip",
                        "is not a loopback address: needs \"auth\", \"tls\" with \"client_ca\", or "
                        "\"insecure\": true");
}
