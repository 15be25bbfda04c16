/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A configuration that was accepted holds what its header promises. */
#include <arpa/inet.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-runner.h"
#include "fuzz.h"

static bool is_loopback(const char *ip) {
        struct in6_addr address;

        if (inet_pton(AF_INET6, ip, &address) == 1)
                return IN6_IS_ADDR_LOOPBACK(&address) ||
                                (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);

        return text_after(ip, "127.");
}

static bool is_address(const char *ip) {
        unsigned char address[sizeof(struct in6_addr)];

        return inet_pton(AF_INET, ip, address) == 1 || inet_pton(AF_INET6, ip, address) == 1;
}

static void check_config(const RunnerConfig *config, bool token_given) {
        FUZZ_CHECK(is_address(config->service.ip));
        FUZZ_CHECK(config->service.port <= UINT16_MAX);
        FUZZ_CHECK(config->service.web_threads >= 1 && config->service.web_threads <= 10000);
        FUZZ_CHECK(config->default_resources.cores_micro > 0 && config->default_resources.memory_mb > 0);
        FUZZ_CHECK(config->task_user && *config->task_user);
        FUZZ_CHECK(config->allowed_users && config->pass_environment && config->service.allowed_hosts);
        FUZZ_CHECK(config->queue_max <= 100000);
        FUZZ_CHECK(config->results_max <= 1000000);
        FUZZ_CHECK(config->result_ttl_usec <= UINT64_C(30) * 24 * 3600 * USEC_PER_SEC);
        FUZZ_CHECK(config->output_max_bytes <= UINT64_C(1) << 40);
        FUZZ_CHECK(config->inline_output_bytes <= UINT64_C(64) * 1024 * 1024);
        FUZZ_CHECK(config->service.body_max_bytes >= 1024 &&
                   config->service.body_max_bytes <= UINT64_C(64) * 1024 * 1024);
        FUZZ_CHECK(!config->service.tls_cert == !config->service.tls_key);
        FUZZ_CHECK(is_loopback(config->service.ip) || config->service.insecure || token_given ||
                   config->service.auth_token_file || config->service.tls_client_ca);
}

static void fuzz_config(const char *text, size_t size, bool token_given) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        Problem problem = {};
        int r;

        r = runner_config_parse(text, size, token_given, &config, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 413, 0 });
        FUZZ_CHECK((r < 0) == !config);
        if (config)
                check_config(config, token_given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        fuzz_config((const char *) data, size, false);
        fuzz_config((const char *) data, size, true);
        return 0;
}
