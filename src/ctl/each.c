/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Lines go out in small batches, one behind the other, so that tasks arrive in the order of their lines, a
 * daemon with no room for more holds up only what comes, and whoever interrupts this has every line either
 * submitted, and its id printed, or not. All lines are looked at before the first is submitted. */
#include "ctl/each.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/progress.h"
#include "ctl/say.h"
#include "ctl/task-body.h"
#include "ctl/wait.h"
#include "io/file.h"

#define LINES_BYTES_MAX (64 * 1024 * 1024)
#define BATCH_TASKS_MAX 200
#define BATCH_BYTES_MAX (256 * 1024)
#define PAUSE_USEC      (1 * USEC_PER_SEC)
#define PAUSE_MAX_USEC  (5 * USEC_PER_SEC)
#define STEP_USEC       (100 * USEC_PER_MSEC)
#define PLACE           "{}"

static bool is_for_later(int status) {
        return status == 429 || status == 503;
}

typedef struct Each {
        Session *session;
        json_object *body;
        char **lines;      /* NULL-terminated */
        uint64_t *numbers; /* of each line in its file */
        size_t n_lines;
        char **ids; /* of each line; NULL: it was refused */
        size_t n_submitted, n_refused;
        int first_status;
        bool told_full;
        Progress progress;
} Each;

static void each_done(Each *each) {
        progress_clear(&each->progress);
        text_list_free(each->lines);
        for (size_t i = 0; each->ids && i < each->n_lines; i++)
                free(each->ids[i]);
        free(each->ids);
        free(each->numbers);
}

static int read_lines(const char *path, Text *text) {
        int r = streq(path, "-") ? file_read_rest(STDIN_FILENO, LINES_BYTES_MAX, text) :
                                   file_read_all(path, LINES_BYTES_MAX, text);
        if (r < 0)
                say("cannot read %s: %s", path, strerror(-r));
        return r;
}

static int add_line(Each *each, const char *line, size_t size, uint64_t number, const char *path) {
        if (memchr(line, 0, size) || !text_is_utf8(line, size)) {
                say("%s, line %" PRIu64 ": not text in UTF-8", path, number);
                return -EINVAL;
        }
        each->lines[each->n_lines] = strndup(line, size);
        each->numbers[each->n_lines] = number;
        return each->lines[each->n_lines++] ? 0 : -ENOMEM;
}

/* Empty lines are none. */
static int split_lines(Each *each, const Text *text, const char *path) {
        size_t n = 1;
        for (size_t i = 0; i < text->size; i++)
                n += text->data[i] == '\n';
        each->lines = calloc(n + 1, sizeof(*each->lines));
        each->numbers = calloc(n + 1, sizeof(*each->numbers));
        each->ids = calloc(n + 1, sizeof(*each->ids));
        int r = each->lines && each->numbers && each->ids ? 0 : -ENOMEM;
        uint64_t number = 0;
        for (size_t begin = 0; r >= 0 && begin < text->size;) {
                const char *line = text->data + begin, *end = memchr(line, '\n', text->size - begin);
                size_t size = end ? (size_t) (end - line) : text->size - begin;
                begin += size + 1;
                number++;
                if (size > 0)
                        r = add_line(each, line, size, number, path);
        }
        return r;
}

/* The id that --id begins, and the line's number, so that the same command again submits only what is not
 * there yet; or a new one. */
static int choose_ids(Each *each) {
        const char *prefix = options_get(&each->session->options, OPTION_ID);
        for (size_t i = 0; i < each->n_lines; i++) {
                char chosen[TASK_ID_SIZE];
                task_id_choose(chosen);
                int r = prefix ? text_format(&each->ids[i], "%s-%" PRIu64, prefix, each->numbers[i]) :
                                 text_format(&each->ids[i], "%s", chosen);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Appends ARGUMENT with every "{}" in it replaced. Returns how many there were. */
static int replace(const char *argument, const char *line, Text *ret) {
        int n = 0, r = text_append(ret, "");
        for (const char *place; r >= 0 && (place = strstr(argument, PLACE)); n++) {
                r = text_append_bytes(ret, argument, (size_t) (place - argument));
                if (r >= 0)
                        r = text_append(ret, line);
                argument = place + strlen(PLACE);
        }
        if (r >= 0)
                r = text_append(ret, argument);
        return r < 0 ? r : n;
}

static int command_for(json_object *command, const char *line, json_object **ret) {
        _cleanup_(json_putp) json_object *array = json_object_new_array();
        int n_places = 0, r = array ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < element_count(command); i++) {
                _cleanup_(text_done) Text argument = {};
                r = replace(json_object_get_string(element(command, i)) ?: "", line, &argument);
                if (r < 0)
                        return r;
                n_places += r;
                r = json_append(array, json_object_new_string(argument.data));
        }
        if (r >= 0 && n_places == 0)
                r = json_append(array, json_object_new_string(line));
        if (r >= 0)
                *ret = TAKE_PTR(array);
        return r;
}

/* The text of the task for the line at I. */
static int task_text(const Each *each, size_t i, char **ret) {
        _cleanup_(json_putp) json_object *task = json_object_new_object();
        json_object *command = NULL;
        int r = task ? 0 : -ENOMEM;
        json_object_object_foreach(each->body, key, value) {
                if (r >= 0)
                        r = json_add(task, key, json_object_get(value));
        }
        if (r >= 0)
                r = command_for(member(each->body, "command"), each->lines[i], &command);
        if (r >= 0)
                r = json_add(task, "command", command);
        if (r >= 0)
                r = json_add_string(task, "task_id", each->ids[i]);
        return r < 0 ? r : json_format(task, ret, NULL);
}

/* The lines in PENDING, as many of them as a batch may have; *ret_n tells how many these are. */
static int batch_text(const Each *each, const size_t *pending, size_t n, Text *ret, size_t *ret_n) {
        int r = text_append(ret, "[");
        size_t taken = 0;
        for (; r >= 0 && taken < n && (taken == 0 || ret->size < BATCH_BYTES_MAX); taken++) {
                _cleanup_(freep) char *text = NULL;
                r = task_text(each, pending[taken], &text);
                if (r >= 0 && taken > 0)
                        r = text_append(ret, ",");
                if (r >= 0)
                        r = text_append(ret, text);
        }
        *ret_n = taken;
        return r < 0 ? r : text_append(ret, "]");
}

static int print_id(Each *each, const char *id) {
        progress_clear(&each->progress);
        if (print_line(id, strlen(id)) >= 0)
                return 0;
        say("%s is submitted", id);
        return SHELL_STATUS_REFUSED;
}

static void say_refused(Each *each, size_t i, json_object *problem) {
        progress_clear(&each->progress);
        say("line %" PRIu64 ": %s %s",
            each->numbers[i],
            member_text(problem, "field"),
            member_text(problem, "detail"));
        each->n_refused++;
        free(each->ids[i]);
        each->ids[i] = NULL;
        each->first_status = each->first_status ?: SHELL_STATUS_REFUSED;
}

static void say_full(Each *each, const char *detail) {
        if (each->told_full)
                return;
        progress_clear(&each->progress);
        say("waiting with the rest: %s", *detail ? detail : "there is no room now");
        each->told_full = true;
}

/* Takes what became of each of N lines; those to be tried again are moved to the front of PENDING, and their
 * number is returned in *RET_N. */
static int take_outcomes(Each *each, json_object *rows, size_t *pending, size_t n, size_t *ret_n) {
        int status = 0;
        *ret_n = 0;
        for (size_t k = 0; k < n; k++) {
                json_object *row = element(rows, k), *problem = member(row, "problem");
                size_t i = pending[k];
                if (problem && is_for_later((int) member_number(problem, "status"))) {
                        say_full(each, member_text(problem, "detail"));
                        pending[(*ret_n)++] = i;
                } else if (problem)
                        say_refused(each, i, problem);
                else {
                        each->n_submitted++;
                        int r = print_id(each, each->ids[i]);
                        status = status ?: r;
                }
        }
        progress_tell(&each->progress,
                      "%zu/%zu submitted, %zu refused",
                      each->n_submitted,
                      each->n_lines,
                      each->n_refused);
        return status;
}

static void on_interrupt(void *userdata) {
        (void) userdata; /* it is looked for between two batches */
}

/* Sends the first of the N lines in PENDING, which are *RET_N_SENT. As many as *RET_N_AGAIN of them have to
 * be sent again, in *RET_PAUSE_USEC if that was said, and now are in front. */
static int send_batch(
                Each *each,
                size_t *pending,
                size_t n,
                size_t *ret_n_sent,
                size_t *ret_n_again,
                usec_t *ret_pause_usec) {
        _cleanup_(text_done) Text body = {};
        _cleanup_(answer_done) Answer answer = {};
        if (batch_text(each, pending, n, &body, ret_n_sent) < 0)
                return SHELL_STATUS_REFUSED;
        int status = session_ask(
                        each->session,
                        &(Ask) { .method = "POST",
                                 .path = "/api/v1/tasks",
                                 .body = body.data,
                                 .may_be_busy = true },
                        &answer);
        if (status != 0)
                return status;
        *ret_pause_usec = answer.retry_after_sec * USEC_PER_SEC;
        if (!is_for_later(answer.status))
                return take_outcomes(each, answer.json, pending, *ret_n_sent, ret_n_again);
        say_full(each, member_text(answer.json, "detail"));
        *ret_n_again = *ret_n_sent;
        return 0;
}

static int pause_unless_interrupted(Each *each, usec_t span_usec) {
        usec_t end = usec_add(usec_now(CLOCK_BOOTTIME), span_usec);
        while (each->session->n_interrupts == 0 && usec_now(CLOCK_BOOTTIME) < end)
                if (session_pause(each->session, STEP_USEC) < 0)
                        break;
        return each->session->n_interrupts > 0 ? SHELL_STATUS_SIGNAL + SIGINT : 0;
}

/* Sends lines until all N of PENDING have been taken or refused. */
static int submit_pending(Each *each, size_t *pending, size_t n) {
        usec_t patience_usec = PAUSE_USEC;
        int status = 0;
        while (status == 0 && n > 0) {
                size_t n_sent, n_again;
                usec_t told_usec;
                if (each->session->n_interrupts > 0)
                        return SHELL_STATUS_SIGNAL + SIGINT;
                status = send_batch(each, pending, n, &n_sent, &n_again, &told_usec);
                if (status != 0)
                        return status;
                memmove(pending + n_again, pending + n_sent, (n - n_sent) * sizeof(*pending));
                n -= n_sent - n_again;
                if (n_again < n_sent)
                        patience_usec = PAUSE_USEC;
                if (n_again == 0)
                        continue;
                status = pause_unless_interrupted(each, told_usec > 0 ? told_usec : patience_usec);
                patience_usec = patience_usec * 2 < PAUSE_MAX_USEC ? patience_usec * 2 : PAUSE_MAX_USEC;
        }
        return status;
}

static int submit_lines(Each *each) {
        size_t pending[BATCH_TASKS_MAX] = {};
        for (size_t first = 0; first < each->n_lines;) {
                size_t n = each->n_lines - first < BATCH_TASKS_MAX ? each->n_lines - first : BATCH_TASKS_MAX;
                for (size_t i = 0; i < n; i++)
                        pending[i] = first + i;
                first += n;
                int status = submit_pending(each, pending, n);
                if (status != 0)
                        return status;
        }
        return 0;
}

/* What is left to be done by hand, in numbers. */
static void say_interrupted(Each *each) {
        progress_clear(&each->progress);
        say("%zu of %zu lines are submitted, their ids printed; %zu were refused; the rest is not",
            each->n_submitted,
            each->n_lines,
            each->n_refused);
}

static int wait_for_submitted(Each *each) {
        size_t n = 0;
        for (size_t i = 0; i < each->n_lines; i++)
                if (each->ids[i]) {
                        char *id = each->ids[i];
                        each->ids[i] = NULL;
                        each->ids[n++] = id;
                }
        each->ids[n] = NULL;
        return wait_for_tasks(each->session, each->ids, USEC_INFINITY);
}

int each_submit(Session *session, json_object *body) {
        _cleanup_(each_done)
                        Each each = { .session = session, .body = body, .progress.event = session->event };
        _cleanup_(text_done) Text text = {};
        const char *path = options_get(&session->options, OPTION_EACH);
        if (read_lines(path, &text) < 0)
                return SHELL_STATUS_USAGE;
        int r = split_lines(&each, &text, path);
        if (r == -EINVAL)
                return SHELL_STATUS_USAGE;
        if (r >= 0)
                r = choose_ids(&each);
        if (r >= 0)
                r = session_catch_signals(session, on_interrupt, &each);
        if (r < 0) {
                say("cannot submit: %s", strerror(-r));
                return SHELL_STATUS_REFUSED;
        }
        int status = submit_lines(&each);
        progress_clear(&each.progress);
        if (status != 0) {
                say_interrupted(&each);
                return status;
        }
        if (options_has(&session->options, OPTION_WAIT)) {
                session->leave |= session->n_interrupts > 0;
                status = wait_for_submitted(&each);
        }
        return each.first_status ?: status;
}
