/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* polkit's word on whether a process may do something, asked for over the system bus. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define POLKIT_CHECK_SEC 5 /* how long an answer may take */

typedef struct Polkit Polkit;
typedef struct PolkitCheck PolkitCheck;

typedef struct PolkitSubject {
        pid_t pid;
        uint64_t start_time; /* clock ticks since boot */
        uid_t uid;           /* on whom polkit decides; the process only tells the session */
        int pidfd;           /* of the process, or negative; stays the caller's */
} PolkitSubject;

typedef enum PolkitVerdict {
        POLKIT_DENIED,
        POLKIT_CHALLENGE, /* denied without an authentication, which is not asked for */
        POLKIT_GRANTED,
} PolkitVerdict;

/* The subject for a process that had UID when the caller learnt its PID, and that PIDFD (taken over; negative
 * where there is none) refers to. -ESRCH when it is no longer there, -EPERM when PID is not one of that user.
 * The caller closes ret->pidfd. */
int polkit_subject_from_process(pid_t pid, uid_t uid, int pidfd, PolkitSubject *ret);

/* VERDICT is a PolkitVerdict, or a negative errno when there was no answer; MESSAGE says why then. */
typedef void (*PolkitDone)(int verdict, const char *message, void *userdata);

/* Connects to the bus with the first check, and anew whenever the connection was lost. -ENOMEM. */
int polkit_new(sd_event *event, Polkit **ret);

/* Drops all checks without calling back. */
Polkit *polkit_free(Polkit *polkit);
DEFINE_POINTER_CLEANUP(Polkit, polkit_free)

/* Asks whether SUBJECT may do ACTION, without letting anybody be prompted. DONE is called once, later. -EBUSY
 * when too many checks are under way, of this user or altogether; another negative errno when the bus cannot
 * be reached. */
int polkit_check(
                Polkit *polkit,
                const PolkitSubject *subject,
                const char *action,
                PolkitDone done,
                void *userdata,
                PolkitCheck **ret);

/* DONE is not called any more. */
PolkitCheck *polkit_check_cancel(PolkitCheck *check);
