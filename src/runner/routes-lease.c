/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <systemd/sd-id128.h>

#include "base/text.h"
#include "core/json/json.h"
#include "runner/routes.h"
#include "runner/runner.h"

#define RETRY_AFTER_SEC 5

static json_object *lease_json(const Runner *runner, bool with_id) {
        return lease_to_json(&runner->lease, with_id, usec_now(CLOCK_BOOTTIME), usec_now(CLOCK_REALTIME));
}

/* What the holder reads: the lease with its id and the host's facts. */
static json_object *grant_json(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = lease_json(runner, true);
        if (!object || json_add(object, "facts", runner_facts_json(runner)) < 0)
                return NULL;
        return TAKE_PTR(object);
}

static void refuse_held(const Runner *runner, HttpRequest *request) {
        Problem problem = {};
        usec_t left = usec_subtract(runner->lease.expires_usec, usec_now(CLOCK_BOOTTIME));
        (void) problem_set(&problem, 409, NULL, "another queue holds the lease");
        json_object *extra = json_object_new_object();
        if (extra &&
            (json_add_string(extra, "holder", runner->lease.queue) < 0 ||
             json_add_double(extra, "expires_in", (double) left / (double) USEC_PER_SEC) < 0))
                extra = (json_object_put(extra), NULL);
        http_request_answer_problem(request, &problem, extra);
}

/* Whether a host in this state has a future in which a lease makes sense; a state not yet known is no reason
 * to refuse. */
static bool system_state_admits(const char *state) {
        return !state || streq(state, "running") || streq(state, "degraded") || streq(state, "starting");
}

static int check_may_lease(const Runner *runner, Problem *problem) {
        const char *state = capacity_watch_facts(runner->capacity_watch)->system_state;
        if (runner_is_ready(runner) && system_state_admits(state))
                return 0;
        return problem_set_for_now(
                        problem, 503, RETRY_AFTER_SEC, "this runner is draining or its host is going down");
}

static void answer_acquire(Runner *runner, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(lease_request_done) LeaseRequest wanted = {};
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = lease_request_parse(body, &wanted, &problem);
        if (r >= 0)
                r = check_may_lease(runner, &problem);
        if (r < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        sd_id128_t fresh;
        char fresh_id[SD_ID128_STRING_MAX];
        r = sd_id128_randomize(&fresh);
        if (r >= 0)
                r = lease_acquire(
                                &runner->lease,
                                &wanted,
                                sd_id128_to_string(fresh, fresh_id),
                                usec_now(CLOCK_BOOTTIME));
        if (r == -EEXIST) {
                refuse_held(runner, request);
                return;
        }
        if (r < 0) {
                (void) problem_from_errno(&problem, r);
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        runner_lease_changed(runner);
        http_request_answer_json(request, r > 0 ? 201 : 200, grant_json(runner));
}

void route_lease_acquire(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        answer_when_fresh(runner, request, context, answer_acquire);
}

static void refuse_unknown(HttpRequest *request) {
        Problem problem = {};
        (void) problem_set(&problem, 404, NULL, "that is not the live lease");
        http_request_answer_problem(request, &problem, NULL);
}

void route_lease_renew(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        if (lease_renew(&runner->lease, context->match.parameters[0], usec_now(CLOCK_BOOTTIME)) < 0) {
                refuse_unknown(request);
                return;
        }
        runner_lease_changed(runner);
        http_request_answer_json(request, 200, grant_json(runner));
}

void route_lease_release(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        if (lease_release(&runner->lease, context->match.parameters[0], usec_now(CLOCK_BOOTTIME)) < 0) {
                refuse_unknown(request);
                return;
        }
        runner_lease_changed(runner);
        http_request_answer(request, 204, NULL, NULL, 0);
}

void route_lease_show(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        http_request_answer_json(request, 200, runner_lease_json(runner));
}

json_object *runner_lease_json(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object)
                return NULL;
        int r = lease_is_live(&runner->lease, usec_now(CLOCK_BOOTTIME)) ?
                        json_add(object, "lease", lease_json(runner, false)) :
                        json_add_null(object, "lease");
        return r < 0 ? NULL : TAKE_PTR(object);
}
