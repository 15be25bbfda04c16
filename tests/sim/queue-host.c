/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A queue's process: the delivery between the simulation's ports, its clients, and what of it survives a
 * crash. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "sim.h"

#define REALTIME_USEC   (1000000 * USEC_PER_SEC)
#define LARGE_BYTES     5000 /* more than is kept in memory */
#define ASK_AGAIN_USEC  (5 * USEC_PER_SEC)
#define COME_AGAIN_USEC (10 * USEC_PER_SEC)

Moment queue_moment(const Queue *queue) {
        return (Moment) {
                .boottime_usec = host_clock(queue->sim, &queue->host),
                .realtime_usec = REALTIME_USEC + queue->sim->now_usec + queue->realtime_offset_usec,
        };
}

const char *queue_name(const Sim *sim, size_t queue) {
        return sim->queues[sim->queues[queue].group].host.name;
}

bool queue_is_serving(const Queue *queue) {
        return queue->host.up && queue->delivery;
}

Queue *queue_in_charge(Queue *queue) {
        Sim *sim = queue->sim;
        if (!queue->cluster)
                return queue;
        for (size_t i = 0; i < sim->n_queues; i++)
                if (sim->queues[i].cluster && queue_is_serving(&sim->queues[i]) &&
                    cluster_is_led_by(&sim->queues[i]))
                        return &sim->queues[i];
        return NULL;
}

/* ── turns ── */

typedef struct Timer {
        Queue *queue;
        uint64_t number;
} Timer;

static void timer_fires(Sim *sim, void *data) {
        const Timer *timer = data;
        if (timer->queue->timer == timer->number)
                queue_settle(timer->queue);
}

static void plant_defects(const Sim *sim, const Queue *queue) {
        for (size_t i = 0; i < sim->n_runners; i++) {
                if (queue->views[i].away)
                        continue;
                Worker *worker = &delivery_worker_scheduled(queue->views[i].worker)->worker;
                if (sim->defect == DEFECT_NO_LOST_BOUND)
                        worker->lease_maybe_usec = 0;
                if (sim->defect == DEFECT_MOVE_IS_RESTART)
                        worker->elsewhere_usec = 0;
                if (sim->defect == DEFECT_ANY_REPORT && worker->identity != WORKER_UNKNOWN)
                        worker->identity = WORKER_KNOWN;
        }
}

/* What is on its way to it may arrive, but nobody hears of it. */
static void drop_requests(Sim *sim, const WorkerView *view) {
        for (Rpc *rpc = sim->rpcs; rpc; rpc = rpc->next)
                if (rpc->queue == view->queue->index && &view->queue->views[rpc->view] == view)
                        rpc->done = true;
}

static bool has_left(const Sim *sim, const WorkerView *view) {
        const Worker *worker = &delivery_worker_scheduled(view->worker)->worker;
        bool early = sim->defect == DEFECT_GO_EARLY && worker->n_attempts > 0;
        return view->leaving && (early || delivery_worker_has_left(view->worker));
}

static void let_go(Sim *sim, Queue *queue) {
        for (size_t i = 0; i < sim->n_runners; i++) {
                WorkerView *view = &queue->views[i];
                if (view->away)
                        continue;
                view->moved &= delivery_worker_scheduled(view->worker)->worker.elsewhere_usec > 0;
                if (!has_left(sim, view))
                        continue;
                sim_log(sim, "%s is without %s", queue->host.name, sim->runners[i].host.name);
                sim->n_left++;
                check_gone(sim, queue, i);
                if (*sim->violation)
                        return;
                delivery_remove_worker(view->worker);
                drop_requests(sim, view);
                view->worker = NULL;
                view->away = true;
                view->listening = view->connecting = view->retrying = false;
                view->runner_life = 0;
                view->stay++;
                cluster_put_workers(queue);
        }
}

void queue_settle(Queue *queue) {
        Sim *sim = queue->sim;
        if (!queue_is_serving(queue) || queue->dying || !queue_may_act(queue))
                return;
        plant_defects(sim, queue);
        Moment now = queue_moment(queue);
        delivery_run(queue->delivery, &now);
        let_go(sim, queue);
        usec_t deadline_usec = delivery_deadline(queue->delivery, &now);
        if (deadline_usec == USEC_INFINITY)
                return;
        Timer *timer = sim_allocate(sizeof(*timer));
        *timer = (Timer) { .queue = queue, .number = ++queue->timer };
        sim_at(sim,
               usec_subtract(deadline_usec, queue->host.clock_offset_usec),
               &queue->host,
               timer_fires,
               timer);
}

/* ── what the delivery tells ── */

static void on_wake(void *userdata) {
}

static void on_log(int priority, int r, const char *text, void *userdata) {
        const Queue *queue = userdata;
        sim_log(queue->sim, "%s: %s (%d)", queue->host.name, text, r);
}

static void on_queued(Task *task, ScheduledReason reason, void *userdata) {
        const Queue *queue = userdata;
        sim_log(queue->sim, "%s: %s waits for %d", queue->host.name, task->task_id, (int) reason);
}

static void on_submitted(Task *task, SubmitOutcome outcome, void *userdata) {
}

static void on_running(Task *task, void *userdata) {
        const Queue *queue = userdata;
        sim_log(queue->sim, "%s: %s runs as %s", queue->host.name, task->task_id, task->attempt_id);
}

static void forget_early(const Sim *sim, Task *task) {
        if (sim->defect == DEFECT_FORGET_EARLY)
                task->scheduled->forget_after_usec = 0;
}

static bool on_attempt_ended(Task *task, void *userdata) {
        const Queue *queue = userdata;
        forget_early(queue->sim, task);
        return false;
}

static void on_attempt_gone(Task *task, void *userdata) {
}

static void on_finished(Task *task, const char *state, const char *result, void *userdata) {
        const Queue *queue = userdata;
        Sim *sim = queue->sim;
        if (queue->dying)
                return;
        sim_log(sim, "%s: %s is %s, %s", queue->host.name, task->task_id, state, result ?: "-");
        check_told(sim, &sim->tasks[task->seq - 1]);
        forget_early(sim, task);
}

static void on_freed(Task *task, void *userdata) {
}

static Attempt *attempt_new(Sim *sim) {
        if (sim->n_attempts == sim->n_attempts_allocated) {
                sim->n_attempts_allocated = 2 * sim->n_attempts_allocated + 256;
                sim->attempts = reallocarray(sim->attempts, sim->n_attempts_allocated, sizeof(Attempt));
                if (!sim->attempts)
                        abort();
        }
        sim->attempts[sim->n_attempts] = (Attempt) {};
        return &sim->attempts[sim->n_attempts++];
}

uint32_t attempt_copy(Sim *sim, uint32_t id) {
        Attempt *copy = attempt_new(sim);
        const Attempt *attempt = &sim->attempts[id];
        copy->known = true;
        copy->task = attempt->task;
        copy->queue = attempt->queue;
        copy->view = attempt->view;
        copy->runner = attempt->runner;
        (void) snprintf(copy->id,
                        sizeof(copy->id),
                        "%s.%016zx",
                        sim->tasks[copy->task].id,
                        (size_t) (copy - sim->attempts));
        return (uint32_t) (copy - sim->attempts);
}

static int on_random(char ret[static DELIVERY_ID_SIZE], void *userdata) {
        const Queue *queue = userdata;
        const Attempt *attempt = attempt_new(queue->sim);
        (void) snprintf(ret, DELIVERY_ID_SIZE, "%016zx", (size_t) (attempt - queue->sim->attempts));
        return 0;
}

/* Nothing grows old here. */
static const ResultClock result_clock = {};

static const DeliveryListener listener = {
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

/* ── start and end ── */

static void add_worker(Sim *sim, Queue *queue, size_t i, const Moment *now) {
        WorkerView *view = &queue->views[i];
        *view = (WorkerView) {
                .sim = sim,
                .queue = queue,
                .runner = view->runner,
                .leaving = view->leaving,
                .before = view->before,
                .moved = view->moved,
                .permitted = view->permitted,
                .stay = view->stay + 1,
        };
        if (delivery_add_worker(queue->delivery, sim->runners[i].host.name, view, now, &view->worker) < 0)
                abort();
        if (view->moved)
                delivery_move_worker(view->worker, now);
        delivery_set_leaving(view->worker, view->leaving, now);
        scheduler_set_permitted(delivery_worker_scheduled(view->worker), view->permitted, now->boottime_usec);
}

static void add_workers(Sim *sim, Queue *queue, const Moment *now) {
        for (size_t i = 0; i < sim->n_runners; i++)
                if (!queue->views[i].away)
                        add_worker(sim, queue, i, now);
}

static void restore(const Sim *sim, const Queue *queue, const SimTask *task, const Moment *now) {
        StoredAttempt attempt = {};
        if (!task->on_disk || task->row.state >= STORED_COMPLETED)
                return;
        if (task->n_attempts > 0) {
                const AttemptRow *row = &task->attempts[task->n_attempts - 1];
                attempt = (StoredAttempt) {
                        .number = task->n_attempts,
                        .state = row->state,
                        .worker_id = sim->runners[sim->attempts[row->attempt].view].host.name,
                        .runner_task_id = sim->attempts[row->attempt].id,
                        .runner_instance = row->instance,
                        .unanswered = row->unanswered,
                };
        }
        if (delivery_restore(queue->delivery, &task->row, task->n_attempts > 0 ? &attempt : NULL, now) < 0)
                abort();
}

static void restore_after(const Sim *sim, const Queue *queue, const SimTask *task, const Moment *now) {
        bool forgotten = sim->defect == DEFECT_AFTER_FORGOTTEN;
        if (!task->on_disk || task->row.state >= STORED_COMPLETED || forgotten)
                return;
        for (size_t i = 0; i < task->n_after; i++) {
                const After *after = &task->after[i];
                StoredDependency row = {
                        .task_id = task->id,
                        .on_id = sim->tasks[after->task].id,
                        .failed = after->failed_on_disk,
                };
                if (after->on_disk && delivery_restore_dependency(queue->delivery, &row, now) < 0)
                        abort();
        }
}

void queue_start(Sim *sim, Queue *queue) {
        sim_log(sim, "%s starts", queue->host.name);
        queue->sim = sim;
        queue->host.up = true;
        if (queue->cluster)
                member_start(sim, queue);
        else
                queue_serve(sim, queue);
}

void queue_serve(Sim *sim, Queue *queue) {
        queue->host.life++;
        queue->dying = false;
        cluster_get_workers(queue);
        Moment now = queue_moment(queue);
        if (delivery_new(
                            &(DeliveryOptions) {
                                            .scheduler = sim->config,
                                            .default_resources = { .cores_micro = CORES_MICRO_PER_CORE,
                                                                   .memory_mb = 100 },
                                            .body_bytes_max = SIZE_MAX,
                                            .worker_port = &sim_worker_port,
                                            .store_port = &sim_store_port,
                                            .store = queue,
                                            .result_clock = &result_clock,
                                            .queue_id = "0123456789abcdef0123456789abcdef",
                                            .listener = &listener,
                                            .listener_userdata = queue,
                            },
                            &queue->delivery) < 0)
                abort();
        add_workers(sim, queue, &now);
        for (size_t i = 0; i < sim->n_tasks; i++)
                if (sim->tasks[i].queue == queue->group)
                        restore(sim, queue, &sim->tasks[i], &now);
        for (size_t i = 0; i < sim->n_tasks; i++)
                if (sim->tasks[i].queue == queue->group)
                        restore_after(sim, queue, &sim->tasks[i], &now);
        queue_settle(queue);
}

/* What it has on its way may arrive, but nobody is left to hear of it. */
void queue_stop_serving(Sim *sim, Queue *queue) {
        if (!queue->delivery)
                return;
        disk_crash(sim, queue);
        queue->delivery = delivery_free(queue->delivery);
        queue->host.died_usec = sim->now_usec;
        queue->host.life++;
        for (size_t i = 0; i < sim->n_runners; i++) {
                queue->views[i].worker = NULL;
                queue->views[i].stay++;
        }
}

void queue_crash(Sim *sim, Queue *queue) {
        if (!queue->host.up)
                return;
        sim_log(sim, "%s dies", queue->host.name);
        queue_stop_serving(sim, queue);
        queue->host.up = false;
        queue->host.died_usec = sim->now_usec;
}

/* ── its clients ── */

static void add_after(json_object *body, const char *id) {
        json_object *list;
        if (!json_object_object_get_ex(body, "after", &list) &&
            json_add(body, "after", json_object_new_array()) < 0)
                abort();
        if (!json_object_object_get_ex(body, "after", &list) ||
            json_append(list, json_object_new_string(id)) < 0)
                abort();
}

static json_object *body_of(const Sim *sim, const SimTask *task) {
        char text[512];
        (void) snprintf(text,
                        sizeof(text),
                        "{\"command\":[\"true\"],\"resources\":{\"cores\":%g,\"memory_mb\":%" PRIu64
                        "},\"priority\":%" PRId64 ",\"retry\":{\"max\":%" PRIu64
                        ",\"backoff\":2},\"retry_on_lost\":%s}",
                        (double) task->want.cores_micro / (double) CORES_MICRO_PER_CORE,
                        task->want.memory_mb,
                        task->priority,
                        task->retries_max,
                        task->retry_on_lost ? "true" : "false");
        json_object *body = NULL;
        Problem problem = {};
        if (json_parse(text, strlen(text), &body, &problem) < 0)
                abort();
        for (size_t i = 0; i < task->n_after; i++)
                add_after(body, sim->tasks[task->after[i].task].id);
        if (task->is_large) {
                char input[LARGE_BYTES];
                memset(input, 'x', sizeof(input));
                if (json_add(body, "stdin", json_object_new_string_len(input, sizeof(input))) < 0)
                        abort();
        }
        return body;
}

typedef struct Client {
        Queue *queue;
        size_t task;
} Client;

/* A client that hears nothing asks again, until the task is there. */
static void ask_again(Sim *sim, void *data) {
        queue_take_task(sim, ((const Client *) data)->task);
}

static void ask_later(Sim *sim, Queue *queue, size_t task) {
        Client *client = sim_allocate(sizeof(*client));
        *client = (Client) { .queue = queue, .task = task };
        sim_at(sim, sim->now_usec + ASK_AGAIN_USEC, NULL, ask_again, client);
}

static void on_accepted(int r, const Moment *now, void *userdata) {
        const Client *client = userdata;
        SimTask *task = &client->queue->sim->tasks[client->task];
        if (r >= 0 && !client->queue->dying) {
                task->accepted = true;
                if (!task->on_disk)
                        sim_violation(client->queue->sim, "%s is accepted before it is on disk", task->id);
        }
        free((void *) client);
}

/* How those that TASK is to wait for have ended, as the queue finds them on its disk. False: it knows not
 * all. */
static bool find_after(const Sim *sim, const Queue *queue, const SimTask *task, AfterState *ret) {
        bool known = true;
        for (size_t i = 0; i < task->n_after; i++) {
                const SimTask *on = &sim->tasks[task->after[i].task];
                bool completed = on->row.state == STORED_COMPLETED || sim->defect == DEFECT_AFTER_ANY_END;
                bool ended = on->on_disk && on->row.state >= STORED_COMPLETED;
                ret[i] = completed ? AFTER_COMPLETED : AFTER_FAILED;
                known &= ended || delivery_find_task(queue->delivery, on->id) != NULL;
        }
        return known;
}

/* The client may ask any member, which asks the one that leads as far as it knows. */
static Queue *asked_queue(Sim *sim, const SimTask *task) {
        Queue *queue = &sim->queues[task->queue];
        size_t n = 0;
        for (size_t i = 0; queue->cluster && i < sim->n_queues; i++)
                if (sim->queues[i].group == task->queue && queue_is_serving(&sim->queues[i]) &&
                    sim_below(sim, ++n) == 0)
                        queue = &sim->queues[i];
        return queue;
}

void queue_take_task(Sim *sim, size_t i) {
        SimTask *task = &sim->tasks[i];
        Queue *queue = asked_queue(sim, task);
        if (task->accepted || task->on_disk) {
                task->accepted = true;
                return;
        }
        ask_later(sim, queue, i);
        AfterState after[N_AFTER_MAX];
        if (!queue_is_serving(queue) || delivery_find_task(queue->delivery, task->id) ||
            !find_after(sim, queue, task, after))
                return;
        StoreBatch *batch;
        Task *new_task = NULL;
        Moment now = queue_moment(queue);
        json_object *body = body_of(sim, task), *rest = json_object_get(body);
        QueueSpec *spec = NULL;
        Problem problem = {};
        TaskDefaults defaults = { .resources = task->want };
        queue->next_seq = i + 1;
        if (store_batch_new(&batch) < 0 || queue_spec_parse(body, task->id, &defaults, &spec, &problem) < 0 ||
            delivery_put_task(
                            queue->delivery,
                            &(NewTask) { .task_id = task->id, .spec = spec, .body = rest, .after = after },
                            batch,
                            &now,
                            &new_task) < 0)
                abort();
        queue_spec_free(spec);
        json_object_put(body);
        json_object_put(rest);
        Client *client = sim_allocate(sizeof(*client));
        *client = (Client) { .queue = queue, .task = i };
        delivery_accept(queue->delivery, batch, &new_task, 1, on_accepted, client, &now);
        queue_settle(queue);
}

void queue_stop_task(Sim *sim, size_t i) {
        SimTask *task = &sim->tasks[i];
        Queue *queue = asked_queue(sim, task);
        Task *live = queue_is_serving(queue) ? delivery_find_task(queue->delivery, task->id) : NULL;
        if (!live)
                return;
        sim_log(sim, "%s: %s is to be stopped", queue->host.name, task->id);
        task->stop_wanted = true;
        Moment now = queue_moment(queue);
        delivery_stop_task(queue->delivery, live, &now);
        queue_settle(queue);
}

/* Whether it is tried again or not: its client looks, and is content. */
static void on_retried(int r, const Moment *now, void *userdata) {
}

static StoreEntry entry_of(const Sim *sim, const SimTask *task, StoredAttempt *attempts) {
        for (size_t i = 0; i < task->n_attempts; i++) {
                const AttemptRow *row = &task->attempts[i];
                attempts[i] = (StoredAttempt) {
                        .number = i + 1,
                        .state = row->state,
                        .worker_id = sim->runners[sim->attempts[row->attempt].view].host.name,
                        .runner_task_id = sim->attempts[row->attempt].id,
                        .runner_instance = row->instance,
                        .unanswered = row->unanswered,
                        .attempt = row->json,
                };
        }
        return (StoreEntry) { .task = task->row, .attempts = attempts, .n_attempts = task->n_attempts };
}

void queue_retry_task(Sim *sim, size_t i) {
        const SimTask *task = &sim->tasks[i];
        Queue *queue = asked_queue(sim, task);
        if (!queue_is_serving(queue) || !task->disk.finished || task->n_retries >= N_RETRIES_MAX ||
            task->n_attempts > N_ATTEMPT_ROWS_MAX / 2 || delivery_find_task(queue->delivery, task->id))
                return;
        AfterState after[N_AFTER_MAX];
        StoredAttempt attempts[N_ATTEMPT_ROWS_MAX];
        StoreEntry entry = entry_of(sim, task, attempts);
        StoreBatch *batch;
        Task *retried = NULL;
        QueueSpec *spec = NULL;
        Moment now = queue_moment(queue);
        (void) find_after(sim, queue, task, after);
        if (store_batch_new(&batch) < 0 ||
            delivery_parse_spec(queue->delivery, task->spec, task->id, &spec) < 0 ||
            delivery_put_retry(queue->delivery, &entry, spec, after, batch, &now, &retried) < 0)
                abort();
        sim_log(sim, "%s: %s is to be tried again", queue->host.name, task->id);
        queue_spec_free(spec);
        delivery_accept(queue->delivery, batch, &retried, 1, on_retried, NULL, &now);
        queue_settle(queue);
}

void queue_set_permitted(Sim *sim, Queue *queue, size_t runner, bool permitted) {
        queue->views[runner].permitted = permitted;
        if (!queue_is_serving(queue) || queue->views[runner].away)
                return;
        sim_log(sim,
                "%s %s use %s",
                queue->host.name,
                permitted ? "may" : "may not",
                sim->runners[runner].host.name);
        scheduler_set_permitted(
                        delivery_worker_scheduled(queue->views[runner].worker),
                        permitted,
                        host_clock(sim, &queue->host));
        queue_settle(queue);
}

/* ── its workers ── */

void queue_worker_leaves(Sim *sim, Queue *queue, size_t worker) {
        WorkerView *view = &queue->views[worker];
        if (!queue_is_serving(queue) || view->away || view->leaving)
                return;
        sim_log(sim, "%s is to do without %s", queue->host.name, sim->runners[worker].host.name);
        Moment now = queue_moment(queue);
        view->leaving = true;
        delivery_set_leaving(view->worker, true, &now);
        cluster_put_workers(queue);
        queue_settle(queue);
}

/* By another one that is there, or has moved away so lately that something of it may still run there. */
static bool is_taken(const Sim *sim, const Queue *queue, size_t worker, size_t runner) {
        for (size_t i = 0; i < sim->n_runners; i++) {
                const WorkerView *view = &queue->views[i];
                if (i != worker && !view->away &&
                    (view->runner == runner || (view->moved && view->before == runner)))
                        return true;
        }
        return false;
}

static void come_later(Sim *sim, WorkerView *view);

static void come_again(Sim *sim, void *data) {
        WorkerView *view = *(WorkerView **) data;
        Queue *queue = queue_in_charge(view->queue);
        if (queue)
                queue_worker_comes(sim, queue, (size_t) (view - view->queue->views));
        else
                come_later(sim, view);
}

static void come_later(Sim *sim, WorkerView *view) {
        WorkerView **data = sim_allocate(sizeof(WorkerView *));
        *data = view;
        sim_at_any_life(sim, sim->now_usec + COME_AGAIN_USEC, &view->queue->host, come_again, data);
}

/* Where it was, or at the next runner where none is. */
static bool find_place(const Sim *sim, const Queue *queue, size_t worker, size_t *runner) {
        for (size_t i = 0; i < sim->n_runners; i++, *runner = (*runner + 1) % sim->n_runners)
                if (!is_taken(sim, queue, worker, *runner))
                        return true;
        return false;
}

void queue_worker_comes(Sim *sim, Queue *queue, size_t worker) {
        WorkerView *view = &queue->views[worker];
        if (!queue_is_serving(queue) || (!view->away && !view->leaving))
                return;
        Moment now = queue_moment(queue);
        if (view->away && !find_place(sim, queue, worker, &view->runner)) {
                come_later(sim, view);
                return;
        }
        view->leaving = false;
        if (view->away) {
                view->away = view->moved = false;
                add_worker(sim, queue, worker, &now);
        } else
                delivery_set_leaving(view->worker, false, &now);
        sim_log(sim,
                "%s has %s, which is %s",
                queue->host.name,
                sim->runners[worker].host.name,
                sim->runners[view->runner].host.name);
        cluster_put_workers(queue);
        queue_settle(queue);
}

static void move(Sim *sim, WorkerView *view, size_t runner, const Moment *now) {
        sim->n_moved++;
        view->before = view->runner;
        view->runner = runner;
        view->moved = true;
        view->connecting = view->retrying = false;
        view->runner_life = 0;
        view->stay++;
        delivery_move_worker(view->worker, now);
        sim_log(sim,
                "%s finds %s at %s now",
                view->queue->host.name,
                sim->runners[view - view->queue->views].host.name,
                sim->runners[runner].host.name);
}

void queue_worker_moves(Sim *sim, Queue *queue, size_t worker, size_t runner) {
        WorkerView *view = &queue->views[worker];
        bool just_moved = view->moved && runner != view->before && runner != view->runner;
        if (!queue_is_serving(queue) || view->away || just_moved || is_taken(sim, queue, worker, runner))
                return;
        Moment now = queue_moment(queue);
        move(sim, view, runner, &now);
        cluster_put_workers(queue);
        queue_settle(queue);
}
