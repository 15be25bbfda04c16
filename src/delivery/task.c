/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task that is not finished: what is known of it, and how it is written and shown. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

int task_new(Delivery *delivery, const char *task_id, uint64_t seq, Task **ret) {
        int r = deadline_heap_reserve(&delivery->task_deadlines, delivery_n_tasks(delivery) + 1);
        if (r < 0)
                return r;
        _cleanup_(task_freep) Task *task = calloc(1, sizeof(*task));
        if (!task)
                return -ENOMEM;
        task->delivery = delivery;
        task->seq = seq;
        task->task_id = strdup(task_id);
        if (!task->task_id)
                return -ENOMEM;
        *ret = TAKE_PTR(task);
        return 0;
}

void task_free(Task *task) {
        Delivery *delivery = task->delivery;
        delivery->listener->freed(task, delivery->listener_userdata);
        task_drop_spec(task);
        task_fetch_free(task->work.fetch);
        deadline_clear(&delivery->task_deadlines, &task->work.deadline);
        task_ended_free(task);
        task_set_worker(task, NULL);
        dependency_drop(&delivery->dependencies, &task->work.dependent);
        task_settle(task, false);
        free(task->work.failed_dependency);
        free(task->work.result);
        free(task->task_id);
        free(task->spec_text);
        free(task->unit);
        free(task->note);
        free(task);
}

void task_leave_worker(Task *task) {
        const Delivery *delivery = task->delivery;
        if (task->work.submit_call)
                delivery->worker_port->cancel(TAKE_PTR(task->work.submit_call));
        task->work.fetch = task_fetch_free(task->work.fetch);
        task->work.again = NULL;
        deadline_clear(&task->delivery->task_deadlines, &task->work.deadline);
        (void) task_table_set_attempt(&task->delivery->tasks, task, NULL);
        task_set_worker(task, NULL);
        free(TAKE_PTR(task->unit));
        task_drop_spec(task);
}

Task *delivery_find_task(const Delivery *delivery, const char *task_id) {
        return task_table_find(&delivery->tasks, task_id);
}

size_t delivery_n_tasks(const Delivery *delivery) {
        return task_table_count(&delivery->tasks);
}

void delivery_visit_tasks(
                const Delivery *delivery,
                void (*visit)(Task *task, void *userdata),
                void *userdata) {
        task_table_visit(&delivery->tasks, visit, userdata);
}

bool task_is_running(const Task *task) {
        return task->attempt_id && task->scheduled &&
                        (task->scheduled->state == SCHEDULED_RUNNING ||
                         task->scheduled->state == SCHEDULED_ENDED);
}

int task_schedule(Task *task, const QueueSpec *spec, const Moment *now) {
        int r = scheduler_add_task(
                        task->delivery->scheduler,
                        &(ScheduledTaskOptions) {
                                        .task_id = task->task_id,
                                        .resources = spec->task->resources,
                                        .sequence = task->seq,
                                        .priority = spec->priority,
                                        .retries_max = spec->retry_max,
                                        .retry_backoff_usec = spec->retry_backoff_usec,
                                        .retry_on_lost = spec->retry_on_lost,
                        },
                        now->boottime_usec,
                        &task->scheduled);
        if (r >= 0)
                task->scheduled->userdata = task;
        return r;
}

/* ── its specification ── */

int delivery_parse_spec(const Delivery *delivery, const char *text, const char *task_id, QueueSpec **ret) {
        TaskDefaults defaults = { .resources = delivery->default_resources };
        return queue_spec_parse_stored(text, task_id, &defaults, NULL, ret, NULL);
}

int delivery_parse_submission(
                const Delivery *delivery,
                const char *text,
                const char *task_id,
                QueueSpec **ret,
                char **ret_body) {
        TaskDefaults defaults = { .resources = delivery->default_resources };
        return queue_spec_parse_stored(text, task_id, &defaults, delivery->queue_id, ret, ret_body);
}

int task_keep_spec(Task *task, const char *text) {
        if (strlen(text) > SPEC_KEPT_MAX)
                return 0;
        task->spec_text = strdup(text);
        return task->spec_text ? 0 : -ENOMEM;
}

void task_drop_spec(Task *task) {
        task->work.spec = queue_spec_free(task->work.spec);
        free(TAKE_PTR(task->work.body));
        task->work.earlier = (json_object_put(task->work.earlier), NULL);
        task->work.seen = (json_object_put(task->work.seen), NULL);
}

int task_take_spec(Task *task, const char *text) {
        return task->work.spec ? 0 :
                                 delivery_parse_submission(
                                                 task->delivery,
                                                 text,
                                                 task->task_id,
                                                 &task->work.spec,
                                                 &task->work.body);
}

/* "attempts", those that did not become the task's result. */
static int earlier_attempts(const StoredAttempt *attempts, size_t n, json_object **ret) {
        _cleanup_(json_putp) json_object *list = json_object_new_array();
        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const StoredAttempt *row = &attempts[i];
                json_object *attempt;
                Problem problem = {};
                if (!row->attempt ||
                    (row->state != STORED_ATTEMPT_FINISHED && row->state != STORED_ATTEMPT_LOST))
                        continue;
                int r = json_parse(row->attempt, strlen(row->attempt), &attempt, &problem);
                if (r >= 0)
                        r = json_append(list, attempt);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static void on_read(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        Task *task = userdata;
        TaskStep step = TAKE_PTR(task->work.read_step);
        task->work.reading = false;
        if (r >= 0)
                r = task_take_spec(task, entry->task.spec);
        if (r >= 0 && !task->work.earlier)
                r = earlier_attempts(entry->attempts, entry->n_attempts, &task->work.earlier);
        step(task, r, now);
}

/* What is still on its way to the disk would not be found there. */
static void begin_reading(Task *task, const Moment *now) {
        const Delivery *delivery = task->delivery;
        if (task->work.reading || task_is_writing(task))
                return;
        int r = delivery->store_port->get(
                        delivery->store, task->task_id, &(StoreWanted) { .attempts = true }, on_read, task);
        if (r < 0) {
                TaskStep step = TAKE_PTR(task->work.read_step);
                step(task, r, now);
                return;
        }
        task->work.reading = true;
}

void task_with_spec(Task *task, bool earlier, TaskStep step, const Moment *now) {
        bool known = !earlier || task->attempt_number == 0 || task->work.earlier;
        if (known && !task->work.reading && (task->work.spec || task->spec_text)) {
                task->work.read_step = NULL;
                step(task, task_take_spec(task, task->spec_text), now);
                return;
        }
        task->work.read_step = step;
        begin_reading(task, now);
}

/* ── how it is written ── */

int task_commit(Task *task, StoreBatch *batch, StoreDone done) {
        const Delivery *delivery = task->delivery;
        task_put_ended(task, batch);
        int r = delivery->store_port->commit(delivery->store, batch, done, task);
        if (r >= 0)
                task->work.n_writes_begun++;
        else
                task_ended_written(task, task->work.n_writes_begun + 1, r, NULL);
        return r;
}

bool task_is_writing(const Task *task) {
        return task->work.n_writes_done < task->work.n_writes_begun;
}

void task_written(Task *task, int r, const Moment *now) {
        assert(task_is_writing(task));
        task_ended_written(task, ++task->work.n_writes_done, r, now);
        if (task->work.read_step)
                begin_reading(task, now);
}

StoredTask task_row(const Task *task, StoredState state) {
        const ScheduledTask *scheduled = task->scheduled;
        return (StoredTask) {
                .seq = task->seq,
                .state = state,
                .priority = scheduled->priority,
                .retries = scheduled->n_retries,
                .losses = scheduled->n_losses,
                .stop_requested = scheduled->stop_requested,
                .queue_usec = task->queue_usec,
        };
}

StoredAttempt task_attempt_row(const Task *task, StoredAttemptState state) {
        return (StoredAttempt) {
                .number = task->attempt_number,
                .state = state,
                .worker_id = delivery_worker_id(task->worker),
                .runner_task_id = task->attempt_id,
                .runner_instance = task->scheduled->instance,
                .unanswered = task->scheduled->uncertain_usec > 0,
        };
}

/* ── how it is shown ── */

QueueAttempt task_frame(const Task *task, const QueueSpec *spec) {
        return (QueueAttempt) {
                .task_id = task->task_id,
                .spec = spec,
                .worker = task->worker ? delivery_worker_id(task->worker) : NULL,
                .submit_usec = task->submit_usec,
                .queue_usec = task->queue_usec,
        };
}

int task_describe(
                const Task *task,
                const char *spec_text,
                const StoredAttempt *attempts,
                size_t n_attempts,
                json_object **ret) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *object = NULL, *earlier = NULL;
        int r = delivery_parse_spec(task->delivery, spec_text, task->task_id, &spec);
        if (r < 0)
                return r;
        QueueAttempt frame = task_frame(task, spec);
        if (!task_is_running(task))
                frame.worker = NULL;
        r = queue_attempt_new(&frame, QUEUE_END_LIVE, task->unit, task->note, 0, &object);
        if (r >= 0)
                r = earlier_attempts(attempts, n_attempts, &earlier);
        if (r >= 0)
                r = json_add(object, "attempts", TAKE_PTR(earlier));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}
