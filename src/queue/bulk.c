/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/bulk.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "queue/describe.h"
#include "queue/moment.h"
#include "queue/queue.h"
#include "queue/retry.h"

/* Looked at in one turn: a few milliseconds' work, whatever follows for each. */
#define PAGE_TASKS 64
#define PAGE_BYTES ((size_t) 256 * 1024)

_Static_assert(BULK_LABELS_MAX <= STORE_LABELS_MAX, "a filter takes all labels");

typedef struct Bulk {
        Queue *queue;         /* weak */
        HttpRequest *request; /* NULL: the client is gone */
        BulkVerb verb;
        BulkRequest wanted;
        uint64_t after, n_matched, n_changed;
        int error;
        bool reading;          /* the next page, or what is to be tried again */
        size_t n_writes;       /* under way */
        size_t n_deleted;      /* in the one of them that forgets */
        char *ids[PAGE_TASKS]; /* to be tried again */
        size_t n_ids, next_id;
} Bulk;

static void clear_ids(Bulk *bulk) {
        while (bulk->n_ids > 0)
                free(bulk->ids[--bulk->n_ids]);
}

static void bulk_end(Bulk *bulk) {
        HttpRequest *request = bulk->request;
        if (bulk->verb == BULK_STOP)
                delivery_put_off_settling(bulk->queue->delivery, false);
        if (request) {
                http_request_on_hangup(request, NULL, NULL);
                if (bulk->error < 0)
                        describe_answer_error(request, bulk->error);
                else
                        http_request_answer_json(
                                        request, 200, bulk_answer_new(bulk->n_matched, bulk->n_changed));
        }
        clear_ids(bulk);
        bulk_request_done(&bulk->wanted);
        free(bulk);
}

static void on_hangup(HttpRequest *request, void *userdata) {
        Bulk *bulk = userdata;
        bulk->request = NULL;
}

static void read_page(Bulk *bulk);

/* A page is through when all that it led to is on disk. */
static void go_on(Bulk *bulk) {
        if (bulk->reading || bulk->n_writes > 0)
                return;
        if (bulk->error < 0 || bulk->after == 0)
                bulk_end(bulk);
        else
                read_page(bulk);
}

/* ── to be tried again, one after the other: the next may wait for the one before ── */

static void retry_next(Bulk *bulk);

static void on_decided(const Problem *problem, void *userdata) {
        Bulk *bulk = userdata;
        if (!problem)
                bulk->n_writes++;
        else if (problem->status >= 500)
                bulk->error = -EAGAIN;
        retry_next(bulk);
        go_on(bulk);
}

static void on_retried(int r, void *userdata) {
        Bulk *bulk = userdata;
        bulk->n_writes--;
        if (r >= 0)
                bulk->n_changed++;
        else if (r != -ENOENT)
                bulk->error = r;
        go_on(bulk);
}

static void retry_next(Bulk *bulk) {
        static const RetryCallbacks callbacks = { .decided = on_decided, .stored = on_retried };
        int r = 0;
        if (bulk->error >= 0 && bulk->next_id < bulk->n_ids)
                r = retry_task(bulk->queue, bulk->ids[bulk->next_id++], &callbacks, bulk);
        else
                bulk->reading = false;
        if (r < 0) {
                bulk->error = r;
                bulk->reading = false;
        }
}

static void start_retries(Bulk *bulk) {
        bulk->next_id = 0;
        retry_next(bulk);
}

/* ── a page ── */

static bool is_live(const Bulk *bulk, const StoreEntry *entry) {
        const Task *task = delivery_find_task(bulk->queue->delivery, entry->task.task_id);
        return task && !task->is_stored;
}

static void stop(Bulk *bulk, const StoreEntry *entry, const Moment *now) {
        Delivery *delivery = bulk->queue->delivery;
        Task *task = delivery_find_task(delivery, entry->task.task_id);
        if (!task || task->is_stored || task_is_to_stop(task))
                return;
        delivery_stop_task(delivery, task, now);
        bulk->n_changed++;
}

static void note_retry(Bulk *bulk, const StoreEntry *entry) {
        bool is_wanted = bulk->wanted.state || entry->task.state != STORED_COMPLETED;
        if (!entry->task.result || !is_wanted || is_live(bulk, entry))
                return;
        bulk->ids[bulk->n_ids] = strdup(entry->task.task_id);
        if (bulk->ids[bulk->n_ids])
                bulk->n_ids++;
        else
                bulk->error = -ENOMEM;
}

static void forget(Bulk *bulk, const StoreEntry *entry, StoreBatch *batch) {
        if (!entry->task.result || is_live(bulk, entry))
                return;
        if (store_batch_delete_task(batch, entry->task.seq) >= 0)
                bulk->n_deleted++;
}

static void on_page_written(int r, const Moment *now, void *userdata) {
        Bulk *bulk = userdata;
        bulk->n_writes--;
        if (r < 0)
                bulk->error = r;
        else
                bulk->n_changed += bulk->n_deleted;
        bulk->n_deleted = 0;
        go_on(bulk);
}

static void take_page(Bulk *bulk, const StoreEntry *entries, size_t n, StoreBatch *batch, const Moment *now) {
        for (size_t i = 0; i < n; i++) {
                if (bulk->verb == BULK_STOP)
                        stop(bulk, &entries[i], now);
                else if (bulk->verb == BULK_RETRY)
                        note_retry(bulk, &entries[i]);
                else
                        forget(bulk, &entries[i], batch);
        }
        bulk->n_matched += n;
}

/* A write follows each page, if only an empty one: when that is told, so are all that were begun before. */
static void on_page(
                int r,
                const StoreEntry *entries,
                size_t n,
                uint64_t next,
                const Moment *now,
                void *userdata) {
        Bulk *bulk = userdata;
        const Queue *queue = bulk->queue;
        StoreBatch *batch = NULL;
        bulk->after = next;
        clear_ids(bulk);
        if (r >= 0)
                r = store_batch_new(&batch);
        if (r >= 0) {
                take_page(bulk, entries, n, batch, now);
                r = queue->store_port->commit(queue->store, batch, on_page_written, bulk);
        }
        if (r >= 0)
                bulk->n_writes++;
        else
                bulk->error = r;
        start_retries(bulk);
        go_on(bulk);
}

static void read_page(Bulk *bulk) {
        const Queue *queue = bulk->queue;
        const BulkRequest *wanted = &bulk->wanted;
        int r = queue->store_port->list(
                        queue->store,
                        &(StoreFilter) {
                                        .state = wanted->state ? stored_state_from_string(wanted->state) : -1,
                                        .labels = (const char *const *) wanted->labels,
                                        .after = bulk->after,
                                        .limit = PAGE_TASKS,
                                        .bytes_max = PAGE_BYTES,
                        },
                        on_page,
                        bulk);
        bulk->reading = r >= 0;
        if (r >= 0)
                return;
        bulk->error = r;
        bulk_end(bulk);
}

void bulk_begin(Queue *queue, HttpRequest *request, BulkVerb verb, BulkRequest *wanted) {
        Bulk *bulk = calloc(1, sizeof(*bulk));
        if (!bulk) {
                bulk_request_done(wanted);
                describe_answer_error(request, -ENOMEM);
                return;
        }
        *bulk = (Bulk) { .queue = queue, .request = request, .verb = verb, .wanted = *wanted };
        *wanted = (BulkRequest) {};
        if (verb == BULK_STOP)
                delivery_put_off_settling(queue->delivery, true);
        http_request_on_hangup(request, on_hangup, bulk);
        read_page(bulk);
}
