/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a queue does around its scheduler: stores, sends, asks, and starts again after a crash with nothing
 * but what was on disk. */

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim.h"

#define DISK_USEC_MAX (30 * USEC_PER_MSEC)
#define POLL_USEC     (2 * USEC_PER_SEC)

static void settle(Sim *sim, Queue *queue);

static usec_t queue_clock(const Sim *sim, const Queue *queue) {
        return host_clock(sim, &queue->host);
}

static size_t task_index(const Sim *sim, const Task *task) {
        return (size_t) (task - sim->tasks);
}

static Task *task_of(const ScheduledTask *scheduled) {
        return scheduled->userdata;
}

static size_t worker_index(const Queue *queue, const ScheduledWorker *worker) {
        size_t i = 0;
        while (queue->views[i].scheduled != worker)
                i++;
        return i;
}

/* ── disk ── */

static void send_submission(Sim *sim, Queue *queue, const Task *task) {
        Rpc *rpc = rpc_new(sim, queue, task->memory.worker, RPC_SUBMIT);
        rpc->task = task_index(sim, task);
        rpc->attempt = task->memory.attempt;
        const char *lease_id = sim->defect == DEFECT_PRESENT_LEASE ?
                        task->scheduled->worker->worker.lease_id :
                        task->scheduled->lease_id;
        memcpy(rpc->lease_id, lease_id, sizeof(rpc->lease_id));
        rpc_send(sim, rpc);
}

static void send_about(Sim *sim, Queue *queue, RpcType type, size_t runner, size_t task, uint32_t attempt) {
        Rpc *rpc = rpc_new(sim, queue, runner, type);
        rpc->task = task;
        rpc->attempt = attempt;
        rpc_send(sim, rpc);
}

typedef struct Forget {
        Queue *queue;
        size_t task, runner;
        uint32_t attempt;
} Forget;

static void forget_now(Sim *sim, void *data) {
        const Forget *forget = data;
        send_about(sim, forget->queue, RPC_DELETE, forget->runner, forget->task, forget->attempt);
}

static void forget_later(Sim *sim, Queue *queue, size_t runner, size_t task, uint32_t attempt) {
        Forget *forget = sim_allocate(sizeof(*forget));
        *forget = (Forget){ .queue = queue, .task = task, .runner = runner, .attempt = attempt };
        sim_at(sim, sim->now_usec + FORGET_USEC, &queue->host, forget_now, forget);
}

static void flush(Sim *sim, void *data) {
        Queue *queue = *(Queue **) data;
        queue->flushing = false;
        size_t n = queue->n_writes;
        queue->n_writes = 0;
        for (size_t i = 0; i < n; i++) { /* nothing in here writes */
                const Write *write = &queue->writes[i];
                Task *task = &sim->tasks[write->task];
                Record before = task->disk;
                check_commit(sim, task, &write->record);
                task->disk = write->record;
                if (write->submit && sim->defect != DEFECT_STORE_LATE)
                        send_submission(sim, queue, task);
                if (write->forget && before.attempt != NO_ATTEMPT)
                        forget_later(sim, queue, before.worker, write->task, before.attempt);
        }
}

static void store(Sim *sim, Queue *queue, const Task *task, bool submit, bool forget) {
        if (queue->n_writes == queue->n_writes_allocated) {
                queue->n_writes_allocated = 2 * queue->n_writes_allocated + 16;
                queue->writes = reallocarray(queue->writes, queue->n_writes_allocated, sizeof(Write));
                if (!queue->writes)
                        abort();
        }
        queue->writes[queue->n_writes++] = (Write){
                .task = task_index(sim, task),
                .record = task->memory,
                .submit = submit,
                .forget = forget,
        };
        if (submit && sim->defect == DEFECT_STORE_LATE)
                send_submission(sim, queue, task);
        if (queue->flushing)
                return;
        queue->flushing = true;
        Queue **data = sim_allocate(sizeof(Queue *));
        *data = queue;
        usec_t usec = sim->defect == DEFECT_STORE_LATE ? 5 * USEC_PER_SEC : DISK_USEC_MAX;
        sim_at(sim, sim->now_usec + sim_below(sim, usec), &queue->host, flush, data);
}

/* ── actions ── */

static uint32_t attempt_new(Sim *sim, const Queue *queue, const Task *task, size_t runner) {
        if (sim->n_attempts == sim->n_attempts_allocated) {
                /* Charges are not moved: nothing points at them. */
                sim->n_attempts_allocated = 2 * sim->n_attempts_allocated + 256;
                sim->attempts = reallocarray(sim->attempts, sim->n_attempts_allocated, sizeof(Attempt));
                if (!sim->attempts)
                        abort();
        }
        sim->attempts[sim->n_attempts] = (Attempt){
                .task = task_index(sim, task),
                .queue = queue->index,
                .runner = runner,
        };
        return (uint32_t) sim->n_attempts++;
}

static void take_place(Sim *sim, Queue *queue, Task *task) {
        size_t runner = worker_index(queue, task->scheduled->worker);
        task->memory.worker = runner;
        task->memory.attempt = attempt_new(sim, queue, task, runner);
        task->memory.accepted = false;
        memcpy(task->memory.instance, task->scheduled->instance, sizeof(task->memory.instance));
        sim_log(sim,
                "%s: %s goes to %s as attempt %" PRIu32,
                queue->host.name,
                task->id,
                sim->runners[runner].host.name,
                task->memory.attempt);
        store(sim, queue, task, true, false);
}

static void take_resubmit(Sim *sim, Queue *queue, Task *task) {
        if (sim->defect == DEFECT_FRESH_ID) {
                task->memory.attempt = attempt_new(sim, queue, task, task->memory.worker);
                store(sim, queue, task, true, false);
                return;
        }
        send_submission(sim, queue, task);
}

static void take_requeue(Sim *sim, Queue *queue, Task *task) {
        const ScheduledTask *scheduled = task->scheduled;
        sim_log(sim, "%s: %s is to go again for %d", queue->host.name, task->id, (int) scheduled->reason);
        task->memory.attempt = NO_ATTEMPT;
        task->memory.reason = scheduled->reason;
        task->memory.n_retries = scheduled->n_retries;
        task->memory.n_losses = scheduled->n_losses;
        task->memory.backoff_until_usec = scheduled->state == SCHEDULED_BACKOFF ?
                        scheduled->deadline.when_usec - queue->host.clock_offset_usec :
                        0;
        task->watching = false;
        store(sim, queue, task, false, scheduled->reason == REASON_RETRY);
}

static void take_finish(Sim *sim, Queue *queue, Task *task) {
        sim_log(sim, "%s: %s is over for %d", queue->host.name, task->id, (int) task->scheduled->reason);
        task->memory.finished = true;
        task->memory.reason = task->scheduled->reason;
        task->memory.attempt = NO_ATTEMPT;
        task->watching = false;
        store(sim, queue, task, false, task->scheduled->reason == REASON_RESULT);
        scheduler_remove_task(queue->scheduler, task->scheduled);
        task->scheduled = NULL;
}

static void take_call(Sim *sim, Queue *queue, const SchedulerAction *action) {
        static const RpcType types[] = {
                [WORKER_CALL_PROBE] = RPC_PROBE,
                [WORKER_CALL_ACQUIRE] = RPC_ACQUIRE,
                [WORKER_CALL_RENEW] = RPC_RENEW,
                [WORKER_CALL_RELEASE] = RPC_RELEASE,
        };
        Rpc *rpc = rpc_new(sim, queue, worker_index(queue, action->worker), types[action->call]);
        memcpy(rpc->lease_id, action->worker->worker.lease_id, sizeof(rpc->lease_id));
        rpc_send(sim, rpc);
}

static void take_actions(Sim *sim, Queue *queue) {
        SchedulerAction action;
        while (scheduler_next_action(queue->scheduler, &action)) {
                Task *task = action.task ? task_of(action.task) : NULL;
                switch (action.type) {
                case ACTION_REQUEUE:
                        take_requeue(sim, queue, task);
                        break;
                case ACTION_PLACE:
                        take_place(sim, queue, task);
                        break;
                case ACTION_RESUBMIT:
                        take_resubmit(sim, queue, task);
                        break;
                case ACTION_STOP:
                        send_about(sim,
                                   queue,
                                   RPC_STOP,
                                   task->memory.worker,
                                   task_index(sim, task),
                                   task->memory.attempt);
                        break;
                case ACTION_FINISH:
                        take_finish(sim, queue, task);
                        break;
                case ACTION_CALL:
                        take_call(sim, queue, &action);
                        break;
                }
        }
}

/* ── what is asked beside the scheduler ── */

typedef struct Watch {
        Queue *queue;
        size_t task;
        uint32_t attempt;
} Watch;

static void watch_soon(Sim *sim, Queue *queue, const Task *task, usec_t after_usec);

static void watch_now(Sim *sim, void *data) {
        const Watch *watch = data;
        Task *task = &sim->tasks[watch->task];
        if (!task->scheduled || task->memory.attempt != watch->attempt || !task->watching)
                return;
        if (watch->queue->views[task->memory.worker].connected)
                send_about(sim, watch->queue, RPC_GET, task->memory.worker, watch->task, watch->attempt);
        else
                watch_soon(sim, watch->queue, task, POLL_USEC);
}

static void watch_soon(Sim *sim, Queue *queue, const Task *task, usec_t after_usec) {
        Watch *watch = sim_allocate(sizeof(*watch));
        *watch = (Watch){ .queue = queue, .task = task_index(sim, task), .attempt = task->memory.attempt };
        sim_at(sim,
               sim->now_usec + sim_between(sim, after_usec / 2, after_usec),
               &queue->host,
               watch_now,
               watch);
}

static void watch_begin(Sim *sim, Queue *queue, Task *task) {
        if (task->watching)
                return;
        task->watching = true;
        watch_soon(sim, queue, task, POLL_USEC);
}

static void look_at_workers(Sim *sim, Queue *queue) {
        for (size_t i = 0; i < sim->n_runners; i++) {
                WorkerView *view = &queue->views[i];
                const Worker *worker = &view->scheduled->worker;
                bool connected = worker->heard && !worker->silent;
                if (connected && (!view->connected || !streq(view->instance, worker->report.instance)))
                        view->list_due = sim->defect != DEFECT_NO_LISTING;
                view->connected = connected;
                memcpy(view->instance, worker->report.instance, sizeof(view->instance));
                if (!view->list_due || view->listing || !connected)
                        continue;
                view->list_due = false;
                view->listing = true;
                rpc_send(sim, rpc_new(sim, queue, i, RPC_LIST));
        }
}

/* ── answers ── */

static bool is_present(const Task *task, const Answer *answer) {
        return task->scheduled && task->memory.attempt == answer->rpc->attempt;
}

static SubmitOutcome outcome_of(const Sim *sim, const Answer *answer) {
        switch (answer->status) {
        case 200:
        case 202:
                return SUBMIT_ACCEPTED;
        case 409:
                return SUBMIT_FULL;
        case 422:
                return SUBMIT_INVALID;
        case 423:
                return SUBMIT_NO_LEASE;
        case 500:
                return sim->defect == DEFECT_STRANGE_IS_REFUSED ? SUBMIT_BUSY : SUBMIT_STRANGE;
        case 503:
                return SUBMIT_BUSY;
        default:
                return answer->rpc->unsent || sim->defect == DEFECT_UNKNOWN_IS_REFUSED ? SUBMIT_UNSENT :
                                                                                         SUBMIT_UNKNOWN;
        }
}

static void submission_answered(Sim *sim, Queue *queue, ScheduledWorker *worker, const Answer *answer) {
        Task *task = &sim->tasks[answer->rpc->task];
        usec_t now_usec = queue_clock(sim, queue);
        SubmitOutcome outcome = outcome_of(sim, answer);
        if (outcome == SUBMIT_FULL) {
                sim->n_refusals++;
                WorkerReport report = answer->report; /* a problem does not say whose it is */
                *report.instance = 0;
                scheduler_worker_reported(queue->scheduler, worker, &report, now_usec);
        }
        scheduler_submit_done(queue->scheduler, task->scheduled, outcome, now_usec);
        if (outcome == SUBMIT_STRANGE)
                queue->views[answer->rpc->runner].list_due = true;
        if (task->scheduled->state != SCHEDULED_RUNNING)
                return;
        task->memory.accepted = true;
        store(sim, queue, task, false, false);
        watch_begin(sim, queue, task);
}

static void attempt_shown(Sim *sim, Queue *queue, const Answer *answer) {
        Task *task = &sim->tasks[answer->rpc->task];
        if (!is_present(task, answer) || !task->watching)
                return;
        if (answer->status == 404 && task->scheduled->state == SCHEDULED_RUNNING)
                queue->views[answer->rpc->runner].list_due = true;
        bool may_end = task->scheduled->state == SCHEDULED_RUNNING ||
                        task->scheduled->state == SCHEDULED_UNCERTAIN;
        if (answer->status == 200 && answer->done && may_end)
                scheduler_attempt_ended(
                                queue->scheduler, task->scheduled, answer->end, queue_clock(sim, queue));
        else
                watch_soon(sim, queue, task, POLL_USEC);
        /* Only what was seen to be live is stopped once more: what has ended, a second DELETE would forget.
         */
        if (answer->status == 200 && !answer->done && task->scheduled->stop_requested)
                send_about(sim,
                           queue,
                           RPC_STOP,
                           task->memory.worker,
                           answer->rpc->task,
                           answer->rpc->attempt);
}

static void listed(Sim *sim, Queue *queue, ScheduledWorker *worker, const Answer *answer) {
        WorkerView *view = &queue->views[answer->rpc->runner];
        view->listing = false;
        if (answer->status == 0) {
                view->list_due = true;
                scheduler_worker_suspect(worker, queue_clock(sim, queue));
                return;
        }
        scheduler_listing_begin(worker);
        for (size_t i = 0; i < answer->n_listed; i++) {
                uint32_t attempt = answer->listed[i];
                Task *task = &sim->tasks[sim->attempts[attempt].task];
                if (task->scheduled && task->memory.attempt == attempt && task->scheduled->worker == worker) {
                        scheduler_listing_has(queue->scheduler, task->scheduled, queue_clock(sim, queue));
                        if (task->scheduled->state == SCHEDULED_RUNNING)
                                watch_begin(sim, queue, task);
                } else if (answer->listed_done[i])
                        forget_later(sim, queue, answer->rpc->runner, task_index(sim, task), attempt);
                else
                        send_about(sim, queue, RPC_STOP, answer->rpc->runner, task_index(sim, task), attempt);
        }
        scheduler_listing_finish(queue->scheduler, worker, answer->rpc->sent_usec, queue_clock(sim, queue));
}

static void call_answered(Sim *sim, Queue *queue, ScheduledWorker *worker, const Answer *answer) {
        Scheduler *scheduler = queue->scheduler;
        RpcType type = answer->rpc->type;
        usec_t now_usec = queue_clock(sim, queue);
        if (answer->status == 0) {
                scheduler_call_failed(scheduler, worker, now_usec);
        } else if (type == RPC_PROBE) {
                scheduler_call_answered(scheduler, worker, now_usec);
                scheduler_worker_reported(scheduler, worker, &answer->report, now_usec);
        } else if (type == RPC_RELEASE) {
                scheduler_call_answered(scheduler, worker, now_usec);
        } else if (answer->status >= 400) {
                scheduler_call_refused(scheduler, worker, answer->holder, now_usec);
        } else {
                const char *lease_id = type == RPC_RENEW ? answer->rpc->lease_id : answer->lease_id;
                scheduler_call_granted(scheduler, worker, lease_id, sim->config.lease_ttl_usec, now_usec);
        }
}

/* As if from its stream of events: it says who it is and what it has free, in no order with other answers. */
static void take_event(Sim *sim, Queue *queue, ScheduledWorker *worker, const Answer *answer) {
        if (answer->status == 0 || !sim_chance(sim, 0.5))
                return;
        if (sim->defect == DEFECT_ANY_REPORT)
                worker->worker.probed = true;
        scheduler_worker_reported(queue->scheduler, worker, &answer->report, queue_clock(sim, queue));
}

void queue_answer(Sim *sim, const Answer *answer) {
        Queue *queue = &sim->queues[answer->rpc->queue];
        ScheduledWorker *worker = queue->views[answer->rpc->runner].scheduled;
        switch (answer->rpc->type) {
        case RPC_SUBMIT:
                submission_answered(sim, queue, worker, answer);
                break;
        case RPC_GET:
                take_event(sim, queue, worker, answer);
                settle(sim, queue);
                attempt_shown(sim, queue, answer);
                break;
        case RPC_STOP:
        case RPC_DELETE: /* whether it helped is seen by looking at the attempt */
                break;
        case RPC_LIST:
                listed(sim, queue, worker, answer);
                break;
        case RPC_PROBE:
        case RPC_ACQUIRE:
        case RPC_RENEW:
        case RPC_RELEASE:
                call_answered(sim, queue, worker, answer);
                break;
        }
        settle(sim, queue);
}

/* ── time, start and end ── */

typedef struct Timer {
        Queue *queue;
        uint64_t number;
} Timer;

static void timer_fires(Sim *sim, void *data) {
        const Timer *timer = data;
        if (timer->queue->timer == timer->number)
                settle(sim, timer->queue);
}

static void plant_defects(const Sim *sim, const Queue *queue) {
        for (size_t i = 0; i < sim->n_runners; i++) {
                Worker *worker = &queue->views[i].scheduled->worker;
                if (sim->defect == DEFECT_NO_LOST_BOUND)
                        worker->lease_maybe_usec = 0;
                if (sim->defect == DEFECT_ANY_REPORT)
                        worker->verify = worker->lease_new = false;
        }
}

/* After whatever happened. */
static void settle(Sim *sim, Queue *queue) {
        plant_defects(sim, queue);
        scheduler_run(queue->scheduler, queue_clock(sim, queue));
        take_actions(sim, queue);
        look_at_workers(sim, queue);
        usec_t deadline_usec = scheduler_deadline(queue->scheduler, queue_clock(sim, queue));
        if (deadline_usec == USEC_INFINITY)
                return;
        Timer *timer = sim_allocate(sizeof(*timer));
        *timer = (Timer){ .queue = queue, .number = ++queue->timer };
        sim_at(sim,
               usec_subtract(deadline_usec, queue->host.clock_offset_usec),
               &queue->host,
               timer_fires,
               timer);
}

static void add_task(Sim *sim, Queue *queue, Task *task) {
        ScheduledTaskOptions options = {
                .task_id = task->id,
                .resources = task->want,
                .sequence = task_index(sim, task) + 1,
                .priority = task->priority,
                .retries_max = task->retries_max,
                .retry_backoff_usec = 2 * USEC_PER_SEC,
                .retry_on_lost = task->retry_on_lost,
        };
        if (scheduler_add_task(queue->scheduler, &options, queue_clock(sim, queue), &task->scheduled) < 0)
                abort();
        task->scheduled->userdata = task;
}

static void restore_task(Sim *sim, Queue *queue, Task *task) {
        task->memory = task->disk;
        task->watching = false;
        if (task->disk.finished)
                return;
        add_task(sim, queue, task);
        task->scheduled->n_retries = task->disk.n_retries;
        task->scheduled->n_losses = task->disk.n_losses;
        usec_t now_usec = queue_clock(sim, queue);
        if (task->disk.attempt != NO_ATTEMPT)
                scheduler_restore_attempt(
                                queue->scheduler,
                                task->scheduled,
                                queue->views[task->disk.worker].scheduled,
                                task->disk.instance,
                                task->disk.accepted,
                                now_usec);
        else if (task->disk.backoff_until_usec > sim->now_usec)
                scheduler_restore_backoff(
                                queue->scheduler,
                                task->scheduled,
                                task->disk.backoff_until_usec + queue->host.clock_offset_usec);
        if (task->disk.stop_requested)
                scheduler_stop_task(queue->scheduler, task->scheduled);
}

void queue_start(Sim *sim, Queue *queue) {
        sim_log(sim, "%s starts", queue->host.name);
        queue->host.up = true;
        queue->host.life++;
        queue->flushing = false;
        queue->n_writes = 0;
        if (scheduler_new(&sim->config, &queue->scheduler) < 0)
                abort();
        usec_t now_usec = queue_clock(sim, queue);
        for (size_t i = 0; i < sim->n_runners; i++) {
                WorkerView *view = &queue->views[i];
                *view = (WorkerView){ .permitted = view->permitted };
                if (scheduler_add_worker(
                                    queue->scheduler, sim->runners[i].host.name, now_usec, &view->scheduled) <
                    0)
                        abort();
                scheduler_set_permitted(view->scheduled, view->permitted, now_usec);
        }
        for (size_t i = 0; i < sim->n_tasks; i++)
                if (sim->tasks[i].queue == queue->index && sim->tasks[i].submitted)
                        restore_task(sim, queue, &sim->tasks[i]);
        settle(sim, queue);
}

void queue_crash(Sim *sim, Queue *queue) {
        if (!queue->host.up)
                return;
        sim_log(sim, "%s dies", queue->host.name);
        queue->host.up = false;
        queue->scheduler = scheduler_free(queue->scheduler);
        for (size_t i = 0; i < sim->n_tasks; i++)
                if (sim->tasks[i].queue == queue->index)
                        sim->tasks[i].scheduled = NULL;
}

/* It is on disk when the client hears of it. */
void queue_take_task(Sim *sim, size_t i) {
        Task *task = &sim->tasks[i];
        Queue *queue = &sim->queues[task->queue];
        task->submitted = true;
        task->memory = task->disk = (Record){ .attempt = NO_ATTEMPT };
        add_task(sim, queue, task);
        settle(sim, queue);
}

void queue_stop_task(Sim *sim, size_t i) {
        Task *task = &sim->tasks[i];
        Queue *queue = &sim->queues[task->queue];
        if (!task->scheduled)
                return;
        sim_log(sim, "%s: %s is to be stopped", queue->host.name, task->id);
        task->memory.stop_requested = task->disk.stop_requested = true;
        for (size_t k = 0; k < queue->n_writes; k++)
                if (queue->writes[k].task == i)
                        queue->writes[k].record.stop_requested = true;
        scheduler_stop_task(queue->scheduler, task->scheduled);
        settle(sim, queue);
}

void queue_set_permitted(Sim *sim, Queue *queue, size_t runner, bool permitted) {
        queue->views[runner].permitted = permitted;
        if (!queue->host.up)
                return;
        sim_log(sim,
                "%s %s use %s",
                queue->host.name,
                permitted ? "may" : "may not",
                sim->runners[runner].host.name);
        scheduler_set_permitted(queue->views[runner].scheduled, permitted, queue_clock(sim, queue));
        settle(sim, queue);
}
