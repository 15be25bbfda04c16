/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A disk behind the store port. Batches reach it in order, each with a time of its own, and are told a little
 * later; in a crash some of those on their way get there and some do not. It may be full for a while, or
 * slow. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "sim.h"

#define WRITE_USEC_MAX      (30 * USEC_PER_MSEC)
#define SLOW_WRITE_USEC_MAX (5 * USEC_PER_SEC)
#define READ_USEC_MAX       (5 * USEC_PER_MSEC)

static char *copy(const char *text) {
        char *copied = text ? strdup(text) : NULL;
        if (text && !copied)
                abort();
        return copied;
}

static SimTask *task_of(Sim *sim, uint64_t seq) {
        return &sim->tasks[seq - 1];
}

/* ── what is on the disk ── */

static void put_task(SimTask *task, const StoredTask *row) {
        if (task->on_disk)
                abort();
        task->on_disk = true;
        task->row = *row;
        task->row.task_id = task->id;
        task->row.spec = task->spec = copy(row->spec);
}

static void update_task(SimTask *task, const StoredTask *row) {
        task->row.state = row->state;
        task->row.retries = row->retries;
        task->row.losses = row->losses;
        task->row.stop_requested = row->stop_requested;
        task->row.queue_usec = row->queue_usec;
        task->row.not_before_usec = row->not_before_usec;
}

/* Others that wait for TASK, which has ended: what is true, and what is noted of it. */
static void settle(Sim *sim, const SimTask *task) {
        bool completed = task->row.state == STORED_COMPLETED;
        for (size_t i = 0; i < sim->n_tasks; i++)
                for (size_t k = 0; k < sim->tasks[i].n_after; k++) {
                        After *after = &sim->tasks[i].after[k];
                        if (&sim->tasks[after->task] != task)
                                continue;
                        *(completed ? &after->completed : &after->failed) = true;
                        if (sim->defect == DEFECT_AFTER_UNSETTLED)
                                continue;
                        after->failed_on_disk = !completed;
                        after->on_disk &= !completed;
                }
}

static void finish_task(Sim *sim, SimTask *task, const StoredTask *row) {
        task->row.state = row->state;
        task->row.finish_usec = row->finish_usec;
        free(task->result);
        task->row.result = task->result = copy(row->result);
        settle(sim, task);
}

static void retry_task(Sim *sim, SimTask *task, const StoredTask *row) {
        if (task->row.state < STORED_COMPLETED)
                abort();
        task->row.state = STORED_QUEUED;
        task->row.retries = task->row.losses = task->row.not_before_usec = task->row.finish_usec = 0;
        task->row.stop_requested = false;
        task->row.queue_usec = row->queue_usec;
        free(task->result);
        task->row.result = task->result = NULL;
        task->disk.finished = false;
        task->n_retries++;
        sim->n_retries++;
}

static bool has_id(char *const *list, const char *id) {
        for (; list && *list; list++)
                if (streq(*list, id))
                        return true;
        return false;
}

static void set_dependencies(const Sim *sim, SimTask *task, char *const *ids) {
        for (size_t i = 0; i < task->n_after; i++) {
                After *after = &task->after[i];
                const SimTask *on = &sim->tasks[after->task];
                bool ended = on->on_disk && on->row.state >= STORED_COMPLETED;
                after->completed = ended && on->row.state == STORED_COMPLETED;
                after->failed = ended ? !after->completed : !on->on_disk;
                after->on_disk = has_id(ids, on->id) && !after->completed;
                after->failed_on_disk = after->failed;
        }
}

static void put_attempt(Sim *sim, SimTask *task, const StoredAttempt *row) {
        if (row->number < 1 || row->number > N_ATTEMPT_ROWS_MAX)
                abort();
        AttemptRow *to = &task->attempts[row->number - 1];
        uint32_t attempt = attempt_find(sim, row->runner_task_id);
        if (row->number > task->n_attempts)
                task->n_attempts = row->number;
        free(to->json);
        *to = (AttemptRow) {
                .state = row->state,
                .attempt = attempt,
                .unanswered = row->unanswered,
                .json = copy(row->attempt),
                .output_bytes = to->attempt == attempt ? to->output_bytes : 0,
        };
        if (row->runner_instance)
                memcpy(to->instance, row->runner_instance, strlen(row->runner_instance) + 1);
}

static void append_output(SimTask *task, const StoreChange *change) {
        AttemptRow *row = &task->attempts[change->output.number - 1];
        if (change->output.stream == STORED_STDOUT)
                row->output_bytes = change->output.offset + change->output.size;
}

static void apply_change(Sim *sim, const StoreChange *change) {
        switch (change->type) {
        case STORE_PUT_TASK:
                put_task(task_of(sim, change->task.seq), &change->task);
                break;
        case STORE_UPDATE_TASK:
                update_task(task_of(sim, change->seq), &change->task);
                break;
        case STORE_FINISH_TASK:
                finish_task(sim, task_of(sim, change->seq), &change->task);
                break;
        case STORE_RETRY_TASK:
                retry_task(sim, task_of(sim, change->seq), &change->task);
                break;
        case STORE_SET_DEPENDENCIES:
                set_dependencies(sim, task_of(sim, change->seq), change->dependencies);
                break;
        case STORE_PUT_ATTEMPT:
                put_attempt(sim, task_of(sim, change->seq), &change->attempt);
                break;
        case STORE_APPEND_OUTPUT:
                append_output(task_of(sim, change->seq), change);
                break;
        case STORE_DELETE_TASK:
        case STORE_PUT_WORKER:
        case STORE_DELETE_WORKER:
        case STORE_PUT_FACT:
                break;
        }
}

/* ── what that comes to ── */

static bool is_present(const AttemptRow *row) {
        return row->state == STORED_ATTEMPT_SENT || row->state == STORED_ATTEMPT_RUNNING;
}

/* A member of the finished task; its text is valid until RESULT is put. */
static const char *result_member(json_object *result, const char *key) {
        json_object *value;
        return json_object_object_get_ex(result, key, &value) ? json_object_get_string(value) : NULL;
}

static json_object *parse_result(const SimTask *task) {
        json_object *result = NULL;
        Problem problem = {};
        if (!task->result || json_parse(task->result, strlen(task->result), &result, &problem) < 0)
                abort();
        return result;
}

static ScheduledReason finish_reason(const SimTask *task) {
        json_object *result = parse_result(task);
        const char *word = result_member(result, "result");
        ScheduledReason reason = streq_null(word, "worker-lost") ? REASON_LOST :
                        streq_null(word, "canceled")             ? REASON_CANCELED :
                        streq_null(word, "start-failed")         ? REASON_INVALID :
                        streq_null(word, "dependency-failed")    ? REASON_DEPENDENCY :
                                                                   REASON_NONE;
        json_object_put(result);
        return reason;
}

/* Unless it says that there is something missing. */
static bool has_all_output(const SimTask *task, uint64_t bytes) {
        json_object *result = parse_result(task);
        bool all = bytes == task->output_bytes || !streq_null(result_member(result, "result"), "success") ||
                        streq_null(result_member(result, "output_truncated"), "true");
        json_object_put(result);
        return all;
}

/* Why the attempt that was the present one before is over. */
static ScheduledReason reason_of(const SimTask *task, uint32_t before) {
        const AttemptRow *row = NULL;
        for (size_t i = 0; i < task->n_attempts; i++)
                if (task->attempts[i].attempt == before && before != NO_ATTEMPT)
                        row = &task->attempts[i];
        bool finished = task->row.state >= STORED_COMPLETED;
        if (row && row->state == STORED_ATTEMPT_REFUSED)
                return REASON_REFUSED;
        if (row && row->state == STORED_ATTEMPT_LOST)
                return REASON_LOST;
        if (row && row->state == STORED_ATTEMPT_FINISHED)
                return finished ? REASON_RESULT : REASON_RETRY;
        if (!finished) /* an attempt after it has taken its place, and its number: it was refused */
                return row ? REASON_NONE : REASON_REFUSED;
        return finish_reason(task);
}

static uint64_t losses_of(const Queue *queue, const SimTask *task) {
        const Task *live = delivery_find_task(queue->delivery, task->id);
        return live && live->scheduled ? live->scheduled->n_losses : task->row.losses;
}

static void take_record(Sim *sim, const SimWrite *write, SimTask *task) {
        Record record = { .attempt = NO_ATTEMPT, .finished = task->row.state >= STORED_COMPLETED };
        const AttemptRow *last = task->n_attempts > 0 ? &task->attempts[task->n_attempts - 1] : NULL;
        if (last && is_present(last) && !record.finished)
                record.attempt = last->attempt;
        record.accepted = last && last->state == STORED_ATTEMPT_RUNNING;
        record.reason = reason_of(task, task->disk.attempt);
        record.n_losses = write->losses ? write->losses[task - sim->tasks] : losses_of(write->queue, task);
        check_commit(sim, task, &record);
        task->disk = record;
        if (record.finished && record.reason == REASON_RESULT && !has_all_output(task, last->output_bytes))
                sim_violation(sim, "%s is finished without all of its output", task->id);
}

void disk_apply(Sim *sim, const SimWrite *write) {
        sim->n_writes++;
        for (const StoreChange *change = write->batch->first; change; change = change->next) {
                apply_change(sim, change);
                bool last = !change->next || change->next->seq != change->seq;
                if (last && change->seq > 0)
                        take_record(sim, write, task_of(sim, change->seq));
        }
}

/* ── writing ── */

void write_free(SimWrite *write) {
        store_batch_free(write->batch);
        free(write->losses);
        free(write);
}

static void reaches_disk(Sim *sim, SimWrite *write) {
        if (write->on_disk || write->r < 0)
                return;
        write->on_disk = true;
        disk_apply(sim, write);
}

static void on_disk(Sim *sim, void *data) {
        const Queue *queue = *(Queue **) data;
        SimWrite *write = queue->first_write;
        while (write && (write->on_disk || write->r < 0))
                write = write->next;
        if (write)
                reaches_disk(sim, write);
}

/* One of them is told, the first. */
static void is_told(Sim *sim, void *data) {
        Queue *queue = *(Queue **) data;
        SimWrite *write = queue->first_write;
        bool early = sim->defect == DEFECT_STORE_LATE || sim->defect == DEFECT_TELL_EARLY;
        if (!early)
                reaches_disk(sim, write);
        queue->first_write = write->next;
        if (!queue->first_write)
                queue->last_write = NULL;
        Moment now = queue_moment(queue);
        write->done(write->r, &now, write->userdata);
        queue_settle(queue);
        if (!early) {
                write_free(write);
                return;
        }
        reaches_disk(sim, write); /* after all that was done in the belief that it was there */
        write_free(write);
}

static bool has_finish(const StoreBatch *batch) {
        for (const StoreChange *change = batch->first; change; change = change->next)
                if (change->type == STORE_FINISH_TASK)
                        return true;
        return false;
}

static Queue **pointer_to(Queue *queue) {
        Queue **data = sim_allocate(sizeof(Queue *));
        *data = queue;
        return data;
}

static void write_later(Sim *sim, Queue *queue, SimWrite *write) {
        bool slow = queue->slow_until_usec > sim->now_usec;
        usec_t when_usec = sim->now_usec + sim_below(sim, slow ? SLOW_WRITE_USEC_MAX : WRITE_USEC_MAX);
        if (when_usec < queue->disk_usec)
                when_usec = queue->disk_usec;
        bool early = sim->defect == DEFECT_STORE_LATE ||
                        (sim->defect == DEFECT_TELL_EARLY && has_finish(write->batch));
        if (!early)
                sim_at(sim, when_usec, &queue->host, on_disk, pointer_to(queue));
        queue->disk_usec = when_usec + sim_below(sim, 1000);
        sim_at(sim, queue->disk_usec, &queue->host, is_told, pointer_to(queue));
        *(queue->last_write ? &queue->last_write->next : &queue->first_write) = write;
        queue->last_write = write;
}

/* The queue says whose an attempt is when it stores that. */
static void note_attempts(Sim *sim, const Queue *queue, const StoreBatch *batch) {
        for (const StoreChange *change = batch->first; change; change = change->next) {
                if (change->type != STORE_PUT_ATTEMPT)
                        continue;
                Attempt *attempt = &sim->attempts[attempt_find(sim, change->attempt.runner_task_id)];
                if (attempt->known)
                        continue;
                attempt->known = true;
                (void) snprintf(attempt->id, sizeof(attempt->id), "%s", change->attempt.runner_task_id);
                attempt->task = change->seq - 1;
                attempt->queue = queue->index;
                for (size_t i = 0; i < sim->n_runners; i++)
                        if (streq(sim->runners[i].host.name, change->attempt.worker_id))
                                attempt->view = i;
                attempt->runner = queue->views[attempt->view].runner;
        }
}

/* Whoever has handed it over may be gone when it gets there. */
static void note_losses(SimWrite *write) {
        const Sim *sim = write->queue->sim;
        write->losses = sim_allocate(N_TASKS_MAX * sizeof(uint64_t));
        for (size_t i = 0; i < sim->n_tasks; i++)
                write->losses[i] = losses_of(write->queue, &sim->tasks[i]);
}

static int port_commit(void *store, StoreBatch *batch, StoreDone done, void *userdata) {
        Queue *queue = store;
        Sim *sim = queue->sim;
        bool full = queue->full_until_usec > sim->now_usec;
        if (queue->dying || batch->error < 0 || (full && sim_chance(sim, 0.5))) {
                store_batch_free(batch);
                return -ENOBUFS;
        }
        note_attempts(sim, queue, batch);
        SimWrite *write = sim_allocate(sizeof(*write));
        *write = (SimWrite) {
                .queue = queue,
                .batch = batch,
                .r = full ? -ENOSPC : 0,
                .done = done,
                .userdata = userdata,
        };
        if (queue->cluster) {
                note_losses(write);
                member_commit(queue, write);
        } else
                write_later(sim, queue, write);
        return 0;
}

/* Some of what was on its way is there, the rest is not; nobody is left to hear of it. */
void disk_crash(Sim *sim, Queue *queue) {
        bool lost = false;
        Moment now = queue_moment(queue);
        if (queue->cluster) {
                queue->dying = true;
                member_store_end(queue);
                return;
        }
        for (SimWrite *write = queue->first_write; write; write = write->next) {
                lost |= !write->on_disk && sim_chance(sim, 0.5);
                if (!lost)
                        reaches_disk(sim, write);
        }
        queue->dying = true;
        while (queue->first_write) {
                SimWrite *write = queue->first_write;
                queue->first_write = write->next;
                write->done(-ECANCELED, &now, write->userdata);
                write_free(write);
        }
        queue->last_write = NULL;
        queue->disk_usec = 0;
}

/* ── reading ── */

typedef struct SimRead {
        Queue *queue;
        size_t task;
        StoreGot done;
        void *userdata;
} SimRead;

static void is_read(Sim *sim, void *data) {
        const SimRead *read = data;
        const SimTask *task = &sim->tasks[read->task];
        StoredAttempt attempts[N_ATTEMPT_ROWS_MAX] = {};
        StoreEntry entry = { .task = task->row, .attempts = attempts, .n_attempts = task->n_attempts };
        for (size_t i = 0; i < task->n_attempts; i++)
                attempts[i] = (StoredAttempt) {
                        .number = i + 1,
                        .state = task->attempts[i].state,
                        .attempt = task->attempts[i].json,
                };
        bool fails = sim->now_usec < read->queue->full_until_usec ||
                        (read->queue->cluster && cluster_is_away(sim));
        int r = !task->on_disk ? -ENOENT : fails ? -EIO : 0;
        Moment now = queue_moment(read->queue);
        read->done(r, r < 0 ? NULL : &entry, &now, read->userdata);
        queue_settle(read->queue);
}

static int port_get(
                void *store,
                const char *task_id,
                const StoreWanted *wanted,
                StoreGot done,
                void *userdata) {
        Queue *queue = store;
        Sim *sim = queue->sim;
        if (queue->dying)
                return -ECANCELED;
        SimRead *read = sim_allocate(sizeof(*read));
        *read = (SimRead) { .queue = queue, .done = done, .userdata = userdata };
        while (!streq(sim->tasks[read->task].id, task_id))
                read->task++;
        sim_at(sim, sim->now_usec + sim_below(sim, READ_USEC_MAX), &queue->host, is_read, read);
        return 0;
}

static uint64_t port_next_seq(void *store) {
        const Queue *queue = store;
        return queue->next_seq;
}

static size_t port_pending_bytes(const void *store) {
        const Queue *queue = store;
        size_t bytes = 0;
        for (const SimWrite *write = queue->first_write; write; write = write->next)
                bytes += write->batch->bytes;
        return bytes;
}

const StorePort sim_store_port = {
        .commit = port_commit,
        .get = port_get,
        .next_seq = port_next_seq,
        .pending_bytes = port_pending_bytes,
};
