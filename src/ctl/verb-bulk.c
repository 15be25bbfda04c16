/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/verb-bulk.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

/* A queue is some seconds about a hundred thousand tasks; its disk may be slow. */
#define BULK_USEC (600 * USEC_PER_SEC)

bool bulk_is_wanted(Session *session, char *const *ids, int *ret_status) {
        bool is_chosen = options_has(&session->options, OPTION_LABEL) ||
                        options_has(&session->options, OPTION_STATE);
        *ret_status = 0;
        if (is_chosen && !*ids)
                return true;
        if (is_chosen)
                say("name tasks by their ids, or choose them by --label and --state, not both");
        else if (!*ids)
                say("which tasks? Name their ids, or choose them by --label and --state");
        if (is_chosen || !*ids)
                *ret_status = SHELL_STATUS_USAGE;
        return false;
}

static int add_label(json_object *labels, const char *text) {
        const char *equals = strchr(text, '=');
        if (!equals) {
                say("--label: \"%s\" is not KEY=VALUE", text);
                return -EINVAL;
        }
        _cleanup_(freep) char *key = strndup(text, (size_t) (equals - text));
        return key ? json_add_string(labels, key, equals + 1) : -ENOMEM;
}

static int add_labels(json_object *body, const Options *options) {
        json_object *labels = json_object_new_object();
        int r = labels ? 0 : -ENOMEM;
        for (unsigned i = 0; r >= 0 && i < options->n; i++)
                if (options->list[i].id == OPTION_LABEL)
                        r = add_label(labels, options->list[i].value);
        if (r < 0) {
                json_object_put(labels);
                return r;
        }
        return json_add(body, "labels", labels);
}

static int selection_format(const Options *options, char **ret) {
        _cleanup_(json_putp) json_object *body = json_object_new_object();
        const char *state = options_get(options, OPTION_STATE);
        int r = body ? 0 : -ENOMEM;
        if (r >= 0 && options_has(options, OPTION_LABEL))
                r = add_labels(body, options);
        if (r >= 0 && state)
                r = json_add_string(body, "state", state);
        return r < 0 ? r : json_format(body, ret, NULL);
}

static int print_counts(Session *session, const Answer *answer) {
        _cleanup_(text_done) Text line = {};
        if (session->json)
                return session_print_json(session, answer);
        int r = text_appendf(
                        &line,
                        "%.0f matched, %.0f changed\n",
                        member_number(answer->json, "matched"),
                        member_number(answer->json, "changed"));
        return r < 0 || print_bytes(line.data, line.size) < 0 ? SHELL_STATUS_REFUSED : 0;
}

/* Only a queue tries again. A daemon that has no such path may be one that has no such task. */
static int say_missing(Session *session, const Answer *answer) {
        _cleanup_(answer_done) Answer workers = {};
        int status = session_ask_for_workers(session, &workers);
        if (status == 0)
                session_say_problem(session, answer->status, answer->body, answer->body_size);
        return status ?: SHELL_STATUS_REFUSED;
}

int bulk_carry_out(Session *session, const char *verb) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *body = NULL, *path = NULL;
        int r = selection_format(&session->options, &body);
        if (r == -EINVAL)
                return SHELL_STATUS_USAGE;
        if (r < 0 || text_format(&path, "/api/v1/tasks/%s", verb) < 0)
                return SHELL_STATUS_REFUSED;
        Ask ask = {
                .method = "POST",
                .path = path,
                .body = body,
                .extra_usec = BULK_USEC,
                .once = true,
                .expected = 404,
        };
        int status = session_ask(session, &ask, &answer);
        if (status == 0 && answer.status == 404)
                return say_missing(session, &answer);
        return status ?: print_counts(session, &answer);
}

static int retry_one(Session *session, const char *id) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *path = NULL;
        if (path_format(&path, id, "/retry") < 0)
                return SHELL_STATUS_REFUSED;
        Ask ask = { .method = "POST", .path = path, .once = true, .expected = 404 };
        int status = session_ask(session, &ask, &answer);
        if (status == 0 && answer.status == 404)
                return say_missing(session, &answer);
        return status == 0 && session->json ? session_print_json(session, &answer) : status;
}

int verb_retry(Session *session, char **arguments) {
        int first_status;
        if (bulk_is_wanted(session, arguments, &first_status))
                return bulk_carry_out(session, "retry");
        if (first_status != 0)
                return first_status;
        for (char **id = arguments; *id; id++) {
                int status = retry_one(session, *id);
                first_status = first_status ?: status;
        }
        return first_status;
}
