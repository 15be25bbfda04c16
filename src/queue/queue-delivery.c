/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the delivery tells becomes events, metrics, answers and log lines. */

#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/random-id.h"
#include "queue/live-output.h"
#include "queue/queue-internal.h"
#include "queue/watched-task.h"

static void on_wake(void *userdata) {
        queue_run_soon(userdata);
}

static void on_log(int priority, int r, const char *text, void *userdata) {
        if (r < 0)
                (void) log_errno(priority, r, "%s", text);
        else
                log_line(priority, "%s", text);
}

static void send_event(const Queue *queue, const Task *task, const char *state, const char *result) {
        json_object *object = json_object_new_object();
        const char *worker_id = task->worker ? delivery_worker_id(task->worker) : NULL;
        if (object &&
            (json_add_string(object, "task_id", task->task_id) < 0 ||
             json_add_string(object, "unit", task->unit) < 0 ||
             json_add_string(object, "worker", worker_id) < 0 ||
             json_add_string(object, "state", state) < 0 || json_add_string(object, "result", result) < 0))
                object = (json_object_put(object), NULL);
        event_stream_send(queue->daemon.events, "task", object);
}

static void on_queued(Task *task, ScheduledReason reason, void *userdata) {
        Queue *queue = userdata;
        if (reason == REASON_NONE)
                metrics_count_submitted(&queue->metrics);
        else
                metrics_count_requeue(&queue->metrics, reason);
        send_event(queue, task, "queued", NULL);
}

static void on_submitted(Task *task, SubmitOutcome outcome, void *userdata) {
        Queue *queue = userdata;
        metrics_count_submission(&queue->metrics, outcome);
}

static void on_running(Task *task, void *userdata) {
        send_event(userdata, task, "running", NULL);
        if (task->userdata)
                live_output_task_started(task->userdata);
}

static bool on_attempt_ended(Task *task, void *userdata) {
        return task->userdata && live_output_attempt_ended(task->userdata);
}

static void on_attempt_gone(Task *task, void *userdata) {
        if (task->userdata)
                live_output_task_gone(task->userdata);
}

static void on_finished(Task *task, const char *state, const char *result, void *userdata) {
        Queue *queue = userdata;
        WatchedTask *watched = task->userdata;
        metrics_count_finished(&queue->metrics, state, result);
        send_event(queue, task, state, result);
        if (!watched)
                return;
        live_output_task_stored(watched);
        waiters_answer_all(&watched->waiters);
}

static void on_freed(Task *task, void *userdata) {
        if (task->userdata)
                live_output_task_gone(task->userdata);
        watched_task_free(TAKE_PTR(task->userdata));
}

static int on_random(char ret[static DELIVERY_ID_SIZE], void *userdata) {
        _cleanup_(freep) char *id = NULL;
        int r = random_id_new(&id);
        if (r < 0)
                return r;
        const char *digits = id + strlen(id) - ATTEMPT_RANDOM;
        memcpy(ret, digits, DELIVERY_ID_SIZE);
        return 0;
}

const DeliveryListener queue_delivery_listener = {
        .wake = on_wake,
        .log = on_log,
        .queued = on_queued,
        .submitted = on_submitted,
        .running = on_running,
        .attempt_ended = on_attempt_ended,
        .attempt_gone = on_attempt_gone,
        .finished = on_finished,
        .freed = on_freed,
        .random = on_random,
};
