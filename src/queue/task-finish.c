/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/task-finish.h"

#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "queue/dispatch.h"
#include "queue/live-output.h"
#include "queue/queue.h"

#define AGAIN_USEC (1 * USEC_PER_SEC)

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Task *task = userdata;
        dispatch_action(task->queue, &(SchedulerAction){ .type = ACTION_FINISH, .task = task->scheduled });
        return 0;
}

void task_finish_later(Task *task) {
        (void) loop_set_timer(
                        task->queue->event,
                        &task->retry_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), AGAIN_USEC),
                        on_again,
                        task,
                        "task-finish");
}

static void tell(Task *task) {
        _cleanup_(json_putp) json_object *result = task_describe(task, OUTPUT_NONE);
        json_object *state = NULL, *name = NULL;
        if (!result)
                return;
        (void) json_object_object_get_ex(result, "state", &state);
        (void) json_object_object_get_ex(result, "result", &name);
        metrics_count_finished(
                        &task->queue->metrics, json_object_get_string(state), json_object_get_string(name));
        task_send_event(task, json_object_get_string(state), json_object_get_string(name));
}

static void on_stored(int r, void *userdata) {
        Task *task = userdata;
        Queue *queue = task->queue;
        if (r < 0) {
                (void) log_errno(LOG_ERR, r, "Cannot store the result of task \"%s\" yet", task->task_id);
                task_finish_later(task);
                return;
        }
        task->is_stored = true;
        tell(task);
        live_output_task_stored(task);
        waiters_answer_all(&task->waiters);
        WorkerLink *link = task->worker_id ? queue_find_link(queue, task->worker_id) : NULL;
        /* Where a submission went without an answer it may still arrive, and must find that it has been run.
         */
        if (link && *task->attempt_id && task->scheduled->uncertain_usec == 0)
                worker_link_forget(link, task->attempt_id);
        scheduler_remove_task(queue->scheduler, task->scheduled);
        task_table_remove(&queue->tasks, task);
        queue_run_soon(queue);
}

static int store(Task *task, json_object *result, StoreBatch *batch) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        _cleanup_(freep) char *text = NULL;
        json_object *state = NULL;
        int r = json_add_u64(result, "attempt_number", task->attempt_number);
        if (r >= 0)
                r = task_add_earlier(task, result);
        if (r >= 0)
                r = json_format(result, &text, NULL);
        if (r < 0)
                return r;
        (void) json_object_object_get_ex(result, "state", &state);
        r = stored_state_from_string(json_object_get_string(state));
        if (r < 0)
                return r;
        r = store_batch_finish_task(owned, task->seq, (StoredState) r, usec_now(CLOCK_REALTIME), text);
        return r < 0 ? r : task_store_commit(task->queue->store, TAKE_PTR(owned), on_stored, task);
}

void task_finish(Task *task, json_object *result, StoreBatch *batch) {
        int r = store(task, result, batch);
        json_object_put(result);
        if (r < 0)
                on_stored(r, task);
}

/* Why a task ended that no runner has a result for. */
static const char *end_note(const Task *task, QueueEnd end) {
        switch (end) {
        case QUEUE_END_CANCELED:
                return "canceled before it was started";
        case QUEUE_END_LOST:
                return task->scheduled->n_losses > SCHEDULER_LOSSES_MAX ?
                                "lost too many workers" :
                                "its worker was lost, or has forgotten it";
        case QUEUE_END_LIVE:
        case QUEUE_END_INVALID:
                break;
        }
        return task->note;
}

void task_finish_without_result(Task *task, QueueEnd end) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(store_batch_freep) StoreBatch *batch = NULL;
        json_object *result = NULL;
        int r = task_read_spec(task, &spec);
        if (r >= 0) {
                QueueAttempt frame = task_attempt_frame(task, spec);
                r = queue_attempt_new(
                                &frame,
                                end,
                                task->unit,
                                end_note(task, end),
                                usec_now(CLOCK_REALTIME),
                                &result);
        }
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r < 0) {
                json_object_put(result);
                on_stored(r, task);
                return;
        }
        task_finish(task, result, TAKE_PTR(batch));
}
