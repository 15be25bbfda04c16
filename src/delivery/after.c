/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task waits for others. In the store each change of what it waits for is one with the end of the other
 * task (store_batch_set_dependencies()); here it follows when that is told to be on disk. */

#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

/* In all, a hundred bytes each. */
#define EDGES_MAX 1000000

/* Taken in one turn: a few milliseconds' work if all of them end a task. */
#define SETTLED_MAX 32

/* Failed, and their results not on disk yet: enough to keep the disk busy, and few enough to leave room for
 * what others write. */
#define FAILING_MAX 256

/* Shown of workers with why a task waits. */
#define WORKERS_SHOWN_MAX 20

static int fail_for(Task *task, const char *id) {
        if (task->work.failed_dependency)
                return 0;
        task->work.failed_dependency = strdup(id);
        return task->work.failed_dependency ? 0 : -ENOMEM;
}

static int wait_for(Task *task, Task *on, const char *id) {
        return dependency_add(&task->delivery->dependencies, &task->work.dependent, &on->awaited, id);
}

int task_set_after(Task *task, char *const *after, const AfterState *states, StoreBatch *batch) {
        _cleanup_(text_list_freep) char **noted = NULL;
        const Delivery *delivery = task->delivery;
        size_t n = text_list_count(after), n_noted = 0;
        if (n == 0)
                return 0;
        if (delivery->dependencies.n_edges + n > EDGES_MAX)
                return -EDQUOT;
        noted = calloc(n + 1, sizeof(char *));
        if (!noted)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Task *on = delivery_find_task(delivery, after[i]);
                bool is_live = on && !on->is_stored;
                if (!is_live && states[i] == AFTER_COMPLETED)
                        continue;
                int r = is_live ? wait_for(task, on, after[i]) : fail_for(task, after[i]);
                if (r < 0)
                        return r;
                noted[n_noted] = strdup(after[i]);
                if (!noted[n_noted++])
                        return -ENOMEM;
        }
        return store_batch_set_dependencies(batch, task->seq, noted);
}

/* Nobody will say any more how one ended that is not live: it is settled at once, and taken in its turn. */
int task_restore_after(Task *task, const char *id, bool failed) {
        DependencyGraph *dependencies = &task->delivery->dependencies;
        Task *on = delivery_find_task(task->delivery, id);
        Awaited *gone = NULL;
        bool is_live = on && !on->is_stored && !failed;
        int r = is_live ? wait_for(task, on, id) :
                          dependency_add(dependencies, &task->work.dependent, &gone, id);
        dependency_settle(dependencies, &gone, false);
        if (r >= 0 && task->scheduled->state == SCHEDULED_WAITING)
                scheduler_hold_task(task->delivery->scheduler, task->scheduled);
        return r;
}

/* The note is what clients read; without memory for it they read the result's name alone. */
static void fail(Task *task) {
        Delivery *delivery = task->delivery;
        const char *id = task->work.failed_dependency;
        dependency_drop(&delivery->dependencies, &task->work.dependent);
        free(TAKE_PTR(task->note));
        (void) text_format(
                        &task->note, "task \"%s\", which this one waited for, has not completed", id ?: "?");
        delivery->n_failing++;
        scheduler_fail_task(delivery->scheduler, task->scheduled);
}

void task_hold_if_after(Task *task) {
        if (!task->work.failed_dependency && !task->work.dependent.edges)
                return;
        scheduler_hold_task(task->delivery->scheduler, task->scheduled);
        if (task->work.failed_dependency)
                fail(task);
}

void task_settle(Task *task, bool completed) {
        dependency_settle(&task->delivery->dependencies, &task->awaited, completed);
}

static Task *task_of_dependent(Dependent *dependent) {
        return container_of(dependent, Task, work.dependent);
}

/* One that is not on disk yet goes on, or fails, when it is. */
static void go_on(Task *task, const char *failed_id, const Moment *now) {
        if (failed_id)
                (void) fail_for(task, failed_id);
        if (!task->scheduled || task->scheduled->state != SCHEDULED_HELD)
                return;
        if (failed_id)
                fail(task);
        else
                scheduler_release_task(task->delivery->scheduler, task->scheduled, now->boottime_usec);
}

void delivery_put_off_settling(Delivery *delivery, bool put_off) {
        if (put_off)
                delivery->n_settling_put_off++;
        else
                delivery->n_settling_put_off--;
        delivery_wake(delivery);
}

bool delivery_settling_is_due(const Delivery *delivery) {
        return delivery->n_settling_put_off == 0 && delivery->n_failing < FAILING_MAX &&
                        dependency_is_due(&delivery->dependencies);
}

void delivery_take_settled(Delivery *delivery, const Moment *now) {
        Dependent *dependent;
        const char *failed_id;
        for (size_t i = 0; i < SETTLED_MAX && delivery_settling_is_due(delivery); i++)
                if (dependency_take(&delivery->dependencies, &dependent, &failed_id) && dependent)
                        go_on(task_of_dependent(dependent), failed_id, now);
        if (delivery_settling_is_due(delivery))
                delivery_wake(delivery);
}

/* ── why it waits ── */

static int add_worker_reason(json_object *workers, const char *id, const char *reason) {
        json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "id", id) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "reason", reason);
        if (r < 0) {
                json_object_put(object);
                return r;
        }
        return json_append(workers, object);
}

static int add_workers(json_object *workers, const Task *task, const Moment *now) {
        const Scheduler *scheduler = task->delivery->scheduler;
        size_t n = scheduler_n_workers(scheduler);
        int r = 0;
        for (size_t i = 0; r >= 0 && i < n && i < WORKERS_SHOWN_MAX; i++) {
                const ScheduledWorker *worker = scheduler_worker(scheduler, i);
                const char *reason = scheduler_worker_refusal(
                                worker, task->scheduled->want, now->boottime_usec);
                r = add_worker_reason(workers, worker->worker.id, reason ?: "has room");
        }
        return r;
}

static int format_reason(const Task *task, const Moment *now, bool *ret_of_workers, char **ret) {
        size_t n = task->work.dependent.n_edges;
        *ret_of_workers = false;
        if (!task->scheduled)
                return text_format(ret, "is being stored");
        if (n > 0 && task->scheduled->state == SCHEDULED_HELD) {
                const char *id = dependency_first_id(&task->work.dependent);
                return n == 1 ? text_format(ret, "waits for task \"%s\" to complete", id) :
                                text_format(ret, "waits for task \"%s\" and %zu more to complete", id, n - 1);
        }
        return text_format(
                        ret,
                        "%s",
                        scheduler_wait_reason(
                                        task->delivery->scheduler,
                                        task->scheduled,
                                        now->boottime_usec,
                                        ret_of_workers));
}

int task_describe_pending(const Task *task, const Moment *now, json_object **ret) {
        _cleanup_(json_putp) json_object *pending = NULL;
        _cleanup_(freep) char *reason = NULL;
        bool of_workers;
        *ret = NULL;
        if (task_is_running(task) || (task->scheduled && task->scheduled->state == SCHEDULED_ENDED))
                return 0;
        int r = format_reason(task, now, &of_workers, &reason);
        pending = json_object_new_object();
        json_object *workers = json_object_new_array();
        if (r >= 0 && !pending)
                r = -ENOMEM;
        if (r >= 0)
                r = json_add_string(pending, "reason", reason);
        if (r >= 0 && of_workers && workers)
                r = add_workers(workers, task, now);
        if (r < 0) {
                json_object_put(workers);
                return r;
        }
        r = json_add(pending, "workers", workers);
        if (r >= 0)
                *ret = TAKE_PTR(pending);
        return r;
}
