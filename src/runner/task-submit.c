/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-submit.h"

#include <string.h>

#include "io/random-id.h"
#include "runner/runner.h"
#include "runner/task-order.h"
#include "runner/task-run.h"

#define RETRY_AFTER_SEC 5

/* Whether there is room beside all tasks accepted so far, those that wait for the next turn of the loop among
 * them. */
static bool fits_right_now(const Runner *runner, const TaskSpec *spec) {
        return admission_list_leaves(&runner->waiting, &runner->pool, &spec->resources);
}

static int check_takes_tasks(Runner *runner, const TaskSpec *spec, TaskSubmission *ret, Problem *problem) {
        if (runner_is_draining(runner))
                return problem_set_for_now(
                                problem,
                                503,
                                RETRY_AFTER_SEC,
                                "this runner is draining and takes no new tasks");
        if (runner->systemd_ready && !resources_fit(&spec->resources, &runner->pool.total))
                return problem_set(problem, 422, "/resources", "this runner can never offer these resources");
        _cleanup_(account_done) Account account = {};
        int r = task_account(runner, spec, &account, problem);
        if (r < 0 &&
            !task_error_is_shortage(r)) /* no descriptor to look into passwd with: it is asked again */
                return r;
        if (fits_right_now(runner, spec))
                return 0;
        if (spec->when_full == WHEN_FULL_REJECT) {
                ret->is_full = true;
                return problem_set(problem, 409, NULL, "the task does not fit right now");
        }
        if (runner->waiting.n_entries >= runner->config->queue_max)
                return problem_set_for_now(problem, 429, RETRY_AFTER_SEC, "too many tasks are waiting");
        return 0;
}

/* A lease that is live is the one it came under: lease_check() has seen to that. */
static int note_lease(Task *task, const Lease *lease) {
        if (!lease_is_live(lease, usec_now(CLOCK_BOOTTIME)))
                return 0;
        task->lease_epoch = lease->epoch;
        task->queue = strdup(lease->queue);
        return task->queue ? 0 : -ENOMEM;
}

int task_submit(Runner *runner,
                TaskSpec *spec,
                const char *lease_id,
                bool anew,
                TaskSubmission *ret,
                Problem *reterr_problem) {
        _cleanup_(task_spec_freep) TaskSpec *owned = spec;
        *ret = (TaskSubmission) {};
        int r = owned->task_id ? 0 : random_id_new(&owned->task_id);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);

        Task *existing = task_table_find(&runner->tasks, owned->task_id);
        Task *replaced = existing && anew && !task_is_live(existing) ? existing : NULL;
        if (existing && !replaced) {
                if (!task_spec_equal(existing->spec, owned))
                        return problem_set(reterr_problem, 409, NULL, "a different task has this id");
                ret->task = existing;
                return 0;
        }
        r = lease_check(&runner->lease,
                        lease_id,
                        runner->config->require_lease,
                        usec_now(CLOCK_BOOTTIME),
                        reterr_problem);
        if (r >= 0)
                r = check_takes_tasks(runner, owned, ret, reterr_problem);
        if (r < 0)
                return r;

        _cleanup_(task_freep) Task *task = NULL;
        r = task_new(runner, TAKE_PTR(owned), &task);
        if (r >= 0)
                r = note_lease(task, &runner->lease);
        if (r >= 0 && replaced)
                task_table_remove(&runner->tasks, replaced);
        if (r >= 0)
                r = task_table_add(&runner->tasks, task);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        admission_list_append(
                        &runner->waiting, &task->waiting, &task->spec->resources, usec_now(CLOCK_BOOTTIME));
        runner_admit_soon(runner);
        daemon_status_changed(&runner->daemon);
        task_send_event(task);
        metrics_count_submitted(&runner->metrics);
        ret->task = TAKE_PTR(task);
        ret->is_new = true;
        return 0;
}

int task_submit_json(
                Runner *runner,
                json_object *body,
                const char *task_id,
                const char *lease_id,
                TaskSubmission *ret,
                Problem *reterr_problem) {
        TaskDefaults defaults = { .resources = runner->config->default_resources };
        TaskSpec *spec = NULL;
        int r = task_spec_parse(body, task_id, &defaults, &spec, reterr_problem);
        return r < 0 ? r : task_submit(runner, spec, lease_id, false, ret, reterr_problem);
}
