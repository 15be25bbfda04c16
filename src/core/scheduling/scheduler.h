/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The brain of the queue: which task goes to which worker, what is asked of workers and when, which attempt
 * is given up. Told what happened and what time it is (CLOCK_BOOTTIME), it says what to do; it does nothing
 * itself. The daemon and the simulation of tests drive the same code.
 *
 *                 placed               accepted
 *   WAITING ────────────────▶ SENDING ──────────▶ RUNNING ──▶ ENDED
 *      ▲  ▲       refused        │ ▲                 │
 *      │  └──────────────────────┤ │ sent again      │ lost, or errored and to be retried
 *      │                         ▼ │                 │
 *   BACKOFF ◀────────────── UNCERTAIN                │
 *      └─ ◀──────────────────────────────────────────┘
 *
 * A task that is to wait for others is HELD before all that, until it is released, or fails with one of them
 * (dependencies.h); whom it waits for is not known in here.
 *
 * What makes "not run twice" true: an attempt has one worker, one id of its own there, and one lease under
 * which it is submitted however often. While nobody knows whether a submission arrived (UNCERTAIN), it is
 * repeated under the same id at the same worker, which runs an id once. As no lease outlives a worker's
 * instance or comes back once it has ended, only the instance that granted it can ever have the attempt, and
 * what still travels is refused as soon as the lease is over. So only a definite no, a list of what the
 * worker has that was made after every submission was answered, the worker's restart (its tasks die with it),
 * or worker_lost_usec() make the task free for another attempt.
 *
 * A worker forgets an attempt when the scheduler says so (ACTION_FORGET): when its end is on disk, and when
 * nothing that was sent of it can arrive any more, because that would be run again. A submission that was not
 * answered may arrive for SCHEDULER_IN_FLIGHT_USEC; of one that only a listing shows nobody knows, so the
 * time begins when it is seen.
 *
 * Use: report what happened by the functions below, call scheduler_run(), then take every action by
 * scheduler_next_action(), to the last, before the next event is reported (asserted). Actions that change a
 * task are to be on disk before anybody else hears of them.
 *
 * What the program around it has to do besides, so that the above is true (tests/sim does):
 * - The HTTP client never repeats a request by itself.
 * - Whenever a worker answers for the first time, after it was silent, as another instance, does not know an
 * attempt (404), or answers a submission strangely, its attempts are listed.
 * - To stop an attempt must not make the worker forget a result.
 * - An attempt that was placed longer ago than workers keep results is restored as accepted: if the worker
 * does not have it, nobody can say any more that it never ran. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/scheduling/deadline-heap.h"
#include "core/scheduling/forget-list.h"
#include "core/scheduling/waiting-list.h"
#include "core/scheduling/worker.h"
#include "core/task/resources.h"

/* A task that was passed by others for so long gets the next worker that can have room for it for itself. */
#define SCHEDULER_PATIENCE_USEC (30 * USEC_PER_SEC)

/* A task that loses so many workers is suspected of being the reason. */
#define SCHEDULER_LOSSES_MAX 10

/* A request whose connection we gave up may still be on its way for so long: the client's sockets are to drop
 * what is not acknowledged within less. Where the worker stands still (its host sleeps) it may be read even
 * later, but before what was sent after that time, and under a lease that is over if it takes as long as
 * that. */
#define SCHEDULER_IN_FLIGHT_USEC (60 * USEC_PER_SEC)

typedef struct Scheduler Scheduler;
typedef struct ScheduledTask ScheduledTask;
typedef struct ScheduledWorker ScheduledWorker;

typedef struct SchedulerConfig {
        usec_t lease_ttl_usec;
        usec_t lost_after_usec;
} SchedulerConfig;

typedef enum ScheduledState {
        SCHEDULED_WAITING,
        SCHEDULED_HELD,      /* waits for other tasks */
        SCHEDULED_BACKOFF,   /* waits for its time, then again with the others */
        SCHEDULED_SENDING,   /* the submission is under way */
        SCHEDULED_UNCERTAIN, /* it may have arrived */
        SCHEDULED_RUNNING,   /* the worker has it */
        SCHEDULED_ENDED,
} ScheduledState;

/* Why a task has no attempt any more. */
typedef enum ScheduledReason {
        REASON_NONE,
        REASON_RESULT,     /* the worker's result is the task's */
        REASON_RETRY,      /* the worker's result is an error, and there are tries left */
        REASON_REFUSED,    /* the worker did not take it, and never ran it */
        REASON_INVALID,    /* no worker would */
        REASON_LOST,       /* the worker is gone, or has forgotten it */
        REASON_CANCELED,   /* before any worker had it */
        REASON_DEPENDENCY, /* a task that it waited for has not completed */
} ScheduledReason;

/* How a task is to be treated; copied. */
typedef struct ScheduledTaskOptions {
        const char *task_id;
        Resources resources;
        uint64_t sequence; /* of arrival, unique */
        int64_t priority;
        uint64_t retries_max;
        usec_t retry_backoff_usec;
        bool retry_on_lost;
} ScheduledTaskOptions;

struct ScheduledTask {
        uint64_t sequence, id_hash;
        int64_t priority;
        Resources *want; /* shared by tasks that ask for the same; a reference */
        uint64_t retries_max, n_retries, n_losses;
        usec_t retry_backoff_usec;
        bool retry_on_lost;
        bool stop_requested;

        ScheduledState state;
        ScheduledReason reason; /* of the latest REQUEUE or FINISH */
        WaitingEntry waiting;
        Deadline deadline;       /* BACKOFF: waits again; UNCERTAIN: is sent again */
        ScheduledWorker *worker; /* weak; from SENDING to the attempt's end */
        ScheduledTask *previous_at_worker, *next_at_worker;
        char instance[WORKER_INSTANCE_SIZE]; /* of the worker that granted the lease */
        char lease_id[LEASE_ID_SIZE];        /* what every submission of the attempt names (Daggyr-Lease) */
        bool names_own_lease;  /* lease_id is of our lease; otherwise nobody has such a lease, so
                                  that the worker only tells whether it has the attempt */
        bool maybe_taken;      /* by a submission that was not answered, or strangely */
        usec_t uncertain_usec; /* when a submission last ended without an answer; 0: none did */
        usec_t settled_usec;   /* UNCERTAIN: since when none has been on its way; 0: one may be */
        usec_t sent_usec, accepted_usec;
        uint64_t reports_when_sent;
        bool is_deducted;    /* from the worker's free amounts by us, not yet by the worker itself */
        uint64_t seen_round; /* the listing that had it */
        bool missing;        /* the worker does not have it; whether it had is seen by its instance */
        usec_t waiting_since_usec;
        usec_t forget_after_usec; /* until then something may arrive of the attempts that are over */

        ScheduledTask *previous, *next; /* of all */
        unsigned actions;               /* to be taken, a bit each */
        ScheduledTask *next_active;
        bool active;
        void *userdata; /* the program's */
};

struct ScheduledWorker {
        Worker worker;
        Scheduler *scheduler; /* weak */
        ScheduledTask *attempts;
        uint64_t list_round;
        bool call_due;
        bool reserved; /* within one run: for a task that has waited long */

        bool in_calls, in_touched; /* the scheduler's lists */
        ScheduledWorker *next_call, *next_touched, *next_reserved;
        Deadline due; /* when time alone changes something about it */
        void *userdata;
};

typedef enum SchedulerActionType {
        ACTION_REQUEUE,    /* the attempt is over for task->reason; the task waits again */
        ACTION_PLACE,      /* begin an attempt at task->worker: note it, then submit under task->lease_id */
        ACTION_RESUBMIT,   /* submit the same attempt again, under task->lease_id, which may be another */
        ACTION_STOP,       /* stop the attempt at task->worker, repeated until that has answered */
        ACTION_FINISH,     /* the task is over for task->reason: note it, then scheduler_remove_task() */
        ACTION_CALL,       /* make CALL to the worker */
        ACTION_FORGET,     /* have the worker forget attempt_id */
        ACTION_STOP_STRAY, /* stop attempt_id, which is no task's present one */
} SchedulerActionType;

typedef struct SchedulerAction {
        SchedulerActionType type;
        ScheduledTask *task;     /* weak; NULL for those of a worker: CALL, FORGET, STOP_STRAY */
        ScheduledWorker *worker; /* weak; NULL for ACTION_REQUEUE and ACTION_FINISH */
        WorkerCall call;
        const char *attempt_id; /* of FORGET and STOP_STRAY; valid until the next action is taken */
} SchedulerAction;

int scheduler_new(const SchedulerConfig *config, Scheduler **ret);
Scheduler *scheduler_free(Scheduler *scheduler);
DEFINE_POINTER_CLEANUP(Scheduler, scheduler_free)

/* -ENOMEM, -ENAMETOOLONG. It is not permitted and not yet called. */
int scheduler_add_worker(Scheduler *scheduler, const char *id, usec_t now_usec, ScheduledWorker **ret);

/* The worker is at another address from now on, where it may be the same instance as before, or not. No call
 * to it is under way: one that was is reported as failed before. What it has stays with it: if the same
 * instance answers, nothing has happened; if another does, what the first one was sent may go on running
 * where nobody asks any more, and is given up when no lease can be live there. */
void scheduler_move_worker(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec);

/* Whether it is LEAVING: nothing new goes there, and it is given back when its last attempt is over. */
void scheduler_set_leaving(ScheduledWorker *worker, bool leaving, usec_t now_usec);

/* Whether one that is leaving has nothing of ours any more, and is asked nothing. */
bool scheduler_worker_has_left(const ScheduledWorker *worker);

/* Forgets a worker that has left. What it still remembers of our attempts it forgets by itself in time. */
void scheduler_remove_worker(Scheduler *scheduler, ScheduledWorker *worker);

size_t scheduler_n_workers(const Scheduler *scheduler);
ScheduledWorker *scheduler_worker(const Scheduler *scheduler, size_t i);

/* A new task, or one that waited when the queue stopped: its n_retries and n_losses may be set right
 * afterwards. Many are best added in the order of their sequence. -ENOMEM. */
int scheduler_add_task(
                Scheduler *scheduler,
                const ScheduledTaskOptions *options,
                usec_t now_usec,
                ScheduledTask **ret);

/* Right after scheduler_add_task(): the task was with WORKER, at its INSTANCE, when the queue stopped.
 * ACCEPTED: the worker was known to have it. UNANSWERED: a submission of it was not answered. */
void scheduler_restore_attempt(
                Scheduler *scheduler,
                ScheduledTask *task,
                ScheduledWorker *worker,
                const char *instance,
                bool accepted,
                bool unanswered,
                usec_t now_usec);

/* The same for one in back-off, of which REST_USEC are left by a clock that may have been set: the task waits
 * for no longer than its back-off is, that of its n_retries, which must be set before. */
void scheduler_restore_backoff(Scheduler *scheduler, ScheduledTask *task, usec_t rest_usec, usec_t now_usec);

/* Right after scheduler_add_task(): TASK waits for others first. */
void scheduler_hold_task(Scheduler *scheduler, ScheduledTask *task);

/* All that TASK, which is held, waited for have completed: it waits with the others from now on. */
void scheduler_release_task(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);

/* TASK, which is held, waited for one that has not completed: it ends. */
void scheduler_fail_task(Scheduler *scheduler, ScheduledTask *task);

/* Forgets an ended task. */
void scheduler_remove_task(Scheduler *scheduler, ScheduledTask *task);

/* Whether some worker could run it if it were empty; workers never heard of count as able to. */
bool scheduler_could_fit(Scheduler *scheduler, const Resources *want);

/* The worker of which it would take the smallest share, among those that take tasks now; NULL: it fits
 * nowhere. */
const Worker *scheduler_least_impact(Scheduler *scheduler, const Resources *want, usec_t now_usec);

/* Whether it would be placed at once. */
bool scheduler_fits_now(Scheduler *scheduler, const Resources *want, usec_t now_usec);

/* A client wants it stopped. */
void scheduler_stop_task(Scheduler *scheduler, ScheduledTask *task);

typedef enum SubmitOutcome {
        SUBMIT_ACCEPTED,
        SUBMIT_FULL,     /* does not fit; report what the worker said of itself first */
        SUBMIT_BUSY,     /* the worker asks for time, or drains */
        SUBMIT_NO_LEASE, /* task->lease_id is not the live one */
        SUBMIT_INVALID,  /* the worker will never take it */
        SUBMIT_STRANGE,  /* arrived, but the answer does not tell what became of it */
        SUBMIT_UNSENT,   /* certainly not arrived: no connection */
        SUBMIT_UNKNOWN,  /* may have arrived */
} SubmitOutcome;

/* What became of ACTION_PLACE or ACTION_RESUBMIT; exactly once for each. */
void scheduler_submit_done(Scheduler *scheduler, ScheduledTask *task, SubmitOutcome outcome, usec_t now_usec);

typedef enum AttemptEnd {
        ATTEMPT_SUCCEEDED,
        ATTEMPT_ERRORED,
        ATTEMPT_KILLED,
        ATTEMPT_SHUTDOWN, /* killed because the worker was shut down */
} AttemptEnd;

/* The attempt's result is here, and no submission of it is under way. Leads to ACTION_FINISH or
 * ACTION_REQUEUE. After a shutdown nothing is placed at that worker before a new call has told how it is. */
void scheduler_attempt_ended(Scheduler *scheduler, ScheduledTask *task, AttemptEnd end, usec_t now_usec);

/* The end of the attempt of TASK that was over last, at WORKER under ATTEMPT_ID, is on disk: WORKER forgets
 * it as soon as it may. (For want of memory it does so when a listing shows it.) */
void scheduler_end_stored(
                Scheduler *scheduler,
                const ScheduledTask *task,
                ScheduledWorker *worker,
                const char *attempt_id,
                usec_t now_usec);

/* Listing what a worker has: begin, name each of our attempts that it has, live or ended, then finish. What
 * it was known to have and has no more is lost; or, if a probe then finds the worker to be the same as
 * before, has ended and was forgotten there: such a task is not run again. What it was not known to have, and
 * has not after every submission was answered, it never had. LISTED_USEC: when the list was asked for. */
void scheduler_listing_begin(ScheduledWorker *worker);
void scheduler_listing_has(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec);

/* TASK, which is at another worker, is in WORKER's list: the instance that has it is there now. WORKER takes
 * it over. False: it cannot be the same instance, or a submission is under way. */
bool scheduler_take_over(Scheduler *scheduler, ScheduledTask *task, ScheduledWorker *worker);

/* The list has an attempt of this queue that is no task's present one: one that was given up, or whose end is
 * on disk. It is stopped, and forgotten as soon as it may be. */
void scheduler_listing_stray(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *attempt_id,
                bool finished,
                usec_t now_usec);
void scheduler_listing_finish(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                usec_t listed_usec,
                usec_t now_usec);

/* What a worker says of itself, by whatever way it comes. What it has free is a hint. Its first report, and a
 * new instance, are believed right after scheduler_call_answered() only; otherwise they lead to a probe. */
void scheduler_worker_reported(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const WorkerReport *report,
                usec_t now_usec);

/* How ACTION_CALL went; exactly one of these for each. A probe that was answered is followed by
 * scheduler_worker_reported(). */
void scheduler_call_granted(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *lease_id,
                usec_t ttl_usec,
                usec_t now_usec);
void scheduler_call_refused(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                const char *holder, /* the queue that has the lease, or "" */
                usec_t now_usec);
void scheduler_call_answered(
                Scheduler *scheduler,
                ScheduledWorker *worker,
                usec_t now_usec); /* probe, or release:
                                     it has no lease
                                     of ours */
void scheduler_call_failed(Scheduler *scheduler, ScheduledWorker *worker, usec_t now_usec);

/* Another exchange with the worker failed: it is asked how it is. */
void scheduler_worker_suspect(ScheduledWorker *worker, usec_t now_usec);

/* The queue's share has changed, or an administrator's mind. */
void scheduler_set_permitted(ScheduledWorker *worker, bool permitted, usec_t now_usec);
void scheduler_set_disabled(ScheduledWorker *worker, bool disabled, usec_t now_usec);

/* Decides. Afterwards take the actions. */
void scheduler_run(Scheduler *scheduler, usec_t now_usec);

/* False when there is none left. */
bool scheduler_next_action(Scheduler *scheduler, SchedulerAction *ret);

/* When to call scheduler_run() again if nothing happens before. */
usec_t scheduler_deadline(Scheduler *scheduler, usec_t now_usec);

/* Asserts that what is counted of N_WORKERS workers is what there is: the next ones, in turn, so that looking
 * at some in each turn finds a mistake soon at little expense. */
void scheduler_check(Scheduler *scheduler, size_t n_workers);

/* Those that are held count as waiting. */
size_t scheduler_n_waiting(const Scheduler *scheduler);
size_t scheduler_n_tasks(const Scheduler *scheduler);

/* ── scheduler-explain.c: why a task does not run ── */

/* Why the worker does not take a task that wants WANT, in words for people; NULL: it would take it, or is
 * about to.
 */
const char *scheduler_worker_refusal(
                const ScheduledWorker *scheduled,
                const Resources *want,
                usec_t now_usec);

/* Why TASK, which waits or is in back-off, does not run, in words for people; with *RET_OF_WORKERS whether
 * the reasons of workers say more. */
const char *scheduler_wait_reason(
                const Scheduler *scheduler,
                const ScheduledTask *task,
                usec_t now_usec,
                bool *ret_of_workers);
