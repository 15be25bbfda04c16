/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/routes.h"
#include "runner/runner.h"

void route_drain(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        Problem problem = {};
        bool drain = false;
        if (request_parse_switch(request, "drain", &drain, &problem) < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        runner_set_draining(runner, drain);
        http_request_answer_json(request, 200, capacity_brief(runner));
}

void route_events(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        event_stream_answer(runner->events, request);
}

void route_metrics(void *userdata, HttpRequest *request, const RequestContext *context) {
        _cleanup_(text_done) Text text = {};
        int r = metrics_format(userdata, &text);
        request_answer_metrics(request, r, &text);
}
