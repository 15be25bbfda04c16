/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The program that is to be executed in this one's place, asked first, as a process of its own, whether it
 * can go on from a state. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"

/* What a program prints that can: this line, and nothing else; it exits with 0 then. */
#define SUCCESSOR_ASSENT "takes over\n"

typedef struct Successor Successor;

/* Called once, in a later turn of the loop; the Successor is gone then. REFUSAL is NULL when it can go on, or
 * a sentence on why not: its own word, or how it failed. */
typedef void (*SuccessorHandler)(const char *refusal, void *userdata);

/* Executes PATH with ARGUMENTS (as of execve()) and STATE_FD, which the caller keeps, as its stdin. Negative
 * errno when that cannot be begun. */
int successor_ask(
                sd_event *event,
                const char *path,
                char *const *arguments,
                int state_fd,
                usec_t timeout_usec,
                SuccessorHandler handler,
                void *userdata,
                Successor **ret);

/* Kills it if it still runs; the handler is not called. NULL is fine. */
Successor *successor_free(Successor *successor);
DEFINE_POINTER_CLEANUP(Successor, successor_free)
