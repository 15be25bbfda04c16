/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/config-queue.h"

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/scheduling/lease.h"

#define RESULT_TTL_MAX (365.0 * 24 * 3600)

QueueConfig *queue_config_free(QueueConfig *config) {
        if (!config)
                return NULL;
        service_config_done(&config->service);
        free(config->advertise);
        free(config->version);
        free(config->state_directory);
        free(config->postgres.conninfo);
        free(config->postgres.password_file);
        for (size_t i = 0; i < config->n_workers; i++)
                worker_config_done(&config->workers[i]);
        free(config->workers);
        text_list_free(config->sharing.hosts);
        free(config);
        return NULL;
}

static int field_port_range(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "from", json_field_u64, offsetof(PortRange, from), true, 1, 65535 },
                { "to", json_field_u64, offsetof(PortRange, to), true, 1, 65535 },
                {},
        };
        PortRange *range = target;
        int r = json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, field_path, range, reterr_problem);
        if (r < 0)
                return r;
        if (range->from > range->to)
                return problem_set(reterr_problem, 400, field_path, "\"from\" must not be above \"to\"");
        return 0;
}

static int check_worker_is_new(const QueueConfig *config, const char *path, Problem *problem) {
        const WorkerConfig *last = &config->workers[config->n_workers - 1];
        for (const WorkerConfig *worker = config->workers; worker < last; worker++)
                if (streq(worker->id, last->id) || streq(worker->url, last->url))
                        return problem_set(problem, 400, path, "another worker has the same id or url");
        return 0;
}

/* TARGET is the whole QueueConfig. */
static int field_workers(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        QueueConfig *config = target;
        if (!json_object_is_type(value, json_type_array) ||
            json_object_array_length(value) > QUEUE_WORKERS_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be an array of at most %d workers",
                                QUEUE_WORKERS_MAX);
        size_t n = json_object_array_length(value);
        config->workers = calloc(n + 1, sizeof(WorkerConfig));
        if (!config->workers)
                return problem_from_errno(reterr_problem, ENOMEM);
        for (size_t i = 0; i < n; i++) {
                char path[PROBLEM_FIELD_SIZE];
                json_pointer_index(path, field_path, i);
                WorkerConfig *worker = &config->workers[config->n_workers++];
                int r = worker_config_read(json_object_array_get_idx(value, i), path, worker, reterr_problem);
                if (r >= 0)
                        r = check_worker_is_new(config, path, reterr_problem);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* TARGET is the whole QueueConfig. */
static int field_sharing(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "enabled", json_field_bool, offsetof(SharingConfig, enabled) },
                { "hosts", service_config_field_names, offsetof(SharingConfig, hosts), .max = 1024 },
                { "port_range", field_port_range, offsetof(SharingConfig, ports) },
                { "poll_interval",
                  json_field_seconds,
                  offsetof(SharingConfig, poll_interval_usec),
                  .min = 0.1,
                  .max = 3600 },
                { "cache_ttl",
                  json_field_seconds,
                  offsetof(SharingConfig, cache_ttl_usec),
                  .min = 0.1,
                  .max = 3600 },
                { "strict", json_field_bool, offsetof(SharingConfig, strict) },
                {},
        };
        SharingConfig *sharing = &((QueueConfig *) target)->sharing;
        int r = json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, field_path, sharing, reterr_problem);
        if (r < 0)
                return r;
        uint64_t n_ports = sharing->ports.to - sharing->ports.from + 1;
        if (n_ports * text_list_count(sharing->hosts) > QUEUE_SCAN_PORTS_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "hosts times ports must be at most %d",
                                QUEUE_SCAN_PORTS_MAX);
        return 0;
}

static int field_sqlite(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = { {} };
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, field_path, target, reterr_problem);
}

static int field_postgresql(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "conninfo",
                  json_field_string,
                  offsetof(PostgresConfig, conninfo),
                  true,
                  .min = 0,
                  .max = POSTGRES_CONNINFO_MAX },
                { "password_file",
                  json_field_string,
                  offsetof(PostgresConfig, password_file),
                  .min = 1,
                  .max = PATH_SIZE_MAX },
                {},
        };
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, field_path, target, reterr_problem);
}

/* TARGET is the PostgresConfig. */
static int field_store(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "sqlite", field_sqlite },
                { "postgresql", field_postgresql },
                {},
        };
        int r = json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, field_path, target, reterr_problem);
        if (r >= 0 && json_object_object_length(value) != 1)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be one kind of store: \"sqlite\" or \"postgresql\"");
        return r;
}

static int field_placement(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        if (!json_object_is_type(value, json_type_string) ||
            !streq(json_object_get_string(value), "least-impact"))
                return problem_set(reterr_problem, 400, field_path, "must be \"least-impact\"");
        return 0;
}

#define AT(member) offsetof(QueueConfig, member)

static const JsonField config_fields[] = {
        { .included = service_config_fields, .offset = AT(service) },
        { "port_range", field_port_range, AT(ports) },
        { "advertise", json_field_string, AT(advertise), .min = 3, .max = LEASE_QUEUE_MAX },
        { "version", json_field_string, AT(version), .min = 1, .max = LEASE_VERSION_MAX },
        { "state_directory", json_field_string, AT(state_directory), .min = 1, .max = PATH_SIZE_MAX },
        { "store", field_store, AT(postgres) },
        { "member_ttl",
          json_field_seconds,
          AT(member_ttl_usec),
          .min = MEMBER_TTL_SEC_MIN,
          .max = MEMBER_TTL_SEC_MAX },
        { "workers", field_workers },
        { "sharing", field_sharing },
        { "lease_ttl", json_field_seconds, AT(lease_ttl_usec), .min = 1, .max = LEASE_TTL_SEC_MAX },
        { "lost_after", json_field_seconds, AT(lost_after_usec), .min = 1, .max = 3600 },
        { "placement", field_placement },
        { "default_resources", resources_field_request, AT(default_resources) },
        { "queue_max", json_field_u64, AT(queue_max), .max = 10000000 },
        { "results_max", json_field_u64, AT(results_max), .max = 10000000 },
        { "result_ttl", json_field_seconds, AT(result_ttl_usec), .max = RESULT_TTL_MAX },
        { "inline_output_bytes", json_field_u64, AT(inline_output_bytes), .max = 64 * MEBIBYTE },
        {},
};

static int set_defaults(QueueConfig *config) {
        config->default_resources = (Resources) { .cores_micro = CORES_MICRO_PER_CORE, .memory_mb = 512 };
        config->queue_max = 1000000;
        config->results_max = 100000;
        config->result_ttl_usec = 7 * 24 * 3600 * USEC_PER_SEC;
        config->inline_output_bytes = 1048576;
        config->lease_ttl_usec = 30 * USEC_PER_SEC;
        config->lost_after_usec = 30 * USEC_PER_SEC;
        config->member_ttl_usec = 10 * USEC_PER_SEC;
        config->sharing = (SharingConfig) {
                .enabled = true,
                .hosts = calloc(2, sizeof(char *)),
                .ports = { .from = 41000, .to = 41010 },
                .poll_interval_usec = 10 * USEC_PER_SEC,
                .cache_ttl_usec = 30 * USEC_PER_SEC,
                .strict = true,
        };
        if (!config->sharing.hosts)
                return -ENOMEM;
        config->sharing.hosts[0] = strdup("127.0.0.1");
        if (!config->sharing.hosts[0])
                return -ENOMEM;
        return service_config_init(&config->service, QUEUE_PORT);
}

int queue_config_parse(
                const char *text,
                size_t size,
                bool token_given,
                QueueConfig **ret,
                Problem *reterr_problem) {
        _cleanup_(queue_config_freep) QueueConfig *config = calloc(1, sizeof(*config));
        if (!config)
                return problem_from_errno(reterr_problem, ENOMEM);
        int r = set_defaults(config);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = service_config_read(text, size, config_fields, config, reterr_problem);
        if (r >= 0)
                r = service_config_check_access(&config->service, token_given, reterr_problem);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(config);
        return 0;
}
