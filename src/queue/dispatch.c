/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/dispatch.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-id128.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/task-store.h"
#include "queue/live-output.h"
#include "queue/queue.h"
#include "queue/task-fetch.h"
#include "queue/task-finish.h"

/* What of a task's own id is kept in the ids of its attempts, so that people recognise it at the runner. */
#define ID_KEPT_MAX 100

static Task *action_task(const SchedulerAction *action) {
        return action->task->userdata;
}

static StoredTask stored_task(const Task *task, StoredState state) {
        return (StoredTask){
                .seq = task->seq,
                .state = state,
                .priority = task->scheduled->priority,
                .retries = task->scheduled->n_retries,
                .stop_reason = task->scheduled->stop_requested,
                .queue_usec = task->queue_usec,
        };
}

static int new_attempt_id(const Task *task, char ret[static ATTEMPT_ID_MAX + 1]) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        char text[SD_ID128_STRING_MAX];
        (void) sd_id128_to_string(id, text);
        (void) snprintf(ret, ATTEMPT_ID_MAX + 1, "%.*s.%.16s", ID_KEPT_MAX, task->task_id, text);
        return 0;
}

/* If it was given up while the disk was slow, this is no more about its present attempt. */
static void on_placed(int r, void *userdata) {
        Task *task = userdata;
        if (--task->n_placing > 0 || task->scheduled->state != SCHEDULED_SENDING || task->submit_call)
                return;
        if (r >= 0)
                worker_link_submit(task->scheduled->worker->userdata, task);
        else {
                (void) log_errno(LOG_ERR, r, "Cannot store where task \"%s\" goes", task->task_id);
                scheduler_submit_done(
                                task->queue->scheduler,
                                task->scheduled,
                                SUBMIT_BUSY,
                                usec_now(CLOCK_BOOTTIME));
                queue_run_soon(task->queue);
        }
}

static int place(Queue *queue, Task *task) {
        char attempt_id[ATTEMPT_ID_MAX + 1];
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        int r = new_attempt_id(task, attempt_id);
        if (r >= 0)
                r = task_table_set_attempt(&queue->tasks, task, attempt_id);
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r < 0)
                return r;
        task->worker_id = task->scheduled->worker->worker.id;
        task->finish_seen = false;
        /* A refused attempt never was one: its number is given again. */
        if (task->scheduled->reason != REASON_REFUSED || task->attempt_number == 0)
                task->attempt_number++;
        r = store_batch_put_attempt(
                        batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = task->attempt_number,
                                        .state = STORED_ATTEMPT_SENT,
                                        .worker_id = task->scheduled->worker->worker.id,
                                        .runner_task_id = attempt_id,
                                        .runner_instance = task->scheduled->instance,
                                        .place_usec = usec_now(CLOCK_REALTIME),
                        });
        return r < 0 ? r : task_store_commit(queue->store, TAKE_PTR(batch), on_placed, task);
}

static void dispatch_place(Queue *queue, const SchedulerAction *action) {
        Task *task = action_task(action);
        task->n_placing++;
        int r = place(queue, task);
        if (r < 0)
                on_placed(r, task);
}

/* What is kept of an attempt that did not become the result. */
static json_object *describe_failed_attempt(
                Task *task,
                const SchedulerAction *action,
                const QueueSpec *spec) {
        _cleanup_(json_putp) json_object *object = NULL;
        QueueAttempt frame = task_attempt_frame(task, spec);
        json_object *from_runner = task->fetch ? task_fetch_attempt(task->fetch) : NULL;
        int r;
        if (from_runner && action->task->reason == REASON_RETRY) {
                object = json_object_get(from_runner);
                r = queue_attempt_adopt(object, &frame);
        } else
                r = queue_attempt_new(
                                &frame, QUEUE_END_LOST, task->unit, NULL, usec_now(CLOCK_REALTIME), &object);
        if (r < 0)
                return NULL;
        return TAKE_PTR(object);
}

static int store_requeue(Queue *queue, Task *task, const SchedulerAction *action) {
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *attempt = NULL;
        bool refused = action->task->reason == REASON_REFUSED;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        if (!refused && task_read_spec(task, &spec) >= 0)
                attempt = describe_failed_attempt(task, action, spec);
        r = store_batch_put_attempt(
                        batch,
                        task->seq,
                        &(StoredAttempt){
                                        .number = task->attempt_number,
                                        .state = refused ? STORED_ATTEMPT_REFUSED :
                                                        action->task->reason == REASON_RETRY ?
                                                           STORED_ATTEMPT_FINISHED :
                                                           STORED_ATTEMPT_LOST,
                                        .worker_id = task->worker_id,
                                        .runner_task_id = task->attempt_id,
                                        .runner_instance = action->task->instance,
                                        .finish_usec = usec_now(CLOCK_REALTIME),
                                        .attempt = attempt ?
                                                        json_object_to_json_string_ext(
                                                                        attempt, JSON_C_TO_STRING_PLAIN) :
                                                        NULL,
                        });
        StoredTask row = stored_task(task, STORED_QUEUED);
        if (action->task->state == SCHEDULED_BACKOFF)
                row.not_before_usec = usec_now(CLOCK_REALTIME) +
                                usec_subtract(action->task->deadline.when_usec, usec_now(CLOCK_BOOTTIME));
        if (r >= 0)
                r = store_batch_update_task(batch, &row);
        return r < 0 ? r : task_store_commit(queue->store, TAKE_PTR(batch), NULL, NULL);
}

static void dispatch_requeue(Queue *queue, const SchedulerAction *action) {
        Task *task = action_task(action);
        ScheduledReason reason = action->task->reason;
        if (reason != REASON_REFUSED) {
                task->queue_usec = usec_now(CLOCK_REALTIME);
                log_line(LOG_NOTICE,
                         reason == REASON_RETRY ? "Task \"%s\" failed at worker \"%s\" and is tried again" :
                                                  "Task \"%s\" was lost with worker \"%s\" and waits again",
                         task->task_id,
                         task->worker_id);
        }
        int r = store_requeue(queue, task, action);
        if (r < 0) /* after a restart it is found out again at the worker */
                (void) log_errno(LOG_ERR, r, "Cannot store that task \"%s\" waits again", task->task_id);
        if (reason == REASON_RETRY)
                live_output_attempt_ended(task, queue_find_link(queue, task->worker_id));
        task->submit_call = http_call_free(task->submit_call);
        task->fetch = task_fetch_free(task->fetch);
        (void) task_table_set_attempt(&queue->tasks, task, "");
        task->worker_id = NULL;
        free(TAKE_PTR(task->unit));
        if (reason != REASON_REFUSED) {
                live_output_task_gone(task);
                metrics_count_requeue(&queue->metrics, reason);
                task_send_event(task, "queued", NULL);
        }
}

static void dispatch_finish(Queue *queue, const SchedulerAction *action) {
        Task *task = action_task(action);
        switch (action->task->reason) {
        case REASON_RESULT:
                task_fetch_finish(task->fetch);
                break;
        case REASON_CANCELED:
                task_finish_without_result(task, QUEUE_END_CANCELED);
                break;
        case REASON_INVALID:
                task_finish_without_result(task, QUEUE_END_INVALID);
                break;
        case REASON_LOST:
                task_finish_without_result(task, QUEUE_END_LOST);
                break;
        case REASON_NONE:
        case REASON_RETRY:
        case REASON_REFUSED:
                assert(false);
        }
}

void dispatch_action(Queue *queue, const SchedulerAction *action) {
        WorkerLink *link = action->worker ? action->worker->userdata : NULL;
        switch (action->type) {
        case ACTION_REQUEUE:
                dispatch_requeue(queue, action);
                break;
        case ACTION_PLACE:
                dispatch_place(queue, action);
                break;
        case ACTION_RESUBMIT:
                if (link)
                        worker_link_submit(link, action_task(action));
                else
                        scheduler_submit_done(
                                        queue->scheduler,
                                        action->task,
                                        SUBMIT_UNKNOWN,
                                        usec_now(CLOCK_BOOTTIME));
                break;
        case ACTION_STOP:
                if (link)
                        worker_link_stop(link, action_task(action)->attempt_id);
                break;
        case ACTION_FINISH:
                dispatch_finish(queue, action);
                break;
        case ACTION_CALL:
                if (link)
                        worker_link_call(link, action->call);
                else /* it is not configured any more, and only in the books for what it had */
                        scheduler_call_failed(queue->scheduler, action->worker, usec_now(CLOCK_BOOTTIME));
                break;
        }
}
