/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where tasks are: live ones with the delivery, all of them in the store. What it takes to tell clients of
 * them.
 */
#pragma once

#include <systemd/sd-event.h>

#include "core/config/config-queue.h"
#include "delivery/delivery.h"
#include "delivery/store-port.h"
#include "io/http-server.h"

/* All weak. */
typedef struct TaskSources {
        sd_event *event;
        HttpServer *server;
        Delivery *delivery;
        const StorePort *store_port;
        void *store;
        const QueueConfig *config;
} TaskSources;
