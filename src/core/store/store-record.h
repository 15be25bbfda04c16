/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a queue keeps: tasks, their attempts and outputs, what it knows of its workers. As values; where and
 * how they are kept is a store's business. Times are CLOCK_REALTIME in microseconds, 0 for "not yet", unless
 * said otherwise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"

#define STORE_LIST_LIMIT_MAX 1000
#define STORE_LABELS_MAX     8 /* in one filter */

/* As clients see it; those from COMPLETED on are finished for good. */
typedef enum StoredState {
        STORED_QUEUED,
        STORED_RUNNING,
        STORED_COMPLETED,
        STORED_ERRORED,
        STORED_KILLED,
        _STORED_STATE_MAX,
} StoredState;

/* "queued" … and back; -EINVAL. These words are what is stored. */
const char *stored_state_to_string(StoredState state);
int stored_state_from_string(const char *name);

typedef struct StoredTask {
        uint64_t seq; /* order of arrival, given by the store; the key of all that belongs to the task */
        const char *task_id;
        StoredState state;
        int64_t priority;
        uint64_t retries;       /* of errored attempts, used so far */
        uint64_t losses;        /* of workers, so far */
        bool stop_requested;    /* a client wants it stopped */
        usec_t submit_usec;     /* accepted */
        usec_t queue_usec;      /* put (back) into the queue */
        usec_t not_before_usec; /* back-off of a retry */
        usec_t finish_usec;     /* by the ResultClock */
        const char *spec;       /* JSON as accepted */
        const char *result;     /* JSON of the finished task without output; NULL while live */
} StoredTask;

/* What TASK counts for in a page of a list (StoreFilter.bytes_max): the text that it is shown from. */
size_t stored_task_listed_bytes(const StoredTask *task);

/* That a task waits for another one, or has failed for it. What has completed is not kept. */
typedef struct StoredDependency {
        const char *task_id; /* who waits */
        const char *on_id;   /* for whom */
        bool failed;         /* that one ended otherwise than completed */
} StoredDependency;

/* Where an attempt is, for a restart: what may have reached a runner must be asked about there. */
typedef enum StoredAttemptState {
        STORED_ATTEMPT_SENT,     /* may have reached the runner */
        STORED_ATTEMPT_RUNNING,  /* the runner has it */
        STORED_ATTEMPT_FINISHED, /* the runner told how it ended */
        STORED_ATTEMPT_LOST,     /* given up */
        STORED_ATTEMPT_REFUSED,  /* certainly never started */
        _STORED_ATTEMPT_STATE_MAX,
} StoredAttemptState;

/* Like those above. */
const char *stored_attempt_state_to_string(StoredAttemptState state);
int stored_attempt_state_from_string(const char *name);

typedef struct StoredAttempt {
        uint64_t number; /* of this task, from 1 */
        StoredAttemptState state;
        const char *worker_id;
        const char *runner_task_id;  /* its name at the runner */
        const char *runner_instance; /* which life of the runner; NULL: not known */
        usec_t place_usec, finish_usec;
        bool unanswered;     /* one of its submissions was not: it may still arrive */
        const char *attempt; /* JSON as the runner gave it, without output; NULL: none yet */
} StoredAttempt;

/* What is to be remembered of a worker beyond its configuration, or instead of one. */
typedef struct StoredWorker {
        const char *worker_id;
        bool disabled;
        bool joined;            /* it came by a request: the configuration does not have it */
        bool leaving;           /* it goes when its last task has ended */
        const char *url;        /* where it was last; NULL: not known */
        const char *before_url; /* where it was before, and what it was sent there may still be; or NULL */
        const char *token;      /* of one that joined, or NULL */
} StoredWorker;

typedef enum StoredStream {
        STORED_STDOUT,
        STORED_STDERR,
} StoredStream;

/* What is known of the queue itself, by name. */
#define STORED_FACT_QUEUE_ID     "queue-id"     /* 32 hexadecimal digits, made with the store */
#define STORED_FACT_RESULT_CLOCK "result-clock" /* a reading of the ResultClock, in decimal */
#define STORED_FACT_DRAINING     "draining"     /* "1": the queue takes no tasks and starts none */

typedef struct StoreFilter {
        int state;                 /* a StoredState, or -1: any */
        const char *const *labels; /* "key=value", all of which must hold; NULL-terminated, or NULL */
        uint64_t after;            /* seq of the last one of the page before; 0: from the beginning */
        uint64_t limit;            /* 1 … STORE_LIST_LIMIT_MAX */
        size_t bytes_max;          /* the page ends with the task with which it has so many bytes */
} StoreFilter;
