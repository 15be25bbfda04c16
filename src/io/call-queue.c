/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/call-queue.h"

#include <assert.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "io/loop.h"

static void call_free(QueuedCall *call) {
        CallQueue *queue = call->queue;
        DL_DELETE(queue->calls, call);
        if (call->under_way) {
                assert(queue->n_under_way > 0);
                queue->n_under_way--;
                call_queue_resume(queue);
        }
        queue->carrier->payload_free(call->payload);
        free(call);
}

QueuedCall *queued_call_cancel(QueuedCall *call) {
        if (call)
                call_free(call);
        return NULL;
}

void queued_call_finish(QueuedCall *call, int error, const char *message) {
        CallDone done = call->done;
        void *userdata = call->userdata;
        call_free(call);
        done(error, message, userdata);
}

void call_queue_fail(CallQueue *queue, int error, const char *message) {
        while (queue->calls)
                queued_call_finish(queue->calls, error, message);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

/* The source may fire for a call that has ended, and is then set anew: that is cheaper than to follow each.
 */
static void queue_arm_deadline(CallQueue *queue, usec_t deadline_usec) {
        (void) loop_set_timer(
                        queue->event,
                        &queue->deadline_source,
                        deadline_usec,
                        on_deadline,
                        queue,
                        "call-deadline");
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        CallQueue *queue = userdata;
        while (queue->calls && queue->calls->deadline_usec <= usec)
                queued_call_finish(queue->calls, -ETIMEDOUT, "there was no answer in time");
        if (queue->calls)
                queue_arm_deadline(queue, queue->calls->deadline_usec);
        return 0;
}

static int call_send(QueuedCall *call) {
        CallQueue *queue = call->queue;
        int r = queue->carrier->send(call, call->payload, queue->userdata);
        if (r < 0)
                return r;
        call->under_way = true;
        queue->n_under_way++;
        return 0;
}

static int on_send(sd_event_source *source, void *userdata) {
        CallQueue *queue = userdata;
        for (QueuedCall *call = queue->calls, *next; call; call = next) {
                next = call->next;
                if (queue->n_under_way >= queue->n_under_way_max)
                        break;
                if (call->under_way)
                        continue;
                int r = call_send(call);
                if (r == -EAGAIN)
                        break;
                if (r < 0) { /* its owner may have changed the list */
                        queued_call_finish(call, r, "it could not be sent");
                        call_queue_resume(queue);
                        break;
                }
        }
        return 0;
}

void call_queue_resume(CallQueue *queue) {
        if (queue->send_source)
                (void) sd_event_source_set_enabled(queue->send_source, SD_EVENT_ONESHOT);
}

int call_queue_init(
                CallQueue *queue,
                sd_event *event,
                const CallCarrier *carrier,
                void *userdata,
                size_t n_under_way_max,
                usec_t timeout_usec) {
        *queue = (CallQueue) {
                .event = sd_event_ref(event),
                .carrier = carrier,
                .userdata = userdata,
                .n_under_way_max = n_under_way_max,
                .timeout_usec = timeout_usec,
        };
        int r = sd_event_add_defer(event, &queue->send_source, on_send, queue);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(queue->send_source, SD_EVENT_OFF);
}

void call_queue_done(CallQueue *queue) {
        while (queue->calls)
                call_free(queue->calls);
        event_source_dropp(&queue->send_source);
        event_source_dropp(&queue->deadline_source);
        queue->event = sd_event_unref(queue->event);
}

static bool queue_is_waiting(const CallQueue *queue) {
        return queue->calls && !queue->calls->prev->under_way; /* the first one's prev is the last */
}

static int call_new(CallQueue *queue, void *payload, CallDone done, void *userdata, QueuedCall **ret) {
        QueuedCall *call = calloc(1, sizeof(*call));
        if (!call) {
                queue->carrier->payload_free(payload);
                return -ENOMEM;
        }
        *call = (QueuedCall) {
                .queue = queue,
                .deadline_usec = usec_add(usec_now(CLOCK_BOOTTIME), queue->timeout_usec),
                .payload = payload,
                .done = done,
                .userdata = userdata,
        };
        if (!queue->calls)
                queue_arm_deadline(queue, call->deadline_usec);
        DL_APPEND(queue->calls, call);
        *ret = call;
        return 0;
}

int call_queue_add_sent(CallQueue *queue, void *payload, CallDone done, void *userdata, QueuedCall **ret) {
        int r = call_new(queue, payload, done, userdata, ret);
        if (r < 0)
                return r;
        (*ret)->under_way = true;
        queue->n_under_way++;
        return 0;
}

int call_queue_add(CallQueue *queue, void *payload, CallDone done, void *userdata, QueuedCall **ret) {
        bool must_wait = queue_is_waiting(queue) || queue->n_under_way >= queue->n_under_way_max;
        QueuedCall *call;
        int added = call_new(queue, payload, done, userdata, &call);
        if (added < 0)
                return added;
        int r = must_wait ? 0 : call_send(call);
        if (r < 0 && r != -EAGAIN) {
                call_free(call);
                return r;
        }
        *ret = call;
        return 0;
}
