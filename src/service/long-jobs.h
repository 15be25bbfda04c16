/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Answers that take more work than one turn of the loop has time for: a page of large tasks, a batch. Each is
 * done in steps, one job after the other, a few milliseconds in each turn; in between everybody else is
 * served. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

typedef struct LongJobs LongJobs;
typedef struct LongJob LongJob;

/* Does a step, of a millisecond or so. Returns whether there is more to do; if not, the job is over, and
 * USERDATA may be freed inside. */
typedef bool (*LongJobStep)(void *userdata);

int long_jobs_new(sd_event *event, LongJobs **ret);

/* Jobs that are not done yet are freed by RELEASE, see below. */
LongJobs *long_jobs_free(LongJobs *jobs);
DEFINE_POINTER_CLEANUP(LongJobs, long_jobs_free)

/* Has STEP called until it is done, in order of arrival. RELEASE frees USERDATA when JOBS is freed before.
 * -ENOMEM. *RET is for long_job_cancel(), as long as the job is not over. */
int long_jobs_add(
                LongJobs *jobs,
                LongJobStep step,
                void (*release)(void *userdata),
                void *userdata,
                LongJob **ret);

/* Takes it out; nothing is called. */
void long_job_cancel(LongJob *job);

bool long_jobs_are_done(const LongJobs *jobs);
