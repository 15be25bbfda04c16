/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/forward-rule.h"

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

#define TASK_PATH "/api/v1/task/"

const char *const forward_request_headers[] = {
        "Accept",        "traceparent", "tracestate",   "Last-Event-ID",
        "If-None-Match", "Range",       "Daggyr-Queue", NULL,
};

const char *const forward_answer_headers[] = {
        "Location", "Retry-After", "Allow", "ETag", "Cache-Control", "Content-Range", "Daggyr-Queue", NULL,
};

static bool method_only_reads(const char *method) {
        return streq(method, "GET") || streq(method, "HEAD") || streq(method, "OPTIONS");
}

/* "/api/v1/task/ID", and nothing behind that. */
static bool path_is_task(const char *path) {
        size_t prefix_size = strlen(TASK_PATH);
        return strncmp(path, TASK_PATH, prefix_size) == 0 && path[prefix_size] &&
                        !strchr(path + prefix_size, '/');
}

/* Tasks under ids that the client has chosen are there already the second time. */
static bool names_each_task(const char *body, size_t size) {
        _cleanup_(json_putp) json_object *tasks = NULL;
        Problem ignored = {};
        if (json_parse(body, size, &tasks, &ignored) < 0 || !json_object_is_type(tasks, json_type_array))
                return false;
        for (size_t i = 0; i < json_object_array_length(tasks); i++) {
                json_object *task = json_object_array_get_idx(tasks, i);
                if (!json_object_is_type(task, json_type_object) ||
                    !json_object_object_get_ex(task, "task_id", NULL))
                        return false;
        }
        return true;
}

/* Not to try again, be it one or many: what has failed once more meanwhile would be tried a second time. */
static bool post_may_repeat(const char *path, const char *body, size_t size) {
        return path_is_task(path) || streq(path, "/api/v1/tasks/stop") ||
                        streq(path, "/api/v1/tasks/forget") || streq(path, "/api/v1/workers") ||
                        (streq(path, "/api/v1/tasks") && names_each_task(body, size));
}

bool forward_may_repeat(
                const char *method,
                const char *path,
                const Query *query,
                const char *body,
                size_t size) {
        if (method_only_reads(method) || streq(method, "PUT"))
                return true;
        if (streq(method, "POST"))
                return post_may_repeat(path, body, size);
        if (!streq(method, "DELETE"))
                return false;
        /* The first one may have ended the task, and the second one would forget its result. */
        const char *keep = query_get(query, "keep");
        return !path_is_task(path) || (keep && streq(keep, "true"));
}

bool forward_may_wait(const char *path, const Query *query) {
        return query_get(query, "wait") || query_get(query, "follow") || streq(path, "/api/v1/events");
}
