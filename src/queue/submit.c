/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/submit.h"

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/queue-spec.h"
#include "io/loop.h"
#include "io/random-id.h"
#include "queue/queue.h"

#define RETRY_AFTER_SEC 5
#define AGAIN_USEC      (1 * USEC_PER_SEC)

void submission_done(Submission *submission) {
        free(submission->task_id);
        *submission = (Submission){};
}

static int choose_id(const QueueSpec *spec, char **ret) {
        if (!spec->task->task_id)
                return random_id_new(ret);
        *ret = strdup(spec->task->task_id);
        return *ret ? 0 : -ENOMEM;
}

/* A finished task of this id. */
typedef struct FinishedTask {
        const Queue *queue;
        const QueueSpec *wanted;
        bool same;
} FinishedTask;

static int on_finished_row(const StoredTask *row, void *userdata) {
        FinishedTask *finished = userdata;
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        int r = task_parse_spec(finished->queue, row->spec, row->task_id, &spec);
        finished->same = r >= 0 && queue_spec_equal(spec, finished->wanted);
        return r;
}

/* 1 when a task of this id and specification is there already. */
static int find_existing(Queue *queue, const QueueSpec *spec, Submission *submission, Problem *problem) {
        _cleanup_(queue_spec_freep) QueueSpec *existing = NULL;
        FinishedTask finished = { .queue = queue, .wanted = spec };
        submission->task = task_table_find(&queue->tasks, submission->task_id);
        int r;
        if (submission->task) {
                r = task_read_spec(submission->task, &existing);
                finished.same = r >= 0 && queue_spec_equal(existing, spec);
        } else
                r = task_store_get(queue->store, submission->task_id, on_finished_row, &finished);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return problem_from_errno(problem, r);
        if (!finished.same)
                return problem_set(problem, 409, NULL, "a different task has this id");
        return 1;
}

static int check_takes_tasks(Queue *queue, const QueueSpec *spec, Submission *submission, Problem *problem) {
        const Resources *want = &spec->task->resources;
        if (queue->stopping || queue->draining)
                return problem_set_for_now(
                                problem,
                                503,
                                RETRY_AFTER_SEC,
                                "this queue is draining and takes no new tasks");
        if (!scheduler_could_fit(queue->scheduler, want))
                return problem_set(problem, 422, "/resources", "no worker can ever offer these resources");
        if (spec->task->when_full == WHEN_FULL_REJECT &&
            !scheduler_fits_now(queue->scheduler, want, usec_now(CLOCK_BOOTTIME))) {
                submission->is_full = true;
                return problem_set(problem, 409, NULL, "the task does not fit right now");
        }
        if (scheduler_n_waiting(queue->scheduler) + queue->n_uncommitted >= queue->config->queue_max)
                return problem_set_for_now(problem, 429, RETRY_AFTER_SEC, "too many tasks are waiting");
        return 0;
}

static int put_task(
                Queue *queue,
                const QueueSpec *spec,
                json_object *body,
                Submission *submission,
                StoreBatch *batch) {
        _cleanup_(task_freep) Task *task = NULL;
        int r = task_new(queue, submission->task_id, task_store_next_seq(queue->store), &task);
        if (r >= 0)
                r = queue_spec_to_stored(spec, body, &task->spec_text);
        if (r < 0)
                return r;
        task->submit_usec = task->queue_usec = usec_now(CLOCK_REALTIME);
        r = store_batch_put_task(
                        batch,
                        &(StoredTask){
                                        .seq = task->seq,
                                        .task_id = task->task_id,
                                        .state = STORED_QUEUED,
                                        .priority = spec->priority,
                                        .submit_usec = task->submit_usec,
                                        .queue_usec = task->queue_usec,
                                        .spec = task->spec_text,
                        },
                        spec->task->labels);
        if (r >= 0)
                r = task_table_add(&queue->tasks, task);
        if (r < 0)
                return r;
        queue->n_uncommitted++;
        submission->task = TAKE_PTR(task);
        submission->is_new = true;
        return 0;
}

int submit_task(Queue *queue,
                json_object *body,
                const char *task_id,
                StoreBatch *batch,
                Submission *ret,
                Problem *reterr_problem) {
        TaskDefaults defaults = { .resources = queue->config->default_resources };
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        _cleanup_(json_putp) json_object *rest = json_object_get(body);
        int r = queue_spec_parse(body, task_id, &defaults, &spec, reterr_problem);
        if (r < 0)
                return r;
        r = choose_id(spec, &ret->task_id);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = find_existing(queue, spec, ret, reterr_problem);
        if (r != 0)
                return r;
        r = check_takes_tasks(queue, spec, ret, reterr_problem);
        if (r < 0)
                return r;
        r = put_task(queue, spec, rest, ret, batch);
        return r < 0 ? problem_from_errno(reterr_problem, r) : 0;
}

/* The new tasks that wait for their batch. */
typedef struct Commit {
        Queue *queue;
        SubmitCommitted callback;
        void *userdata;
        size_t n_tasks;
        Task *tasks[];
} Commit;

static int schedule(Task *task) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        int r = task_read_spec(task, &spec);
        if (r < 0)
                return r;
        r = task_schedule(task, spec);
        if (r < 0)
                return r;
        free(TAKE_PTR(task->spec_text));
        task->queue->n_uncommitted--;
        metrics_count_submitted(&task->queue->metrics);
        task_send_event(task, "queued", NULL);
        if (task->stop_early)
                scheduler_stop_task(task->queue->scheduler, task->scheduled);
        queue_run_soon(task->queue);
        return 0;
}

/* On disk but not schedulable for want of memory: it is answered as accepted, which it is, and tried again
 * until there is room for it. */
static int on_schedule_again(sd_event_source *source, uint64_t usec, void *userdata);

static void schedule_or_again(Task *task) {
        if (schedule(task) < 0)
                (void) loop_set_timer(
                                task->queue->event,
                                &task->retry_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), AGAIN_USEC),
                                on_schedule_again,
                                task,
                                "task-schedule");
        else
                event_source_dropp(&task->retry_source); /* it has another use from here on */
}

static int on_schedule_again(sd_event_source *source, uint64_t usec, void *userdata) {
        schedule_or_again(userdata);
        return 0;
}

static void forget(Task *task) {
        task->queue->n_uncommitted--;
        task_table_remove(&task->queue->tasks, task);
}

static void on_committed(int r, void *userdata) {
        Commit *commit = userdata;
        Queue *queue = commit->queue;
        for (size_t i = 0; i < commit->n_tasks; i++) {
                if (r >= 0)
                        schedule_or_again(commit->tasks[i]);
                else
                        forget(commit->tasks[i]);
        }
        commit->callback(r, commit->userdata);
        free(commit);
        queue_run_soon(queue);
}

static Commit *commit_new(const Submission *submissions, size_t n) {
        Commit *commit = calloc(1, sizeof(*commit) + n * sizeof(Task *));
        for (size_t i = 0; commit && i < n; i++)
                if (submissions[i].is_new)
                        commit->tasks[commit->n_tasks++] = submissions[i].task;
        return commit;
}

void submit_commit(
                Queue *queue,
                StoreBatch *batch,
                const Submission *submissions,
                size_t n,
                SubmitCommitted callback,
                void *userdata) {
        _cleanup_(store_batch_freep) StoreBatch *owned = batch;
        Commit *commit = commit_new(submissions, n);
        int r = commit ? 0 : -ENOMEM;
        if (r >= 0) {
                commit->queue = queue;
                commit->callback = callback;
                commit->userdata = userdata;
                r = task_store_commit(queue->store, TAKE_PTR(owned), on_committed, commit);
        }
        if (r >= 0)
                return;
        for (size_t i = 0; i < n; i++)
                if (submissions[i].is_new)
                        forget(submissions[i].task);
        free(commit);
        callback(r, userdata);
}
