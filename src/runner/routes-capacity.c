/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/cleanup.h"
#include "core/json/json.h"
#include "core/scheduling/impact.h"
#include "runner/routes.h"
#include "runner/runner.h"

static int capacity_members(const Runner *runner, json_object *object) {
        CapacityView view = {
                .total = runner->pool.total,
                .n_queued = runner->waiting.n_entries,
                .n_running = runner->tasks.n_tasks - runner->tasks.n_finished - runner->waiting.n_entries,
                .draining = runner_is_draining(runner),
        };
        capacity_pool_free_amounts(&runner->pool, &view.free_amounts);
        int r = capacity_view_add(object, &view);
        if (r >= 0)
                r = memory_pressure_add(object, &runner->pressure_watch.pressure);
        return r < 0 ? r : json_add_u64(object, "revision", runner->pool.revision);
}

static int facts_members(const Runner *runner, json_object *facts) {
        const SystemdFacts *systemd = capacity_watch_facts(runner->capacity_watch);
        int r = json_add_string(facts, "machine_id", runner->facts.machine_id);
        if (r >= 0)
                r = json_add_string(facts, "boot_id", runner->facts.boot_id);
        if (r >= 0)
                r = json_add_string(facts, "instance_id", runner->facts.instance_id);
        if (r >= 0)
                r = json_add_string(facts, "hostname", runner->daemon.host_name);
        if (r >= 0)
                r = json_add_string(facts, "systemd", systemd->version);
        if (r >= 0)
                r = json_add_string(facts, "system_state", systemd->system_state);
        if (r >= 0)
                r = json_add_string(
                                facts,
                                "virtualization",
                                systemd->virtualization && *systemd->virtualization ?
                                                systemd->virtualization :
                                                "none");
        if (r >= 0)
                r = json_add_string(facts, "slice", TASK_SLICE);
        if (r >= 0)
                r = json_add_u64(facts, "cpus", runner->facts.cpus);
        if (r >= 0)
                r = json_add_u64(facts, "memory_mb", runner->facts.memory_mb);
        return r;
}

json_object *capacity_brief(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        if (!object || capacity_members(runner, object) < 0)
                return NULL;
        return TAKE_PTR(object);
}

json_object *runner_facts_json(const Runner *runner) {
        _cleanup_(json_putp) json_object *facts = json_object_new_object();
        return facts && facts_members(runner, facts) >= 0 ? TAKE_PTR(facts) : NULL;
}

static json_object *warnings_json(const SystemdFacts *facts) {
        _cleanup_(json_putp) json_object *array = json_object_new_array();
        for (size_t i = 0; i < facts->n_warnings && array; i++) {
                json_object *text = json_object_new_string(facts->warnings[i]);
                if (!text || json_object_array_add(array, text) < 0) {
                        json_object_put(text);
                        return NULL;
                }
        }
        return TAKE_PTR(array);
}

static json_object *capacity_full(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = capacity_brief(runner);
        if (!object || json_add(object, "facts", runner_facts_json(runner)) < 0 ||
            json_add(object, "warnings", warnings_json(capacity_watch_facts(runner->capacity_watch))) < 0)
                return NULL;
        return TAKE_PTR(object);
}

/* A request that waits for systemd's word on the slice, which may have changed within the last second. */
typedef struct FreshRequest {
        Runner *runner;
        HttpRequest *request;
        const RequestContext *context;
        FreshAnswer answer;
        CapacityWaiter *waiter;
} FreshRequest;

static void on_fresh(void *userdata) {
        FreshRequest *fresh = userdata;
        fresh->answer(fresh->runner, fresh->request, fresh->context);
        free(fresh);
}

static void on_fresh_hangup(HttpRequest *request, void *userdata) {
        FreshRequest *fresh = userdata;
        capacity_waiter_cancel(fresh->waiter);
        free(fresh);
}

void answer_when_fresh(
                Runner *runner,
                HttpRequest *request,
                const RequestContext *context,
                FreshAnswer answer) {
        FreshRequest *fresh = malloc(sizeof(*fresh));
        CapacityWaiter *waiter = NULL;
        if (!fresh) {
                http_request_answer_json(request, 200, NULL);
                return;
        }
        *fresh = (FreshRequest) {
                .runner = runner, .request = request, .context = context, .answer = answer
        };
        if (capacity_watch_when_fresh(runner->capacity_watch, on_fresh, fresh, &waiter) < 0) {
                free(fresh);
                http_request_answer_json(request, 200, NULL);
                return;
        }
        if (waiter) {
                fresh->waiter = waiter;
                http_request_on_hangup(request, on_fresh_hangup, fresh);
        }
}

static void answer_capacity(Runner *runner, HttpRequest *request, const RequestContext *context) {
        http_request_answer_json(request, 200, capacity_full(runner));
}

void route_capacity(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        answer_when_fresh(runner, request, context, answer_capacity);
}

static void answer_resources(Runner *runner, HttpRequest *request, const RequestContext *context) {
        json_object *object = NULL;
        (void) resources_to_json(&runner->pool.total, &object);
        http_request_answer_json(request, 200, object);
}

void route_resources(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        answer_when_fresh(runner, request, context, answer_resources);
}

static void answer_impact(Runner *runner, HttpRequest *request, const RequestContext *context) {
        Problem problem = {};
        Resources wanted = {}, free_amounts;
        json_object *object = NULL;
        if (impact_request_parse(&context->query, &wanted, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        capacity_pool_free_amounts(&runner->pool, &free_amounts);
        (void) impact_to_json(&wanted, &free_amounts, &object);
        http_request_answer_json(request, 200, object);
}

void route_impact(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        answer_when_fresh(runner, request, context, answer_impact);
}
