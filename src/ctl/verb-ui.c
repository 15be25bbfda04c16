/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* ui: the address of the page, good for one browser and a minute. */

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

/* Where a browser finds the daemon: by the same URL, but a Unix socket is none. */
static int page_url(Session *session, char **ret) {
        const char *given = options_get(&session->options, OPTION_URL);
        if (given || !session->target.unix_path)
                return text_format(ret, "%s", given ?: session->target.url);
        bool is_queue = options_has(&session->options, OPTION_QUEUE);
        return text_format(ret, "http://127.0.0.1:%d", is_queue ? TARGET_QUEUE_PORT : TARGET_RUNNER_PORT);
}

/* A browser would be told the same, but not as plainly. */
static int check_page(Session *session, const char *url) {
        bool is_queue = options_has(&session->options, OPTION_QUEUE);
        _cleanup_(answer_done) Answer answer = {};
        if (session_turn_to(session, url, is_queue, false) < 0)
                return SHELL_STATUS_USAGE;
        return session_ask(session, &(Ask) { .method = "GET", .path = "/ui", .expected = 302 }, &answer);
}

int verb_ui(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(freep) char *url = NULL, *address = NULL;
        if (page_url(session, &url) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(
                        session,
                        &(Ask) { .method = "POST", .path = "/api/v1/ui/code", .once = true },
                        &answer);
        if (status == 0)
                status = check_page(session, url);
        if (status != 0)
                return status;
        if (session->json)
                return session_print_json(session, &answer);
        if (text_format(&address, "%s/ui/#code=%s", session->target.url, member_text(answer.json, "code")) <
            0)
                return SHELL_STATUS_REFUSED;
        return print_line(address, strlen(address)) < 0 ? SHELL_STATUS_REFUSED : 0;
}
