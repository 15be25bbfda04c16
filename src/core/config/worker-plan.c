/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/worker-plan.h"

#include "base/text.h"

const char *worker_origin_to_string(WorkerOrigin origin) {
        return origin == WORKER_FROM_FILE ? "file" : "joined";
}

static bool is_another(const PresentWorker *worker, const WorkerConfig *wanted) {
        return worker && !streq(worker->id, wanted->id);
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
        return is_another(at_url, wanted) ? WORKER_STEP_WAIT : step_to(present, wanted);
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
                                at_url->leaving ? ", and has not left yet" : "");
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
