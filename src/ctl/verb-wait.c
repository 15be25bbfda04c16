/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* wait: for tasks by their ids, or by what they have in common. */

#include <errno.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/say.h"
#include "ctl/task-list.h"
#include "ctl/verbs.h"
#include "ctl/wait.h"

#define WAIT_SEC_MAX 1e9

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

/* Ids as they come, without a search for the end of the list each time. */
typedef struct Ids {
        char **list;
        size_t n, n_allocated;
} Ids;

static void ids_done(Ids *ids) {
        text_list_free(ids->list);
}

static int on_task(json_object *attempt, void *userdata) {
        Ids *ids = userdata;
        if (ids->n + 1 >= ids->n_allocated) {
                size_t n = 2 * ids->n_allocated + 64;
                char **list = realloc(ids->list, n * sizeof(*list));
                if (!list)
                        return SHELL_STATUS_REFUSED;
                ids->list = list;
                ids->n_allocated = n;
        }
        ids->list[ids->n] = strdup(member_text(attempt, "task_id"));
        if (!ids->list[ids->n])
                return SHELL_STATUS_REFUSED;
        ids->list[++ids->n] = NULL;
        return 0;
}

/* Those that there are now: what is submitted later is not waited for. */
static int wait_for_labelled(Session *session, usec_t deadline) {
        _cleanup_(ids_done) Ids ids = {};
        TaskFilter filter = {};
        int status = task_list(session, &filter, &(TaskListing) { .on_task = on_task, .userdata = &ids });
        if (status != 0)
                return status;
        if (ids.n == 0) {
                say("no task has that label");
                return SHELL_STATUS_REFUSED;
        }
        return wait_for_tasks(session, ids.list, deadline);
}

int verb_wait(Session *session, char **arguments) {
        bool by_label = options_has(&session->options, OPTION_LABEL);
        usec_t deadline;
        int status = parse_deadline(&session->options, &deadline);
        if (status != 0)
                return status;
        if (by_label == (*arguments != NULL)) {
                say("wait takes either ids or --label");
                return SHELL_STATUS_USAGE;
        }
        return by_label ? wait_for_labelled(session, deadline) : wait_for_tasks(session, arguments, deadline);
}
