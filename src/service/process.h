/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon as a process: its signals and its descriptors. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

typedef struct ProcessSignals ProcessSignals;

typedef struct ProcessHandlers {
        void (*stop)(void *userdata);    /* SIGTERM or SIGINT, each time */
        int (*reload)(void *userdata);   /* SIGHUP; negative, logged, when everything stays as it was;
                                            -EINPROGRESS when process_reload_done() will tell */
        void (*upgrade)(void *userdata); /* SIGUSR2; NULL: it is not watched */
} ProcessHandlers;

/* What came of a reload that has taken its time, as its handler would have returned it. Tells systemd. */
void process_reload_done(int error);

/* Watches the signals, tells systemd of reloading, and has SIGPIPE ignored. HANDLERS must stay. */
int process_watch_signals(
                sd_event *event,
                const ProcessHandlers *handlers,
                void *userdata,
                ProcessSignals **ret);
ProcessSignals *process_signals_free(ProcessSignals *signals);
DEFINE_POINTER_CLEANUP(ProcessSignals, process_signals_free)

/* Allows as many descriptors as the hard limit does (select() is used nowhere) and says how many that are. */
uint64_t process_raise_descriptor_limit(void);

/* Where output and answers go that are too large for memory. */
const char *process_spool_directory(void);

/* How many descriptors are open; 0 when that cannot be found out. */
size_t process_count_descriptors(void);

/* Executes the program that runs with ARGUMENTS in this one's place, N sockets handed over as systemd does
 * it. Returns only when it fails: a negative errno. */
int process_execute_anew(char *const *arguments, const int *sockets, size_t n);
