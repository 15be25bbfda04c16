/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is kept of the queue: opened, taken up after a restart or after another member, and forgotten when it
 * is old. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "io/loop.h"
#include "queue/moment.h"
#include "queue/queue-internal.h"

#define STATE_DIRECTORY     "/var/lib/daggyd"
#define PRUNE_INTERVAL_USEC (10 * USEC_PER_SEC)
#define PRUNE_LIMIT         500

int queue_open_file(Queue *queue) {
        const char *directory = queue->config->state_directory ?:
                        getenv("STATE_DIRECTORY")              ?:
                                                                 STATE_DIRECTORY;
        _cleanup_(freep) char *message = NULL;
        int r = sqlite_store_open(queue->daemon.event, directory, &queue->sqlite, &message);
        if (r < 0)
                log_line(LOG_ERR, "%s", message ?: strerror(-r));
        queue->store_port = &sqlite_store_port;
        queue->store = queue->sqlite;
        return r;
}

/* ── what an earlier run left ── */

static int on_fact(const char *key, const char *value, void *userdata) {
        Queue *queue = userdata;
        if (streq(key, STORED_FACT_DRAINING))
                queue->daemon.draining = streq(value, "1");
        if (streq(key, STORED_FACT_RESULT_CLOCK)) /* as if there were none, if it cannot be read */
                (void) text_parse_u64(value, 1, INT64_MAX, &queue->result_clock.stored_usec);
        return 0;
}

static int on_newest_result(usec_t finish_usec, void *userdata) {
        Queue *queue = userdata;
        Moment now = moment_now();
        result_clock_start(
                        &queue->result_clock,
                        queue->result_clock.stored_usec,
                        finish_usec,
                        now.realtime_usec,
                        now.boottime_usec);
        return 0;
}

static int on_worker_row(const StoredWorker *row, void *userdata) {
        Queue *queue = userdata;
        return workers_note_row(&queue->workers, row);
}

/* When all rows of workers were read, and before the first one of a task. */
static int start_workers(Queue *queue) {
        return queue->workers.file ? 0 : workers_start(&queue->workers, queue->config);
}

static int on_task_row(
                const StoredTask *row,
                const StoredAttempt *attempt,
                const Moment *now,
                void *userdata) {
        Queue *queue = userdata;
        int r = start_workers(queue);
        return r < 0 ? r : delivery_restore(queue->delivery, row, attempt, now);
}

static int on_dependency_row(const StoredDependency *row, const Moment *now, void *userdata) {
        const Queue *queue = userdata;
        return delivery_restore_dependency(queue->delivery, row, now);
}

static void on_loaded(int r, const Moment *now, void *userdata) {
        Queue *queue = userdata;
        if (r >= 0)
                r = start_workers(queue);
        queue->loaded = r < 0 ? r : 1;
        if (r < 0) {
                (void) log_errno(LOG_ERR, r, "Cannot take up the tasks that are stored");
        } else {
                size_t n = delivery_n_tasks(queue->delivery);
                if (n > 0)
                        log_line(LOG_INFO, "Took up %zu tasks", n);
                if (queue->daemon.draining)
                        log_line(LOG_NOTICE, "This queue drains, as it did before it was restarted");
        }
        queue_loaded(queue, queue->loaded);
}

int queue_load(Queue *queue) {
        return queue->store_port->load(
                        queue->store,
                        &(StoreLoader) {
                                        .on_fact = on_fact,
                                        .on_newest_result = on_newest_result,
                                        .on_worker = on_worker_row,
                                        .on_task = on_task_row,
                                        .on_dependency = on_dependency_row,
                                        .done = on_loaded,
                                        .userdata = queue,
                        });
}

/* ── what is written besides tasks ── */

int queue_store_draining(Queue *queue, bool draining, StoreDone done, void *userdata) {
        StoreBatch *batch;
        int r = store_batch_new(&batch);
        if (r < 0)
                return r;
        (void) store_batch_put_fact(batch, STORED_FACT_DRAINING, draining ? "1" : "0");
        return queue->store_port->commit(queue->store, batch, done, userdata);
}

static void on_result_clock_stored(int r, const Moment *now, void *userdata) {
}

/* What cannot be stored now can be later. */
static void store_result_clock(Queue *queue, usec_t now_usec) {
        char text[sizeof("18446744073709551615")];
        StoreBatch *batch;
        if (store_batch_new(&batch) < 0)
                return;
        (void) snprintf(text, sizeof(text), "%" PRIu64, now_usec);
        (void) store_batch_put_fact(batch, STORED_FACT_RESULT_CLOCK, text);
        if (queue->store_port->commit(queue->store, batch, on_result_clock_stored, NULL) >= 0)
                queue->result_clock.stored_usec = now_usec;
}

/* ── results that are too many or too old go ── */

static int on_prune(sd_event_source *source, uint64_t usec, void *userdata);

static void prune_after(Queue *queue, usec_t after_usec) {
        (void) loop_set_timer(
                        queue->daemon.event,
                        &queue->prune_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), after_usec),
                        on_prune,
                        queue,
                        "queue-prune");
}

static void on_pruned(int r, const Moment *now, void *userdata) {
        prune_after(userdata, r == PRUNE_LIMIT ? 0 : PRUNE_INTERVAL_USEC);
}

static int on_prune(sd_event_source *source, uint64_t usec, void *userdata) {
        Queue *queue = userdata;
        usec_t boottime_usec = usec_now(CLOCK_BOOTTIME);
        usec_t now_usec = result_clock_now(&queue->result_clock, boottime_usec);
        if (result_clock_is_due(&queue->result_clock, boottime_usec))
                store_result_clock(queue, now_usec);
        int r = queue->store_port->prune(
                        queue->store,
                        usec_subtract(now_usec, queue->config->result_ttl_usec),
                        queue->config->results_max,
                        PRUNE_LIMIT,
                        on_pruned,
                        queue);
        if (r < 0)
                prune_after(queue, PRUNE_INTERVAL_USEC);
        return 0;
}

void queue_start_pruning(Queue *queue) {
        prune_after(queue, 0);
}
