/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/bulk-request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/task-request.h"
#include "core/task/task-spec.h"

static int parse_labels(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        BulkRequest *to = target;
        return task_labels_parse(value, BULK_LABELS_MAX, path, &to->labels, reterr_problem);
}

static int parse_state(
                json_object *value,
                const JsonField *field,
                const char *path,
                void *target,
                Problem *reterr_problem) {
        BulkRequest *to = target;
        int r = json_field_string(value, field, path, &to->state, reterr_problem);
        return r < 0 ? r : task_state_check(to->state, reterr_problem);
}

int bulk_request_parse(json_object *body, BulkRequest *ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "labels", parse_labels },
                { "state", parse_state, .min = 1, .max = 16 },
                {},
        };
        BulkRequest request = {};
        int r = json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", &request, reterr_problem);
        if (r >= 0 && !request.labels && !request.state)
                r = problem_set(reterr_problem, 400, "", "must have a state or a label to choose tasks by");
        if (r < 0)
                bulk_request_done(&request);
        else
                *ret = request;
        return r;
}

void bulk_request_done(BulkRequest *request) {
        text_list_free(request->labels);
        free(request->state);
        *request = (BulkRequest) {};
}

json_object *bulk_answer_new(uint64_t n_matched, uint64_t n_changed) {
        json_object *answer = json_object_new_object();
        int r = answer ? json_add_u64(answer, "matched", n_matched) : -ENOMEM;
        if (r >= 0)
                r = json_add_u64(answer, "changed", n_changed);
        if (r < 0) {
                json_object_put(answer);
                return NULL;
        }
        return answer;
}
