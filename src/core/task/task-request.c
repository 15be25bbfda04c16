/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/task-request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "core/json/json.h"

const char *const task_get_query[] = { "wait", "output", NULL };
const char *const task_delete_query[] = { "wait", "keep", NULL };
const char *const task_output_query[] = { "stream", "offset", "follow", NULL };
const char *const tasks_list_query[] = { "state", "label", "limit", "after", NULL };
const char *const tasks_list_repeatable[] = { "label", NULL };

int task_wait_parse(const Query *query, usec_t *ret, Problem *reterr_problem) {
        const char *text = query_get(query, "wait");
        double seconds = 0;
        *ret = 0;
        if (text &&
            (text_parse_double(text, &seconds) < 0 || usec_from_seconds(seconds, TASK_WAIT_SEC_MAX, ret) < 0))
                return problem_set(
                                reterr_problem,
                                400,
                                "/wait",
                                "must be a number of seconds between 0 and 300");
        return 0;
}

int task_keep_parse(const Query *query, bool *ret, Problem *reterr_problem) {
        const char *text = query_get(query, "keep") ?: "false";
        *ret = streq(text, "true");
        if (!*ret && !streq(text, "false"))
                return problem_set(reterr_problem, 400, "/keep", "must be true or false");
        return 0;
}

int output_mode_parse(const Query *query, OutputMode *ret, Problem *reterr_problem) {
        const char *name = query_get(query, "output");
        if (!name || streq(name, "full"))
                *ret = OUTPUT_FULL;
        else if (streq(name, "tail"))
                *ret = OUTPUT_TAIL;
        else if (streq(name, "none"))
                *ret = OUTPUT_NONE;
        else
                return problem_set(reterr_problem, 400, "/output", "must be none, tail or full");
        return 0;
}

int output_request_parse(const Query *query, OutputRequest *ret, Problem *reterr_problem) {
        const char *stream = query_get(query, "stream") ?: "stdout";
        const char *offset = query_get(query, "offset");
        const char *follow = query_get(query, "follow") ?: "false";
        *ret = (OutputRequest) { .is_error = streq(stream, "stderr"), .follow = streq(follow, "true") };
        if (!ret->is_error && !streq(stream, "stdout"))
                return problem_set(reterr_problem, 400, "/stream", "must be stdout or stderr");
        if (offset && text_parse_u64(offset, 0, UINT64_MAX, &ret->offset) < 0)
                return problem_set(reterr_problem, 400, "/offset", "must be a number of bytes");
        if (!ret->follow && !streq(follow, "false"))
                return problem_set(reterr_problem, 400, "/follow", "must be true or false");
        return 0;
}

/* Nineteen digits, so that the documents can say it. */
#define AFTER_MAX UINT64_C(9999999999999999999)

int task_state_check(const char *state, Problem *problem) {
        static const char *const states[] = { "queued", "running", "completed", "errored", "killed" };
        for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
                if (!state || streq(state, states[i]))
                        return 0;
        return problem_set(problem, 400, "/state", "must be queued, running, completed, errored or killed");
}

static int add_label(
                const char *label,
                size_t labels_max,
                size_t *n,
                TaskListRequest *list,
                Problem *problem) {
        if (!strchr(label, '='))
                return problem_set(problem, 400, "/label", "must be key=value");
        if (*n >= labels_max || *n >= QUERY_ITEMS_MAX)
                return problem_set(problem, 400, "/label", "must not stand more than %zu times", labels_max);
        list->labels[(*n)++] = label;
        return 0;
}

int task_list_request_parse(
                const Query *query,
                size_t labels_max,
                TaskListRequest *ret,
                Problem *reterr_problem) {
        const char *limit = query_get(query, "limit"), *after = query_get(query, "after");
        *ret = (TaskListRequest) {
                .state = query_get(query, "state"),
                .limit = TASK_LIST_MAX,
                .after = UINT64_MAX,
        };
        int r = task_state_check(ret->state, reterr_problem);
        if (r < 0)
                return r;
        if (limit && text_parse_u64(limit, 1, TASK_LIST_MAX, &ret->limit) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                "/limit",
                                "must be an integer between 1 and %d",
                                TASK_LIST_MAX);
        if (after && text_parse_u64(after, 0, AFTER_MAX, &ret->after) < 0)
                return problem_set(
                                reterr_problem, 400, "/after", "must be the \"next\" of an earlier answer");
        size_t n_labels = 0;
        for (size_t i = 0; r >= 0 && i < query->n_items; i++)
                if (streq(query->items[i].name, "label"))
                        r = add_label(query->items[i].value, labels_max, &n_labels, ret, reterr_problem);
        return r;
}

void task_page_done(TaskPage *page) {
        text_done(&page->text);
        *page = (TaskPage) {};
}

bool task_page_is_full(const TaskPage *page, uint64_t limit) {
        return page->n_tasks >= limit || page->text.size >= TASK_PAGE_BYTES_MAX;
}

int task_page_add(TaskPage *page, json_object *task) {
        _cleanup_(json_putp) json_object *owned = task;
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        int r = owned ? json_format(owned, &text, &size) : -ENOMEM;
        return r < 0 ? r : task_page_add_text(page, text, size);
}

int task_page_add_text(TaskPage *page, const char *text, size_t size) {
        int r = text_append(&page->text, page->n_tasks == 0 ? "{\"tasks\":[" : ",");
        if (r >= 0)
                r = text_append_bytes(&page->text, text, size);
        page->n_tasks += r >= 0;
        return r;
}

int task_page_end(TaskPage *page, uint64_t next) {
        int r = page->n_tasks == 0 ? text_append(&page->text, "{\"tasks\":[") : 0;
        if (r >= 0 && next == UINT64_MAX)
                r = text_append(&page->text, "],\"next\":null}");
        else if (r >= 0)
                r = text_appendf(&page->text, "],\"next\":\"%" PRIu64 "\"}", next);
        return r;
}

int task_batch_check(json_object *body, Problem *reterr_problem) {
        if (json_object_is_type(body, json_type_array) && json_object_array_length(body) <= TASK_BATCH_MAX)
                return 0;
        return problem_set(reterr_problem, 400, NULL, "must be an array of at most %d tasks", TASK_BATCH_MAX);
}

const char *task_batch_id(json_object *element) {
        json_object *id;
        bool named = json_object_is_type(element, json_type_object) &&
                        json_object_object_get_ex(element, "task_id", &id) &&
                        json_object_is_type(id, json_type_string);
        return named ? json_object_get_string(id) : NULL;
}

/* Takes VALUE over. */
static json_object *batch_outcome(const char *task_id, int status, const char *key, json_object *value) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(), *owned = value;
        int r = object ? json_add_string(object, "task_id", task_id) : -ENOMEM;
        if (r >= 0)
                r = json_add_i64(object, "status", status);
        if (r >= 0)
                r = json_add(object, key, TAKE_PTR(owned));
        return r < 0 ? NULL : TAKE_PTR(object);
}

json_object *task_batch_accepted(const char *task_id, bool is_new, json_object *attempt) {
        return batch_outcome(task_id, is_new ? 202 : 200, "attempt", attempt);
}

json_object *task_batch_refused(const char *task_id, const Problem *problem, json_object *extra) {
        json_object *problem_json;
        if (problem_to_json(problem, extra, &problem_json) < 0)
                return NULL;
        return batch_outcome(task_id, problem->status, "problem", problem_json);
}

int task_path_format(const char *task_id, char **ret) {
        _cleanup_(freep) char *id = NULL;
        int r = text_percent_encode(task_id, "-._~:", &id);
        if (r < 0)
                return r;
        return text_format(ret, "/api/v1/task/%s", id);
}
