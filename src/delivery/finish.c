/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The end of a task: its result goes to disk, then everybody who waits is told, then its worker may forget
 * it, and the queue forgets what it knew of it while it was live. */

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

static void finish_step(Task *task, int r, const Moment *now) {
        task_finish_begin(task, 0, now);
}

void task_finish_later(Task *task, const Moment *now) {
        task_again(task, finish_step, usec_add(now->boottime_usec, AGAIN_USEC));
}

static void finish_failed(Task *task, int r, const Moment *now) {
        delivery_log(task->delivery,
                     PRIORITY_ERROR,
                     r,
                     "Cannot store the result of task \"%s\" yet",
                     task->task_id);
        task_finish_later(task, now);
}

/* Scheduler and table forget it; what its worker still has is forgotten when the scheduler says so. */
static void on_stored(int r, const Moment *now, void *userdata) {
        Task *task = userdata;
        Delivery *delivery = task->delivery;
        task_written(task, r, now);
        if (r < 0) {
                finish_failed(task, r, now);
                return;
        }
        task->is_stored = true;
        task_settle(task, streq(task->work.state_word, "completed"));
        if (task->scheduled->reason == REASON_DEPENDENCY)
                delivery->n_failing--;
        delivery->listener->finished(
                        task, task->work.state_word, task->work.result_word, delivery->listener_userdata);
        if (task->worker) {
                worker_touch(task->worker);
                if (task->scheduled->reason == REASON_RESULT)
                        scheduler_end_stored(
                                        delivery->scheduler,
                                        task->scheduled,
                                        task->worker->scheduled,
                                        task->attempt_id,
                                        now->boottime_usec);
        }
        scheduler_remove_task(delivery->scheduler, task->scheduled);
        task_table_remove(&delivery->tasks, task);
        delivery_wake(delivery);
}

static void store(Task *task, StoreBatch *batch, const Moment *now) {
        int state = stored_state_from_string(task->work.state_word);
        usec_t finish_usec = result_clock_now(task->delivery->result_clock, now->boottime_usec);
        (void) store_batch_finish_task(batch, task->seq, (StoredState) state, finish_usec, task->work.result);
        int r = state < 0 ? (store_batch_free(batch), state) : task_commit(task, batch, on_stored);
        if (r < 0)
                finish_failed(task, r, now);
}

/* Its words outlive RESULT. */
static const char *known_word(json_object *result, const char *key) {
        static const char *const words[] = {
                "completed", "errored",  "killed",      "success",           "exit-code", "signal",
                "core-dump", "oom-kill", "exec-failed", "start-failed",      "timeout",   "stopped",
                "canceled",  "shutdown", "worker-lost", "dependency-failed",
        };
        json_object *value;
        if (!json_object_object_get_ex(result, key, &value))
                return NULL;
        const char *word = json_object_get_string(value);
        for (size_t i = 0; word && i < sizeof(words) / sizeof(*words); i++)
                if (streq(words[i], word))
                        return words[i];
        return NULL;
}

/* RESULT is changed. */
static int format(Task *task, json_object *result) {
        int r = json_add_u64(result, "attempt_number", task->attempt_number);
        json_object *earlier = task->work.earlier ? json_object_get(task->work.earlier) :
                                                    json_object_new_array();
        if (r >= 0)
                r = json_add(result, "attempts", earlier);
        if (r < 0)
                return r;
        task->work.state_word = known_word(result, "state");
        task->work.result_word = known_word(result, "result");
        free(TAKE_PTR(task->work.result));
        r = json_format(result, &task->work.result, NULL);
        return r >= 0 && !task->work.state_word ? -EBADMSG : r;
}

/* The members are shared: what is put in and taken out later changes only the copy. */
static int copy_members(json_object *object, json_object **ret) {
        _cleanup_(json_putp) json_object *copy = json_object_new_object();
        if (!copy)
                return -ENOMEM;
        json_object_object_foreach(object, key, value) {
                if (json_object_object_add(copy, key, json_object_get(value)) < 0) {
                        json_object_put(value);
                        return -ENOMEM;
                }
        }
        *ret = TAKE_PTR(copy);
        return 0;
}

void task_finish(Task *task, json_object *attempt, StoreBatch *batch, const Moment *now) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        _cleanup_(json_putp) json_object *result = NULL;
        QueueAttempt frame = task_frame(task, task->work.spec);
        int r = copy_members(attempt, &result);
        if (r >= 0)
                r = queue_attempt_adopt(result, &frame);
        if (r >= 0)
                r = format(task, result);
        if (r < 0)
                finish_failed(task, r, now);
        else
                store(task, TAKE_PTR(owned), now);
}

static QueueEnd queue_end(const Task *task) {
        switch (task->scheduled->reason) {
        case REASON_CANCELED:
                return QUEUE_END_CANCELED;
        case REASON_INVALID:
                return QUEUE_END_INVALID;
        case REASON_LOST:
                return QUEUE_END_LOST;
        case REASON_DEPENDENCY:
                return QUEUE_END_DEPENDENCY;
        case REASON_NONE:
        case REASON_RESULT:
        case REASON_RETRY:
        case REASON_REFUSED:
                break;
        }
        assert(false);
        return QUEUE_END_LOST;
}

/* Why a task ended that no worker has a result for. */
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
        case QUEUE_END_DEPENDENCY:
                break;
        }
        return task->note;
}

static void finish_without_result(Task *task, const Moment *now) {
        _cleanup_(json_putp) json_object *result = NULL;
        StoreBatch *batch = NULL;
        QueueEnd end = queue_end(task);
        QueueAttempt frame = task_frame(task, task->work.spec);
        int r = queue_attempt_new(&frame, end, task->unit, end_note(task, end), now->realtime_usec, &result);
        if (r >= 0)
                r = format(task, result);
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r < 0)
                finish_failed(task, r, now);
        else
                store(task, batch, now);
}

static void finish_with_spec(Task *task, int r, const Moment *now) {
        if (r < 0)
                finish_failed(task, r, now);
        else if (task->scheduled->reason == REASON_RESULT)
                task_fetch_finish(task->work.fetch, now);
        else
                finish_without_result(task, now);
}

void task_finish_begin(Task *task, int r, const Moment *now) {
        assert(task->scheduled->state == SCHEDULED_ENDED);
        task->work.again = NULL;
        deadline_clear(&task->delivery->task_deadlines, &task->work.deadline);
        if (task->scheduled->reason != REASON_RESULT)
                task->work.fetch = task_fetch_free(task->work.fetch);
        task_with_spec(task, true, finish_with_spec, now);
}
