/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A cluster in one process, under virtual time: queues that are the real delivery of tasks with the real
 * scheduler in it, behind ports of the simulation's own: models of runners that use the real leases and
 * capacity, a network that loses, delays, doubles and reorders, and disks that fail, are slow, and lose what
 * they had not confirmed. Or a queue has several members, each a process of its own, which share a database
 * instead of a disk (cluster.c). Everything follows from one seed. What is to be true of the whole is in
 * checks.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/cluster/membership.h"
#include "core/scheduling/capacity.h"
#include "core/scheduling/lease.h"
#include "core/scheduling/scheduler.h"
#include "delivery/delivery.h"

#define N_QUEUES_MAX  4
#define N_RUNNERS_MAX 5
#define N_TASKS_MAX   64
#define NO_ATTEMPT    UINT32_MAX

#define LATE_MAX_USEC (60 * USEC_PER_SEC) /* a request arrives at most so long after its sender gave up */

/* Results are kept by runners for so long at least. */
#define KEPT_USEC (210 * USEC_PER_SEC)

typedef struct Sim Sim;

/* Mistakes that a program could make, planted to see that the checks find them. */
typedef enum Defect {
        DEFECT_NONE,
        DEFECT_UNKNOWN_IS_REFUSED, /* a submission without an answer counts as one that did not arrive */
        DEFECT_NO_LOST_BOUND,      /* attempts are given up although their lease may be live */
        DEFECT_FRESH_ID,           /* what is sent again is sent under another id */
        DEFECT_PRESENT_LEASE,      /* … or under whatever lease is there */
        DEFECT_ANY_REPORT,         /* whatever a worker is said to be is believed at once */
        DEFECT_STORE_LATE,         /* what was written is told before it is on disk */
        DEFECT_TELL_EARLY,         /* the same, of results only */
        DEFECT_NO_LISTING,         /* nobody looks what a runner has after a silence */
        DEFECT_NO_LEASES,          /* runners do not look at leases */
        DEFECT_STRANGE_IS_REFUSED, /* a strange answer to a submission counts as a refusal */
        DEFECT_FORGET_EARLY,       /* a result is forgotten although a submission may still arrive */
        DEFECT_FORGET_LISTED,      /* the same of what a listing shows */
        DEFECT_FORGET_UNSTORED,    /* a result is forgotten as soon as it was fetched */
        DEFECT_GO_EARLY,           /* a worker is gone although something of the queue's is there */
        DEFECT_MOVE_IS_RESTART,    /* one that has moved counts as started again */
        DEFECT_ANSWER_INSIDE,      /* a call fails from within the function that makes it */
        DEFECT_AFTER_FORGOTTEN,    /* a restart forgets who waits for whom */
        DEFECT_AFTER_ANY_END,   /* a task that has ended counts as completed for one that is to wait for it */
        DEFECT_AFTER_UNSETTLED, /* what an end means for others is not on disk with it */
        DEFECT_NO_FENCE,        /* the database takes writes of members that do not lead any more */
        DEFECT_LEADS_ON,        /* a member acts as the leader although its time is over */
        DEFECT_WRITE_AGAIN,     /* after a lost COMMIT nobody asks whether it took place */
        DEFECT_SAME_EPOCH,      /* a member goes on under the epoch under which it led before */
        DEFECT_LATE_LOOK,       /* nobody looks when the leader's time is over */
        _DEFECT_MAX,
} Defect;

/* Where a process runs. */
typedef struct Host {
        char name[16];
        usec_t clock_offset_usec; /* its CLOCK_BOOTTIME less ours */
        usec_t paused_until_usec;
        usec_t died_usec; /* when its process did last */
        uint64_t life;    /* of its process; what was to happen in an earlier one does not happen */
        bool up;
} Host;

typedef void (*EventHandler)(Sim *sim, void *data);

typedef struct Event {
        usec_t when_usec;
        uint64_t order;
        Host *host;    /* NULL: of the world; else it waits while the host does */
        uint64_t life; /* 0: of any */
        EventHandler handle;
        void *data; /* owned */
} Event;

typedef enum AttemptState {
        ATTEMPT_UNKNOWN, /* no runner ever had it */
        ATTEMPT_LIVE,
        ATTEMPT_DONE, /* with a result */
        ATTEMPT_DEAD, /* with its runner */
} AttemptState;

/* The truth about an attempt. */
typedef struct Attempt {
        char id[48];
        bool known; /* the queue has said whose it is */
        bool sent;
        size_t task, queue, view, runner; /* at which worker of the queue, and where that was then */
        AttemptState state;
        AttemptEnd end;
        bool kept;    /* the runner has it in its table */
        bool evicted; /* the runner has forgotten it */
        usec_t done_usec;
        bool closed; /* the queue has given it up, on disk */
        uint64_t epoch;
        CapacityCharge charge;
} Attempt;

typedef struct Runner {
        Host host;
        uint64_t instance;
        CapacityPool pool;
        Lease lease;
        bool draining;
        usec_t strange_until_usec; /* of the world: answers submissions with 500, whatever it does with them
                                    */
} Runner;

/* What a queue has on disk of a task. */
typedef struct Record {
        bool finished;
        ScheduledReason reason; /* why the attempt before is not the present one any more */
        uint32_t attempt;       /* the present one or NO_ATTEMPT */
        bool accepted;
        uint64_t n_losses;
} Record;

/* A row of an attempt on a disk. */
typedef struct AttemptRow {
        StoredAttemptState state;
        uint32_t attempt;
        char instance[WORKER_INSTANCE_SIZE];
        bool unanswered;
        char *json;
        uint64_t output_bytes; /* that are stored of it */
} AttemptRow;

#define N_ATTEMPT_ROWS_MAX 64
#define N_AFTER_MAX        3
#define AFTER_DEPTH_MAX    3 /* of chains: all of one must have their time after the last fault */
#define N_RETRIES_MAX      3 /* by clients */

/* Whom a task waits for: what is on its queue's disk, and, besides, what is true. */
typedef struct After {
        size_t task;
        bool on_disk, failed_on_disk;
        bool completed, failed; /* since the task was submitted, or tried again */
} After;

typedef struct SimTask {
        size_t queue;
        char id[16];
        Resources want;
        int64_t priority;
        usec_t duration_usec;
        uint64_t retries_max;
        uint64_t output_bytes;
        bool retry_on_lost, fails, is_large;
        After after[N_AFTER_MAX];
        size_t n_after, depth;
        bool accepted;    /* as its client knows */
        bool stop_wanted; /* by its client */

        bool on_disk;
        StoredTask row; /* its strings are the next two */
        char *spec, *result;
        AttemptRow attempts[N_ATTEMPT_ROWS_MAX];
        size_t n_attempts;
        Record disk; /* what that comes to */

        size_t n_starts, n_requeues_lost, n_requeues_retry, n_finishes, n_told;
        size_t n_retries; /* by clients, on disk */
} SimTask;

typedef struct Link {
        usec_t out_until_usec, in_until_usec; /* blocked until */
} Link;

typedef struct Queue Queue;
typedef struct Cluster Cluster;
typedef struct StoreSession StoreSession;

/* A worker as its queue's port knows it. What the queue's disk has of it survives the queue's process. */
typedef struct WorkerView {
        Sim *sim;
        Queue *queue;
        size_t runner;          /* on disk: where it is; no two of a queue are at the same one */
        size_t before;          /* on disk: where it was before it moved */
        bool away;              /* on disk: it has left */
        bool leaving;           /* on disk */
        bool moved;             /* on disk: what it was sent may be elsewhere */
        DeliveryWorker *worker; /* NULL while it is away */
        bool permitted;         /* as far as the queue has heard */
        uint64_t stay;          /* counts how often it came and moved: streams of before end */

        bool listening; /* the queue wants its events */
        bool connecting, retrying;
        uint64_t runner_life;   /* that sends events; 0: none */
        usec_t last_event_usec; /* they come in order */
} WorkerView;

/* A batch on its way to the disk. */
typedef struct SimWrite SimWrite;
struct SimWrite {
        Queue *queue;
        StoreBatch *batch;
        bool on_disk;
        int r;
        StoreDone done;
        void *userdata;
        SimWrite *next;

        /* Of a member's, which may reach the database when its process is long gone. */
        uint64_t number;  /* of the transaction, as it was sent last; 0: it was not */
        uint64_t *losses; /* of each task, as the writer counts them; NULL: it is there to be asked */
        SimWrite *next_kept;
};

struct Queue {
        Sim *sim;
        Host host;
        size_t index;
        Delivery *delivery;
        WorkerView views[N_RUNNERS_MAX];
        Link links[N_RUNNERS_MAX];
        SimWrite *first_write, *last_write;
        usec_t disk_usec;       /* when the last write of them is through */
        usec_t full_until_usec; /* of the world: nothing can be stored until then */
        usec_t slow_until_usec; /* nor quickly until then */
        usec_t realtime_offset_usec;
        uint64_t next_seq;
        uint64_t timer;
        bool dying;
        size_t group; /* the first member of the same queue: itself, if it has but one */

        /* Of a member, whose delivery is there only while it leads. */
        Cluster *cluster; /* NULL: the queue has but one */
        Membership membership;
        uint64_t member_life; /* of the process; that of the host is that of what it leads */
        uint64_t member_timer;
        uint64_t beat; /* the one under way, or 0 */
        uint64_t n_beats;
        usec_t cut_until_usec;  /* of the world: the database does not hear it until then */
        usec_t obstructed_usec; /* when it last was kept from beating */
        StoreSession *session;  /* of its store */
        uint64_t store_epoch;
};

typedef enum RpcType {
        RPC_PROBE,
        RPC_ACQUIRE,
        RPC_RENEW,
        RPC_RELEASE,
        RPC_SUBMIT,
        RPC_GET,
        RPC_STOP, /* DELETE that does not forget what has ended */
        RPC_DELETE,
        RPC_LIST,
        RPC_OUTPUT,
} RpcType;

/* A request; what the delivery knows as a call. */
typedef struct PortCall Rpc;
struct PortCall {
        RpcType type;
        size_t queue, view, runner;
        uint32_t attempt;
        char lease_id[LEASE_ID_SIZE];
        uint64_t life; /* of the queue's process */
        bool unsent, done;
        bool unanswered; /* … although it arrives */
        bool with_output;
        uint64_t offset;
        union {
                WorkerCallDone call;
                WorkerSubmitDone submit;
                WorkerEndDone end;
                WorkerListDone list;
                WorkerFetchDone fetch;
                WorkerOutputDone output;
        } on_done;
        WorkerOutputData on_data;
        void *userdata;
        Rpc *next;
};

typedef struct Answer {
        Rpc *rpc;
        int status; /* HTTP's; 0: none came */
        WorkerReport report;
        char lease_id[LEASE_ID_SIZE];
        char holder[LEASE_QUEUE_MAX + 1];
        bool done;
        AttemptEnd end;
        bool listed_done[N_TASKS_MAX * 4];
        uint32_t listed[N_TASKS_MAX * 4];
        size_t n_listed;
} Answer;

struct Sim {
        uint64_t seed, random;
        bool verbose, has_members;
        Defect defect;
        usec_t now_usec, calm_usec; /* no faults from then on */
        double loss, slow;          /* shares of messages */
        SchedulerConfig config;

        Event *events; /* a heap */
        size_t n_events, n_events_allocated;
        uint64_t n_scheduled;

        Runner runners[N_RUNNERS_MAX];
        size_t n_runners;
        Queue queues[N_QUEUES_MAX];
        size_t n_queues;
        Cluster *cluster; /* of the first queue's members, or NULL */
        SimWrite *kept_writes;
        StoreSession *sessions; /* all that there ever were */
        SimTask tasks[N_TASKS_MAX];
        size_t n_tasks;
        Attempt *attempts;
        size_t n_attempts, n_attempts_allocated;
        Rpc *rpcs;

        uint64_t n_left, n_moved;
        uint64_t n_led, n_fenced, n_resolved;
        uint64_t n_steps, n_starts, n_losses, n_refusals, n_calls, n_writes, n_forgotten, n_retries;
        char violation[256]; /* "" as long as all is well */
};

/* world.c */
uint64_t sim_random(Sim *sim);
uint64_t sim_below(Sim *sim, uint64_t n);
bool sim_chance(Sim *sim, double probability);
usec_t sim_between(Sim *sim, usec_t low_usec, usec_t high_usec);
usec_t host_clock(const Sim *sim, const Host *host);
void sim_at(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, void *data);
void sim_at_any_life(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, void *data);
bool sim_step(Sim *sim);
void sim_log(const Sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *sim_allocate(size_t size);
void sim_done(Sim *sim);

/* network.c */
Rpc *rpc_new(Sim *sim, const WorkerView *view, RpcType type);
void rpc_send(Sim *sim, Rpc *rpc);

/* runner-model.c */
void runner_start(Sim *sim, Runner *runner);
void runner_crash(Sim *sim, Runner *runner);
void runner_shut_down(Sim *sim, Runner *runner);
void runner_forget(Sim *sim, uint32_t attempt);
void runner_report(const Runner *runner, WorkerReport *ret);
void runner_answer(Sim *sim, Runner *runner, const Rpc *rpc, Answer *ret);

/* Tells every queue that listens. ATTEMPT: NO_ATTEMPT, only what the runner has free. */
void runner_tell(Sim *sim, Runner *runner, uint32_t attempt);

/* worker-port.c */
extern const WorkerPort sim_worker_port;
void queue_answer(Sim *sim, const Answer *answer);
void streams_break(Sim *sim, const Runner *runner);
uint32_t attempt_find(const Sim *sim, const char *id);
const char *attempt_state_word(const Attempt *attempt);

/* store-port.c */
extern const StorePort sim_store_port;
void disk_apply(Sim *sim, const SimWrite *write);
void disk_crash(Sim *sim, Queue *queue);
void write_free(SimWrite *write);

/* cluster.c: the members of the first queue, and their database. */
void cluster_begin(Sim *sim, size_t n_members);
void cluster_end(Sim *sim);
void member_start(Sim *sim, Queue *queue);
void member_leave(Sim *sim, Queue *queue); /* in order; its process ends */

/* Whether it may act, as far as QUEUE knows: always, if it has but one member. */
bool queue_may_act(const Queue *queue);
/* Whether the database has it as the one that leads, too. */
bool cluster_is_led_by(const Queue *queue);
/* The workers of the queue are stored as the one that leads has them, and taken from there. */
void cluster_put_workers(const Queue *queue);
void cluster_get_workers(Queue *queue);
void cluster_set_away(Sim *sim, usec_t until_usec);
void cluster_set_clock(Sim *sim, usec_t forward_usec);
bool cluster_is_away(const Sim *sim);
void cluster_check(Sim *sim);

/* Its store says that it does not lead: it ends, and begins anew. */
void member_is_fenced(Sim *sim, Queue *queue);
/* Whether the transaction NUMBER of EPOCH may be written, which is noted; as the database does it. */
bool cluster_fence(Sim *sim, uint64_t epoch, uint64_t number);
/* How many were, or -ESTALE: another epoch has begun. */
int cluster_written(const Sim *sim, uint64_t epoch, uint64_t *ret);

/* member-store.c: what a member that leads writes there. */
void member_commit(Queue *queue, SimWrite *write);
void member_store_begin(Queue *queue);
void member_store_end(Queue *queue);
void member_store_break(Queue *queue); /* the connection */
void member_stores_done(Sim *sim);

/* queue-host.c */
uint32_t attempt_copy(Sim *sim, uint32_t attempt); /* another one, of the same task at the same runner */
Moment queue_moment(const Queue *queue);
const char *queue_name(const Sim *sim, size_t queue); /* by which runners know it, whoever leads */
void queue_settle(Queue *queue);
void queue_start(Sim *sim, Queue *queue);
void queue_crash(Sim *sim, Queue *queue);

/* It has tasks to attend to: it is up, and leads if it has other members. */
bool queue_is_serving(const Queue *queue);
/* The one of its members that leads, NULL if none does; or itself. */
Queue *queue_in_charge(Queue *queue);
void queue_serve(Sim *sim, Queue *queue);
void queue_stop_serving(Sim *sim, Queue *queue);
void queue_take_task(Sim *sim, size_t task);
void queue_stop_task(Sim *sim, size_t task);
void queue_retry_task(Sim *sim, size_t task);
void queue_set_permitted(Sim *sim, Queue *queue, size_t runner, bool permitted);

/* The worker begins to leave, and goes when it has left; comes (back), to any runner where none is; or moves
 * to RUNNER, where it may be already. */
void queue_worker_leaves(Sim *sim, Queue *queue, size_t worker);
void queue_worker_comes(Sim *sim, Queue *queue, size_t worker);
void queue_worker_moves(Sim *sim, Queue *queue, size_t worker, size_t runner);

/* faults.c */
void scenario_begin(Sim *sim);

/* checks.c */
void sim_violation(Sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_start(Sim *sim, uint32_t attempt);
void check_commit(Sim *sim, const SimTask *task, const Record *record);
void check_forget(Sim *sim, uint32_t attempt); /* by request of its queue */
void check_told(Sim *sim, SimTask *task);
void check_gone(Sim *sim, const Queue *queue, size_t worker);
void check_step(Sim *sim);
void check_end(Sim *sim);
bool sim_is_over(const Sim *sim);
