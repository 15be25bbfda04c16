/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What our daemons do alike, whatever they serve: they listen, and know who may come; signals reload and stop
 * them; clients ask whether they are ready, have them drain, measure and follow them; systemd is told how
 * they are. A program embeds a Daemon, and hands it a table of functions for what is its own. */
#pragma once

#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/text.h"
#include "core/config/config-service.h"
#include "core/text/course.h"
#include "io/http-server.h"
#include "service/access.h"
#include "service/event-stream.h"
#include "service/long-jobs.h"
#include "service/process.h"
#include "service/router.h"

/* A client's request that a daemon drains, or does not any more. */
typedef struct DrainChange DrainChange;

/* What is the program's own. USERDATA is the program. */
typedef struct DaemonProgram {
        const char *name;          /* "daggyr": of the program, its files, and its metrics */
        const Endpoint *endpoints; /* besides those of every daemon; the last one is without method */

        /* SIGTERM or SIGINT, each time; AGAIN: there was one before. */
        void (*stop)(void *userdata, bool again);

        /* SIGHUP: reads the configuration anew, and hands its part to daemon_reconfigure(). A negative errno,
         * logged: everything stays as it was. -EINPROGRESS: process_reload_done() will tell. */
        int (*reload)(void *userdata);

        /* SIGUSR2: has the program that is installed take this one's place. NULL where none can. */
        void (*upgrade)(void *userdata);

        /* Why no task can be started now, for people; NULL: the daemon is ready. */
        const char *(*why_not_ready)(const void *userdata);

        /* Drains, or does not any more, and then calls daemon_drained() with CHANGE, at once or later. */
        void (*set_draining)(void *userdata, bool draining, DrainChange *change);

        /* The capacity, as a client is shown it that has changed it; NULL when out of memory. */
        json_object *(*capacity)(const void *userdata);

        /* Appends the program's own metrics. -ENOMEM. */
        int (*format_metrics)(const void *userdata, Text *text);

        /* Tells systemd, and whoever else follows it, how the daemon is. */
        void (*tell_status)(void *userdata);

        /* Where a request may have to be answered elsewhere: takes it over, or not (router.h). Else NULL. */
        RouterDivert divert;

        /* Whether the daemon that shows SECRET is one of ours, which has let in whom it asks for
         * (access.h). NULL where there are no others. */
        AccessVouched vouched;
} DaemonProgram;

typedef struct Daemon {
        const DaemonProgram *program;
        void *userdata; /* the program */
        sd_event *event;
        const char *config_path; /* weak; NULL: defaults only */
        ServiceConfig config;
        bool user_mode; /* a user's own, not the system's: nobody else has any business with it */
        char host_name[HOST_NAME_MAX + 1];
        uint16_t port;          /* where it listens; 0 with sockets from systemd */
        uint64_t n_descriptors; /* the process may have */

        Access access;
        Router *router;
        HttpServer *http;
        ProcessSignals *signals;
        EventStream *events;
        LongJobs *long_jobs;     /* answers in the making */
        Course capacity_history; /* of the last hour */

        bool draining; /* by request: takes no tasks and starts none */
        bool stopping; /* by a signal */
        sd_event_source *status_source;
} Daemon;

/* Everything but listening. CONFIG, read from CONFIG_PATH, is emptied into DAEMON; PROGRAM must stay. A
 * negative errno, logged where it is about a file; daemon_done() in every case. Blocks signals, and raises
 * the limit of descriptors: what is to inherit neither comes before, threads come after. */
int daemon_init(Daemon *daemon,
                const DaemonProgram *program,
                void *userdata,
                sd_event *event,
                const char *config_path,
                bool user_mode,
                ServiceConfig *config);

/* Takes leave of all clients; before anything goes that requests point to. */
void daemon_disconnect(Daemon *daemon);

/* After daemon_disconnect(), and when all is gone that may still tell anything. */
void daemon_done(Daemon *daemon);

/* Listens on the sockets that systemd passed or else the configured address; http_server_accept() is for the
 * program to call. A negative errno, logged. */
int daemon_listen(Daemon *daemon);

/* Goes by CONFIG, read anew, from now on, which is emptied; but what listens, and how, stays until a restart.
 * A negative errno, logged: everything stays as it was. */
int daemon_reconfigure(Daemon *daemon, ServiceConfig *config);

/* Has the status told a moment later, so that there is one for many changes. */
void daemon_status_changed(Daemon *daemon);

/* Executes the program anew with ARGUMENTS, NULL-terminated: it has nothing of this one but the listening
 * sockets, as if systemd had passed them, so that no client is turned away meanwhile. Returns only when it
 * fails, with a negative errno. */
int daemon_begin_anew(const Daemon *daemon, char *const *arguments);

/* CHANGE was made, or not, with the negative ERROR. Answers its client, if that is still there. */
void daemon_drained(DrainChange *change, int error);
