/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-wait.h"

#include "io/loop.h"
#include "runner/runner.h"

struct TaskWaiter {
        Task *task; /* weak: the task owns its waiters */
        TaskWaiter *previous, *next;
        HttpRequest *request;
        int status;
        OutputMode mode;
        sd_event_source *timeout_source;
};

static void waiter_free(TaskWaiter *waiter) {
        *(waiter->previous ? &waiter->previous->next : &waiter->task->waiters) = waiter->next;
        if (waiter->next)
                waiter->next->previous = waiter->previous;
        event_source_dropp(&waiter->timeout_source);
        free(waiter);
}

static void waiter_answer(TaskWaiter *waiter) {
        HttpRequest *request = waiter->request;
        int status = waiter->status;
        json_object *attempt = task_to_json(waiter->task, waiter->mode);
        waiter_free(waiter);
        http_request_answer_json(request, status, attempt);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        waiter_answer(userdata);
        return 0;
}

static void on_hangup(HttpRequest *request, void *userdata) {
        waiter_free(userdata);
}

void task_wait_add(Task *task, HttpRequest *request, int status, OutputMode mode, usec_t timeout_usec) {
        TaskWaiter *waiter = calloc(1, sizeof(*waiter));
        if (!waiter) {
                http_request_answer_json(request, status, NULL);
                return;
        }
        *waiter = (TaskWaiter){
                .task = task,
                .next = task->waiters,
                .request = request,
                .status = status,
                .mode = mode,
        };
        if (waiter->next)
                waiter->next->previous = waiter;
        task->waiters = waiter;

        if (!task_is_live(task) || timeout_usec == 0 ||
            loop_set_timer(task->runner->event,
                           &waiter->timeout_source,
                           usec_add(usec_now(CLOCK_BOOTTIME), timeout_usec),
                           on_timeout,
                           waiter,
                           "task-wait") < 0) {
                waiter_answer(waiter);
                return;
        }
        http_request_on_hangup(request, on_hangup, waiter);
}

static HttpAnswer *answer_of_mode(Task *task, OutputMode mode) {
        HttpAnswer *answer = NULL;
        (void) http_answer_new_json(task->runner->http, task_to_json(task, mode), &answer);
        return answer;
}

void task_wait_answer_all(Task *task) {
        HttpAnswer *answers[_OUTPUT_MODE_MAX] = {};
        while (task->waiters) {
                TaskWaiter *waiter = task->waiters;
                HttpRequest *request = waiter->request;
                HttpAnswer **answer = &answers[waiter->mode];
                int status = waiter->status;
                if (!*answer)
                        *answer = answer_of_mode(task, waiter->mode);
                waiter_free(waiter);
                if (*answer)
                        http_request_answer_shared(request, status, *answer);
                else
                        http_request_answer_json(request, status, NULL);
        }
        for (OutputMode mode = 0; mode < _OUTPUT_MODE_MAX; mode++)
                http_answer_unref(answers[mode]);
}

void task_waiters_drop(Task *task) {
        while (task->waiters)
                waiter_free(task->waiters);
}
