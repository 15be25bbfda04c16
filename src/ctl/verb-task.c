/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* show, list, wait, stop, forget: what there is to do with tasks once they are submitted. Of several ids each
 * gets its turn; the first failure is the exit status. */

#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/attempt.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "ctl/verb-bulk.h"
#include "ctl/verbs.h"

#define WAIT_SEC_MAX 1e9
#define PAGE_TASKS   "500"

int verb_show(Session *session, char **arguments) {
        int first_status = 0;
        for (char **id = arguments; *id; id++) {
                _cleanup_(answer_done) Answer answer = {};
                int status = attempt_get(session, *id, session->json ? "full" : "tail", &answer);
                if (status == 0 && session->json)
                        status = session_print_json(session, &answer);
                else if (status == 0 &&
                         ((id > arguments && print_bytes("\n", 1) < 0) || attempt_print(answer.json) < 0))
                        status = SHELL_STATUS_REFUSED;
                first_status = first_status ?: status;
        }
        return first_status;
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

static int list_page(Session *session, Table *table, char **after) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *path = NULL;
        if (list_path(&session->options, *after, &path) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(session, &(Ask){ .method = "GET", .path = path }, &answer);
        if (status != 0)
                return status;
        if (session->json)
                status = session_print_json(session, &answer);
        json_object *tasks = member(answer.json, "tasks");
        usec_t now = usec_now(CLOCK_REALTIME);
        for (size_t i = 0; status == 0 && !session->json && i < element_count(tasks); i++)
                if (attempt_table_add(table, element(tasks, i), now) < 0)
                        status = SHELL_STATUS_REFUSED;
        free(*after);
        const char *next = member_text(answer.json, "next");
        *after = *next ? strdup(next) : NULL;
        return status;
}

int verb_list(Session *session, char **arguments) {
        _cleanup_(table_freep) Table *table = NULL;
        _cleanup_(freep) char *after = NULL;
        if (attempt_table_new(&table) < 0)
                return SHELL_STATUS_REFUSED;
        do {
                int status = list_page(session, table, &after);
                if (status != 0)
                        return status;
        } while (after);
        return !session->json && print_table(table) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int parse_deadline(const Options *options, usec_t *ret) {
        const char *text = options_get(options, OPTION_TIMEOUT);
        double seconds;
        *ret = USEC_INFINITY;
        if (!text)
                return 0;
        if (amount_parse_seconds(text, WAIT_SEC_MAX, &seconds) < 0) {
                say("--timeout: cannot make sense of \"%s\"", text);
                return SHELL_STATUS_USAGE;
        }
        *ret = usec_add(usec_now(CLOCK_BOOTTIME), (usec_t) (seconds * (double) USEC_PER_SEC));
        return 0;
}

static int print_end(Session *session, const char *id, const Answer *answer) {
        _cleanup_(freep) char *state = NULL;
        _cleanup_(text_done) Text line = {};
        if (session->json)
                return session_print_json(session, answer);
        if (attempt_state_text(answer->json, &state) < 0 || text_appendf(&line, "%s: %s\n", id, state) < 0 ||
            print_bytes(line.data, line.size) < 0)
                return SHELL_STATUS_REFUSED;
        return 0;
}

static int wait_for(Session *session, const char *id, usec_t deadline) {
        _cleanup_(answer_done) Answer answer = {};
        int status = attempt_await(session, id, session->json ? "full" : "none", deadline, &answer);
        if (status == 0)
                status = print_end(session, id, &answer);
        return status ?: shell_status_of_attempt(answer.json);
}

int verb_wait(Session *session, char **arguments) {
        usec_t deadline;
        int first_status = parse_deadline(&session->options, &deadline);
        for (char **id = arguments; first_status != SHELL_STATUS_USAGE && *id; id++) {
                int status = wait_for(session, *id, deadline);
                first_status = first_status ?: status;
        }
        return first_status;
}

static int stop_one(Session *session, const char *id) {
        _cleanup_(answer_done) Answer answer = {};
        int status = attempt_stop(session, id, &answer);
        if (status == 0 && answer.status == 200) {
                say("%s is not running: %s", id, member_text(answer.json, "state"));
                return session->json ? session_print_json(session, &answer) : 0;
        }
        if (status == 0 && session->json && !options_has(&session->options, OPTION_WAIT))
                status = session_print_json(session, &answer);
        return status;
}

int verb_stop(Session *session, char **arguments) {
        int first_status;
        if (bulk_is_wanted(session, arguments, &first_status)) {
                if (!options_has(&session->options, OPTION_WAIT))
                        return bulk_carry_out(session, "stop");
                say("--wait takes ids");
                return SHELL_STATUS_USAGE;
        }
        if (first_status != 0)
                return first_status;
        for (char **id = arguments; *id; id++) { /* all first, so that they end at the same time */
                int status = stop_one(session, *id);
                first_status = first_status ?: status;
        }
        for (char **id = arguments; options_has(&session->options, OPTION_WAIT) && *id && !first_status;
             id++) {
                _cleanup_(answer_done) Answer answer = {};
                first_status = attempt_await(session, *id, "none", USEC_INFINITY, &answer);
                if (first_status == 0)
                        first_status = print_end(session, *id, &answer);
        }
        return first_status;
}

static int forget_one(Session *session, const char *id) {
        _cleanup_(answer_done) Answer before = {}, answer = {};
        int status = attempt_get(session, id, "none", &before);
        if (status != 0)
                return status;
        if (attempt_is_live(before.json)) {
                say("%s is %s: stop it first", id, member_text(before.json, "state"));
                return SHELL_STATUS_REFUSED;
        }
        return attempt_forget(session, id, &answer);
}

int verb_forget(Session *session, char **arguments) {
        int first_status;
        if (bulk_is_wanted(session, arguments, &first_status))
                return bulk_carry_out(session, "forget");
        if (first_status != 0)
                return first_status;
        for (char **id = arguments; *id; id++) {
                int status = forget_one(session, *id);
                first_status = first_status ?: status;
        }
        return first_status;
}
