/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the delivery of tasks needs of workers, whatever they are: a runner over HTTP is one kind, the
 * simulation's another. A kind of worker is a table of these functions; WORKER is the port's own, one for
 * each worker.
 *
 * All of them only begin something. What comes of it is told later, once, by the DONE that was given with it,
 * never from within the function; with 0 DONE is called unless the call is cancelled before, with a negative
 * errno it never is. What they are given is copied. Nothing is ever repeated by the port: one call is one
 * request, which arrives once or not at all, perhaps late.
 *
 * What a worker has to promise: it runs an attempt's id once for as long as it remembers it, takes attempts
 * only under the lease that is live, and forgets a result only when told, or after a time (result_ttl). */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/scheduling/runner-answer.h"
#include "core/scheduling/scheduler.h"
#include "core/store/store-record.h"

/* Something under way; the port's own. Over when DONE is called. */
typedef struct PortCall PortCall;

/* The answer to one of the scheduler's calls. */
typedef struct CallAnswer {
        enum {
                CALL_FAILED,   /* none, or none that makes sense */
                CALL_ANSWERED, /* PROBE: report is set; RELEASE: it has no lease of ours */
                CALL_GRANTED,  /* ACQUIRE, RENEW: lease_id and ttl_usec are set */
                CALL_REFUSED,  /* ACQUIRE, RENEW: holder is set, as far as it was told */
        } outcome;
        WorkerReport report;
        char lease_id[LEASE_ID_SIZE];
        usec_t ttl_usec;
        char holder[LEASE_QUEUE_MAX + 1];
} CallAnswer;

typedef void (*WorkerCallDone)(const CallAnswer *answer, const Moment *now, void *userdata);

/* An attempt to be run. */
typedef struct Submission {
        const char *attempt_id, *lease_id;
        const char *body; /* JSON, as a runner takes it */
        size_t body_size;
} Submission;

typedef struct SubmitAnswer {
        SubmitOutcome outcome;
        const WorkerReport *report; /* FULL: what it says of itself; NULL: nothing */
        const RunnerTask *task;     /* ACCEPTED: the attempt as it is now; NULL: not told */
        const char *detail;         /* INVALID: why, for people */
} SubmitAnswer;

typedef void (*WorkerSubmitDone)(const SubmitAnswer *answer, const Moment *now, void *userdata);

/* Of a stop or a forgetting. REACHED: the worker has answered, and will do it or has no such attempt. */
typedef void (*WorkerEndDone)(bool reached, const Moment *now, void *userdata);

/* A page of the attempts of this queue that a worker has. */
typedef struct ListAnswer {
        int r; /* negative errno: there is none */
        const RunnerTask *tasks;
        size_t n_tasks;
        const char *next; /* what the next page comes after; NULL: this was the last one */
} ListAnswer;

typedef void (*WorkerListDone)(const ListAnswer *answer, const Moment *now, void *userdata);

/* A finished attempt as its worker tells it. */
typedef struct FetchAnswer {
        enum {
                FETCH_FAILED,
                FETCH_GOT,       /* attempt is set */
                FETCH_GONE,      /* the worker does not have it */
                FETCH_TOO_LARGE, /* with its output */
        } outcome;
        json_object *attempt; /* borrowed */
} FetchAnswer;

typedef void (*WorkerFetchDone)(const FetchAnswer *answer, const Moment *now, void *userdata);

typedef enum OutputEnd {
        OUTPUT_END,    /* that was all */
        OUTPUT_GONE,   /* the worker does not have it */
        OUTPUT_BROKEN, /* there may be more */
} OutputEnd;

/* The next SIZE bytes. A negative errno ends the call (OUTPUT_BROKEN). */
typedef int (*WorkerOutputData)(const void *bytes, size_t size, const Moment *now, void *userdata);
typedef void (*WorkerOutputDone)(OutputEnd end, const Moment *now, void *userdata);

typedef struct OutputWanted {
        const char *attempt_id;
        StoredStream stream;
        uint64_t offset;
        bool follow;      /* until the attempt's end; else what there is now */
        bool for_clients; /* for clients, however many they are: must not hold up what the delivery itself
                             asks */
} OutputWanted;

typedef struct WorkerPort {
        /* LEASE_ID: of RENEW and RELEASE. */
        int (*call)(void *worker,
                    WorkerCall call,
                    const char *lease_id,
                    WorkerCallDone done,
                    void *userdata,
                    PortCall **ret);

        int (*submit)(void *worker,
                      const Submission *submission,
                      WorkerSubmitDone done,
                      void *userdata,
                      PortCall **ret);

        /* Ends the attempt if it runs; its result is kept. */
        int (*stop)(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata);

        /* Forgets the attempt, with its result. */
        int (*forget)(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata);

        /* AFTER: "next" of the page before; NULL: the first. */
        int (*list)(void *worker, const char *after, WorkerListDone done, void *userdata, PortCall **ret);

        int (*fetch)(void *worker,
                     const char *attempt_id,
                     bool with_output,
                     WorkerFetchDone done,
                     void *userdata,
                     PortCall **ret);

        int (*output)(void *worker,
                      const OutputWanted *wanted,
                      WorkerOutputData data,
                      WorkerOutputDone done,
                      void *userdata,
                      PortCall **ret);

        /* Flow control of an output: while paused nothing comes. */
        void (*pause)(PortCall *call);
        void (*resume)(PortCall *call);

        /* Gives up: DONE is not called any more. NULL is fine; not for a call that is over. */
        void (*cancel)(PortCall *call);

        /* Whether the worker is to tell by itself what happens there: by delivery_worker_connected(),
         * …_seen(), …_reported() and …_disconnected(). Called whenever that may have changed. */
        void (*listen)(void *worker, bool wanted);
} WorkerPort;
