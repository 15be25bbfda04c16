/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runners behind the worker port: what is asked of them goes through the network, and what comes back is read
 * as the HTTP port reads it. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "sim.h"

#define STREAM_IDLE_USEC  (40 * USEC_PER_SEC)
#define STREAM_RETRY_USEC (1 * USEC_PER_SEC)

uint32_t attempt_find(const Sim *sim, const char *id) {
        const char *digits = strrchr(id, '.');
        uint32_t attempt = digits ? (uint32_t) strtoul(digits + 1, NULL, 16) : NO_ATTEMPT;
        if (attempt >= sim->n_attempts)
                abort();
        return attempt;
}

const char *attempt_state_word(const Attempt *attempt) {
        if (attempt->state != ATTEMPT_DONE)
                return "running";
        return attempt->end == ATTEMPT_SUCCEEDED        ? "completed" :
                        attempt->end == ATTEMPT_ERRORED ? "errored" :
                                                          "killed";
}

static const char *result_word(const Attempt *attempt) {
        static const char *const words[] = {
                [ATTEMPT_SUCCEEDED] = "success",
                [ATTEMPT_ERRORED] = "exit-code",
                [ATTEMPT_KILLED] = "stopped",
                [ATTEMPT_SHUTDOWN] = "shutdown",
        };
        return attempt->state == ATTEMPT_DONE ? words[attempt->end] : NULL;
}

static RunnerTask shown(const Attempt *attempt, bool done) {
        return (RunnerTask) {
                .task_id = attempt->id,
                .state = done ? attempt_state_word(attempt) : "running",
                .result = done ? result_word(attempt) : NULL,
                .finished = done,
        };
}

/* A finished attempt as a runner tells it; some runners leave out output that they find large. */
static json_object *attempt_json(const Sim *sim, uint32_t id, bool with_output) {
        const Attempt *attempt = &sim->attempts[id];
        const SimTask *task = &sim->tasks[attempt->task];
        uint64_t size = attempt->end == ATTEMPT_SUCCEEDED ? task->output_bytes : 0;
        char output[64];
        memset(output, 'x', sizeof(output));
        json_object *object = json_object_new_object();
        if (json_add_string(object, "task_id", attempt->id) < 0 ||
            json_add_string(object, "state", attempt_state_word(attempt)) < 0 ||
            json_add_string(object, "result", result_word(attempt)) < 0 ||
            json_add_u64(object, "output_bytes", size) < 0 || json_add_u64(object, "error_bytes", 0) < 0)
                abort();
        if (with_output && size <= sizeof(output) &&
            json_add(object, "output", json_object_new_string_len(output, (int) size)) < 0)
                abort();
        return object;
}

/* ── requests ── */

static bool fails_now(const WorkerView *view) {
        return view->queue->dying || sim_chance(view->sim, 0.001);
}

static Rpc *request(const WorkerView *view, RpcType type, const char *attempt_id, void *userdata) {
        Rpc *rpc = rpc_new(view->sim, view, type);
        if (attempt_id)
                rpc->attempt = attempt_find(view->sim, attempt_id);
        rpc->userdata = userdata;
        return rpc;
}

static int port_call(
                void *worker,
                WorkerCall call,
                const char *lease_id,
                WorkerCallDone done,
                void *userdata,
                PortCall **ret) {
        static const RpcType types[] = {
                [WORKER_CALL_PROBE] = RPC_PROBE,
                [WORKER_CALL_ACQUIRE] = RPC_ACQUIRE,
                [WORKER_CALL_RENEW] = RPC_RENEW,
                [WORKER_CALL_RELEASE] = RPC_RELEASE,
        };
        const WorkerView *view = worker;
        if (view->sim->defect == DEFECT_ANSWER_INSIDE && call == WORKER_CALL_ACQUIRE) {
                Moment now = queue_moment(view->queue);
                done(&(CallAnswer) { .outcome = CALL_FAILED }, &now, userdata);
                return 0;
        }
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, types[call], NULL, userdata);
        if (lease_id)
                (void) snprintf(rpc->lease_id, sizeof(rpc->lease_id), "%s", lease_id);
        rpc->on_done.call = done;
        *ret = rpc;
        rpc_send(view->sim, rpc);
        return 0;
}

static int port_submit(
                void *worker,
                const Submission *submission,
                WorkerSubmitDone done,
                void *userdata,
                PortCall **ret) {
        const WorkerView *view = worker;
        Sim *sim = view->sim;
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, RPC_SUBMIT, submission->attempt_id, userdata);
        if (sim->defect == DEFECT_FRESH_ID && sim->attempts[rpc->attempt].sent)
                rpc->attempt = attempt_copy(sim, rpc->attempt);
        sim->attempts[rpc->attempt].sent = true;
        const char *lease_id = sim->defect == DEFECT_PRESENT_LEASE ?
                        delivery_worker_scheduled(view->worker)->worker.lease_id :
                        submission->lease_id;
        (void) snprintf(rpc->lease_id, sizeof(rpc->lease_id), "%s", lease_id);
        rpc->on_done.submit = done;
        *ret = rpc;
        rpc_send(sim, rpc);
        return 0;
}

static int end_attempt(
                const WorkerView *view,
                RpcType type,
                const char *attempt_id,
                WorkerEndDone done,
                void *userdata) {
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, type, attempt_id, userdata);
        rpc->on_done.end = done;
        rpc_send(view->sim, rpc);
        return 0;
}

static int port_stop(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata) {
        return end_attempt(worker, RPC_STOP, attempt_id, done, userdata);
}

static int port_forget(void *worker, const char *attempt_id, WorkerEndDone done, void *userdata) {
        return end_attempt(worker, RPC_DELETE, attempt_id, done, userdata);
}

static int port_list(void *worker, const char *after, WorkerListDone done, void *userdata, PortCall **ret) {
        const WorkerView *view = worker;
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, RPC_LIST, NULL, userdata);
        rpc->on_done.list = done;
        *ret = rpc;
        if (view->sim->defect != DEFECT_NO_LISTING)
                rpc_send(view->sim, rpc);
        return 0;
}

static int port_fetch(
                void *worker,
                const char *attempt_id,
                bool with_output,
                WorkerFetchDone done,
                void *userdata,
                PortCall **ret) {
        const WorkerView *view = worker;
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, RPC_GET, attempt_id, userdata);
        rpc->with_output = with_output;
        rpc->on_done.fetch = done;
        *ret = rpc;
        rpc_send(view->sim, rpc);
        return 0;
}

static int port_output(
                void *worker,
                const OutputWanted *wanted,
                WorkerOutputData data,
                WorkerOutputDone done,
                void *userdata,
                PortCall **ret) {
        const WorkerView *view = worker;
        if (fails_now(view))
                return -ENOMEM;
        Rpc *rpc = request(view, RPC_OUTPUT, wanted->attempt_id, userdata);
        rpc->offset = wanted->offset;
        rpc->on_data = data;
        rpc->on_done.output = done;
        *ret = rpc;
        rpc_send(view->sim, rpc);
        return 0;
}

static void port_nothing(PortCall *call) {
}

/* It may arrive nevertheless. */
static void port_cancel(PortCall *call) {
        if (call)
                call->done = true;
}

/* ── answers ── */

static void call_answered(const WorkerView *view, const Answer *answer, const Moment *now) {
        const Rpc *rpc = answer->rpc;
        CallAnswer told = { .outcome = CALL_FAILED, .report = answer->report };
        if (answer->status == 0)
                told.outcome = CALL_FAILED;
        else if (rpc->type == RPC_PROBE || rpc->type == RPC_RELEASE)
                told.outcome = CALL_ANSWERED;
        else if (answer->status >= 400) {
                told.outcome = CALL_REFUSED;
                memcpy(told.holder, answer->holder, sizeof(told.holder));
        } else {
                told.outcome = CALL_GRANTED;
                told.ttl_usec = view->sim->config.lease_ttl_usec;
                memcpy(told.lease_id,
                       rpc->type == RPC_RENEW ? rpc->lease_id : answer->lease_id,
                       sizeof(told.lease_id));
        }
        rpc->on_done.call(&told, now, rpc->userdata);
}

static SubmitOutcome outcome_of(const Sim *sim, const Answer *answer) {
        switch (answer->status) {
        case 0:
                return answer->rpc->unsent || sim->defect == DEFECT_UNKNOWN_IS_REFUSED ? SUBMIT_UNSENT :
                                                                                         SUBMIT_UNKNOWN;
        case 409:
                return SUBMIT_FULL;
        case 422:
                return SUBMIT_INVALID;
        case 500:
                return sim->defect == DEFECT_STRANGE_IS_REFUSED ? SUBMIT_BUSY : SUBMIT_STRANGE;
        default: {
                WorkerReport report;
                return runner_submit_outcome(answer->status, "", 0, &report);
        }
        }
}

static void submission_answered(const WorkerView *view, const Answer *answer, const Moment *now) {
        Sim *sim = view->sim;
        const Rpc *rpc = answer->rpc;
        const Attempt *attempt = &sim->attempts[rpc->attempt];
        RunnerTask task = shown(attempt, attempt->state == ATTEMPT_DONE && sim_chance(sim, 0.5));
        WorkerReport report = answer->report; /* a problem does not say whose it is */
        *report.instance = 0;
        SubmitAnswer told = { .outcome = outcome_of(sim, answer), .detail = "" };
        if (told.outcome == SUBMIT_FULL) {
                sim->n_refusals++;
                told.report = &report;
        }
        if (told.outcome == SUBMIT_ACCEPTED)
                told.task = &task;
        rpc->on_done.submit(&told, now, rpc->userdata);
}

static bool is_present(const Queue *queue, const Attempt *attempt) {
        const Task *task = delivery_find_task(queue->delivery, queue->sim->tasks[attempt->task].id);
        return task && task->attempt_id && streq(task->attempt_id, attempt->id);
}

static void listed(const WorkerView *view, const Answer *answer, const Moment *now) {
        Sim *sim = view->sim;
        const Rpc *rpc = answer->rpc;
        RunnerTask *tasks = sim_allocate((answer->n_listed + 1) * sizeof(RunnerTask));
        ListAnswer told = { .r = answer->status == 0 ? -EIO : 0,
                            .tasks = tasks,
                            .n_tasks = answer->n_listed };
        for (size_t i = 0; i < answer->n_listed; i++)
                tasks[i] = shown(&sim->attempts[answer->listed[i]], answer->listed_done[i]);
        rpc->on_done.list(&told, now, rpc->userdata);
        for (size_t i = 0; i < answer->n_listed && sim->defect == DEFECT_FORGET_LISTED; i++)
                if (answer->listed_done[i] && !is_present(view->queue, &sim->attempts[answer->listed[i]]))
                        rpc_send(sim, request(view, RPC_DELETE, tasks[i].task_id, NULL));
        free(tasks);
}

static void fetched(const WorkerView *view, const Answer *answer, const Moment *now) {
        const Rpc *rpc = answer->rpc;
        FetchAnswer told = { .outcome = answer->status == 404 ? FETCH_GONE : FETCH_FAILED };
        if (answer->status == 200 && answer->done) {
                told.outcome = FETCH_GOT;
                told.attempt = attempt_json(view->sim, rpc->attempt, rpc->with_output);
        }
        rpc->on_done.fetch(&told, now, rpc->userdata);
        json_object_put(told.attempt);
        if (told.outcome == FETCH_GOT && view->sim->defect == DEFECT_FORGET_UNSTORED)
                rpc_send(view->sim, request(view, RPC_DELETE, view->sim->attempts[rpc->attempt].id, NULL));
}

/* All of it, or a part and then a broken connection. */
static void output_came(const WorkerView *view, const Answer *answer, const Moment *now) {
        Sim *sim = view->sim;
        const Rpc *rpc = answer->rpc;
        const SimTask *task = &sim->tasks[sim->attempts[rpc->attempt].task];
        char bytes[1024] = {};
        uint64_t size = answer->status == 200 && rpc->offset < task->output_bytes ?
                        task->output_bytes - rpc->offset :
                        0;
        bool broken = answer->status == 0 || sim_chance(sim, sim->loss);
        if (broken)
                size /= 2;
        if (size > 0 && rpc->on_data(bytes, size, now, rpc->userdata) < 0)
                broken = true;
        rpc->on_done.output(
                        broken                                ? OUTPUT_BROKEN :
                                        answer->status == 404 ? OUTPUT_GONE :
                                                                OUTPUT_END,
                        now,
                        rpc->userdata);
}

void queue_answer(Sim *sim, const Answer *answer) {
        const Rpc *rpc = answer->rpc;
        Queue *queue = &sim->queues[rpc->queue];
        const WorkerView *view = &queue->views[rpc->view];
        Moment now = queue_moment(queue);
        switch (rpc->type) {
        case RPC_PROBE:
        case RPC_ACQUIRE:
        case RPC_RENEW:
        case RPC_RELEASE:
                call_answered(view, answer, &now);
                break;
        case RPC_SUBMIT:
                submission_answered(view, answer, &now);
                break;
        case RPC_GET:
                fetched(view, answer, &now);
                break;
        case RPC_STOP:
        case RPC_DELETE:
                if (rpc->on_done.end)
                        rpc->on_done.end(answer->status != 0, &now, rpc->userdata);
                break;
        case RPC_LIST:
                listed(view, answer, &now);
                break;
        case RPC_OUTPUT:
                output_came(view, answer, &now);
                break;
        }
        queue_settle(queue);
}

/* ── events ── */

typedef struct StreamEvent {
        WorkerView *view;
        uint64_t stay;
        uint64_t runner_life;
        uint32_t attempt;
        bool done, whole;
        WorkerReport report;
} StreamEvent;

static void open_stream(WorkerView *view);

static StreamEvent *event_new(WorkerView *view) {
        StreamEvent *event = sim_allocate(sizeof(*event));
        event->view = view;
        event->stay = view->stay;
        event->runner_life = view->runner_life;
        event->attempt = NO_ATTEMPT;
        return event;
}

/* Of a worker that is not there any more, or elsewhere. */
static bool is_over(const StreamEvent *event) {
        return event->stay != event->view->stay;
}

static void retry(Sim *sim, void *data) {
        WorkerView *view = ((const StreamEvent *) data)->view;
        if (is_over(data))
                return;
        view->retrying = false;
        open_stream(view);
        queue_settle(view->queue);
}

static void disconnects(Sim *sim, void *data) {
        WorkerView *view = ((const StreamEvent *) data)->view;
        if (is_over(data))
                return;
        Moment now = queue_moment(view->queue);
        sim_log(sim, "%s hears no more of %s", view->queue->host.name, sim->runners[view->runner].host.name);
        view->connecting = false;
        view->runner_life = 0;
        view->retrying = true;
        sim_at(sim, sim->now_usec + STREAM_RETRY_USEC, &view->queue->host, retry, event_new(view));
        delivery_worker_disconnected(view->worker, &now);
        queue_settle(view->queue);
}

static void connects(Sim *sim, void *data) {
        WorkerView *view = ((const StreamEvent *) data)->view;
        if (is_over(data))
                return;
        const Runner *runner = &sim->runners[view->runner];
        const Link *link = &view->queue->links[view->runner];
        if (!runner->host.up || link->in_until_usec > sim->now_usec || link->out_until_usec > sim->now_usec) {
                disconnects(sim, data);
                return;
        }
        Moment now = queue_moment(view->queue);
        sim_log(sim, "%s hears of %s", view->queue->host.name, runner->host.name);
        view->connecting = false;
        view->runner_life = runner->host.life;
        delivery_worker_connected(view->worker, &now);
        queue_settle(view->queue);
}

/* As in the HTTP port: one that is silent is left alone until it answers. */
static void open_stream(WorkerView *view) {
        bool silent = delivery_worker_scheduled(view->worker)->worker.silent;
        if (!view->listening || view->connecting || view->runner_life > 0 || view->retrying || silent)
                return;
        view->connecting = true;
        sim_at(view->sim,
               view->sim->now_usec + sim_between(view->sim, 100, 20 * USEC_PER_MSEC),
               &view->queue->host,
               connects,
               event_new(view));
}

static void port_listen(void *worker, bool wanted) {
        WorkerView *view = worker;
        view->listening = wanted;
        if (wanted)
                open_stream(view);
        else
                view->runner_life = 0;
}

static void event_comes(Sim *sim, void *data) {
        const StreamEvent *event = data;
        WorkerView *view = event->view;
        if (is_over(event) || view->runner_life != event->runner_life)
                return;
        Moment now = queue_moment(view->queue);
        if (event->attempt == NO_ATTEMPT) {
                WorkerCallPhase *phase = &delivery_worker_scheduled(view->worker)->worker.call_phase;
                WorkerCallPhase before = *phase;
                if (sim->defect == DEFECT_ANY_REPORT)
                        *phase = WORKER_CALL_REPORT_DUE;
                delivery_worker_reported(view->worker, &event->report, &now);
                if (sim->defect == DEFECT_ANY_REPORT)
                        *phase = before;
        } else {
                RunnerTask seen = shown(&sim->attempts[event->attempt], event->done);
                json_object *attempt = event->whole ? attempt_json(sim, event->attempt, true) : NULL;
                delivery_worker_seen(view->worker, &seen, attempt, &now);
                json_object_put(attempt);
        }
        queue_settle(view->queue);
}

/* It breaks where something is lost; the queue notices then, or when it has heard nothing for too long. */
static void break_stream(Sim *sim, WorkerView *view) {
        usec_t usec = sim_chance(sim, 0.5) ? 20 * USEC_PER_MSEC : STREAM_IDLE_USEC;
        StreamEvent *event = event_new(view);
        view->runner_life = UINT64_MAX; /* nothing comes any more, and none is opened */
        sim_at(sim, sim->now_usec + sim_below(sim, usec), &view->queue->host, disconnects, event);
}

static bool hears(const WorkerView *view, const Runner *runner) {
        return view->queue && view->worker && view->queue->host.up &&
                        &view->sim->runners[view->runner] == runner && view->runner_life == runner->host.life;
}

static void tell(Sim *sim, WorkerView *view, const Runner *runner, uint32_t attempt) {
        if (view->queue->links[view->runner].in_until_usec > sim->now_usec ||
            sim_chance(sim, sim->loss / 4)) {
                break_stream(sim, view);
                return;
        }
        StreamEvent *event = event_new(view);
        event->attempt = attempt;
        event->done = attempt != NO_ATTEMPT && sim->attempts[attempt].state == ATTEMPT_DONE;
        event->whole = event->done && sim_chance(sim, 0.5);
        runner_report(runner, &event->report);
        usec_t when_usec = sim->now_usec + sim_between(sim, 100, 20 * USEC_PER_MSEC);
        if (view->last_event_usec < when_usec)
                view->last_event_usec = when_usec;
        sim_at(sim, view->last_event_usec, &view->queue->host, event_comes, event);
}

void runner_tell(Sim *sim, Runner *runner, uint32_t attempt) {
        for (size_t q = 0; q < sim->n_queues; q++)
                for (size_t v = 0; v < sim->n_runners; v++)
                        if (hears(&sim->queues[q].views[v], runner))
                                tell(sim, &sim->queues[q].views[v], runner, attempt);
}

void streams_break(Sim *sim, const Runner *runner) {
        for (size_t q = 0; q < sim->n_queues; q++)
                for (size_t v = 0; v < sim->n_runners; v++)
                        if (hears(&sim->queues[q].views[v], runner))
                                break_stream(sim, &sim->queues[q].views[v]);
}

const WorkerPort sim_worker_port = {
        .call = port_call,
        .submit = port_submit,
        .stop = port_stop,
        .forget = port_forget,
        .list = port_list,
        .fetch = port_fetch,
        .output = port_output,
        .pause = port_nothing,
        .resume = port_nothing,
        .cancel = port_cancel,
        .listen = port_listen,
};
