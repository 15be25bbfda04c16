/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/scheduler.h"

#include <assert.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "core/scheduling/scheduler-internal.h"
#include "core/text/stable-hash.h"

int scheduler_new(const SchedulerConfig *config, Scheduler **ret) {
        Scheduler *scheduler = calloc(1, sizeof(*scheduler));
        if (!scheduler)
                return -ENOMEM;
        scheduler->config = *config;
        *ret = scheduler;
        return 0;
}

static void shared_unref(SharedResources *shared) {
        if (shared && --shared->n_refs == 0)
                free(shared);
}

static size_t shared_place(const Resources *want) {
        uint64_t hash = stable_hash_u64(want->cores_micro) ^ stable_hash_u64(want->memory_mb + 1);
        for (size_t i = 0; i < want->n_named; i++)
                hash = stable_hash_u64(hash + stable_hash(want->named[i].name) + want->named[i].amount);
        return hash % SHARED_RESOURCES_KEPT;
}

static Resources *share_resources(Scheduler *scheduler, const Resources *want) {
        SharedResources **kept = &scheduler->shared[shared_place(want)];
        if (!*kept || !resources_equal(&(*kept)->resources, want)) {
                SharedResources *shared = malloc(sizeof(*shared));
                if (!shared)
                        return NULL;
                *shared = (SharedResources) { .resources = *want, .n_refs = 1 };
                shared_unref(*kept);
                *kept = shared;
        }
        (*kept)->n_refs++;
        return &(*kept)->resources;
}

static void task_free(ScheduledTask *task) {
        shared_unref((SharedResources *) task->want);
        free(task);
}

Scheduler *scheduler_free(Scheduler *scheduler) {
        if (!scheduler)
                return NULL;
        waiting_list_done(&scheduler->waiting);
        deadline_heap_done(&scheduler->deadlines);
        forget_list_done(&scheduler->forget);
        forget_list_done(&scheduler->strays);
        while (scheduler->tasks) {
                ScheduledTask *task = scheduler->tasks;
                scheduler->tasks = task->next;
                task_free(task);
        }
        for (size_t i = 0; i < SHARED_RESOURCES_KEPT; i++)
                shared_unref(scheduler->shared[i]);
        worker_index_done(&scheduler->index);
        deadline_heap_done(&scheduler->dues);
        for (size_t i = 0; i < scheduler->n_workers; i++)
                free(scheduler->workers[i]);
        free(scheduler->workers);
        free(scheduler);
        return NULL;
}

int scheduler_add_worker(Scheduler *scheduler, const char *id, usec_t now_usec, ScheduledWorker **ret) {
        if (strlen(id) > WORKER_ID_MAX)
                return -ENAMETOOLONG;
        ScheduledWorker **workers = reallocarray(
                        scheduler->workers, scheduler->n_workers + 1, sizeof(ScheduledWorker *));
        if (!workers)
                return -ENOMEM;
        scheduler->workers = workers;
        ScheduledWorker *worker = calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;
        (void) strncpy(worker->worker.id, id, WORKER_ID_MAX); /* the rest is zero */
        worker->worker.id_hash = stable_hash(id);
        worker->worker.last_answer_usec = now_usec;
        /* An earlier run of this queue may have left a lease there under which an attempt still runs, and a
         * renewal on its way. */
        worker->worker.lease_maybe_usec = usec_add(now_usec, 2 * scheduler->config.lease_ttl_usec);
        worker->worker.late_call_usec = usec_add(
                        now_usec, SCHEDULER_IN_FLIGHT_USEC + scheduler->config.lease_ttl_usec);
        worker->worker.n_late_calls = 1;
        worker->worker.next_call_usec = now_usec;
        int r = touch_add_worker(scheduler, worker);
        if (r < 0) {
                free(worker);
                return r;
        }
        workers[scheduler->n_workers++] = worker;
        *ret = worker;
        return 0;
}

void scheduler_remove_worker(Scheduler *scheduler, ScheduledWorker *worker) {
        scheduler_assert_idle(scheduler);
        assert(scheduler_worker_has_left(worker));

        size_t i = 0;
        while (scheduler->workers[i] != worker)
                i++;
        scheduler->workers[i] = scheduler->workers[--scheduler->n_workers];
        for (ScheduledWorker **place = &scheduler->reserved; *place; place = &(*place)->next_reserved)
                if (*place == worker) {
                        *place = worker->next_reserved;
                        break;
                }
        workers_forget_call(scheduler, worker);
        touch_remove_worker(worker);
        forget_list_drop(&scheduler->forget, worker);
        forget_list_drop(&scheduler->strays, worker);
        free(worker);
}

size_t scheduler_n_workers(const Scheduler *scheduler) {
        return scheduler->n_workers;
}

ScheduledWorker *scheduler_worker(const Scheduler *scheduler, size_t i) {
        assert(i < scheduler->n_workers);
        return scheduler->workers[i];
}

static int task_new(Scheduler *scheduler, const ScheduledTaskOptions *options, ScheduledTask **ret) {
        ScheduledTask *task = calloc(1, sizeof(*task));
        Resources *want = task ? share_resources(scheduler, &options->resources) : NULL;
        if (!want) {
                free(task);
                return -ENOMEM;
        }
        *task = (ScheduledTask) {
                .sequence = options->sequence,
                .id_hash = stable_hash(options->task_id),
                .priority = options->priority,
                .want = want,
                .retries_max = options->retries_max,
                .retry_backoff_usec = options->retry_backoff_usec,
                .retry_on_lost = options->retry_on_lost,
        };
        *ret = task;
        return 0;
}

int scheduler_add_task(
                Scheduler *scheduler,
                const ScheduledTaskOptions *options,
                usec_t now_usec,
                ScheduledTask **ret) {
        int r = deadline_heap_reserve(&scheduler->deadlines, scheduler->n_tasks + 1);
        if (r < 0)
                return r;
        ScheduledTask *task;
        r = task_new(scheduler, options, &task);
        if (r < 0)
                return r;
        r = waiting_list_add(
                        &scheduler->waiting,
                        &task->waiting,
                        task->want,
                        task->priority,
                        task->sequence,
                        now_usec);
        if (r < 0) {
                task_free(task);
                return r;
        }
        DL_PREPEND2(scheduler->tasks, task, previous, next);
        scheduler->n_tasks++;
        *ret = task;
        return 0;
}

void scheduler_restore_backoff(Scheduler *scheduler, ScheduledTask *task, usec_t rest_usec, usec_t now_usec) {
        assert(task->state == SCHEDULED_WAITING);
        waiting_list_remove(&scheduler->waiting, &task->waiting);
        task->state = SCHEDULED_BACKOFF;
        usec_t whole_usec = scheduler_backoff_usec(task);
        deadline_set(&scheduler->deadlines,
                     &task->deadline,
                     usec_add(now_usec, rest_usec < whole_usec ? rest_usec : whole_usec));
}

void scheduler_hold_task(Scheduler *scheduler, ScheduledTask *task) {
        assert(task->state == SCHEDULED_WAITING);
        waiting_list_remove(&scheduler->waiting, &task->waiting);
        task->state = SCHEDULED_HELD;
        scheduler->n_held++;
}

void scheduler_release_task(Scheduler *scheduler, ScheduledTask *task, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        assert(task->state == SCHEDULED_HELD);
        scheduler->n_held--;
        task_wait(scheduler, task, now_usec, now_usec);
}

void scheduler_remove_task(Scheduler *scheduler, ScheduledTask *task) {
        assert(task->state == SCHEDULED_ENDED);
        assert(!task->worker);
        assert(!task->active);

        DL_DELETE2(scheduler->tasks, task, previous, next);
        scheduler->n_tasks--;
        task_free(task);
}

/* It was never sent, or is not at the moment. */
static void task_end(Scheduler *scheduler, ScheduledTask *task, ScheduledReason reason) {
        waiting_list_remove(&scheduler->waiting, &task->waiting);
        deadline_clear(&scheduler->deadlines, &task->deadline);
        if (task->state == SCHEDULED_HELD)
                scheduler->n_held--;
        task->state = SCHEDULED_ENDED;
        task->reason = reason;
        scheduler_act(scheduler, task, ACTION_FINISH);
}

void scheduler_fail_task(Scheduler *scheduler, ScheduledTask *task) {
        scheduler_assert_idle(scheduler);
        assert(task->state == SCHEDULED_HELD);
        task_end(scheduler, task, REASON_DEPENDENCY);
}

void scheduler_stop_task(Scheduler *scheduler, ScheduledTask *task) {
        scheduler_assert_idle(scheduler);
        if (task->stop_requested || task->state == SCHEDULED_ENDED)
                return;
        task->stop_requested = true;
        switch (task->state) {
        case SCHEDULED_WAITING:
        case SCHEDULED_HELD:
        case SCHEDULED_BACKOFF:
                task_end(scheduler, task, REASON_CANCELED);
                break;
        case SCHEDULED_RUNNING:
                scheduler_act(scheduler, task, ACTION_STOP);
                break;
        case SCHEDULED_SENDING: /* when it is known to have arrived */
        case SCHEDULED_UNCERTAIN:
        case SCHEDULED_ENDED:
                break;
        }
}

void scheduler_act(Scheduler *scheduler, ScheduledTask *task, SchedulerActionType type) {
        task->actions |= 1U << type;
        if (task->active)
                return;
        task->active = true;
        task->next_active = NULL;
        *(scheduler->last_active ? &scheduler->last_active->next_active : &scheduler->first_active) = task;
        scheduler->last_active = task;
}

/* In the order of the enum, which is the order in which a task may come by several at once. */
static bool task_next_action(Scheduler *scheduler, SchedulerAction *ret) {
        ScheduledTask *task = scheduler->first_active;
        if (!task)
                return false;
        SchedulerActionType type = (SchedulerActionType) __builtin_ctz(task->actions);
        task->actions &= task->actions - 1;
        if (task->actions == 0) {
                scheduler->first_active = task->next_active;
                if (!scheduler->first_active)
                        scheduler->last_active = NULL;
                task->active = false;
        }
        bool has_worker = type != ACTION_REQUEUE && type != ACTION_FINISH;
        *ret = (SchedulerAction) { .type = type, .task = task, .worker = has_worker ? task->worker : NULL };
        return true;
}

/* What workers are to stop or to forget. */
static bool forget_next_action(Scheduler *scheduler, SchedulerAction *ret) {
        const char *attempt_id;
        void *worker;
        bool stop = forget_list_take(&scheduler->strays, scheduler->run_usec, &attempt_id, &worker);
        if (!stop && !forget_list_take(&scheduler->forget, scheduler->run_usec, &attempt_id, &worker))
                return false;
        *ret = (SchedulerAction) {
                .type = stop ? ACTION_STOP_STRAY : ACTION_FORGET,
                .worker = worker,
                .attempt_id = attempt_id,
        };
        return true;
}

bool scheduler_next_action(Scheduler *scheduler, SchedulerAction *ret) {
        scheduler->acting = task_next_action(scheduler, ret) || workers_next_call(scheduler, ret) ||
                        forget_next_action(scheduler, ret);
        return scheduler->acting;
}

void scheduler_assert_idle(const Scheduler *scheduler) {
        assert(!scheduler->acting);
}

static ScheduledTask *task_of_deadline(Deadline *deadline) {
        return container_of(deadline, ScheduledTask, deadline);
}

static void tasks_tick(Scheduler *scheduler, usec_t now_usec) {
        for (Deadline *deadline;
             (deadline = deadline_first(&scheduler->deadlines)) && deadline->when_usec <= now_usec;) {
                ScheduledTask *task = task_of_deadline(deadline);
                deadline_clear(&scheduler->deadlines, deadline);
                if (task->state == SCHEDULED_BACKOFF)
                        task_wait(scheduler, task, now_usec, now_usec);
                else
                        attempt_resubmit(scheduler, task, now_usec);
        }
}

void scheduler_run(Scheduler *scheduler, usec_t now_usec) {
        scheduler_assert_idle(scheduler);
        scheduler->acting = true;
        scheduler->run_usec = now_usec;
        workers_tick(scheduler, now_usec);
        tasks_tick(scheduler, now_usec);
        scheduler_place(scheduler, now_usec);
}

usec_t scheduler_deadline(Scheduler *scheduler, usec_t now_usec) {
        if (scheduler->more_to_place)
                return now_usec;
        touch_refresh(scheduler, now_usec);
        const Deadline *due = deadline_first(&scheduler->dues), *task = deadline_first(&scheduler->deadlines);
        const usec_t moments[] = {
                due ? due->when_usec : USEC_INFINITY,
                task ? task->when_usec : USEC_INFINITY,
                forget_list_due(&scheduler->forget),
                forget_list_due(&scheduler->strays),
        };
        usec_t first_usec = USEC_INFINITY;
        for (size_t i = 0; i < sizeof(moments) / sizeof(*moments); i++)
                if (moments[i] < first_usec)
                        first_usec = moments[i];
        return first_usec;
}

static void check_worker_state(const Worker *worker) {
        assert(worker->identity < _WORKER_IDENTITY_MAX);
        assert(worker->call_phase < _WORKER_CALL_PHASE_MAX);
        assert((worker->identity == WORKER_UNKNOWN) == (worker->n_reports == 0));
        /* Only who is known is asked for a lease, and who grants one is asked who it is. */
        assert(worker->identity != WORKER_UNKNOWN || !*worker->lease_id);
        assert(worker->identity != WORKER_KNOWN || worker->n_calls > worker->doubt_call);
        assert(worker->doubt_call <= worker->n_calls);
        assert(worker->n_calls > 0 || worker->call_phase == WORKER_CALL_IDLE);
        assert(!*worker->lease_id || !*worker->lease_holder);
}

static void check_worker(const ScheduledWorker *worker) {
        size_t n_attempts = 0, n_sending = 0;
        for (const ScheduledTask *task = worker->attempts; task; task = task->next_at_worker) {
                assert(task->worker == worker);
                assert(task->state == SCHEDULED_SENDING || task->state == SCHEDULED_UNCERTAIN ||
                       task->state == SCHEDULED_RUNNING);
                n_attempts++;
                n_sending += task->state == SCHEDULED_SENDING;
        }
        assert(n_attempts == worker->worker.n_attempts);
        assert(n_sending == worker->worker.n_sending);
        check_worker_state(&worker->worker);
}

void scheduler_check(Scheduler *scheduler, size_t n_workers) {
        assert(scheduler->waiting.n_entries + scheduler->n_held <= scheduler->n_tasks);
        for (size_t i = 0; i < n_workers && i < scheduler->n_workers; i++) {
                if (scheduler->checked >= scheduler->n_workers)
                        scheduler->checked = 0;
                check_worker(scheduler->workers[scheduler->checked++]);
        }
}

size_t scheduler_n_waiting(const Scheduler *scheduler) {
        return scheduler->waiting.n_entries + scheduler->n_held;
}

size_t scheduler_n_tasks(const Scheduler *scheduler) {
        return scheduler->n_tasks;
}
