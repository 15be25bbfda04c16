/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A configuration of daggyd's that was accepted holds what its header promises. */
#include <string.h>

#include "base/text.h"
#include "core/config/config-queue.h"
#include "fuzz.h"

static void check_config(const QueueConfig *config) {
        FUZZ_CHECK(config->service.port <= UINT16_MAX);
        FUZZ_CHECK(config->n_workers <= QUEUE_WORKERS_MAX);
        for (size_t i = 0; i < config->n_workers; i++) {
                const WorkerConfig *worker = &config->workers[i];
                FUZZ_CHECK(worker->id && *worker->id);
                const char *host = text_after(worker->url, "http://") ?: text_after(worker->url, "https://");
                FUZZ_CHECK(host && *host && !strchr(host, '/'));
        }
        FUZZ_CHECK(config->ports.from <= config->ports.to);
        FUZZ_CHECK(config->sharing.hosts && config->sharing.ports.from <= config->sharing.ports.to);
        FUZZ_CHECK(config->lease_ttl_usec >= USEC_PER_SEC && config->lost_after_usec >= USEC_PER_SEC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(queue_config_freep) QueueConfig *config = NULL;
        Problem problem = {};
        int r = queue_config_parse((const char *) data, size, false, &config, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 413, 0 });
        FUZZ_CHECK((r < 0) == !config);
        if (config)
                check_config(config);
        return 0;
}
