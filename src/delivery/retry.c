/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task that has ended is tried again: its row in the store is a waiting one's again, its result becomes one
 * of the earlier attempts, and from there it goes the way of a new one (accept.c). */

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "delivery/delivery-internal.h"

/* What is kept of the last attempt: the task's result if that came of it. *RET is NULL for one that never
 * ran, like that of a task that was canceled. */
static int describe_last(const StoreEntry *entry, char **ret) {
        _cleanup_(json_putp) json_object *result = NULL;
        json_object *word;
        Problem problem = {};
        *ret = NULL;
        int r = json_parse(entry->task.result, strlen(entry->task.result), &result, &problem);
        if (r < 0)
                return r;
        if (json_object_object_get_ex(result, "result", &word) &&
            streq_null(json_object_get_string(word), "canceled"))
                return 0;
        queue_attempt_make_retried(result);
        return json_format(result, ret, NULL);
}

/* The last attempt is over, whatever was to be said of it while its task was live: a restart must not look
 * for it. One that became an earlier attempt already stays as it is. */
static int put_last_attempt(const StoreEntry *entry, StoreBatch *batch) {
        if (entry->n_attempts == 0)
                return 0;
        StoredAttempt last = entry->attempts[entry->n_attempts - 1];
        _cleanup_(freep) char *text = NULL;
        if (last.attempt)
                return 0;
        int r = describe_last(entry, &text);
        if (r < 0)
                return r;
        if (last.state != STORED_ATTEMPT_FINISHED)
                last.state = text ? STORED_ATTEMPT_LOST : STORED_ATTEMPT_REFUSED;
        last.attempt = text;
        return store_batch_put_attempt(batch, entry->task.seq, &last);
}

static int retried_task(Delivery *delivery, const StoreEntry *entry, const Moment *now, Task **ret) {
        _cleanup_(task_freep) Task *task = NULL;
        uint64_t number = entry->n_attempts > 0 ? entry->attempts[entry->n_attempts - 1].number : 0;
        if (number >= ATTEMPTS_MAX)
                return -E2BIG;
        int r = task_new(delivery, entry->task.task_id, entry->task.seq, &task);
        if (r < 0)
                return r;
        task->spec_text = strdup(entry->task.spec);
        if (!task->spec_text)
                return -ENOMEM;
        task->submit_usec = entry->task.submit_usec;
        task->queue_usec = now->realtime_usec;
        task->attempt_number = number;
        task->work.is_retried = true;
        *ret = TAKE_PTR(task);
        return 0;
}

int delivery_put_retry(
                Delivery *delivery,
                const StoreEntry *entry,
                const QueueSpec *spec,
                const AfterState *after,
                StoreBatch *batch,
                const Moment *now,
                Task **ret) {
        _cleanup_(task_freep) Task *task = NULL;
        if (!entry->task.result || delivery_find_task(delivery, entry->task.task_id))
                return -EBUSY;
        int r = retried_task(delivery, entry, now, &task);
        if (r >= 0)
                r = store_batch_retry_task(batch, task->seq, task->queue_usec);
        if (r >= 0)
                r = put_last_attempt(entry, batch);
        if (r >= 0)
                r = task_set_after(task, spec->after, after, batch);
        if (r >= 0)
                r = delivery_add_task(delivery, task);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(task);
        return 0;
}
