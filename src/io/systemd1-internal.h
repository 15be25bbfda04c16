/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources about systemd's bus interface share. */
#pragma once

#include <systemd/sd-bus.h>

#include "io/systemd1.h"

#define SYSTEMD1_SERVICE           "org.freedesktop.systemd1"
#define SYSTEMD1_MANAGER_PATH      "/org/freedesktop/systemd1"
#define SYSTEMD1_MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define SYSTEMD1_UNIT_PATH         "/org/freedesktop/systemd1/unit"

#define SYSTEMD1_VERSION_PID_FDS 255 /* the first that takes PIDFDs= for a scope */

struct Systemd1 {
        sd_event *event;
        Systemd1Mode mode;
        Systemd1Handlers handlers;
        void *userdata;
        sd_bus *bus;
        bool connected;
        unsigned version; /* of the manager; known while connected */
        uint64_t n_connects;
        usec_t reconnect_usec;
        sd_event_source *reconnect_source;
        CallQueue jobs;
};

/* Prepares JOBS; what systemd says of a job's end reaches systemd1_on_job_removed(). */
int systemd1_jobs_init(Systemd1 *systemd1);
int systemd1_on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error);

/* That systemd is away is -ENOTCONN, whatever it shows by: the ERROR of a reply, and the negative R when a
 * call could not be sent. Anything else stays as it is. */
int systemd1_reply_errno(const sd_bus_error *error);
int systemd1_send_errno(int r);

/* A message to the manager; -ENOTCONN while there is no connection. */
int systemd1_manager_message(Systemd1 *systemd1, const char *method, sd_bus_message **ret);

/* Queues MESSAGE, which makes systemd queue a job for UNIT, and takes it over in every case. DONE hears when
 * the job has ended. */
int systemd1_call_job(
                Systemd1 *systemd1,
                sd_bus_message *message,
                const char *unit,
                CallDone done,
                void *userdata,
                QueuedCall **ret);
