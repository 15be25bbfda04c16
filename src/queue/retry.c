/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/retry.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "queue/after-lookup.h"
#include "queue/queue.h"
#include "queue/submit.h"

typedef struct Retry {
        Queue *queue; /* weak */
        const RetryCallbacks *callbacks;
        void *userdata;
        char *task_id;
        QueueSpec *spec;    /* NULL: not read yet */
        AfterLookup *after; /* NULL: it waits for nobody */
} Retry;

static void retry_free(Retry *retry) {
        after_lookup_free(retry->after);
        queue_spec_free(retry->spec);
        free(retry->task_id);
        free(retry);
}

static void refuse(Retry *retry, const Problem *problem) {
        retry->callbacks->decided(problem, retry->userdata);
        retry_free(retry);
}

static void refuse_for_errno(Retry *retry, int r) {
        Problem problem = {};
        if (r == -ENOENT)
                (void) problem_set(&problem, 404, NULL, "there is no task of this id");
        else if (r == -EBUSY)
                (void) problem_set(&problem, 409, NULL, "the task is not finished");
        else if (r == -E2BIG)
                (void) problem_set(&problem, 422, NULL, "the task has been tried too often");
        else if (r == -EDQUOT)
                (void) problem_set_for_now(&problem, 429, 5, "too many tasks wait for too many others");
        else
                (void) problem_from_errno(&problem, r);
        refuse(retry, &problem);
}

/* Others may know by now that it is there, and stop it: nothing but how its storing went is told. */
static void on_accepted(int r, const Moment *now, void *userdata) {
        Retry *retry = userdata;
        retry->callbacks->stored(r, retry->userdata);
        retry_free(retry);
}

/* All that it is to wait for is known. */
static void decide(Retry *retry, const StoreEntry *entry, const Moment *now) {
        Delivery *delivery = retry->queue->delivery;
        StoreBatch *batch = NULL;
        Task *task = NULL;
        Problem problem = {};
        if (submit_check(retry->queue, retry->spec, &problem) < 0) {
                refuse(retry, &problem);
                return;
        }
        int r = store_batch_new(&batch);
        if (r >= 0)
                r = delivery_put_retry(
                                delivery,
                                entry,
                                retry->spec,
                                retry->after ? after_lookup_states_again(retry->after, entry) : NULL,
                                batch,
                                now,
                                &task);
        if (r < 0) {
                store_batch_free(batch);
                refuse_for_errno(retry, r);
                return;
        }
        retry->callbacks->decided(NULL, retry->userdata);
        delivery_accept(delivery, batch, &task, 1, on_accepted, retry, now);
}

static void on_after_known(void *userdata);

static int read_spec(Retry *retry, const StoreEntry *entry) {
        const Queue *queue = retry->queue;
        int r = delivery_parse_spec(queue->delivery, entry->task.spec, retry->task_id, &retry->spec);
        if (r >= 0 && retry->spec->after)
                r = after_lookup_new(
                                &queue->sources, retry->spec->after, on_after_known, retry, &retry->after);
        return r;
}

static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        Retry *retry = userdata;
        if (r >= 0 && (!entry->task.result || delivery_find_task(retry->queue->delivery, retry->task_id)))
                r = -EBUSY;
        if (r >= 0 && !retry->spec)
                r = read_spec(retry, entry);
        if (r >= 0 && retry->after)
                r = after_lookup_begin(retry->after);
        if (r < 0)
                refuse_for_errno(retry, r);
        else if (r == 0)
                decide(retry, entry, now);
}

static int ask_store(Retry *retry) {
        const Queue *queue = retry->queue;
        return queue->store_port->get(
                        queue->store,
                        retry->task_id,
                        &(StoreWanted) { .attempts = true, .dependencies = true },
                        on_got,
                        retry);
}

/* Meanwhile it may have been forgotten. */
static void on_after_known(void *userdata) {
        int r = ask_store(userdata);
        if (r < 0)
                refuse_for_errno(userdata, r);
}

int retry_task(Queue *queue, const char *task_id, const RetryCallbacks *callbacks, void *userdata) {
        Retry *retry = calloc(1, sizeof(*retry));
        if (!retry)
                return -ENOMEM;
        *retry = (Retry) { .queue = queue, .callbacks = callbacks, .userdata = userdata };
        retry->task_id = strdup(task_id);
        int r = retry->task_id ? ask_store(retry) : -ENOMEM;
        if (r < 0)
                retry_free(retry);
        return r;
}
