/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"
#include "core/json.h"
#include "runner/routes.h"
#include "runner/runner.h"

typedef struct DrainRequest {
        bool drain;
} DrainRequest;

void route_drain(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        static const JsonField fields[] = {
                { "drain", json_field_bool, offsetof(DrainRequest, drain), true, 0, 0 },
                {},
        };
        Problem problem = {};
        DrainRequest wanted = {};
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, &problem);
        if (r >= 0)
                r = json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", &wanted, &problem);
        if (r < 0) {
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        runner_set_draining(runner, wanted.drain);
        http_request_answer_json(request, 200, capacity_brief(runner));
}

void route_events(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        event_stream_answer(runner->events, request, http_request_header(request, "Last-Event-ID"));
}

void route_metrics(void *userdata, HttpRequest *request, const RequestContext *context) {
        Runner *runner = userdata;
        _cleanup_(text_done) Text text = {};
        if (metrics_format(runner, &text) < 0)
                http_request_answer_json(request, 200, NULL);
        else
                http_request_answer(
                                request,
                                200,
                                "text/plain; version=0.0.4; charset=utf-8",
                                text.data,
                                text.size);
}
