/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* show, stop, forget: what there is to do with tasks once they are submitted. Of several ids each
 * gets its turn; the first failure is the exit status. */

#include "base/text.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/say.h"
#include "ctl/verb-bulk.h"
#include "ctl/verbs.h"

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
                        first_status = attempt_print_end(session, *id, &answer);
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
