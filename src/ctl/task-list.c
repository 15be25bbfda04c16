/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/task-list.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/path.h"
#include "ctl/say.h"

#define PAGE_TASKS    "500"
#define SINCE_SEC_MAX 1e10

int task_filter_parse(const Options *options, usec_t now_realtime_usec, TaskFilter *ret) {
        const char *text = options_get(options, OPTION_SINCE);
        double seconds;
        *ret = (TaskFilter) {};
        if (!text || amount_parse_rfc3339(text, &ret->since_usec) >= 0)
                return 0;
        if (amount_parse_seconds(text, SINCE_SEC_MAX, &seconds) < 0) {
                say("--since: \"%s\" is neither a span (2h) nor a time (2026-11-21T22:12:00.000000Z)", text);
                return -EINVAL;
        }
        ret->since_usec = usec_subtract(now_realtime_usec, (usec_t) (seconds * (double) USEC_PER_SEC));
        return 0;
}

static bool is_since(const TaskFilter *filter, json_object *attempt) {
        usec_t submitted;
        return filter->since_usec == 0 ||
                        (amount_parse_rfc3339(member_text(attempt, "submit_time"), &submitted) >= 0 &&
                         submitted >= filter->since_usec);
}

static bool has_label(json_object *attempt, const char *label) {
        const char *equals = strchr(label, '=');
        _cleanup_(freep) char *key = equals ? strndup(label, (size_t) (equals - label)) : NULL;
        json_object *labels = member(attempt, "labels");
        return key && member(labels, key) && streq(member_text(labels, key), equals + 1);
}

bool task_filter_has(const Options *options, const TaskFilter *filter, json_object *attempt) {
        const char *state = options_get(options, OPTION_STATE);
        if (!is_since(filter, attempt) || (state && !streq(state, member_text(attempt, "state"))))
                return false;
        for (unsigned i = 0; i < options->n; i++)
                if (options->list[i].id == OPTION_LABEL && !has_label(attempt, options->list[i].value))
                        return false;
        return true;
}

static int list_path(const Options *options, const char *after, char **ret) {
        int r = 0;
        *ret = strdup("/api/v1/tasks?limit=" PAGE_TASKS);
        if (!*ret)
                return -ENOMEM;
        for (unsigned i = 0; r >= 0 && i < options->n; i++)
                if (options->list[i].id == OPTION_STATE)
                        r = path_add_query(ret, "state", options->list[i].value);
                else if (options->list[i].id == OPTION_LABEL)
                        r = path_add_query(ret, "label", options->list[i].value);
        return r >= 0 && after ? path_add_query(ret, "after", after) : r;
}

static int list_page(Session *session, const TaskFilter *filter, const TaskListing *listing, char **after) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *path = NULL;
        if (list_path(&session->options, *after, &path) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(session, &(Ask) { .method = "GET", .path = path }, &answer);
        if (status == 0 && listing->on_page)
                status = listing->on_page(session, &answer);
        json_object *tasks = member(answer.json, "tasks");
        for (size_t i = 0; status == 0 && listing->on_task && i < element_count(tasks); i++)
                if (is_since(filter, element(tasks, i)))
                        status = listing->on_task(element(tasks, i), listing->userdata);
        free(*after);
        const char *next = member_text(answer.json, "next");
        *after = *next ? strdup(next) : NULL;
        return status;
}

int task_list(Session *session, const TaskFilter *filter, const TaskListing *listing) {
        _cleanup_(freep) char *after = NULL;
        int status;
        do
                status = list_page(session, filter, listing, &after);
        while (status == 0 && after);
        return status;
}
