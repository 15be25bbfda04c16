/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads the memory pressure in the tasks' slice every 2 s, as often as the kernel reckons it, while the
 * configuration has a threshold. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/usec.h"
#include "core/scheduling/pressure.h"

typedef struct Runner Runner;

/* A part of the runner. Zero-initialise it. */
typedef struct PressureWatch {
        MemoryPressure pressure;
        sd_event_source *source; /* of the next reading */
        bool is_missing;         /* in the log: the kernel does not tell */
        usec_t told_usec;        /* in the log, of the last hold; 0: never */
} PressureWatch;

/* Call when the configuration or the connection to systemd is new. */
void pressure_watch_update(Runner *runner);

/* Whether a start must wait now. Also tells queues and the log when that has changed. */
bool pressure_watch_holds(Runner *runner);

void pressure_watch_done(PressureWatch *watch);
