/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/worker-plan.h"

#include "base/text.h"

const char *worker_origin_to_string(WorkerOrigin origin) {
        return origin == WORKER_FROM_FILE ? "file" : "joined";
}

static bool is_another(const PresentWorker *worker, const WorkerConfig *wanted) {
        return worker && !streq(worker->id, wanted->id);
}

/* What it was sent at a third place could not be followed. */
static bool has_just_moved(const PresentWorker *present, const WorkerConfig *wanted) {
        return present && present->before_url && !streq(present->url, wanted->url) &&
                        !streq(present->before_url, wanted->url);
}

static WorkerStep step_to(const PresentWorker *present, const WorkerConfig *wanted) {
        if (!present)
                return WORKER_STEP_ADD;
        return streq(present->url, wanted->url) ? WORKER_STEP_SET : WORKER_STEP_MOVE;
}

WorkerStep worker_plan_file(
                const PresentWorker *present,
                const WorkerConfig *wanted,
                const PresentWorker *at_url) {
        if (!wanted)
                return present->origin == WORKER_JOINED || present->leaving ? WORKER_STEP_KEEP :
                                                                              WORKER_STEP_LEAVE;
        return is_another(at_url, wanted) || has_just_moved(present, wanted) ? WORKER_STEP_WAIT :
                                                                               step_to(present, wanted);
}

/* The file has it, and has not just given it up. */
static bool is_of_file(const PresentWorker *present) {
        return present->origin == WORKER_FROM_FILE && !present->leaving;
}

int worker_plan_join(
                const PresentWorker *present,
                const WorkerConfig *wanted,
                const PresentWorker *at_url,
                Problem *reterr_problem) {
        if (present && is_of_file(present))
                return problem_set(
                                reterr_problem,
                                409,
                                "/id",
                                "the configuration file has a worker of this id: change it there");
        if (is_another(at_url, wanted))
                return problem_set(
                                reterr_problem,
                                409,
                                "/url",
                                "worker \"%s\" has this url%s",
                                at_url->id,
                                !streq(at_url->url, wanted->url) ? ", or had it a moment ago" :
                                                at_url->leaving  ? ", and has not left yet" :
                                                                   "");
        if (has_just_moved(present, wanted))
                return problem_set_for_now(
                                reterr_problem,
                                503,
                                10,
                                "it has moved a moment ago, and what it had there may still run");
        return step_to(present, wanted);
}

int worker_plan_leave(const PresentWorker *present, Problem *reterr_problem) {
        if (!present)
                return problem_set(reterr_problem, 404, NULL, "there is no worker of this id");
        if (is_of_file(present))
                return problem_set(
                                reterr_problem,
                                409,
                                NULL,
                                "the configuration file has this worker: take it out there, and reload");
        return WORKER_STEP_LEAVE;
}
