/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

/* Each task is waited for by its own request, in order; that decides. Meanwhile events tell which of the
 * others have ended, for the count that people see. */
#include "ctl/wait.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash-table.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/event-watch.h"
#include "ctl/progress.h"
#include "ctl/say.h"

typedef struct Awaited {
        const char *id; /* weak */
        bool ended;
        UT_hash_handle hh;
} Awaited;

typedef struct Wait {
        Session *session;
        Awaited *tasks; /* as many as there are ids, some of them twice */
        Awaited *by_id;
        size_t n_tasks, n_ended, n_failed;
        EventWatch *watch; /* NULL: of a single task, nobody counts */
        Progress progress;
} Wait;

static void wait_done(Wait *wait) {
        HASH_CLEAR(hh, wait->by_id);
        progress_clear(&wait->progress);
        event_watch_free(wait->watch);
        free(wait->tasks);
}

static void tell(Wait *wait) {
        if (wait->watch)
                progress_tell(&wait->progress,
                              "%zu/%zu done, %zu failed",
                              wait->n_ended,
                              wait->n_tasks,
                              wait->n_failed);
}

static void note_end(Wait *wait, const char *id, const char *state) {
        Awaited *task;
        HASH_FIND_STR(wait->by_id, id, task);
        if (!task || task->ended || streq(state, "queued") || streq(state, "running"))
                return;
        task->ended = true;
        wait->n_ended++;
        wait->n_failed += !streq(state, "completed");
        tell(wait);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        _cleanup_(json_putp) json_object *json = NULL;
        Problem problem = {};
        if (streq(event->type, "task") && json_parse(event->data, event->data_size, &json, &problem) >= 0)
                note_end(userdata, member_text(json, "task_id"), member_text(json, "state"));
        return 0;
}

static int wait_start(Wait *wait, char *const *ids) {
        size_t n = text_list_count(ids);
        wait->tasks = calloc(n ?: 1, sizeof(*wait->tasks));
        if (!wait->tasks)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Awaited *task = &wait->tasks[i], *same;
                task->id = ids[i];
                HASH_FIND_STR(wait->by_id, task->id, same);
                if (!same)
                        HASH_ADD_KEYPTR(hh, wait->by_id, task->id, strlen(task->id), task);
        }
        wait->n_tasks = HASH_COUNT(wait->by_id);
        if (wait->n_tasks < 2)
                return 0;
        return event_watch_new(
                        wait->session,
                        &(EventWatchHandlers) { .on_event = on_event, .userdata = wait },
                        &wait->watch);
}

/* Of those that ended before there were events; nobody knows of them otherwise until it is their turn. Errors
 * are told then. */
static int count_ended(Wait *wait, char *const *ids) {
        for (char *const *id = ids; wait->watch && *id; id++) {
                _cleanup_(answer_done) Answer answer = {};
                int status = attempt_get_if_there(wait->session, *id, &answer);
                if (status != 0)
                        return status;
                if (answer.status == 200)
                        note_end(wait, *id, member_text(answer.json, "state"));
        }
        return 0;
}

static int wait_for_one(Wait *wait, const char *id, usec_t when_usec) {
        _cleanup_(answer_done) Answer answer = {};
        const char *output = wait->session->json ? "full" : "none";
        int status = attempt_await(wait->session, id, output, when_usec, &answer);
        if (status != 0) {
                progress_clear(&wait->progress);
                return status;
        }
        note_end(wait, id, member_text(answer.json, "state"));
        progress_clear(&wait->progress);
        status = attempt_print_end(wait->session, id, &answer);
        tell(wait);
        return status ?: shell_status_of_attempt(answer.json);
}

int wait_for_tasks(Session *session, char *const *ids, usec_t when_usec) {
        _cleanup_(wait_done) Wait wait = { .session = session, .progress.event = session->event };
        if (wait_start(&wait, ids) < 0) {
                say("cannot wait");
                return SHELL_STATUS_REFUSED;
        }
        int first_status = wait.watch ? event_watch_await_connection(wait.watch) : 0;
        if (first_status == 0)
                first_status = count_ended(&wait, ids);
        if (first_status != 0)
                return first_status;
        tell(&wait);
        for (char *const *id = ids; *id; id++) {
                int status = wait_for_one(&wait, *id, when_usec);
                first_status = first_status ?: status;
                if (session->leave)
                        break;
        }
        return first_status;
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
