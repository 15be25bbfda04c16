/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/host.h"

#include <sys/sysinfo.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DAGGYR_APPLICATION_ID SD_ID128_MAKE(5d, 0e, 7c, 86, f1, 4b, 4c, 0a, 9b, 6e, 35, c5, 3c, 2e, 9d, 71)

int host_facts_read(HostFacts *ret) {
        HostFacts facts = {};
        sd_id128_t id;
        int r = sd_id128_get_machine_app_specific(DAGGYR_APPLICATION_ID, &id);
        if (r >= 0) /* a container without machine-id still runs tasks */
                (void) sd_id128_to_string(id, facts.machine_id);
        r = sd_id128_get_boot(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, facts.boot_id);
        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, facts.instance_id);
        if (gethostname(facts.host_name, sizeof(facts.host_name) - 1) < 0)
                return -errno;

        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        struct sysinfo info;
        if (cpus < 1 || sysinfo(&info) < 0)
                return -EIO;
        facts.cpus = (uint64_t) cpus;
        facts.memory_mb = (uint64_t) info.totalram * info.mem_unit / (1024 * 1024);
        *ret = facts;
        return 0;
}
