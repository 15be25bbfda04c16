/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/long-jobs.h"

#include <errno.h>
#include <utlist.h>

#include "base/usec.h"
#include "io/loop.h"

#define TURN_USEC (3 * USEC_PER_MSEC)

struct LongJob {
        LongJobs *jobs; /* weak */
        LongJob *previous, *next;
        LongJobStep step;
        void (*release)(void *userdata);
        void *userdata;
};

struct LongJobs {
        sd_event *event;
        sd_event_source *turn_source;
        LongJob *first; /* the one whose turn it is */
};

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata);

/* A timer, for it queues up behind what else is ready: sd-event takes a defer source for the one that has
 * waited longest, however often it has had its turn. */
static void next_turn(LongJobs *jobs) {
        (void) loop_set_timer(
                        jobs->event,
                        &jobs->turn_source,
                        usec_now(CLOCK_BOOTTIME),
                        on_turn,
                        jobs,
                        "long-jobs");
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata) {
        LongJobs *jobs = userdata;
        usec_t end_usec = usec_add(usec_now(CLOCK_MONOTONIC), TURN_USEC);
        while (jobs->first && usec_now(CLOCK_MONOTONIC) < end_usec) {
                LongJob *job = jobs->first;
                if (!job->step(job->userdata))
                        long_job_cancel(job);
        }
        if (jobs->first)
                next_turn(jobs);
        return 0;
}

int long_jobs_new(sd_event *event, LongJobs **ret) {
        LongJobs *jobs = calloc(1, sizeof(*jobs));
        if (!jobs)
                return -ENOMEM;
        jobs->event = sd_event_ref(event);
        *ret = jobs;
        return 0;
}

LongJobs *long_jobs_free(LongJobs *jobs) {
        if (!jobs)
                return NULL;
        while (jobs->first) {
                jobs->first->release(jobs->first->userdata);
                long_job_cancel(jobs->first);
        }
        event_source_dropp(&jobs->turn_source);
        sd_event_unref(jobs->event);
        free(jobs);
        return NULL;
}

int long_jobs_add(
                LongJobs *jobs,
                LongJobStep step,
                void (*release)(void *userdata),
                void *userdata,
                LongJob **ret) {
        LongJob *job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        *job = (LongJob) {
                .jobs = jobs,
                .step = step,
                .release = release,
                .userdata = userdata,
        };
        DL_APPEND2(jobs->first, job, previous, next);
        *ret = job;
        next_turn(jobs);
        return 0;
}

void long_job_cancel(LongJob *job) {
        LongJobs *jobs = job->jobs;
        DL_DELETE2(jobs->first, job, previous, next);
        free(job);
}

bool long_jobs_are_done(const LongJobs *jobs) {
        return !jobs->first;
}
