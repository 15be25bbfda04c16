/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One connection of a daggyr's to the broker, from its first order to its end. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"

typedef struct Broker Broker;

/* Serves the connection FD, which it takes over. Ends the loop when the connection ends. -EPERM when whoever
 * is connected is no service of the system's manager. */
int broker_new(sd_event *event, int fd, Broker **ret);
Broker *broker_free(Broker *broker);
DEFINE_POINTER_CLEANUP(Broker, broker_free)
