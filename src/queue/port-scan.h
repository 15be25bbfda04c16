/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Discovery of queues by asking every port of every host whether a queue is there: the first kind behind the
 * discovery port. It tells only when it was asked to look. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "core/sharing/discovery-port.h"
#include "queue/emcee-call.h"

typedef struct PortScan PortScan;

extern const DiscoveryPort port_scan_port;

/* CALLER and CONFIG are weak. OWN_ID: of the queue that asks, which need not be asked itself. -ENOMEM. */
int port_scan_new(
                sd_event *event,
                const EmceeCaller *caller,
                const SharingConfig *config,
                const char *own_id,
                PortScan **ret);
PortScan *port_scan_free(PortScan *scan);
DEFINE_POINTER_CLEANUP(PortScan, port_scan_free)
