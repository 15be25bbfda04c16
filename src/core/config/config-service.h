/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The keys that every daemon's configuration has: where it listens, and who may come. A program's own
 * configuration holds a ServiceConfig, and its table includes service_config_fields. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json/json.h"
#include "core/json/problem.h"

#define CONFIG_SIZE_MAX         ((size_t) 1024 * 1024)
#define SERVICE_CONFIG_LIST_MAX 1024 /* names in an array */

/* For the tables of configuration keys. */
#define MEBIBYTE      (1024.0 * 1024)
#define PATH_SIZE_MAX 4095

typedef struct ServiceConfig {
        char *ip;                /* a literal address; "localhost" was made 127.0.0.1 */
        uint64_t port;           /* 0…65535 */
        uint64_t web_threads;    /* "web-threads", 1…10000 */
        uint64_t body_max_bytes; /* "body_max_bytes", 1024…64 MiB, default 1048576 */
        char **allowed_hosts;    /* NULL-terminated, never NULL */
        bool insecure;
        char *auth_token_file;                    /* auth.token_file, or NULL */
        char *tls_cert, *tls_key, *tls_client_ca; /* tls.{cert,key,client_ca}, or NULL */
} ServiceConfig;

/* The defaults; PORT is the program's. -ENOMEM: call service_config_done() all the same. */
int service_config_init(ServiceConfig *config, uint16_t port);
void service_config_done(ServiceConfig *config);

/* For { .included = service_config_fields, .offset = … } in a program's table. */
extern const JsonField service_config_fields[];

/* char **: an array of at most FIELD's max names of accounts, variables or hosts: none of them is empty or
 * has a "=". */
int service_config_field_names(json_object *, const JsonField *, const char *, void *, Problem *);

/* Reads TEXT, a file's content, by TABLE into CONFIG. SIZE 0 and an absent file both change nothing. On
 * failure the problem names the key as a JSON pointer. */
int service_config_read(
                const char *text,
                size_t size,
                const JsonField *table,
                void *config,
                Problem *reterr_problem);

/* Refuses an address that is not loopback without token or client_ca unless "insecure" is true. TOKEN_GIVEN:
 * a token comes from elsewhere (a systemd credential), so none need be configured. */
int service_config_check_access(const ServiceConfig *config, bool token_given, Problem *reterr_problem);
